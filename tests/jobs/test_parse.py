import cv2
import numpy as np
import pytest

from facegan.errors import ConfigError, VideoError
from facegan.jobs.parse import ParseConfig, parse_video
from facegan.samples import write_sample_clip
from facegan.video.reader import VideoReader, probe_clip


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "a.mp4"
    write_sample_clip("collins", path, duration_s=0.6, size=192, fps=10)
    return path


def test_every_frame_is_parsed_and_shown(clip, tmp_path):
    result = parse_video(
        clip, tmp_path / "out.mp4", ParseConfig(size=128), labels_dir=tmp_path / "labels"
    )
    source, out = probe_clip(clip), probe_clip(tmp_path / "out.mp4")
    assert (out.width, out.height, out.num_frames) == (128, 128, source.num_frames)
    assert out.has_audio == source.has_audio
    assert result["frames"] == result["parsed"] == source.num_frames
    assert 0 <= result["churn"] < 0.2
    assert result["shares"]["skin"] > 0.05
    assert sum(result["shares"].values()) == pytest.approx(1, abs=1e-4)
    files = sorted((tmp_path / "labels").iterdir())
    assert len(files) == source.num_frames
    label_map = cv2.imread(str(files[0]), cv2.IMREAD_UNCHANGED)
    assert label_map.shape == (128, 128) and label_map.max() < 19
    # Coloured over: the overlay differs from the picture where there is a region.
    with VideoReader(tmp_path / "out.mp4") as reader:
        shown = next(iter(reader)).image
    parse_video(clip, tmp_path / "plain.mp4", ParseConfig(size=128, opacity=0.0))
    with VideoReader(tmp_path / "plain.mp4") as reader:
        plain = next(iter(reader)).image
    change = np.abs(shown.astype(int) - plain).max(axis=2)
    assert change[label_map == 1].mean() > 20


def test_what_is_in_the_way_is_named(clip, tmp_path):
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a").touch()
    with pytest.raises(ConfigError, match="not empty"):
        parse_video(clip, tmp_path / "out.mp4", labels_dir=tmp_path / "labels")
    with pytest.raises(ConfigError, match="opacity"):
        ParseConfig(opacity=2.0)
    (tmp_path / "out.mp4").touch()
    with pytest.raises(VideoError):
        parse_video(clip, tmp_path / "out.mp4")
