import numpy as np
import pytest

from facegan.losses.adversarial import ADVERSARIAL

REAL = np.array([[2.0, -1.0], [0.5, 0.0]], np.float32)
FAKE = np.array([[-3.0, 1.0], [0.25, 2.0]], np.float32)


def log_sigmoid(x):
    return -np.log1p(np.exp(-x))


# name -> (generator term of the fake logits, real half, fake half), from the papers' equations.
EXPECTED = {
    "bce": (lambda x: -log_sigmoid(x), lambda x: -log_sigmoid(x), lambda x: -log_sigmoid(-x)),
    "lsgan": (lambda x: (x - 1) ** 2, lambda x: (x - 1) ** 2, lambda x: x**2),
    "hinge": (
        lambda x: -x,
        lambda x: np.maximum(0, 1 - x),
        lambda x: np.maximum(0, 1 + x),
    ),
}


def test_every_loss_is_tested():
    assert set(ADVERSARIAL) == set(EXPECTED)


@pytest.mark.parametrize("name", sorted(EXPECTED))
@pytest.mark.parametrize("reduce", [True, False])
def test_values_are_the_papers(name, reduce):
    loss, (generator, real, fake) = ADVERSARIAL[name], EXPECTED[name]
    axis = None if reduce else 1
    np.testing.assert_allclose(
        loss.generator(FAKE, reduce=reduce), generator(FAKE).mean(axis), rtol=1e-6
    )
    np.testing.assert_allclose(
        loss.discriminator(REAL, FAKE, reduce=reduce),
        real(REAL).mean(axis) + fake(FAKE).mean(axis),
        rtol=1e-6,
    )


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_scales_count_alike_whatever_their_size(name):
    loss = ADVERSARIAL[name].generator
    large = np.random.default_rng(0).normal(size=(2, 8, 8, 1)).astype(np.float32)
    small = np.random.default_rng(1).normal(size=(2, 2, 2, 1)).astype(np.float32)
    mean = (float(loss(large)) + float(loss(small))) / 2
    np.testing.assert_allclose(loss((large, small)), mean, rtol=1e-5)
    np.testing.assert_allclose(loss([large, small]), mean, rtol=1e-5)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_half_precision_logits_give_finite_float32(name):
    loss = ADVERSARIAL[name]
    extreme = np.array([[-60000.0, 60000.0]], np.float16)
    value = loss.discriminator(extreme, extreme)
    assert value.dtype == "float32"
    assert np.isfinite(value)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_logits_without_a_map_are_one_value_each(name):
    loss = ADVERSARIAL[name].generator
    np.testing.assert_allclose(
        loss(FAKE[:, 0], reduce=False), loss(FAKE[:, :1], reduce=False), rtol=1e-6
    )
