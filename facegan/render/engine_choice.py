"""Which engine runs a bundle: the one that is fastest here, measured once and remembered.

Which runtime is the fastest depends on network, batch size and processor. A long render times all
that are installed and can read the bundle; what was found is kept in the user's cache folder. A
short render is over sooner than the runtimes are loaded and takes the usual order.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import logging
import math
import os
import pathlib
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import cv2
import numpy as np

from facegan import __version__
from facegan import config as config_lib
from facegan.bundle import Manifest, TensorSpec, check_files, read_manifest
from facegan.errors import ConfigError, FaceganError
from facegan.render.engine import ENGINES, Engine, EngineConfig, EngineLoader, first_choice

# Fewer frames are never worth a measurement.
MIN_FRAMES = 200
# Nor is a render that the usual engine generates sooner than this: loading all runtimes takes 5 to
# 15 s.
MIN_GENERATE_S = 60.0

_MIN_CALLS, _MAX_CALLS, _MAX_CALLS_S = 3, 7, 3.0
# One code is what rounding may do; where float32 was not asked for, engines may differ visibly.
_MAX_CODES, _MAX_DIFFERENCE, _MAX_ID_SHARE = 1, 1e-4, 1e-3
_MAX_MEAN_CODES, _MAX_MEAN_SHARE, _MAX_COARSE_ID_SHARE = 4.0, 0.1, 0.1

# How long a measurement beside other work is believed.
_BUSY_VALID_S = 86_400.0
_MAX_REMEMBERED = 200
_DISTRIBUTIONS = {
    "tensorflow": ("tensorflow", "tensorflow-cpu"),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "openvino": ("openvino",),
}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class EngineChoice:
    """Which engine runs a bundle, and why.

    Attributes:
        engine: Its name.
        reason: ``"given"`` by the caller; the ``"fixed order"``, as measuring all is not worth it;
            ``"measured"`` now, or earlier and ``"remembered"``.
        batch_seconds: Median time of a batch by engine, of those that were timed.
        left_out: Why an engine was not taken into account, a sentence each.
    """

    engine: str
    reason: Literal["given", "fixed order", "measured", "remembered"]
    batch_seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    left_out: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(slots=True)
class _Timing:
    """What is known of a bundle's engines; ``all_tried`` unless only the usual one was timed."""

    batch_seconds: dict[str, float]
    left_out: dict[str, str]
    all_tried: bool

    @property
    def fastest(self) -> str:
        return min(self.batch_seconds, key=self.batch_seconds.__getitem__)


def _is_busy() -> bool:
    # This process' own threads are among those that wait.
    return hasattr(os, "getloadavg") and os.getloadavg()[0] > 1.5 * _count_cores()


def choose_engine(
    bundle_dir: str | os.PathLike[str],
    config: EngineConfig,
    *,
    batch_size: int,
    num_frames: int | None,
    cache_file: pathlib.Path | None = None,
    engines: Mapping[str, EngineLoader] = ENGINES,
    clock: Callable[[], float] = time.perf_counter,
    is_busy: Callable[[], bool] = _is_busy,
    now: Callable[[], float] = time.time,
) -> tuple[Engine, EngineChoice]:
    """Loads the engine that a render of a known length should take.

    Args:
        bundle_dir: The bundle; every file that is read is checked against the manifest.
        config: Which runtime and how. Only ``"auto"`` leaves a choice.
        batch_size: Pictures that will be generated at a time.
        num_frames: How many will be generated in all; None if that is not known.
        cache_file: Where measurements are kept, by default in the user's cache folder.
        engines: What there is to choose from, by name.
        clock: Seconds.
        is_busy: Whether other programs are at work, which shifts what is measured.
        now: Seconds since 1970.

    Raises:
        BundleError: The bundle is broken or no runtime can read it.
        ConfigError: The runtime is not installed, or cannot compute in the precision.
    """
    manifest = read_manifest(bundle_dir)

    def load(name: str) -> Engine:
        return engines[name](bundle_dir, manifest, config)

    if config.name != "auto":
        return load(config.name), EngineChoice(engine=config.name, reason="given")
    usual = first_choice(manifest, config)
    memory = _Memory(
        cache_file or default_cache_file(),
        _circumstances(manifest, config, batch_size),
        is_busy,
        now,
    )
    timing = memory.recall(engines)
    if timing is not None and timing.all_tried:
        try:
            return load(timing.fastest), _choice("remembered", timing)
        except FaceganError as error:
            logging.getLogger("facegan").info("The remembered engine is not taken: %s", error)
            timing = None
    if num_frames is None or num_frames < MIN_FRAMES:
        return load(usual), EngineChoice(engine=usual, reason="fixed order")

    # A damaged file is an error here and no reason to leave an engine out.
    check_files(bundle_dir, manifest)
    batch = sample_batch(manifest.inputs, batch_size, manifest.image_size)
    bench = _Bench(load, batch, clock)
    if timing is None:
        bench.try_engine(usual)
        bench.time_engines()
        timing = bench.timing(all_tried=False)
        memory.remember(timing)
    if usual in timing.batch_seconds:
        generate_s = timing.batch_seconds[usual] * math.ceil(num_frames / batch_size)
        if generate_s < MIN_GENERATE_S:
            return bench.loaded(usual), _choice("fixed order", timing, usual)
    # TensorFlow is what the others are held against.
    for name in sorted(engines, key=lambda name: name != "tensorflow"):
        bench.try_engine(name)
    bench.time_engines()
    bench.compare()
    if not bench.seconds:
        raise bench.errors[usual]
    timing = bench.timing(all_tried=True)
    memory.remember(timing)
    return bench.loaded(timing.fastest), _choice("measured", timing)


