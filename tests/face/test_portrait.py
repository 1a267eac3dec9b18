"""The square of FFHQ and CelebA-HQ, and what it shows outside the picture."""

import cv2
import numpy as np
import pytest

from facegan.errors import DataError
from facegan.face.align import (
    compose_matrices,
    extract_crop,
    face_mask,
    invert_matrix,
    paste_back,
    transform_points,
)
from facegan.face.landmarks import MEAN_SHAPE, flip_landmarks
from facegan.face.portrait import (
    PortraitPath,
    extract_portrait,
    plan_portraits,
    portrait_matrix,
    portrait_side_px,
)
from facegan.image import read_image, resize


def landmarks_of(right_eye, left_eye, right_corner, left_corner):
    """68 points whose eyes and mouth corners stand at the given places."""
    xy = np.zeros((68, 2))
    # Six points of an eye whose mean is its middle.
    ring = np.array([[-3, 0], [-1, -1], [1, -1], [3, 0], [1, 1], [-1, 1]])
    xy[36:42], xy[42:48] = ring + right_eye, ring + left_eye
    xy[48], xy[54] = right_corner, left_corner
    return xy


def turned(degrees, scale=1.0, shift=(0.0, 0.0)):
    """A similarity that turns clockwise as it is seen, rows counting downwards."""
    c, s = np.cos(np.radians(degrees)) * scale, np.sin(np.radians(degrees)) * scale
    return np.array([[c, -s, shift[0]], [s, c, shift[1]]])


def test_an_upright_face_by_hand():
    xy = landmarks_of((80, 100), (120, 100), (86, 140), (114, 140))
    # x' = (40, 0), y' = (0, -40), c = (100, 104), s = max(160, 144) = 160: from 24 to 184 in x.
    matrix = portrait_matrix(xy, 64)
    np.testing.assert_allclose(matrix, [[0.4, 0, 31.5 - 40], [0, 0.4, 31.5 - 41.6]], atol=1e-12)
    assert portrait_side_px(matrix, 64) == pytest.approx(160)
    # The square's edges lie half a pixel outside the first and last centre.
    corners = transform_points(invert_matrix(matrix), np.array([[-0.5, -0.5], [63.5, 63.5]]))
    np.testing.assert_allclose(corners, [[20, 24], [180, 184]])


def test_the_longer_of_both_distances_decides_the_side():
    wide = landmarks_of((80, 100), (120, 100), (86, 135), (114, 135))
    long = landmarks_of((80, 100), (120, 100), (86, 150), (114, 150))
    assert portrait_side_px(portrait_matrix(wide, 64), 64) == pytest.approx(4.0 * 40)
    assert portrait_side_px(portrait_matrix(long, 64), 64) == pytest.approx(3.6 * 50)


def test_a_turned_head_is_levelled_between_eyes_and_mouth():
    # The eyes are level, the mouth stands to the left: x' = (40, 0), y' = (10, -40), and
    # x' - rotate90(y') = (40, 0) - (-40, -10) = (80, 10).
    xy = landmarks_of((80, 100), (120, 100), (76, 140), (104, 140))
    matrix = portrait_matrix(xy, 64)
    assert matrix[0, 1] / matrix[0, 0] == pytest.approx(10 / 80)
    # c = (100, 100) - 0.1 y' = (99, 104) is the middle of the portrait.
    middle = transform_points(matrix, np.array([[99.0, 104.0]]))
    np.testing.assert_allclose(middle, [[31.5, 31.5]])
    assert portrait_side_px(matrix, 64) == pytest.approx(4.0 * 40)


@pytest.mark.parametrize("degrees", [0, 30, 90, 150, 180, 270])
def test_every_face_comes_out_upright(degrees):
    face = MEAN_SHAPE.astype(np.float64) * 100
    upright = portrait_matrix(face, 128)
    change = turned(degrees, 1.7, (40, -20))
    matrix = portrait_matrix(transform_points(change, face), 128)
    # Whatever was done to the picture, the portrait is the same.
    np.testing.assert_allclose(compose_matrices(matrix, change), upright, atol=1e-9)
    xy = transform_points(matrix, transform_points(change, face))
    eyes, mouth, chin, nose = xy[36:48], xy[48:68], xy[8], xy[30]
    assert eyes[:, 1].max() < nose[1] < mouth[:, 1].min() < chin[1]
    # The person's right eye is at the left, as in any picture that is not mirrored.
    assert eyes[:6, 0].max() < 64 < eyes[6:, 0].min()
    assert np.linalg.det(matrix[:, :2]) > 0
    np.testing.assert_allclose(eyes.mean(axis=0)[0], 63.5, atol=0.5)


