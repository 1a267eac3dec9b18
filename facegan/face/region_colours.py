"""What regions look like, learnt from a few pictures: mixtures of Gaussians by place.

The same person's hair is bright where the lamp shines and dark beside the neck, so a mixture is
fitted to looks and place together, and what is asked of it is the density of a look at a given
place. All Gaussians of a model are evaluated by one matrix product, because the exponents are
quadratic in what they depend on.
"""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np

from facegan.image import resize

# A region's colours vary more than its pixels in a few pictures show; in codes of 8-bit CIELAB.
_COLOUR_SPREAD = 4.5
# The same for places, in the units that they are given in.
_PLACE_SPREAD = 1.4
_COLOURS, _PLACES = 4, 2
# Rounds of expectation and maximization.
_ROUNDS = 3
# Fewer pixels teach nothing.
LEAST_PIXELS = 20.0
_LEAST_PART = 40.0


def look_at(image: np.ndarray, size_px: int) -> np.ndarray:
    """What pixels look like: colour, and how rough the picture is there.

    Roughness tells hair from skin and from what is out of focus, whatever their colours are.

    Args:
        image: [S, S, 3] uint8 RGB.
        size_px: Height and width of the result.

    Returns:
        [size_px, size_px, 4] uint8: 8-bit CIELAB, and the logarithm of the fine contrast.
    """
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
    light = lab[..., 0].astype(np.float32)
    fine = light - cv2.GaussianBlur(light, (0, 0), 1.5)
    contrast = cv2.blur(fine * fine, (5, 5))
    small = cv2.medianBlur(resize(lab, size_px, size_px), 3)
    rough = 8.0 * np.log2(1.0 + resize(contrast, size_px, size_px))
    return np.dstack([small, np.clip(rough, 0, 255).astype(np.uint8)])


