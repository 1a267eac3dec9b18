"""What every model has in common: it is made from one frozen config, and saved with it."""

import dataclasses
from collections.abc import Mapping
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


def copy_net(net: Net, dtype: str = "float32") -> Net:
    """Makes the same net once more, to compute in another type.

    Args:
        net: A built one.
        dtype: Type in which the new one computes and keeps its weights; "bfloat16" saves the
            conversion of every weight at every call that a mixed policy makes.

    Raises:
        ConfigError: The net is not built.
    """
    return _copy(net, net.config, dtype, {})


def fold_spectral_norm(net: Net, dtype: str = "float32") -> Net:
    """Makes a net for serving whose kernels are divided by their singular values already.

    Args:
        net: A built one whose config has ``spectral_norm``. It is left as it is.
        dtype: As ``copy_net`` has it.

    Returns:
        A net with ``spectral_norm=False`` and, up to rounding, the same outputs at inference. It is
        not for training.

    Raises:
        ConfigError: The net is not built.
    """
    _require_built(net)
    normalized = {
        _path(layer.kernel): layer.normalized_kernel()
        for layer in net._flatten_layers()
        if isinstance(layer, SpectralConv2D)
    }
    return _copy(net, dataclasses.replace(net.config, spectral_norm=False), dtype, normalized)


def _copy(net: Net, config: Any, dtype: str, changed: Mapping[str, Any]) -> Net:
    _require_built(net)
    copy = type(net)(config, name=net.name, dtype=dtype)
    copy.build({name: (None, *shape) for name, shape in net.input_shapes().items()})
    values = {_path(variable): variable for variable in net.variables} | dict(changed)
    for variable in copy.variables:
        variable.assign(values[_path(variable)])
    return copy


def _require_built(net: ConfiguredModel) -> None:
    if not net.built:
        raise ConfigError(f"{net.name} is not built; call build first.")


def _path(variable: keras.Variable) -> str:
    # Without the net's own name.
    return variable.path.partition("/")[2]