def test_a_mirrored_picture_gives_the_mirrored_portrait():
    rng = np.random.default_rng(1)
    face = MEAN_SHAPE * 100 + rng.normal(0, 3, (68, 2)) + 50
    plain = transform_points(portrait_matrix(face, 128), face)
    mirrored = flip_landmarks(face, 300)
    there = transform_points(portrait_matrix(mirrored, 128), mirrored)
    np.testing.assert_allclose(there, flip_landmarks(plain, 128), atol=1e-9)


def test_wrong_landmarks_are_refused():
    for wrong in (np.zeros((5, 2)), np.full((68, 2), np.nan)):
        with pytest.raises(DataError, match="finite landmarks"):
            portrait_matrix(wrong, 64)
    with pytest.raises(DataError, match="no direction"):
        portrait_matrix(np.ones((68, 2)), 64)


def test_a_celeba_hq_picture_is_aligned_already(media_dir, dlib_detector):
    # Their landmarks were set by hand on the pupils, so single pictures differ by some per cent.
    # A wrong sign or constant would show in the mean: of turn, side, and place.
    found = []
    for path in sorted((media_dir / "portraits").rglob("*.jpg")):
        image = resize(read_image(path), 512, 512)
        matrix = portrait_matrix(dlib_detector.detect(image)[0].landmarks_xy_px, 512)
        back = invert_matrix(matrix)
        middle = transform_points(back, np.array([[255.5, 255.5]]))[0] - 255.5
        turn = np.degrees(np.arctan2(back[1, 0], back[0, 0]))
        found.append((turn, portrait_side_px(matrix, 512) / 512 - 1, *(middle / 512)))
    assert len(found) == 16
    turn, side, x, y = np.abs(np.mean(found, axis=0))
    assert turn < 0.5 and side < 0.025 and x < 0.005 and y < 0.015
    assert np.abs(found).max(axis=0)[0] < 4 and np.abs(found)[:, 1:].max() < 0.07


def noise(height, width, seed=0):
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return cv2.GaussianBlur(image, (0, 0), 2.0)


def inside(matrix, image, size):
    """Which portrait pixels' centres lie on the picture."""
    x, y = np.meshgrid(np.arange(size), np.arange(size))
    xy = transform_points(invert_matrix(matrix), np.stack([x, y], axis=-1).astype(float))
    low, high = -0.5, np.array(image.shape[1::-1]) - 0.5
    return ((xy >= low) & (xy <= high)).all(axis=-1)


@pytest.mark.parametrize("degrees", [0, -35])
def test_what_lies_in_the_picture_is_the_crop(degrees):
    image = noise(200, 300)
    matrix = turned(degrees, 1.3, (30, 20))
    seen = inside(matrix, image, 96)
    assert 0.2 < seen.mean() < 0.9
    crop = extract_crop(image, matrix, 96)
    np.testing.assert_array_equal(extract_portrait(image, matrix, 96)[seen], crop[seen])


def test_where_it_shrinks_the_crop_of_twice_the_size_is_halved():
    image = noise(200, 300)
    matrix = turned(20, 0.7, (10, 10))
    seen = inside(matrix, image, 96)
    assert 0.2 < seen.mean() < 0.9
    twice = compose_matrices(np.array([[2.0, 0, 0.5], [0, 2.0, 0.5]]), matrix)
    halved = resize(extract_crop(image, twice, 192), 96, 96)
    np.testing.assert_array_equal(extract_portrait(image, matrix, 96)[seen], halved[seen])
    # In the same place as the crop: only what is finer than its pixels differs.
    assert np.abs(halved.astype(int) - extract_crop(image, matrix, 96))[seen].mean() < 5


