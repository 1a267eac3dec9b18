"""A stand-in for TensorFlow Serving: its gRPC and REST fronts over loaded SavedModels.

It speaks the official messages, reads the usual folders (NAME/VERSION/saved_model.pb), serves the
newest version, and refuses what TensorFlow Serving refuses with its codes and kind of text. As a
process of its own it prints its ports as one line of JSON:

    python -m tests.serving_front --models_dir models --grpc_port 0 --rest_port 0
"""

import argparse
import base64
import binascii
import contextlib
import http.server
import json
import pathlib
import re
import signal
import socket
import sys
import threading
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf.json_format import MessageToDict
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

STATES = get_model_status_pb2.ModelVersionStatus.State
HTTP_STATUS = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}


class ServeError(Exception):
    """A refusal: a code of gRPC and a text."""

    def __init__(self, code, text):
        super().__init__(text)
        self.code, self.text = code, text


class Version:
    """One loaded SavedModel."""

    def __init__(self, folder):
        proto = saved_model_pb2.SavedModel()
        proto.ParseFromString((folder / "saved_model.pb").read_bytes())
        self.signature_defs = proto.meta_graphs[0].signature_def
        self._loaded = tf.saved_model.load(str(folder))

    def inputs(self, signature):
        """dtype and sizes of the inputs by name."""
        if signature not in self._loaded.signatures:
            raise ServeError("INVALID_ARGUMENT", f'Serving signature key "{signature}" not found.')
        return {
            name: (tf.as_dtype(info.dtype), [dim.size for dim in info.tensor_shape.dim])
            for name, info in self.signature_defs[signature].inputs.items()
        }

    def run(self, signature, given):
        """Runs a signature on arrays."""
        wanted = self.inputs(signature)
        if set(given) != set(wanted):
            extra, missing = sorted(set(given) - set(wanted)), sorted(set(wanted) - set(given))
            raise ServeError(
                "INVALID_ARGUMENT",
                f"input size does not match signature: {len(given)}!={len(wanted)} "
                f"Sent extra: {{{','.join(extra)}}}. "
                f"Missing but required: {{{','.join(missing)}}}.",
            )
        for name, value in given.items():
            dtype, sizes = wanted[name]
            found = tf.string if value.dtype == object else tf.as_dtype(value.dtype)
            if found != dtype:
                raise ServeError(
                    "INVALID_ARGUMENT",
                    f"Expects arg[0] to be {dtype.name} but {found.name} is provided",
                )
            fits = len(sizes) == value.ndim and all(
                size in (-1, have) for size, have in zip(sizes, value.shape, strict=False)
            )
            if not fits:
                raise ServeError(
                    "INVALID_ARGUMENT",
                    f"Input to reshape is a tensor with shape {list(value.shape)}, but the "
                    f"requested shape for {name} is {sizes}",
                )
        tensors = {name: tf.constant(value, wanted[name][0]) for name, value in given.items()}
        try:
            outputs = self._loaded.signatures[signature](**tensors)
        except tf.errors.OpError as error:
            raise ServeError("INVALID_ARGUMENT", error.message) from error
        return {name: value.numpy() for name, value in outputs.items()}


