"""Engines: run the network of a bundle on uint8 pictures, with whichever runtime is at hand.

All engines take and give the same thing, so that a render differs between them by rounding only.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import importlib
import importlib.util
import math
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from facegan import config as config_lib
from facegan import image as image_lib
from facegan.bundle import (
    GENERATE,
    ONNX_FILE,
    Manifest,
    TensorSpec,
    check_files,
    read_manifest,
)
from facegan.config import unknown_name
from facegan.errors import BundleError, ConfigError
from facegan.render.server_address import is_server

EngineName = Literal["auto", "tensorflow", "onnxruntime", "openvino"]
EnginePrecision = Literal["float32", "bfloat16"]

Arrays = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RemoteConfig:
    """How a server that runs a bundle is asked.

    Args:
        requests_in_flight: Batches that are on their way at a time.
        request_timeout_s: How long one answer is waited for.
        retry_limit_s: How long requests that fail for reasons that pass are made again.
        bundle: Folder of the bundle, for a model that was exported before bundles told what they
            are.
    """

    requests_in_flight: int = 4
    request_timeout_s: float = 30.0
    retry_limit_s: float = 60.0
    bundle: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.requests_in_flight <= 64:
            raise ConfigError(
                f"requests_in_flight must be from 1 to 64, got {self.requests_in_flight}."
            )
        if not 0.0 < self.request_timeout_s < math.inf:
            raise ConfigError(
                f"request_timeout_s must be a number above 0, got {self.request_timeout_s}."
            )
        if not 0.0 <= self.retry_limit_s < math.inf:
            raise ConfigError(f"retry_limit_s must be a number from 0, got {self.retry_limit_s}.")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class EngineConfig:
    """Which runtime runs the network, and how.

    Args:
        name: The runtime. ``"auto"`` takes the first that is installed and can read the bundle:
            OpenVINO, ONNX Runtime, TensorFlow; TensorFlow for a graph that was made for it. Renders
            of videos may measure instead (``facegan.render.engine_choice``).
        precision: Type the network computes in; bfloat16 with OpenVINO, or with TensorFlow and a
            bundle that was exported in it.
        num_threads: Threads of the runtime, None for as many as there are cores.
        remote: How a server is asked, for a bundle that one runs; then there is no other choice.
    """

    name: EngineName = "auto"
    precision: EnginePrecision = "float32"
    num_threads: int | None = None
    remote: RemoteConfig = dataclasses.field(default_factory=RemoteConfig)

    def __post_init__(self) -> None:
        if self.num_threads is not None and self.num_threads < 1:
            raise ConfigError(f"num_threads must be at least 1 or None, got {self.num_threads}.")


def encode_settings(config: Any) -> dict[str, Any]:
    """The JSON values of a config with an ``engine`` that pictures depend on.

    How a server is asked is left out: work goes on with more patience, or less.
    """
    settings = config_lib.encode(config)
    del settings["engine"]["remote"]
    return settings


class Engine(Protocol):
    """Runs one bundle."""

    name: str
    manifest: Manifest
    precision: str

    def generate(self, inputs: Arrays) -> np.ndarray:
        """Runs the network on one batch.

        Args:
            inputs: By name as in the manifest; pictures uint8 [B, H, W, C], the rest as the
                manifest says.

        Returns:
            uint8 [B, H, W, C], the first output.
        """


@runtime_checkable
class ConcurrentEngine(Protocol):
    """What an engine has, too, that may be called from several threads at once.

    Attributes:
        batches_in_flight: How many calls at a time pay.
    """

    batches_in_flight: int

    def interrupt(self) -> None:
        """Ends the calls that other threads wait for; they raise an error."""


class Methods(Protocol):
    """The further signatures of a bundle, wherever they run."""

    manifest: Manifest

    def find_input(self, method: str, name: str) -> TensorSpec:
        """What a method's input looks like.

        Raises:
            BundleError: The bundle has no such method.
        """

    def run(self, method: str, inputs: Arrays) -> dict[str, np.ndarray]:
        """Runs a method.

        Args:
            method: One of the manifest's ``methods``, or "generate".
            inputs: By name, as the manifest says; pictures in [-1, 1].

        Raises:
            BundleError: The bundle has no such method.
        """

    def run_tensors(self, method: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The same on tensors, through which gradients go; also inside of a ``tf.function``.

        Raises:
            ConfigError: The bundle is on a server, which gradients do not pass.
        """


