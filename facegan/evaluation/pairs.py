"""Scores generated pictures against the true ones they should equal.

This is the evaluation of conditioned generators: condition -> fake, beside the real frame that
the condition was drawn from.
"""

import itertools
import math
from collections.abc import Iterable

import numpy as np

from facegan.errors import ConfigError
from facegan.evaluation import identity
from facegan.evaluation import ssim as ssim_module

# Equal pictures have an infinite ratio, which no mean survives and JSON cannot hold. Two uint8
# pictures of a megapixel that differ in one code of one channel reach 113 dB.
_PSNR_LIMIT_DB = 100.0


def compare_pictures(real: np.ndarray, fake: np.ndarray) -> dict[str, float]:
    """How alike two pictures [H, W, 3] uint8 of one shape are.

    Returns:
        ``ssim`` (1 is equal), ``psnr_db`` (100 for equal ones), ``l1`` (share of the value range).

    Raises:
        ConfigError: They differ in shape, or are smaller than the window of the SSIM.
    """
    return {
        "ssim": ssim_module.ssim(real, fake),
        "psnr_db": min(ssim_module.psnr(real, fake), _PSNR_LIMIT_DB),
        "l1": ssim_module.mean_absolute_difference(real, fake),
    }


def evaluate_pairs(
    real: Iterable[np.ndarray],
    fake: Iterable[np.ndarray],
    *,
    identity_model: identity.Describer | None = None,
) -> dict[str, float | int | None]:
    """Compares pictures pair by pair.

    The pictures are taken one pair at a time, so both arguments may be generators over a long
    video.

    Args:
        real: True pictures [H, W, 3] uint8.
        fake: Generated pictures in the same order, each of its partner's shape.
        identity_model: A face descriptor model; without one the identity numbers are left out.

    Returns:
        ``pairs``, and means over the pairs: ``ssim`` (1 is equal), ``psnr_db`` (an equal pair
        counts as 100), ``l1`` (share of the value range); with a model also
        ``identity_distance`` (None when no face was found), ``identity_pairs``,
        ``identity_coverage`` and ``identity_distance_real``, the distance between two different
        real pictures.

    Raises:
        ConfigError: There are no pairs, the sets differ in length, or a pair differs in shape.
    """
    terms: dict[str, list[float]] = {"ssim": [], "psnr_db": [], "l1": []}
    described: list[np.ndarray | None] = []  # real, fake, real, fake ...
    end = object()
    for index, pair in enumerate(itertools.zip_longest(real, fake, fillvalue=end)):
        if pair[0] is end or pair[1] is end:
            shorter = "real" if pair[0] is end else "generated"
            raise ConfigError(
                f"There are only {index} {shorter} pictures and more of the others; pairs need "
                "as many of one as of the other."
            )
        true, made = np.asarray(pair[0]), np.asarray(pair[1])
        for name, value in compare_pictures(true, made).items():
            terms[name].append(value)
        if identity_model is not None:
            described += [identity_model.describe(picture, None) for picture in (true, made)]
    if not terms["ssim"]:
        raise ConfigError("evaluate_pairs needs at least one pair of pictures, got none.")
    result: dict[str, float | int | None] = {"pairs": len(terms["ssim"])}
    result.update({name: math.fsum(values) / len(values) for name, values in terms.items()})
    if identity_model is not None:
        rows = identity.stack_descriptors(described)
        score = identity.paired_identity_score(rows[0::2], rows[1::2])
        result["identity_distance"] = score.distance
        result["identity_pairs"] = score.pairs
        result["identity_coverage"] = score.coverage
        result["identity_distance_real"] = identity.own_identity_score(rows[0::2]).distance
    return result
