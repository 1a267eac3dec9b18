"""Bundles that TensorFlow Serving runs, used as those in a folder are.

The address is all that is needed: a served bundle tells its manifest. Requests that fail for
reasons that pass are made again, later and later. The version that gave the first answer is asked
for ever after, so that a new one that is put on the server never mixes into what is being made.
"""

from __future__ import annotations

import functools
import os
import random
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np

from facegan.bundle import (
    DESCRIBE,
    ENCODED,
    MANIFEST_BYTES,
    QUERY,
    Manifest,
    TensorSpec,
    decode_description,
    read_manifest,
)
from facegan.errors import BundleError, ConfigError, DataError
from facegan.image import decode_labels, decode_picture, encode_labels, encode_picture
from facegan.render.engine import (
    Arrays,
    Engine,
    EngineConfig,
    Methods,
    check_inputs,
    find_method_input,
)
from facegan.render.grpc_wire import GrpcWire
from facegan.render.rest_wire import RestWire
from facegan.render.server_address import ServerAddress, parse_server
from facegan.render.wire import (
    MalformedError,
    NotServedError,
    RefusedError,
    ServedModel,
    TransientError,
    Wire,
)

T = TypeVar("T")

_UINT8 = "uint8"
# Between tries: at first, and at most. Each is spread by half to both sides, so that many clients
# of a server that comes back do not all ask at once.
_FIRST_WAIT_S, _MOST_WAIT_S, _WAIT_SPREAD = 0.1, 5.0, 0.5
# What a bundle and the server's description of it must have in common.
_SAME = ("model", "inputs", "outputs", "image_size", "conditioning", "geometry", "labels")


class RemoteModel:
    """A model on a server: asks, waits, asks again, and says what is wrong.

    Any number of threads may ask at once. Connections close when nobody holds the object any more.

    Args:
        address: Where it is.
        config: Patience and number of requests.

    Raises:
        BundleError: The server cannot be reached, or has no such model.
        ConfigError: The packages for gRPC are not installed.
    """

    def __init__(self, address: ServerAddress, config: EngineConfig) -> None:
        self.address, self.config = address, config.remote
        self._lock = threading.Lock()
        self._asking: set[threading.Event] = set()
        self._wire: Wire = GrpcWire(address) if address.scheme == "grpc" else RestWire(address)
        weakref.finalize(self, self._wire.close)
        self.version = address.version
        self.served: ServedModel = self._ask(
            lambda wait_s: self._wire.describe(self.version, wait_s)
        )
        self.version = self._pinned(self.served.version)

    def predict(self, signature: str, inputs: Arrays) -> dict[str, np.ndarray]:
        """Runs a signature.

        Args:
            signature: Its name.
            inputs: By name, as it has them.

        Raises:
            BundleError: The server has no such signature, refuses the inputs, or cannot be reached
                for longer than ``RemoteConfig.retry_limit_s``.
        """
        if signature not in self.served.signatures:
            raise BundleError(
                f"The model at {self.address} has no signature {signature!r}, only "
                f"{', '.join(sorted(self.served.signatures))}. Export it again with this version."
            )
        outputs, version = self._ask(
            lambda wait_s: self._wire.predict(signature, inputs, self.version, wait_s)
        )
        self.version = self._pinned(version)
        return outputs

    def interrupt(self) -> None:
        """Ends all requests that are under way in other threads; they raise a BundleError."""
        with self._lock:
            for event in self._asking:
                event.set()
        self._wire.interrupt()

    def _pinned(self, version: int | None) -> int | None:
        if version is not None and self.version not in (None, version):
            raise BundleError(
                f"The server {self.address.target} answered with version {version} of "
                f"{self.address.model!r} where version {self.version} was asked for."
            )
        return self.version if version is None else version

    def _ask(self, request: Callable[[float], T]) -> T:
        interrupted = threading.Event()
        with self._lock:
            self._asking.add(interrupted)
        try:
            return self._ask_until(request, interrupted)
        except NotServedError as error:
            raise BundleError(self._say_not_served(error)) from error
        except RefusedError as error:
            raise BundleError(f"The server {self.address} refuses the request: {error}.") from error
        except MalformedError as error:
            raise BundleError(
                f"The server {self.address} gives an answer that makes no sense: {error}. Is it "
                "TensorFlow Serving?"
            ) from error
        finally:
            with self._lock:
                self._asking.discard(interrupted)

    def _ask_until(self, request: Callable[[float], T], interrupted: threading.Event) -> T:
        start_s, wait_s, tries = time.monotonic(), _FIRST_WAIT_S, 0
        limit_s = self.config.retry_limit_s
        while True:
            tries += 1
            left_s = max(0.001, limit_s - (time.monotonic() - start_s))
            timeout_s = (
                min(self.config.request_timeout_s, left_s)
                if tries > 1
                else (self.config.request_timeout_s)
            )
            try:
                return request(timeout_s)
            except TransientError as error:
                reason: Exception = error
            except NotServedError as error:
                if not self._is_coming(timeout_s):
                    raise
                reason = error
            wait_s *= random.uniform(1.0 - _WAIT_SPREAD, 1.0 + _WAIT_SPREAD)
            spent_s = time.monotonic() - start_s
            if not interrupted.is_set() and spent_s + wait_s < limit_s:
                interrupted.wait(wait_s)
            elif not interrupted.is_set():
                raise BundleError(self._say_unreachable(reason, spent_s, tries)) from reason
            if interrupted.is_set():
                raise BundleError(f"A request to {self.address} was interrupted.") from reason
            wait_s = min(2.0 * wait_s, _MOST_WAIT_S)

    def _is_coming(self, timeout_s: float) -> bool:
        try:
            return self._wire.is_coming(self.version, timeout_s)
        except TransientError:
            return True  # nobody knows yet
        except MalformedError:
            return False

    def _say_unreachable(self, reason: Exception, spent_s: float, tries: int) -> str:
        tried = f"tried {tries} times in {spent_s:.0f} s" if tries > 1 else "tried once"
        again = "A render goes on from what is finished when the same command is given again."
        if isinstance(reason, NotServedError):
            return (
                f"The server {self.address} is still loading the model ({tried}): {reason}. Wait "
                f"for it. {again}"
            )
        if str(reason).startswith("no answer within"):
            return (
                f"The server {self.address} gives {reason} ({tried}). Make the batches smaller or "
                f"the time limit longer, or look why it is slow. {again}"
            )
        return (
            f"The server {self.address} cannot be reached ({tried}): {reason}. Start it, or mend "
            f"the address. {again}"
        )

    def _say_not_served(self, error: Exception) -> str:
        if self.version is not None and self.address.version is None:
            return (
                f"The server {self.address.target} no longer serves version {self.version} of "
                f"{self.address.model!r}, which this was begun with; it answers: {error}. Start "
                "again with the new version, or have the server keep the old one."
            )
        return (
            f"The server {self.address.target} has no such model as the address {self.address} "
            f"names; it answers: {error}. Mend the name, or have the server load it."
        )


