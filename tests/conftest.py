"""What every test shares: real media, seeds, markers, and two logical CPU devices."""

import os
import pathlib
import random
import sys

import numpy as np
import pytest
from hypothesis import settings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
# On processors with AVX-512, oneDNN's convolutions crash when two devices of one CPU, which only
# tests have, run them at once (TensorFlow 2.21).
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
# matplotlib must not look for a display.
os.environ.setdefault("MPLBACKEND", "Agg")

# Continuous integration tries the same examples every time; at a desk new ones are tried.
settings.register_profile("repeatable", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("repeatable")

ROOT = pathlib.Path(__file__).resolve().parents[1]


def pytest_addoption(parser):
    parser.addoption("--run_slow", action="store_true", help="also run tests marked slow")
    parser.addoption("--run_gpu", action="store_true", help="also run tests marked gpu")


def pytest_collection_modifyitems(config, items):
    for marker in ("slow", "gpu"):
        if config.getoption(f"--run_{marker}"):
            continue
        skip = pytest.mark.skip(reason=f"needs --run_{marker}")
        for item in items:
            if marker in item.keywords:
                item.add_marker(skip)


def pytest_collection_finish(session):
    """Splits the CPU in two before any test touches TensorFlow; later it would be refused."""
    wanted = any("two_cpus" in getattr(item, "fixturenames", ()) for item in session.items)
    if wanted or "tensorflow" in sys.modules:
        _split_cpu()


def _split_cpu():
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    if not tf.config.get_logical_device_configuration(cpu):
        parts = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(cpu, parts)


@pytest.fixture(scope="session")
def two_cpus():
    """Names of two logical CPU devices, for tests with two replicas."""
    import tensorflow as tf

    devices = [device.name for device in tf.config.list_logical_devices("CPU")]
    assert len(devices) == 2, "TensorFlow was used before pytest could split the CPU"
    return devices


@pytest.fixture(autouse=True)
def seeded():
    """Every test starts from the same global random state."""
    random.seed(0)
    np.random.seed(0)
    if "keras" in sys.modules:
        sys.modules["keras"].utils.set_random_seed(0)


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory):
    """What is remembered between runs is kept out of the user's cache folder."""
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["XDG_CACHE_HOME"]
    else:
        os.environ["XDG_CACHE_HOME"] = before


@pytest.fixture(scope="session")
def repo_dir():
    """The checkout's folder."""
    return ROOT


@pytest.fixture(scope="session")
def shared_dir():
    """Folder of real media beside the checkout, or $FACEGAN_SHARED; the test skips without it."""
    path = pathlib.Path(os.environ.get("FACEGAN_SHARED", ROOT.parent / "shared"))
    if not path.is_dir():
        pytest.skip(f"needs the media folder {path} (set FACEGAN_SHARED)")
    return path


@pytest.fixture(scope="session")
def media_dir(shared_dir):
    """Real clips and portraits."""
    path = shared_dir / "media"
    if not path.is_dir():
        pytest.skip(f"needs {path}")
    return path


@pytest.fixture(scope="session")
def face_landmarker_path(shared_dir):
    """mediapipe's FaceLandmarker model file."""
    path = shared_dir / "models" / "face_landmarker.task"
    if not path.is_file():
        pytest.skip(f"needs {path}")
    return path
