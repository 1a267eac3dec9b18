"""What a converter makes of public files: settings of nets, and weights to fill them with."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from typing import Any

import keras

from facegan.convert.source_state import SourceState
from facegan.convert.torch_file import read_torch_file

Walk = Callable[[SourceState, Any], None]
Files = Mapping[str, str | os.PathLike[str]]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class NetWeights:
    """Where the weights of one net are, and how they lie there.

    Attributes:
        state: The part of a file that belongs to the net.
        walk: Moves all of it into the built net.
    """

    state: SourceState
    walk: Walk


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PublicNets:
    """The nets of public files.

    Attributes:
        preset: The run that they are of.
        settings: What the files tell about it, by dotted name in the run's document.
        weights: By net of the recipe.
        files: The whole of each file, by what it was given as.
    """

    preset: str
    settings: Mapping[str, Any]
    weights: Mapping[str, NetWeights]
    files: Mapping[str, SourceState]

    def fill(self, nets: Mapping[str, keras.Model]) -> list[str]:
        """Fills the nets that ``weights`` names.

        Returns:
            The names in the files that were left over on purpose.

        Raises:
            CheckpointError: A file lacks a layer, has one that is unknown, or of another shape.
        """
        for name, part in self.weights.items():
            part.walk(part.state, nets[name])
        left_over = []
        for state in self.files.values():
            own = [nets[name] for name, part in self.weights.items() if state.owns(part.state)]
            left_over += state.finish(own)
        return left_over


def open_files(
    files: Files, model: str, walks: Mapping[str, tuple[str, Walk]]
) -> tuple[dict[str, SourceState], dict[str, NetWeights]]:
    """Opens PyTorch files that hold one net each.

    Args:
        files: The files, by what they are given as; those of other names are passed over.
        model: Whose they are, for messages: "SPADE".
        walks: What a file is given as -> its net and what moves it there.

    Returns:
        What the files hold, by what they are given as, and the weights by net.

    Raises:
        CheckpointError: A file cannot be read.
    """
    states, weights = {}, {}
    for given, (net, walk) in walks.items():
        if given in files:
            what = f"checkpoint of {model}'s {net}"
            states[given] = SourceState(files[given], what, read_torch_file(files[given]))
            weights[net] = NetWeights(state=states[given], walk=walk)
    return states, weights
