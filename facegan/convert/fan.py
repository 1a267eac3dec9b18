"""FAN's public weights for 98 landmarks (``wing.ckpt``), to a file of ours.

The same network stands in StarGAN v2's checkpoints of faces. The weights come with the Adaptive
Wing Loss (Wang et al., ICCV 2019); of its stack of networks the first is used.
"""

from __future__ import annotations

import os
import pathlib
from typing import Any

import numpy as np

from facegan.convert.source_state import SourceState
from facegan.convert.torch_file import read_torch_file
from facegan.convert.weights_file import refuse_existing, write_weights
from facegan.models.fan import FAN, HierarchicalBlock

_WHAT = "file of FAN's weights"
# The later networks of the stack, and what leads to them.
_LATER = r"((m|top_m_|conv_last|bn_end|l)[1-9]\d*|(bl|al)\d+)\..*"


def convert_fan(
    path: str | os.PathLike[str], output: str | os.PathLike[str], *, overwrite: bool = False
) -> dict[str, Any]:
    """Writes the weights of FAN as ``models.fan.load_fan`` reads them.

    Args:
        path: ``wing.ckpt``, with or without ``state_dict.`` in front of its names.
        output: The ``.npz`` file to write, for ``recipe.fan`` of StarGAN v2.
        overwrite: Replace a file that is there.

    Returns:
        ``output``, ``arrays``, and ``left_over``: names in the file that are not needed.

    Raises:
        CheckpointError: The file cannot be read, lacks a layer, or has one of another shape; or the
            output cannot be written.
    """
    output = pathlib.Path(output)
    refuse_existing(output, overwrite=overwrite)
    whole = SourceState(path, _WHAT, read_torch_file(path))
    wrapped = any(name.startswith("state_dict.") for name in whole.names)
    net = make_fan()
    fill_fan(whole.split("state_dict") if wrapped else whole, net)
    # A training run's own state.
    whole.leave(r"(epoch|best_.*|optimizer|scheduler)(\..*)?")
    left_over = whole.finish([net])
    save_fan(net, output)
    return {"output": str(output), "arrays": len(net.variables), "left_over": left_over}


def make_fan() -> FAN:
    """An untrained FAN, to be filled from a checkpoint."""
    net = FAN(name="fan")
    net.build({"image": (None, None, None, 3)})
    return net


def save_fan(net: FAN, output: pathlib.Path) -> None:
    """Writes each variable under its path, as ``load_fan`` reads them."""
    write_weights(output, {v.path.partition("/")[2]: np.asarray(v) for v in net.variables})


def fill_fan(state: SourceState, net: FAN) -> None:
    """Moves a state dict of the public network into ours."""
    state.give_layer("conv1.conv", net.first_conv)
    state.give_norm("bn1", net.first_norm)
    for i, block in enumerate(net.stem, 2):
        _fill_block(state, f"conv{i}", block)
    state.give_layer("m0.coordconv.conv", net.place_conv)
    depth = len(net.sides)
    for level in range(depth):
        # The public network counts its levels from the innermost.
        number = depth - level
        _fill_block(state, f"m0.b1_{number}", net.sides[level])
        _fill_block(state, f"m0.b2_{number}", net.befores[level])
        _fill_block(state, f"m0.b3_{number}", net.afters[level])
    _fill_block(state, "m0.b2_plus_1", net.middle)
    _fill_block(state, "top_m_0", net.top)
    state.give_layer("conv_last0", net.last_conv)
    state.give_norm("bn_end0", net.last_norm)
    state.give_layer("l0", net.to_maps)
    state.leave(_LATER)


def _fill_block(state: SourceState, name: str, block: HierarchicalBlock) -> None:
    for i, (norm, conv) in enumerate(zip(block.norms, block.convs, strict=True), 1):
        state.give_norm(f"{name}.bn{i}", norm)
        state.give_layer(f"{name}.conv{i}", conv)
    if block.skip:
        norm, conv = block.skip
        state.give_norm(f"{name}.downsample.0", norm)
        state.give_layer(f"{name}.downsample.2", conv)