def _choice(
    reason: Literal["measured", "remembered", "fixed order"],
    timing: _Timing,
    engine: str | None = None,
) -> EngineChoice:
    return EngineChoice(
        engine=engine or timing.fastest,
        reason=reason,
        batch_seconds={name: round(spent, 6) for name, spent in timing.batch_seconds.items()},
        left_out=dict(timing.left_out),
    )


class _Bench:
    """Loads engines and runs the same batch on all of them."""

    def __init__(
        self,
        load: Callable[[str], Engine],
        batch: dict[str, np.ndarray],
        clock: Callable[[], float],
    ) -> None:
        self._load, self._batch, self._clock = load, batch, clock
        self.seconds: dict[str, float] = {}
        self.left_out: dict[str, str] = {}
        self.errors: dict[str, Exception] = {}
        self._engines: dict[str, Engine] = {}
        self._results: dict[str, np.ndarray] = {}

    def try_engine(self, name: str) -> None:
        """Loads an engine and lets it run once, unless that was done."""
        if name in self._engines or name in self.errors:
            return
        try:
            engine = self._load(name)
            self._results[name] = engine.generate(self._batch)
        # A runtime that cannot run this network fails in ways of its own.
        except Exception as error:
            self.errors[name] = error
            self._leave_out(name, str(error), expected=isinstance(error, FaceganError))
            return
        self._engines[name] = engine

    def time_engines(self) -> None:
        """Times those that were tried; they take turns, so that a busy moment meets them all."""
        seconds: dict[str, list[float]] = {name: [] for name in self._engines}
        begin = self._clock()
        for number in range(_MAX_CALLS):
            if number >= _MIN_CALLS and self._clock() - begin > _MAX_CALLS_S * len(seconds):
                break
            for name, spent in seconds.items():
                start = self._clock()
                self._engines[name].generate(self._batch)
                spent.append(self._clock() - start)
        self.seconds = {name: statistics.median(spent) for name, spent in seconds.items()}

    def compare(self) -> None:
        """Leaves out whose result is not that of TensorFlow."""
        reference = self._results.get("tensorflow")
        if reference is None:
            return
        precise = self._engines["tensorflow"].precision == "float32"
        spec = self._engines["tensorflow"].manifest.outputs[0]
        for name in sorted(set(self.seconds) - {"tensorflow"}):
            exact = precise and self._engines[name].precision == "float32"
            problem = describe_difference(reference, self._results[name], spec, exact=exact)
            if problem is not None:
                del self.seconds[name]
                self._leave_out(name, f"Its result is not TensorFlow's: {problem}.")

    def _leave_out(self, name: str, sentence: str, *, expected: bool = False) -> None:
        self.left_out[name] = " ".join(sentence.split())
        # That a runtime is not installed, or a bundle not made for it, needs nobody's attention.
        level = logging.INFO if expected else logging.WARNING
        logging.getLogger("facegan").log(
            level, "The engine %s is left out: %s", name, self.left_out[name]
        )

    def timing(self, *, all_tried: bool) -> _Timing:
        return _Timing(dict(self.seconds), dict(self.left_out), all_tried)

    def loaded(self, name: str) -> Engine:
        """An engine, and the memory of the others is given back."""
        engine = self._engines.get(name) or self._load(name)
        self._engines.clear()
        self._results.clear()
        return engine


