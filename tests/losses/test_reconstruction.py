import numpy as np
import pytest

from facegan.losses.reconstruction import charbonnier_loss, l1_loss, l2_loss

RNG = np.random.default_rng(0)
A = RNG.uniform(-1, 1, (2, 4, 3, 3)).astype(np.float32)
B = RNG.uniform(-1, 1, (2, 4, 3, 3)).astype(np.float32)
TERMS = {
    l1_loss: np.abs(A - B),
    l2_loss: (A - B) ** 2,
    charbonnier_loss: np.sqrt((A - B) ** 2 + 1e-6),
}
each_loss = pytest.mark.parametrize("loss", TERMS, ids=lambda f: f.__name__)


@each_loss
def test_mean_over_all_values_or_per_example(loss):
    np.testing.assert_allclose(loss(A, B), TERMS[loss].mean(), rtol=1e-5)
    np.testing.assert_allclose(loss(A, B, reduce=False), TERMS[loss].mean((1, 2, 3)), rtol=1e-5)


@each_loss
def test_weights_choose_where_it_counts(loss):
    mask = np.zeros((2, 4, 3, 1), np.float32)
    mask[0, 1, 2] = 1
    mask[1, 3, 0] = 3
    weights = np.broadcast_to(mask, A.shape)
    expected = (TERMS[loss] * weights).sum() / weights.sum()
    np.testing.assert_allclose(loss(A, B, mask), expected, rtol=1e-5)
    each = (TERMS[loss] * weights).sum((1, 2, 3)) / weights.sum((1, 2, 3))
    np.testing.assert_allclose(loss(A, B, mask, reduce=False), each, rtol=1e-5)


@each_loss
def test_no_weight_at_all_gives_zero(loss):
    assert float(loss(A, B, np.zeros((2, 4, 3, 1)))) == 0


@each_loss
def test_half_precision_is_summed_in_float32(loss):
    value = loss(np.full((1, 512, 512, 3), 0.5, np.float16), np.zeros((1, 512, 512, 3), np.float16))
    assert value.dtype == "float32"
    np.testing.assert_allclose(value, 0.25 if loss is l2_loss else 0.5, rtol=1e-4)


def test_charbonnier_is_smooth_at_zero():
    np.testing.assert_allclose(charbonnier_loss(A, A, epsilon=0.5), 0.5, rtol=1e-6)
