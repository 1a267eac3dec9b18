"""A plain PyTorch twin of StyleGAN2's three nets and training step.

Written from Karras et al., CVPR 2020, sections 2 and 3 and appendix B, and from the layer lists of
facegan/models/stylegan2.py. A style's convolution has two forms: "grouped" makes a kernel for each
example and runs them as the groups of one convolution, as most users do; "scaled" multiplies the
features before and after one shared kernel. The smoothing filter is a depthwise convolution. It
needs torch and numpy alone, so it can run under a Python of its own.

    python benchmarks/stylegan2_torch.py --weights W.npz --job generator --variant scaled_cl_compile

It is a worker of stylegan2.py: the first line it prints holds what it computes from the stored
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

# name, after the form -> (channels_last, compiled: None, "plain" or "freeze", which makes constants
# of the weights, bfloat16: None, "pure" or "autocast")
VARIANTS = {
    "eager": (False, None, None),
    "cl": (True, None, None),
    "compile": (False, "plain", None),
    "cl_compile": (True, "plain", None),
    "freeze": (False, "freeze", None),
    "cl_freeze": (True, "freeze", None),
    "cl_autocast_bf16": (True, None, "autocast"),
    "cl_bf16": (True, None, "pure"),
    "cl_compile_bf16": (True, "plain", "pure"),
    "cl_freeze_bf16": (True, "freeze", "pure"),
}
FORMS = ("grouped", "scaled")
CLAMP = 256.0


def activate(x, bias, gain=1.0):
    if x.ndim == 4:
        bias = bias[:, None, None]
    x = functional.leaky_relu(x + bias, 0.2) * (math.sqrt(2) * gain)
    return x.clamp(-CLAMP * gain, CLAMP * gain) if x.ndim == 4 else x


class Filter(nn.Module):
    """The smoothing filter [1, 3, 3, 1] of each channel."""

    def __init__(self, channels, gain=1.0):
        super().__init__()
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
        kernel = gain * torch.outer(taps, taps).repeat(channels, 1, 1, 1)
        self.register_buffer("kernel", kernel, persistent=False)

    def forward(self, x, padding, stride=1):
        groups = len(self.kernel)
        return functional.conv2d(x, self.kernel, None, stride, padding, groups=groups)

    def double(self, x):
        groups = len(self.kernel)
        return functional.conv_transpose2d(x, self.kernel, None, 2, 1, groups=groups)


class Dense(nn.Module):
    """Fully connected, with an equalised learning rate."""

    def __init__(self, before, after, rate=1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(after, before))
        self.bias = nn.Parameter(torch.empty(after))
        self.scale, self.rate = rate / math.sqrt(before), rate

    def forward(self, x, activated=False):
        if activated:
            return activate(x @ (self.weight * self.scale).T, self.bias * self.rate)
        return functional.linear(x, self.weight * self.scale, self.bias * self.rate)


class Conv(nn.Module):
    """Convolution with an equalised learning rate, which a filter may halve."""

    def __init__(self, before, after, size=3, halved=False, plain=False, gain=1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(after, before, size, size))
        self.bias = None if plain else nn.Parameter(torch.empty(after))
        self.scale, self.gain = 1 / math.sqrt(before * size * size), gain
        self.smooth = Filter(before) if halved else None

    def forward(self, x):
        size, weight = self.weight.shape[2], self.weight * self.scale
        if self.smooth is None:
            x = functional.conv2d(x, weight, padding=size // 2)
        elif size == 1:
            x = functional.conv2d(self.smooth(x, 1, stride=2), weight)
        else:
            x = functional.conv2d(self.smooth(x, 2), weight, stride=2)
        return x * self.gain if self.bias is None else activate(x, self.bias, self.gain)


class StyledConv(nn.Module):
    """Modulated convolution, with noise and leaky ReLU or, of size 1, to colours."""

    def __init__(self, before, after, style_size, size_px, form, kernel=3, doubled=False):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(after, before, kernel, kernel))
        self.bias = nn.Parameter(torch.empty(after))
        self.affine = Dense(style_size, before)
        self.scale, self.form = 1 / math.sqrt(before * kernel * kernel), form
        self.smooth = Filter(after, 4.0) if doubled else None
        self.noisy = kernel == 3
        if self.noisy:
            self.noise_strength = nn.Parameter(torch.empty(()))
            self.register_buffer("noise_const", torch.empty(size_px, size_px))

    def convolve(self, x, weight, groups=1):
        if self.smooth is None:
            return functional.conv2d(x, weight, padding=weight.shape[2] // 2, groups=groups)
        # For a transposed convolution the channels before come first.
        after, before = weight.shape[0] // groups, weight.shape[1]
        weight = weight.unflatten(0, (groups, after)).transpose(1, 2)
        weight = weight.reshape(groups * before, after, *weight.shape[3:])
        return functional.conv_transpose2d(x, weight, stride=2, groups=groups)

    def modulate(self, x, style):
        batch, weight = len(style), self.weight * self.scale
        if self.form == "grouped":
            weight = weight * style[:, None, :, None, None]
            if self.noisy:
                norm = (weight.square().sum((2, 3, 4), keepdim=True) + 1e-8 * self.scale**2).rsqrt()
                weight = weight * norm
            x = x.reshape(1, -1, *x.shape[2:])
            x = self.convolve(x, weight.flatten(0, 1), groups=batch)
            return x.reshape(batch, -1, *x.shape[2:])
        x = self.convolve(x * style[:, :, None, None], weight)
        if self.noisy:
            variance = style.square() @ weight.square().sum((2, 3)).T
            x = x * (variance + 1e-8 * self.scale**2).rsqrt()[:, :, None, None]
        return x

    def forward(self, x, w, noise=None):
        x = self.modulate(x, self.affine(w))
        if self.smooth is not None:
            x = self.smooth(x, 1)
        if not self.noisy:
            return (x + self.bias[:, None, None]).clamp(-CLAMP, CLAMP)
        noise = self.noise_const if noise is None else noise
        return activate(x + noise * self.noise_strength, self.bias)


class Generator(nn.Module):
    """Paints a picture of the layers' styles w, [B, L, W]."""

    def __init__(self, widths, style_size, form):
        super().__init__()
        self.const = nn.Parameter(torch.empty(widths[0], 4, 4))
        self.layers = []
        for level, width in enumerate(widths):
            size = 4 << level
            made = {"style_size": style_size, "size_px": size, "form": form}
            if level:
                conv = StyledConv(widths[level - 1], width, **made, doubled=True)
                self.append(f"up_{size}", conv, 2 * level - 1)
            self.append(f"conv_{size}", StyledConv(width, width, **made), 2 * level)
            self.append(f"rgb_{size}", StyledConv(width, 3, **made, kernel=1), 2 * level + 1)
        self.smooth = Filter(3, 4.0)

    def append(self, name, layer, index):
        self.add_module(name, layer)
        self.layers.append((name, index))

    def forward(self, w, noises=None):
        x, image = self.const.expand(len(w), -1, -1, -1), None
        for i, (name, index) in enumerate(self.layers):
            layer = getattr(self, name)
            if layer.noisy:
                x = layer(x, w[:, index], None if noises is None else noises[i])
            else:
                colours = layer(x, w[:, index])
                image = colours if image is None else self.smooth.double(image) + colours
        return image


