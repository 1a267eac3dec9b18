"""What holds for every augmentation, whatever was drawn."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from facegan.datasets.transforms import (
    Augmentation,
    AugmentConfig,
    sample_augmentation,
)
from facegan.face.landmarks import GROUPS, MEAN_SHAPE, resize_landmarks

SIZE = 48
FACE = ((MEAN_SHAPE * 0.5 + 0.25) * SIZE).astype(np.float32)
CONFIG = AugmentConfig(
    probability=1.0, shift=0.3, scale=0.4, rotation_deg=60, landmark_jitter=0.0, flip=True
)

draws = st.builds(
    sample_augmentation,
    st.just(CONFIG),
    st.integers(0, 2**31 - 1),
    st.integers(0, 2**40),
)


@given(draws)
@settings(max_examples=60, deadline=None)
def test_landmarks_move_by_the_matrix_and_a_flip_swaps_the_sides(draw):
    moved = draw.apply_to_landmarks(FACE, SIZE, SIZE)
    matrix = draw.matrix(SIZE, SIZE)
    expected = FACE @ matrix[:, :2].T + matrix[:, 2]
    right, left = (list(GROUPS[name]) for name in ("right_eye", "left_eye"))
    ours = moved[right].mean(axis=0)
    theirs = expected[left if draw.flip else right].mean(axis=0)
    np.testing.assert_allclose(ours, theirs, atol=1e-3)
    # The person's right eye stays on the side of the picture where a viewer expects it.
    assert (moved[left] - moved[right]).mean(axis=0) @ _axis(draw) > 0


def _axis(draw):
    angle = np.deg2rad(draw.rotation_deg)
    return np.array([np.cos(angle), np.sin(angle)])


@given(draws)
@settings(max_examples=60, deadline=None)
def test_distances_scale_alike(draw):
    moved = draw.apply_to_landmarks(FACE, SIZE, SIZE)
    before = np.linalg.norm(np.diff(FACE[[27, 8]], axis=0))
    after = np.linalg.norm(np.diff(moved[[27, 8]], axis=0))
    np.testing.assert_allclose(after, before * draw.scale, rtol=1e-3)


@given(st.integers(0, 2**31 - 1))
@settings(max_examples=30, deadline=None)
def test_a_flip_twice_is_the_identity(seed):
    flip = Augmentation(flip=True)
    image = np.random.default_rng(seed).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    landmarks = np.random.default_rng(seed).uniform(0, SIZE, (68, 2)).astype(np.float32)
    twice = flip.apply_to_image(flip.apply_to_image(image))
    np.testing.assert_array_equal(twice, image)
    again = flip.apply_to_landmarks(flip.apply_to_landmarks(landmarks, SIZE, SIZE), SIZE, SIZE)
    np.testing.assert_allclose(again, landmarks, atol=1e-4)


@given(st.integers(16, 512), st.integers(16, 512))
@settings(max_examples=60, deadline=None)
def test_landmarks_resized_there_and_back_are_the_same(height, width):
    there = resize_landmarks(FACE, (SIZE, SIZE), (height, width))
    back = resize_landmarks(there, (height, width), (SIZE, SIZE))
    np.testing.assert_allclose(back, FACE, atol=1e-3)
