import json

import numpy as np
import pytest

from facegan.errors import ConfigError
from facegan.evaluation import pairs, ssim


class FirstPixel:
    def describe(self, image, landmarks_xy_px=None):
        return None if image[0, 0, 0] == 0 else image[0, 0].astype(np.float32)


def _pictures(count=3, seed=0):
    rng = np.random.default_rng(seed)
    return list(rng.integers(1, 256, (count, 16, 16, 3), np.uint8))


def test_means_are_over_the_pairs():
    real, fake = _pictures(seed=0), _pictures(seed=1)
    result = pairs.evaluate_pairs(iter(real), iter(fake))
    assert result["pairs"] == 3
    couples = list(zip(real, fake, strict=True))
    assert result["ssim"] == pytest.approx(np.mean([ssim.ssim(a, b) for a, b in couples]))
    assert result["psnr_db"] == pytest.approx(np.mean([ssim.psnr(a, b) for a, b in couples]))
    assert result["l1"] == pytest.approx(
        np.mean([ssim.mean_absolute_difference(a, b) for a, b in couples])
    )
    assert "identity_distance" not in result


def test_equal_pictures_give_perfect_scores_that_json_can_hold():
    real = _pictures()
    result = pairs.evaluate_pairs(real, real, identity_model=FirstPixel())
    assert result["ssim"] == pytest.approx(1.0)
    assert (result["psnr_db"], result["l1"], result["identity_distance"]) == (100.0, 0.0, 0.0)
    assert result["identity_coverage"] == 1.0
    assert result["identity_distance_real"] > 0
    json.loads(json.dumps(result, allow_nan=False))


def test_pictures_without_a_face_lower_the_coverage():
    real, fake = _pictures(), _pictures()
    fake[1] = np.zeros_like(fake[1])
    result = pairs.evaluate_pairs(real, fake, identity_model=FirstPixel())
    assert result["identity_pairs"] == 2
    assert result["identity_coverage"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("real, fake, word", [(3, 2, "2 generated"), (1, 2, "1 real")])
def test_sets_of_different_length_are_refused(real, fake, word):
    with pytest.raises(ConfigError, match=f"only {word}"):
        pairs.evaluate_pairs(_pictures(real), _pictures(fake))


def test_no_pictures_are_refused():
    with pytest.raises(ConfigError, match="at least one pair"):
        pairs.evaluate_pairs([], [])
