"""Similarity transforms, crops and pasting back."""

import cv2
import numpy as np
import pytest

from facegan.errors import ConfigError, DataError
from facegan.face.align import (
    CropConfig,
    CropPath,
    change_mask,
    compose_matrices,
    estimate_similarity,
    extract_crop,
    face_mask,
    invert_matrix,
    match_colours,
    paste_back,
    plan_crops,
    smooth_gaussian,
    square_mask,
    transform_points,
)
from facegan.face.landmarks import MEAN_SHAPE


def face_at(x, y, side):
    return (MEAN_SHAPE * side + (x, y)).astype(np.float32)


def test_similarity_by_hand():
    # A quarter turn, twice the size, moved by (10, 20).
    src = np.array([[0, 0], [1, 0], [0, 1], [2, 2]], float)
    dst = np.stack([10 - 2 * src[:, 1], 20 + 2 * src[:, 0]], axis=1)
    expected = [[0, -2, 10], [2, 0, 20]]
    np.testing.assert_allclose(estimate_similarity(src, dst), expected, atol=1e-12)


def test_similarity_is_least_squares_and_never_mirrors():
    rng = np.random.default_rng(0)
    src, dst = rng.standard_normal((2, 30, 2))
    # Unknowns a, b, x, y of [[a, -b, x], [b, a, y]] by numpy's own least squares.
    rows = [[[x, -y, 1, 0], [y, x, 0, 1]] for x, y in src]
    a, b, x, y = np.linalg.lstsq(np.reshape(rows, (-1, 4)), dst.ravel(), rcond=None)[0]
    np.testing.assert_allclose(estimate_similarity(src, dst), [[a, -b, x], [b, a, y]], atol=1e-9)
    mirrored = estimate_similarity(src, src * (-1, 1))
    assert np.linalg.det(mirrored[:, :2]) >= 0


def test_similarity_refuses_what_it_cannot_fit():
    with pytest.raises(DataError, match="two of them different"):
        estimate_similarity(np.ones((3, 2)), np.zeros((3, 2)))
    with pytest.raises(DataError, match="same shape"):
        estimate_similarity(np.ones((3, 2)), np.zeros((4, 2)))


def test_matrices_invert_and_compose():
    a = np.array([[1.2, -0.3, 5.0], [0.3, 1.2, -2.0]])
    b = np.array([[0.5, 0.1, 1.0], [-0.1, 0.5, 3.0]])
    xy = np.array([[3.0, 4.0], [-1.0, 2.5]])
    together = transform_points(compose_matrices(a, b), xy)
    np.testing.assert_allclose(together, transform_points(a, transform_points(b, xy)))
    np.testing.assert_allclose(transform_points(invert_matrix(a), transform_points(a, xy)), xy)
    with pytest.raises(DataError, match="inverted"):
        invert_matrix(np.zeros((2, 3)))
    assert transform_points(a, xy.astype(np.float32)).dtype == np.float32


def plan(boxes, hw, config=None, present=None):
    landmarks = np.stack([face_at(*box) for box in boxes])
    present = np.ones(len(boxes), bool) if present is None else present
    return plan_crops(landmarks, present, hw, config)


def test_auto_takes_a_square_clip_with_a_large_face_whole():
    path = plan([(100, 100, 250)] * 3, (512, 512))
    assert path.side_px == 512
    np.testing.assert_allclose(path.crop_matrix(1, 512), [[1, 0, 0], [0, 1, 0]])
    np.testing.assert_allclose(path.crop_matrix(1, 256), [[0.5, 0, -0.25], [0, 0.5, -0.25]])


@pytest.mark.parametrize("hw", [(720, 1280), (1280, 720), (512, 512)])
def test_face_mode_stands_around_the_face_and_inside_the_frame(hw):
    path = plan([(200, 300, 100)] * 5, hw, CropConfig(mode="face"))
    assert path.side_px == 200
    left, top = path.centers_xy_px[0] - 99.5
    # The box's centre is (250, 350); hair gets more room than the chin.
    assert abs(left - 150) <= 1 and 230 < top < 250
    assert left % 1 == 0 and top % 1 == 0
    corner = plan([(5, 8, 100)] * 5, hw, CropConfig(mode="face"))
    np.testing.assert_allclose(corner.centers_xy_px, 99.5)


def test_small_face_in_a_square_clip_is_cropped():
    assert plan([(100, 100, 100)] * 3, (512, 512)).side_px == 200


def test_large_face_in_a_wide_clip_takes_the_full_height():
    assert plan([(400, 100, 450)] * 3, (720, 1280)).side_px == 720


