"""Flicker goes, movement stays."""

import cv2
import numpy as np
import pytest

from facegan.errors import ConfigError
from facegan.video.deflicker import DeflickerConfig, FrameDeflicker

METHODS = ["off", "guarded", "motion"]


def scene(height=96, width=128, seed=0):
    """A smooth random texture."""
    import cv2

    noise = np.random.default_rng(seed).uniform(0, 255, (height, width, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 3)
    return np.clip((smooth - 127) * 6 + 127, 20, 235).astype(np.uint8)


def flicker(frames):
    return np.abs(np.diff(np.float32(frames), axis=0)).mean()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("height, width", [(96, 128), (256, 256), (7, 9)])
def test_a_constant_clip_comes_out_identical(method, height, width):
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
    deflicker = FrameDeflicker(DeflickerConfig(method=method, strength=0.9))
    for _ in range(6):
        assert np.array_equal(deflicker(image), image)


@pytest.mark.parametrize("method", ["guarded", "motion"])
def test_noise_is_averaged_over_time(method):
    rng = np.random.default_rng(1)
    base = scene()
    noisy = [
        np.clip(base + rng.normal(0, 4, base.shape).round(), 0, 255).astype(np.uint8)
        for _ in range(12)
    ]
    deflicker = FrameDeflicker(DeflickerConfig(method=method))
    steady = [deflicker(frame) for frame in noisy]
    assert flicker(steady[3:]) < 0.6 * flicker(noisy[3:])
    before = np.abs(np.float32(noisy[3:]) - base).mean()
    assert np.abs(np.float32(steady[3:]) - base).mean() < 0.75 * before


def test_movement_is_followed_not_smeared():
    wide = scene(96, 200)
    moving = [wide[:, 2 * i : 2 * i + 128] for i in range(12)]
    rng = np.random.default_rng(2)
    noisy = [
        np.clip(f + rng.normal(0, 4, f.shape).round(), 0, 255).astype(np.uint8) for f in moving
    ]
    errors = {}
    for method in ("guarded", "motion"):
        deflicker = FrameDeflicker(DeflickerConfig(method=method))
        shown = [deflicker(frame) for frame in noisy]
        middle = (slice(3, None), slice(8, -8), slice(16, -16))
        errors[method] = np.abs(np.float32(shown)[middle] - np.float32(moving)[middle]).mean()
    before = np.abs(np.float32(noisy)[middle] - np.float32(moving)[middle]).mean()
    assert errors["motion"] < 0.95 * before
    assert errors["motion"] < errors["guarded"]


@pytest.mark.parametrize("method", ["guarded", "motion"])
def test_a_cut_passes_at_once(method):
    deflicker = FrameDeflicker(DeflickerConfig(method=method))
    dark, bright = np.full((64, 64, 3), 20, np.uint8), np.full((64, 64, 3), 200, np.uint8)
    deflicker(dark)
    assert np.array_equal(deflicker(bright), bright)


def test_a_closing_eye_is_not_held_open():
    face = np.full((128, 128, 3), 170, np.uint8)
    open_eye, shut = face.copy(), face.copy()
    open_eye[60:68, 50:70] = 30
    deflicker = FrameDeflicker()
    for _ in range(5):
        deflicker(open_eye)
    shown = deflicker(shut)
    assert np.abs(shown.astype(int) - shut)[62:66, 54:66].max() <= 2


def test_movement_is_read_from_the_guide():
    wide = scene(96, 200)
    moving = [wide[:, 3 * i : 3 * i + 128] for i in range(8)]
    errors = []
    for guides in (moving, [moving[0] + np.uint8(i) for i in range(8)]):
        deflicker = FrameDeflicker(DeflickerConfig(tolerance=60.0))
        shown = [deflicker(image, guide) for image, guide in zip(moving, guides, strict=True)]
        middle = (slice(3, None), slice(8, -8), slice(16, -16))
        errors.append(np.abs(np.float32(shown)[middle] - np.float32(moving)[middle]).mean())
    assert errors[0] < 0.4 * errors[1]


def test_reset_forgets_and_memory_is_bounded():
    config = DeflickerConfig(strength=0.7)
    rng = np.random.default_rng(4)
    base = scene()
    frames = [
        np.clip(base + rng.normal(0, 3, base.shape).round(), 0, 255).astype(np.uint8)
        for _ in range(40)
    ]
    deflicker = FrameDeflicker(config)
    shown = [deflicker(f) for f in frames]
    deflicker.reset()
    assert np.array_equal(deflicker(frames[5]), frames[5])
    assert 5 < deflicker.memory_frames < 25
    resumed = FrameDeflicker(config)
    for frame in frames[39 - deflicker.memory_frames : 39]:
        resumed(frame)
    assert np.abs(resumed(frames[39]).astype(int) - shown[39]).max() <= 1


def test_a_change_of_size_starts_anew():
    deflicker = FrameDeflicker()
    deflicker(scene(64, 64))
    image = scene(96, 64)
    assert np.array_equal(deflicker(image), image)


def test_the_given_frame_is_not_changed():
    deflicker = FrameDeflicker()
    first, second = scene(seed=1), scene(seed=1) + np.uint8(2)
    kept = first.copy(), second.copy()
    deflicker(first)[:] = 0
    deflicker(second)
    assert np.array_equal(first, kept[0]) and np.array_equal(second, kept[1])


def test_wrong_input():
    with pytest.raises(ConfigError, match="strength"):
        DeflickerConfig(strength=1.0)
    with pytest.raises(ConfigError, match="tolerance"):
        DeflickerConfig(tolerance=0)
    with pytest.raises(ConfigError, match="method"):
        DeflickerConfig(method="on")
    deflicker = FrameDeflicker()
    with pytest.raises(ConfigError, match="float32"):
        deflicker(np.zeros((8, 8, 3), np.float32))
    with pytest.raises(ConfigError, match="guide"):
        deflicker(scene(), scene(64, 64))


def test_what_comes_into_view_is_not_blended_with_what_hid_it():
    """A bar moves over a background that looks much like it."""
    rng = np.random.default_rng(0)

    def texture(width):
        noise = rng.integers(0, 256, (128, width, 3)).astype(np.uint8)
        return cv2.GaussianBlur(noise, (0, 0), 2) // 3 + 80

    back, bar = texture(128), texture(40)
    deflicker = FrameDeflicker(DeflickerConfig(method="motion", strength=0.9, tolerance=60.0))
    for index in range(6):
        frame = back.copy()
        frame[:, 10 + 8 * index : 50 + 8 * index] = bar
        shown = deflicker(frame)
    uncovered = np.s_[4:-4, 43:49]  # the bar hid it in the frame before
    # By the colours' likeness alone it is 3.2.
    assert np.abs(shown[uncovered].astype(int) - frame[uncovered]).mean() < 2.2
