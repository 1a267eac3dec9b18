"""What every model has in common: it is made from one frozen config, and saved with it."""

import dataclasses
from typing import Any, ClassVar, TypeVar

import keras

from facegan.config import decode, encode
from facegan.errors import ConfigError
from facegan.layers.spectral import SpectralConv2D


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


Net = TypeVar("Net", bound=ConfiguredModel)


def fold_spectral_norm(net: Net, dtype: str = "float32") -> Net:
    """Makes a net for serving whose kernels are divided by their singular values already.

    Args:
        net: A built one whose config has ``spectral_norm``. It is left as it is.
        dtype: Type in which the new one computes and keeps its weights; "bfloat16" saves the
            conversion of every weight at every call that a mixed policy makes.

    Returns:
        A net with ``spectral_norm=False`` and, up to rounding, the same outputs at inference. It is
        not for training.

    Raises:
        ConfigError: The net is not built.
    """
    if not net.built:
        raise ConfigError("fold_spectral_norm needs a built net; call build first.")
    config = dataclasses.replace(net.config, spectral_norm=False)
    folded = type(net)(config, name=net.name, dtype=dtype)
    shapes = net.input_shapes()
    folded.build({name: (None, *shape) for name, shape in shapes.items()})
    values = {_path(variable): variable for variable in net.variables}
    for layer in net._flatten_layers():
        if isinstance(layer, SpectralConv2D):
            values[_path(layer.kernel)] = layer.normalized_kernel()
    for variable in folded.variables:
        variable.assign(values[_path(variable)])
    return folded


def _path(variable: keras.Variable) -> str:
    # Without the net's own name.
    return variable.path.partition("/")[2]
