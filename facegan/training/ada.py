"""Adaptive discriminator augmentation: what the discriminator sees is varied, just enough.

A discriminator that has few pictures learns them by heart, and then its verdict on them says
nothing. Here it never sees a picture as it is: real and generated ones alike are turned, stretched
and recoloured, each in its own way, with a probability that rises while the discriminator is too
sure of the real ones and falls while it is not.

Reference: Karras et al., "Training Generative Adversarial Networks with Limited Data", NeurIPS
2020, section 3 and appendix B: the transforms that the paper calls pixel blitting, geometric and
color. Differences: flips and quarter turns copy pixels, which the paper's filter, not quite
symmetric, would blur a little; and the filter sees a margin of the mirrored surroundings, beyond
which the filtered picture is mirrored instead of the picture filtered.
"""

import dataclasses
import math
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from facegan.errors import ConfigError
from facegan.layers.randomness import GivenSeed, fold_in

# The wavelet sym6: shifted by even numbers it is orthogonal to itself, so what it doubles it
# halves to the same picture.
_TAPS = (
    0.015404109327027373,
    0.0034907120842174702,
    -0.11799011114819057,
    -0.048311742585633,
    0.4910559419267466,
    0.787641141030194,
    0.3379294217276218,
    -0.07263752278646252,
    -0.021060292512300564,
    0.04472490177066578,
    0.0017677118642428036,
    -0.007800708325034148,
)
# The tap that lies on the pixel itself: the filter's centre of mass is at 5.1. As many half pixels
# before a picture, and one more behind it, are needed to halve it.
_CENTRE = 5
_BEFORE, _BEHIND = _CENTRE, len(_TAPS) - 1 - _CENTRE


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class AdaConfig:
    """What is varied, and how the probability follows the discriminator.

    ``target`` is the mean sign of the logits of real pictures that is aimed at: 0 is a
    discriminator that guesses, 1 one that is sure of each. Every ``interval`` steps the probability
    moves up or down by ``interval / rise_steps`` (the paper: from 0 to 1 in 500,000 pictures, which
    are 15,625 steps of 32). It begins at ``start`` and stays in [0, ``limit``]. ``blit`` are flips,
    quarter turns and whole-pixel shifts; ``geometry`` scaling, rotation, stretching and fractional
    shifts; ``colour`` brightness, contrast, inverted luma, hue and saturation.
    """

    KIND: ClassVar[str] = "ada"

    target: float = 0.6
    interval: int = 4
    rise_steps: int = 15_625
    start: float = 0.0
    limit: float = 1.0
    blit: bool = True
    geometry: bool = True
    colour: bool = True

    def __post_init__(self) -> None:
        if not -1.0 < self.target < 1.0:
            raise ConfigError(f"ada.target is a mean sign in (-1, 1), got {self.target}.")
        for name in ("interval", "rise_steps"):
            if getattr(self, name) < 1:
                raise ConfigError(f"ada.{name} must be at least 1, got {getattr(self, name)}.")
        if not 0.0 <= self.limit <= 1.0:
            raise ConfigError(f"ada.limit is a probability in [0, 1], got {self.limit}.")
        if not 0.0 <= self.start <= self.limit:
            raise ConfigError(
                f"ada.start must be in [0, ada.limit] = [0, {self.limit}], got {self.start}."
            )
        if not (self.blit or self.geometry or self.colour):
            raise ConfigError(
                "ada.blit, ada.geometry and ada.colour are all off, so nothing is varied. "
                "Switch one on, or train without ada."
            )


def adjusted_probability(config: AdaConfig, probability: Any, mean_sign: Any, step: Any) -> Any:
    """The probability for a step: every ``interval`` steps it moves towards the target.

    Args:
        config: How far and how often.
        probability: That of the step before, a float32 scalar.
        mean_sign: ``mean_sign_so_far`` as it stood after the step before, a float32 scalar.
        step: Whole number, counted from 0; a scalar.

    Returns:
        A float32 scalar in [0, ``limit``].
    """
    probability = ops.cast(probability, "float32")
    direction = ops.sign(ops.cast(mean_sign, "float32") - config.target)
    moved = probability + direction * (config.interval / config.rise_steps)
    step = ops.cast(step, "int32")
    # At step 0 there is no mean yet.
    due = ops.logical_and(ops.equal(ops.mod(step, config.interval), 0), step > 0)
    return ops.where(due, ops.clip(moved, 0.0, config.limit), probability)


