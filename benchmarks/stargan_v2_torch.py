"""A plain PyTorch twin of StarGAN v2's four nets and training step.

Written from Choi et al., section 2 and appendix A, and from the layer lists of
facegan/models/stargan_v2.py: pixels are repeated before, and averaged after, whole 3x3
convolutions. It needs torch and numpy alone, so it can run under a Python of its own.

    python benchmarks/stargan_v2_torch.py --weights W.npz --job generator --variant cl_compile

It is a worker of stargan_v2.py: the first line it prints holds what it computes from the stored
weights and inputs, for comparison; then it reads one number a line from stdin, runs that often, and
answers with a JSON list of pairs, seconds by the clock and of processor time.
"""

import argparse
import contextlib
import copy
import json
import math
import pathlib
import sys
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional
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
SKIP_SIZES = (32, 64, 128)


def activate(x):
    return functional.leaky_relu(x, 0.2)


class Block(nn.Module):
    """The residual block of the encoder, the style encoder and the discriminator."""

    def __init__(self, before, after, normalize=False, downsample=False):
        super().__init__()
        self.downsample = downsample
        self.norm_0 = nn.InstanceNorm2d(before, affine=True) if normalize else nn.Identity()
        self.conv_0 = nn.Conv2d(before, before, 3, padding=1)
        self.norm_1 = nn.InstanceNorm2d(before, affine=True) if normalize else nn.Identity()
        self.conv_1 = nn.Conv2d(before, after, 3, padding=1)
        self.learned = before != after
        if self.learned:
            self.skip_conv = nn.Conv2d(before, after, 1, bias=False)

    def pool(self, x):
        return functional.avg_pool2d(x, 2) if self.downsample else x

    def forward(self, x):
        skip = self.pool(self.skip_conv(x) if self.learned else x)
        x = self.pool(self.conv_0(activate(self.norm_0(x))))
        x = self.conv_1(activate(self.norm_1(x)))
        return (skip + x) / math.sqrt(2)


class StyleNorm(nn.Module):
    """(1 + gamma(s)) norm(x) + beta(s)."""

    def __init__(self, style_size, channels):
        super().__init__()
        self.norm = nn.InstanceNorm2d(channels)
        self.dense = nn.Linear(style_size, 2 * channels)

    def forward(self, x, style):
        gamma, beta = self.dense(style)[:, :, None, None].chunk(2, dim=1)
        return (1 + gamma) * self.norm(x) + beta


class StyledBlock(nn.Module):
    """The residual block of the decoder."""

    def __init__(self, before, after, style_size, upsample=False, shortcut=True):
        super().__init__()
        self.upsample, self.shortcut = upsample, shortcut
        self.norm_0 = StyleNorm(style_size, before)
        self.conv_0 = nn.Conv2d(before, after, 3, padding=1)
        self.norm_1 = StyleNorm(style_size, after)
        self.conv_1 = nn.Conv2d(after, after, 3, padding=1)
        self.learned = shortcut and before != after
        if self.learned:
            self.skip_conv = nn.Conv2d(before, after, 1, bias=False)

    def repeat(self, x):
        return functional.interpolate(x, scale_factor=2, mode="nearest") if self.upsample else x

    def forward(self, x, style):
        y = self.conv_0(self.repeat(activate(self.norm_0(x, style))))
        y = self.conv_1(activate(self.norm_1(y, style)))
        if not self.shortcut:
            return y
        skip = self.repeat(x)
        return ((self.skip_conv(skip) if self.learned else skip) + y) / math.sqrt(2)


