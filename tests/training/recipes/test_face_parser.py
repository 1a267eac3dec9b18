import dataclasses

import keras
import numpy as np
import pytest

from facegan import image as image_lib
from facegan.config import decode, encode, write_json
from facegan.errors import ConfigError
from facegan.face.label_maps import colour_labels
from facegan.face.labels import PALETTES, LabelSchema, encode_schema
from facegan.losses.segmentation import cross_entropy_loss, ohem_cross_entropy_loss
from facegan.models.face_parser import BiSeNetConfig, ParserUNetConfig
from facegan.training.devices import make_strategy
from facegan.training.ema import EmaConfig
from facegan.training.optimizers import AdamConfig, RateFactor, SgdConfig
from facegan.training.recipes.face_parser import FaceParserConfig, Recipe
from facegan.training.trainer import TrainConfig, Trainer
from tests.conformance.harness import randomize

SEED = np.array([1, 2], np.int32)
TOY_BISENET = BiSeNetConfig(image_size=32, base_width=4)
TOY_UNET = ParserUNetConfig(image_size=32, base_width=4, depth=2)


@pytest.fixture
def batch():
    """Pictures whose labels can be told by their colour, in blocks of 8 pixels."""
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 19, (4, 4, 4)).repeat(8, axis=1).repeat(8, axis=2).astype(np.uint8)
    colours = np.array(PALETTES["celebamask19_dataset"].colours, np.uint8)
    return {"image": image_lib.to_float(colours[ids]), "label_map": ids}


def compute(recipe, nets, batch):
    return recipe.compute("parser", nets, batch, SEED, 0, {})


def train(config, batch, steps, replicas=1, precision="float32"):
    settings = TrainConfig(steps=steps, precision=precision, xla="off")
    trainer = Trainer(Recipe(config), settings, strategy=make_strategy(replicas))
    terms = {}
    for _ in range(steps):
        terms = trainer.train_step(batch)
    return trainer, {name: float(value) for name, value in terms.items()}


def test_bisenets_loss_is_the_sum_over_its_heads(batch):
    recipe = Recipe(FaceParserConfig(parser=TOY_BISENET, aux_weight=0.5))
    nets = recipe.build_nets("float32")
    outputs = nets["parser"]({"image": batch["image"]}, training=True)
    expected = {
        "P/main": ohem_cross_entropy_loss(outputs["logits"], batch["label_map"]),
        "P/aux16": ohem_cross_entropy_loss(outputs["aux_logits"][0], batch["label_map"]),
        "P/aux32": ohem_cross_entropy_loss(outputs["aux_logits"][1], batch["label_map"]),
    }
    result = compute(recipe, nets, batch)
    assert set(result.terms) == {*expected, "P/accuracy"}
    for name, value in expected.items():
        assert float(result.terms[name]) == pytest.approx(float(value), rel=1e-5)
    total = sum(w * float(v) for w, v in zip((1, 0.5, 0.5), expected.values(), strict=True))
    assert float(result.losses["P"]) == pytest.approx(total, rel=1e-5)


def test_the_unets_loss_is_the_plain_cross_entropy(batch):
    recipe = Recipe(FaceParserConfig(parser=TOY_UNET, loss="cross_entropy"))
    nets = recipe.build_nets("float32")
    batch["label_map"][0] = 255
    logits = nets["parser"]({"image": batch["image"]}, training=True)["logits"]
    result = compute(recipe, nets, batch)
    assert set(result.terms) == {"P/main", "P/accuracy"}
    expected = float(cross_entropy_loss(logits, batch["label_map"]))
    assert float(result.losses["P"]) == pytest.approx(expected, rel=1e-5)
    # Pixels that do not count are not counted as right or wrong.
    right = np.argmax(logits, axis=-1)[1:] == batch["label_map"][1:]
    assert float(result.terms["P/accuracy"]) == pytest.approx(right.mean(), abs=1e-6)


def test_ohem_takes_its_numbers_from_the_config(batch):
    recipe = Recipe(FaceParserConfig(parser=TOY_UNET, ohem_threshold=0.01, ohem_min_share=0.5))
    nets = recipe.build_nets("float32")
    logits = nets["parser"]({"image": batch["image"]}, training=True)["logits"]
    expected = ohem_cross_entropy_loss(logits, batch["label_map"], threshold=0.01, min_share=0.5)
    loss = compute(recipe, nets, batch).losses["P"]
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize(
    "config",
    [
        FaceParserConfig(
            parser=TOY_UNET, loss="cross_entropy", optimizer=AdamConfig(learning_rate=5e-3)
        ),
        FaceParserConfig(
            parser=TOY_BISENET,
            optimizer=SgdConfig(
                learning_rate=0.02,
                weight_decay=5e-4,
                rate_factors=(RateFactor(variables="head|logit|fusion", factor=10.0),),
            ),
            ema=EmaConfig(decay=0.9),
        ),
    ],
    ids=lambda config: config.parser.KIND,
)
def test_it_learns_a_batch(config, batch):
    if isinstance(config.parser, BiSeNetConfig):
        # An eighth of the size cannot follow blocks of eight pixels with corners kept.
        batch["label_map"][:] = batch["label_map"][:, :1, :1]
        batch["image"][:] = batch["image"][:, :1, :1]
    trainer, first = train(config, batch, 1)
    for _ in range(60):
        terms = trainer.train_step(batch)
    assert float(terms["loss/P"]) < 0.6 * first["loss/P"]
    assert float(terms["P/accuracy"]) > 0.4 > first["P/accuracy"]