def mean_sign_so_far(config: AdaConfig, mean: Any, sign: Any, step: Any) -> Any:
    """Takes a step's sign into the mean over the interval; each interval begins anew.

    Args:
        config: How long an interval is.
        mean: The mean after the step before, a float32 scalar.
        sign: This step's mean over the real pictures of the sign of their logits, a float32 scalar.
        step: Whole number, counted from 0; a scalar.

    Returns:
        A float32 scalar in [-1, 1].
    """
    before = ops.cast(ops.mod(ops.cast(step, "int32"), config.interval), "float32")
    total = ops.cast(mean, "float32") * before + ops.cast(sign, "float32")
    return total / (before + 1.0)


def augment_pictures(config: AdaConfig, images: Any, probability: Any, seed: Any) -> Any:
    """Varies each picture by transforms that each happen with a probability of their own.

    For one draw the result is an affine function of the pictures, with exact gradients of any
    order. What comes into view from outside is the mirrored picture.

    Args:
        config: Which transforms there are.
        images: [B, H, W, 3] float in [-1, 1], H and W known; square for ``blit``'s quarter turns.
        probability: Of each transform, in [0, 1]; a float32 scalar. At 0 the pictures come back as
            they are, but for rounding.
        seed: int32 [2].

    Returns:
        [B, H, W, 3] float32, which colours can lead out of [-1, 1].

    Raises:
        ConfigError: The pictures have another shape.
    """
    images = ops.cast(images, "float32")
    _require_pictures(config, images)
    factors = _draw_factors(config, ops.shape(images)[0], probability, seed)
    return _transform(config, images, factors)


def _transform(config: AdaConfig, images: Any, factors: dict[str, Any]) -> Any:
    """Does to each picture what was drawn for it."""
    height, width = images.shape[1:3]
    if config.blit:
        images = _flip_and_turn(images, factors["flip"], factors["quarter_turns"])
    if config.blit or config.geometry:
        images = _warp(images, _inverse_geometry(factors, height, width))
    if config.colour:
        images = _recolour(images, _colour_matrix(factors))
    return images


def _require_pictures(config: AdaConfig, images: Any) -> None:
    shape = tuple(images.shape)
    if len(shape) != 4 or shape[3] != 3 or None in shape[1:3] or min(shape[1:3]) < 2:
        raise ConfigError(
            f"images must be [B, H, W, 3] with known sides of at least 2 pixels, got {shape}."
        )
    if config.blit and shape[1] != shape[2]:
        raise ConfigError(
            f"images must be square, because ada.blit makes quarter turns, got {shape}. Crop or "
            "pad them, or set ada.blit to false."
        )


def _draw_factors(config: AdaConfig, batch: Any, probability: Any, seed: Any) -> dict[str, Any]:
    """Draws what is done to each example: float32 [B] each, neutral where nothing is.

    Shifts and offsets are shares of the side, angles radians.
    """
    chances = keras.random.uniform((13, batch), dtype="float32", seed=GivenSeed(fold_in(seed, 0)))
    shares = keras.random.uniform((8, batch), dtype="float32", seed=GivenSeed(fold_in(seed, 1)))
    angles = (2.0 * shares - 1.0) * math.pi
    bells = keras.random.normal((7, batch), dtype="float32", seed=GivenSeed(fold_in(seed, 2)))

    def some(row: int, chance: Any, values: Any, neutral: float) -> Any:
        return ops.where(chances[row] < chance, values, neutral)

    def power_of_two(exponent: Any) -> Any:
        return ops.exp(math.log(2.0) * exponent)

    probability = ops.cast(probability, "float32")
    # A group that is off draws all the same: the others then do what they would do beside it.
    blit = probability * float(config.blit)
    geometry = probability * float(config.geometry)
    colour = probability * float(config.colour)
    # Of two rotations at least one happens with the probability asked for.
    rotation = 1.0 - ops.sqrt(1.0 - geometry)
    return {
        "flip": some(0, blit, ops.floor(2.0 * shares[0]), 0.0),
        "quarter_turns": some(1, blit, ops.floor(4.0 * shares[1]), 0.0),
        "shift_x": some(2, blit, 0.125 * (2.0 * shares[2] - 1.0), 0.0),
        "shift_y": some(2, blit, 0.125 * (2.0 * shares[3] - 1.0), 0.0),
        "scale": some(3, geometry, power_of_two(0.2 * bells[0]), 1.0),
        "angle_before": some(4, rotation, angles[4], 0.0),
        "stretch": some(5, geometry, power_of_two(0.2 * bells[1]), 1.0),
        "angle_behind": some(6, rotation, angles[5], 0.0),
        "offset_x": some(7, geometry, 0.125 * bells[2], 0.0),
        "offset_y": some(7, geometry, 0.125 * bells[3], 0.0),
        "brightness": some(8, colour, 0.2 * bells[4], 0.0),
        "contrast": some(9, colour, power_of_two(0.5 * bells[5]), 1.0),
        "invert_luma": some(10, colour, ops.floor(2.0 * shares[6]), 0.0),
        "hue": some(11, colour, angles[7], 0.0),
        "saturation": some(12, colour, power_of_two(bells[6]), 1.0),
    }


