import numpy as np
import pytest

from facegan.errors import ConfigError
from facegan.face.parsing import ParserConfig
from facegan.jobs.flicker import FlickerSource, report_flicker
from facegan.samples import write_sample_clip
from facegan.video.label_deflicker import LabelDeflickerConfig
from facegan.video.reader import VideoReader, probe_clip
from facegan.video.writer import VideoWriter


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """A talking face that fills its picture; the same with flicker; and frozen."""
    folder = tmp_path_factory.mktemp("clips")
    source = folder / "source.mp4"
    write_sample_clip("collins", source, duration_s=1.2, size=192, fps=10)
    info = probe_clip(source)
    rng = np.random.default_rng(0)
    made = {}
    for name in ("same", "flickering", "frozen"):
        made[name] = folder / f"{name}.mp4"
        first = None
        with (
            VideoReader(source) as reader,
            VideoWriter(
                made[name],
                width=info.width,
                height=info.height,
                frame_rate=info.frame_rate,
                time_base=info.time_base,
                crf=8,
            ) as writer,
        ):
            for frame in reader:
                image = frame.image
                first = image if first is None else first
                if name == "flickering":
                    image = np.clip(image + rng.integers(-25, 26), 0, 255).astype(np.uint8)
                writer.write(first if name == "frozen" else image, frame.pts)
    return source, made


def test_flicker_and_freezing_show(clips, tmp_path):
    source, outputs = clips
    figures = report_flicker(FlickerSource(video=source), outputs, tmp_path / "page.html")
    assert figures["same"]["flicker"] < 1.5
    assert figures["flickering"]["flicker"] > 5 * figures["same"]["flicker"]
    assert figures["frozen"]["motion_ratio"] == pytest.approx(0, abs=0.05)
    assert figures["same"]["motion_ratio"] == pytest.approx(1, abs=0.2)
    assert figures["same"]["follows"] > 0.5
    assert figures["same"]["label_churn"] is None
    page = (tmp_path / "page.html").read_text()
    assert "flickering" in page and "<svg" in page and figures["report"].endswith("page.html")


def test_label_churn_falls_when_regions_are_steadied(clips, tmp_path):
    source, made = clips
    # Of a square of another size: a render.
    small = tmp_path / "small.mp4"
    info = probe_clip(source)
    with (
        VideoReader(made["same"]) as reader,
        VideoWriter(
            small, width=64, height=64, frame_rate=info.frame_rate, time_base=info.time_base
        ) as writer,
    ):
        for frame in reader:
            writer.write(np.ascontiguousarray(frame.image[::3, ::3]), frame.pts)
    figures = report_flicker(
        FlickerSource(video=source, parser=ParserConfig()),
        {"before": small, "after": small},
        steadied={"after": LabelDeflickerConfig()},
    )
    assert 0 < figures["after"]["label_churn"] <= figures["before"]["label_churn"] < 0.2
    assert figures["report"] is None


def test_a_video_of_another_shape_is_no_render(clips, tmp_path):
    source, _ = clips
    path = tmp_path / "wide.mp4"
    info = probe_clip(source)
    with VideoWriter(
        path, width=64, height=48, frame_rate=info.frame_rate, time_base=info.time_base
    ) as writer:
        writer.write(np.zeros((48, 64, 3), np.uint8), 0)
    with pytest.raises(ConfigError, match="is 64x48: neither a square nor"):
        report_flicker(FlickerSource(video=source), {"wide": path})