class TensorFlowEngine:
    """Runs the ``uint8`` signature of the SavedModel with TensorFlow."""

    name = "tensorflow"
    precision: str

    def __init__(
        self, bundle_dir: str | os.PathLike[str], manifest: Manifest, config: EngineConfig
    ) -> None:
        if config.precision != manifest.precision:
            _refuse_bfloat16(self.name, config)
        with _checking(bundle_dir, manifest, [n for n in manifest.files if n != ONNX_FILE]):
            self._tf = _import_runtime("tensorflow", "tensorflow")
        self.manifest, self.precision = manifest, manifest.precision
        # The loaded object owns the variables that the signature reads.
        self.owner = _load_saved_model(self._tf, bundle_dir)
        try:
            self._signature = self.owner.signatures["uint8"]
        except KeyError as error:
            raise BundleError(f"The bundle {bundle_dir} has no signature 'uint8'.") from error

    def generate(self, inputs: Arrays) -> np.ndarray:
        check_inputs(self.manifest, inputs)
        tensors = {name: self._tf.constant(value) for name, value in inputs.items()}
        return self._signature(**tensors)[self.manifest.outputs[0].name].numpy()


class OnnxRuntimeEngine:
    """Runs ``model.onnx`` with ONNX Runtime on the CPU."""

    name = "onnxruntime"
    precision: str

    def __init__(
        self, bundle_dir: str | os.PathLike[str], manifest: Manifest, config: EngineConfig
    ) -> None:
        _refuse_bfloat16(self.name, config)
        with _checking(bundle_dir, manifest, [n for n in manifest.files if n == ONNX_FILE]):
            runtime = _import_runtime("onnxruntime", "onnx")
        if ONNX_FILE not in manifest.files:
            raise BundleError(
                f"The bundle {bundle_dir} has no {ONNX_FILE}. Export it with --onnx, or take "
                "another engine."
            )
        self.manifest, self.precision = manifest, manifest.precision
        options = runtime.SessionOptions()
        options.log_severity_level = 3
        if config.num_threads is not None:
            options.intra_op_num_threads = config.num_threads
        try:
            self._session = runtime.InferenceSession(
                os.fspath(pathlib.Path(bundle_dir) / ONNX_FILE),
                sess_options=options,
                providers=["CPUExecutionProvider"],
            )
        # The runtime's own exception classes have no public common base but Exception.
        except Exception as error:
            raise BundleError(
                f"ONNX Runtime cannot load {ONNX_FILE} of {bundle_dir}: {error}."
            ) from error

    def generate(self, inputs: Arrays) -> np.ndarray:
        check_inputs(self.manifest, inputs)
        floats = {
            spec.name: image_lib.to_float(inputs[spec.name]) if spec.is_image else inputs[spec.name]
            for spec in self.manifest.inputs
        }
        output = self.manifest.outputs[0]
        (value,) = self._session.run([output.name], floats)
        return image_lib.to_uint8(value) if output.is_image else value