class Generator(nn.Module):
    """Repaints a picture in a style; with ``high_pass``, fine structure skips to the decoder."""

    def __init__(self, widths, style_size, high_pass):
        super().__init__()
        self.high_pass = high_pass
        self.from_rgb = nn.Conv2d(3, widths[0], 3, padding=1)
        for i, (before, after) in enumerate(zip(widths, widths[1:], strict=False)):
            self.add_module(f"down_{i}", Block(before, after, True, True))
        wide, styled = widths[-1], {"style_size": style_size, "shortcut": not high_pass}
        for i in range(2):
            self.add_module(f"middle_{i}", Block(wide, wide, True))
            self.add_module(f"styled_middle_{i}", StyledBlock(wide, wide, **styled))
        turned = widths[::-1]
        for i, (before, after) in enumerate(zip(turned, turned[1:], strict=False)):
            self.add_module(f"up_{i}", StyledBlock(before, after, upsample=True, **styled))
        self.norm = nn.InstanceNorm2d(widths[0], affine=True)
        self.to_rgb = nn.Conv2d(widths[0], 3, 1)
        self.steps = len(widths) - 1
        kernel = torch.tensor([[-1.0, -1, -1], [-1, 8, -1], [-1, -1, -1]])
        self.register_buffer("filter", kernel[None, None] / (high_pass or 1), persistent=False)

    def forward(self, image, style, coarse_mask=None, fine_mask=None):
        x = self.from_rgb(image)
        kept = []
        for i in range(self.steps):
            kept.append(x)
            x = getattr(self, f"down_{i}")(x)
        for i in range(2):
            x = getattr(self, f"middle_{i}")(x)
        for i in range(2):
            x = getattr(self, f"styled_middle_{i}")(x, style)
        for i in range(self.steps):
            x = getattr(self, f"up_{i}")(x, style)
            details, size = kept.pop(), x.shape[2]
            if fine_mask is not None and size in SKIP_SIZES:
                mask = coarse_mask if size == SKIP_SIZES[0] else fine_mask
                mask = functional.interpolate(mask, size=(size, size), mode="bilinear")
                channels = details.shape[1]
                kernel = self.filter.repeat(channels, 1, 1, 1)
                x = x + functional.conv2d(mask * details, kernel, padding=1, groups=channels)
        return self.to_rgb(activate(self.norm(x)))


class Heads(nn.Module):
    """A linear layer for each domain: [B, C], or [B, D, C], to [B, D, units]."""

    def __init__(self, num_domains, before, units):
        super().__init__()
        self.domains = nn.ModuleList(nn.Linear(before, units) for _ in range(num_domains))

    def forward(self, x):
        shared = x.ndim == 2
        heads = enumerate(self.domains)
        return torch.stack([head(x if shared else x[:, i]) for i, head in heads], 1)


def of_domain(values, domain):
    return values[torch.arange(len(domain)), domain]


class Mapping(nn.Module):
    """Makes a domain's style of noise."""

    def __init__(self, latent_size, width, style_size, num_domains):
        super().__init__()
        for i in range(4):
            self.add_module(f"shared_{i}", nn.Linear(width if i else latent_size, width))
            self.add_module(f"head_{i}", Heads(num_domains, width, style_size if i == 3 else width))

    def forward(self, latent, domain):
        x = latent
        for i in range(4):
            x = functional.relu(getattr(self, f"shared_{i}")(x))
        for i in range(3):
            x = functional.relu(getattr(self, f"head_{i}")(x))
        return of_domain(self.head_3(x), domain)


class DomainNet(nn.Module):
    """The style encoder, or the discriminator with one unit."""

    def __init__(self, widths, units, num_domains):
        super().__init__()
        self.from_rgb = nn.Conv2d(3, widths[0], 3, padding=1)
        self.steps = len(widths) - 1
        for i, (before, after) in enumerate(zip(widths, widths[1:], strict=False)):
            self.add_module(f"down_{i}", Block(before, after, downsample=True))
        self.last_conv = nn.Conv2d(widths[-1], widths[-1], 4)
        self.head = Heads(num_domains, widths[-1], units)

    def forward(self, image, domain):
        x = self.from_rgb(image)
        for i in range(self.steps):
            x = getattr(self, f"down_{i}")(x)
        x = activate(self.last_conv(activate(x)))
        return of_domain(self.head(x.flatten(1)), domain)


