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


@pytest.mark.parametrize("frames", [1, 2, 3])
@pytest.mark.parametrize("shown", [(40, 5, 10), (225, 180, 160)])  # an open mouth; a lid
def test_a_change_of_the_picture_keeps_its_label(frames, shown):
    """A mouth that opens, or an eye that closes, for a frame or two is no flicker."""
    _, maps, guides = still(11)
    for index in range(4, 4 + frames):
        guides[index] = guides[index].copy()
        guides[index][50:62, 35:55] = shown
        maps[index][50:62, 35:55] = 10
    out = run(maps, guides)
    for index, label_map in enumerate(out):
        inner = label_map[53:59, 38:52]
        assert (inner == 10).mean() > 0.95 if 4 <= index < 4 + frames else not (inner == 10).any()
        assert (label_map != maps[index]).mean() < 0.01


def test_labels_that_flicker_for_two_frames_are_voted_away():
    base, maps, guides = still(9, flicker=(4, 5))
    for label_map in run(maps, guides, radius=3):
        np.testing.assert_array_equal(label_map, base)


@pytest.mark.parametrize("speed", [1, 4, 8])
@pytest.mark.parametrize("contrast", [4, 12])
def test_what_is_covered_or_comes_into_view_keeps_its_label(speed, contrast):
    """A bar moves over a background that looks much like it."""
    back, bar = (texture(seed)[:SIZE, :SIZE] // contrast + 90 for seed in (4, 5))
    maps, guides = [], []
    for index in range(6):
        columns = slice(8 + speed * index, 38 + speed * index)
        guide, label_map = back.copy(), np.zeros((SIZE, SIZE), np.uint8)
        guide[:, columns], label_map[:, columns] = bar[:, :30], 3
        maps.append(label_map)
        guides.append(guide)
    for label_map, given_map in zip(run(maps, guides), maps, strict=True):
        # Without the votes of both sides, by colour alone, up to a tenth is wrong at the ends.
        assert np.mean(label_map != given_map) < 0.002


def test_a_border_stays_where_it_is_between_pixels():
    """Movements of parts of a pixel do not push a border into their direction."""
    big = texture(7)
    maps, guides = [], []
    for index in range(9):
        shift = 0.4 * index
        matrix = np.array([[1, 0, shift - 40], [0, 1, -40]], np.float32)
        guides.append(cv2.warpAffine(big, matrix, (SIZE, SIZE)))
        label_map = np.zeros((SIZE, SIZE), np.uint8)
        label_map[:, round(30.2 + shift) : round(60.2 + shift)] = 2
        maps.append(label_map)
    for label_map, given_map in zip(run(maps, guides), maps, strict=True):
        assert np.mean(label_map != given_map) < 0.003  # one border by one pixel is 0.0104


def test_a_cut_between_scenes_is_found_in_the_picture():
    _, maps, guides = still(6)
    other = texture(9)[:SIZE, :SIZE]
    swapped = np.where(maps[0] == 1, 7, 4).astype(np.uint8)
    out = run([*maps, *[swapped] * 6], [*guides, *[other] * 6])
    for label_map, given_map in zip(out, [*maps, *[swapped] * 6], strict=True):
        np.testing.assert_array_equal(label_map, given_map)


def test_a_dim_change_is_a_change():
    """A shadow between the lips, hardly darker than they are."""
    dim = texture()[:SIZE, :SIZE] // 4 + 120
    maps, guides = [np.ones((SIZE, SIZE), np.uint8) for _ in range(9)], [dim] * 9
    for index in (4, 5):
        guides[index] = dim.copy()
        guides[index][50:62, 35:55] -= 25
        maps[index][50:62, 35:55] = 10
    out = run(maps, guides)
    for index in (4, 5):
        assert (out[index][50:62, 35:55] == 10).mean() > 0.8


def test_a_change_of_colour_alone_is_a_change():
    """As dark as before, so no movement can be found in it."""
    red, green = (200, 50, 50), (0, 162, 1)
    guides = [np.full((SIZE, SIZE, 3), red, np.uint8) for _ in range(9)]
    maps = [np.ones((SIZE, SIZE), np.uint8) for _ in range(9)]
    guides[4][50:62, 35:55], maps[4][50:62, 35:55] = green, 10
    greys = [int(cv2.cvtColor(np.uint8([[c]]), cv2.COLOR_RGB2GRAY)[0, 0]) for c in (red, green)]
    assert greys[0] == greys[1]
    for label_map, given_map in zip(run(maps, guides), maps, strict=True):
        np.testing.assert_array_equal(label_map, given_map)


@pytest.mark.parametrize("speed", [3, 6])
def test_what_flickers_while_it_moves_is_voted_away(speed):
    big, shapes = texture(3), np.zeros((2 * SIZE, 2 * SIZE), np.uint8)
    for column in range(20, 2 * SIZE, 45):
        cv2.circle(shapes, (column, 48), 14, 3, -1)
    windows = [np.s_[:SIZE, speed * index : speed * index + SIZE] for index in range(11)]
    guides = [np.ascontiguousarray(big[window]) for window in windows]
    maps = [shapes[window].copy() for window in windows]
    for label_map, given_map in zip(run(maps, guides), maps, strict=True):
        assert np.mean(label_map != given_map) < 0.001
    flickering = [label_map.copy() for label_map in maps]
    flickering[4][40:56] = flickering[5][40:56] = 7
    out = run(flickering, guides, radius=4)
    inner = np.s_[40:56, 4 * speed : -4 * speed]  # not in view all the time outside of it
    for index in (4, 5):
        assert np.mean(out[index][inner] != maps[index][inner]) < 0.1


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


def test_memory_does_not_grow_with_the_stream():
    """A frame is given out as soon as it can be, and none is asked for before it is needed."""
    _, maps, guides = still(1)
    asked = []

    def stream():
        for index in range(40):
            asked.append(index)
            yield index, maps[0], guides[0]

    for item, _ in LabelDeflicker(LabelDeflickerConfig(radius=3)).filter(stream()):
        assert len(asked) == min(item + 4, 40)


def test_a_change_of_size_is_a_cut():
    _, maps, guides = still(8)
    small = [m[:64, :48] for m in maps], [g[:64, :48] for g in guides]
    out = run([*maps[:4], *small[0][4:]], [*guides[:4], *small[1][4:]])
    assert [m.shape for m in out] == [(SIZE, SIZE)] * 4 + [(64, 48)] * 4


@pytest.mark.parametrize("height, width", [(9, 7), (300, 200)])
def test_small_and_large_maps(height, width):
    guide = cv2.resize(texture(), (width, height))
    base = np.zeros((height, width), np.uint8)
    base[: height // 2] = 1
    maps = [base.copy() for _ in range(7)]
    maps[3][-2:] = 9
    for label_map in run(maps, [guide] * 7):
        np.testing.assert_array_equal(label_map, base)


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
