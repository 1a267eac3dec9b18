import numpy as np
import pytest

from facegan.layers.attention import SelfAttention


@pytest.fixture
def layer():
    made = SelfAttention(reduction=2)
    made.build((None, 3, 2, 4))
    return made


def test_it_begins_as_the_identity(layer):
    x = np.random.default_rng(0).normal(size=(2, 3, 2, 4)).astype(np.float32)
    np.testing.assert_array_equal(layer(x), x)


def test_it_is_the_papers_formula(layer):
    rng = np.random.default_rng(1)
    for variable in layer.variables:
        variable.assign(rng.normal(size=variable.shape))
    x = rng.normal(size=(2, 3, 2, 4)).astype(np.float32)
    flat = x.reshape(2, 6, 4)

    def conv(made):
        return flat @ np.asarray(made.kernel)[0, 0] + np.asarray(made.bias)

    likeness = np.einsum("bic,bjc->bij", conv(layer.query), conv(layer.key))
    shares = np.exp(likeness - likeness.max(axis=-1, keepdims=True))
    shares /= shares.sum(axis=-1, keepdims=True)
    expected = flat + float(layer.gamma) * np.einsum("bij,bjc->bic", shares, conv(layer.value))
    np.testing.assert_allclose(layer(x), expected.reshape(x.shape), atol=1e-4)
