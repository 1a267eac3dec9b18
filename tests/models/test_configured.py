import dataclasses

import keras
import pytest

from facegan.errors import ConfigError
from facegan.models.configured import ConfiguredModel


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
