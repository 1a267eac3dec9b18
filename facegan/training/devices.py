"""Which devices a run uses, and the numbers format that suits them."""

from __future__ import annotations

import functools
import json
import os
import pathlib
from typing import Any, Literal

import tensorflow as tf

from facegan.errors import ConfigError


def make_strategy(replicas: int | None = None) -> tf.distribute.Strategy:
    """Chooses the distribution strategy.

    Several machines (TF_CONFIG names more than one worker): MultiWorkerMirroredStrategy. Several
    devices: MirroredStrategy. Otherwise the default strategy.

    Args:
        replicas: How many devices of this machine to use; by default every GPU, or one CPU.

    Raises:
        ConfigError: TF_CONFIG cannot be read, or there are fewer devices than asked for.
    """
    if worker_count() > 1:
        return tf.distribute.MultiWorkerMirroredStrategy()
    kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
    devices = [d.name for d in tf.config.list_logical_devices(kind)]
    wanted = replicas or (len(devices) if kind == "GPU" else 1)
    if wanted > len(devices):
        raise ConfigError(
            f"replicas is {wanted}, but this machine shows {len(devices)} {kind} device(s). "
            "Ask for fewer, or check what tools/doctor.py lists."
        )
    if wanted == 1:
        return tf.distribute.get_strategy()
    return _mirrored(tuple(devices[:wanted]))


@functools.cache
def _mirrored(devices: tuple[str, ...]) -> tf.distribute.Strategy:
    # One strategy a process: TensorFlow numbers collective operations within a strategy, and the
    # numbers of a second one collide with those of the first.
    return tf.distribute.MirroredStrategy(devices)


def worker_count() -> int:
    """The number of workers that TF_CONFIG names; 1 without it."""
    return max(len(_tf_config().get("cluster", {}).get("worker", ())), 1)


def worker_index() -> int:
    """This process's worker number by TF_CONFIG; 0 without it."""
    return int(_tf_config().get("task", {}).get("index", 0))


def _tf_config() -> dict[str, Any]:
    text = os.environ.get("TF_CONFIG", "")
    if not text:
        return {}
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"TF_CONFIG is not JSON: {error}.") from error
    if not isinstance(value, dict):
        raise ConfigError(f"TF_CONFIG must be a JSON object, got {text[:60]!r}.")
    return value


def suggest_precision() -> Literal["float32", "mixed_bfloat16"]:
    """The fastest dtype policy that trains safely here.

    bfloat16 where the hardware multiplies it natively (GPUs from compute capability 8.0, CPUs
    with AVX512-BF16 or AMX), else float32. float16 is never chosen: it needs loss scaling.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        details = tf.config.experimental.get_device_details(gpus[0])
        capable = details.get("compute_capability", (0, 0)) >= (8, 0)
    else:
        try:
            flags = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8")
        except OSError:
            flags = ""
        capable = "avx512_bf16" in flags or "amx_bf16" in flags
    return "mixed_bfloat16" if capable else "float32"
