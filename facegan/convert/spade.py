"""SPADE's public checkpoints: ``latest_net_G.pth``, with those of D and E where they are at hand.

Reference: Park et al., "Semantic Image Synthesis with Spatially-Adaptive Normalization", CVPR 2019.
Its authors' code and weights are for non-commercial use (Creative Commons BY-NC-SA 4.0).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from facegan.convert.public_nets import Files, PublicNets, Walk, open_files
from facegan.convert.source_state import SourceState
from facegan.errors import CheckpointError
from facegan.models.spade import SPADE, SPADEDiscriminator, SPADEGenerator, StyleEncoder

# Our blocks by the public names that differ.
_BLOCKS = {"middle_0": "G_middle_0", "middle_1": "G_middle_1"}
# u follows from v: u = W v / |W v|.
_IMPLIED = r".*\.weight_u"
_COLOURS = 3


def read_spade(files: Files) -> PublicNets:
    """Reads what the files hold.

    Args:
        files: ``checkpoint`` of the generator; ``discriminator`` and ``encoder`` if there are any.

    Raises:
        CheckpointError: A file cannot be read or is no such checkpoint.
    """
    walks: dict[str, tuple[str, Walk]] = {
        "checkpoint": ("generator", _fill_generator),
        "discriminator": ("discriminator", _fill_discriminator),
        "encoder": ("encoder", _fill_encoder),
    }
    states, weights = open_files(files, "SPADE", walks)
    settings = _generator_settings(states["checkpoint"])
    styled = "recipe.generator.style_size" in settings
    if styled != ("encoder" in states):
        raise CheckpointError(
            f"The generator of {files['checkpoint']} starts from a style; give the checkpoint of "
            "its encoder (latest_net_E.pth) too."
            if styled
            else f"The generator of {files['checkpoint']} takes no style; leave the encoder out."
        )
    preset = "spade_vae_celebamask_256" if styled else "spade_celebamask_256"
    size = settings["recipe.generator.image_size"]
    settings["recipe.discriminator.image_size"] = settings["conditioning.size"] = size
    settings["recipe.discriminator.num_labels"] = settings["recipe.generator.num_labels"]
    if "discriminator" in states:
        settings |= _discriminator_settings(states["discriminator"])
    if "encoder" in states:
        settings |= _encoder_settings(states["encoder"], size)
    return PublicNets(preset=preset, settings=settings, weights=weights, files=states)


def _generator_settings(state: SourceState) -> dict[str, Any]:
    shared = "head_0.norm_0.mlp_shared.0.weight"
    hidden, labels = state.shape(shared, 4)[:2]
    width = state.shape("conv_img.weight", 4)[1]
    most = bool(state.numbers(r"up_(4)\."))
    # Half the channels are left where the picture is doubled once more.
    base = 2 * width if most else width
    found: dict[str, Any] = {
        "num_labels": labels,
        "hidden_width": hidden,
        "base_width": base,
        "image_size": 256,
        "spectral_norm": "head_0.conv_0.weight_orig" in state,
        "norm": "sync_batch"
        if "head_0.norm_0.param_free_norm.running_mean" in state
        else "instance",
    }
    if most:
        found["upsampling"] = "most"
    start = state.value("fc.weight")
    if start is not None and start.ndim == 2:
        doublings = 7 if most else 5
        grid = math.isqrt(start.shape[0] // (16 * base))
        found |= {"style_size": start.shape[1], "image_size": grid * 2**doublings}
    return {f"recipe.generator.{name}": value for name, value in found.items()}


def _discriminator_settings(state: SourceState) -> dict[str, Any]:
    width, channels = state.shape("discriminator_0.model0.0.weight", 4)[:2]
    found = {
        "base_width": width,
        "num_labels": channels - _COLOURS,
        "num_layers": max(state.numbers(r"discriminator_0\.model(\d+)\."), default=4),
        "num_scales": len(state.numbers(r"discriminator_(\d+)\.")),
    }
    return {f"recipe.discriminator.{name}": value for name, value in found.items()}


def _encoder_settings(state: SourceState, size: int) -> dict[str, Any]:
    found = {
        "base_width": state.shape("layer1.0.weight_orig", 4)[0],
        "style_size": state.shape("fc_mu.weight", 2)[0],
        "image_size": size,
    }
    return {f"recipe.encoder.{name}": value for name, value in found.items()}


def _fill_generator(state: SourceState, net: SPADEGenerator) -> None:
    if net.config.style_size is None:
        state.give_layer("fc", net.start)
    else:
        grid = net.config.image_size // 2**net.config.doublings
        state.give("fc.weight", net.start.kernel, lambda v: _channels_last(v, grid).T)
        state.give("fc.bias", net.start.bias, lambda v: _channels_last(v, grid))
    for block in net.blocks:
        name = _BLOCKS.get(block.name, block.name)
        for part in ("0", "1", "s"):
            conv, norm = getattr(block, f"conv_{part}"), getattr(block, f"norm_{part}")
            if conv is not None:
                _give_conv(state, f"{name}.conv_{part}", conv)
                _give_spade(state, f"{name}.norm_{part}", norm)
    state.give_layer("conv_img", net.image_conv)
    state.leave(_IMPLIED)


def _give_spade(state: SourceState, name: str, norm: SPADE) -> None:
    state.give_norm(f"{name}.param_free_norm", norm.norm)
    state.give_layer(f"{name}.mlp_shared.0", norm.shared_conv)
    state.give_layer(f"{name}.mlp_gamma", norm.gamma_conv)
    state.give_layer(f"{name}.mlp_beta", norm.beta_conv)


def _give_conv(state: SourceState, name: str, conv: Any) -> None:
    """A convolution with a spectral norm, or without."""
    vector = getattr(conv, "singular_vector", None)
    if vector is None:
        state.give_layer(name, conv)
        return
    size = conv.kernel_size
    state.give(f"{name}.weight_orig", conv.kernel)
    state.give(
        f"{name}.weight_v",
        vector,
        lambda v: v.reshape(-1, size, size).transpose(1, 2, 0).ravel(),
    )
    if conv.bias is not None:
        state.give(f"{name}.bias", conv.bias)


def _fill_discriminator(state: SourceState, net: SPADEDiscriminator) -> None:
    for scale, (convs, logit_conv) in enumerate(zip(net.convs, net.logit_convs, strict=True)):
        for i, conv in enumerate(convs):
            inner = "0" if i == 0 else "0.0"
            _give_conv(state, f"discriminator_{scale}.model{i}.{inner}", conv)
        state.give_layer(f"discriminator_{scale}.model{len(convs)}.0", logit_conv)
    state.leave(_IMPLIED)


def _fill_encoder(state: SourceState, net: StyleEncoder) -> None:
    for i, conv in enumerate(net.convs, 1):
        _give_conv(state, f"layer{i}.0", conv)
    grid = net.config.image_size // 2 ** len(net.convs)
    for name, dense in (("fc_mu", net.mean), ("fc_var", net.log_variance)):
        state.give(f"{name}.weight", dense.kernel, lambda v: _flat_last(v, grid))
        state.give(f"{name}.bias", dense.bias)
    state.leave(_IMPLIED)


def _channels_last(value: np.ndarray, grid: int) -> np.ndarray:
    """Rows [C * h * w, ...] of the start's grid -> [h * w * C, ...]."""
    rest = value.shape[1:]
    return np.moveaxis(value.reshape(-1, grid, grid, *rest), 0, 2).reshape(-1, *rest)


def _flat_last(value: np.ndarray, grid: int) -> np.ndarray:
    """[out, C * h * w] of a flattened grid -> [h * w * C, out]."""
    return value.reshape(len(value), -1, grid, grid).transpose(2, 3, 1, 0).reshape(-1, len(value))
