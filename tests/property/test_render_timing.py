"""Whatever the clip's timing, a render has its frames, its time stamps and its sound."""

import dataclasses
from fractions import Fraction

import pytest

from facegan.render.pipeline import RenderConfig, render_video
from facegan.video.deflicker import DeflickerConfig
from facegan.video.reader import VideoReader
from tests.fake_face import (
    DrawingEngine,
    RedSquareDetector,
    audio_packets,
    red_square_frame,
    write_clip,
)

NTSC = Fraction(30000, 1001)


@dataclasses.dataclass
class Case:
    pts: list
    time_base: Fraction
    rate: Fraction
    audio_s: float | None = None
    audio_start_s: float = 0.0


CASES = {
    "ntsc": Case([1001 * i for i in range(45)], Fraction(1, 30000), NTSC, audio_s=1.5),
    "silent": Case([512 * i for i in range(30)], Fraction(1, 12800), Fraction(25)),
    "late sound": Case([i for i in range(40)], Fraction(1, 25), Fraction(25), 1.0, 0.5),
    "long gap": Case(
        [40 * i + (900 if i > 12 else 0) for i in range(30)],
        Fraction(1, 1000),
        Fraction(25),
        audio_s=2.1,
    ),
    "one frame": Case([0], Fraction(1, 25), Fraction(25)),
}


def stamps(path):
    with VideoReader(path) as reader:
        return [frame.pts * frame.time_base for frame in reader], reader.info


@pytest.mark.parametrize("ending", [".mp4", ".mov"])
@pytest.mark.parametrize("name", CASES)
def test_timing_is_kept(tmp_path, name, ending):
    case = CASES[name]
    path, output = tmp_path / "in.mp4", tmp_path / f"out{ending}"
    frames = [red_square_frame(96, 128, [(30 + i % 5, 20, 50)]) for i in range(len(case.pts))]
    write_clip(
        path,
        frames,
        case.pts,
        time_base=case.time_base,
        rate=case.rate,
        audio_s=case.audio_s,
        audio_start_s=case.audio_start_s,
    )
    config = RenderConfig(
        output="full_frame",
        deflicker=DeflickerConfig(method="off"),
        segment_frames=17,
        batch_size=3,
    )
    summary = render_video(
        "no bundle",
        path,
        output,
        config,
        engine=DrawingEngine(),
        detector=RedSquareDetector(),
    )
    theirs, info = stamps(path)
    ours, result = stamps(output)
    assert theirs == [pts * case.time_base for pts in case.pts]
    assert ours == theirs
    if name == "long gap":
        # The average of a variable rate depends on how long the last frame stays.
        assert float(result.frame_rate) == pytest.approx(float(info.frame_rate), rel=0.05)
    else:
        assert result.frame_rate == info.frame_rate
    assert summary["frames"] == len(case.pts)
    assert summary["audio"] is (case.audio_s is not None)
    source, sound = audio_packets(path), audio_packets(output)
    if case.audio_s is None:
        assert sound is None
        return
    # Packets are the source's; only those after the last frame may be missing.
    assert sound[0] == source[0][: len(sound[0])]
    assert sound[1] == pytest.approx(source[1], abs=2e-3)
    end_s = float(theirs[-1] + 1 / info.frame_rate)
    packet_s = 1024 / 44100
    assert sound[2] <= end_s + packet_s + float(1 / info.frame_rate)
    assert sound[2] >= min(source[2], end_s) - packet_s
