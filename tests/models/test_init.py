import keras
import pytest

from facegan import models
from facegan.errors import ConfigError
from facegan.models.configured import ConfiguredModel


def test_every_listed_model_is_registered_with_keras():
    for stem, names in models.MODELS.items():
        for name in names:
            cls = models.find_model(name)
            assert cls.__module__ == f"facegan.models.{stem}"
            assert keras.saving.get_registered_object(f"facegan>{name}") is cls


def test_every_model_of_a_file_is_listed():
    # What is made of built nets for serving has no config and is no model of its own.
    for stem, names in models.MODELS.items():
        module = getattr(models, stem)
        defined = {
            name
            for name, value in vars(module).items()
            if isinstance(value, type)
            and issubclass(value, ConfiguredModel)
            and not name.startswith("_")
            and value.__module__ == module.__name__
        }
        assert defined == set(names)


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(ConfigError, match="Did you mean 'UNetGenerator'"):
        models.find_model("UnetGenerator")
