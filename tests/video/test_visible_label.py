"""The visible label: in the corner only, readable at every size, the same on every frame."""

import numpy as np
import pytest

from facegan.errors import ConfigError
from facegan.video.visible_label import DEFAULT_TEXT, VisibleLabel, require_label_text

SIZES = [(64, 64), (128, 128), (256, 256), (480, 854), (1080, 1920), (1920, 1080)]


def noise(height_px, width_px, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height_px, width_px, 3), dtype=np.uint8)


@pytest.mark.parametrize(("height_px", "width_px"), SIZES)
def test_only_a_small_corner_changes(height_px, width_px):
    label, image = VisibleLabel(DEFAULT_TEXT, height_px, width_px), noise(height_px, width_px)
    kept = image.copy()
    labelled = label(image)
    np.testing.assert_array_equal(image, kept)  # a copied frame belongs to the source
    assert labelled.dtype == np.uint8 and labelled.shape == image.shape
    left, top, right, bottom = label.box_px
    changed = (labelled != image).any(axis=-1)
    assert changed[top:bottom, left:right].mean() > 0.95
    changed[top:bottom, left:right] = False
    assert not changed.any()
    # In the lower right corner, a small part of the frame from 128 px on.
    assert 2 <= width_px - right <= 0.03 * width_px + 2 and 2 <= height_px - bottom
    share = (right - left) * (bottom - top) / (height_px * width_px)
    assert share < (0.2 if height_px == 64 else 0.08)


@pytest.mark.parametrize("code", [0, 128, 255])
@pytest.mark.parametrize(("height_px", "width_px"), SIZES[1:])
def test_letters_stand_out_from_every_background(height_px, width_px, code):
    label = VisibleLabel(DEFAULT_TEXT, height_px, width_px)
    left, top, right, bottom = label.box_px
    box = label(np.full((height_px, width_px, 3), code, np.uint8))[top:bottom, left:right, 0]
    letters = box > 190
    assert letters.mean() > 0.08 and (box < 110).mean() > 0.4
    # The first letter is high enough to read, and there is a margin around all of them.
    rows = np.flatnonzero(letters.any(axis=1))
    assert len(rows) >= 7
    assert not letters[[0, -1]].any() and not letters[:, [0, -1]].any()


def test_the_box_does_not_depend_on_the_frame():
    label = VisibleLabel("Synthetic", 128, 96)
    left, top, right, bottom = label.box_px
    first, second = (label(np.full((128, 96, 3), 77, np.uint8)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    # Translucent: what is behind it shows through.
    darker = label(np.full((128, 96, 3), 7, np.uint8))[top:bottom, left:right]
    assert (darker.astype(int) <= first[top:bottom, left:right]).all()
    assert (darker != first[top:bottom, left:right]).mean() > 0.5


def test_letters_with_tails_and_signs_are_whole():
    for text in ("gjpqy", "...", "~^_|", "A"):
        label = VisibleLabel(text, 256, 256)
        left, top, right, bottom = label.box_px
        box = label(np.zeros((256, 256, 3), np.uint8))[top:bottom, left:right, 0]
        assert (box > 150).any() and not (box[[0, -1]] > 40).any()


@pytest.mark.parametrize("text", ["", "  ", "künstlich", "生成", "two\nlines", "tab\t", "\x00"])
def test_other_characters_are_refused(text):
    with pytest.raises(ConfigError, match="ASCII letters, digits and signs in one line"):
        require_label_text(text)


def test_frames_without_room_are_refused():
    with pytest.raises(ConfigError, match="has no room in frames of 32x32 px"):
        VisibleLabel(DEFAULT_TEXT, 32, 32)
    with pytest.raises(ConfigError, match="has no room"):
        VisibleLabel("x" * 200, 1080, 1920)
    with pytest.raises(ConfigError, match="made for frames of 128x64 px"):
        VisibleLabel("AI", 64, 128)(noise(128, 64))
