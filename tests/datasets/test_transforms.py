import dataclasses

import cv2
import numpy as np
import pytest

from facegan.datasets import transforms
from facegan.datasets.transforms import Augmentation, AugmentConfig
from facegan.errors import ConfigError
from facegan.face.landmarks import FLIP_ORDER, MEAN_SHAPE, resize_landmarks

SIZE = 64


def _blob(xy, size=SIZE):
    """A soft round spot whose centre of mass is at xy."""
    y, x = np.mgrid[:size, :size]
    spot = np.exp(-((x - xy[0]) ** 2 + (y - xy[1]) ** 2) / (2 * 2.5**2))
    return np.repeat((spot * 255).astype(np.uint8)[..., None], 3, axis=-1)


def _centre_of_mass(image):
    weight = image[..., 0].astype(np.float64)
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    return np.array([(x * weight).sum(), (y * weight).sum()]) / weight.sum()


def _face(size=SIZE):
    return (MEAN_SHAPE * 0.6 + 0.2).astype(np.float32) * size


def test_the_same_arguments_give_the_same_draw_and_others_give_others():
    config = AugmentConfig(probability=1.0)
    draws = {
        transforms.sample_augmentation(config, seed, number)
        for seed in (0, 1)
        for number in (0, 1, 2**40)
    }
    assert len(draws) == 6
    again = transforms.sample_augmentation(config, 1, 2**40)
    assert again in draws


def test_draws_fill_their_ranges_and_stay_inside():
    config = AugmentConfig(
        probability=1.0,
        shift=0.1,
        scale=0.2,
        rotation_deg=10,
        brightness=0.1,
        contrast=0.3,
        saturation=0.4,
    )
    draws = [transforms.sample_augmentation(config, 3, number) for number in range(400)]
    for values, middle, limit in (
        ([d.shift_xy[0] for d in draws], 0, 0.1),
        ([d.shift_xy[1] for d in draws], 0, 0.1),
        ([d.scale for d in draws], 1, 0.2),
        ([d.rotation_deg for d in draws], 0, 10),
        ([d.brightness for d in draws], 0, 0.1),
        ([d.contrast for d in draws], 1, 0.3),
        ([d.saturation for d in draws], 1, 0.4),
    ):
        away = np.array(values) - middle
        assert np.abs(away).max() <= limit
        assert away.max() > 0.9 * limit and away.min() < -0.9 * limit
        assert abs(away.mean()) < 0.15 * limit


def test_probability_is_the_share_of_moved_examples():
    config = AugmentConfig(probability=0.3)
    draws = [transforms.sample_augmentation(config, 0, number) for number in range(1000)]
    still = [dataclasses.replace(draw, choice_key=None) == Augmentation() for draw in draws]
    assert 0.65 < np.mean(still) < 0.75


def test_switching_one_amount_off_leaves_the_others_as_they_were():
    both = transforms.sample_augmentation(AugmentConfig(probability=1.0), 0, 5)
    less = transforms.sample_augmentation(AugmentConfig(probability=1.0, shift=0.0), 0, 5)
    assert less.shift_xy == (0, 0)
    assert (less.scale, less.rotation_deg) == (both.scale, both.rotation_deg)


def test_draws_are_those_of_earlier_versions():
    # Written down before saturation and zoom were drawn; runs of that time go on as they began.
    config = AugmentConfig(probability=1.0, brightness=0.1, contrast=0.3, flip=True)
    draw = transforms.sample_augmentation(config, 7, 11)
    assert not draw.flip
    assert draw.shift_xy == pytest.approx((-0.02729076942395, 0.02307459229696), abs=1e-12)
    assert draw.scale == pytest.approx(0.95656277465608, abs=1e-12)
    assert draw.contrast == pytest.approx(1.13994557284999, abs=1e-12)


