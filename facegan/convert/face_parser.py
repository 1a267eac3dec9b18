"""Public weights of face parsers: BiSeNet's ``79999_iter.pth``, and CelebAMask-HQ's U-Net.

References: Yu et al., "BiSeNet: Bilateral Segmentation Network for Real-time Semantic
Segmentation", ECCV 2018; Lee et al., "MaskGAN", CVPR 2020, whose weights are for non-commercial
use. Both files tell apart 19 labels, but number them differently.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import keras

from facegan.convert.public_nets import Files, NetWeights, PublicNets, Walk
from facegan.convert.source_state import SourceState
from facegan.convert.torch_file import read_torch_file
from facegan.errors import CheckpointError

# Public module, with "norm" for its "bn" -> our layer.
_BISENET = (
    (r"cp\.resnet\.(conv|norm)1", r"stem/\1"),
    (r"cp\.resnet\.layer(\d)\.0\.downsample\.0", r"stage\1_block1/shortcut/conv"),
    (r"cp\.resnet\.layer(\d)\.0\.downsample\.1", r"stage\1_block1/shortcut/norm"),
    (r"cp\.resnet\.layer(\d)\.0\.(conv|norm)1", r"stage\1_block1/first/\2"),
    (r"cp\.resnet\.layer(\d)\.0\.(conv|norm)2", r"stage\1_block1/second/\2"),
    (r"cp\.resnet\.layer(\d)\.1\.(conv|norm)1", r"stage\1_block2/first/\2"),
    (r"cp\.resnet\.layer(\d)\.1\.(conv|norm)2", r"stage\1_block2/second/\2"),
    (r"cp\.arm(\d+)\.conv\.(conv|norm)", r"refine\1/refine/\2"),
    (r"cp\.arm(\d+)\.(conv|norm)_atten", r"refine\1/attention/\2"),
    (r"cp\.conv_head(\d+)\.(conv|norm)", r"context\1/\2"),
    (r"cp\.conv_avg\.(conv|norm)", r"global_context/\1"),
    (r"ffm\.convblk\.(conv|norm)", r"fusion/mix/\1"),
    (r"ffm\.conv1", r"fusion/narrow"),
    (r"ffm\.conv2", r"fusion/widen"),
    (r"conv_out\.conv\.(conv|norm)", r"head/\1"),
    (r"conv_out\.conv_out", r"logit_conv"),
    (r"conv_out(\d+)\.conv\.(conv|norm)", r"aux_head\1/\2"),
    (r"conv_out(\d+)\.conv_out", r"aux_logit_conv\1"),
)
_UNET = (
    (r"conv(\d)\.conv(\d)\.0", r"down\1_conv\2/conv"),
    (r"conv(\d)\.conv(\d)\.1", r"down\1_conv\2/norm"),
    (r"center\.conv(\d)\.0", r"down5_conv\1/conv"),
    (r"center\.conv(\d)\.1", r"down5_conv\1/norm"),
    (r"up_concat(\d)\.conv\.conv(\d)\.0", r"up\1_conv\2/conv"),
    (r"up_concat(\d)\.conv\.conv(\d)\.1", r"up\1_conv\2/norm"),
    (r"up_concat(\d)\.up", r"up\1_sample"),
    (r"final", r"logit_conv"),
)
_NORM = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}
_CONV = {"weight": "kernel", "bias": "bias"}


def read_bisenet(files: Files) -> PublicNets:
    """Reads what ``checkpoint`` of BiSeNet holds.

    Raises:
        CheckpointError: It cannot be read or is no such file.
    """
    path = files["checkpoint"]
    state = SourceState(path, "checkpoint of BiSeNet", read_torch_file(path))
    labels = state.shape("conv_out.conv_out.weight", 4)[0]
    found = {
        "num_labels": labels,
        "base_width": state.shape("cp.resnet.conv1.weight", 4)[0],
        "aux_heads": bool(state.numbers(r"conv_out(16)\.")),
    }
    return _parser(state, "bisenet_celebamask_512", "bisenet19", found, _BISENET)


def read_parser_unet(files: Files) -> PublicNets:
    """Reads what ``checkpoint`` of CelebAMask-HQ's U-Net holds.

    Raises:
        CheckpointError: It cannot be read or is no such file.
    """
    path = files["checkpoint"]
    state = SourceState(path, "checkpoint of CelebAMask-HQ's parser", read_torch_file(path))
    found = {
        "num_labels": state.shape("final.weight", 4)[0],
        "base_width": state.shape("conv1.conv1.0.weight", 4)[0],
    }
    return _parser(state, "parser_unet_celebamask_512", "celebamask19", found, _UNET)


def _parser(
    state: SourceState,
    preset: str,
    schema: str,
    found: dict[str, Any],
    modules: Sequence[tuple[str, str]],
) -> PublicNets:
    if found["num_labels"] != 19:
        raise CheckpointError(
            f"The parser tells {found['num_labels']} labels apart; the public file knows 19, "
            "and what others would mean is not known."
        )
    return PublicNets(
        preset=preset,
        settings={
            **{f"recipe.parser.{name}": value for name, value in found.items()},
            "recipe.schema": schema,
            "conditioning.schema": schema,
        },
        weights={"parser": NetWeights(state=state, walk=_make_walk(modules))},
        files={"checkpoint": state},
    )


def _make_walk(modules: Sequence[tuple[str, str]]) -> Walk:
    def walk(state: SourceState, net: keras.Model) -> None:
        ours = {variable.path.partition("/")[2]: variable for variable in net.variables}
        for name in state.names:
            variable = ours.get(_our_path(modules, name))
            if variable is not None:
                state.give(name, variable)

    return walk


def _our_path(modules: Sequence[tuple[str, str]], name: str) -> str:
    module, _, leaf = name.rpartition(".")
    for pattern, ours in modules:
        if match := re.fullmatch(pattern, module.replace("bn", "norm")):
            place = match.expand(ours)
            return f"{place}/{(_NORM if place.endswith('/norm') else _CONV).get(leaf, '')}"
    return ""