def describe_difference(
    expected: np.ndarray, got: np.ndarray, spec: TensorSpec, *, exact: bool
) -> str | None:
    """What two engines do not agree on, None if they do.

    Args:
        expected: What one made of a batch.
        got: What the other made of it.
        spec: What that is. Pictures are uint8 and may differ by one code, floats by 1e-4, ids in
            one of a thousand.
        exact: Whether both compute in float32; else they may differ by 4 codes in the mean, or by
            a tenth.
    """
    if expected.shape != got.shape:
        return f"its shape is {got.shape} instead of {expected.shape}"
    difference = np.abs(got.astype(np.float64) - expected.astype(np.float64))
    if not np.isfinite(difference).all():
        return "it is not finite"
    if np.issubdtype(expected.dtype, np.integer) and not spec.is_image:
        share, limit = (
            float((difference > 0).mean()),
            _MAX_ID_SHARE if exact else _MAX_COARSE_ID_SHARE,
        )
        return f"{share:.2%} of the ids differ" if share > limit else None
    if not exact and spec.is_image:
        mean = float(difference.mean())
        return f"it differs by {mean:.3g} codes in the mean" if mean > _MAX_MEAN_CODES else None
    if not exact:
        share = float(difference.mean() / max(np.abs(expected).mean(), 1e-12))
        return f"it differs by {share:.2%} in the mean" if share > _MAX_MEAN_SHARE else None
    worst, limit = float(difference.max()), _MAX_CODES if spec.is_image else _MAX_DIFFERENCE
    unit = " codes of 255" if spec.is_image else ""
    return f"it differs by up to {worst:.3g}{unit}" if worst > limit else None


def sample_batch(
    specs: Sequence[TensorSpec], batch_size: int, image_size: int
) -> dict[str, np.ndarray]:
    """A batch to time a network with: random, in pieces about as large as those of faces.

    Noise from pixel to pixel would mislead: a graph may do things once for each different region.

    Args:
        specs: The manifest's inputs.
        batch_size: First axis.
        image_size: Height and width of pictures and maps where they are free, in px.
    """
    random = np.random.default_rng(0)
    return {
        spec.name: np.stack([_sample(spec, image_size, random) for _ in range(batch_size)])
        for spec in specs
    }


def _sample(spec: TensorSpec, image_size: int, random: np.random.Generator) -> np.ndarray:
    free = image_size if len(spec.shape) > 2 else 1
    shape = tuple(size or free for size in spec.shape[1:])
    if spec.is_image:
        return _enlarge(random.integers(0, 256, (9, 9, shape[2]), dtype=np.uint8), shape)
    low, high = spec.value_range or (0.0, 1.0)
    if not spec.dtype.startswith("float"):
        is_map = len(shape) >= 2
        few = (9, 9, *shape[2:]) if is_map else shape
        ids = random.integers(int(low), int(high) + 1, few).astype(spec.dtype)
        return _repeat(ids, shape) if is_map else ids
    if len(shape) == 3 and spec.value_range == (0.0, 1.0):  # masks, one of which is set
        return _repeat(
            np.eye(shape[2], dtype=np.float32)[random.integers(0, shape[2], (9, 9))], shape
        )
    if spec.value_range is None:
        return random.standard_normal(shape).astype(spec.dtype)
    return random.uniform(low, high, shape).astype(spec.dtype)