class Mapping(nn.Module):
    """Makes a style of noise."""

    def __init__(self, latent_size, style_size, num_layers, rate):
        super().__init__()
        self.num_layers = num_layers
        for i in range(num_layers):
            self.add_module(f"dense_{i}", Dense(style_size if i else latent_size, style_size, rate))
        self.register_buffer("w_avg", torch.empty(style_size))

    def forward(self, latent):
        x = latent * (latent.square().mean(1, keepdim=True) + 1e-8).rsqrt()
        for i in range(self.num_layers):
            x = getattr(self, f"dense_{i}")(x, activated=True)
        return x


class Down(nn.Module):
    """The discriminator's residual block."""

    def __init__(self, before, after):
        super().__init__()
        gain = math.sqrt(0.5)
        self.conv_0 = Conv(before, before)
        self.conv_1 = Conv(before, after, halved=True, gain=gain)
        self.skip_conv = Conv(before, after, 1, halved=True, plain=True, gain=gain)

    def forward(self, x):
        return self.skip_conv(x) + self.conv_1(self.conv_0(x))


class Discriminator(nn.Module):
    """Judges pictures."""

    def __init__(self, widths, group_size):
        super().__init__()
        self.group_size, self.steps, last = group_size, len(widths) - 1, widths[-1]
        self.from_rgb = Conv(3, widths[0], 1)
        for i, (before, after) in enumerate(zip(widths, widths[1:], strict=False)):
            self.add_module(f"down_{i}", Down(before, after))
        self.last_conv = Conv(last + 1, last)
        self.dense = Dense(16 * last, last)
        self.head = Dense(last, 1)

    def deviation(self, x):
        group = min(self.group_size, len(x))
        groups = x.unflatten(0, (group, -1))
        spread = (groups.var(0, correction=0) + 1e-8).sqrt().mean((1, 2, 3))
        return spread.repeat(group)[:, None, None, None].expand(-1, 1, *x.shape[2:])

    def forward(self, image):
        x = self.from_rgb(image)
        for i in range(self.steps):
            x = getattr(self, f"down_{i}")(x)
        x = self.last_conv(torch.cat([x, self.deviation(x)], 1))
        return self.head(self.dense(x.flatten(1), activated=True))


