import numpy as np
import pytest

from facegan.errors import ConfigError, DataError
from facegan.image import encode_jpeg
from facegan.preparation.shots import read_shots, read_video_shots
from facegan.samples import write_sample_clip
from facegan.video.reader import VideoReader


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("shots") / "a.mp4"
    write_sample_clip("hopper", path, duration_s=1.2, size=192, fps=10)
    return path


@pytest.fixture(scope="module")
def portraits(clip):
    paths = []
    with VideoReader(clip) as reader:
        for frame in reader:
            if frame.index in (2, 9):
                paths.append(clip.with_name(f"{frame.index}.jpg"))
                paths[-1].write_bytes(encode_jpeg(frame.image))
    return paths


def test_pictures_become_crops_with_their_landmarks(portraits):
    shots = read_shots(portraits, 64)
    assert shots.images.shape == (2, 64, 64, 3) and len(shots) == 2
    assert shots.names == tuple(map(str, portraits))
    inside = (shots.landmarks_xy_px > 0) & (shots.landmarks_xy_px < 64)
    assert inside.mean() > 0.95


def test_frames_of_a_video_are_spread_over_it(clip):
    shots = read_video_shots(clip, 4, 64)
    numbers = [int(name.rpartition("#")[2]) for name in shots.names]
    assert len(shots) == 4 and numbers == sorted(numbers)
    assert numbers[-1] - numbers[0] >= 6
    assert len(read_video_shots(clip, 100, 64)) <= 12


def test_what_shows_no_face_is_named(portraits, tmp_path):
    grey = tmp_path / "grey.jpg"
    grey.write_bytes(encode_jpeg(np.full((90, 90, 3), 120, np.uint8)))
    with pytest.raises(DataError, match="grey.jpg: No face was found"):
        read_shots([*portraits, grey], 64)
    with pytest.raises(DataError, match="Cannot read .*none.jpg"):
        read_shots([tmp_path / "none.jpg"], 64)
    with pytest.raises(ConfigError, match="at least one picture|At least one picture"):
        read_shots([], 64)