def _enlarge(few: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    large = cv2.resize(few, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)
    return large.reshape(shape)


def _repeat(few: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    rows = np.arange(shape[0]) * few.shape[0] // shape[0]
    columns = np.arange(shape[1]) * few.shape[1] // shape[1]
    return np.ascontiguousarray(few[rows[:, None], columns[None]])


def default_cache_file() -> pathlib.Path:
    """Where measurements are kept: below ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG rules say that a relative path is to be ignored.
    root = named if os.path.isabs(named) else os.path.expanduser("~/.cache")
    return pathlib.Path(root) / "facegan" / "engines.json"


def _circumstances(manifest: Manifest, config: EngineConfig, batch_size: int) -> dict[str, Any]:
    """Everything that a measurement may depend on."""
    return {
        "bundle": manifest.fingerprint(),
        "batch_size": batch_size,
        "precision": config.precision,
        "num_threads": config.num_threads,
        "versions": {
            "facegan": __version__,
            **{name: _version(packages) for name, packages in _DISTRIBUTIONS.items()},
        },
        "processor": _processor(),
        "cores": _count_cores(),
        "graphics": _graphics(),
    }


def _version(packages: Sequence[str]) -> str | None:
    for package in packages:
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            facts = [line.partition(":") for line in file]
    except OSError:
        return platform.processor() or platform.machine()
    first = {name.strip(): value.strip() for name, _, value in reversed(facts)}
    # Machines of one name may lack the other's instructions.
    flags = sorted(
        flag for flag in first.get("flags", "").split() if flag.startswith(("avx", "amx"))
    )
    return " ".join([first.get("model name", platform.machine()), *flags])


def _count_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _graphics() -> list[str]:
    try:
        found = sorted(os.listdir("/proc/driver/nvidia/gpus"))
    except OSError:
        return []
    return [*found, os.environ.get("CUDA_VISIBLE_DEVICES", "all")]


class _Memory:
    """Measurements on disk, by circumstances. Whatever is wrong with the file, it counts as empty.

    Args:
        path: The file.
        circumstances: Those of this render, JSON values.
        is_busy: Whether other programs are at work.
        now: Seconds since 1970.
    """

    VERSION = 1

    def __init__(
        self,
        path: pathlib.Path,
        circumstances: dict[str, Any],
        is_busy: Callable[[], bool],
        now: Callable[[], float],
    ) -> None:
        self._path, self._circumstances = path, circumstances
        self._is_busy, self._now = is_busy, now

    def _entries(self) -> list[dict[str, Any]]:
        try:
            data = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return []
        if not isinstance(data, dict) or data.get("version") != self.VERSION:
            return []
        entries = data.get("measurements")
        return [e for e in entries if isinstance(e, dict)] if isinstance(entries, list) else []

    def recall(self, engines: Mapping[str, EngineLoader]) -> _Timing | None:
        """What was measured in the same circumstances."""
        for entry in self._entries():
            if entry.get("circumstances") == self._circumstances:
                until_s = entry.get("until_s")
                stale = isinstance(until_s, int | float) and until_s < self._now()
                return None if stale else _read_timing(entry, engines)
        return None

    def remember(self, timing: _Timing) -> None:
        """Adds a measurement; a file that cannot be written is no loss.

        What was measured beside other work is kept for a day only: long enough that a render which
        was stopped goes on with the engine it began with.
        """
        others = [e for e in self._entries() if e.get("circumstances") != self._circumstances]
        entry = {"circumstances": self._circumstances, **dataclasses.asdict(timing)}
        if self._is_busy():
            entry["until_s"] = self._now() + _BUSY_VALID_S
        kept = [*others, entry][-_MAX_REMEMBERED:]
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            config_lib.write_json(self._path, {"version": self.VERSION, "measurements": kept})
        except (OSError, ConfigError) as error:
            logging.getLogger("facegan").info("Engine times are not remembered: %s", error)


def _read_timing(entry: dict[str, Any], engines: Mapping[str, EngineLoader]) -> _Timing | None:
    seconds, left_out = entry.get("batch_seconds"), entry.get("left_out")
    all_tried = entry.get("all_tried")
    if not (isinstance(seconds, dict) and isinstance(left_out, dict) and seconds):
        return None
    for name, spent in seconds.items():
        number = isinstance(spent, int | float) and not isinstance(spent, bool)
        if name not in engines or not number or not 0 < spent < math.inf:
            return None
    if not all(name in engines and isinstance(text, str) for name, text in left_out.items()):
        return None
    return _Timing(dict(seconds), dict(left_out), all_tried) if all_tried in (True, False) else None
