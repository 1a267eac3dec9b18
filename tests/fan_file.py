"""FAN's weights as the public file has them."""

import numpy as np

LANDMARKS, WIDTH = 98, 256


def public_fan(stack=1):
    """A state dict in the public layout with seeded numbers, for a stack of networks."""
    random, state = np.random.default_rng(0), {}

    def conv(name, out, into, size, bias=True):
        scale = 1 / np.sqrt(into * size * size)
        kernel = random.normal(0, scale, (out, into, size, size))
        state[f"{name}.weight"] = kernel.astype(np.float32)
        if bias:
            state[f"{name}.bias"] = random.normal(0, 0.1, out).astype(np.float32)

    def norm(name, width):
        for leaf, low, high in (
            ("weight", 0.8, 1.2),
            ("bias", -0.1, 0.1),
            ("running_mean", -0.1, 0.1),
            ("running_var", 0.5, 1.5),
        ):
            state[f"{name}.{leaf}"] = random.uniform(low, high, width).astype(np.float32)
        state[f"{name}.num_batches_tracked"] = np.array(1, np.int64)

    def block(name, out, into):
        for i, (a, b) in enumerate(
            ((into, out // 2), (out // 2, out // 4), (out // 4, out // 4)), 1
        ):
            norm(f"{name}.bn{i}", a)
            conv(f"{name}.conv{i}", b, a, 3, bias=False)
        if into != out:
            norm(f"{name}.downsample.0", into)
            conv(f"{name}.downsample.2", out, into, 1, bias=False)

    conv("conv1.conv", 64, 6, 7)
    norm("bn1", 64)
    for name, out, into in (("conv2", 128, 64), ("conv3", 128, 128), ("conv4", 256, 128)):
        block(name, out, into)
    for number in range(stack):
        conv(f"m{number}.coordconv.conv", WIDTH, WIDTH + 3 + 2 * (number > 0), 1)
        for level in (4, 3, 2, 1):
            for part in ("b1", "b2", "b3"):
                block(f"m{number}.{part}_{level}", WIDTH, WIDTH)
        block(f"m{number}.b2_plus_1", WIDTH, WIDTH)
        block(f"top_m_{number}", WIDTH, WIDTH)
        conv(f"conv_last{number}", WIDTH, WIDTH, 1)
        norm(f"bn_end{number}", WIDTH)
        conv(f"l{number}", LANDMARKS + 1, WIDTH, 1)
        if number < stack - 1:
            conv(f"bl{number}", WIDTH, WIDTH, 1)
            conv(f"al{number}", WIDTH, LANDMARKS + 1, 1)
    return state