class Training:
    """The four phases of an iteration: two updates of the discriminator, two of the others."""

    def __init__(self, nets, image, domain, latents):
        self.nets, self.latents = nets, latents
        self.image = image
        self.source, self.of_source, self.target = image[::3], domain[::3], domain[1::3]
        made = {"betas": (0.0, 0.99), "weight_decay": 1e-4, "fused": True}
        self.adams = {
            name: torch.optim.Adam(net.parameters(), 1e-6 if name == "mapping" else 1e-4, **made)
            for name, net in nets.items()
        }
        self.averages = {
            name: copy.deepcopy(net).requires_grad_(False)
            for name, net in nets.items()
            if name != "discriminator"
        }

    def style(self, by, phase, number):
        if by == "latent":
            return self.nets["mapping"](self.latents[f"{phase}/{number}"], self.target)
        return self.nets["style_encoder"](self.image[1 + number :: 3], self.target)

    def learn(self, *names):
        # The authors' code computes the other nets' gradients, too, and drops them.
        for name, net in self.nets.items():
            net.requires_grad_(name in names)
            if name in names:
                self.adams[name].zero_grad()

    def update(self, loss, *names):
        loss.backward()
        for name in names:
            self.adams[name].step()

    def discriminator_phase(self, by):
        self.learn("discriminator")
        judge = self.nets["discriminator"]
        image = self.source.detach().requires_grad_()
        logits = judge(image, self.of_source)
        real = functional.binary_cross_entropy_with_logits(logits, torch.ones_like(logits))
        (steepness,) = torch.autograd.grad(logits.sum(), image, create_graph=True)
        penalty = 0.5 * steepness.square().sum((1, 2, 3)).mean()
        with torch.no_grad():
            fake = self.nets["generator"](self.source, self.style(by, "D", 0))
        logits = judge(fake, self.target)
        false = functional.binary_cross_entropy_with_logits(logits, torch.zeros_like(logits))
        self.update(real + false + penalty, "discriminator")
        return {f"D/{by}/real": real, f"D/{by}/fake": false, f"D/{by}/r1": penalty}

    def generator_phase(self, by):
        names = list(self.averages) if by == "latent" else ["generator"]
        self.learn(*names)
        paint, encode = self.nets["generator"], self.nets["style_encoder"]
        wanted = self.style(by, "G", 0)
        fake = paint(self.source, wanted)
        logits = self.nets["discriminator"](fake, self.target)
        with torch.no_grad():
            other = paint(self.source, self.style(by, "G", 1))
        again = paint(fake, encode(self.source, self.of_source))
        terms = {
            "adv": functional.binary_cross_entropy_with_logits(logits, torch.ones_like(logits)),
            "style": functional.l1_loss(encode(fake, self.target), wanted),
            "diversity": functional.l1_loss(fake, other),
            "cycle": functional.l1_loss(again, self.source),
        }
        self.update(sum(terms.values()) - 2 * terms["diversity"], *names)
        return {f"G/{by}/{name}": term for name, term in terms.items()}

    def step(self):
        terms = {}
        for phase in (self.discriminator_phase, self.generator_phase):
            for by in ("latent", "reference"):
                terms |= phase(by)
        with torch.no_grad():
            for name, average in self.averages.items():
                kept, new = average.parameters(), self.nets[name].parameters()
                torch._foreach_lerp_(list(kept), list(new), 0.001)
        return {name: float(term) for name, term in terms.items()}


LEAVES = {"kernel": "weight", "bias": "bias", "gamma": "weight", "beta": "bias"}


def load(net, weights, prefix):
    """Gives a net the weights of ours: kernels turn from [h, w, in, out] to [out, in, h, w]."""
    state, unset = net.state_dict(), set(net.state_dict())
    for name in weights.files:
        if not name.startswith(prefix):
            continue
        *path, leaf = name.removeprefix(prefix).split("/")
        value, module = torch.from_numpy(weights[name]), ".".join(path)
        if "head" in path[-1]:  # a leading axis of domains
            new = {f"{module}.domains.{i}.{LEAVES[leaf]}": part.T for i, part in enumerate(value)}
        else:
            turned = value.permute(3, 2, 0, 1) if value.ndim == 4 else value
            new = {f"{module}.{LEAVES[leaf]}": turned.T if value.ndim == 2 else turned}
        unset -= set(new)
        state |= {key: part.contiguous() for key, part in new.items()}
    if unset:
        raise ValueError(f"no weights for {sorted(unset)}")
    net.load_state_dict(state)
    return net


