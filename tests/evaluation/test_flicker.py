import cv2
import numpy as np
import pytest

from facegan.errors import ConfigError
from facegan.evaluation.flicker import measure_flicker, measure_landmark_motion
from facegan.face.landmarks import MEAN_SHAPE

SIZE = 96


def moving(count=8, step=2, seed=0):
    """A textured picture that moves to the left."""
    noise = np.random.default_rng(seed).integers(0, 256, (SIZE, 3 * SIZE, 3)).astype(np.uint8)
    big = cv2.GaussianBlur(noise, (0, 0), 3)
    big = cv2.normalize(big, None, 0, 255, cv2.NORM_MINMAX)
    return [np.ascontiguousarray(big[:, step * i : step * i + SIZE]) for i in range(count)]


def flickering(frames, amount, seed=1):
    """Whole patches that brighten and darken from frame to frame."""
    rng = np.random.default_rng(seed)
    out = []
    for frame in frames:
        patches = rng.uniform(-amount, amount, (8, 8)).astype(np.float32)
        change = cv2.resize(patches, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)[..., None]
        out.append(np.clip(frame + change, 0, 255).astype(np.uint8))
    return out


def test_the_source_itself_does_not_flicker():
    frames = moving()
    report = measure_flicker(frames, frames)
    assert report.flicker == 0 and report.frames == 8
    assert report.motion_ratio == pytest.approx(1)
    assert report.judged > 0.6
    assert report.warp_error == report.source_warp_error < 6


def test_flicker_counts_by_its_strength():
    frames = moving()
    values = [measure_flicker(frames, flickering(frames, a)).flicker for a in (0, 10, 30)]
    assert values[0] < 0.5 < values[1] < values[2]


def test_freezing_is_worse_than_moving_and_shows():
    frames = moving()
    frozen = measure_flicker(frames, [frames[0]] * len(frames))
    blurred = measure_flicker(frames, [cv2.blur(f, (5, 5)) for f in frames])
    assert frozen.flicker > 5 * max(measure_flicker(frames, frames).flicker, 0.5)
    assert frozen.motion_ratio == 0
    assert blurred.flicker < 0.5


def test_another_look_that_moves_along_is_steady():
    frames = moving()
    other = [255 - f // 2 for f in frames]
    assert measure_flicker(frames, other).flicker < 0.5


def test_label_churn_follows_the_movement():
    frames = moving()
    shape = np.zeros((SIZE, 3 * SIZE), np.uint8)
    cv2.circle(shape, (60, 48), 20, 1, -1)
    steady = [np.ascontiguousarray(shape[:, 2 * i : 2 * i + SIZE]) for i in range(8)]
    noisy = [m.copy() for m in steady]
    for index in range(0, 8, 2):
        noisy[index][40:50, 60:80] = 2
    churn = [measure_flicker(frames, frames, maps).label_churn for maps in (steady, noisy)]
    frozen = measure_flicker(frames, frames, [steady[0]] * 8).label_churn
    assert churn[0] < 0.01 < churn[1]
    assert frozen > 2 * churn[0]
    assert measure_flicker(frames, frames).label_churn is None


def test_cuts_are_not_flicker():
    frames = moving(4) + moving(4, seed=9)
    report = measure_flicker(frames, frames)
    assert report.flicker == 0


def test_videos_must_fit():
    frames = moving(4)
    with pytest.raises(ConfigError, match="differ in length: one ends after 3"):
        measure_flicker(frames, frames[:3])
    with pytest.raises(ConfigError, match="one size"):
        measure_flicker(frames, [f[:50] for f in frames])
    with pytest.raises(ConfigError, match="there are 1"):
        measure_flicker(frames[:1], frames[:1])


def paths(count=20):
    swing = 3 * np.sin(np.arange(count) / 3)
    return MEAN_SHAPE * 50 + 20 + swing[:, None, None]


def test_landmark_motion():
    source = paths()
    same = measure_landmark_motion(source, source * 2)  # twice the size, the same motion
    assert same.jitter == pytest.approx(same.source_jitter)
    assert same.follows == pytest.approx(1)
    noise = np.random.default_rng(0).normal(0, 0.5, source.shape)
    noisy = measure_landmark_motion(source, source + noise)
    assert noisy.jitter > 3 * noisy.source_jitter and 0 < noisy.follows < 0.95
    frozen = measure_landmark_motion(source, np.repeat(source[:1], len(source), axis=0))
    assert frozen.jitter == 0 and frozen.follows is None


def test_landmark_jitter_by_hand():
    source = np.repeat((MEAN_SHAPE * 50)[None], 3, axis=0)
    output = source.copy()
    output[1, :, 0] += 1.0  # second difference -2 in one of two coordinates
    eyes = np.linalg.norm((MEAN_SHAPE * 50)[36] - (MEAN_SHAPE * 50)[45])
    motion = measure_landmark_motion(source, output)
    assert motion.jitter == pytest.approx(np.sqrt(4 / 2) / eyes, rel=1e-6)


def test_frames_without_a_face_are_left_out():
    source, output = paths(), paths()
    output[5] = np.nan
    assert measure_landmark_motion(source, output).frames == 19
    output[::2] = np.nan
    with pytest.raises(ConfigError, match="three frames in a row"):
        measure_landmark_motion(source, output)
