"""What every model has in common: it is made from one frozen config, and saved with it."""

from typing import Any, ClassVar

import keras

from facegan.config import decode, encode


class ConfiguredModel(keras.Model):
    """A Keras model whose constructor takes a config dataclass.

    Saving writes the config as JSON values; loading and cloning read it back strictly. A subclass
    names its ``config_class`` and passes a fixed default name on, so that the paths of its
    variables do not depend on what else was made before.

    Args:
        config: An instance of ``config_class``.
        **kwargs: Of ``keras.Model``, such as ``name`` and ``dtype``.
    """

    config_class: ClassVar[type[Any]]

    def __init__(self, config: Any, **kwargs: Any):
        super().__init__(**kwargs)
        self.config = config

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "config": encode(self.config)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        config = dict(config)
        return cls(decode(cls.config_class, config.pop("config")), **config)
