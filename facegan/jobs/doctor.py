"""Looks whether everything that facegan needs is there and works together."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import importlib.metadata
import importlib.util
import logging
import os
import pathlib
import platform
import sys
import time
from collections.abc import Iterator
from typing import Any

from facegan import __version__
from facegan.errors import ConfigError

# Import name -> distributions that bring it, for what every part of the library needs ...
_CORE = {
    "tensorflow": ("tensorflow",),
    "keras": ("keras",),
    "tensorboard": ("tensorboard",),
    "tensorflow_datasets": ("tensorflow-datasets",),
    "importlib_resources": ("importlib_resources",),
    "numpy": ("numpy",),
    "absl": ("absl-py",),
    "cv2": ("opencv-contrib-python",),
    "av": ("av",),
    "etils": ("etils",),
    "PIL": ("pillow",),
    "tqdm": ("tqdm",),
}

# ... and for each extra, with what it is good for.
_EXTRAS: dict[str, tuple[str, dict[str, tuple[str, ...]]]] = {
    "dlib": (
        "the default face detector",
        {
            "dlib": ("dlib-bin", "dlib"),
            "face_recognition_models": ("face_recognition_models",),
        },
    ),
    "mediapipe": ("the other face detector", {"mediapipe": ("mediapipe",)}),
    "onnx": (
        "ONNX export and the onnxruntime engine",
        {"tf2onnx": ("tf2onnx",), "onnx": ("onnx",), "onnxruntime": ("onnxruntime",)},
    ),
    "openvino": ("the openvino engine, the fastest on a CPU", {"openvino": ("openvino",)}),
    "serving": (
        "rendering through grpc:// servers",
        {"grpc": ("grpcio",), "tensorflow_serving": ("tensorflow-serving-api",)},
    ),
    "samples": (
        "the two portraits of the demo",
        {"skimage": ("scikit-image",), "matplotlib": ("matplotlib",)},
    ),
}

# Distributions that put files of different builds into one place: only one of a row may be there.
_RIVALS = (
    (
        "opencv-contrib-python",
        "opencv-python",
        "opencv-python-headless",
        "opencv-contrib-python-headless",
    ),
    ("dlib-bin", "dlib"),
)

# Shared libraries of the system that a package needs -> the Debian package with it.
_LIBRARIES = {
    "cv2": {"libGL.so.1": "libgl1", "libglib-2.0.so.0": "libglib2.0-0"},
    "mediapipe": {"libEGL.so.1": "libegl1", "libGLESv2.so.2": "libgles2"},
}

_MIB = 2**20


def check_installation(*, train_step: bool = True) -> dict[str, Any]:
    """Looks at versions, devices, system libraries and extras, and runs one training step.

    Args:
        train_step: Whether to run the step, which takes some seconds.

    Returns:
        ``ok``; ``problems``, each with what to do about it; ``versions``; ``extras`` (name ->
        whether it is complete and what it is for); ``devices``; ``train_step``.
    """
    problems = [*_missing_core(), *_rivals(), *_missing_libraries()]
    report: dict[str, Any] = {
        "ok": not problems,
        "problems": problems,
        "versions": _versions(),
        "extras": _extras(),
        "devices": None,
        "train_step": None,
    }
    if not problems:
        problems += _codecs()
        report["devices"], more = _devices()
        problems += more
        if train_step and not problems:
            report["train_step"] = _run_step()
        report["ok"] = not problems
    return report


def describe_preset(
    preset: str | None = None,
    config_path: str | os.PathLike[str] | None = None,
    overrides: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Counts a preset's parameters and tells what a training step of it needs.

    Returns:
        ``parameters`` (net -> trainable parameters); ``memory_mib`` on each device, by purpose and
        in all (TensorFlow's own 200 to 300 MiB on a CPU come on top); ``batch_size`` on each
        device; ``precision``.

    Raises:
        ConfigError: The preset or a setting is wrong.
    """
    from facegan.datasets.pipeline import batch_spec
    from facegan.jobs.run import load_config, make_example_maker, make_recipe, with_everywhere
    from facegan.training.memory import step_memory
    from facegan.training.trainer import count_parameters, settle

    config = load_config(preset, config_path, overrides)
    # As large as the real ones, and nothing is downloaded.
    config = with_everywhere(config, {"perceptual_net": "random", "face_net": "random"})
    train = settle(config.train)
    recipe = make_recipe(config)
    nets = recipe.build_nets(train.precision)
    with _no_warnings():
        recipe.prepare(train.precision)
    batch_size = max(config.data.batch_size // (train.replicas or 1), 1)
    batch = batch_spec(make_example_maker(config.conditioning), batch_size)
    memory = step_memory(recipe, nets, batch)
    return {
        "preset": preset or str(config_path),
        "parameters": count_parameters(nets),
        "memory_mib": {
            "weights": round(memory.weights / _MIB),
            "averages": round(memory.averages / _MIB),
            "optimizer": round(memory.optimizer / _MIB),
            "activations_and_gradients": round(memory.work / _MIB),
            "training_step": round(memory.total / _MIB),
        },
        "batch_size": batch_size,
        "precision": train.precision,
    }


@contextlib.contextmanager
def _no_warnings() -> Iterator[None]:
    """Keeps the log quiet about what is only measured."""
    log = logging.getLogger("facegan")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def _is_there(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _version(distributions: tuple[str, ...]) -> str | None:
    for name in distributions:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _versions() -> dict[str, str | None]:
    packages: dict[str, tuple[str, ...]] = dict(_CORE)
    for _, modules in _EXTRAS.values():
        packages |= modules
    versions: dict[str, str | None] = {
        "facegan": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
    }
    for module, distributions in packages.items():
        if _is_there(module):
            versions[distributions[0]] = _version(distributions)
    return versions


def _extras() -> dict[str, dict[str, Any]]:
    found = {}
    for extra, (purpose, modules) in _EXTRAS.items():
        missing = [d[0] for module, d in modules.items() if not _is_there(module)]
        found[extra] = {"installed": not missing, "for": purpose}
        if missing:
            found[extra]["install"] = f"pip install 'facegan[{extra}]'"
    return found


def _missing_core() -> list[str]:
    problems = []
    if not (3, 10) <= sys.version_info[:2] < (3, 14):
        problems.append(
            f"Python {platform.python_version()} is outside 3.10 to 3.13; use one of these."
        )
    missing = [d[0] for module, d in _CORE.items() if not _is_there(module)]
    if missing:
        problems.append(f"Not installed: {', '.join(missing)}. Run pip install facegan.")
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    if backend != "tensorflow":
        problems.append(
            f"KERAS_BACKEND is {backend!r}; training and export need tensorflow: unset it."
        )
    return problems


def _rivals() -> list[str]:
    problems = []
    for row in _RIVALS:
        present = [name for name in row if _version((name,)) is not None]
        if len(present) > 1:
            problems.append(
                f"{' and '.join(present)} overwrite each other's files. Mend it: pip uninstall -y "
                f"{' '.join(present)} && pip install {row[0]}"
            )
    return problems


def _missing_libraries() -> list[str]:
    """Asks the loader for each library, as the package's own import would."""
    if not sys.platform.startswith("linux"):
        return []
    wanted: dict[str, str] = {}
    for module, libraries in _LIBRARIES.items():
        if _is_there(module):
            wanted |= {library: p for library, p in libraries.items() if not _loads(library)}
    if not wanted:
        return []
    return [
        f"System libraries are missing: {', '.join(wanted)}. On Debian and Ubuntu: apt-get install "
        f"{' '.join(dict.fromkeys(wanted.values()))}"
    ]


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _codecs() -> list[str]:
    import av
    import av.codec

    problems = []
    for name in ("libx264", "aac"):
        try:
            av.codec.Codec(name, "w")
        except av.FFmpegError:
            problems.append(
                f"PyAV {av.__version__} has no encoder {name}. Its own wheels have it: "
                "pip install --force-reinstall --only-binary av av"
            )
    return problems


def _devices() -> tuple[dict[str, Any], list[str]]:
    import tensorflow as tf

    from facegan.training.devices import suggest_precision

    gpus = tf.config.list_physical_devices("GPU")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    described = {
        "cpu_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "memory_mib": round(memory / _MIB),
        "gpus": [
            tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name)
            for gpu in gpus
        ],
        "precision": suggest_precision(),
    }
    problems = []
    if not gpus and pathlib.Path("/dev/nvidia0").exists():
        problems.append(
            "There is an NVIDIA GPU that TensorFlow does not see. Install its libraries with "
            "pip install 'facegan[gpu]', and check the driver with nvidia-smi."
        )
    return described, problems


def _run_step() -> dict[str, Any]:
    """One step of the smallest preset on noise, to see that training works at all."""
    import dataclasses

    import numpy as np

    from facegan.jobs.run import load_config, make_recipe
    from facegan.training.trainer import Trainer, settle

    start_s = time.monotonic()
    config = load_config("pix2pix_tiny")
    trainer = Trainer(make_recipe(config), dataclasses.replace(settle(config.train), replicas=1))
    shapes: dict[str, tuple[int, ...]] = {}
    for net in trainer.state.nets.values():
        shapes.update(net.input_shapes())
    rng = np.random.default_rng(0)
    batch = {
        name: rng.uniform(-1, 1, (2, *shape)).astype(np.float32) for name, shape in shapes.items()
    }
    terms = {name: float(value) for name, value in trainer.train_step(batch).items()}
    if not np.isfinite(list(terms.values())).all():
        raise ConfigError(
            f"One training step on this machine gives numbers that are not finite: {terms}. "
            "Reinstall TensorFlow, or train with --set train.precision=float32."
        )
    first_s = time.monotonic() - start_s
    start_s = time.monotonic()
    for value in trainer.train_step(batch).values():
        float(value)
    return {
        "terms": {name: round(value, 4) for name, value in terms.items()},
        "first_s": round(first_s, 2),
        "second_s": round(time.monotonic() - start_s, 3),
    }
