"""Which region the pixels of a head belong to, learnt from a few pictures of it.

Place alone says where hair, neck and clothes should be; what is found there teaches their colours;
and by colour and place together the regions are found anew, until both agree: expectation and
maximization over regions whose colours are mixtures of Gaussians, as in GrabCut, with soft shares.

Reference: Rother, Kolmogorov and Blake, "GrabCut", SIGGRAPH 2004. Differences: several regions, a
place prior of a head instead of a box, guided filtering instead of graph cuts, and what is learnt
is kept, so that the same colours mean the same in every picture of a clip.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import cv2
import numpy as np

from facegan.face.region_colours import (
    LEAST_PIXELS,
    ColourModel,
    fit_colours,
    join,
    log_density,
    monomials,
    without_place,
)
from facegan.face.region_places import NEVER, REGIONS, place_regions
from facegan.face.region_shapes import FaceFrame

BACKGROUND, SKIN, HAIR, NECK, CLOTH, EAR = range(len(REGIONS))

# A crop as ``look_at`` sees it, and where things are in it.
Face = tuple[np.ndarray, FaceFrame]

# Log density of a colour of which nothing is known: what a usual Gaussian has at three standard
# deviations, so that what is farther from all that is known is something else.
_UNKNOWN = -17.0
# No colour is so strange that place has no say.
_LEAST_DENSITY = -23.0
# Neighbouring pixels say the same thing, so each is believed a little less.
_TRUST = 0.8
# So many pixels of a row are looked at while learning.
_LEARNT = 64
_ROUNDS = 3
_COMPONENTS = {BACKGROUND: 8, SKIN: 5, HAIR: 3, NECK: 3, CLOTH: 3}
_FIRST_COMPONENTS = 4
# By how much, in nats, a colour over the face must be likelier as hair than as background.
_LIKELIER = 0.7
# Share of the pixels over the face that must be hair, or there is none.
_LEAST_HAIR = 0.25
# Share of a person's pixels at the bottom that must look like nothing else, or there are no
# clothes; and how much less like the face, in nats, the skin of shoulders is.
_LEAST_CLOTH, _DIM = 0.3, 5.0
# How much less like the face, in nats, the skin of a neck is.
_NECK_UNLIKE = 1.5
# Shares of hair beside the jaw from which it may, and from which it does, hang down.
_HANGS_FROM, _HANGS_TO = 0.2, 0.45
# The crop is that many units of place wide for the background, which stands still in it.
_CROP = 4.0


@dataclasses.dataclass(frozen=True, slots=True)
class RegionModels:
    """What is known about the regions of a head.

    Attributes:
        colours: By region; those of one without a model may be any.
        absent: Regions that the pictures do not have.
        long_hair: From 0 to 1, whether hair hangs beside the jaw.
    """

    colours: dict[int, ColourModel]
    absent: frozenset[int]
    long_hair: float


def region_odds(looks: np.ndarray, frame: FaceFrame, models: RegionModels) -> np.ndarray:
    """Log odds of the regions by colour and place: [6, H, W] float32, the largest 0.

    Args:
        looks: [H, W, 4] uint8 from ``look_at``.
        frame: Of the same size.
        models: What was learnt.
    """
    odds = place_regions(frame, models.long_hair)
    densities = _log_densities(*_samples(looks, frame), models.colours)
    odds += _TRUST * densities.reshape(odds.shape)
    odds[list(models.absent)] = 2 * NEVER
    return odds - odds.max(axis=0)


def learn_regions(faces: Sequence[Face]) -> RegionModels:
    """Learns from at least one crop, all of one size."""
    thin = [_thin(*face) for face in faces]
    on_head, in_crop = (
        np.concatenate(parts) for parts in zip(*(_samples(*face) for face in thin), strict=True)
    )
    zones = {
        name: np.concatenate([zone(frame).ravel() for _, frame in thin]).astype(np.float32)
        for name, zone in _ZONES.items()
    }
    colours, absent = _begin(on_head, zones)
    flat = without_place(on_head)
    densities = _log_densities(flat, flat, colours)
    shares = _share(_place(thin, 1.0), densities, absent, thin)
    # An earring or a turned head may hide the hair at one side.
    hair = shares[HAIR] * (densities[HAIR] > _UNKNOWN)
    long_hair = max(_hangs(hair, zones["left"]), _hangs(hair, zones["right"]))
    place = _place(thin, long_hair)
    for round_ in range(_ROUNDS):
        if round_ > 0:
            densities = _log_densities(on_head, in_crop, colours)
        shares = _share(place, densities, absent, thin)
        _connect(shares, thin)
        colours = _fit(on_head, in_crop, shares, zones)
        over = float(zones["over"].sum())
        if HAIR not in colours or (shares[HAIR] @ zones["over"]) < _LEAST_HAIR * over:
            absent.add(HAIR)
            colours.pop(HAIR, None)
    return RegionModels(colours, frozenset(absent), long_hair)


def _thin(looks: np.ndarray, frame: FaceFrame) -> Face:
    step = slice(None, None, max(1, looks.shape[1] // _LEARNT))
    fewer = dataclasses.replace(
        frame,
        across=frame.across[step, step],
        up=frame.up[step, step],
        outside=frame.outside[step, step],
        below=frame.below[step, step],
    )
    return looks[step, step], fewer


def _samples(looks: np.ndarray, frame: FaceFrame) -> tuple[np.ndarray, np.ndarray]:
    """Samples [N, 6] with places on the head, and with places in the crop."""
    height, width = frame.up.shape
    line = np.arange(max(height, width), dtype=np.float32) * np.float32(_CROP / width)
    x = np.broadcast_to(line[None, :width], (height, width))
    y = np.broadcast_to(line[:height, None], (height, width))
    return join(looks, frame.across, frame.up), join(looks, x, y)


def _place(faces: Sequence[Face], long_hair: float) -> np.ndarray:
    """Log odds [6, N] of all faces by place alone."""
    odds = [place_regions(frame, long_hair).reshape(len(REGIONS), -1) for _, frame in faces]
    return np.concatenate(odds, axis=1)


def _log_densities(
    on_head: np.ndarray, in_crop: np.ndarray, colours: dict[int, ColourModel]
) -> np.ndarray:
    """[6, N] float32 log densities of the samples' looks, bounded below."""
    out = np.full((len(REGIONS), len(on_head)), _UNKNOWN, np.float32)
    head, crop = monomials(on_head), monomials(in_crop)
    for region, model in colours.items():
        out[region] = log_density(model, *(crop if region == BACKGROUND else head))
    if SKIN in colours:
        out[EAR] = out[SKIN]
        own = out[NECK] if NECK in colours else _LEAST_DENSITY
        out[NECK] = np.maximum(own, out[SKIN] - _NECK_UNLIKE)
    return np.maximum(out, _LEAST_DENSITY, out=out)