class RemoteEngine:
    """Runs a bundle's pictures on a server.

    gRPC carries them as they are, REST as PNG where the model's pictures have files in memory.
    """

    name = "serving"

    def __init__(self, model: RemoteModel, manifest: Manifest) -> None:
        self._model = model
        self.manifest = manifest
        self.precision: str = manifest.precision
        self.batches_in_flight = model.config.requests_in_flight
        self._encodes = model.address.scheme != "grpc" and _can_encode(manifest, model.served)
        signature = ENCODED if self._encodes else _UINT8
        if signature not in model.served.signatures:
            model.predict(signature, {})  # which says so

    def generate(self, inputs: Arrays) -> np.ndarray:
        count, output = check_inputs(self.manifest, inputs), self.manifest.outputs[0]
        dtype = np.dtype(_UINT8 if output.is_image else output.dtype)
        if self._encodes:
            files = dict(_encode(spec, inputs[spec.name]) for spec in self.manifest.inputs)
            made = self._decode(self._model.predict(ENCODED, files), output, dtype)
        else:
            made = self._find(self._model.predict(_UINT8, inputs), output.name)
        fits = len(made.shape) == len(output.shape) and all(
            size in (None, found)
            for size, found in zip((count, *output.shape[1:]), made.shape, strict=True)
        )
        if not fits or made.dtype != dtype:
            raise BundleError(
                f"The server {self._model.address} was asked for {dtype} of shape "
                f"{(count, *output.shape[1:])} and gave {made.dtype} of shape {made.shape}."
            )
        return made

    def interrupt(self) -> None:
        """Ends the calls that other threads wait for."""
        self._model.interrupt()

    def _find(self, outputs: Mapping[str, np.ndarray], name: str) -> np.ndarray:
        if name not in outputs:
            raise BundleError(
                f"The server {self._model.address} gave no {name!r}, only {sorted(outputs)}."
            )
        return outputs[name]

    def _decode(
        self, outputs: Mapping[str, np.ndarray], spec: TensorSpec, dtype: np.dtype
    ) -> np.ndarray:
        found = self._find(outputs, spec.encoded_name)
        if not spec.is_encoded:
            return found
        try:
            read = decode_picture if spec.is_image else decode_labels
            return np.stack([read(item) for item in found]).astype(dtype, copy=False)
        except (DataError, TypeError, ValueError) as error:
            raise BundleError(
                f"The server {self._model.address} gave a picture that cannot be read: {error}"
            ) from error


