import numpy as np
import pytest
import tensorflow as tf

from facegan.errors import ConfigError
from facegan.losses.segmentation import cross_entropy_loss, ohem_cross_entropy_loss


def pixel_losses(logits, labels):
    """-log softmax at the label, by numpy; 0 where the label is 255."""
    away = logits - logits.max(axis=-1, keepdims=True)
    log_p = away - np.log(np.exp(away).sum(axis=-1, keepdims=True))
    ids = np.where(labels == 255, 0, labels).astype(np.int64)
    picked = np.take_along_axis(log_p, ids[..., None], axis=-1)[..., 0]
    return np.where(labels == 255, 0.0, -picked)


@pytest.fixture
def scores():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (2, 6, 4, 5)).astype(np.float32)
    labels = rng.integers(0, 5, (2, 6, 4)).astype(np.uint8)
    return logits, labels


def with_losses(*values):
    """Two-label logits whose pixel losses are the given numbers: [1, 1, n, 2] and labels 0."""
    p = np.exp(-np.array(values, np.float64))
    logits = np.stack([np.log(p), np.log1p(-p)], axis=-1)[None, None].astype(np.float32)
    return logits, np.zeros((1, 1, len(values)), np.uint8)


def test_cross_entropy_by_hand():
    # softmax of (log 3, 0) is (3/4, 1/4).
    logits = np.array([[[[np.log(3), 0], [np.log(3), 0]]]], np.float32)
    labels = np.array([[[0, 1]]], np.uint8)
    expected = (np.log(4 / 3) + np.log(4)) / 2
    assert float(cross_entropy_loss(logits, labels)) == pytest.approx(expected, rel=1e-6)


def test_cross_entropy_is_the_mean_over_counted_pixels(scores):
    logits, labels = scores
    expected = pixel_losses(logits, labels)
    assert float(cross_entropy_loss(logits, labels)) == pytest.approx(expected.mean(), rel=1e-5)
    each = cross_entropy_loss(logits, labels, reduce=False)
    np.testing.assert_allclose(each, expected.mean(axis=(1, 2)), rtol=1e-5)
    labels[0, :2] = 255
    expected = pixel_losses(logits, labels)
    assert float(cross_entropy_loss(logits, labels)) == pytest.approx(expected.sum() / 40, rel=1e-5)
    each = cross_entropy_loss(logits, labels, reduce=False)
    np.testing.assert_allclose(each, expected.sum(axis=(1, 2)) / (16, 24), rtol=1e-5)


def test_ignored_pixels_have_no_gradient_and_may_have_any_score(scores):
    logits, labels = scores
    labels[0] = 255
    logits[0, 0, 0] = np.inf
    for loss in (cross_entropy_loss, ohem_cross_entropy_loss):
        x = tf.constant(np.nan_to_num(logits, posinf=1e30))
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = loss(x, labels)
        gradient = tape.gradient(value, x).numpy()
        assert np.isfinite(float(value))
        assert not gradient[0].any()
        assert gradient[1].any()


def test_nothing_to_count_gives_zero(scores):
    logits, labels = scores
    labels[:] = 255
    assert float(cross_entropy_loss(logits, labels)) == 0
    assert float(ohem_cross_entropy_loss(logits, labels)) == 0


def test_every_id_counts_without_ignore():
    logits = np.zeros((1, 1, 2, 256), np.float32)
    labels = np.array([[[255, 0]]], np.uint8)
    assert float(cross_entropy_loss(logits, labels, ignore=None)) == pytest.approx(np.log(256))
    logits[0, 0, 0, 255] = 100
    expected = np.log(256) / 2
    assert float(cross_entropy_loss(logits, labels, ignore=None)) == pytest.approx(expected)


def test_ohem_takes_the_pixels_above_the_threshold():
    # -log 0.7 is 0.357: three of eight pixels are hard, more than a quarter of them.
    logits, labels = with_losses(0.01, 2.0, 0.35, 0.36, 0.1, 0.02, 1.0, 0.03)
    loss = float(ohem_cross_entropy_loss(logits, labels, threshold=0.7, min_share=0.25))
    assert loss == pytest.approx((2.0 + 0.36 + 1.0) / 3, rel=1e-5)


