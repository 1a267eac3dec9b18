"""The SPADE nets against stored outputs of the public PyTorch implementation.

goldens/spade.npz holds one label map and the outputs of G, of G with a style, of D and of E, all
at full size; ``fill`` gives the weights from the names in its ``keys``, and the vectors of the
spectral norm are stored.
"""

import json
import pathlib

import numpy as np
import pytest

from facegan.layers.fast_paths import allow_fast_paths
from facegan.models.configured import fold_spectral_norm
from facegan.models.spade import (
    SpadeConfig,
    SPADEDiscriminator,
    SpadeDiscriminatorConfig,
    SPADEGenerator,
    StyleEncoder,
    StyleEncoderConfig,
)
from tests.parity.fill import fill

GOLDENS = pathlib.Path(__file__).parent / "goldens" / "spade.npz"
# Relative to the spread of the stored output. float32 sums of up to 9216 products differ by some
# 1e-6 between two libraries, and seven blocks pass that on.
TOLERANCE = 1e-4

# Of the authors' nets at 256 px and 19 labels.
PARAMETERS = {
    "G": 92_538_819,
    "Gvae": 109_205_443,
    "D": 5_566_594,
    "E": 10_463_424,
}

BLOCKS = {"G_middle_0": "middle_0", "G_middle_1": "middle_1"}
LEAVES = {
    "weight": "kernel",
    "weight_orig": "kernel",
    "bias": "bias",
    "weight_v": "singular_vector",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}
SPADE_PARTS = {
    "param_free_norm": "norm",
    "mlp_shared.0": "shared_conv",
    "mlp_gamma": "gamma_conv",
    "mlp_beta": "beta_conv",
}


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDENS) as file:
        return {name: file[name] for name in file.files}


def load_state(golden, net: str) -> dict[str, np.ndarray]:
    shapes, salt = json.loads(str(golden["keys"])), str(golden["salt"])
    return {
        name.removeprefix(f"{net}."): golden.get(f"w:{name}", None)
        if f"w:{name}" in golden
        else fill(salt + name, tuple(shape))
        for name, shape in shapes.items()
        if name.startswith(f"{net}.")
    }


def generator_path(module: str) -> str:
    """Public module path -> path of our layer below the net."""
    if module == "fc":
        return "start"
    if module == "conv_img":
        return "image_conv"
    block, _, rest = module.partition(".")
    for public, ours in SPADE_PARTS.items():
        rest = rest.replace(public, ours)
    return f"{BLOCKS.get(block, block)}/{rest.replace('.', '/')}"


def discriminator_path(module: str) -> str:
    scale, layer = module.removeprefix("discriminator_").split(".model")
    number = int(layer.split(".")[0])
    name = "logit_conv" if number == 4 else f"conv{number}"
    return f"scale{scale}_{name}"


def encoder_path(module: str) -> str:
    if module.startswith("layer"):
        return f"conv{int(module[5]) - 1}"
    return {"fc_mu": "mean", "fc_var": "log_variance"}[module]


def assign_state(model, state: dict[str, np.ndarray], path_of) -> None:
    """Writes a public state dict into our net; every entry and every variable is used once."""
    variables = {variable.path.partition("/")[2]: variable for variable in model.variables}
    for name, value in state.items():
        module, leaf = name.rsplit(".", 1)
        # u follows from v: u = W v / |W v|.
        if leaf in ("num_batches_tracked", "weight_u"):
            continue
        layer = path_of(module)
        variable = variables.pop(f"{layer}/{LEAVES[leaf]}")
        if value.ndim == 4:
            value = value.transpose(2, 3, 1, 0)  # [out, in, h, w] -> [h, w, in, out]
        elif leaf == "weight_v":
            size = int(state[f"{module}.weight_orig"].shape[2])
            value = value.reshape(-1, size, size).transpose(1, 2, 0).ravel()
        elif value.ndim == 2:
            value = dense_kernel(model, layer, value)
        elif layer == "start" and value.ndim == 1 and isinstance(model, SPADEGenerator):
            value = start_bias(model, value)
        assert tuple(variable.shape) == value.shape, name
        variable.assign(value)
    assert not variables


def dense_kernel(model, layer: str, value: np.ndarray) -> np.ndarray:
    """[out, in] -> [in, out], with the channel axis of the grid behind height and width."""
    if layer == "start":
        return start_bias(model, value).T
    grid = model.config.image_size // 64
    channels = value.shape[1] // grid**2
    return value.reshape(-1, channels, grid, grid).transpose(2, 3, 1, 0).reshape(-1, len(value))


def start_bias(model, value: np.ndarray) -> np.ndarray:
    """Values [C * h * w, ...] of the start grid -> [h * w * C, ...]."""
    if model.config.style_size is None:
        return value
    grid = model.config.image_size // 2**model.config.doublings
    rest = value.shape[1:]
    moved = np.moveaxis(value.reshape(-1, grid, grid, *rest), 0, 2)
    return moved.reshape(-1, *rest)


def made(golden, net: str, model, path_of):
    model.build({name: (None, *shape) for name, shape in model.input_shapes().items()})
    assert sum(int(np.prod(v.shape)) for v in model.trainable_variables) == PARAMETERS[net]
    assign_state(model, load_state(golden, net), path_of)
    return model


def to_ours(images: np.ndarray) -> np.ndarray:
    return images.transpose(0, 2, 3, 1)


def assert_close(ours, stored: np.ndarray) -> None:
    ours = np.asarray(ours)
    assert ours.shape == stored.shape
    spread = stored.max() - stored.min() if stored.size > 1 else np.abs(stored).max()
    assert np.max(np.abs(ours - stored)) < TOLERANCE * spread
    assert np.linalg.norm(ours - stored) / np.linalg.norm(stored) < TOLERANCE


@pytest.fixture(scope="module")
def generator(golden):
    return made(golden, "G", SPADEGenerator(SpadeConfig()), generator_path)


def test_generator_matches_the_public_implementation(golden, generator):
    fake = generator({"label_map": golden["label"]})
    assert_close(fake, to_ours(golden["fake"]))


def test_generator_for_serving_matches_it_by_either_path(golden, generator):
    folded = fold_spectral_norm(generator)
    for fast in (False, True):
        with allow_fast_paths(fast):
            assert_close(folded({"label_map": golden["label"]}), to_ours(golden["fake"]))


def test_generator_with_a_style_matches_the_public_implementation(golden):
    model = made(golden, "Gvae", SPADEGenerator(SpadeConfig(style_size=256)), generator_path)
    fake = model({"label_map": golden["label"], "style": golden["z"]})
    assert_close(fake, to_ours(golden["fake_vae"]))


def test_discriminator_matches_the_public_implementation(golden):
    net = SPADEDiscriminator(SpadeDiscriminatorConfig())
    model = made(golden, "D", net, discriminator_path)
    out = model({"label_map": golden["label"], "image": to_ours(golden["fake"])})
    for scale in range(2):
        logits = out["logits"][scale]
        assert_close(logits, to_ours(golden[f"d{scale}_logit"]))
        assert_close(np.mean(logits, axis=(1, 2)), golden[f"d{scale}_4_mean"])
        for number, maps in enumerate(out["features"][scale]):
            assert_close(np.mean(maps, axis=(1, 2)), golden[f"d{scale}_{number}_mean"])


def test_style_encoder_matches_the_public_implementation(golden):
    model = made(golden, "E", StyleEncoder(StyleEncoderConfig()), encoder_path)
    out = model({"image": to_ours(golden["fake"])})
    assert_close(out["mean"], golden["mu"])
    assert_close(out["log_variance"], golden["logvar"])
