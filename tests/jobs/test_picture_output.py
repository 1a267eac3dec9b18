import json

import numpy as np
import pytest

from facegan.errors import ConfigError, DataError, VideoError
from facegan.image import make_grid, read_image
from facegan.jobs.picture_output import (
    GRID_GAP_PX,
    check_folder,
    open_folder,
    require_grid_room,
    require_picture_ending,
    write_picture,
    write_video,
)
from facegan.progress import no_progress
from facegan.video.reader import VideoReader

SETTINGS = "made.json"


def open_for(folder, made, *, resume=False, replaced=()):
    open_folder(folder, SETTINGS, made, resume=resume, replaced=replaced)


def test_endings_are_those_of_pictures(tmp_path):
    for name in ("a.png", "a.JPG", "a.jpeg"):
        require_picture_ending(tmp_path / name, "grid")
    with pytest.raises(ConfigError, match=r"of a grid must end in .png, .jpg, .jpeg, got 'a.gif'"):
        require_picture_ending(tmp_path / "a.gif", "grid")


def test_a_grid_has_room_up_to_what_files_hold():
    tile = np.zeros((8, 8, 3), np.uint8)
    assert make_grid([[tile, tile]]).shape == (8, 2 * 8 + GRID_GAP_PX, 3)
    require_grid_room(6550, 1, 8)  # 65498 px
    with pytest.raises(ConfigError, match="6551 x 1 pictures of 8 px would have 65508 x 8 px"):
        require_grid_room(6551, 1, 8)
    require_grid_room(25, 25, 1024)
    with pytest.raises(ConfigError, match="26 x 26 pictures of 1024 px .* and 700 million in all"):
        require_grid_room(26, 26, 1024)


def test_a_folder_takes_pictures_or_is_refused(tmp_path):
    ways = {"resume": False, "overwrite": False}
    check_folder(tmp_path / "new", **ways)
    assert not (tmp_path / "new").exists()
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="is a file; several pictures need a folder"):
        check_folder(tmp_path / "file", **ways)
    with pytest.raises(ConfigError, match="is not empty. Add --resume"):
        check_folder(tmp_path, **ways)
    with pytest.raises(ConfigError, match="exclude each other"):
        check_folder(tmp_path, resume=True, overwrite=True)
    for way in ways:
        check_folder(tmp_path, **{**ways, way: True})


def test_a_folder_goes_on_if_it_was_made_in_the_same_way(tmp_path):
    folder = tmp_path / "a" / "b"
    open_for(folder, {"seed": 1})
    assert json.loads((folder / SETTINGS).read_text()) == {"seed": 1}
    (folder / "0.png").touch()
    open_for(folder, {"seed": 1}, resume=True, replaced=[folder / "0.png"])
    assert (folder / "0.png").exists()
    with pytest.raises(ConfigError, match=r"with other settings \(made.json has them\)"):
        open_for(folder, {"seed": 2}, resume=True)
    (folder / SETTINGS).unlink()
    with pytest.raises(ConfigError, match="no made.json, so they are not of an earlier call"):
        open_for(folder, {"seed": 1}, resume=True)


def test_what_is_made_again_is_gone_before_the_settings_change(tmp_path):
    open_for(tmp_path, {"seed": 1})
    (tmp_path / "0.png").touch()
    (tmp_path / "other.png").touch()
    open_for(tmp_path, {"seed": 2}, replaced=[tmp_path / "0.png", tmp_path / "not there.png"])
    assert sorted(p.name for p in tmp_path.iterdir()) == [SETTINGS, "other.png"]
    (tmp_path / "1.png").mkdir()
    with pytest.raises(DataError, match="Cannot remove .*1.png"):
        open_for(tmp_path, {"seed": 3}, replaced=[tmp_path / "1.png"])
    assert json.loads((tmp_path / SETTINGS).read_text()) == {"seed": 2}


def test_a_picture_brings_its_folders(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    write_picture(tmp_path / "a" / "b é.png", image)
    np.testing.assert_array_equal(read_image(tmp_path / "a" / "b é.png"), image)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="Cannot make .*file"):
        write_picture(tmp_path / "file" / "a.png", image)


def test_a_video_is_written_as_its_frames_come(tmp_path):
    frames = (np.full((16, 32, 3), 20 * number, np.uint8) for number in range(5))
    size = {"count": 5, "height_px": 16, "width_px": 32, "fps": 10, "progress": no_progress}
    write_video(tmp_path / "a.mp4", frames, **size, overwrite=False)
    with VideoReader(tmp_path / "a.mp4") as reader:
        assert reader.info.frame_rate == 10
        means = [frame.image.mean() for frame in reader]
    np.testing.assert_allclose(means, [0, 20, 40, 60, 80], atol=2)
    with pytest.raises(VideoError, match="exists already"):
        write_video(tmp_path / "a.mp4", [], **size, overwrite=False)