def _flip_and_turn(images: Any, flip: Any, quarter_turns: Any) -> Any:
    """Copies pixels: left and right swapped, then turned about the centre. Pictures are square."""

    def choose(condition: Any, yes: Any, no: Any) -> Any:
        return ops.where(condition[:, None, None, None], yes, no)

    images = choose(flip > 0.5, ops.flip(images, axis=2), images)
    turned = ops.flip(ops.transpose(images, (0, 2, 1, 3)), axis=1)
    images = choose(ops.mod(quarter_turns, 2.0) > 0.5, turned, images)
    return choose(quarter_turns > 1.5, ops.flip(images, axis=(1, 2)), images)


def _inverse_geometry(factors: dict[str, Any], height: int, width: int) -> Any:
    """Says for each place of the new picture which place of the old one it shows.

    The picture is shifted by whole pixels, scaled, rotated, stretched, rotated again and shifted;
    here stands the inverse of all that. It is written out, because in products of matrices some
    GPUs keep ten bits of a number, too few for a place in a large picture.

    Returns:
        [B, 2, 3] float32: old xy = matrix (x, y, 1), in pixels from the centre.
    """
    cos, sin = ops.cos(factors["angle_before"]), ops.sin(factors["angle_before"])
    cos_behind, sin_behind = ops.cos(factors["angle_behind"]), ops.sin(factors["angle_behind"])
    across = 1.0 / (factors["scale"] * factors["stretch"])
    down = factors["stretch"] / factors["scale"]
    xx = cos * across * cos_behind - sin * down * sin_behind
    xy = cos * across * sin_behind + sin * down * cos_behind
    yx = -sin * across * cos_behind - cos * down * sin_behind
    yy = -sin * across * sin_behind + cos * down * cos_behind
    offset_x, offset_y = factors["offset_x"] * width, factors["offset_y"] * height
    x = -(xx * offset_x + xy * offset_y) - ops.round(factors["shift_x"] * width)
    y = -(yx * offset_x + yy * offset_y) - ops.round(factors["shift_y"] * height)
    rows = [ops.stack([xx, xy, x], axis=1), ops.stack([yx, yy, y], axis=1)]
    return ops.stack(rows, axis=1)  # rank 3


def _warp(images: Any, matrix: Any) -> Any:
    """Shows [B, H, W, 3] pictures through the [B, 2, 3] matrices of ``_inverse_geometry``.

    The pictures are doubled by the wavelet, read bilinearly and halved by it again. The identity
    and shifts by whole pixels are exact, borders included.
    """
    height, width = images.shape[1:3]
    rows, columns = _margin(height), _margin(width)
    # Products with matrices of weights, which are their own gradients' transposes, are quick with
    # XLA and without; channels first they are few and large. Measured on two cores for 16 pictures
    # of 64x64: 2 ms for the doubling, against 8 for the four readings below.
    x = ops.transpose(images, (0, 3, 1, 2))
    x = ops.matmul(x, ops.convert_to_tensor(_doubling(width, columns).T))
    x = ops.matmul(ops.convert_to_tensor(_doubling(height, rows)), x)
    x = ops.transpose(x, (0, 2, 3, 1))
    x = _read(x, *_half_pixels(matrix, height, width), (height, width), (rows, columns))
    x = ops.transpose(x, (0, 3, 1, 2))
    x = ops.matmul(ops.convert_to_tensor(_halving(height)), x)
    x = ops.matmul(x, ops.convert_to_tensor(_halving(width).T))
    return ops.transpose(x, (0, 2, 3, 1))


def _margin(size: int) -> int:
    """Half pixels around a doubled picture that are filtered from the mirrored picture.

    They are what whole shifts and the filter reach. Farther out the doubled picture is mirrored,
    which differs a little, since the filter is not symmetric.
    """
    return 2 * math.ceil(size / 8) + _BEHIND + 1


def _doubling(size: int, margin: int) -> np.ndarray:
    """Weights of old pixels [size] in half pixels [2 size - 1 + 2 margin], beginning at -margin."""
    places = np.arange(-margin, 2 * size - 1 + margin)
    weights = np.zeros((len(places), size), np.float32)
    for number, tap in enumerate(_TAPS):
        pixels, odd = np.divmod(places + _CENTRE - number, 2)
        mirrored = size - 1 - np.abs(size - 1 - pixels % (2 * size - 2))
        # Two pixels may be one, mirrored: their weights add up.
        np.add.at(weights, (np.nonzero(odd == 0)[0], mirrored[odd == 0]), np.float32(tap))
    return weights


