"""TensorFlow Serving's REST interface, with the standard library alone."""

from __future__ import annotations

import base64
import binascii
import contextlib
import http.client
import json
import socket
import threading
import urllib.parse
from typing import Any

import numpy as np

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

_TRANSIENT = (408, 429, 502, 503, 504)
_COMING = ("START", "LOADING", "AVAILABLE")
_DTYPES = {
    "DT_FLOAT": "float32",
    "DT_DOUBLE": "float64",
    "DT_STRING": "object",
    "DT_BOOL": "bool",
    "DT_HALF": "float16",
    **{
        f"DT_{sign}INT{bits}": f"{sign}int{bits}".lower()
        for sign in ("", "U")
        for bits in (8, 16, 32, 64)
    },
}
_BYTES = "b64"


class RestWire:
    """Kept-alive connections to a server; see ``facegan.render.wire.Wire``."""

    def __init__(self, address: ServerAddress) -> None:
        self._address = address
        self._path = f"/v1/models/{urllib.parse.quote(address.model, safe='')}"
        self._lock = threading.Lock()
        self._idle: list[http.client.HTTPConnection] = []
        self._busy: set[http.client.HTTPConnection] = set()
        self._signatures: dict[str, Signature] = {}

    def describe(self, version: int | None, timeout_s: float) -> ServedModel:
        answer = self._ask("GET", f"{self._place(version)}/metadata", None, timeout_s)
        try:
            told = answer["model_spec"].get("version")
            found = answer["metadata"]["signature_def"]["signature_def"]
            self._signatures = {
                name: Signature(
                    {key: _describe(info) for key, info in signature["inputs"].items()},
                    {key: _describe(info) for key, info in signature["outputs"].items()},
                )
                for name, signature in found.items()
                if not name.startswith("__")  # how a SavedModel is set up
            }
            return ServedModel(int(told) if told else None, self._signatures)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise MalformedError(f"its description of the model lacks {error}") from error

    def is_coming(self, version: int | None, timeout_s: float) -> bool:
        try:
            answer = self._ask("GET", self._place(version), None, timeout_s)
            return any(found["state"] in _COMING for found in answer["model_version_status"])
        except (NotServedError, RefusedError):
            return False
        except (KeyError, TypeError) as error:
            raise MalformedError(f"its state of the model lacks {error}") from error

    def predict(
        self, signature: str, inputs: Arrays, version: int | None, timeout_s: float
    ) -> tuple[dict[str, np.ndarray], int | None]:
        body = {
            "signature_name": signature,
            "inputs": {name: _to_json(value) for name, value in inputs.items()},
        }
        place = f"{self._place(version)}:predict"
        # Without separators for the eye: pictures as numbers are long enough.
        text = json.dumps(body, separators=(",", ":"))
        answer = self._ask("POST", place, text, timeout_s)
        wanted = self._signatures[signature].outputs
        try:
            outputs = answer["outputs"]
            # One output comes without its name.
            if len(wanted) == 1 and not (isinstance(outputs, dict) and set(outputs) == set(wanted)):
                outputs = {name: outputs for name in wanted}
            return {name: _from_json(outputs[name], wanted[name]) for name in wanted}, None
        except (KeyError, TypeError, ValueError, OverflowError, binascii.Error) as error:
            raise MalformedError(f"outputs cannot be read: {error!r}") from error

    def interrupt(self) -> None:
        with self._lock:
            sockets = [connection.sock for connection in self._busy]
        for open_socket in sockets:
            if open_socket is not None:
                # Wakes the thread that waits for the answer; closing would not.
                with contextlib.suppress(OSError):
                    open_socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _place(self, version: int | None) -> str:
        return self._path if version is None else f"{self._path}/versions/{version}"

    def _ask(self, method: str, place: str, body: str | None, timeout_s: float) -> Any:
        connection = self._take(timeout_s)
        headers = {} if body is None else {"Content-Type": "application/json"}
        try:
            connection.request(method, place, body, headers)
            answer = connection.getresponse()
            status, text = answer.status, answer.read()
        except TimeoutError as error:
            connection.close()
            raise TransientError(f"no answer within {timeout_s:.3g} s") from error
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise TransientError(_say(error)) from error
        finally:
            with self._lock:
                self._busy.discard(connection)
                if connection.sock is not None:
                    self._idle.append(connection)
        return _read(status, text)

    def _take(self, timeout_s: float) -> http.client.HTTPConnection:
        """A connection for one request, kept alive by an earlier one if there is such."""
        with self._lock:
            if self._idle:
                connection = self._idle.pop()
            else:
                of_scheme = {
                    "http": http.client.HTTPConnection,
                    "https": http.client.HTTPSConnection,
                }[self._address.scheme]
                connection = of_scheme(self._address.host, self._address.port)
            self._busy.add(connection)
        connection.timeout = timeout_s
        if connection.sock is not None:
            connection.sock.settimeout(timeout_s)
        return connection


def _read(status: int, text: bytes) -> Any:
    try:
        answer = json.loads(text)
    except ValueError as error:
        if status in _TRANSIENT:
            raise TransientError(f"HTTP status {status}") from error
        if status != 200:
            raise RefusedError(f"HTTP status {status}: {text[:200]!r}") from error
        raise MalformedError(f"it is no JSON: {text[:80]!r}") from error
    if status == 200:
        return answer
    told = answer.get("error") if isinstance(answer, dict) else None
    reason = " ".join(str(told or f"HTTP status {status}").split())
    if status in _TRANSIENT:
        raise TransientError(reason)
    raise NotServedError(reason) if status == 404 else RefusedError(reason)


def _say(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def _describe(info: Any) -> WireTensor:
    shape, sizes = info["tensor_shape"], None
    if not shape.get("unknown_rank"):
        found = [int(dim["size"]) for dim in shape.get("dim", ())]
        sizes = tuple(None if size < 0 else size for size in found)
    return WireTensor(_DTYPES.get(info["dtype"], info["dtype"]), sizes)


def _to_json(value: np.ndarray) -> Any:
    if value.dtype != object:
        # Doubles hold every float32, and JSON every double, to the last bit.
        return value.tolist()
    return [{_BYTES: base64.b64encode(item).decode()} for item in value.ravel().tolist()]


def _from_json(value: Any, wanted: WireTensor) -> np.ndarray:
    if wanted.dtype != "object":
        return np.asarray(value, wanted.dtype)
    found = np.empty(len(value), object)
    for place, item in enumerate(value):
        found[place] = (
            base64.b64decode(item[_BYTES], validate=True)
            if isinstance(item, dict)
            else item.encode()
        )
    return found