class Models:
    """The models below a folder.

    Attributes:
        held: Names of models that are being loaded and not served yet.
        before_predict: Called before each Predict with the model's name and the signature; it may
            wait, or raise a ServeError.
        answered: (signature, size of the batch) of what was run.
        as_content: Whether gRPC's answers hold tensors as bytes, as a flag of TensorFlow Serving
            has it, and not number by number.
    """

    def __init__(self, folder, keep_all=False):
        self._folder, self._keep_all = pathlib.Path(folder), keep_all
        self._lock, self._loaded = threading.Lock(), {}
        self.held, self.answered, self.as_content = set(), [], False
        self.before_predict = lambda name, signature: None

    def numbers(self, name):
        """Versions in the folder, ascending."""
        folder = self._folder / name
        found = folder.iterdir() if folder.is_dir() else ()
        return sorted(
            int(p.name) for p in found if p.name.isdecimal() and (p / "saved_model.pb").is_file()
        )

    def states(self, name, version):
        """State by version, as far as it is asked for."""
        numbers = self.numbers(name)
        found = {}
        for number in numbers:
            served = self._keep_all or number == numbers[-1]
            state = STATES.LOADING if name in self.held else STATES.AVAILABLE
            found[number] = state if served else STATES.END
        if version is not None:
            found = {number: state for number, state in found.items() if number == version}
        if not found:
            raise ServeError("NOT_FOUND", f"Could not find any versions of model {name}")
        return found

    def find(self, name, version):
        """A served version: its number and model."""
        wanted = f"Latest({name})" if version is None else f"Specific({name}, {version})"
        missing = ServeError("NOT_FOUND", f"Servable not found for request: {wanted}")
        try:
            states = self.states(name, version)
        except ServeError as error:
            raise missing from error
        served = [number for number, state in states.items() if state == STATES.AVAILABLE]
        if not served:
            raise missing
        key = name, max(served)
        with self._lock:
            if key not in self._loaded:
                self._loaded[key] = Version(self._folder / name / str(key[1]))
            return key[1], self._loaded[key]

    def predict(self, name, version, signature, given):
        """Outputs by name, and the version that ran."""
        number, model = self.find(name, version)
        signature = signature or "serving_default"
        self.before_predict(name, signature)
        outputs = model.run(signature, given)
        self.answered.append((signature, len(next(iter(given.values())))))
        return outputs, number


def _asked(spec):
    return spec.version.value if spec.HasField("version") else None


def _refuse(context, error):
    context.abort(getattr(grpc.StatusCode, error.code), error.text)


def _to_proto(value):
    """A tensor as TensorFlow Serving writes one: its numbers in the field of their type."""
    if value.dtype == object:
        return tf.make_tensor_proto(value, tf.string)
    dtype = tf.as_dtype(value.dtype)
    proto = tf.make_tensor_proto(np.zeros(1, value.dtype))
    proto.Clear()
    proto.dtype = dtype.as_datatype_enum
    for size in value.shape:
        proto.tensor_shape.dim.add().size = size
    field = {"float32": "float_val", "int64": "int64_val"}.get(dtype.name, "int_val")
    getattr(proto, field).extend(value.ravel().tolist())
    return proto


class _Prediction(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, models):
        self._models = models

    def Predict(self, request, context):
        spec = request.model_spec
        try:
            given = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
            outputs, number = self._models.predict(
                spec.name, _asked(spec), spec.signature_name, given
            )
        except ServeError as error:
            _refuse(context, error)
        except ValueError as error:
            _refuse(context, ServeError("INVALID_ARGUMENT", str(error)))
        answer = predict_pb2.PredictResponse()
        answer.model_spec.name, answer.model_spec.version.value = spec.name, number
        answer.model_spec.signature_name = spec.signature_name or "serving_default"
        for name, value in outputs.items():
            if self._models.as_content:  # texts, too, with their lengths in front
                answer.outputs[name].ParseFromString(tf.io.serialize_tensor(value).numpy())
            else:
                answer.outputs[name].CopyFrom(_to_proto(value))
        return answer

    def GetModelMetadata(self, request, context):
        if list(request.metadata_field) != ["signature_def"]:
            _refuse(context, ServeError("INVALID_ARGUMENT", "Metadata field is not supported"))
        try:
            number, model = self._models.find(request.model_spec.name, _asked(request.model_spec))
        except ServeError as error:
            _refuse(context, error)
        return _metadata(request.model_spec.name, number, model)


class _ModelService(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, models):
        self._models = models

    def GetModelStatus(self, request, context):
        try:
            return _status(self._models, request.model_spec.name, _asked(request.model_spec))
        except ServeError as error:
            _refuse(context, error)


def _metadata(name, number, model):
    answer = get_model_metadata_pb2.GetModelMetadataResponse()
    answer.model_spec.name, answer.model_spec.version.value = name, number
    signatures = get_model_metadata_pb2.SignatureDefMap()
    for key, value in model.signature_defs.items():
        signatures.signature_def[key].CopyFrom(value)
    answer.metadata["signature_def"].Pack(signatures)
    return answer


def _status(models, name, version):
    answer = get_model_status_pb2.GetModelStatusResponse()
    for number, state in models.states(name, version).items():
        answer.model_version_status.add(version=number, state=state)
    return answer


def _message_to_json(message):
    return MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