def join(looks: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Looks [..., 4] uint8 and places [...] as samples [N, 6] float32."""
    samples = np.empty((x.size, _COLOURS + _PLACES), np.float32)
    # Centred, so that single precision does for the products.
    np.subtract(looks.reshape(-1, _COLOURS), np.float32(128), out=samples[:, :_COLOURS])
    samples[:, _COLOURS] = x.ravel()
    samples[:, _COLOURS + 1] = y.ravel()
    return samples


def without_place(samples: np.ndarray) -> np.ndarray:
    """Samples [N, 6] that all have the same place, for models of colour alone."""
    out = samples.copy()
    out[:, _COLOURS:] = 0.0
    return out


@dataclasses.dataclass(frozen=True, slots=True)
class ColourModel:
    """How likely the colours of a region are, place by place.

    Attributes:
        joint: [K, Q] float32, coefficients of the log densities of colour and place.
        place: [K, Q'] float32, those of the place alone.
    """

    joint: np.ndarray
    place: np.ndarray

    def log_density(self, samples: np.ndarray) -> np.ndarray:
        """Log densities [N] float32 of the looks of samples [N, 6], given their places."""
        return log_density(self, *monomials(samples))


def log_density(model: ColourModel, joint: np.ndarray, place: np.ndarray) -> np.ndarray:
    """``ColourModel.log_density`` of samples whose ``monomials`` are known."""
    return _log_sum(model.joint @ joint) - _log_sum(model.place @ place)


def monomials(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What ``log_density`` needs of samples [N, 6], the same for all models."""
    return _monomials(samples), _monomials(samples[:, _COLOURS:])


def _monomials(samples: np.ndarray) -> np.ndarray:
    """[Q, N] float32: 1, each variable, and each product of two."""
    count = samples.shape[1]
    out = np.empty((1 + count + count * (count + 1) // 2, len(samples)), np.float32)
    out[0] = 1.0
    out[1 : 1 + count] = samples.T
    row = 1 + count
    for i in range(count):
        for j in range(i, count):
            np.multiply(out[1 + i], out[1 + j], out=out[row])
            row += 1
    return out


def _log_sum(terms: np.ndarray) -> np.ndarray:
    """log(sum(exp(terms))) over the first axis."""
    most = terms.max(axis=0)
    return most + np.log(np.exp(terms - most).sum(axis=0))


def fit_colours(samples: np.ndarray, weights: np.ndarray, components: int) -> ColourModel:
    """Fits a mixture of Gaussians.

    Args:
        samples: [N, 6] from ``join``.
        weights: [N], how much each sample counts; their sum must reach ``LEAST_PIXELS``.
        components: Most Gaussians.

    Returns:
        The same for the same samples, always: nothing is drawn.
    """
    keep = weights > 1e-3
    data, weights = samples[keep].astype(np.float64), weights[keep].astype(np.float64)
    # A scale on which a step of colour and a step of place count alike when parts are split.
    spread = np.array([_COLOUR_SPREAD] * _COLOURS + [_PLACE_SPREAD] * _PLACES)
    shares = _split(data / spread, weights, components) * weights
    quadratic = _monomials(data.astype(np.float32)).astype(np.float64)
    mixture = _describe(data, shares, spread)
    for _ in range(_ROUNDS):
        terms = _coefficients(*mixture) @ quadratic
        shares = np.exp(terms - _log_sum(terms)) * weights
        mixture = _describe(data, shares, spread)
    amounts, means, covariances = mixture
    place = slice(_COLOURS, None)
    return ColourModel(
        _coefficients(amounts, means, covariances).astype(np.float32),
        _coefficients(amounts, means[:, place], covariances[:, place, place]).astype(np.float32),
    )


def _split(data: np.ndarray, weights: np.ndarray, components: int) -> np.ndarray:
    """Parts samples by halving, again and again, the part that is widest: [K, N] of 0 and 1."""
    parts = [np.ones(len(data), bool)]

    def width(part: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        total = weights[part].sum()
        mean = (data[part] * weights[part, None]).sum(axis=0) / total
        offset = data[part] - mean
        covariance = (offset * weights[part, None]).T @ offset / total
        values, vectors = np.linalg.eigh(covariance)
        return float(values[-1] * total), mean, vectors[:, -1]

    measured = [width(parts[0])]
    while len(parts) < components:
        widest = max(range(len(parts)), key=lambda i: measured[i][0])
        part, (_, mean, axis) = parts[widest], measured[widest]
        high = part & ((data - mean) @ axis > 0)
        low = part & ~high
        if min(weights[high].sum(), weights[low].sum()) < _LEAST_PART:
            break
        parts[widest : widest + 1] = [low, high]
        measured[widest : widest + 1] = [width(low), width(high)]
    return np.stack(parts).astype(np.float64)


def _describe(
    data: np.ndarray, shares: np.ndarray, spread: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Amounts [K], means [K, D] and covariances [K, D, D] of parts with shares [K, N]."""
    totals = shares.sum(axis=1)
    means = shares @ data / totals[:, None]
    covariances = []
    for share, mean, total in zip(shares, means, totals, strict=True):
        offset = data - mean
        covariances.append((offset * share[:, None]).T @ offset / total + np.diag(spread**2))
    return totals / totals.sum(), means, np.stack(covariances)


def _coefficients(amounts: np.ndarray, means: np.ndarray, covariances: np.ndarray) -> np.ndarray:
    """Log densities of weighted Gaussians as polynomials [K, Q] over ``_monomials``."""
    dimensions = means.shape[1]
    rows = []
    for amount, mean, covariance in zip(amounts, means, covariances, strict=True):
        inverse = np.linalg.inv(covariance)
        _, log_determinant = np.linalg.slogdet(covariance)
        constant = np.log(max(amount, 1e-12)) - 0.5 * (
            mean @ inverse @ mean + log_determinant + dimensions * np.log(2.0 * np.pi)
        )
        upper = [
            inverse[i, j] * (-0.5 if i == j else -1.0)
            for i in range(dimensions)
            for j in range(i, dimensions)
        ]
        rows.append([constant, *(inverse @ mean), *upper])
    return np.array(rows)