def test_whole_mode_takes_the_middle():
    path = plan([(400, 100, 100)] * 2, (480, 641), CropConfig(mode="whole"))
    assert path.side_px == 480
    left, top = path.centers_xy_px[0] - (480 - 1) / 2
    assert (left, top) == (80, 0)


def test_small_moves_keep_the_square_still_and_large_ones_move_it_smoothly():
    wobble = [(400 + 8 * np.sin(n), 200, 120) for n in range(60)]
    still = plan(wobble, (720, 1280))
    assert np.ptp(still.centers_xy_px, axis=0).max() == 0
    walk = [(100 + 6 * n + 5 * (-1) ** n, 200, 120) for n in range(120)]
    path = plan(walk, (720, 1280)).centers_xy_px
    steps = np.diff(path[:, 0])
    assert steps.max() < 8 and path[90, 0] - path[30, 0] == pytest.approx(360, abs=30)
    assert np.abs(np.diff(steps)).max() < 1.0


def test_a_sudden_move_never_leaves_the_square():
    boxes = [(100, 200, 120)] * 30 + [(900, 200, 120)] * 30
    path = plan(boxes, (720, 1280))
    for box, centre in zip(boxes, path.centers_xy_px, strict=True):
        assert abs(box[0] + 60 - centre[0]) < (path.side_px - 120) / 2


def test_missing_faces_are_bridged():
    boxes = [(100 + 10 * n, 200, 120) for n in range(50)]
    present = np.ones(50, bool)
    present[20:30] = False
    landmarks = np.stack([face_at(*box) for box in boxes])
    landmarks[20:30] = np.nan
    gap = plan_crops(landmarks, present, (720, 1280)).centers_xy_px
    np.testing.assert_allclose(gap, plan(boxes, (720, 1280)).centers_xy_px, atol=0.1)
    with pytest.raises(DataError, match="None of the 50 frames"):
        plan_crops(landmarks, np.zeros(50, bool), (720, 1280))


def test_landmarks_and_pixels_agree_in_a_crop():
    # A bright blob at a landmark is found where the matrix says, at every scale.
    image = np.zeros((300, 400, 3), np.uint8)
    cv2.circle(image, (173 * 16 + 5, 91 * 16 + 3), 6 * 16, (255, 255, 255), -1, cv2.LINE_AA, 4)
    path = CropPath(200, np.array([[170.3, 105.8]]))
    for size in (64, 128, 200, 256):
        matrix = path.crop_matrix(0, size)
        crop = extract_crop(image, matrix, size)[..., 0].astype(float)
        y, x = np.indices(crop.shape)
        centre = ((x * crop).sum() / crop.sum(), (y * crop).sum() / crop.sum())
        expected = transform_points(matrix, np.array([173 + 5 / 16, 91 + 3 / 16]))
        np.testing.assert_allclose(centre, expected, atol=0.15)


def test_a_frames_square_is_cut_out_of_it(portrait):
    path = CropPath(200, np.array([[225.5, 130.5], [230.1, 140.7]]))
    np.testing.assert_array_equal(path.extract(portrait, 0, 200), portrait[31:231, 126:326])
    for index, size in ((0, 128), (1, 200), (1, 64)):
        expected = extract_crop(portrait, path.crop_matrix(index, size), size)
        np.testing.assert_array_equal(path.extract(portrait, index, size), expected)


@pytest.mark.parametrize("offset", [0.0, 0.37])
def test_shrinking_does_not_alias(offset):
    # Lines one pixel wide become an even gray; point sampling would keep or lose them.
    image = np.zeros((256, 256, 3), np.uint8)
    image[:, ::2] = 255
    path = CropPath(200, np.array([[127.5 + offset, 127.5]]))
    crop = extract_crop(image, path.crop_matrix(0, 50), 50)
    assert np.abs(crop[5:-5, 5:-5].astype(int) - 127).max() <= 24


def test_crop_over_the_border_repeats_it():
    image = np.full((100, 100, 3), 50, np.uint8)
    image[:, :10] = 200
    crop = extract_crop(image, CropPath(80, np.array([[10.0, 50.0]])).crop_matrix(0, 80), 80)
    assert (crop[:, :30] == 200).all() and (crop[:, 50:] == 50).all()


