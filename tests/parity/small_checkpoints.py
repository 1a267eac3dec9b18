"""Small public checkpoints of every source, in the layout of the public ones."""

import pathlib

import numpy as np

from tests.fan_file import public_fan
from tests.parity.fill import fill
from tests.parity.public_state import (
    read_golden,
    small_state,
    stylegan2_state,
    write_checkpoint,
    write_networks,
)

GOLDENS = pathlib.Path(__file__).parent / "goldens"


def settled(state):
    """A state dict with the first singular vectors of its kernels, as after a training.

    With others the kernels are divided by far too little, and a net blows its rounding up.
    """
    vectors = {
        name.replace("weight_orig", "weight_v"): np.linalg.svd(kernel.reshape(len(kernel), -1))[2][
            0
        ]
        for name, kernel in state.items()
        if name.endswith("weight_orig")
    }
    return {**state, **vectors}


def write_small(folder, source):
    """Small files of a source in the public layout; their paths by what they are given as."""

    def state(golden, net=None, least=64):
        return small_state(read_golden(GOLDENS / f"{golden}.npz"), fill, net, least)

    if source == "stargan_v2":
        names = ("generator_hpf", "mapping_network", "style_encoder")
        averages = {name.removesuffix("_hpf"): state("stargan2", name) for name in names}
        averages["fan"] = public_fan()
        files = {
            "checkpoint": averages,
            "discriminator": {"discriminator": state("stargan2", "discriminator")},
        }
    elif source == "spade":
        nets = {"checkpoint": "Gvae", "discriminator": "D", "encoder": "E"}
        files = {name: settled(state("spade", net)) for name, net in nets.items()}
    elif source == "pix2pix":
        files = {
            "checkpoint": state("pix2pix", "G_batch"),
            "discriminator": state("pix2pix", "D_batch"),
        }
    elif source == "stylegan2":
        golden = read_golden(GOLDENS / "stylegan2.npz")
        nets = {"G_ema": "G", "D": "D"}
        files = {
            "checkpoint": {name: stylegan2_state(golden, net, 64) for name, net in nets.items()}
        }
    else:
        files = {"checkpoint": state(source, least={"bisenet": 64, "parser_unet": 16}[source])}
    return {name: (folder / f"{name}.pth", value) for name, value in files.items()}


def write(source, path, state):
    return (write_networks if source == "stylegan2" else write_checkpoint)(path, state)
