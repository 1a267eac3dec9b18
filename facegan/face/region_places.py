"""Where the regions of a head lie as a rule: log odds by place, before any colour is looked at.

All numbers are nats by distances between the eyes, drawn after CelebAMask-HQ's maps. They say what
to think of a pixel whose colour tells nothing, and how much a colour has to tell to be believed.
"""

from __future__ import annotations

import numpy as np

from facegan.face.region_shapes import FaceFrame

# Regions that are found by colour and place, ears as skin beside the face.
REGIONS = ("background", "skin", "hair", "neck", "cloth", "ear")
NEVER = -20.0

# Tables have one value for each step of a distance from _LOW on.
_LOW, _STEPS, _COUNT = -4.0, 64, 8 * 64


def _table(*knots: tuple[float, float]) -> np.ndarray:
    """Straight lines between (distance, log odds), level beyond both ends."""
    places, values = zip(*knots, strict=True)
    return np.interp(_LOW + np.arange(_COUNT) / _STEPS, places, values).astype(np.float32)


def _index(distance: np.ndarray) -> np.ndarray:
    return np.clip((distance - _LOW) * _STEPS + 0.5, 0, _COUNT - 1).astype(np.int32)


# By the distance from the face's outline, above the ears, beside the face and under the jaw.
_SKIN_ABOVE = _table(
    (-0.45, 0.0), (-0.2, -0.8), (0.0, -1.7), (0.3, -3.0), (0.7, -6.0), (1.0, NEVER)
)
_SKIN_BESIDE = _table((-0.1, 0.0), (0.0, -0.7), (0.1, -5.0), (0.2, NEVER))
_HAIR_ABOVE = _table(
    (-1.0, -5.0), (-0.45, -1.8), (-0.2, -1.3), (0.0, -0.3), (0.15, 0.0), (0.7, 0.0), (1.0, -0.7),
    (1.4, -3.0), (2.0, -6.0)
)  # fmt: skip
_HAIR_BESIDE = _table(
    (-0.6, -12.0), (-0.25, -7.0), (-0.1, -3.5), (0.0, -1.0), (0.05, 0.0), (0.5, 0.0), (1.0, -0.7),
    (2.0, -2.5)
)  # fmt: skip
_BACK_ABOVE = _table((-0.1, NEVER), (0.0, -6.0), (0.2, -3.0), (0.4, -1.8), (0.8, -0.5), (1.1, 0.0))
_BACK_BESIDE = _table((-0.05, NEVER), (0.0, -3.0), (0.1, -1.2), (0.3, -0.4), (0.6, 0.0))
# By the height over the eyes.
_ABOVE = _table((-0.1, 0.0), (0.5, 1.0))
_CLOTH = _table((-2.9, 0.0), (-2.6, -0.2), (-2.2, -1.0), (-1.8, -2.5), (-1.5, -5.5), (-1.2, NEVER))
_NECK_WIDTH = _table((-3.2, 2.2), (-2.7, 1.4), (-2.3, 0.9), (-1.5, 0.75))
_LOW_BACK = _table((-3.2, -2.0), (-2.6, -1.0), (-2.2, 0.0))
_LOW_HAIR = _table((-2.6, -0.8), (-1.6, -0.3), (-1.0, 0.0))
# What hair that never hangs beside the jaw loses under it.
_SHORT = _table((-2.4, -9.0), (-1.8, -6.0), (-1.0, 0.0))
# Under the middle of the chin.
_UNDER_CHIN = _table((0.5, -4.0), (0.9, -2.0), (1.4, 0.0))
_NECK_ASIDE = _table((-0.15, 0.0), (0.0, -0.7), (0.6, -4.5), (1.0, -8.0))
_NECK_BELOW = _table((-4.0, -0.2), (-0.05, -0.2), (0.0, -1.5), (0.06, -8.0), (0.1, NEVER))
# How far from an ear's middle, in its own half axes, it reaches.
_EAR = _table((0.7, 1.2), (1.0, 0.0), (1.35, -4.0), (1.6, NEVER))
# Half axes of an ear.
_EAR_AXES = (0.17, 0.36)


def place_regions(frame: FaceFrame, long_hair: float = 1.0) -> np.ndarray:
    """Log odds [6, H, W] float32 of the ``REGIONS``, the likeliest about 0.

    Args:
        frame: Of the face.
        long_hair: From 0 to 1, whether hair hangs beside the jaw.
    """
    up, outside = _index(frame.up), _index(frame.outside)
    aside = np.abs(frame.across)
    above = _ABOVE[up]
    beside = 1.0 - above
    low = frame.below < 0.05
    column = _index(aside - _NECK_WIDTH[up])

    odds = np.empty((len(REGIONS), *frame.up.shape), np.float32)
    background, skin, hair, neck, cloth, ear = odds
    skin[:] = above * _SKIN_ABOVE[outside] + beside * _SKIN_BESIDE[outside]
    chin = _UNDER_CHIN[_index(aside)] * low
    hair[:] = above * _HAIR_ABOVE[outside] + beside * _HAIR_BESIDE[outside]
    # A beard has the colour of hair and is skin.
    inner = np.maximum(0.0, -frame.outside) * np.clip(-0.6 - frame.up, 0.0, 1.0) * 40.0
    close = _SHORT[up] - 8.0 * beside * np.clip(frame.outside - 0.25, 0.0, 1.0)
    hair += chin + _LOW_HAIR[up] + close * np.float32(1.0 - long_hair) - inner
    background[:] = above * _BACK_ABOVE[outside] + beside * _BACK_BESIDE[outside]
    background += 1.5 * chin + _LOW_BACK[up] * (aside < 2.4)
    neck[:] = _NECK_BELOW[_index(frame.below)] + _NECK_ASIDE[column]
    neck += np.where(frame.outside < -0.05, np.float32(NEVER), np.float32(0.0))
    cloth[:] = _CLOTH[up] - np.maximum(0.0, aside - 2.4)
    cloth += np.where(frame.outside < 0.0, np.float32(NEVER), np.float32(0.0))
    cloth -= 3.0 * np.clip(0.9 - aside, 0.0, 0.5) * np.clip(frame.up + 3.2, 0.0, 1.0)
    ear[:] = NEVER
    for side, place in zip((-1.0, 1.0), frame.ears_xy, strict=True):
        far = np.hypot(
            (frame.across - place[0]) / _EAR_AXES[0], (frame.up - place[1]) / _EAR_AXES[1]
        )
        # The ear that a turned head points away from the camera is not seen.
        hidden = 12.0 * max(0.0, side * frame.turn - 0.12)
        np.maximum(ear, _EAR[_index(far)] - np.float32(hidden), out=ear)
    ear += np.where(frame.outside < -0.03, np.float32(-4.0), np.float32(0.0))
    return odds
