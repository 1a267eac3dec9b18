"""Public weights of face parsers against stored outputs of the public PyTorch implementations.

goldens/bisenet.npz and goldens/parser_unet.npz hold one input each, as the networks take it, and
what they make of it at full size; ``fill`` gives the weights from the names in ``keys``.
"""

import pathlib

import numpy as np
import pytest

from facegan.jobs.convert_checkpoint import convert_checkpoint
from facegan.jobs.export import export_run, load_nets
from facegan.models.face_parser import IMAGENET_MEAN, IMAGENET_STD
from facegan.render.engine import load_engine
from tests.parity.fill import fill
from tests.parity.public_state import assert_close, public_state, read_golden, write_checkpoint

GOLDENS = pathlib.Path(__file__).parent / "goldens"
# Of the stored outputs, every so many-th row and column is there.
EVERY = {"bisenet": 8, "parser_unet": 4}


@pytest.fixture(scope="module", params=sorted(EVERY))
def parser(request, tmp_path_factory):
    """Source, stored outputs, the folder of the converted run, and its net."""
    source = request.param
    golden = read_golden(GOLDENS / f"{source}.npz")
    folder = tmp_path_factory.mktemp(source)
    path = write_checkpoint(folder / "79999_iter.pth", public_state(golden, fill))
    size = golden["x"].shape[1]
    sized = [f"conditioning.size={size}", f"recipe.parser.image_size={size}"]
    done = convert_checkpoint(source, path, folder / "run", overrides=sized)
    assert done["left_over"] == done["untrained"] == []
    return source, golden, folder / "run", load_nets(folder / "run")["parser"]


def pictures(source, golden):
    x = golden["x"].astype(np.float32)
    if source == "parser_unet":
        return x
    # The stored input is normalised already; ours starts from pictures in [-1, 1].
    return ((x * IMAGENET_STD + IMAGENET_MEAN) * 2 - 1).astype(np.float32)


def test_the_converted_run_matches_the_public_implementation(parser):
    source, golden, _, net = parser
    outputs = net({"image": pictures(source, golden)})
    every = EVERY[source]
    assert_close(np.asarray(outputs["logits"])[:, ::every, ::every], golden["logits"])
    np.testing.assert_array_equal(np.argmax(outputs["logits"], axis=-1), golden["labels"])
    if source == "bisenet":
        for scores, stored in zip(outputs["aux_logits"], ("logits16", "logits32"), strict=True):
            assert_close(np.asarray(scores)[:, ::16, ::16], golden[stored])


def test_its_bundle_gives_the_public_labels(parser, tmp_path):
    source, golden, run_dir, _ = parser
    export_run(run_dir, tmp_path / "bundle")
    engine = load_engine(tmp_path / "bundle", "tensorflow")
    schema = {"bisenet": "bisenet19", "parser_unet": "celebamask19"}[source]
    assert engine.manifest.labels["name"] == schema
    codes = np.clip(np.rint((pictures(source, golden) + 1) * 127.5), 0, 255).astype(np.uint8)
    # The stored pictures are no whole codes, and folded kernels are rounded anew: a pixel whose two
    # best scores are that close may turn.
    assert np.mean(engine.generate({"image": codes}) != golden["labels"]) < 0.02
