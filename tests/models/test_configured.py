import dataclasses

import keras
import numpy as np
import pytest

from facegan.errors import ConfigError
from facegan.models.configured import ConfiguredModel, copy_net, fold_spectral_norm
from facegan.models.stargan_v2 import MappingConfig, MappingNetwork


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ScaleConfig:
    factor: float = 2.0


@keras.saving.register_keras_serializable(package="facegan_tests")
class Scale(ConfiguredModel):
    config_class = ScaleConfig

    def __init__(self, config, **kwargs):
        super().__init__(config, **{"name": "scale", **kwargs})

    def call(self, inputs, training=False, seed=None):
        return inputs * self.config.factor


def test_a_model_comes_back_from_its_config():
    model = Scale(ScaleConfig(factor=3.0), dtype="mixed_bfloat16")
    settings = model.get_config()
    assert settings["config"] == {"factor": 3.0}
    again = Scale.from_config(settings)
    assert again.config == model.config
    assert again.name == "scale"
    assert again.dtype_policy.name == "mixed_bfloat16"
    assert settings["config"] == {"factor": 3.0}  # reading leaves the settings as they are


def test_a_wrong_config_is_refused_by_name():
    settings = {**Scale(ScaleConfig()).get_config(), "config": {"factr": 1.0}}
    with pytest.raises(ConfigError, match="Unknown key 'factr'.*'factor'"):
        Scale.from_config(settings)


def make_net(**kwargs):
    net = MappingNetwork(MappingConfig(latent_size=4, width=8, style_size=3), **kwargs)
    net.build({name: (None, *shape) for name, shape in net.input_shapes().items()})
    return net


INPUTS = {
    "latent": np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32),
    "domain": np.array([1, 0]),
}


def test_a_copy_has_the_weights_and_gives_the_same():
    net = make_net(name="mine")
    copy = copy_net(net)
    assert copy.name == "mine" and copy.config == net.config
    assert [v.path for v in copy.variables] == [v.path for v in net.variables]
    for variable, other in zip(copy.variables, net.variables, strict=True):
        assert variable is not other
        np.testing.assert_array_equal(variable, other)
    expected = np.asarray(net(INPUTS))
    np.testing.assert_array_equal(copy(INPUTS), expected)
    for variable in net.variables:
        variable.assign(variable + 1.0)
    np.testing.assert_array_equal(copy(INPUTS), expected)


@pytest.mark.parametrize(("dtype", "kept"), [("bfloat16", "bfloat16"), ("mixed_bfloat16", None)])
def test_a_copy_computes_in_another_type(dtype, kept):
    net = make_net()
    copy = copy_net(net, dtype)
    assert copy.compute_dtype == "bfloat16"
    assert {v.dtype for v in copy.variables} == {kept or "float32"}
    assert {v.dtype for v in net.variables} == {"float32"}
    exact = np.asarray(net(INPUTS))
    np.testing.assert_allclose(copy(INPUTS), exact, atol=0.05 * np.abs(exact).max())
    # And back, as far as what is left of the weights goes.
    again = copy_net(copy)
    assert {v.dtype for v in again.variables} == {"float32"}
    for variable, other in zip(again.variables, net.variables, strict=True):
        np.testing.assert_allclose(variable, other, rtol=2**-8)


@pytest.mark.parametrize("change", [copy_net, fold_spectral_norm])
def test_only_a_built_net_can_be_copied(change):
    net = MappingNetwork(MappingConfig(), name="mine")
    with pytest.raises(ConfigError, match="^mine is not built; call build first.$"):
        change(net)
