import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facegan.errors import ConfigError
from facegan.video.label_deflicker import LabelDeflicker, LabelDeflickerConfig

SIZE = 96


def texture(seed=0):
    """A picture with something to follow everywhere."""
    noise = np.random.default_rng(seed).integers(0, 256, (SIZE * 2, SIZE * 2, 3)).astype(np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 3)


def run(maps, guides, **settings):
    stream = zip(range(len(maps)), maps, guides, strict=True)
    pairs = list(LabelDeflicker(LabelDeflickerConfig(**settings)).filter(stream))
    assert [item for item, _ in pairs] == list(range(len(maps)))
    return [label_map for _, label_map in pairs]


def still(count, flicker=()):
    """A still face of one region, and other labels in a patch of some frames."""
    guide = texture()[:SIZE, :SIZE]
    base = np.zeros((SIZE, SIZE), np.uint8)
    base[20:70, 20:70] = 1
    maps = [base.copy() for _ in range(count)]
    for index in flicker:
        maps[index][30:40, 64:76] = 5
    return base, maps, [guide] * count


def test_a_still_clip_comes_out_as_it_is():
    base, maps, guides = still(7)
    for label_map in run(maps, guides):
        np.testing.assert_array_equal(label_map, base)


def test_a_label_that_flickers_on_a_still_picture_is_voted_away():
    base, maps, guides = still(9, flicker=(2, 6))
    noise = np.random.default_rng(1).integers(-4, 5, (9, SIZE, SIZE, 3))
    guides = [
        np.clip(g.astype(int) + n, 0, 255).astype(np.uint8)
        for g, n in zip(guides, noise, strict=True)
    ]
    for label_map in run(maps, guides):
        # A border may move by a pixel where noise looks like movement.
        assert np.mean(label_map != base) < 0.003
        assert not (label_map == 5).any()


def test_a_change_of_the_picture_keeps_its_label():
    """A mouth that opens for a frame is no flicker."""
    _, maps, guides = still(9)
    opened = guides[4].copy()
    opened[50:62, 35:55] = (40, 5, 10)
    maps[4][50:62, 35:55] = 10
    guides = [*guides[:4], opened, *guides[5:]]
    out = run(maps, guides)
    inner = out[4][53:59, 38:52]
    assert (inner == 10).mean() > 0.95
    assert (out[3] != maps[3]).mean() < 0.01


def test_votes_follow_what_moves():
    big = texture(3)
    shape = np.zeros((2 * SIZE, 2 * SIZE), np.uint8)
    cv2.circle(shape, (80, 70), 24, 3, -1)
    maps, guides = [], []
    for index in range(9):
        shift = 3 * index
        window = (slice(20, 20 + SIZE), slice(shift, shift + SIZE))
        maps.append(shape[window].copy())
        guides.append(np.ascontiguousarray(big[window]))
    noisy = [label_map.copy() for label_map in maps]
    for index in range(1, 9, 3):
        rows, columns = np.where(maps[index] == 3)
        keep = (rows + columns) % 7 < 3
        noisy[index][rows[keep], columns[keep]] = 8
    out = run(noisy, guides)
    before = np.mean([np.mean(a != b) for a, b in zip(noisy, maps, strict=True)])
    after = np.mean([np.mean(a != b) for a, b in zip(out, maps, strict=True)])
    assert after < 0.3 * before
    # Filtering in place would smear a region that moves 12 px over the window.
    clean = run(maps, guides)
    assert np.mean([np.mean(a != b) for a, b in zip(clean, maps, strict=True)]) < 0.01


def test_a_frame_without_a_map_is_a_cut():
    base, maps, guides = still(9)
    other = np.where(base == 1, 7, 0).astype(np.uint8)
    out = run([*maps[:4], None, *[other] * 4], [*guides[:4], None, *guides[:4]])
    assert out[4] is None
    for index in range(4):
        np.testing.assert_array_equal(out[index], base)
        np.testing.assert_array_equal(out[5 + index], other)


@given(st.integers(0, 12), st.integers(1, 4))
def test_any_length_comes_out_whole(count, radius):
    _, maps, guides = still(count)
    assert len(run(maps, guides, radius=radius)) == count


def test_a_stream_that_begins_earlier_goes_on_the_same():
    _, maps, guides = still(16, flicker=(3, 5, 9, 12))
    whole = run(maps, guides)
    reach = LabelDeflicker().reach_frames
    part = run(maps[8 - reach :], guides[8 - reach :])[reach:]
    for a, b in zip(whole[8:], part, strict=True):
        np.testing.assert_array_equal(a, b)


def test_off_gives_every_map_back():
    _, maps, guides = still(5, flicker=(2,))
    for a, b in zip(run(maps, guides, method="off"), maps, strict=True):
        assert a is b
    assert LabelDeflicker(LabelDeflickerConfig(method="off")).reach_frames == 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"radius": 0}, "radius"), ({"tolerance": 0.0}, "tolerance"), ({"method": "x"}, "method")],
)
def test_wrong_settings_are_named(wrong, message):
    with pytest.raises(ConfigError, match=message):
        LabelDeflickerConfig(**wrong)


def test_wrong_maps_and_guides_are_named():
    _, maps, guides = still(1)
    with pytest.raises(ConfigError, match="label maps"):
        run([maps[0].astype(np.int32)], guides)
    with pytest.raises(ConfigError, match="guide of a label map"):
        run(maps, [guides[0][:10]])