# Where to look for what, before anything is known.


def _sure_skin(frame: FaceFrame) -> np.ndarray:
    aside = np.abs(frame.across)
    cheeks = (frame.up < -0.3) & (frame.up > -1.0) & ~((aside < 0.45) & (frame.up < -0.8))
    forehead = (frame.up > 0.4) & (frame.up < 0.7) & (aside < 0.4)
    return (frame.outside < -0.2) & (cheeks | forehead)


def _edge(frame: FaceFrame) -> np.ndarray:
    edge = np.zeros(frame.up.shape, bool)
    band = max(2, len(edge) // 16)
    edge[:band] = edge[:, :band] = edge[:, -band:] = True
    far = (frame.up > 0.2) & (frame.outside > 1.0)
    return (edge & (frame.up > -1.2) & (frame.outside > 0.7)) | far


def _over(frame: FaceFrame) -> np.ndarray:
    above = (frame.up > 0.9) & (np.abs(frame.across) < 0.9)
    return above & (frame.outside > -0.1) & (frame.outside < 0.4)


def _low(frame: FaceFrame) -> np.ndarray:
    bottom = np.zeros(frame.up.shape, bool)
    bottom[-max(2, len(bottom) // 12) :] = True
    deep = (bottom & (frame.up < -1.7)) | (frame.up < -2.7)
    return deep & (np.abs(frame.across) < 2.2) & (frame.outside > 0.15)


def _beside_jaw(frame: FaceFrame) -> np.ndarray:
    height = (frame.up > -1.75) & (frame.up < -1.1) & (np.abs(frame.across) > 0.5)
    return height & (frame.outside > 0.04) & (frame.outside < 0.4)


_ZONES: dict[str, Callable[[FaceFrame], np.ndarray]] = {
    "skin": _sure_skin,
    "edge": _edge,
    "over": _over,
    "low": _low,
    "left": lambda frame: _beside_jaw(frame) & (frame.across < 0),
    "right": lambda frame: _beside_jaw(frame) & (frame.across > 0),
    # Where a region may teach: nothing that hangs over the forehead, and no shoulders.
    "face": lambda frame: (frame.outside < -0.1) & (frame.up < 0.3),
    "high": lambda frame: frame.up > -1.5,
}


def _begin(
    on_head: np.ndarray, zones: dict[str, np.ndarray]
) -> tuple[dict[int, ColourModel], set[int]]:
    """First guesses by colour alone, from where regions should be; and which regions are not."""
    flat = without_place(on_head)
    colours: dict[int, ColourModel] = {}

    def learn(region: int, weights: np.ndarray) -> np.ndarray:
        """Log densities of all pixels after learning from some."""
        colours.pop(region, None)
        if weights.sum() < LEAST_PIXELS:
            return np.full(len(flat), _UNKNOWN, np.float32)
        colours[region] = fit_colours(flat, weights, _FIRST_COMPONENTS)
        return colours[region].log_density(flat)

    skin = learn(SKIN, zones["skin"])
    over, edge = zones["over"], zones["edge"]
    if SKIN in colours:
        over = over * (skin < _UNKNOWN)
    hair, back = learn(HAIR, over), learn(BACKGROUND, edge)
    # Hair may reach the edge of the picture, and what is behind may show over the hair. Over a
    # bald head there is nothing else than at the edge, and so no hair.
    if HAIR in colours and BACKGROUND in colours:
        is_hair = hair - back > _LIKELIER
        over, edge = over * is_hair, edge * ~is_hair
        hair, back = learn(HAIR, over), learn(BACKGROUND, edge)
    absent = set()
    if over.sum() < max(LEAST_PIXELS, _LEAST_HAIR * zones["over"].sum()):
        absent.add(HAIR)
        colours.pop(HAIR, None)

    # Clothes may be as dark as hair, but long hair before them is hair.
    person = zones["low"] * (back < _UNKNOWN if BACKGROUND in colours else 1.0)
    low = zones["low"] * (skin < _UNKNOWN - _DIM if SKIN in colours else 1.0)
    if HAIR in colours:
        like_hair = hair > np.maximum(_UNKNOWN, back)
        hangs = max(_hangs(like_hair, zones[side]) for side in ("left", "right"))
        low = low * (1.0 - hangs * like_hair)
    cloth = learn(CLOTH, low)
    if CLOTH in colours and BACKGROUND in colours:
        low = low * (cloth - back > _LIKELIER)
        learn(CLOTH, low)
    if low.sum() < max(LEAST_PIXELS, _LEAST_CLOTH * person.sum()):
        colours.pop(CLOTH, None)
        if zones["low"].sum() >= LEAST_PIXELS:
            absent.add(CLOTH)
    return colours, absent


def _hangs(hair: np.ndarray, zone: np.ndarray) -> float:
    """Whether hair hangs in a zone, from 0 to 1; yes where that cannot be seen."""
    pixels = float(zone.sum())
    if pixels < LEAST_PIXELS / 2:
        return 1.0
    share = float((hair * zone).sum()) / pixels
    return float(np.clip((share - _HANGS_FROM) / (_HANGS_TO - _HANGS_FROM), 0.0, 1.0))


def _share(
    place: np.ndarray, densities: np.ndarray, absent: set[int], faces: Sequence[Face]
) -> np.ndarray:
    """Shares [6, N] of the regions, alike within an area and changing where the picture does."""
    odds = place + _TRUST * densities
    odds[list(absent)] = 2 * NEVER
    shares = np.exp(odds - odds.max(axis=0))
    shares /= shares.sum(axis=0)
    start = 0
    for looks, frame in faces:
        stop = start + frame.up.size
        guide = np.ascontiguousarray(looks[..., :3])
        for share in shares[:, start:stop]:
            plane = share.reshape(frame.up.shape)
            smooth = cv2.ximgproc.guidedFilter(guide, plane, 3, 60.0)
            share[:] = np.clip(smooth, 0.0, 1.0).ravel()
        start = stop
    return shares


def _connect(shares: np.ndarray, faces: Sequence[Face]) -> None:
    """Takes hair that hangs together with none at the head for background."""
    start = 0
    for _, frame in faces:
        here = shares[:, start : start + frame.up.size]
        loose = loose_hair((here[HAIR] > 0.4).reshape(frame.up.shape), frame).ravel()
        here[BACKGROUND, loose] += here[HAIR, loose]
        here[HAIR, loose] = 0.0
        start += frame.up.size


def loose_hair(hair: np.ndarray, frame: FaceFrame) -> np.ndarray:
    """Those pixels of hair [H, W] bool that hang together with none at the head: [H, W] bool."""
    _, numbers = cv2.connectedComponents(hair.view(np.uint8), connectivity=4)
    held = np.zeros(numbers.max() + 1, bool)
    held[numbers[(frame.outside < 0.3) & (frame.up > -0.3)]] = True
    return hair & ~held[numbers]


def _fit(
    on_head: np.ndarray, in_crop: np.ndarray, shares: np.ndarray, zones: dict[str, np.ndarray]
) -> dict[int, ColourModel]:
    colours = {}
    for region, components in _COMPONENTS.items():
        # What is doubtful teaches little.
        weights = shares[region] ** 2
        if region == SKIN:
            weights = weights * (0.15 + 0.85 * zones["face"])
        elif region == BACKGROUND:
            weights = weights * (0.1 + 0.9 * zones["high"])
        if weights.sum() >= LEAST_PIXELS:
            samples = in_crop if region == BACKGROUND else on_head
            colours[region] = fit_colours(samples, weights, components)
    return colours
