"""Whether layers may compute in a way that only some runtimes can.

An operation may have a fast form beside its plain one. The plain one compiles under XLA, converts
to ONNX and runs on every Keras backend; so it is what a layer does unless somebody who knows the
runtime has allowed more: the trainer when it does not compile by XLA, the exporter for a graph that
TensorFlow will run.
"""

import contextlib
import threading
from collections.abc import Iterator

import keras

_local = threading.local()


@contextlib.contextmanager
def allow_fast_paths(allowed: bool = True) -> Iterator[None]:
    """Allows fast forms to what is traced, or run eagerly, inside the block by this thread."""
    before = fast_paths_allowed()
    _local.allowed = allowed
    try:
        yield
    finally:
        _local.allowed = before


def fast_paths_allowed() -> bool:
    """Whether the block around allows fast forms, and the backend is TensorFlow."""
    return getattr(_local, "allowed", False) and keras.backend.backend() == "tensorflow"