def lazy_adam(parameters, rate, betas, every):
    """Adam of a net that gets one step more, of a regularizer, at every so many (appendix B)."""
    share = every / (every + 1)
    betas = tuple(beta**share for beta in betas)
    # Keras adds its 1e-8 before the variance is corrected for the start. At the first step this is
    # the same; PyTorch's own epsilon takes the losses of untrained nets 2 % apart.
    epsilon = 1e-8 / math.sqrt(1 - betas[1])
    return torch.optim.Adam(parameters, rate * share, betas, epsilon, fused=True)


class Training:
    """A step in which both regularizers' turns have come: four updates."""

    def __init__(self, nets, recipe, image, drawn):
        self.nets, self.recipe, self.image, self.drawn = nets, recipe, image, drawn
        rate, betas = recipe["learning_rate"], (recipe["beta_1"], recipe["beta_2"])
        everies = {"generator": "path_every", "mapping": "path_every", "discriminator": "r1_every"}
        self.adams = {
            name: lazy_adam(nets[name].parameters(), rate, betas, recipe[every])
            for name, every in everies.items()
        }
        self.averages = {
            name: copy.deepcopy(nets[name]).requires_grad_(False)
            for name in ("generator", "mapping")
        }
        self.path_length = torch.zeros(())

    def learn(self, *names):
        for name, net in self.nets.items():
            net.requires_grad_(name in names)
            if name in names:
                self.adams[name].zero_grad()

    def update(self, loss, *names):
        loss.backward()
        for name in names:
            self.adams[name].step()

    def draw_w(self, phase):
        """Styles of one latent each, or of two, and the mean style's step."""
        drawn, mapping, layers = self.drawn[phase], self.nets["mapping"], self.recipe["num_styles"]
        first = mapping(drawn["latent_0"])
        with torch.no_grad():
            mean = first.mean(0)
            mapping.w_avg.copy_(mean.lerp(mapping.w_avg, self.recipe["average_decay"]))
        other = mapping(drawn["latent_1"])
        is_first = torch.arange(layers)[:, None] < drawn["crossover"][:, None, None]
        return torch.where(is_first, first[:, None], other[:, None])

    def paint(self, phase, w):
        return self.nets["generator"](w, self.drawn[phase]["noises"])

    def generator_phase(self):
        self.learn("generator", "mapping")
        logits = self.nets["discriminator"](self.paint("generator", self.draw_w("generator")))
        loss = functional.softplus(-logits).mean()
        self.update(loss, "generator", "mapping")
        return {"G/adv": loss}

    def path_phase(self):
        self.learn("generator", "mapping")
        w = self.draw_w("path")
        image = self.paint("path", w)
        total = (image * self.drawn["path"]["y"]).sum() / math.sqrt(image[0, 0].numel())
        (slope,) = torch.autograd.grad(total, w, create_graph=True)
        lengths = slope.square().sum(2).mean(1).sqrt()
        mean = lengths.detach().mean()
        self.path_length = self.path_length.lerp(mean, self.recipe["path_decay"])
        penalty = (lengths - self.path_length).square().mean()
        weight = self.recipe["path_weight"] * self.recipe["path_every"]
        self.update(weight * penalty, "generator", "mapping")
        return {"G/path": penalty, "G/path_length": self.path_length}

    def discriminator_phase(self):
        self.learn("discriminator")
        judge = self.nets["discriminator"]
        with torch.no_grad():
            fake = self.paint("discriminator", self.draw_w("discriminator"))
        false = functional.softplus(judge(fake)).mean()
        real = functional.softplus(-judge(self.image)).mean()
        self.update(real + false, "discriminator")
        return {"D/real": real, "D/fake": false}

    def r1_phase(self):
        self.learn("discriminator")
        image = self.image.detach().requires_grad_()
        logits = self.nets["discriminator"](image)
        (slope,) = torch.autograd.grad(logits.sum(), image, create_graph=True)
        penalty = 0.5 * slope.square().sum((1, 2, 3)).mean()
        self.update(self.recipe["r1_weight"] * self.recipe["r1_every"] * penalty, "discriminator")
        return {"D/r1": penalty}

    def step(self):
        terms = self.generator_phase() | self.path_phase()
        terms |= self.discriminator_phase() | self.r1_phase()
        with torch.no_grad():
            for name, average in self.averages.items():
                kept, new = average.parameters(), self.nets[name].parameters()
                torch._foreach_lerp_(list(kept), list(new), 1 - self.recipe["ema_decay"])
        return {name: float(term.detach()) for name, term in terms.items()}


