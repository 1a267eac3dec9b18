"""A plain PyTorch twin of the pix2pix U-Net, as a worker of pix2pix_generator.py.

Written from the layer list of Isola et al., section 6.1.1. It needs torch and numpy alone, so it
can run under a Python of its own.

    python benchmarks/pix2pix_torch.py --weights W.npz --variant cl_compile --size 256

It reads one number a line from stdin, runs the generator that often at batch 1, and answers with a
JSON list of seconds; the first answer, before any number, is how it compares with the stored
output.
"""

import argparse
import json
import sys
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional

# name -> (channels_last, compiled, bfloat16)
VARIANTS = {
    "eager": (False, False, False),
    "cl": (True, False, False),
    "compile": (False, True, False),
    "cl_compile": (True, True, False),
    "cl_bf16": (True, False, True),
    "cl_compile_bf16": (True, True, True),
}


class UNet(nn.Module):
    """The generator; its modules carry the names of our layers."""

    def __init__(self, widths, out_channels=3):
        super().__init__()
        last = len(widths)
        self.last = last
        layers = {}
        before = 3
        for level, width in enumerate(widths, start=1):
            layers[f"down{level}_conv"] = nn.Conv2d(before, width, 4, 2, 1, bias=False)
            if 1 < level < last:
                layers[f"down{level}_norm"] = nn.BatchNorm2d(width)
            before = width
            if level > 1:
                joined = width if level == last else 2 * width
                above = widths[level - 2]
                layers[f"up{level}_conv"] = nn.ConvTranspose2d(joined, above, 4, 2, 1, bias=False)
                layers[f"up{level}_norm"] = nn.BatchNorm2d(above)
        layers["up1_conv"] = nn.ConvTranspose2d(2 * widths[0], out_channels, 4, 2, 1)
        self.layers = nn.ModuleDict(layers)

    def forward(self, x):
        skips = []
        for level in range(1, self.last + 1):
            if level > 1:
                x = functional.leaky_relu(x, 0.2)
            x = self.layers[f"down{level}_conv"](x)
            if 1 < level < self.last:
                x = self.layers[f"down{level}_norm"](x)
            skips.append(x)
        x = skips.pop()
        for level in range(self.last, 1, -1):
            x = self.layers[f"up{level}_norm"](self.layers[f"up{level}_conv"](torch.relu(x)))
            x = torch.cat([skips.pop(), x], 1)
        return torch.tanh(self.layers["up1_conv"](torch.relu(x)))


LEAVES = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def load(weights):
    """The net with the weights of ours: kernels turn from [h, w, b, a] to [a, b, h, w]."""
    widths = []
    while f"down{len(widths) + 1}_conv/kernel" in weights:
        widths.append(weights[f"down{len(widths) + 1}_conv/kernel"].shape[3])
    net = UNet(widths)
    state = net.state_dict()
    for name in weights.files:
        if "/" not in name:
            continue
        layer, leaf = name.split("/")
        value = torch.from_numpy(weights[name])
        key = f"layers.{layer}.{LEAVES[leaf]}"
        state[key] = value.permute(3, 2, 0, 1) if value.ndim == 4 else value
    net.load_state_dict(state)
    return net.eval()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--weights", required=True)
    parser.add_argument("--variant", choices=sorted(VARIANTS), default="eager")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    channels_last, compiled, bfloat16 = VARIANTS[args.variant]
    weights = np.load(args.weights)
    net = load(weights)
    x = torch.from_numpy(weights["x"]).permute(0, 3, 1, 2).contiguous()
    if channels_last:
        net = net.to(memory_format=torch.channels_last)
        x = x.to(memory_format=torch.channels_last)
    if bfloat16:
        net, x = net.bfloat16(), x.bfloat16()
    if compiled:
        net = torch.compile(net)
    with torch.inference_mode():
        image = net(x).float().permute(0, 2, 3, 1).numpy()
        for _ in range(3):
            net(x)
        print(json.dumps({"max_difference": float(np.abs(image - weights["y"]).max())}), flush=True)
        for line in sys.stdin:
            seconds = []
            for _ in range(int(line)):
                start = time.perf_counter()
                net(x)
                seconds.append(time.perf_counter() - start)
            print(json.dumps(seconds), flush=True)


if __name__ == "__main__":
    main()
