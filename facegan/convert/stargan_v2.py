"""StarGAN v2's public checkpoints: ``*_nets_ema.ckpt``, with ``*_nets.ckpt`` for the discriminator.

The averaged nets are what is rendered with; the discriminator, which has no average, is only needed
to train on. A checkpoint of faces also holds FAN, which finds the landmarks that are kept.

Reference: Choi et al., "StarGAN v2: Diverse Image Synthesis for Multiple Domains", CVPR 2020. The
authors' weights are for non-commercial use (Creative Commons BY-NC 4.0).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from facegan.convert.fan import fill_fan
from facegan.convert.public_nets import Files, NetWeights, PublicNets
from facegan.convert.source_state import SourceState
from facegan.convert.torch_file import read_torch_file
from facegan.models.stargan_v2 import (
    MappingNetwork,
    StarDiscriminator,
    StarGenerator,
    StarStyleEncoder,
)

_WHAT = "StarGAN v2 checkpoint"
# What the authors' data sets call their domains, in the order of the folders' names.
_DOMAINS = {2: ("female", "male"), 3: ("cat", "dog", "wild")}
# Of the authors' generator: channels at full size times its height.
_CHANNELS_BY_SIZE = 2**14


def read_stargan_v2(files: Files) -> PublicNets:
    """Reads what the files hold.

    Args:
        files: ``checkpoint``, and ``discriminator`` if training is to go on from it.

    Raises:
        CheckpointError: A file cannot be read or is no such checkpoint.
    """
    whole = SourceState(files["checkpoint"], _WHAT, read_torch_file(files["checkpoint"]))
    parts = {
        ours: whole.split(theirs)
        for ours, theirs in (
            ("generator", "generator"),
            ("mapping", "mapping_network"),
            ("style_encoder", "style_encoder"),
        )
    }
    settings = _find_settings(**parts)
    opened = {"checkpoint": whole}
    if "discriminator" in files:
        path = files["discriminator"]
        opened["discriminator"] = trained = SourceState(path, _WHAT, read_torch_file(path))
        parts["discriminator"] = trained.split("discriminator")
        trained.leave(r"(generator|mapping_network|style_encoder|fan)\..*")
    walks = {
        "generator": _fill_generator,
        "mapping": _fill_mapping,
        "style_encoder": _fill_style_encoder,
        "discriminator": _fill_discriminator,
    }
    weights = {name: NetWeights(state=part, walk=walks[name]) for name, part in parts.items()}
    if whole.numbers(r"fan\.conv(\d)\."):
        weights["fan"] = NetWeights(state=whole.split("fan"), walk=fill_fan)
    whole.leave(r"discriminator\..*")
    humans = settings["recipe.generator.high_pass"] > 0
    return PublicNets(
        preset="stargan_v2_celebahq_256" if humans else "stargan_v2_afhq_256",
        settings=settings,
        weights=weights,
        files=opened,
    )


def _find_settings(
    generator: SourceState, mapping: SourceState, style_encoder: SourceState
) -> dict[str, Any]:
    base = generator.shape("from_rgb.weight", 4)[0]
    size = 4 * 2 ** len(style_encoder.numbers(r"shared\.(\d+)\.conv1\."))
    # The skip's details come from one resolution more.
    halvings = len(generator.numbers(r"encode\.(\d+)\.")) - 2
    high_pass = float(halvings > math.log2(size) - 4)
    if high_pass:
        high_pass = _high_pass(generator.value("hpf.filter"))
        generator.leave(r"hpf\.filter")
    domains = len(mapping.numbers(r"unshared\.(\d+)\."))
    width, latent = mapping.shape("shared.0.weight", 2)
    style = mapping.shape("unshared.0.6.weight", 2)[0]
    widest = style_encoder.shape(f"shared.{_judge_conv(style_encoder, 'shared')}.weight", 4)[1]
    sized: dict[str, Any] = {"image_size": size, "base_width": base, "max_width": widest}
    nets = {
        "generator": {**sized, "style_size": style, "high_pass": high_pass},
        "mapping": {
            "latent_size": latent,
            "width": width,
            "style_size": style,
            "num_domains": domains,
        },
        "style_encoder": {**sized, "style_size": style, "num_domains": domains},
        "discriminator": {**sized, "num_domains": domains},
    }
    names = _DOMAINS.get(domains, tuple(f"domain_{i}" for i in range(domains)))
    return {
        "conditioning.size": size,
        "conditioning.domains": list(names),
        **{
            f"recipe.{net}.{name}": value
            for net, values in nets.items()
            for name, value in values.items()
        },
    }


def _high_pass(kernel: np.ndarray | None) -> float:
    """What the skip's Laplacian was divided by, where the file has it; the authors' value is 1."""
    laplacian = np.full((3, 3), -1.0)
    laplacian[1, 1] = 8.0
    if kernel is None or kernel.shape != (3, 3) or kernel[1, 1] <= 0:
        return 1.0
    divisor = 8.0 / float(kernel[1, 1])
    return divisor if np.allclose(kernel * divisor, laplacian, atol=1e-5) else 1.0


def _fill_generator(state: SourceState, net: StarGenerator) -> None:
    state.give_layer("from_rgb", net.from_rgb)
    for i, block in enumerate((*net.downs, *net.middles)):
        _fill_block(state, f"encode.{i}", block)
    for i, styled in enumerate((*net.styled_middles, *net.ups)):
        _fill_block(state, f"decode.{i}", styled)
    state.give_norm("to_rgb.0", net.norm)
    state.give_layer("to_rgb.2", net.to_rgb)
    if net.config.high_pass > 0:
        # The public net then owns shortcuts that it never uses.
        state.leave(r"decode\.\d+\.conv1x1\.weight")


def _fill_block(state: SourceState, name: str, block: Any) -> None:
    state.give_layer(f"{name}.conv1", block.conv_0)
    state.give_layer(f"{name}.conv2", block.conv_1)
    for i, norm in enumerate(block.norms, 1):
        if hasattr(norm, "dense"):
            state.give_layer(f"{name}.norm{i}.fc", norm.dense)
        else:
            state.give_norm(f"{name}.norm{i}", norm)
    if block.skip_conv is not None:
        state.give_layer(f"{name}.conv1x1", block.skip_conv)


def _fill_mapping(state: SourceState, net: MappingNetwork) -> None:
    for i, layer in enumerate(net.shared):
        state.give_layer(f"shared.{2 * i}", layer)
    domains = range(net.config.num_domains)
    for i, layer in enumerate(net.heads):
        _fill_heads(state, [f"unshared.{domain}.{2 * i}" for domain in domains], layer)


def _fill_style_encoder(state: SourceState, net: StarStyleEncoder) -> None:
    _fill_judge(state, net, "shared")
    _fill_heads(state, [f"unshared.{domain}" for domain in range(net.config.num_domains)], net.head)


def _fill_discriminator(state: SourceState, net: StarDiscriminator) -> None:
    last = _judge_conv(state, "main") + 2
    _fill_judge(state, net, "main")
    domains = net.config.num_domains
    state.give(f"main.{last}.weight", net.head.kernel, lambda v: v.reshape(domains, -1, 1))
    state.give(f"main.{last}.bias", net.head.bias, lambda v: v[:, None])


def _fill_judge(state: SourceState, net: Any, first: str) -> None:
    last = _judge_conv(state, first)
    state.give_layer(f"{first}.0", net.from_rgb)
    for i, block in enumerate(net.downs, 1):
        _fill_block(state, f"{first}.{i}", block)
    state.give_layer(f"{first}.{last}", net.last_conv)


def _judge_conv(state: SourceState, first: str) -> int:
    """The place of the last convolution: behind the blocks and an activation."""
    return len(state.numbers(rf"{first}\.(\d+)\.conv1\.")) + 2


def _fill_heads(state: SourceState, names: list[str], layer: Any) -> None:
    """Fills a layer of all domains, of which the public net has one each."""
    state.give_stacked([f"{name}.weight" for name in names], layer.kernel, np.transpose)
    state.give_stacked([f"{name}.bias" for name in names], layer.bias)