def _halving(size: int) -> np.ndarray:
    """Weights of half pixels [2 size + 10], beginning before the first, in new pixels [size]."""
    weights = np.zeros((size, 2 * size - 1 + _BEFORE + _BEHIND), np.float32)
    for pixel in range(size):
        weights[pixel, 2 * pixel : 2 * pixel + len(_TAPS)] = _TAPS
    return weights


def _half_pixels(matrix: Any, height: int, width: int) -> tuple[Any, Any]:
    """Where all that is halved to the new picture lies in the old one.

    Returns:
        Rows and columns, [B, 2 H + 10, 2 W + 10] float32 each, in half pixels from the first pixel.
    """
    y = 0.5 * (np.arange(-_BEFORE, 2 * height - 1 + _BEHIND, dtype=np.float32) - (height - 1))
    x = 0.5 * (np.arange(-_BEFORE, 2 * width - 1 + _BEHIND, dtype=np.float32) - (width - 1))
    matrix = matrix[..., None, None]  # rank 5
    old_x = matrix[:, 0, 0] * x + (matrix[:, 0, 1] * y[:, None] + matrix[:, 0, 2])
    old_y = matrix[:, 1, 0] * x + (matrix[:, 1, 1] * y[:, None] + matrix[:, 1, 2])
    return 2.0 * old_y + (height - 1), 2.0 * old_x + (width - 1)


def _read(
    doubled: Any, rows: Any, columns: Any, size_hw: tuple[int, int], margins: tuple[int, int]
) -> Any:
    """Reads doubled pictures between their half pixels: [B, ..., 3] for places [B, ...]."""
    top, down = _neighbour(rows, size_hw[0], margins[0])
    left, right = _neighbour(columns, size_hw[1], margins[1])
    batch, height, width, channels = ops.shape(doubled)
    first = ops.reshape(ops.arange(batch, dtype="int32") * (height * width), (-1, 1, 1))
    at = first + top * width + left
    # One row for each half pixel: the gradient of a gathering along the first axis is the quickest.
    pixels = ops.reshape(doubled, (-1, channels))  # rank 2

    def mix(one: Any, other: Any, share: Any) -> Any:
        return one + (other - one) * share[..., None]

    above = mix(ops.take(pixels, at, axis=0), ops.take(pixels, at + 1, axis=0), right)
    at = at + width
    below = mix(ops.take(pixels, at, axis=0), ops.take(pixels, at + 1, axis=0), right)
    return mix(above, below, down)


def _neighbour(places: Any, size: int, margin: int) -> tuple[Any, Any]:
    """The half pixel before each place, counted from the margin's first, and how far it is past."""
    end = 2.0 * (size - 1)
    mirrored = end - ops.abs(end - ops.mod(places, 2.0 * end))
    inside = ops.logical_and(places >= -margin, places < end + margin)
    places = ops.where(inside, places, mirrored)
    before = ops.floor(places)
    return ops.cast(before, "int32") + margin, places - before


def _colour_matrix(factors: dict[str, Any]) -> Any:
    """Brightness, then contrast, inverted luma, hue and saturation in one.

    Luma is here the axis (1, 1, 1) of equal red, green and blue. All but the brightness act on it
    and on the plane across it separately: contrast and inversion scale along the axis; contrast
    and saturation scale in the plane, and the hue turns it.

    Returns:
        [B, 3, 4] float32: new colour = matrix (red, green, blue, 1).
    """
    along = np.full((3, 3), 1.0 / 3.0, np.float32)
    across = np.eye(3, dtype=np.float32) - along
    turned = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]], np.float32) / math.sqrt(3.0)
    luma = factors["contrast"] * (1.0 - 2.0 * factors["invert_luma"])
    chroma = factors["contrast"] * factors["saturation"]
    matrix = (
        luma[:, None, None] * along
        + (chroma * ops.cos(factors["hue"]))[:, None, None] * across
        + (chroma * ops.sin(factors["hue"]))[:, None, None] * turned
    )
    shift = ops.tile((luma * factors["brightness"])[:, None, None], (1, 3, 1))
    return ops.concatenate([matrix, shift], axis=2)


def _recolour(images: Any, matrix: Any) -> Any:
    """Brings [B, H, W, 3] pictures' colours through [B, 3, 4] matrices."""
    height, width = images.shape[1:3]
    pixels = ops.reshape(images, (-1, height * width, 3))  # rank 3
    pixels = ops.matmul(pixels, ops.transpose(matrix[:, :, :3], (0, 2, 1)))
    pixels = pixels + matrix[:, None, :, 3]
    return ops.reshape(pixels, (-1, height, width, 3))  # rank 4