def test_zoom_shows_parts_that_fill_the_frame():
    config = AugmentConfig(probability=1.0, shift=0, scale=0, rotation_deg=0, zoom=2.0)
    draws = [transforms.sample_augmentation(config, 5, number) for number in range(400)]
    scales = np.array([draw.scale for draw in draws])
    assert scales.min() >= 1 and scales.max() <= 2
    assert np.log2(scales).mean() == pytest.approx(0.5, abs=0.05)  # ratios alike
    labels = np.ones((SIZE, SIZE), np.uint8)
    labels[: SIZE // 8] = 2
    labels[-SIZE // 8 :] = 3
    seen = [draw.apply_to_labels(labels, outside=0) for draw in draws]
    assert all(view.min() > 0 for view in seen)
    # Parts with the upper end, with the lower end, with both, with none.
    views = {tuple(np.unique(view).tolist()) for view in seen}
    assert views == {(1, 2), (1, 3), (1, 2, 3), (1,)}


def test_flip_happens_only_where_asked_for_and_to_about_half():
    def flips(flip):
        config = AugmentConfig(probability=1.0, flip=flip)
        return np.mean([transforms.sample_augmentation(config, 0, n).flip for n in range(400)])

    assert flips(False) == 0
    assert 0.4 < flips(True) < 0.6


@pytest.mark.parametrize("number", range(6))
def test_landmarks_follow_the_picture(number):
    config = AugmentConfig(
        probability=1.0, shift=0.1, scale=0.2, rotation_deg=20, landmark_jitter=0.0
    )
    draw = transforms.sample_augmentation(config, 1, number)
    landmarks = _face()
    moved = draw.apply_to_landmarks(landmarks, SIZE, SIZE)
    for point in (30, 40):
        spot = _centre_of_mass(draw.apply_to_image(_blob(landmarks[point])))
        np.testing.assert_allclose(moved[point], spot, atol=0.15)


def test_a_flip_swaps_the_points_of_the_two_sides():
    draw = Augmentation(flip=True)
    landmarks = _face() + np.arange(68)[:, None] * 0.1
    moved = draw.apply_to_landmarks(landmarks, SIZE, SIZE)
    expected = landmarks[FLIP_ORDER].copy()
    expected[:, 0] = SIZE - 1 - expected[:, 0]
    np.testing.assert_allclose(moved, expected, atol=1e-4)
    image = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    np.testing.assert_array_equal(draw.apply_to_image(image), image[:, ::-1])


def test_no_augmentation_returns_the_very_values():
    image = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    np.testing.assert_array_equal(Augmentation().apply_to_image(image), image)
    np.testing.assert_array_equal(Augmentation().apply_to_landmarks(_face(), SIZE, SIZE), _face())


def test_jitter_has_the_asked_size_and_comes_from_the_number_alone():
    config = AugmentConfig(probability=1.0, shift=0, scale=0, rotation_deg=0, landmark_jitter=0.01)
    moves = [
        transforms.sample_augmentation(config, 0, n).apply_to_landmarks(_face(), SIZE, SIZE)
        - _face()
        for n in range(30)
    ]
    assert np.std(moves) == pytest.approx(0.01 * SIZE, rel=0.05)
    assert abs(np.mean(moves)) < 0.05
    draw = transforms.sample_augmentation(config, 0, 4)
    np.testing.assert_array_equal(
        draw.apply_to_landmarks(_face(), SIZE, SIZE), draw.apply_to_landmarks(_face(), SIZE, SIZE)
    )


def test_labels_move_with_the_picture_and_stay_labels():
    draw = Augmentation(shift_xy=(0.25, 0.0), rotation_deg=7)
    labels = np.full((SIZE, SIZE), 3, np.uint8)
    labels[20:40, 10:30] = 9
    moved = draw.apply_to_labels(labels, outside=7)
    assert set(np.unique(moved)) == {3, 7, 9}
    spot = np.repeat((moved == 9).astype(np.uint8)[..., None], 3, axis=-1)
    matrix = draw.matrix(SIZE, SIZE)
    expected = matrix[:, :2] @ (19.5, 29.5) + matrix[:, 2]
    np.testing.assert_allclose(_centre_of_mass(spot), expected, atol=0.3)


def test_brightness_and_contrast_work_around_mid_grey():
    image = np.array([[[0, 100, 255]]], np.uint8)
    bright = Augmentation(brightness=0.1).apply_to_image(image)
    np.testing.assert_array_equal(bright[0, 0], [26, 126, 255])  # + 25.5, rounded to even
    flat = Augmentation(contrast=0.5).apply_to_image(image)
    np.testing.assert_array_equal(flat[0, 0], [64, 114, 191])


def test_saturation_moves_away_from_grey():
    image = np.array([[[200, 100, 50], [90, 90, 90]]], np.uint8)
    grey = 0.299 * 200 + 0.587 * 100 + 0.114 * 50
    for saturation in (0.0, 0.5, 1.4):
        out = Augmentation(saturation=saturation).apply_to_image(image)
        expected = np.rint(grey + (np.array([200, 100, 50]) - grey) * saturation)
        np.testing.assert_array_equal(out[0, 0], np.clip(expected, 0, 255))
        np.testing.assert_array_equal(out[0, 1], [90, 90, 90])


@pytest.mark.parametrize("to", [(32, 32), (128, 128), (32, 128)])
def test_resized_landmarks_stay_on_the_resized_picture(to):
    landmarks = _face()
    moved = resize_landmarks(landmarks, (SIZE, SIZE), to)
    image = cv2.resize(_blob(landmarks[30]), (to[1], to[0]), interpolation=cv2.INTER_AREA)
    np.testing.assert_allclose(moved[30], _centre_of_mass(image), atol=0.1)


def test_config_refuses_amounts_out_of_range():
    with pytest.raises(ConfigError, match=r"augment\.scale must lie in \[0, 0\.5\], got 0\.9"):
        AugmentConfig(scale=0.9)
    with pytest.raises(ConfigError, match=r"augment\.shift"):
        AugmentConfig(shift=-0.1)
    with pytest.raises(ConfigError, match=r"augment\.zoom must lie in \[1, 4\], got 0\.5"):
        AugmentConfig(zoom=0.5)


@pytest.mark.parametrize("seed", range(5))
def test_the_warp_moves_picture_and_landmarks_together(seed):
    size = 128
    config = AugmentConfig(probability=1.0, warp=0.01, landmark_jitter=0.0)
    draw = transforms.sample_augmentation(config, seed, 7)
    face = _face(size)
    moved = draw.apply_to_landmarks(face, size, size)
    affine = face @ draw.matrix(size, size)[:, :2].T + draw.matrix(size, size)[:, 2]
    assert np.linalg.norm(moved - affine, axis=-1).max() > 0.8
    # A picture whose colours are its own coordinates: under a moved point stands the colour of
    # the place it came from.
    rows, columns = np.mgrid[:size, :size] * 2
    coordinates = np.stack([columns, rows, rows], axis=-1).astype(np.uint8)
    under = cv2.remap(
        draw.apply_to_image(coordinates), moved[:, None, 0], moved[:, None, 1], cv2.INTER_LINEAR
    )
    np.testing.assert_allclose(under[:, 0, :2] / 2, face, atol=0.75)


def test_the_warp_bends_differently_each_time_and_leaves_the_border():
    config = AugmentConfig(
        probability=1.0, shift=0.0, scale=0.0, rotation_deg=0.0, landmark_jitter=0.0, warp=0.02
    )
    ramp = np.repeat(np.arange(64, dtype=np.uint8)[None, :, None] * 4, 64, axis=0)
    ramp = np.repeat(ramp, 3, axis=2)
    first, second = (
        transforms.sample_augmentation(config, 0, number).apply_to_image(ramp) for number in (0, 1)
    )
    assert np.abs(first.astype(int) - second).max() > 4
    for side in (first[0], first[-1], first[:, 0], first[:, -1]):
        assert np.abs(np.diff(side[:, 0].astype(int))).max() <= 12
    assert np.abs(first[:, 0].astype(int) - ramp[:, 0]).max() <= 8
