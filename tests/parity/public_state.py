"""Stored outputs of public nets, and their weights in files as the public ones are laid out."""

import json

import numpy as np
import pytest

from tests.parity.fill import fill_stylegan2
from tests.stylegan2_writer import Module, PickleWriter
from tests.torch_writer import Writer, whole

_FILTER = (np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64).astype(np.float32)


def read_golden(path):
    """The arrays of a file by name; pictures with the channels last."""
    with np.load(path) as file:
        stored = {name: file[name] for name in file.files}
    return {
        name: np.ascontiguousarray(value.transpose(0, 2, 3, 1)) if value.ndim == 4 else value
        for name, value in stored.items()
    }


def public_state(golden, fill, net=None):
    """A net's state dict.

    Args:
        golden: What ``read_golden`` gave: ``salt``, ``keys``, and under ``w:`` weights that are
            stored as they are.
        fill: Makes the other weights of their names.
        net: The net's name, the first part of its keys; None where there is only one.
    """
    salt, shapes = str(golden["salt"]), json.loads(str(golden["keys"]))
    start = "" if net is None else f"{net}."
    return {
        name.removeprefix(start): golden[f"w:{name}"]
        if f"w:{name}" in golden
        else fill(salt + name, tuple(shape))
        for name, shape in shapes.items()
        if name.startswith(start)
    }


def small_state(golden, fill, net=None, least=64):
    """The state dict of a net like the stored one with a sixteenth of its channels.

    Args:
        golden: What ``read_golden`` gave.
        fill: Makes weights of their names.
        net: The net's name, None where there is only one.
        least: The fewest channels of the stored net's layers, at most 64.
    """
    shapes = json.loads(str(golden["keys"]))
    start = "" if net is None else f"{net}."

    def narrow(name, size):
        if name.endswith("noise_const"):  # pixels, not channels
            return size
        factor = min(16, least // 4)
        narrowed = size // factor if size >= least and size % factor == 0 else size
        return {513: 33}.get(size, narrowed)

    return {
        name.removeprefix(start): fill(name, tuple(narrow(name, size) for size in shape))
        for name, shape in shapes.items()
        if name.startswith(start)
    }


def stylegan2_state(golden, net, least=None):
    """A StyleGAN2 net's state dict: the stored one's, or a small one's (``small_state``)."""
    if least is None:
        state = public_state(golden, fill_stylegan2, net)
    else:
        state = small_state(golden, fill_stylegan2, net, least)
    # The stored nets' filter is a constant.
    return {
        name: _FILTER if name.endswith("resample_filter") else value
        for name, value in state.items()
    }


def write_checkpoint(path, state):
    """Writes a state dict, or a dict of such, as ``torch.save`` does."""
    number = iter(range(1_000_000))

    def tensors(node):
        if isinstance(node, dict):
            return {name: tensors(value) for name, value in node.items()}
        return whole(str(next(number)), node)

    with pytest.MonkeyPatch.context() as patch:
        Writer(patch).zip(path, tensors(state))
    return path


def write_networks(path, networks, **settings):
    """Writes StyleGAN2-ADA's networks by name, each from its state dict, as their program does.

    Args:
        path: Where.
        networks: Name -> state dict.
        **settings: Plain attributes of every network.
    """
    number = iter(range(1_000_000))

    def module(state, **attributes):
        own = {name: whole(str(next(number)), v) for name, v in state.items() if "." not in name}
        inner = {name.partition(".")[0]: {} for name in state if "." in name}
        for name, value in state.items():
            first, _, rest = name.partition(".")
            if rest:
                inner[first][rest] = value
        buffers = ("resample_filter", "noise_const", "w_avg")
        return Module(
            "Network",
            parameters=[(name, v) for name, v in own.items() if name not in buffers],
            buffers=[(name, v) for name, v in own.items() if name in buffers],
            modules=[(name, module(part)) for name, part in inner.items()],
            **attributes,
        )

    with pytest.MonkeyPatch.context() as patch:
        made = {name: module(state, **settings) for name, state in networks.items()}
        path.write_bytes(PickleWriter(patch).dumps(made))
    return path


def assert_close(got, stored, tolerance=1e-4):
    """Compares outputs relative to the spread of the stored ones."""
    got = np.asarray(got)
    assert got.shape == stored.shape
    difference = got - stored
    assert np.abs(difference).max() < tolerance * stored.std()
    assert np.linalg.norm(difference) < tolerance * np.linalg.norm(stored)
