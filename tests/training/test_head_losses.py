import numpy as np
import pytest

from facegan.errors import ConfigError
from facegan.models.perceptual import VGGFeaturesConfig, make_vgg19, make_vgg_face
from facegan.training.head_losses import HeadLossConfig, HeadLosses

FIRST = tuple(f"conv{block}_1" for block in range(1, 6))


def pictures():
    rng = np.random.default_rng(0)
    return (rng.uniform(-1, 1, (1, 32, 32, 3)).astype(np.float32) for _ in range(2))


def test_content_counts_the_first_maps_of_both_networks_alike():
    losses = HeadLosses(
        HeadLossConfig(perceptual_net="random", content_weight=0.5, face_weight=0.25)
    )
    losses.prepare("float32")
    fake, real = pictures()
    verdict = {"logits": np.zeros((1, 1), np.float32), "features": [np.ones((1, 2, 2, 3))]}
    loss, terms = losses.generator(fake, real, verdict, verdict)
    expected = 0.0
    for weight, net in (
        (0.5, make_vgg19("random", VGGFeaturesConfig(layers=FIRST))),
        (0.25, make_vgg_face("random", VGGFeaturesConfig(architecture="vgg16", layers=FIRST))),
    ):
        pairs = zip(net({"image": fake}), net({"image": real}), strict=True)
        expected += weight * sum(np.abs(np.asarray(a) - np.asarray(b)).mean() for a, b in pairs)
    assert float(loss) == pytest.approx(expected, rel=1e-4)
    assert set(terms) == {"G/adv", "G/feat", "G/content", "G/face"}


def test_weights_of_nought_need_no_network():
    losses = HeadLosses(HeadLossConfig(content_weight=0.0, face_weight=0.0, l1_weight=2.0))
    losses.prepare("float32")
    fake, real = pictures()
    verdict = {"logits": np.full((1, 1), 3.0, np.float32), "features": [np.ones((1, 2, 2, 3))]}
    loss, _ = losses.generator(fake, real, verdict, verdict)
    assert float(loss) == pytest.approx(-3 + 2 * np.abs(fake - real).mean(), rel=1e-5)


def test_wrong_weights_are_refused():
    with pytest.raises(ConfigError, match="face_weight must be >= 0, got -1"):
        HeadLossConfig(face_weight=-1.0)
