"""TensorFlow Serving's gRPC interface, with its official messages."""

from __future__ import annotations

import importlib
import threading
from typing import Any

import numpy as np

from facegan.errors import ConfigError
from facegan.render.server_address import ServerAddress
from facegan.render.wire import (
    Arrays,
    MalformedError,
    NotServedError,
    RefusedError,
    ServedModel,
    Signature,
    TransientError,
    WireTensor,
)

# Messages of a batch of pictures pass gRPC's own limit of 4 MB soon; this is protobuf's.
_MAX_MESSAGE_BYTES = (1 << 31) - 1
_TRANSIENT = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "ABORTED", "CANCELLED")
# Numbers of a version's state: before it is loaded, while it is, and then.
_COMING = (10, 20, 30)


class GrpcWire:
    """A channel to a server; see ``facegan.render.wire.Wire``.

    Raises:
        ConfigError: The packages for it are not installed.
    """

    def __init__(self, address: ServerAddress) -> None:
        self._grpc = _import("grpc")
        self._tf = _import("tensorflow")
        self._predict = _import("tensorflow_serving.apis.predict_pb2")
        self._metadata = _import("tensorflow_serving.apis.get_model_metadata_pb2")
        self._status = _import("tensorflow_serving.apis.get_model_status_pb2")
        self._tensor = _import("tensorflow.core.framework.tensor_pb2")
        prediction = _import("tensorflow_serving.apis.prediction_service_pb2_grpc")
        model = _import("tensorflow_serving.apis.model_service_pb2_grpc")
        self._model_name = address.model
        self._channel = self._grpc.insecure_channel(
            address.target,
            options=[
                ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
                ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
                # A server that comes back is found at once: the waiting between tries is ours, and
                # other channels that failed to reach it do not count.
                ("grpc.use_local_subchannel_pool", 1),
                ("grpc.initial_reconnect_backoff_ms", 100),
                ("grpc.min_reconnect_backoff_ms", 100),
                ("grpc.max_reconnect_backoff_ms", 1000),
            ],
        )
        self._stub = prediction.PredictionServiceStub(self._channel)
        self._models = model.ModelServiceStub(self._channel)
        self._lock = threading.Lock()
        self._calls: set[Any] = set()

    def describe(self, version: int | None, timeout_s: float) -> ServedModel:
        request = self._metadata.GetModelMetadataRequest(metadata_field=["signature_def"])
        self._name(request.model_spec, version)
        answer = self._call(self._stub.GetModelMetadata, request, timeout_s)
        signatures = self._metadata.SignatureDefMap()
        if not answer.metadata["signature_def"].Unpack(signatures):
            raise MalformedError("its description of the model has no signatures")
        return ServedModel(
            _version(answer.model_spec),
            {
                name: Signature(
                    {key: self._describe(info) for key, info in found.inputs.items()},
                    {key: self._describe(info) for key, info in found.outputs.items()},
                )
                for name, found in signatures.signature_def.items()
                if not name.startswith("__")  # how a SavedModel is set up
            },
        )

    def is_coming(self, version: int | None, timeout_s: float) -> bool:
        request = self._status.GetModelStatusRequest()
        self._name(request.model_spec, version)
        try:
            answer = self._call(self._models.GetModelStatus, request, timeout_s)
        except (NotServedError, RefusedError):
            return False
        return any(found.state in _COMING for found in answer.model_version_status)

    def predict(
        self, signature: str, inputs: Arrays, version: int | None, timeout_s: float
    ) -> tuple[dict[str, np.ndarray], int | None]:
        request = self._predict.PredictRequest()
        self._name(request.model_spec, version)
        request.model_spec.signature_name = signature
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(self._encode(value))
        answer = self._call(self._stub.Predict, request, timeout_s)
        try:
            outputs = {name: self._decode(tensor) for name, tensor in answer.outputs.items()}
        except (TypeError, ValueError, self._tf.errors.OpError) as error:
            raise MalformedError(f"a tensor cannot be read: {error}") from error
        return outputs, _version(answer.model_spec)

    def interrupt(self) -> None:
        with self._lock:
            calls = list(self._calls)
        for call in calls:
            call.cancel()

    def close(self) -> None:
        self._channel.close()

    def _name(self, spec: Any, version: int | None) -> None:
        spec.name = self._model_name
        if version is not None:
            spec.version.value = version

    def _call(self, method: Any, request: Any, timeout_s: float) -> Any:
        try:
            with self._lock:  # so that no call is under way that cannot be interrupted
                call = method.future(request, timeout=timeout_s)
                self._calls.add(call)
        except ValueError as error:  # the channel was closed
            raise TransientError(str(error)) from error
        try:
            return call.result()
        except self._grpc.FutureCancelledError as error:
            raise TransientError("the request was cancelled") from error
        except self._grpc.RpcError as error:
            raise _sort_out(error, timeout_s) from error
        finally:
            with self._lock:
                self._calls.discard(call)

    def _encode(self, value: np.ndarray) -> Any:
        dtype = self._tf.as_dtype(object if value.dtype == object else value.dtype)
        tensor = self._tensor.TensorProto(dtype=dtype.as_datatype_enum)
        for size in value.shape:
            tensor.tensor_shape.dim.add().size = size
        if value.dtype == object:
            tensor.string_val.extend(value.ravel().tolist())
        else:
            tensor.tensor_content = np.ascontiguousarray(value).tobytes()
        return tensor

    def _decode(self, tensor: Any) -> np.ndarray:
        # TensorFlow reads every form that a server may write, texts in one piece among them, and
        # twice as fast as its function for NumPy.
        read = self._tf.io.parse_tensor(tensor.SerializeToString(), tensor.dtype)
        found: np.ndarray = read.numpy()
        return found

    def _describe(self, info: Any) -> WireTensor:
        shape = None
        if not info.tensor_shape.unknown_rank:
            shape = tuple(None if d.size < 0 else int(d.size) for d in info.tensor_shape.dim)
        return WireTensor(np.dtype(self._tf.as_dtype(info.dtype).as_numpy_dtype).name, shape)


def _version(spec: Any) -> int | None:
    return int(spec.version.value) if spec.HasField("version") else None


def _sort_out(error: Any, timeout_s: float) -> Exception:
    """The error of the wire that stands for one of gRPC's."""
    code, text = error.code().name, " ".join((error.details() or "").split())
    # What was tried to connect to comes first, and the reason last.
    text = text.rpartition("last error: ")[2].removeprefix("UNKNOWN: ")
    if code == "NOT_FOUND":
        return NotServedError(text)
    if code == "DEADLINE_EXCEEDED":
        return TransientError(f"no answer within {timeout_s:.3g} s")
    if "larger than max" in text:
        return RefusedError(f"{text}; lower the batch size or raise the server's limit")
    if code in _TRANSIENT:
        return TransientError(text or code)
    return RefusedError(text or code)


def _import(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"A grpc:// server needs {module.partition('.')[0]}, which cannot be imported "
            f'({error}). Install it with pip install "facegan[serving]", or take the '
            "server's http:// address, which needs nothing."
        ) from error
