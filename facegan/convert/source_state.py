"""The tensors of a public checkpoint, each of which goes into a net once or is named as left over.

A converter walks over the layers of a net of ours and takes what belongs there by the public names.
At the end nothing may be missing, unused or of another shape: a net that is filled in part computes
something, and nobody would see that it is wrong.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import keras
import numpy as np

from facegan.convert.weights_file import find_problem, refuse_problems

Change = Callable[[np.ndarray], np.ndarray]

# What PyTorch's norms count beside their moments; Keras' need no such number.
_COUNTERS = r"(.*\.)?num_batches_tracked"
# Put in front of every name by DataParallel.
_PARALLEL = "module."


def kernel_of(value: np.ndarray) -> np.ndarray:
    """A kernel of PyTorch's in Keras' order.

    [out, in, h, w] of a convolution and [in, out, h, w] of a transposed one both end as
    [h, w, second, first]; [out, in] of a linear layer ends as [in, out].
    """
    return value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T


class SourceState:
    """What a file holds, by public names.

    Args:
        path: The file, for messages.
        what: What it is taken for, for messages: "StarGAN v2 checkpoint".
        values: Arrays by name. DataParallel's ``module.`` in front of names is taken off, and the
            numbers of batches that norms have seen are left out.
    """

    def __init__(
        self, path: str | os.PathLike[str], what: str, values: Mapping[str, np.ndarray]
    ) -> None:
        self._path, self._what, self._start = path, what, ""
        self._values = {
            _plain(name): value
            for name, value in values.items()
            if not re.fullmatch(_COUNTERS, name)
        }
        self._problems: list[str] = []
        self._filled: set[int] = set()
        self._parts: list[SourceState] = []
        self._left_over: list[str] = []

    @property
    def names(self) -> tuple[str, ...]:
        """What has not been taken."""
        return tuple(self._values)

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def shape(self, name: str, rank: int) -> tuple[int, ...]:
        """The shape of an array that tells what the net is like.

        Raises:
            CheckpointError: There is none of that name and number of axes.
        """
        value = self._values.get(name)
        if value is None or value.ndim != rank:
            found = "is missing" if value is None else f"has {value.ndim} axes, not {rank}"
            refuse_problems(self._path, self._what, [f"{self._start}{name} {found}"])
        assert value is not None  # else it is refused above
        return value.shape

    def value(self, name: str) -> np.ndarray | None:
        """An array, without taking it."""
        return self._values.get(name)

    def numbers(self, pattern: str) -> list[int]:
        """The whole numbers that a pattern's first group finds in names, ascending.

        Args:
            pattern: A regular expression for the beginning of names.
        """
        found = (re.match(pattern, name) for name in self._values)
        return sorted({int(match.group(1)) for match in found if match})

    def split(self, prefix: str) -> SourceState:
        """Takes everything under ``prefix`` and a dot as a state of its own, under shorter names.

        What is wrong with the part is wrong with the whole.
        """
        start = f"{prefix}."
        chosen = [name for name in self._values if name.startswith(start)]
        values = {name.removeprefix(start): self._values.pop(name) for name in chosen}
        part = SourceState(self._path, self._what, values)
        part._start = self._start + start
        self._parts.append(part)
        return part

    def owns(self, part: SourceState) -> bool:
        """Whether a state is this one or a part of it."""
        return any(part is own for own in self._whole())

    def _whole(self) -> list[SourceState]:
        return [self, *(state for part in self._parts for state in part._whole())]

    def leave(self, pattern: str) -> None:
        """Names what is not needed; the pattern has to match whole names."""
        for name in [name for name in self._values if re.fullmatch(pattern, name)]:
            del self._values[name]
            self._left_over.append(self._start + name)

    def give(self, name: str, variable: keras.Variable, change: Change | None = None) -> None:
        """Moves an array into a variable; what is wrong with it is kept for ``finish``.

        Args:
            name: The public one.
            variable: Where it goes.
            change: Brings the array into our order; by default that of ``kernel_of`` for arrays of
                two or four axes.
        """
        self._filled.add(id(variable))
        value = self._values.pop(name, None)
        if value is not None:
            if change is None:
                change = kernel_of if value.ndim in (2, 4) else _as_it_is
            try:
                value = change(value)
            except ValueError:  # it cannot be brought into our order; its shape is told below
                pass
        problem = find_problem(value, tuple(variable.shape))
        if problem:
            self._problems.append(f"{self._start}{name} {problem}")
        elif value is not None:
            variable.assign(value)

    def give_stacked(
        self, names: list[str], variable: keras.Variable, change: Change | None = None
    ) -> None:
        """Moves arrays of one shape into a variable that holds them one behind the other."""
        values = [self._values.pop(name, None) for name in names]
        found = [value for value in values if value is not None]
        if len(found) < len(names) or len({value.shape for value in found}) > 1:
            self._filled.add(id(variable))
            for name, value in zip(names, values, strict=True):
                told = "is missing" if value is None else f"is {list(value.shape)}"
                self._problems.append(f"{self._start}{name} {told}")
            return
        self._values[names[0]] = np.stack([change(v) if change else v for v in found])
        self.give(names[0], variable, _as_it_is)

    def give_layer(self, name: str, layer: Any, change: Change | None = None) -> None:
        """Fills a layer with a kernel, and its bias if it has one."""
        self.give(f"{name}.weight", layer.kernel, change)
        if layer.bias is not None:
            self.give(f"{name}.bias", layer.bias)

    def give_norm(self, name: str, norm: Any) -> None:
        """Fills the scale, shift and moments that a norm has."""
        leaves = {
            "weight": "gamma",
            "bias": "beta",
            "running_mean": "moving_mean",
            "running_var": "moving_variance",
        }
        for leaf, attribute in leaves.items():
            variable = getattr(norm, attribute, None)
            if variable is not None:
                self.give(f"{name}.{leaf}", variable)

    def finish(self, nets: Iterable[keras.Model]) -> list[str]:
        """Checks that every array has been used and every variable filled, in all parts.

        Args:
            nets: All that the file was to fill.

        Returns:
            The names that were left over on purpose.

        Raises:
            CheckpointError: With the list of what is missing, unused or of another shape.
        """
        states = self._whole()
        problems, left_over, filled = [], [], set()
        for state in states:
            problems += state._problems
            problems += [f"{state._start}{name} is unknown" for name in state._values]
            left_over += state._left_over
            filled |= state._filled
        for net in nets:
            for variable in net.variables:
                if id(variable) not in filled:
                    problems.append(f"nothing is there for {variable.path}")
        refuse_problems(self._path, self._what, problems)
        return left_over


def _plain(name: str) -> str:
    parts = name.split(".")
    return ".".join(part for part in parts if f"{part}." != _PARALLEL)


def _as_it_is(value: np.ndarray) -> np.ndarray:
    return value