def load(net, weights, prefix):
    """Gives a net the weights of ours: kernels turn from [h, w, in, out] to [out, in, h, w]."""
    state = {}
    for name in weights.files:
        if not name.startswith(prefix):
            continue
        *path, leaf = name.removeprefix(prefix).split("/")
        value = torch.from_numpy(weights[name])
        if path and path[0].startswith("style_"):
            path = [path[0].removeprefix("style_"), "affine"]
        elif path[-1:] == ["conv"]:
            path.pop()
        if leaf == "kernel" and value.ndim == 4:
            value = value.permute(3, 2, 0, 1)
            # A transposed convolution has its kernel turned by half a turn.
            value = value.flip(2, 3) if path[0].startswith("up_") else value
        elif leaf == "kernel":
            value = value.T
            if path == ["dense"]:  # behind pixels whose channels come last
                value = value.unflatten(1, (4, 4, -1)).permute(0, 3, 1, 2).flatten(1)
        elif leaf == "const":
            value = value.permute(2, 0, 1)
        state[".".join([*path, "weight" if leaf == "kernel" else leaf])] = value.contiguous()
    net.load_state_dict(state)
    return net


def channels_first(value):
    return torch.from_numpy(value.transpose(0, 3, 1, 2)).contiguous()


def prepare_generator(net, w, expected, channels_last, compiled, bfloat16):
    """A function that runs the generator, and what it computes."""
    net.eval()
    with FlopCounterMode(display=False) as counter:
        net(w)
    if channels_last:
        net = net.to(memory_format=torch.channels_last)
    if bfloat16 == "pure":
        net, w = net.bfloat16(), w.bfloat16()
    if compiled:
        net = torch.compile(net, options={"freezing": compiled == "freeze"})
    context = contextlib.nullcontext()
    if bfloat16 == "autocast":
        context = torch.autocast("cpu", torch.bfloat16)

    def run():
        with torch.inference_mode(), context:
            return net(w)

    image = run().float().permute(0, 2, 3, 1).numpy()
    facts = {
        "max_difference": float(np.abs(image - expected).max() / expected.std()),
        "gflop": round(counter.get_total_flops() / 1e9, 1),
    }
    return run, facts


def read_drawn(path, recipe, channels_last):
    """Latents, crossovers and noise of each phase."""
    stored = np.load(path)
    drawn = {}
    for phase in ("generator", "path", "discriminator"):
        names = [name for name in stored.files if name.startswith(f"{phase}/")]
        drawn[phase] = {name.partition("/")[2]: torch.from_numpy(stored[name]) for name in names}
        noises = [drawn[phase].get(f"noise_{i}") for i in range(recipe["num_layers"])]
        drawn[phase]["noises"] = [x if x is None else x.permute(0, 3, 1, 2) for x in noises]
    y = channels_first(stored["path/y"])
    drawn["path"]["y"] = y.to(memory_format=torch.channels_last) if channels_last else y
    return drawn


def make_net(name, weights, form):
    made = json.loads(str(weights["facts"]))[name]
    kinds = {"generator": Generator, "mapping": Mapping, "discriminator": Discriminator}
    if name == "generator":
        made["form"] = form
    return load(kinds[name](**made), weights, f"{name}/")


def prepare_training(weights, folder, form, channels_last):
    """A function that runs one step, what it computes at first, and the nets' sizes."""
    recipe = json.loads(str(weights["facts"]))["recipe"]
    names = ("generator", "mapping", "discriminator")
    nets = {name: make_net(name, weights, form) for name in names}
    image = channels_first(weights["image"])
    if channels_last:
        nets = {name: net.to(memory_format=torch.channels_last) for name, net in nets.items()}
        image = image.to(memory_format=torch.channels_last)
    drawn = read_drawn(folder / "drawn.npz", recipe, channels_last)
    training = Training(nets, recipe, image, drawn)
    losses = training.step()
    known = json.loads((folder / "losses.json").read_text())
    differences = [abs(losses[term] / value - 1) for term, value in known.items()]
    facts = {"max_difference": max(differences), "losses": losses}
    return training.step, facts, [sum(p.numel() for p in net.parameters()) for net in nets.values()]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--weights", required=True)
    parser.add_argument("--job", choices=("generator", "training"), default="generator")
    names = [f"{form}_{variant}" for form in FORMS for variant in VARIANTS]
    parser.add_argument("--variant", choices=names, default="grouped_eager")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--warm", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    form, _, variant = args.variant.partition("_")
    channels_last, compiled, bfloat16 = VARIANTS[variant]
    weights = np.load(args.weights)
    if args.job == "training":
        if compiled or bfloat16:
            raise SystemExit("the training step is timed in eager float32")
        folder = pathlib.Path(args.weights).parent
        run, facts, parameters = prepare_training(weights, folder, form, channels_last)
    else:
        net = make_net("generator", weights, form)
        parameters = [sum(p.numel() for p in net.parameters())]
        w, expected = torch.from_numpy(weights["w"]), weights["output"]
        run, facts = prepare_generator(net, w, expected, channels_last, compiled, bfloat16)
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