def test_mask_covers_the_face_and_fades_to_zero():
    xy = face_at(64, 72, 128)
    mask = face_mask(xy, 256)
    assert mask.dtype == np.float32 and mask.shape == (256, 256)
    assert mask[0].max() == mask[-1].max() == mask[:, 0].max() == mask[:, -1].max() == 0.0
    inner = xy[17:].round().astype(int)
    assert (mask[inner[10:, 1], inner[10:, 0]] > 0.95).all()
    assert mask[int(xy[19, 1]) - 12, 128] > 0.5
    assert 0.0 <= mask.min() and mask.max() == 1.0
    # No hard edge anywhere.
    assert np.abs(np.diff(mask, axis=0)).max() < 0.15
    assert (face_mask(xy + 1000, 256) == 0.0).all()


@pytest.mark.parametrize(("size", "feather"), [(256, 0.05), (128, 0.05), (100, 0.2), (33, 0.001)])
def test_mask_of_a_square_is_one_inside_and_fades_to_zero(size, feather):
    mask = square_mask(size, feather)
    assert mask.dtype == np.float32 and mask.shape == (size, size)
    width = max(1, round(feather * size)) | 1
    inner = slice(2 * width + 1, size - 2 * width - 1)
    assert (mask[inner, inner] == 1.0).all()
    assert mask[0].max() == mask[-1].max() == mask[:, 0].max() == mask[:, -1].max() == 0.0
    for turns in range(4):
        np.testing.assert_array_equal(np.rot90(mask, turns), mask)
    # Along a line inwards it only grows, by what two boxes of the width give.
    line = mask[size // 2, : size // 2]
    assert (np.diff(line) >= 0).all()
    box = np.full(width, 1.0 / width)
    edge = np.convolve(np.convolve(np.arange(-60, 200) >= width, box, "same"), box, "same")
    np.testing.assert_allclose(line, edge[60 : 60 + size // 2], atol=2 / 255)


def test_mask_of_a_change_covers_it_and_little_else():
    before = np.full((64, 64, 3), (120, 90, 80), np.uint8)
    after = before.copy()
    after[20:32, 24:40] = (160, 90, 80)
    mask = change_mask(before, after)
    assert mask.dtype == np.float32 and mask.shape == (64, 64)
    np.testing.assert_array_equal(mask, change_mask(after, before))
    assert (mask[21:31, 25:39] == 1.0).all() and mask.max() == 1.0
    y, x = np.nonzero(mask)
    # The blur has a standard deviation of 1 px: beyond three of them nothing is left.
    assert (y.min(), y.max(), x.min(), x.max()) >= (17, 31, 21, 39)
    assert (y.max(), x.max()) <= (34, 42)


def test_mask_of_a_change_follows_its_strength():
    before = np.full((100, 100, 3), 128, np.uint8)
    after = before.copy()
    after[20:40, 30:70] = 188
    after[60:80, 30:70] = 131  # a tenth of the strongest change is none
    mask = change_mask(before, after)
    assert (mask[22:38, 32:68] == 1.0).all() and (mask[50:] == 0.0).all()
    # On its own the same one counts, if one can see it.
    after[20:40] = 128
    assert change_mask(before, after).max() == 0.0
    after[60:80, 30:70] = 138
    assert (change_mask(before, after)[62:78, 32:68] == 1.0).all()


def test_mask_of_a_change_fades_along_the_border():
    before, after = (np.full((80, 80, 3), code, np.uint8) for code in (60, 200))
    np.testing.assert_array_equal(change_mask(before, after, 0.1), square_mask(80, 0.1))
    np.testing.assert_array_equal(change_mask(before, before), np.zeros((80, 80)))


def test_what_has_not_changed_stays_in_a_frame(portrait):
    matrix = CropPath(200, np.array([[225.5, 130.5]])).crop_matrix(0, 200)
    before = extract_crop(portrait, matrix, 200)
    after = before.copy()
    after[80:100, 60:120] = (250, 20, 20)
    mask = change_mask(before, after)
    out = paste_back(portrait, after, invert_matrix(matrix), mask, colour_match=False)
    square = out[31:231, 126:326]
    np.testing.assert_array_equal(square[mask == 0], before[mask == 0])
    np.testing.assert_array_equal(square[mask == 1], after[mask == 1])
    square[...] = before
    np.testing.assert_array_equal(out, portrait)


def test_a_square_is_pasted_whole_but_for_its_edge(portrait):
    matrix = CropPath(200, np.array([[225.5, 130.5]])).crop_matrix(0, 200)
    patch = np.full((200, 200, 3), 255, np.uint8)
    out = paste_back(portrait, patch, invert_matrix(matrix), square_mask(200), colour_match=False)
    assert (out[31 + 21 : 231 - 21, 126 + 21 : 326 - 21] == 255).all()
    np.testing.assert_array_equal(out[:31], portrait[:31])
    np.testing.assert_array_equal(out[:, 326:], portrait[:, 326:])


def test_smoothing_by_hand():
    # Weights of a Gaussian of one row, up to three rows away.
    kernel = np.exp(-0.5 * np.arange(-3, 4) ** 2.0)
    kernel /= kernel.sum()
    values = np.zeros((21, 2))
    values[10] = (1.0, -2.0)
    smooth = smooth_gaussian(values, 1.0)
    assert smooth.shape == (21, 2)
    np.testing.assert_allclose(smooth[7:14, 0], kernel, atol=1e-12)
    np.testing.assert_allclose(smooth[7:14, 1], -2.0 * kernel, atol=1e-12)
    assert (smooth[:7] == 0).all() and (smooth[14:] == 0).all()


@pytest.mark.parametrize("count", [1, 2, 5, 200])
@pytest.mark.parametrize("sigma", [0.1, 2.0, 20.0])
def test_smoothing_leaves_what_is_even_and_steady_moves(count, sigma):
    values = np.column_stack([np.full(count, 3.0), 5.0 - 0.25 * np.arange(count)])
    np.testing.assert_allclose(smooth_gaussian(values, sigma), values, atol=1e-9)


def test_no_smoothing_is_a_copy():
    values = np.random.default_rng(0).normal(size=(9, 2))
    smooth = smooth_gaussian(values, 0.0)
    np.testing.assert_array_equal(smooth, values)
    smooth[:] = 0
    assert values.any()


def test_paste_changes_only_what_the_mask_covers(portrait, portrait_face):
    path = CropPath(200, np.array([[225.5, 130.5]]))
    matrix = path.crop_matrix(0, 128)
    mask = face_mask(transform_points(matrix, portrait_face.landmarks_xy_px), 128)
    patch = np.full((128, 128, 3), 255, np.uint8)
    out = paste_back(portrait, patch, invert_matrix(matrix), mask, colour_match=False)
    changed = (out != portrait).any(axis=-1)
    y, x = np.nonzero(changed)
    assert changed.any() and x.min() > 126 and x.max() < 326 and y.min() > 31 and y.max() < 231
    centre = portrait_face.landmarks_xy_px[30].astype(int)
    assert (out[centre[1], centre[0]] == 255).all()


def test_mask_outside_the_frame_leaves_it(portrait):
    mask = np.zeros((64, 64), np.float32)
    patch = np.zeros((64, 64, 3), np.uint8)
    away = np.array([[1.0, 0.0, 5000.0], [0.0, 1.0, 0.0]])
    for matrix, m in ((np.eye(2, 3), mask), (away, mask + 1)):
        np.testing.assert_array_equal(paste_back(portrait, patch, matrix, m), portrait)


def test_colour_match_removes_a_tint(portrait, portrait_face):
    path = CropPath(200, np.array([[225.5, 130.5]]))
    matrix = path.crop_matrix(0, 200)
    crop = extract_crop(portrait, matrix, 200)
    mask = face_mask(transform_points(matrix, portrait_face.landmarks_xy_px), 200)
    tinted = np.clip(crop * np.array([0.8, 0.95, 1.1]) + 6, 0, 255).astype(np.uint8)
    matched = match_colours(tinted, portrait, invert_matrix(matrix), mask)
    seen = mask > 0.05

    def error(image):
        return np.abs(image[seen].astype(int) - crop[seen]).mean()

    assert error(matched) < 0.4 * error(tinted)


def test_colour_match_of_the_same_colours_changes_nothing(portrait, portrait_face):
    path = CropPath(200, np.array([[225.5, 130.5]]))
    matrix = path.crop_matrix(0, 200)
    crop = extract_crop(portrait, matrix, 200)
    mask = face_mask(transform_points(matrix, portrait_face.landmarks_xy_px), 200)
    np.testing.assert_array_equal(match_colours(crop, portrait, invert_matrix(matrix), mask), crop)


def test_wrong_input_is_refused(portrait):
    with pytest.raises(DataError, match="mask of the patch's size"):
        paste_back(portrait, portrait[:64, :64], np.eye(2, 3), np.zeros((32, 32), np.float32))
    with pytest.raises(ConfigError, match="scale"):
        CropConfig(scale=0.5)
    with pytest.raises(ConfigError, match="smooth_frames"):
        CropConfig(smooth_frames=-1.0)
