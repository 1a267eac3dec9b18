"""What holds for every face: flips, transforms, crops, drawings."""

import cv2
import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from facegan.face.align import (
    CropPath,
    estimate_similarity,
    extract_crop,
    face_mask,
    invert_matrix,
    paste_back,
    transform_points,
)
from facegan.face.landmarks import (
    FLIP_ORDER,
    GROUPS,
    MEAN_SHAPE,
    box_from_landmarks,
    flip_landmarks,
)
from facegan.face.raster import draw_landmarks
from facegan.face.smoothing import SmoothingConfig, smooth_offline

seeds = st.integers(0, 2**32 - 1)
quick = settings(max_examples=25, deadline=None)


def noise_image(rng, height, width):
    """Random colours at several scales, as hard on rounding as any photograph."""
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    return (image // 2 + cv2.GaussianBlur(image, (0, 0), 4) // 2).astype(np.uint8)


def test_flip_order_undoes_itself_and_swaps_sides():
    assert (FLIP_ORDER[FLIP_ORDER] == np.arange(68)).all()
    for name, indices in GROUPS.items():
        other = name.replace("right", "?").replace("left", "right").replace("?", "left")
        assert {int(FLIP_ORDER[i]) for i in indices} == set(GROUPS[other])


@quick
@given(seeds, st.integers(1, 4096))
def test_flip_twice_is_identity(seed, width):
    xy = np.random.default_rng(seed).uniform(0, width, (3, 68, 2))
    np.testing.assert_allclose(flip_landmarks(flip_landmarks(xy, width), width), xy, atol=1e-9)


@quick
@given(st.floats(0.05, 20), st.floats(-3.1, 3.1), st.floats(-500, 500), st.floats(-500, 500), seeds)
def test_similarity_is_recovered(scale, angle, x, y, seed):
    a, b = scale * np.cos(angle), scale * np.sin(angle)
    matrix = np.array([[a, -b, x], [b, a, y]])
    src = np.random.default_rng(seed).uniform(-100, 100, (10, 2))
    found = estimate_similarity(src, transform_points(matrix, src))
    np.testing.assert_allclose(found, matrix, atol=1e-7 * max(1.0, scale, abs(x), abs(y)))
    back = transform_points(invert_matrix(found), transform_points(matrix, src))
    np.testing.assert_allclose(back, src, atol=1e-6)


@quick
@given(st.floats(20, 400), st.floats(-0.6, 0.6), st.floats(-50, 700), st.floats(-50, 700))
def test_box_moves_and_grows_with_the_face(side, roll, x, y):
    turn = side * np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
    box = box_from_landmarks((MEAN_SHAPE - 0.5) @ turn.T + (x, y))
    np.testing.assert_allclose(
        box, [x - side / 2, y - side / 2, x + side / 2, y + side / 2], atol=1e-3
    )


@quick
@given(seeds, st.integers(40, 160), st.integers(0, 60), st.integers(0, 60), st.booleans())
def test_crop_and_paste_back_of_the_same_pixels_is_identity(seed, side, left, top, match):
    rng = np.random.default_rng(seed)
    frame = noise_image(rng, 200, 230)
    path = CropPath(side, np.array([[left + (side - 1) / 2, top + (side - 1) / 2]]))
    matrix = path.crop_matrix(0, side)
    patch = extract_crop(frame, matrix, side)
    inside = frame[top : top + side, left : left + side]
    np.testing.assert_array_equal(patch[: inside.shape[0], : inside.shape[1]], inside)
    mask = face_mask(MEAN_SHAPE * side * 0.6 + 0.2 * side, side)
    out = paste_back(frame, patch, invert_matrix(matrix), mask, colour_match=match)
    assert np.abs(out.astype(int) - frame).max() <= 1


@quick
@given(
    seeds, st.floats(90, 190), st.floats(80, 150), st.floats(80, 120), st.sampled_from([64, 128])
)
def test_crop_and_paste_back_of_a_smooth_frame_is_nearly_identity(seed, side, x, y, size):
    rng = np.random.default_rng(seed)
    frame = cv2.GaussianBlur(noise_image(rng, 200, 230), (0, 0), 8)
    matrix = CropPath(int(side), np.array([[x, y]])).crop_matrix(0, size)
    patch = extract_crop(frame, matrix, size)
    mask = face_mask(MEAN_SHAPE * size * 0.6 + 0.2 * size, size)
    out = paste_back(frame, patch, invert_matrix(matrix), mask, colour_match=False)
    assert np.abs(out.astype(int) - frame).max() <= 3


@quick
@given(seeds, st.floats(0.2, 1.5), st.floats(-100, 200), st.sampled_from([64, 100, 128]))
@example(2126590178, 1.1, -0.1875, 128)
def test_every_drawing_has_its_shape_and_moves_with_the_points(seed, scale, shift, size):
    rng = np.random.default_rng(seed)
    xy = MEAN_SHAPE * size * scale + shift + rng.normal(0, 1, (68, 2))
    # Numbers that a move does not round, which could tip a point to the next place that is drawn.
    xy = np.round(xy * 256) / 256
    drawing = draw_landmarks(xy, size)
    assert drawing.shape == (size, size, 3) and drawing.dtype == np.uint8
    moved = draw_landmarks(xy + (3, 5), size)
    # Away from the border, a whole-pixel move moves the picture.
    np.testing.assert_allclose(
        moved[13:-3, 11:-5].astype(int), drawing[8:-8, 8:-8].astype(int), atol=2
    )


@quick
@given(seeds, st.floats(-1e3, 1e3))
def test_smoothing_stays_inside_and_keeps_constants(seed, value):
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.uniform(0.01, 0.1, 40))
    constant = np.full((40, 4), value)
    np.testing.assert_allclose(smooth_offline(constant, times), constant, rtol=1e-12)
    values = rng.normal(0, 1, (40, 4))
    smooth = smooth_offline(values, times, SmoothingConfig(min_cutoff_hz=1.5))
    assert smooth.min() >= values.min() and smooth.max() <= values.max()
    # Time runs both ways alike.
    mirrored = smooth_offline(values[::-1], -times[::-1], SmoothingConfig(min_cutoff_hz=1.5))
    np.testing.assert_allclose(mirrored[::-1], smooth, atol=1e-9)
