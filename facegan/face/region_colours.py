"""Colours of a person's skin, hair and clothes and of what is behind, learnt from a few pictures.

Each region has a mixture of Gaussians in CIELAB, made into a table of costs by colour: a picture is
then compared with all regions by looking its pixels up.
"""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np

# Colours are told apart in steps of 8 codes each way.
_STEP, _SIDE = 8, 32
_COMPONENTS = 4
# Colours of a region vary more than the pixels that it is learnt from show; in codes.
_SPREAD = 5.0
# Pixels that a mixture is fitted to.
_MOST_PIXELS = 6000
# What a colour can cost at most, in nats: no pixel is so strange that place has no say.
MOST = 24.0
# Fewer pixels teach nothing.
LEAST_PIXELS = 40


def to_lab(image: np.ndarray) -> np.ndarray:
    """A picture [H, W, 3] uint8 RGB in 8-bit CIELAB."""
    return cv2.cvtColor(image, cv2.COLOR_RGB2LAB)


def learn_colours(pixels: np.ndarray) -> np.ndarray:
    """Costs of all colours for a region.

    Args:
        pixels: [N, 3] uint8 CIELAB colours of it, at least ``LEAST_PIXELS``.

    Returns:
        [32768] float32, negative log densities from 0 for its likeliest colour to ``MOST``.
    """
    cost = -np.log(_density(pixels))
    return np.minimum(cost - cost.min(), MOST).astype(np.float32)


def sort_out(
    pixels: np.ndarray, others: np.ndarray, factor: float
) -> tuple[np.ndarray, np.ndarray]:
    """Parts two sets of colours that have been mixed up with each other.

    Args:
        pixels: [N, 3] uint8 CIELAB colours, most of them of one region.
        others: [M, 3], most of them of another.
        factor: How many times likelier a colour must be where it stays.

    Returns:
        What stays of each.
    """
    if len(pixels) < LEAST_PIXELS or len(others) < LEAST_PIXELS:
        return pixels, others
    own, other = _density(pixels), _density(others)
    stays = own > factor * other
    keep = other >= own
    return pixels[stays[_codes(pixels)]], others[keep[_codes(others)]]


def _density(pixels: np.ndarray) -> np.ndarray:
    """Density of a mixture of Gaussians at every colour, [32768] float64."""
    chosen = pixels[:: max(1, len(pixels) // _MOST_PIXELS)].astype(np.float32)
    cv2.setRNGSeed(0)  # the same pixels always give the same colours
    criteria = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 30, 0.1)
    count = min(_COMPONENTS, len(chosen))
    _, which, centres = cv2.kmeans(
        chosen, count, np.empty(0, np.int32), criteria, 2, cv2.KMEANS_PP_CENTERS
    )
    axis = np.arange(_SIDE, dtype=np.float32) * _STEP + _STEP / 2
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    density = np.full(len(grid), 1e-30)
    for number, centre in enumerate(centres):
        members = chosen[which[:, 0] == number]
        if not len(members):
            continue
        covariance = np.eye(3) * _SPREAD**2
        if len(members) > 3:
            covariance = covariance + np.cov(members.T)
        offset = grid - centre
        distance = np.einsum("ni,ij,nj->n", offset, np.linalg.inv(covariance), offset)
        scale = np.sqrt(np.linalg.det(covariance))
        density += len(members) / len(chosen) * np.exp(-0.5 * distance) / scale
    return density


def _codes(lab: np.ndarray) -> np.ndarray:
    steps = (lab // _STEP).astype(np.int32)
    return (steps[..., 0] * _SIDE + steps[..., 1]) * _SIDE + steps[..., 2]


def look_up(lab: np.ndarray, tables: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Costs of every pixel for every region: name -> [H, W] float32.

    Args:
        lab: [H, W, 3] uint8 CIELAB.
        tables: What ``learn_colours`` gave, by region.
    """
    codes = _codes(lab)
    return {name: table[codes] for name, table in tables.items()}


def unlike(pixels: np.ndarray, tables: Mapping[str, np.ndarray], least: float) -> np.ndarray:
    """Those of the pixels [N, 3] uint8 CIELAB that cost at least ``least`` for every region."""
    costs = look_up(pixels[None], tables)
    keep = np.ones(len(pixels), bool)
    for cost in costs.values():
        keep &= cost[0] >= least
    return pixels[keep]