def test_it_trains_in_half_precision(batch):
    _, terms = train(FaceParserConfig(parser=TOY_UNET), batch, 2, precision="mixed_bfloat16")
    assert all(np.isfinite(value) for value in terms.values())


def test_two_replicas_agree_on_every_variable(batch, two_cpus):
    trainer, terms = train(FaceParserConfig(parser=TOY_BISENET), batch, 2, len(two_cpus))
    assert all(np.isfinite(value) for value in terms.values())
    for variable in trainer.state.nets["parser"].variables:
        first, second = (np.array(v) for v in variable.value.values)
        np.testing.assert_array_equal(first, second, err_msg=variable.path)


def test_preview_shows_picture_found_and_true_labels_in_colours(batch):
    recipe = Recipe(FaceParserConfig(parser=TOY_UNET))
    nets = recipe.build_nets("float32")
    columns = recipe.preview(nets, batch)
    assert [tuple(c.shape) for c in columns] == [(4, 32, 32, 3)] * 3
    np.testing.assert_array_equal(columns[0], batch["image"])
    np.testing.assert_allclose(columns[2], batch["image"], atol=1e-6)
    found = np.argmax(nets["parser"]({"image": batch["image"]})["logits"], axis=-1)
    painted = colour_labels(found[0].astype(np.uint8), PALETTES["celebamask19_dataset"])
    np.testing.assert_array_equal(image_lib.to_uint8(columns[1][0]), painted)


@pytest.mark.parametrize("own_colours", [True, False])
def test_a_schema_from_a_file_is_shown_in_its_own_colours_or_in_some(tmp_path, own_colours):
    colours = ((1, 2, 3), (40, 50, 60), (70, 80, 90)) if own_colours else ()
    schema = LabelSchema(name="three", labels=("background", "face", "hair"), colours=colours)
    write_json(tmp_path / "three.json", encode_schema(schema))
    config = FaceParserConfig(
        parser=dataclasses.replace(TOY_UNET, num_labels=3), schema=str(tmp_path / "three.json")
    )
    recipe = Recipe(config)
    label_map = np.array([0, 1, 2, 255], np.uint8).repeat(256).reshape(1, 32, 32)
    batch = {"image": np.zeros((1, 32, 32, 3), np.float32), "label_map": label_map}
    shown = image_lib.to_uint8(recipe.preview(recipe.build_nets("float32"), batch)[2])
    shown = [tuple(int(v) for v in shown[0, row, 0]) for row in (0, 8, 16, 24)]
    assert len(set(shown)) == 4
    assert shown[3] == (255, 255, 255)
    assert shown[:3] == list(colours) if own_colours else shown[0] == (0, 0, 0)


@pytest.mark.parametrize("parser", [TOY_BISENET, TOY_UNET], ids=lambda p: p.KIND)
def test_serving_gives_label_maps(parser, batch):
    recipe = Recipe(FaceParserConfig(parser=parser))
    serving = recipe.serving()
    assert serving.inputs[0].shape == (None, None, None, 3)
    assert serving.size_multiple == (32 if parser is TOY_BISENET else 2**TOY_UNET.depth)
    spec = serving.outputs[0]
    assert (spec.name, spec.shape, spec.dtype) == ("label_map", (None, None, None), "uint8")
    assert spec.value_range is None and not spec.is_image
    net = recipe.build_nets("float32")[serving.net]
    randomize(net)
    served = serving.simplify(net)
    assert isinstance(served, keras.Model)
    label_map = np.asarray(served({"image": batch["image"]}, training=False)["label_map"])
    expected = np.argmax(net({"image": batch["image"]})["logits"], axis=-1)
    assert np.mean(label_map == expected) > 0.999


def test_bisenet_refuses_a_batch_of_one(batch):
    recipe = Recipe(FaceParserConfig(parser=TOY_BISENET))
    nets = recipe.build_nets("float32")
    with pytest.raises(ConfigError, match="each device needs two pictures a step, got 1"):
        compute(recipe, nets, {name: value[:1] for name, value in batch.items()})


def test_the_config_survives_json():
    config = FaceParserConfig(parser=TOY_UNET, optimizer=AdamConfig(beta_1=0.9), ema=EmaConfig())
    assert decode(FaceParserConfig, encode(config)) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"schema": "groups7"}, r"num_labels must be that of recipe.schema 'groups7', 8; got 19"),
        ({"schema": "celebmask19"}, "Did you mean 'celebamask19'"),
        ({"parser": BiSeNetConfig(norm="none")}, "'none' is for serving"),
        ({"ohem_threshold": 0.0}, "ohem_threshold must lie between 0 and 1"),
        ({"ohem_min_share": 2.0}, "ohem_min_share must be in"),
        ({"aux_weight": -1.0}, "aux_weight must be >= 0"),
    ],
)
def test_refuses(values, message):
    with pytest.raises(ConfigError, match=message):
        FaceParserConfig(**values)
