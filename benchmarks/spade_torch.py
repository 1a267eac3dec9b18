"""A plain PyTorch twin of SPADE's generator, discriminator and training step.

Written from Park et al., sections 3 and A, and from the layer lists of facegan/models/spade.py. It
needs torch and numpy alone, so it can run under a Python of its own.

    python benchmarks/spade_torch.py --weights W.npz --job generator --variant cl_compile

It is a worker of spade.py: the first line it prints holds what it computes from the stored weights
and input, for comparison; then it reads one number a line from stdin, runs that often, and answers
with a JSON list of pairs, seconds by the clock and of processor time. It is given its label map as
a one-hot map, ready made.
"""

import argparse
import contextlib
import json
import pathlib
import sys
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import remove_spectral_norm, spectral_norm
from torch.utils.flop_counter import FlopCounterMode

# name -> (channels_last, compiled, bfloat16: None, "pure" or "autocast")
VARIANTS = {
    "eager": (False, False, None),
    "cl": (True, False, None),
    "compile": (False, True, None),
    "cl_compile": (True, True, None),
    "cl_autocast_bf16": (True, False, "autocast"),
    "cl_bf16": (True, False, "pure"),
    "cl_compile_bf16": (True, True, "pure"),
}


class Spade(nn.Module):
    """norm(x) (1 + gamma(m)) + beta(m)."""

    def __init__(self, channels, num_labels, hidden):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.shared_conv = nn.Conv2d(num_labels, hidden, 3, padding=1)
        self.gamma_conv = nn.Conv2d(hidden, channels, 3, padding=1)
        self.beta_conv = nn.Conv2d(hidden, channels, 3, padding=1)

    def forward(self, x, label_map):
        label_map = functional.interpolate(label_map, size=x.shape[2:], mode="nearest")
        hidden = functional.relu(self.shared_conv(label_map))
        return self.norm(x) * (1 + self.gamma_conv(hidden)) + self.beta_conv(hidden)


class Block(nn.Module):
    """The residual block."""

    def __init__(self, before, after, num_labels, hidden):
        super().__init__()
        middle = min(before, after)
        self.norm_0 = Spade(before, num_labels, hidden)
        self.conv_0 = spectral_norm(nn.Conv2d(before, middle, 3, padding=1))
        self.norm_1 = Spade(middle, num_labels, hidden)
        self.conv_1 = spectral_norm(nn.Conv2d(middle, after, 3, padding=1))
        self.learned = before != after
        if self.learned:
            self.norm_s = Spade(before, num_labels, hidden)
            self.conv_s = spectral_norm(nn.Conv2d(before, after, 1, bias=False))

    def forward(self, x, label_map):
        shortcut = self.conv_s(self.norm_s(x, label_map)) if self.learned else x
        x = self.conv_0(functional.leaky_relu(self.norm_0(x, label_map), 0.2))
        x = self.conv_1(functional.leaky_relu(self.norm_1(x, label_map), 0.2))
        return shortcut + x