def test_ohem_takes_the_hardest_where_too_few_are_hard():
    logits, labels = with_losses(0.01, 2.0, 0.35, 0.3, 0.1, 0.02, 1.0, 0.03)
    loss = float(ohem_cross_entropy_loss(logits, labels, threshold=0.7, min_share=0.5))
    assert loss == pytest.approx((2.0 + 1.0 + 0.35 + 0.3) / 4, rel=1e-5)
    # At least one, however small the share.
    loss = float(ohem_cross_entropy_loss(logits, labels, threshold=0.01, min_share=0.01))
    assert loss == pytest.approx(2.0, rel=1e-5)


def test_ohem_is_the_mean_over_those_that_count_where_they_are_few():
    logits, labels = with_losses(0.1, 0.2, 0.3, 0.05)
    labels[0, 0, 2:] = 255
    loss = float(ohem_cross_entropy_loss(logits, labels, min_share=0.75))
    assert loss == pytest.approx(0.15, rel=1e-5)


def test_ohem_of_everything_is_the_cross_entropy(scores):
    logits, labels = scores
    whole = float(ohem_cross_entropy_loss(logits, labels, min_share=1.0))
    assert whole == pytest.approx(float(cross_entropy_loss(logits, labels)), rel=1e-6)


@pytest.mark.parametrize("min_share", [1 / 16, 0.9])
def test_ohem_compiles_and_moves_only_the_chosen_pixels(scores, min_share):
    logits, labels = scores

    def value_and_gradient(logits, labels):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            loss = ohem_cross_entropy_loss(logits, labels, min_share=min_share)
        return loss, tape.gradient(loss, logits)

    free = [tf.TensorSpec((None, None, None, 5)), tf.TensorSpec((None, None, None), tf.uint8)]
    eager = value_and_gradient(tf.constant(logits), labels)
    losses = np.sort(pixel_losses(logits, labels).ravel())[::-1]
    hard = losses > -np.log(0.7)
    chosen = losses[: max(hard.sum(), int(min_share * losses.size))]
    assert float(eager[0]) == pytest.approx(chosen.mean(), rel=1e-5)
    assert np.any(eager[1].numpy(), axis=-1).sum() == len(chosen)
    for kwargs in ({}, {"jit_compile": True}, {"input_signature": free}):
        traced = tf.function(value_and_gradient, **kwargs)(logits, labels)
        for a, b in zip(eager, traced, strict=True):
            np.testing.assert_allclose(b, a, atol=1e-6)


def test_half_precision_logits_are_counted_in_float32(scores):
    logits, labels = scores
    half = tf.cast(logits, tf.bfloat16)
    for loss in (cross_entropy_loss, ohem_cross_entropy_loss):
        value = loss(half, labels)
        assert value.dtype == tf.float32
        assert float(value) == pytest.approx(float(loss(tf.cast(half, tf.float32), labels)))


@pytest.mark.parametrize("loss", [cross_entropy_loss, ohem_cross_entropy_loss])
def test_misshapen_inputs_are_refused(loss):
    logits = np.zeros((1, 4, 4, 3), np.float32)
    with pytest.raises(ConfigError, match=r"label map \[B, H, W\] of ids, got \[1, 4, 4, 3\] and"):
        loss(logits, np.zeros((1, 4, 4, 1), np.uint8))
    with pytest.raises(ConfigError, match="one batch size, height and width"):
        loss(logits, np.zeros((1, 4, 8), np.uint8))


@pytest.mark.parametrize(
    ("values", "message"),
    [({"threshold": 1.0}, "threshold must lie"), ({"min_share": 0.0}, "min_share must be in")],
)
def test_ohem_refuses(values, message):
    with pytest.raises(ConfigError, match=message):
        ohem_cross_entropy_loss(np.zeros((1, 2, 2, 3)), np.zeros((1, 2, 2), np.uint8), **values)
