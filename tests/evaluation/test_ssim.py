import math

import numpy as np
import pytest
from skimage import metrics

from facegan.errors import ConfigError
from facegan.evaluation import ssim as ssim_module


def _pair(shape, seed=0):
    rng = np.random.default_rng(seed)
    a = rng.integers(0, 256, shape, np.uint8)
    noise = rng.normal(0, 25, shape)
    return a, np.clip(a + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("shape", [(40, 31), (33, 47, 3), (11, 11, 3)])
def test_ssim_agrees_with_skimage_at_the_papers_settings(shape):
    a, b = _pair(shape)
    expected = metrics.structural_similarity(
        a,
        b,
        data_range=255,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        channel_axis=-1 if len(shape) == 3 else None,
    )
    assert ssim_module.ssim(a, b) == pytest.approx(expected, abs=1e-12)
    assert 0.3 < expected < 0.999


def test_ssim_of_equal_pictures_is_one_and_of_inverted_ones_is_negative():
    a, _ = _pair((32, 32, 3))
    assert ssim_module.ssim(a, a) == pytest.approx(1.0, abs=1e-12)
    assert ssim_module.ssim(a, 255 - a) < 0


def test_ssim_of_two_flat_pictures_is_the_luminance_term():
    a, b = np.full((16, 16), 100, np.uint8), np.full((16, 16), 50, np.uint8)
    c1 = (0.01 * 255) ** 2
    assert ssim_module.ssim(a, b) == pytest.approx((2 * 5000 + c1) / (12500 + c1), abs=1e-9)


def test_psnr_agrees_with_skimage_and_by_hand():
    a, b = _pair((20, 30, 3))
    assert ssim_module.psnr(a, b) == pytest.approx(
        metrics.peak_signal_noise_ratio(a, b, data_range=255), abs=1e-12
    )
    flat = np.zeros((4, 4), np.uint8)
    assert ssim_module.psnr(flat, flat + np.uint8(255)) == pytest.approx(0.0)
    assert math.isinf(ssim_module.psnr(flat, flat))


def test_mean_absolute_difference_does_not_wrap_around():
    a, b = np.full((4, 4), 3, np.uint8), np.full((4, 4), 54, np.uint8)
    assert ssim_module.mean_absolute_difference(a, b) == pytest.approx(0.2)
    assert ssim_module.mean_absolute_difference(b, a) == pytest.approx(0.2)


@pytest.mark.parametrize(
    "a, b, message",
    [
        (np.zeros((16, 16), np.uint8), np.zeros((16, 17), np.uint8), r"\(16, 17\)"),
        (np.zeros((16, 16), np.float32), np.zeros((16, 16), np.float32), "float32"),
        (np.zeros((8, 16), np.uint8), np.zeros((8, 16), np.uint8), "11x11"),
    ],
)
def test_ssim_refuses_what_it_cannot_compare(a, b, message):
    with pytest.raises(ConfigError, match=message):
        ssim_module.ssim(a, b)
