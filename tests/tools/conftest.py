"""Fixtures of the tools' tests: tools are run from outside, as a user runs them."""

import os
import pathlib
import subprocess
import sys

import av
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def run_tool():
    """Runs a tool to its end: (exit code, stdout, stderr)."""

    def run(name, *flags, cwd=ROOT):
        done = subprocess.run(
            [sys.executable, str(ROOT / "tools" / f"{name}.py"), *map(str, flags)],
            cwd=cwd,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.fixture(scope="session")
def refused(run_tool):
    """Runs a tool that must refuse; returns its one sentence."""

    def run(name, *flags, after_progress=False, **kwargs):
        code, out, err = run_tool(name, *flags, **kwargs)
        assert code == 2, err
        assert out == ""
        assert "Traceback" not in err
        *progress, sentence = err.splitlines()
        assert sentence.startswith(f"{name}: ")
        assert bool(progress) == after_progress, err
        return sentence

    return run


@pytest.fixture
def junk(tmp_path):
    """A folder of things that are not what they seem."""
    (tmp_path / "junk.mp4").write_bytes(bytes(range(256)) * 20)
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "occupied").mkdir()
    (tmp_path / "occupied" / "file").touch()
    return tmp_path


@pytest.fixture
def clip(tmp_path):
    """A grey clip of two frames: a video, but nobody is in it."""
    path = tmp_path / "grey.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width = stream.height = 128
        stream.pix_fmt = "yuv420p"
        for _ in range(2):
            frame = av.VideoFrame.from_ndarray(np.full((128, 128, 3), 90, np.uint8), "rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
