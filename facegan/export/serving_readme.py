"""The page that goes with a folder of TensorFlow Serving: commands with the models' real names."""

from __future__ import annotations

from collections.abc import Mapping

from facegan.bundle import ENCODED, Manifest, TensorSpec

_START = """\
# Models for TensorFlow Serving

Start the server in this folder:

```
docker run --rm -p 8500:8500 -p 8501:8501 \\
  --mount type=bind,source="$PWD",target=/models,readonly tensorflow/serving \\
  --model_config_file=/models/models.config \\
  --enable_batching=true --batching_parameters_file=/models/batching_parameters.txt
```

It answers gRPC on port 8500 and REST on 8501. A new version of a model that appears in its folder
is loaded while the server runs; a new model needs a new start. The ports have neither password nor
encryption: they are for a network that you trust.

Without a container, set the base paths in `models.config` to this folder's and give the same flags
to `tensorflow_model_server --port=8500 --rest_api_port=8501`.
"""

_MODEL = """
## {name}

{kind} for pictures of {size} px{sizes}. {synthetic}Licence: {licence}

Signature `{signature}`: takes {inputs}; gives {outputs}. Others: {others}.

One picture by REST:

```
{curl}
```

By gRPC (`pip install "facegan[serving]"`):

```python
{client}
```
"""


def write_readme(manifests: Mapping[str, Manifest]) -> str:
    """The page.

    Args:
        manifests: The newest version of each model by its name.
    """
    return _START + "".join(_describe(name, manifest) for name, manifest in manifests.items())


def _describe(name: str, manifest: Manifest) -> str:
    others = [name for name in manifest.signatures if name != ENCODED]
    sizes = ""
    if any(spec.has_free_size for spec in manifest.inputs):
        sizes = f", or any height and width that are multiples of {manifest.size_multiple}"
        sizes += " (of one size in a batch)"
    return _MODEL.format(
        name=name,
        kind=manifest.model,
        size=manifest.image_size,
        sizes=sizes,
        synthetic="What it makes is synthetic. " if manifest.provenance.synthetic else "",
        licence=manifest.provenance.licence,
        signature=ENCODED,
        inputs=_list(manifest.inputs, "JPEG or PNG"),
        outputs=_list(manifest.outputs, "PNG"),
        others=", ".join(f"`{name}`" for name in others),
        curl=_curl(name, manifest),
        client=_client(name, manifest),
    )


def _list(specs: tuple[TensorSpec, ...], picture: str) -> str:
    return ", ".join(f"`{spec.encoded_name}` ({_content(spec, picture)})" for spec in specs)


def _content(spec: TensorSpec, picture: str) -> str:
    if spec.is_label_map:
        return "PNG of one channel, the ids"
    if spec.is_encoded:
        return picture
    return f"{spec.dtype} {list(spec.shape)}".replace("None", "-1")


def _curl(name: str, manifest: Manifest) -> str:
    fields = []
    for spec in manifest.inputs:
        if spec.is_encoded:
            value = f'{{"b64": "\'"$(base64 -w0 {spec.name}.png)"\'"}}'
        else:
            value = f"'\"$(cat {spec.name}.json)\"'"
        fields.append(f'"{spec.encoded_name}": {value}')
    body = f'{{"signature_name": "{ENCODED}", "instances": [{{{", ".join(fields)}}}]}}'
    # By way of a pipe: a picture is longer than an argument may be.
    return (
        f"echo '{body}' |\n"
        f"  curl -s -d @- http://localhost:8501/v1/models/{name}:predict > answer.json"
    )


def _client(name: str, manifest: Manifest) -> str:
    lines = [
        "import grpc, pathlib, numpy as np, tensorflow as tf",
        "from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc",
        'channel = grpc.insecure_channel("localhost:8500", '
        '[("grpc.max_receive_message_length", -1)])',
        "stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)",
        "request = predict_pb2.PredictRequest()",
        f"request.model_spec.name, request.model_spec.signature_name = {name!r}, {ENCODED!r}",
    ]
    for spec in manifest.inputs:
        if spec.is_encoded:
            value = f'[pathlib.Path("{spec.name}.png").read_bytes()]'
        else:
            value = f'np.load("{spec.name}.npy")[None], "{spec.dtype}"'
        lines.append(
            f'request.inputs["{spec.encoded_name}"].CopyFrom(tf.make_tensor_proto({value}))'
        )
    lines.append("outputs = stub.Predict(request, timeout=60).outputs")
    for spec in manifest.outputs:
        if spec.is_encoded:
            value = f'outputs["{spec.encoded_name}"].string_val[0]'
            lines.append(f'pathlib.Path("{spec.name}_out.png").write_bytes({value})')
        else:
            lines.append(f'{spec.name} = tf.make_ndarray(outputs["{spec.encoded_name}"])[0]')
    return "\n".join(lines)