class OpenVinoEngine:
    """Runs the SavedModel (or ``model.onnx`` where there is one) with OpenVINO on the CPU.

    OpenVINO compiles for one batch size; that of the first call is taken. Smaller batches are
    padded, larger ones cut.
    """

    name = "openvino"
    precision: str

    def __init__(
        self, bundle_dir: str | os.PathLike[str], manifest: Manifest, config: EngineConfig
    ) -> None:
        bundle_dir = pathlib.Path(bundle_dir)
        has_onnx = ONNX_FILE in manifest.files
        source = bundle_dir / ONNX_FILE if has_onnx else bundle_dir
        with _checking(bundle_dir, manifest, [ONNX_FILE] if has_onnx else list(manifest.files)):
            self._ov = _import_runtime("openvino", "openvino")
        self.manifest, self.precision = manifest, config.precision
        if source == bundle_dir and manifest.runtime != "any":
            raise BundleError(
                f"The SavedModel of {bundle_dir} is made for TensorFlow and has no {ONNX_FILE}. "
                "Export it with --onnx, or take the engine 'tensorflow'."
            )
        self._core = self._ov.Core()
        self._options: dict[str, Any] = {
            # Left to itself OpenVINO computes in bfloat16 where the processor can.
            "INFERENCE_PRECISION_HINT": "bf16" if config.precision == "bfloat16" else "f32",
            "PERFORMANCE_HINT": "LATENCY",
        }
        if config.num_threads is not None:
            self._options["INFERENCE_NUM_THREADS"] = config.num_threads
        try:
            self._model = self._core.read_model(source)
            self._outputs = {
                spec.name: _find_port(self._model.outputs, spec.name) for spec in manifest.outputs
            }
        except RuntimeError as error:
            raise BundleError(f"OpenVINO cannot load the bundle {bundle_dir}: {error}.") from error
        self._batch_size = 0
        self._run: Callable[[dict[str, np.ndarray]], np.ndarray] | None = None

    def _compile(
        self, batch_size: int, inputs: Arrays
    ) -> Callable[[dict[str, np.ndarray]], np.ndarray]:
        ov = self._ov
        ports = {
            spec.name: _find_port(self._model.inputs, spec.name) for spec in self.manifest.inputs
        }
        self._model.reshape(
            {port: [batch_size, *inputs[name].shape[1:]] for name, port in ports.items()}
        )
        steps = ov.preprocess.PrePostProcessor(self._model)
        for spec in self.manifest.inputs:
            if spec.is_image:
                step = steps.input(ports[spec.name].any_name)
                step.tensor().set_element_type(ov.Type.u8)
                # image.to_float in the graph: one pass over the pixels less.
                step.preprocess().convert_element_type(ov.Type.f32).scale(127.5).mean(1.0)
        model = steps.build()
        compiled = self._core.compile_model(model, "CPU", self._options)
        request = compiled.create_infer_request()
        names = {spec.name: _find_port(compiled.inputs, spec.name) for spec in self.manifest.inputs}
        output = _find_port(compiled.outputs, self.manifest.outputs[0].name)

        def run(batch: dict[str, np.ndarray]) -> np.ndarray:
            return request.infer({names[name]: value for name, value in batch.items()})[output]

        return run

    def generate(self, inputs: Arrays) -> np.ndarray:
        count = check_inputs(self.manifest, inputs)
        if self._run is None:
            self._batch_size, self._run = count, self._compile(count, inputs)
        size = self._batch_size
        parts = []
        for start in range(0, count, size):
            batch = {name: value[start : start + size] for name, value in inputs.items()}
            kept = min(size, count - start)
            if kept < size:
                batch = {name: _pad_batch(value, size) for name, value in batch.items()}
            output = self._run({k: np.ascontiguousarray(v) for k, v in batch.items()})[:kept]
            # to_uint8 copies, and so does this: the runtime reuses its output memory.
            is_image = self.manifest.outputs[0].is_image
            parts.append(image_lib.to_uint8(output) if is_image else np.array(output))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _pad_batch(value: np.ndarray, size: int) -> np.ndarray:
    return np.concatenate([value, np.repeat(value[-1:], size - len(value), axis=0)])


def _find_port(ports: list[Any], name: str) -> Any:
    # SavedModel names come as "serving_default_x:0" or "x:0" or "x", by version of the reader.
    for port in ports:
        for candidate in port.names:
            plain = candidate.split(":")[0]
            if plain in (name, f"serving_default_{name}"):
                return port
    if len(ports) == 1:
        return ports[0]
    raise BundleError(
        f"The network has no tensor {name!r}, only "
        f"{', '.join(sorted(n for port in ports for n in port.names))}."
    )


EngineLoader = Callable[[str | os.PathLike[str], Manifest, EngineConfig], Engine]

ENGINES: dict[str, EngineLoader] = {
    engine.name: engine for engine in (OpenVinoEngine, OnnxRuntimeEngine, TensorFlowEngine)
}


def load_engine(
    bundle_dir: str | os.PathLike[str], config: EngineConfig | EngineName = "auto"
) -> Engine:
    """Loads a bundle for running.

    Args:
        bundle_dir: The bundle; every file that is read is checked against the manifest. Or the
            address of a server that runs it, as ``grpc://host:8500/anna`` or
            ``http://host:8501/anna``.
        config: Which runtime and how, or just the runtime's name.

    Raises:
        BundleError: The bundle is broken or the runtime cannot read it.
        ConfigError: The runtime is unknown or not installed, or cannot compute in the precision.
    """
    if isinstance(config, str):
        if config != "auto" and config not in ENGINES:
            raise unknown_name("engine", config, ("auto", *ENGINES), what="value")
        config = EngineConfig(name=config)
    if is_server(bundle_dir):
        from facegan.render.remote import RemoteBundle  # it knows this module

        return RemoteBundle(os.fspath(bundle_dir), config).engine
    manifest = read_manifest(bundle_dir)
    name = first_choice(manifest, config) if config.name == "auto" else config.name
    return ENGINES[name](bundle_dir, manifest, config)


