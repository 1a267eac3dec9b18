import numpy as np
import pytest
import tensorflow as tf

from facegan.errors import ConfigError
from facegan.losses.features import cosine_loss, feature_matching_loss, perceptual_loss

RNG = np.random.default_rng(0)


def maps(*sizes):
    return [RNG.normal(size=(2, s, s, 3)).astype(np.float32) for s in sizes]


def test_feature_matching_averages_maps_then_scales():
    real, fake = [maps(8, 4), maps(4, 2)], [maps(8, 4), maps(4, 2)]
    per_scale = [
        np.mean([np.abs(r - f).mean() for r, f in zip(*scale, strict=True)])
        for scale in zip(real, fake, strict=True)
    ]
    np.testing.assert_allclose(feature_matching_loss(real[0], fake[0]), per_scale[0], rtol=1e-5)
    np.testing.assert_allclose(feature_matching_loss(real, fake), np.mean(per_scale), rtol=1e-5)
    assert feature_matching_loss(real, fake, reduce=False).shape == (2,)


def test_perceptual_loss_weighs_each_map():
    a, b = maps(8, 4), maps(8, 4)
    expected = sum(w * np.abs(x - y).mean() for w, x, y in zip((0.25, 2.0), a, b, strict=True))
    np.testing.assert_allclose(perceptual_loss(a, b, (0.25, 2.0)), expected, rtol=1e-5)
    assert perceptual_loss(a, b, (0.25, 2.0), reduce=False).shape == (2,)


def test_cosine_loss_by_hand():
    ones = np.array([[3.0, 4.0], [1.0, 0.0], [0.0, 2.0]], np.float32)
    others = np.array([[6.0, 8.0], [0.0, 5.0], [0.0, -1.0]], np.float32)
    np.testing.assert_allclose(cosine_loss(ones, others, reduce=False), [0, 1, 2], atol=1e-6)
    np.testing.assert_allclose(cosine_loss(ones, others), 1, atol=1e-6)
    zeros = tf.Variable(np.zeros((1, 2), np.float32))
    with tf.GradientTape() as tape:
        loss = cosine_loss(zeros.value(), others[:1])
    assert float(loss) == 1 and np.all(np.isfinite(tape.gradient(loss, zeros)))


def test_the_target_gets_no_gradient():
    real, fake = tf.Variable(maps(4)[0]), tf.Variable(maps(4)[0])
    with tf.GradientTape(persistent=True) as tape:
        matching = feature_matching_loss([real.value()], [fake.value()])
        perceptual = perceptual_loss([fake.value()], [real.value()], (1.0,))
    for loss in (matching, perceptual):
        assert tape.gradient(loss, real) is None
        assert np.any(tape.gradient(loss, fake))


def test_unequal_lists_are_refused():
    with pytest.raises(ConfigError, match="got 2 and 1"):
        feature_matching_loss(maps(4, 2), maps(4))
    with pytest.raises(ConfigError, match="weights"):
        perceptual_loss(maps(4, 2), maps(4, 2), (1.0,))
    with pytest.raises(ConfigError, match="got 0 and 0"):
        perceptual_loss([], [], ())
