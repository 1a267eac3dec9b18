import numpy as np
import pytest
import tensorflow as tf

from facegan.training.identity_term import IdentityTerm


@pytest.fixture(scope="module")
def term():
    term = IdentityTerm("random")
    term.prepare("float32")
    return term


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    return [rng.uniform(-1, 1, (2, 32, 32, 3)).astype(np.float32) for _ in range(2)]


def test_it_is_one_less_the_cosine_of_two_descriptors(term, images):
    first, second = (np.asarray(term.describe(image)) for image in images)
    assert first.shape == (2, 512)
    cosines = (first * second).sum(axis=1)
    cosines /= np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    np.testing.assert_allclose(term(*images), 1 - cosines.mean(), atol=1e-6)
    assert float(term(images[0], images[0])) == pytest.approx(0, abs=1e-6)


def test_it_can_be_differentiated(term, images):
    fake, real = tf.Variable(images[0]), tf.Variable(images[1])
    with tf.GradientTape(persistent=True) as tape:
        loss = term(fake.value(), real.value())
    assert np.any(tape.gradient(loss, fake))
    assert tape.gradient(loss, real) is None


def test_it_wants_to_be_prepared(images):
    with pytest.raises(RuntimeError, match="prepared"):
        IdentityTerm("random")(*images)
