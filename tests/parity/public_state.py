"""Stored outputs of public nets, and their weights by the public names."""

import json

import numpy as np


def read_golden(path):
    """The arrays of a file by name; pictures with the channels last."""
    with np.load(path) as file:
        stored = {name: file[name] for name in file.files}
    return {
        name: np.ascontiguousarray(value.transpose(0, 2, 3, 1)) if value.ndim == 4 else value
        for name, value in stored.items()
    }


class PublicState:
    """A net's public state dict, which gives each entry away once.

    Args:
        golden: What ``read_golden`` gave: ``salt``, ``keys``, and under ``w:`` weights that are
            stored as they are.
        net: The net's name, the first part of its keys.
        fill: Makes the other weights of their names.
    """

    def __init__(self, golden, net, fill):
        salt, shapes = str(golden["salt"]), json.loads(str(golden["keys"]))
        self.values = {
            name.removeprefix(f"{net}."): golden[f"w:{name}"]
            if f"w:{name}" in golden
            else fill(salt + name, tuple(shape))
            for name, shape in shapes.items()
            if name.startswith(f"{net}.")
        }

    def give(self, name, variable, change=lambda value: value):
        value = change(self.values.pop(name))
        assert tuple(variable.shape) == value.shape, name
        variable.assign(value)