class RemoteMethods:
    """A bundle's further methods, run on a server."""

    def __init__(self, model: RemoteModel, manifest: Manifest) -> None:
        self._model, self.manifest = model, manifest

    def find_input(self, method: str, name: str) -> TensorSpec:
        return find_method_input(self.manifest, str(self._model.address), method, name)

    def run(self, method: str, inputs: Arrays) -> dict[str, np.ndarray]:
        given = {
            name: np.asarray(value, self.find_input(method, name).dtype)
            for name, value in inputs.items()
        }
        return self._model.predict(method, given)

    def run_tensors(self, method: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        raise ConfigError(
            f"Gradients cannot pass the server {self._model.address}, and {method!r} is asked for "
            "some; give the bundle's folder instead."
        )


class RemoteBundle:
    """A bundle on a server: one connection for pictures and methods.

    Args:
        url: The address.
        config: How often and how long the server is asked. Choices of a runtime are refused.

    Raises:
        BundleError: The server cannot be reached, has no such model or does not say what it is.
        ConfigError: The address or a setting is wrong.
    """

    def __init__(self, url: str, config: EngineConfig) -> None:
        address = parse_server(url)
        if config.name != "auto" or config.num_threads is not None:
            raise ConfigError(
                f"The server {address} runs the network as it was started; leave the engine "
                f"({config.name!r}) and its number of threads out."
            )
        self._model = RemoteModel(address, config)
        self.manifest = self._find_manifest(config)
        if config.precision not in ("float32", self.manifest.precision):
            raise ConfigError(
                f"The model at {address} computes in {self.manifest.precision} and has no "
                f"precision {config.precision!r}; leave the precision out."
            )
        self.methods: Methods = RemoteMethods(self._model, self.manifest)

    @functools.cached_property
    def engine(self) -> Engine:
        return RemoteEngine(self._model, self.manifest)

    def describe(self) -> dict[str, Any]:
        """What a plan tells of it, JSON values."""
        return {
            "bundle": str(self._model.address),
            "model": self.manifest.model,
            "server": {
                "version": self._model.version,
                "signatures": sorted(self._model.served.signatures),
                "precision": self.manifest.precision,
                "facegan_version": self.manifest.facegan_version,
                "requests_in_flight": self._model.config.requests_in_flight,
            },
        }

    def _find_manifest(self, config: EngineConfig) -> Manifest:
        model, folder = self._model, config.remote.bundle
        told = None
        if DESCRIBE in model.served.signatures:
            told = self._ask_manifest()
        if folder is not None:
            local = read_manifest(folder)
            self._require_same(folder, local, told)
            return told or local
        if told is None:
            raise BundleError(
                f"The model at {model.address} does not say what it is: it has no signature "
                f"{DESCRIBE!r}, only {', '.join(sorted(model.served.signatures))}. Export it again "
                "with this version, or name its folder as the bundle, too."
            )
        return told

    def _ask_manifest(self) -> Manifest:
        query = np.array([b""], object)
        outputs = self._model.predict(DESCRIBE, {QUERY: query})
        found = outputs.get(MANIFEST_BYTES)
        if found is None or found.shape != (1,) or not isinstance(found[0], bytes):
            raise BundleError(
                f"The model at {self._model.address} describes itself in a way that is not known. "
                "Export it again with this version."
            )
        return decode_description(found[0])

    def _require_same(
        self, folder: str | os.PathLike[str], local: Manifest, told: Manifest | None
    ) -> None:
        if told is None:
            signature = self._model.served.signatures.get(_UINT8)
            named = sorted(spec.name for spec in local.inputs)
            differs = signature is not None and sorted(signature.inputs) != named
        else:
            differs = any(getattr(local, name) != getattr(told, name) for name in _SAME)
        if differs:
            raise BundleError(
                f"The bundle {folder} is not the model that {self._model.address} serves: their "
                "inputs or settings differ. Leave the bundle out, or name the one that is served."
            )


def _can_encode(manifest: Manifest, served: ServedModel) -> bool:
    """Whether pictures can go to and fro as files in memory that hold every bit of them."""
    signature = served.signatures.get(ENCODED)
    if signature is None:
        return False
    specs = (*manifest.inputs, manifest.outputs[0])
    known = all(not spec.is_image or spec.shape[3] == 3 for spec in specs)
    return known and {spec.encoded_name for spec in manifest.inputs} == set(signature.inputs)


def _encode(spec: TensorSpec, value: np.ndarray) -> tuple[str, np.ndarray]:
    if not spec.is_encoded:
        return spec.name, value
    files = np.empty(len(value), object)
    for place, item in enumerate(value):
        files[place] = (
            encode_picture(item) if spec.is_image else encode_labels(item.astype(np.uint8))
        )
    return spec.encoded_name, files
