import keras
import numpy as np
import pytest

from facegan.convert.public_nets import NetWeights, PublicNets
from facegan.convert.source_state import SourceState
from facegan.errors import CheckpointError


def dense():
    net = keras.Sequential([keras.layers.Dense(2, name="dense")])
    net.build((None, 3))
    return net


def walk(state, net):
    state.give_layer("fc", net.layers[0])


def state_of(path, *nets, **more):
    arrays = {
        f"{net}.fc.{leaf}": np.full(shape, number, np.float32)
        for number, net in enumerate(nets, 1)
        for leaf, shape in (("weight", (2, 3)), ("bias", (2,)))
    }
    return SourceState(path, "pair", {**arrays, **more})


def test_nets_of_one_file_and_of_two():
    first, second = state_of("a.pth", "a", "b", unused=np.zeros(2)), state_of("c.pth", "c")
    states = {"a": first.split("a"), "b": first.split("b"), "c": second.split("c")}
    first.leave("unused")
    found = PublicNets(
        preset="pix2pix_256",
        settings={},
        weights={name: NetWeights(state=state, walk=walk) for name, state in states.items()},
        files={"checkpoint": first, "discriminator": second},
    )
    nets = {name: dense() for name in "abc"}
    assert found.fill(nets) == ["unused"]
    for name, number in (("a", 1), ("b", 2), ("c", 1)):
        np.testing.assert_array_equal(nets[name].layers[0].kernel, np.full((3, 2), number))


def test_a_file_that_is_not_used_up_is_named():
    first, second = state_of("a.pth", "a"), state_of("c.pth", "c", more=np.zeros(2))
    states = {"a": first.split("a"), "c": second.split("c")}
    found = PublicNets(
        preset="pix2pix_256",
        settings={},
        weights={name: NetWeights(state=state, walk=walk) for name, state in states.items()},
        files={"checkpoint": first, "discriminator": second},
    )
    with pytest.raises(CheckpointError, match="c.pth is no pair: more is unknown"):
        found.fill({"a": dense(), "c": dense()})