class Generator(nn.Module):
    """The generator that doubles its start grid five times."""

    def __init__(self, num_labels, width, hidden):
        super().__init__()
        wide = 16 * width
        self.start = nn.Conv2d(num_labels, wide, 3, padding=1)
        widths = [wide, wide, wide, wide // 2, wide // 4, wide // 8, wide // 16]
        names = ["head_0", "middle_0", "middle_1", "up_0", "up_1", "up_2", "up_3"]
        self.blocks = nn.ModuleDict()
        before = wide
        for name, after in zip(names, widths, strict=True):
            self.blocks[name] = Block(before, after, num_labels, hidden)
            before = after
        self.image_conv = nn.Conv2d(before, 3, 3, padding=1)

    def forward(self, label_map):
        size = [n // 32 for n in label_map.shape[2:]]
        x = self.start(functional.interpolate(label_map, size=size, mode="nearest"))
        for name, block in self.blocks.items():
            if name not in ("head_0", "middle_1"):
                x = functional.interpolate(x, scale_factor=2, mode="nearest")
            x = block(x, label_map)
        return torch.tanh(self.image_conv(functional.leaky_relu(x, 0.2)))


class Discriminator(nn.Module):
    """Two scales of patches; gives (maps, logits) for each."""

    def __init__(self, num_labels, width, num_layers=4):
        super().__init__()
        self.num_layers = num_layers
        for scale in range(2):
            before = num_labels + 3
            for i in range(num_layers):
                after = width * min(2**i, 8)
                conv = nn.Conv2d(before, after, 4, 2 if i < num_layers - 1 else 1, 2, bias=i == 0)
                self.add_module(f"scale{scale}_conv{i}", spectral_norm(conv) if i else conv)
                before = after
            self.add_module(f"scale{scale}_logit_conv", nn.Conv2d(before, 1, 4, 1, 2))
        self.norm = nn.InstanceNorm2d(1)  # without parameters it fits any number of channels

    def forward(self, x):
        out = []
        for scale in range(2):
            if scale:
                x = functional.avg_pool2d(x, 3, 2, 1, count_include_pad=False)
            maps = []
            for i in range(self.num_layers):
                y = getattr(self, f"scale{scale}_conv{i}")(maps[-1] if maps else x)
                y = functional.instance_norm(y) if i else y
                maps.append(functional.leaky_relu(y, 0.2))
            out.append((maps, getattr(self, f"scale{scale}_logit_conv")(maps[-1])))
        return out


class Training:
    """One generator and one discriminator update, as the authors' code makes them."""

    def __init__(self, generator, discriminator, label_map, image, fused):
        self.generator, self.discriminator = generator, discriminator
        self.label_map, self.image = label_map, image
        made = {"betas": (0.0, 0.9), "fused": fused}
        self.generator_adam = torch.optim.Adam(generator.parameters(), lr=1e-4, **made)
        self.discriminator_adam = torch.optim.Adam(discriminator.parameters(), lr=4e-4, **made)

    def judge(self, fake):
        real = torch.cat([self.label_map, self.image], 1)
        return self.discriminator(torch.cat([real, torch.cat([self.label_map, fake], 1)]))

    def step(self):
        # The authors' code computes the discriminator's gradients here too, and drops them.
        self.discriminator.requires_grad_(False)
        scales = self.judge(self.generator(self.label_map))
        adversarial = sum(-logits[1:].mean() for _, logits in scales) / 2
        feature = sum(functional.l1_loss(m[1:], m[:1].detach()) for maps, _ in scales for m in maps)
        self.generator_adam.zero_grad()
        (adversarial + 10 * feature / 2).backward()
        self.generator_adam.step()
        self.discriminator.requires_grad_(True)
        with torch.no_grad():
            fake = self.generator(self.label_map)
        loss = sum(
            functional.relu(1 - logits[:1]).mean() + functional.relu(1 + logits[1:]).mean()
            for _, logits in self.judge(fake)
        )
        self.discriminator_adam.zero_grad()
        (loss / 2).backward()
        self.discriminator_adam.step()
        return float(adversarial), float(feature) / 8, float(loss) / 2


LEAVES = {
    "kernel": "weight",
    "bias": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def load(net, weights, prefix):
    """Gives a net the weights of ours: kernels turn from [h, w, in, out] to [out, in, h, w]."""
    state = net.state_dict()
    unset = {key for key in state if not key.endswith(("num_batches_tracked", "weight_u"))}
    for name in weights.files:
        if not name.startswith(prefix):
            continue
        *path, leaf = name.removeprefix(prefix).split("/")
        module = ".".join(path)
        if path[0] in getattr(net, "blocks", ()):
            module = f"blocks.{module}"
        value = torch.from_numpy(weights[name])
        if leaf == "singular_vector":
            # Ours runs over height, width and channels, PyTorch's over channels first.
            kernel = state[f"{module}.weight_orig"]
            size = kernel.shape[2]
            v = value.reshape(size, size, -1).permute(2, 0, 1).reshape(-1)
            v = functional.normalize(v, dim=0)
            state[f"{module}.weight_u"] = functional.normalize(kernel.flatten(1) @ v, dim=0)
            key, value = f"{module}.weight_v", v
        else:
            key = f"{module}.{LEAVES[leaf]}"
            key = f"{key}_orig" if f"{key}_orig" in state else key
            value = value.permute(3, 2, 0, 1) if value.ndim == 4 else value
        state[key] = value.contiguous()
        unset.remove(key)
    if unset:
        raise ValueError(f"no weights for {sorted(unset)}")
    net.load_state_dict(state)
    return net


def prepare_generator(net, label_map, weights, channels_last, compiled, bfloat16, plain):
    """A function that runs the generator, and what it computes."""
    net.eval()
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        net(label_map)
    if not plain:
        for module in net.modules():
            if hasattr(module, "weight_orig"):
                remove_spectral_norm(module)
    if channels_last:
        net = net.to(memory_format=torch.channels_last)
        label_map = label_map.to(memory_format=torch.channels_last)
    if bfloat16 == "pure":
        net, label_map = net.bfloat16(), label_map.bfloat16()
    if compiled:
        net = torch.compile(net)
    context = contextlib.nullcontext()
    if bfloat16 == "autocast":
        context = torch.autocast("cpu", torch.bfloat16)

    def run():
        with torch.inference_mode(), context:
            return net(label_map)

    image = run().float().permute(0, 2, 3, 1).numpy()
    facts = {
        "max_difference": float(np.abs(image - weights["generated"]).max()),
        "gflop": round(counter.get_total_flops() / 1e9, 1),
    }
    return run, facts


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--weights", required=True)
    parser.add_argument("--job", choices=("generator", "training"), default="generator")
    parser.add_argument("--variant", choices=sorted(VARIANTS), default="eager")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--warm", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    channels_last, compiled, bfloat16 = VARIANTS[args.variant]
    weights = np.load(args.weights)
    num_labels, width, hidden = (int(weights[name]) for name in ("num_labels", "width", "hidden"))
    ids = torch.from_numpy(weights["label_map"].astype(np.int64))
    label_map = functional.one_hot(ids, num_labels).permute(0, 3, 1, 2).float().contiguous()
    net = load(Generator(num_labels, width, hidden), weights, "G/")
    parameters = [sum(p.numel() for p in net.parameters())]
    if args.job == "generator":
        plain = args.variant == "eager"
        run, facts = prepare_generator(
            net, label_map, weights, channels_last, compiled, bfloat16, plain
        )
    else:
        if compiled or bfloat16:
            raise SystemExit("the training step is timed in eager float32")
        judge = load(Discriminator(num_labels, width), weights, "D/")
        parameters.append(sum(p.numel() for p in judge.parameters()))
        image = torch.from_numpy(weights["image"]).permute(0, 3, 1, 2).contiguous()
        if channels_last:
            net = net.to(memory_format=torch.channels_last)
            judge = judge.to(memory_format=torch.channels_last)
            label_map = label_map.to(memory_format=torch.channels_last)
            image = image.to(memory_format=torch.channels_last)
        training = Training(net.train(), judge.train(), label_map, image, fused=channels_last)
        run = training.step
        losses = run()
        stored = pathlib.Path(args.weights).with_name("losses.json")
        expected = np.array(json.loads(stored.read_text()))
        difference = float(np.abs(np.array(losses) / expected - 1).max())
        facts = {"max_difference": difference, "losses": losses}
    for _ in range(args.warm):
        run()
    print(json.dumps({**facts, "parameters": parameters}), flush=True)
    for line in sys.stdin:
        seconds = []
        for _ in range(int(line)):
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            seconds.append([time.perf_counter() - wall, time.process_time() - cpu])
        print(json.dumps(seconds), flush=True)


if __name__ == "__main__":
    main()