class BundleMethods:
    """The methods of a bundle in a folder, run with TensorFlow, whatever runs its pictures.

    Args:
        bundle_dir: The bundle.
        manifest: Its manifest.
        loaded: Its SavedModel, if it is loaded already.

    Raises:
        BundleError: The bundle cannot be loaded.
    """

    def __init__(
        self, bundle_dir: str | os.PathLike[str], manifest: Manifest, loaded: Any = None
    ) -> None:
        self._tf = _import_runtime("tensorflow", "tensorflow")
        self._bundle_dir, self.manifest = bundle_dir, manifest
        self._owner = loaded or _load_saved_model(self._tf, bundle_dir)

    def find_input(self, method: str, name: str) -> TensorSpec:
        return find_method_input(self.manifest, self._bundle_dir, method, name)

    def run(self, method: str, inputs: Arrays) -> dict[str, np.ndarray]:
        tensors = {
            name: self._tf.constant(value, self.find_input(method, name).dtype)
            for name, value in inputs.items()
        }
        outputs = self.run_tensors(method, tensors)
        return {name: value.numpy() for name, value in outputs.items()}

    def run_tensors(self, method: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        for name in inputs:
            self.find_input(method, name)
        return self._owner.signatures[method](**inputs)


def find_method_input(
    manifest: Manifest, bundle: str | os.PathLike[str], method: str, name: str
) -> TensorSpec:
    """An input of a method; see ``Methods.find_input``. ``bundle`` is named where it has none."""
    methods = manifest.methods
    specs = methods[method].inputs if method in methods else ()
    if method == GENERATE and methods:
        specs = manifest.inputs
    for spec in specs:
        if spec.name == name:
            return spec
    raise BundleError(
        f"The bundle {bundle} has no signature {method!r} with an input {name!r}. Export it again."
    )


def _load_saved_model(tf: Any, bundle_dir: str | os.PathLike[str]) -> Any:
    try:
        return tf.saved_model.load(os.fspath(bundle_dir))
    # A damaged variables file surfaces as any of these, depending on where it is cut.
    except (OSError, ValueError, IndexError, KeyError, tf.errors.OpError) as error:
        raise BundleError(f"TensorFlow cannot load the bundle {bundle_dir}: {error}.") from error


def first_choice(manifest: Manifest, config: EngineConfig) -> str:
    """The engine that is usually the fastest for a bundle, of those that are installed.

    Raises:
        ConfigError: None that is installed computes in the precision.
    """
    if manifest.runtime == "tensorflow" and config.precision in ("float32", manifest.precision):
        return "tensorflow"  # what its graph was made for is quicker there than elsewhere
    if importlib.util.find_spec("openvino") is not None:
        return "openvino"
    if config.precision != "float32":
        raise ConfigError(
            f"The precision {config.precision!r} needs OpenVINO, which is not installed. Install "
            'it with pip install "facegan[openvino]", or render in float32.'
        )
    if ONNX_FILE in manifest.files and importlib.util.find_spec("onnxruntime") is not None:
        return "onnxruntime"
    return "tensorflow"


def _refuse_bfloat16(name: str, config: EngineConfig) -> None:
    if config.precision != "float32":
        raise ConfigError(
            f"The engine {name!r} runs the network in the type it was exported in and has no "
            f"precision {config.precision!r}. Take the engine 'openvino', or leave the precision."
        )


@contextlib.contextmanager
def _checking(
    bundle_dir: str | os.PathLike[str], manifest: Manifest, names: Sequence[str]
) -> Iterator[None]:
    """Hashes what an engine is about to read, while its runtime is imported in the block."""
    with concurrent.futures.ThreadPoolExecutor(max_workers=1) as thread:
        checked = thread.submit(check_files, bundle_dir, manifest, names)
        yield
        checked.result()


def _import_runtime(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"The engine needs {module}, which cannot be imported ({error}). "
            f'Install it with pip install "facegan[{extra}]", or take another engine.'
        ) from error


def check_inputs(manifest: Manifest, inputs: Arrays) -> int:
    """Compares a batch with the manifest; returns its size."""
    wanted = {spec.name for spec in manifest.inputs}
    if set(inputs) != wanted:
        raise ConfigError(f"The bundle takes the inputs {sorted(wanted)}, got {sorted(inputs)}.")
    counts = {len(value) for value in inputs.values()}
    for spec in manifest.inputs:
        value = inputs[spec.name]
        dtype = "uint8" if spec.is_image else spec.dtype
        fits = len(value.shape) == len(spec.shape) and all(
            wanted_size in (None, size)
            for wanted_size, size in zip(spec.shape, value.shape, strict=False)
        )
        if not fits or value.dtype != dtype or len(counts) != 1 or len(value) == 0:
            raise ConfigError(
                f"The input {spec.name!r} must be {dtype} of shape {spec.shape} with one batch "
                f"size for all inputs, got {value.dtype} of shape {value.shape}."
            )
    return counts.pop()