PLACE = re.compile(
    r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>\d+))?(?P<what>/metadata|:predict)?"
)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self):
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self):
        self.server.connections.discard(self.connection)
        with contextlib.suppress(OSError):
            super().finish()

    def log_message(self, *_):
        pass

    def do_GET(self):
        self._answer(self._get)

    def do_POST(self):
        self._answer(self._post)

    def _answer(self, make):
        try:
            status, answer = 200, make()
        except ServeError as error:
            status, answer = HTTP_STATUS[error.code], {"error": error.text}
        data = json.dumps(answer).encode()
        with contextlib.suppress(OSError):  # the client has gone
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    def _place(self):
        found = PLACE.fullmatch(self.path)
        if found is None:
            raise ServeError("INVALID_ARGUMENT", f"Malformed request: {self.command} {self.path}")
        version = found["version"]
        name = urllib.parse.unquote(found["name"])
        return name, None if version is None else int(version), found["what"]

    def _get(self):
        name, version, what = self._place()
        models = self.server.models
        if what == "/metadata":
            number, model = models.find(name, version)
            answer = _message_to_json(_metadata(name, number, model))
            answer["metadata"]["signature_def"].pop("@type")
            return answer
        return _message_to_json(_status(models, name, version))

    def _post(self):
        text = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        name, version, what = self._place()
        if what != ":predict":
            raise ServeError("INVALID_ARGUMENT", f"Malformed request: {self.command} {self.path}")
        try:
            body = json.loads(text)
        except ValueError as error:
            raise ServeError("INVALID_ARGUMENT", f"JSON Parse error: {error}") from error
        if not isinstance(body, dict):
            raise ServeError("INVALID_ARGUMENT", f"JSON Value: {str(body)[:50]} Is not object")
        signature = body.get("signature_name", "serving_default")
        _, model = self.server.models.find(name, version)
        wanted = model.inputs(signature)
        if ("instances" in body) == ("inputs" in body):
            raise ServeError(
                "INVALID_ARGUMENT",
                "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to "
                "exist "
                if "inputs" in body
                else "Missing 'inputs' or 'instances' key",
            )
        if "inputs" in body:
            given = _columns(body["inputs"], wanted)
            outputs, _ = self.server.models.predict(name, version, signature, given)
            told = {key: _to_json(key, value) for key, value in outputs.items()}
            return {"outputs": told if len(told) > 1 else next(iter(told.values()))}
        given = _rows(body["instances"], wanted)
        outputs, _ = self.server.models.predict(name, version, signature, given)
        told = {key: _to_json(key, value) for key, value in outputs.items()}
        if len(told) == 1:
            return {"predictions": next(iter(told.values()))}
        rows = zip(*told.values(), strict=True)
        return {"predictions": [dict(zip(told, row, strict=True)) for row in rows]}


def _is_base64(value):
    return isinstance(value, dict) and set(value) == {"b64"}


def _columns(inputs, wanted):
    if not isinstance(inputs, dict) or _is_base64(inputs):
        if len(wanted) > 1:
            raise ServeError(
                "INVALID_ARGUMENT",
                "inputs is a plain value/list, but expecting an object as multiple input tensors "
                "required as per tensorinfo_map",
            )
        inputs = {name: inputs for name in wanted}
    missing = [name for name in wanted if name not in inputs]
    if missing:
        raise ServeError(
            "INVALID_ARGUMENT", f"Missing named input: {missing[0]} in 'inputs' object."
        )
    return {name: _from_json(inputs[name], dtype) for name, (dtype, _) in wanted.items()}


def _rows(instances, wanted):
    if not isinstance(instances, list) or not instances:
        raise ServeError("INVALID_ARGUMENT", "Excepting 'instances' to be an list/array")
    if not isinstance(instances[0], dict) or _is_base64(instances[0]):
        if len(wanted) > 1:
            raise ServeError(
                "INVALID_ARGUMENT",
                "instances is a plain list, but expecting list of objects as multiple input "
                "tensors required as per tensorinfo_map",
            )
        instances = [{name: item for name in wanted} for item in instances]
    for place, item in enumerate(instances):
        if set(item) != set(wanted):
            raise ServeError(
                "INVALID_ARGUMENT",
                f"Failed to process element: {place} of 'instances' list. JSON object: must only "
                f"have keys: {','.join(sorted(wanted))}",
            )
    return {
        name: _from_json([item[name] for item in instances], dtype)
        for name, (dtype, _) in wanted.items()
    }