def channels_first(value):
    return torch.from_numpy(value.transpose(0, 3, 1, 2)).contiguous()


def prepare_generator(net, inputs, expected, channels_last, compiled, bfloat16):
    """A function that runs the generator, and what it computes."""
    net.eval()
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        net(*inputs)
    if channels_last:
        net = net.to(memory_format=torch.channels_last)
        inputs = [x.to(memory_format=torch.channels_last) if x.ndim == 4 else x for x in inputs]
    if bfloat16 == "pure":
        net, inputs = net.bfloat16(), [x.bfloat16() for x in inputs]
    if compiled:
        net = torch.compile(net)
    context = contextlib.nullcontext()
    if bfloat16 == "autocast":
        context = torch.autocast("cpu", torch.bfloat16)

    def run():
        with torch.inference_mode(), context:
            return net(*inputs)

    image = run().float().permute(0, 2, 3, 1).numpy()
    facts = {
        "max_difference": float(np.abs(image - expected).max() / expected.std()),
        "gflop": round(counter.get_total_flops() / 1e9, 1),
    }
    return run, facts


def prepare_training(weights, known, channels_last):
    """A function that runs one iteration, what it computes at first, and the nets' sizes."""
    sizes = json.loads(str(weights["facts"]))
    style_size, num_domains = sizes["style_size"], 2
    nets = {
        "generator": Generator(sizes["generator_widths"], style_size, 0.0),
        "mapping": Mapping(16, 8 * sizes["width"], style_size, num_domains),
        "style_encoder": DomainNet(sizes["style_encoder_widths"], style_size, num_domains),
        "discriminator": DomainNet(sizes["discriminator_widths"], 1, num_domains),
    }
    nets = {name: load(net, weights, f"{name}/") for name, net in nets.items()}
    image = channels_first(weights["image"])
    if channels_last:
        nets = {name: net.to(memory_format=torch.channels_last) for name, net in nets.items()}
        image = image.to(memory_format=torch.channels_last)
    latents = {name: torch.tensor(value) for name, value in known["latents"].items()}
    training = Training(nets, image, torch.from_numpy(weights["domain"]), latents)
    losses = training.step()
    differences = [abs(losses[term] / value - 1) for term, value in known["losses"].items()]
    facts = {"max_difference": max(differences), "losses": losses}
    return training.step, facts, [sum(p.numel() for p in n.parameters()) for n in nets.values()]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--weights", required=True)
    parser.add_argument(
        "--job", choices=("generator", "high_pass", "training"), default="generator"
    )
    parser.add_argument("--variant", choices=sorted(VARIANTS), default="eager")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--warm", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    channels_last, compiled, bfloat16 = VARIANTS[args.variant]
    weights = np.load(args.weights)
    if args.job == "training":
        if compiled or bfloat16:
            raise SystemExit("the training step is timed in eager float32")
        known = json.loads(pathlib.Path(args.weights).with_name("step.json").read_text())
        run, facts, parameters = prepare_training(weights, known, channels_last)
    else:
        sizes, high_pass = json.loads(str(weights["facts"])), args.job == "high_pass"
        net = Generator(sizes[f"{args.job}_widths"], sizes["style_size"], float(high_pass))
        load(net, weights, f"{args.job}/")
        parameters = [sum(p.numel() for p in net.parameters())]
        names = ["image"] + (["coarse_mask", "fine_mask"] if high_pass else [])
        image, *masks = (channels_first(weights[name][:1]) for name in names)
        inputs = [image, torch.from_numpy(weights["style"]), *masks]
        expected = weights[f"{args.job}_output"]
        run, facts = prepare_generator(net, inputs, expected, channels_last, compiled, bfloat16)
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
