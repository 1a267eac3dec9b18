"""Distances between two pictures of the same view: SSIM, PSNR and mean absolute difference.

Everything is computed in float64 on pixel values 0..255, one number a picture.

Reference: Wang et al., "Image Quality Assessment: From Error Visibility to Structural
Similarity", IEEE TIP 2004. As there: an 11x11 Gaussian window of standard deviation 1.5, weighted
(not sample) variances, K1 = 0.01, K2 = 0.03, and only windows that lie wholly inside the picture.
Difference: colour pictures are compared channel by channel and averaged instead of in grey.
"""

import math

import cv2
import numpy as np

from facegan.errors import ConfigError

_WINDOW_PX = 11
_SIGMA_PX = 1.5
_RANGE = 255.0
_C1 = (0.01 * _RANGE) ** 2
_C2 = (0.03 * _RANGE) ** 2


def ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Structural similarity of two pictures.

    Args:
        a: [H, W] or [H, W, C] uint8, at least 11 pixels high and wide.
        b: The other picture, same shape and dtype.

    Returns:
        The mean over windows and channels, 1 for equal pictures.

    Raises:
        ConfigError: The pictures differ in shape, are not uint8, or are smaller than the window.
    """
    check_pair(a, b)
    if min(a.shape[:2]) < _WINDOW_PX:
        raise ConfigError(
            f"ssim needs pictures of at least {_WINDOW_PX}x{_WINDOW_PX} pixels, got {a.shape}."
        )
    x, y = a.astype(np.float64), b.astype(np.float64)
    mean_x, mean_y = _window_mean(x), _window_mean(y)
    variance_x = _window_mean(x * x) - mean_x * mean_x
    variance_y = _window_mean(y * y) - mean_y * mean_y
    covariance = _window_mean(x * y) - mean_x * mean_y
    # Equation 13 of the paper.
    similarity = ((2 * mean_x * mean_y + _C1) * (2 * covariance + _C2)) / (
        (mean_x**2 + mean_y**2 + _C1) * (variance_x + variance_y + _C2)
    )
    return float(similarity.mean())


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal-to-noise ratio of two uint8 pictures in decibels, infinite for equal ones."""
    check_pair(a, b)
    error = float(np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2))
    return math.inf if error == 0 else 10 * math.log10(_RANGE**2 / error)


def mean_absolute_difference(a: np.ndarray, b: np.ndarray) -> float:
    """Mean absolute difference of two uint8 pictures as a share of the range, in [0, 1]."""
    check_pair(a, b)
    return float(np.mean(np.abs(a.astype(np.float64) - b.astype(np.float64)))) / _RANGE


def check_pair(a: np.ndarray, b: np.ndarray) -> None:
    """Raises ConfigError unless both are uint8 pictures [H, W] or [H, W, C] of one shape."""
    if a.shape != b.shape or a.ndim not in (2, 3) or a.dtype != np.uint8 or b.dtype != np.uint8:
        raise ConfigError(
            f"Two uint8 pictures of one shape [H, W] or [H, W, C] can be compared, got "
            f"{a.dtype} {a.shape} and {b.dtype} {b.shape}; resize or convert one of them."
        )


def _window_mean(values: np.ndarray) -> np.ndarray:
    """Gaussian mean of every whole window: [H, W, ...] -> [H - 10, W - 10, ...]."""
    kernel = cv2.getGaussianKernel(_WINDOW_PX, _SIGMA_PX, cv2.CV_64F)
    blurred = cv2.sepFilter2D(values, cv2.CV_64F, kernel, kernel)
    edge = _WINDOW_PX // 2
    return blurred[edge:-edge, edge:-edge]
