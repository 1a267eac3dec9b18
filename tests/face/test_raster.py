"""Drawings of landmarks."""

import numpy as np
import pytest

from facegan.errors import ConfigError, DataError
from facegan.face.landmarks import MEAN_SHAPE, flip_landmarks
from facegan.face.raster import GROUP_COLOURS, DrawingConfig, draw_landmarks

FACE = MEAN_SHAPE * 128 + 64


def test_white_lines_on_black():
    drawing = draw_landmarks(FACE, 256)
    assert drawing.shape == (256, 256, 3) and drawing.dtype == np.uint8
    assert drawing.min() == 0 and drawing.max() == 255
    assert (drawing[..., 0] == drawing[..., 1]).all() and (drawing[..., 0] == drawing[..., 2]).all()
    lit = (drawing[..., 0] > 127).mean()
    assert 0.02 < lit < 0.06


@pytest.mark.parametrize(
    ("first", "last", "joined"),
    [
        (0, 16, False),
        (17, 21, False),
        (27, 30, False),
        (36, 41, True),
        (48, 59, True),
        (30, 35, True),
    ],
)
def test_open_and_closed_lines(first, last, joined):
    # One group is spread out; everything else lies far outside of the canvas.
    xy = np.full((68, 2), -5000.0)
    corners = np.linspace(0, 1.5 * np.pi, last - first + 1)
    xy[first : last + 1] = 128 + 80 * np.stack([np.cos(corners), np.sin(corners)], axis=1)
    drawing = draw_landmarks(xy, 256)
    x, y = ((xy[first] + xy[last]) / 2).round().astype(int)
    assert (drawing[y - 2 : y + 3, x - 2 : x + 3].max() > 100) == joined


@pytest.mark.parametrize("size", [64, 128, 256, 512])
def test_line_width_scales_with_the_size(size):
    drawing = draw_landmarks(FACE * size / 256, size)
    # Light of all lines over their length, in pixels of a 256 px drawing.
    total = drawing[..., 0].sum() / 255 / size**2 * 256**2
    reference = draw_landmarks(FACE, 256)[..., 0].sum() / 255
    assert total == pytest.approx(reference, rel=0.35)


def test_subpixel_moves_show():
    a, b = draw_landmarks(FACE, 256), draw_landmarks(FACE + 0.3, 256)
    difference = np.abs(a.astype(int) - b).mean()
    assert 0 < difference < np.abs(a.astype(int) - draw_landmarks(FACE + 1.0, 256)).mean()


def test_centre_of_a_line_lies_on_its_points():
    xy = np.full((68, 2), -5000.0)
    xy[17:22] = [(40.25, y) for y in (10, 20, 30, 40, 50)]
    for config in (DrawingConfig(), DrawingConfig(line_width=1.5)):
        row = draw_landmarks(xy, 64, config)[25, :, 0].astype(float)
        assert (row @ np.arange(64)) / row.sum() == pytest.approx(40.25, abs=0.2)


def test_group_colours_and_inner_lip():
    drawing = draw_landmarks(FACE, 256, DrawingConfig(colours="groups"))
    seen = {tuple(c) for c in drawing.reshape(-1, 3)}
    assert set(GROUP_COLOURS.values()) <= seen
    without = draw_landmarks(FACE, 256, DrawingConfig(colours="groups", inner_lip=False))
    assert GROUP_COLOURS["inner_lip"] not in {tuple(c) for c in without.reshape(-1, 3)}


def test_flipped_landmarks_draw_the_mirrored_picture():
    skewed = FACE + np.linspace(0, 6, 68)[:, None]
    mirrored = draw_landmarks(flip_landmarks(skewed, 256), 256)
    difference = np.abs(draw_landmarks(skewed, 256)[:, ::-1].astype(int) - mirrored)
    assert difference.mean() < 0.5


def test_colours_stay_on_the_persons_own_side_when_flipped():
    config = DrawingConfig(colours="groups")
    centred = MEAN_SHAPE * 128 + 63.5
    drawing = draw_landmarks(centred, 256, config)
    flipped = draw_landmarks(flip_landmarks(centred, 256), 256, config)
    assert np.abs(drawing.astype(int) - flipped).mean() < 0.1
    assert np.abs(drawing[:, ::-1].astype(int) - flipped).mean() > 0.3


def test_points_outside_are_clipped():
    assert draw_landmarks(FACE + 1e7, 128).max() == 0
    assert draw_landmarks(FACE * 3 - 200, 256).max() == 255


def test_wrong_input_is_refused():
    with pytest.raises(DataError, match="68, 2"):
        draw_landmarks(FACE[:5], 64)
    with pytest.raises(DataError, match="not finite"):
        draw_landmarks(np.full((68, 2), np.nan), 64)
    with pytest.raises(ConfigError, match="line_width"):
        DrawingConfig(line_width=0.0)