def test_a_portrait_that_shrinks_does_not_alias_and_stays_in_place():
    image = np.zeros((256, 256, 3), np.uint8)
    image[:, ::2] = 255
    matrix = compose_matrices(turned(3, 0.25), [[1, 0, -20], [0, 1, -28]])
    assert np.abs(extract_portrait(image, matrix, 48).astype(int) - 127).max() <= 16
    blob = np.zeros((256, 256, 3), np.uint8)
    cv2.circle(blob, (131 * 16 + 5, 117 * 16 + 3), 20 * 16, (255, 255, 255), -1, cv2.LINE_AA, 4)
    portrait = extract_portrait(blob, matrix, 48)[..., 0].astype(float)
    y, x = np.indices(portrait.shape)
    centre = ((x * portrait).sum() / portrait.sum(), (y * portrait).sum() / portrait.sum())
    expected = transform_points(matrix, np.array([131 + 5 / 16, 117 + 3 / 16]))
    np.testing.assert_allclose(centre, expected, atol=0.05)


def test_outside_is_mirrored_then_blurred_then_the_median():
    # Stripes whose mirror image can be told from the repeated border.
    image = np.full((200, 200, 3), 90, np.uint8)
    image[:, :6] = (200, 120, 40)
    image[:, 6:9] = 0
    matrix = np.array([[1.0, 0, 60], [0, 1.0, 0]])
    portrait = extract_portrait(image, matrix, 200).astype(int)
    np.testing.assert_array_equal(portrait[:, 60:], image[:, :140])
    # Close to the edge it is the mirror image nearly as it was.
    assert np.abs(portrait[:, 58:60] - (200, 120, 40)).max() < 25
    # The further out, the less is left of the stripes: the fade is 0.1 * 200 + 60 = 80 wide.
    far = np.abs(portrait - 90).max(axis=(0, 2))[:60]
    assert far[59] > 100 and far[40] < 20 and far[0] <= 1
    assert (np.diff(portrait[100, :40, 0]) >= 0).all()


def test_fine_detail_is_gone_outside_before_the_colours_are():
    image = np.full((200, 200, 3), (180, 90, 40), np.uint8)
    image[::4], image[1::4] = 20, 20
    image[:, 100:] = 128
    portrait = extract_portrait(image, np.array([[1.0, 0, 60], [0, 1.0, 0]]), 200).astype(int)
    contrast = np.ptp(portrait[50:150, :, 0], axis=0)
    assert contrast[59] > 100 and contrast[:50].max() < 8
    # At a quarter of the fade's width the mean of the stripes is still three quarters itself.
    assert portrait[100, 40, 0] == pytest.approx(0.75 * 100 + 0.25 * 128, abs=6)
    assert (np.diff(contrast[46:60]) >= 0).all()


def test_blur_and_fade_grow_with_the_distance():
    image = noise(256, 256, seed=3)
    matrix = np.array([[1.0, 0, 100], [0, 1.0, 0]])
    portrait = extract_portrait(image, matrix, 256).astype(int)
    median = np.median(portrait[:, 100:], axis=(0, 1))
    spread = np.abs(portrait - median).mean(axis=(0, 2))
    bands = [spread[start : start + 10].mean() for start in (0, 30, 60, 88)]
    assert bands[0] < bands[1] < bands[2] < bands[3] < spread[100:].mean()
    # It never jumps: neighbours across the edge differ no more than inside.
    steps = np.abs(np.diff(portrait, axis=1)).mean(axis=(0, 2))
    assert steps[98:101].max() <= 1.2 * steps[101:].max()


@pytest.mark.parametrize("scale", [0.3, 0.7, 1.0, 2.0])
def test_a_small_picture_is_mirrored_as_often_as_it_takes(scale):
    ramp = np.linspace(0, 255, 60).astype(np.uint8)
    image = np.repeat(np.repeat(ramp[None, :, None], 60, axis=0), 3, axis=2)
    size = 128
    matrix = np.array([[scale, 0, 100.0], [0, scale, 20.0]])
    crop = extract_crop(image, matrix, size, mirror=True)[..., 0].astype(int)
    place = (np.arange(size) - 100.0) / scale
    folded = np.abs((place + 0.5) % 120 - 0.5)
    folded = np.where(folded > 59.5, 119 - folded, folded)
    expected = np.interp(folded, np.arange(60), ramp)
    row = crop[min(size - 1, int(20 + 30 * scale))]
    # Away from the folds, which area sampling rounds off.
    plain = (folded > 3 / scale) & (folded < 59 - 3 / scale)
    assert plain.sum() > 20
    np.testing.assert_allclose(row[plain], expected[plain], atol=4)


