"""StyleGAN2-ADA's public networks: the ``.pkl`` files of its PyTorch version.

The averaged generator, ``G_ema``, is what is kept; the discriminator comes along. Nothing in the
file is executed (``convert/stylegan2_pickle.py``).

Reference: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", CVPR 2020, and
"Training Generative Adversarial Networks with Limited Data", NeurIPS 2020. The authors' weights are
for non-commercial use.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from facegan.convert.public_nets import Files, NetWeights, PublicNets
from facegan.convert.source_state import SourceState
from facegan.convert.stylegan2_pickle import read_stylegan2_pickle
from facegan.errors import CheckpointError
from facegan.models.stylegan2 import (
    StyleGAN2Discriminator,
    StyleGAN2Synthesis,
    StyleMapping,
)

_WHAT = "StyleGAN2-ADA network"
_PRESETS = {256: "stylegan2_paper256", 512: "stylegan2_paper512", 1024: "stylegan2_paper1024"}
# Our painters by the public names.
_LEAVES = {"up": "conv0", "conv": "conv1", "rgb": "torgb"}
# Of networks that do not say where they cut.
_CLAMP = 256.0
_FILTER = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64


def read_stylegan2(files: Files) -> PublicNets:
    """Reads what ``checkpoint`` holds.

    Raises:
        CheckpointError: It cannot be read, is no such file, or is of networks that are built in
            another way.
    """
    path = files["checkpoint"]
    networks = read_stylegan2_pickle(path)
    if "G_ema" not in networks or "D" not in networks:
        raise CheckpointError(f"{path} has no networks G_ema and D, only {sorted(networks)}.")
    values = {
        f"{name}.{key}": v for name in ("G_ema", "D") for key, v in networks[name].state.items()
    }
    whole = SourceState(path, _WHAT, values)
    generator, discriminator = whole.split("G_ema"), whole.split("D")
    mapping, synthesis = generator.split("mapping"), generator.split("synthesis")
    for state in (synthesis, discriminator):
        _leave_filters(path, state)
    settings = _find_settings(path, mapping, synthesis, discriminator, networks)
    size = settings["conditioning.size"]
    return PublicNets(
        preset=_PRESETS.get(size, "stylegan2_paper256"),
        settings=settings,
        weights={
            "mapping": NetWeights(state=mapping, walk=_fill_mapping),
            "generator": NetWeights(state=synthesis, walk=_fill_synthesis),
            "discriminator": NetWeights(state=discriminator, walk=_fill_discriminator),
        },
        files={"checkpoint": whole},
    )


def _find_settings(
    path: Any,
    mapping: SourceState,
    synthesis: SourceState,
    discriminator: SourceState,
    networks: Any,
) -> dict[str, Any]:
    if "embed.weight" in mapping:
        raise CheckpointError(f"The generator of {path} is conditional, which is not supported.")
    sizes = synthesis.numbers(r"b(\d+)\.")
    judged = discriminator.numbers(r"b(\d+)\.")
    size = max(sizes, default=0)
    if sizes != judged or sizes != [4 * 2**i for i in range(len(sizes))] or size < 8:
        raise CheckpointError(
            f"The networks of {path} have blocks of {sizes} and {judged} px; those of StyleGAN2 "
            "double from 4 to the picture's size. Networks of other architectures (StyleGAN3, "
            "residual generators) are not supported."
        )
    widths = {s: synthesis.shape(f"b{s}.conv1.bias", 1)[0] for s in sizes}
    style, latent = mapping.shape("fc0.weight", 2)
    shared = {
        "image_size": size,
        "base_width": widths[size] * size,
        "max_width": max(widths.values()),
        "conv_clamp": _clamp(networks["G_ema"].settings),
    }
    nets: dict[str, dict[str, Any]] = {
        "generator": {**shared, "style_size": style},
        "mapping": {
            "latent_size": latent,
            "style_size": style,
            "num_layers": len(mapping.numbers(r"fc(\d+)\.")),
        },
        "discriminator": {**shared, "conv_clamp": _clamp(networks["D"].settings)},
    }
    return {
        "conditioning.size": size,
        **{
            f"recipe.{net}.{name}": value
            for net, values in nets.items()
            for name, value in values.items()
        },
    }


def _clamp(settings: Any) -> float:
    """Where a network's activations are cut, wherever in its settings that stands; 0 is nowhere."""
    if not isinstance(settings, Mapping):
        return _CLAMP
    if "conv_clamp" in settings:
        return float(settings["conv_clamp"] or 0.0)
    found = [_clamp(value) for value in settings.values() if isinstance(value, Mapping)]
    return next((value for value in found if value != _CLAMP), _CLAMP)


def _leave_filters(path: Any, state: SourceState) -> None:
    for name in state.names:
        if name.endswith("resample_filter"):
            value = state.value(name)
            if value is None or value.shape != (4, 4) or not np.allclose(value, _FILTER, atol=1e-6):
                raise CheckpointError(f"{path}: {name} is not the filter [1, 3, 3, 1].")
    state.leave(r"(.*\.)?resample_filter")


def _fill_mapping(state: SourceState, net: StyleMapping) -> None:
    for i, layer in enumerate(net.denses):
        state.give_layer(f"fc{i}", layer)
    state.give("w_avg", net.w_avg)


def _fill_synthesis(state: SourceState, net: StyleGAN2Synthesis) -> None:
    state.give("b4.const", net.const, lambda v: v.transpose(1, 2, 0))
    for painter, affine in zip(net.painters, net.affines, strict=True):
        kind, size = painter.name.split("_")
        name = f"b{size}.{_LEAVES[kind]}"
        state.give(f"{name}.weight", painter.conv.kernel, _half_turn if kind == "up" else None)
        state.give(f"{name}.bias", painter.bias)
        state.give_layer(f"{name}.affine", affine)
        if kind != "rgb":
            state.give(f"{name}.noise_const", painter.noise_const, lambda v: v)
            state.give(f"{name}.noise_strength", painter.noise_strength)


def _half_turn(value: np.ndarray) -> np.ndarray:
    """The public net's doubling convolutions hold their kernels turned by half a turn."""
    return value[:, :, ::-1, ::-1].transpose(2, 3, 1, 0)


def _fill_discriminator(state: SourceState, net: StyleGAN2Discriminator) -> None:
    size = net.config.image_size
    state.give_layer(f"b{size}.fromrgb", net.from_rgb)
    for i, block in enumerate(net.downs):
        for part in ("conv_0", "conv_1", "skip_conv"):
            name = {"conv_0": "conv0", "conv_1": "conv1", "skip_conv": "skip"}[part]
            state.give_layer(f"b{size >> i}.{name}", getattr(block, part))
    state.give_layer("b4.conv", net.last_conv)
    state.give("b4.fc.weight", net.dense.kernel, _flat_last)
    state.give("b4.fc.bias", net.dense.bias)
    state.give_layer("b4.out", net.head)


def _flat_last(value: np.ndarray) -> np.ndarray:
    """[out, C * 4 * 4], channels first, -> [4 * 4 * C, out]."""
    return value.reshape(len(value), -1, 4, 4).transpose(2, 3, 1, 0).reshape(-1, len(value))
