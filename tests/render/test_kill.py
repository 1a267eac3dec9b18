"""Renders that are killed with SIGKILL go on, and end as if nothing had happened."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np

from facegan.render.pipeline import RenderConfig, render_video
from facegan.video.deflicker import DeflickerConfig
from tests.fake_face import (
    DrawingEngine,
    RedSquareDetector,
    audio_packets,
    moving_square_clip,
    read_clip,
)

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONFIG = RenderConfig(deflicker=DeflickerConfig(method="off"), crf=4, segment_frames=20)

# Slow enough to be caught in the middle. The name of the detector enters the work folder's.
SCRIPT = """
import sys, time
from facegan.render.pipeline import RenderConfig, render_video
from facegan.video.deflicker import DeflickerConfig
from tests.fake_face import DrawingEngine, RedSquareDetector

class Slow(DrawingEngine):
    def generate(self, inputs):
        time.sleep({generate_s})
        return super().generate(inputs)

detect = RedSquareDetector.detect
def slow_detect(self, image):
    time.sleep({detect_s})
    return detect(self, image)
RedSquareDetector.detect = slow_detect

config = RenderConfig(deflicker=DeflickerConfig(method="off"), crf=4, segment_frames=20)
render_video("no bundle", {video!r}, {output!r}, config, engine=Slow(),
             detector=RedSquareDetector(), work_dir={work!r})
"""


def kill_when(script, condition):
    """Starts a Python process and kills it once the condition holds."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    child = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, env=environment, stderr=subprocess.PIPE
    )
    try:
        deadline = time.monotonic() + 60
        while not condition():
            assert child.poll() is None, child.stderr.read().decode()[-2000:]
            assert time.monotonic() < deadline, "the child never came so far"
            time.sleep(0.01)
    finally:
        child.send_signal(signal.SIGKILL)
        child.communicate()
    assert child.returncode == -signal.SIGKILL


def finish(path, output, work):
    engine = DrawingEngine()
    summary = render_video(
        "no bundle",
        path,
        output,
        CONFIG,
        engine=engine,
        detector=RedSquareDetector(),
        work_dir=work,
    )
    return summary, engine


def check_equal(path, output, unbroken, pts):
    frames, stamps = read_clip(output)
    assert stamps == pts
    np.testing.assert_array_equal(frames, read_clip(unbroken)[0])
    assert audio_packets(output)[0] == audio_packets(path)[0]


def test_killed_while_generating(tmp_path):
    path, output, work = tmp_path / "in.mp4", tmp_path / "out.mp4", tmp_path / "work"
    pts = moving_square_clip(path, 100)
    finish(path, tmp_path / "unbroken.mp4", tmp_path / "other")
    script = SCRIPT.format(
        generate_s=0.08, detect_s=0, video=str(path), output=str(output), work=str(work)
    )
    kill_when(script, lambda: any(work.glob("segments-*/seg-00002.mp4")))
    assert not output.exists()
    summary, engine = finish(path, output, work)
    assert summary["resumed_frames"] in (40, 60)
    assert engine.num_generated == 100 - summary["resumed_frames"]
    check_equal(path, output, tmp_path / "unbroken.mp4", pts)
    assert not any(work.glob("segments-*"))


def test_killed_while_finding_faces(tmp_path):
    path, output, work = tmp_path / "in.mp4", tmp_path / "out.mp4", tmp_path / "work"
    pts = moving_square_clip(path, 300)
    finish(path, tmp_path / "unbroken.mp4", tmp_path / "other")

    script = SCRIPT.format(
        generate_s=0, detect_s=0.01, video=str(path), output=str(output), work=str(work)
    )

    def stored():
        states = list(work.glob("landmarks-*/state.json"))
        return bool(states) and '"next_index": 120' in states[0].read_text()

    kill_when(script, stored)
    assert not output.exists()
    seen = []
    detect = RedSquareDetector()

    class Counting(RedSquareDetector):
        def detect(self, image):
            seen.append(1)
            return detect.detect(image)

    Counting.__qualname__ = RedSquareDetector.__qualname__
    render_video(
        "no bundle",
        path,
        output,
        CONFIG,
        engine=DrawingEngine(),
        detector=Counting(),
        work_dir=work,
    )
    # Every frame asks the detector once or twice; the first 120 frames are not asked again.
    assert len(seen) < 240
    check_equal(path, output, tmp_path / "unbroken.mp4", pts)