def test_a_portrait_beside_its_picture_is_refused():
    with pytest.raises(DataError, match="wholly outside its picture of 50x40"):
        extract_portrait(noise(40, 50), np.array([[1.0, 0, 500], [0, 1.0, 0]]), 64)


def test_a_real_face_stands_where_ffhq_has_it_and_goes_back(portrait, portrait_face):
    matrix = portrait_matrix(portrait_face.landmarks_xy_px, 256)
    xy = transform_points(matrix, portrait_face.landmarks_xy_px) / 256
    assert 0.34 < xy[36:42, 0].mean() < 0.42 and 0.58 < xy[42:48, 0].mean() < 0.66
    assert 0.42 < xy[36:48, 1].mean() < 0.5 and 0.65 < xy[[48, 54], 1].mean() < 0.75
    cut = extract_portrait(portrait, matrix, 256)
    mask = face_mask(transform_points(matrix, portrait_face.landmarks_xy_px), 256)
    back = paste_back(portrait, cut, invert_matrix(matrix), mask, colour_match=False)
    difference = np.abs(back.astype(int) - portrait)
    changed = difference.any(axis=-1)
    assert changed.any() and difference[changed].mean() < 4
    # A pixel's shift would cost more than that.
    wrong = compose_matrices(np.array([[1.0, 0, 2], [0, 1, 0]]), matrix)
    moved = paste_back(portrait, cut, invert_matrix(wrong), mask, colour_match=False)
    assert np.abs(moved.astype(int) - portrait)[changed].mean() > 1.5 * difference[changed].mean()


def every(count):
    return np.ones(count, bool)


def moving(count, step=(1.5, -0.8), degrees=0.6, growth=0.004):
    """A face that goes, turns and comes nearer, by as much in every frame."""
    # Around the middle of its portrait, which then goes straight on.
    face = MEAN_SHAPE * 100.0 - invert_matrix(portrait_matrix(MEAN_SHAPE * 100.0, 1))[:, 2]
    changes = [
        turned(n * degrees, np.exp(n * growth), (50 + n * step[0], 80 + n * step[1]))
        for n in range(count)
    ]
    return np.stack([transform_points(change, face) for change in changes])


def assert_follows(path, landmarks, atol, frames=None):
    """The portraits of these frames are those of their faces, to a pixel of 256 times ``atol``."""
    corners = np.array([[0.0, 0], [255, 0], [0, 255], [255, 255]])
    for n in range(len(landmarks)) if frames is None else frames:
        back = invert_matrix(path.crop_matrix(n, 256))
        seen = transform_points(portrait_matrix(landmarks[n], 256), transform_points(back, corners))
        np.testing.assert_allclose(seen, corners, atol=atol)


@pytest.mark.parametrize("count", [1, 2, 40])
@pytest.mark.parametrize("degrees", [0, -35, 120, 180])
def test_a_still_face_has_its_portrait_in_every_frame(count, degrees):
    face = transform_points(turned(degrees, 1.7, (140, 90)), MEAN_SHAPE * 100.0)
    path = plan_portraits(np.repeat(face[None], count, axis=0), every(count))
    assert path.matrices.shape == (count, 2, 3)
    for size in (1, 64, 255, 256):
        for index in range(count):
            matrix = path.crop_matrix(index, size)
            np.testing.assert_allclose(matrix, portrait_matrix(face, size), atol=1e-6)


def test_a_steady_move_is_followed_to_both_ends():
    landmarks = moving(90)
    path = plan_portraits(landmarks, every(90))
    assert_follows(path, landmarks, 0.01)


def test_a_turn_beyond_upside_down_goes_the_short_way():
    landmarks = moving(60, degrees=8.0, growth=0.0)
    assert_follows(plan_portraits(landmarks, every(60)), landmarks, 0.01)
    landmarks = moving(60, degrees=-8.0, growth=0.0)
    assert_follows(plan_portraits(landmarks, every(60)), landmarks, 0.01)


