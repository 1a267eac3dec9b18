"""pix2pix' public checkpoints: ``latest_net_G.pth`` of a U-Net, and ``latest_net_D.pth``.

Reference: Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks", CVPR
2017. The files are those of the authors' PyTorch version, with batch or instance norm.
"""

from __future__ import annotations

import re
from typing import Any

from facegan.convert.public_nets import Files, PublicNets, Walk, open_files
from facegan.convert.source_state import SourceState
from facegan.models.pix2pix import PatchDiscriminator, UNetGenerator

_COLOURS = 3


def read_pix2pix(files: Files) -> PublicNets:
    """Reads what the files hold.

    Args:
        files: ``checkpoint`` of the generator, and ``discriminator`` if there is one.

    Raises:
        CheckpointError: A file cannot be read or is no such checkpoint.
    """
    walks: dict[str, tuple[str, Walk]] = {
        "checkpoint": ("generator", _fill_generator),
        "discriminator": ("discriminator", _fill_discriminator),
    }
    states, weights = open_files(files, "pix2pix", walks)
    settings = _generator_settings(states["checkpoint"])
    size = settings["recipe.generator.image_size"]
    settings["conditioning.size"] = settings["recipe.discriminator.image_size"] = size
    if "discriminator" in states:
        settings |= _discriminator_settings(states["discriminator"])
    return PublicNets(preset="pix2pix_256", settings=settings, weights=weights, files=states)


def _generator_settings(state: SourceState) -> dict[str, Any]:
    width, colours = state.shape("model.model.0.weight", 4)[:2]
    made = state.shape("model.model.3.weight", 4)[1]
    depth = 1
    while state.numbers(rf"{_level(depth + 1)}\.(\d+)\."):
        depth += 1
    widest = state.shape(f"{_level(depth)}.1.weight", 4)[0]
    found = {
        "image_size": 2**depth,
        "in_channels": colours,
        "out_channels": made,
        "base_width": width,
        "max_width": widest,
        "norm": _norm(state),
        "outer_bias": "model.model.0.bias" in state,
    }
    return {f"recipe.generator.{name}": value for name, value in found.items()}


def _discriminator_settings(state: SourceState) -> dict[str, Any]:
    width, channels = state.shape("model.0.weight", 4)[:2]
    found = {
        "base_width": width,
        "condition_channels": channels - _COLOURS,
        # Behind the first, three places each: convolution, norm, activation.
        "num_layers": max(state.numbers(r"model\.(\d+)\."), default=11) // 3,
        "norm": _norm(state),
        "first_bias": "model.0.bias" in state,
    }
    return {f"recipe.discriminator.{name}": value for name, value in found.items()}


def _norm(state: SourceState) -> str:
    return "batch" if any(name.endswith(".running_mean") for name in state.names) else "instance"


def _level(level: int) -> str:
    """Where a level of the U-Net stands: each one wraps the next."""
    return "model.model" + ".1.model" * min(level - 1, 1) + ".3.model" * max(level - 2, 0)


def _fill_generator(state: SourceState, net: UNetGenerator) -> None:
    # Inside a level stand, from 1 on: the convolution down and its norm, the next level (3), the
    # convolution up (5) and its norm. The outermost has neither norm, and begins at 0 with its
    # convolution; the innermost has no level inside, and no norm on the way down.
    last = net.config.levels
    instance = net.config.norm == "instance"
    for level, (conv, norm) in enumerate(zip(net.down_convs, net.down_norms, strict=True), 1):
        name = f"{_level(level)}.{1 if level > 1 else 0}"
        state.give_layer(name, conv)
        if 1 < level < last:
            state.give_norm(f"{_level(level)}.2", norm)
            _leave_bias(state, name, instance)
    for level, (conv, norm) in enumerate(zip(net.up_convs, net.up_norms, strict=True), 2):
        place = 3 if level == last else 5
        state.give_layer(f"{_level(level)}.{place}", conv)
        state.give_norm(f"{_level(level)}.{place + 1}", norm)
        _leave_bias(state, f"{_level(level)}.{place}", instance)
    state.give_layer("model.model.3", net.image_conv)


def _fill_discriminator(state: SourceState, net: PatchDiscriminator) -> None:
    instance = net.config.norm == "instance"
    state.give_layer("model.0", net.convs[0])
    for i, (conv, norm) in enumerate(zip(net.convs[1:], net.norms[1:], strict=True)):
        state.give_layer(f"model.{3 * i + 2}", conv)
        state.give_norm(f"model.{3 * i + 3}", norm)
        _leave_bias(state, f"model.{3 * i + 2}", instance)
    state.give_layer(f"model.{3 * len(net.convs) - 1}", net.logit_conv)


def _leave_bias(state: SourceState, name: str, instance: bool) -> None:
    """An instance norm takes away again what a bias adds to all pixels of a map."""
    if instance:
        state.leave(re.escape(f"{name}.bias"))