def _from_json(value, dtype):
    if dtype == tf.string:
        return _read_texts(value)
    try:
        found = np.asarray(value)
    except ValueError as error:
        raise ServeError(
            "INVALID_ARGUMENT", f"Encountered list at unexpected size: {error}"
        ) from error
    kinds = "iu" if dtype.is_integer else "iuf"
    if found.dtype.kind not in kinds:
        raise ServeError(
            "INVALID_ARGUMENT",
            f"JSON Value: {str(value)[:50]} Type: {found.dtype.name} is not of expected type: "
            f"{dtype.name}",
        )
    return found.astype(dtype.as_numpy_dtype)


def _read_texts(value):
    if not isinstance(value, list):
        return np.array(_read_text(value), object)
    found = np.empty(len(value), object)
    for place, item in enumerate(value):
        found[place] = _read_text(item)
    return found


def _read_text(value):
    if isinstance(value, str):
        return value.encode()
    if not _is_base64(value) or not isinstance(value["b64"], str):
        raise ServeError(
            "INVALID_ARGUMENT",
            f"JSON Value: {str(value)[:50]} not formatted correctly for base64 data",
        )
    try:
        return base64.b64decode(value["b64"], validate=True)
    except binascii.Error as error:
        raise ServeError("INVALID_ARGUMENT", "Unable to base64 decode") from error


def _to_json(name, value):
    if value.dtype != object:
        return value.tolist()
    if name.endswith("_bytes"):
        return [{"b64": base64.b64encode(item).decode()} for item in value.ravel().tolist()]
    return [item.decode() for item in value.ravel().tolist()]


class _HttpServer(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 32

    def __init__(self, port, models):
        self.models, self.connections = models, set()
        super().__init__(("127.0.0.1", port), _Handler)

    def handle_error(self, request, client_address):
        pass  # a client that has gone


class ServingFront:
    """Both fronts, until ``stop`` or the end of the ``with`` block.

    Args:
        models: What is served.
        grpc_port: 0 takes a free one.
        rest_port: Likewise.
        max_message_bytes: The largest gRPC request.
    """

    def __init__(self, models, grpc_port=0, rest_port=0, max_message_bytes=-1):
        self.models = models
        self._grpc = grpc.server(
            ThreadPoolExecutor(8),
            options=[
                ("grpc.max_receive_message_length", max_message_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),
            ],
        )
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            _Prediction(models), self._grpc
        )
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(_ModelService(models), self._grpc)
        self.grpc_port = self._grpc.add_insecure_port(f"127.0.0.1:{grpc_port}")
        self._rest = _HttpServer(rest_port, models)
        self.rest_port = self._rest.server_address[1]
        self._grpc.start()
        self._thread = threading.Thread(target=self._rest.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def url(self, scheme, name, version=None):
        """The address of a model."""
        port = self.grpc_port if scheme == "grpc" else self.rest_port
        return f"{scheme}://127.0.0.1:{port}/{name}" + (f"/versions/{version}" if version else "")

    def stop(self):
        """Stops at once, as a process that is killed does for its clients."""
        self._grpc.stop(None).wait()
        self._rest.shutdown()
        for connection in list(self._rest.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._rest.server_close()
        self._thread.join()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models_dir", required=True)
    parser.add_argument("--grpc_port", type=int, default=0)
    parser.add_argument("--rest_port", type=int, default=0)
    parser.add_argument("--delay_s", type=float, default=0.0, help="waited before each Predict")
    parser.add_argument("--enable_serialization_as_tensor_content", action="store_true")
    flags = parser.parse_args()
    models = Models(flags.models_dir)
    models.as_content = flags.enable_serialization_as_tensor_content
    models.before_predict = lambda name, signature: time.sleep(flags.delay_s)
    for folder in pathlib.Path(flags.models_dir).iterdir():
        if models.numbers(folder.name):
            models.find(folder.name, None)
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    with ServingFront(models, flags.grpc_port, flags.rest_port) as front:
        print(json.dumps({"grpc": front.grpc_port, "rest": front.rest_port}), flush=True)
        stopped.wait()


if __name__ == "__main__":
    sys.exit(main())