def test_without_smoothing_each_portrait_is_that_of_its_frame():
    rng = np.random.default_rng(5)
    landmarks = moving(12) + rng.normal(0, 2.0, (12, 68, 2))
    assert_follows(plan_portraits(landmarks, every(12), smooth_frames=0.0), landmarks, 1e-6)


def test_jitter_is_smoothed():
    rng = np.random.default_rng(6)
    still = np.repeat(moving(1), 400, axis=0)
    shaking = still + rng.normal(0, 1.5, (400, 1, 2))  # the face as a whole

    def spread(smooth_frames):
        path = plan_portraits(shaking, every(400), smooth_frames)
        centres = [invert_matrix(path.crop_matrix(n, 1))[:, 2] for n in range(400)]
        return np.sqrt(np.mean(np.var(centres, axis=0)))

    # White noise smoothed by a Gaussian of s frames: 1 / sqrt(2 sqrt(pi) s) of it is left.
    for smooth_frames in (2.0, 6.0):
        left = 1.5 / np.sqrt(2 * np.sqrt(np.pi) * smooth_frames)
        assert spread(smooth_frames) == pytest.approx(left, rel=0.25)


def test_gaps_are_bridged_between_the_faces_around_them():
    landmarks = moving(60)
    present = every(60)
    present[[*range(8, 13), *range(20, 32)]] = False
    path = plan_portraits(np.where(present[:, None, None], landmarks, np.nan), present)
    assert_follows(path, landmarks, 0.01)
    # What stands in frames without a face does not count.
    wrong = np.where(present[:, None, None], landmarks, 7.0)
    np.testing.assert_array_equal(plan_portraits(wrong, present).matrices, path.matrices)


def test_before_the_first_face_and_after_the_last_those_stay():
    landmarks = moving(60, growth=0.0)
    present = every(60)
    present[:10] = present[-10:] = False
    path = plan_portraits(np.where(present[:, None, None], landmarks, np.nan), present)
    assert_follows(path, landmarks, 0.01, range(16, 44))
    held = landmarks.copy()
    held[:10], held[-10:] = landmarks[10], landmarks[-11]
    assert_follows(path, held, 0.01, [*range(4), *range(56, 60)])


def test_one_face_in_a_clip_is_enough_and_none_is_not():
    landmarks = np.full((5, 68, 2), np.nan)
    with pytest.raises(DataError, match="None of the 5 frames has a face, so none has a portrait"):
        plan_portraits(landmarks, ~every(5))
    landmarks[3] = moving(1)[0]
    present = np.arange(5) == 3
    path = plan_portraits(landmarks, present)
    for index in range(5):
        expected = portrait_matrix(landmarks[3], 64)
        np.testing.assert_allclose(path.crop_matrix(index, 64), expected, atol=1e-6)


def test_the_side_does_not_pump_with_the_mouth():
    # A long face, so that the mouth decides the side, opens and closes its mouth every few frames.
    landmarks = np.repeat((MEAN_SHAPE * (100.0, 130.0))[None], 240, axis=0)
    opened = 5.0 * (1 - np.cos(2 * np.pi * np.arange(240) / 8))
    landmarks[:, 48:, 1] += opened[:, None]
    alone = [portrait_side_px(portrait_matrix(xy, 256), 256) for xy in landmarks]
    assert np.ptp(alone) == pytest.approx(36.0)
    path = plan_portraits(landmarks, every(240))
    sides = np.array([portrait_side_px(path.crop_matrix(n, 256), 256) for n in range(240)])
    assert np.ptp(sides[80:160]) < 0.01 * np.ptp(alone)
    assert sides[80:160].mean() == pytest.approx(np.mean(alone), rel=0.01)
    assert np.abs(np.diff(sides)).max() < 0.1 * np.abs(np.diff(alone)).max()


def test_a_frames_portrait_is_cut_out_of_it():
    image = noise(300, 400)
    path = plan_portraits(moving(8), every(8))
    assert isinstance(path, PortraitPath)
    for index, size in ((0, 64), (7, 128)):
        matrix = path.crop_matrix(index, size)
        expected = extract_portrait(image, matrix, size)
        np.testing.assert_array_equal(path.extract(image, index, size), expected)
