import dataclasses

import keras
import numpy as np
import pytest

from facegan.errors import ConfigError
from facegan.losses.adversarial import bce_generator_loss
from facegan.models.mask_pix2pix import (
    ColourDiscriminator,
    ColourDiscriminatorConfig,
    MaskGeneratorConfig,
    colour_map,
    split_groups,
)
from facegan.models.pix2pix import PatchDiscriminatorConfig, fold_batch_norm
from facegan.training.identity_term import IdentityTerm
from facegan.training.recipes.mask_pix2pix import MaskPix2PixConfig, Recipe, swap_neighbours

SEED = np.array([1, 2], np.int32)
GENERATOR = MaskGeneratorConfig(
    image_size=16, num_groups=3, identity_size=5, base_width=2, max_width=4, dropout=0
)
PATCHES = PatchDiscriminatorConfig(
    image_size=16, condition_channels=3, base_width=2, num_layers=1, norm="instance"
)
COLOURS = ColourDiscriminatorConfig(
    image_size=16, base_width=2, max_width=4, num_downs=2, norm="instance"
)
RECONSTRUCTION = {"manipulate": False, "overlap_weight": 0.0, "change_weight": 0.0}
READING = {
    "discriminator": COLOURS,
    "overlap_weight": 0.0,
    "change_weight": 0.0,
    "map_weight": 5.0,
}


def make_recipe(**kwargs):
    return Recipe(MaskPix2PixConfig(**{"generator": GENERATOR, "discriminator": PATCHES, **kwargs}))


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    return {
        "image": rng.uniform(-1, 1, (4, 16, 16, 3)).astype(np.float32),
        "label_map": rng.integers(0, 4, (4, 16, 16)).astype(np.uint8),
        "colours": rng.uniform(-1, 1, (4, 3, 3)).astype(np.float32),
        "identity": rng.normal(0, 0.1, (4, 5)).astype(np.float32),
    }


def compute(recipe, nets, batch):
    return recipe.compute("both", nets, batch, SEED, 0, {})


def layouts(batch):
    """Each face's own masks, and those of the other one of its pair."""
    own = np.asarray(split_groups(batch["label_map"], 3))
    return own, own[[1, 0, 3, 2]]


def paint(nets, batch):
    """Both pictures of each face: batch norm sees them together."""
    own, other = layouts(batch)
    inputs = {name: np.concatenate([batch[name]] * 2) for name in ("colours", "identity")}
    inputs["masks"] = np.concatenate([own, other])
    painted = np.asarray(nets["generator"](inputs, training=True, seed=SEED))
    return painted[:4], painted[4:]


def judge(nets, condition, image):
    return nets["discriminator"]({"condition": condition, "image": image}, training=True)


def test_neighbours_change_places():
    values = np.arange(12).reshape(6, 2)
    np.testing.assert_array_equal(swap_neighbours(values), values[[1, 0, 3, 2, 5, 4]])
    values = np.arange(4 * 6).reshape(4, 2, 3, 1)
    np.testing.assert_array_equal(swap_neighbours(values), values[[1, 0, 3, 2]])


def test_losses_of_the_joint_training_by_hand(batch):
    recipe = make_recipe(
        adversarial_weight=3.0,
        discriminator_weight=0.5,
        l1_weight=7.0,
        overlap_weight=11.0,
        change_weight=13.0,
    )
    nets = recipe.build_nets("float32")
    result = compute(recipe, nets, batch)
    (own, other), (first, second) = layouts(batch), paint(nets, batch)
    same = (own == other).all(axis=-1, keepdims=True)
    away = np.abs(second - batch["image"])
    expected = {
        "G/l1": np.abs(first - batch["image"]).mean(),
        "G/overlap": (same * away).mean(),
        "G/change": (~same * np.clip(0.16 - away, 0.08, 0.16)).mean(),
        "G/adv": float(bce_generator_loss(judge(nets, own, first)["logits"])),
        "G/adv_other": float(bce_generator_loss(judge(nets, other, second)["logits"])),
        "D/real": float(bce_generator_loss(judge(nets, own, batch["image"])["logits"])),
        "D/fake": float(bce_generator_loss(-judge(nets, own, first)["logits"])),
        "D/fake_other": float(bce_generator_loss(-judge(nets, other, second)["logits"])),
    }
    assert set(result.terms) == set(expected)
    for name, value in expected.items():
        assert float(result.terms[name]) == pytest.approx(value, rel=1e-4), name
    weights = {
        "G/l1": 7,
        "G/overlap": 11,
        "G/change": 13,
        "G/adv": 3,
        "G/adv_other": 3,
    }
    loss = sum(weight * expected[name] for name, weight in weights.items())
    assert float(result.losses["G"]) == pytest.approx(loss, rel=1e-4)
    loss = 0.5 * sum(expected[name] for name in ("D/real", "D/fake", "D/fake_other"))
    assert float(result.losses["D"]) == pytest.approx(loss, rel=1e-4)


def test_a_discriminator_of_colour_maps_reads_pictures_it_is_shown_no_map_of(batch):
    recipe = make_recipe(**READING, adversarial_weight=2.0, discriminator_weight=3.0)
    nets = recipe.build_nets("float32")
    assert isinstance(nets["discriminator"], ColourDiscriminator)
    result = compute(recipe, nets, batch)
    (own, other), (first, second) = layouts(batch), paint(nets, batch)
    own, other = (np.asarray(colour_map(masks, batch["colours"])) for masks in (own, other))
    small = [m.reshape(4, 4, 4, 4, 4, 3).mean(axis=(2, 4)) for m in (own, other)]
    blank = np.zeros_like(first)
    expected = {
        "G/l1": np.abs(first - batch["image"]).mean(),
        "G/adv": float(bce_generator_loss(judge(nets, own, first)["logits"])),
        "G/adv_other": float(bce_generator_loss(judge(nets, other, second)["logits"])),
        "G/map": np.abs(judge(nets, blank, second)["colour_map"] - small[1]).mean(),
        "D/real": float(bce_generator_loss(judge(nets, own, batch["image"])["logits"])),
        "D/fake": float(bce_generator_loss(-judge(nets, own, first)["logits"])),
        "D/fake_other": float(bce_generator_loss(-judge(nets, other, second)["logits"])),
        "D/map": np.abs(judge(nets, blank, batch["image"])["colour_map"] - small[0]).mean(),
    }
    assert set(result.terms) == set(expected)
    for name, value in expected.items():
        assert float(result.terms[name]) == pytest.approx(value, rel=1e-4), name
    loss = 50 * expected["G/l1"] + 5 * expected["G/map"]
    loss += 2 * (expected["G/adv"] + expected["G/adv_other"])
    assert float(result.losses["G"]) == pytest.approx(loss, rel=1e-4)
    loss = 3 * sum(expected[name] for name in ("D/real", "D/fake", "D/fake_other"))
    assert float(result.losses["D"]) == pytest.approx(loss + 5 * expected["D/map"], rel=1e-4)


def test_reconstruction_alone_paints_each_face_once(batch):
    recipe = make_recipe(**RECONSTRUCTION)
    assert recipe.group == 1 and make_recipe().group == 2
    nets = recipe.build_nets("float32")
    result = compute(recipe, nets, batch)
    assert set(result.terms) == {"G/l1", "G/adv", "D/real", "D/fake"}
    odd = {name: value[:3] for name, value in batch.items()}
    assert np.isfinite(float(compute(recipe, nets, odd).losses["G"]))
    assert len(recipe.preview(nets, batch)) == 3


def test_the_identity_term_is_the_mean_over_both_pictures(batch):
    plain = make_recipe()
    nets = plain.build_nets("float32")
    recipe = make_recipe(identity_weight=4.0)
    recipe.prepare("float32")
    result = compute(recipe, nets, batch)
    term = IdentityTerm("random")
    term.prepare("float32")
    expected = np.mean([float(term(picture, batch["image"])) for picture in paint(nets, batch)])
    assert float(result.terms["G/identity"]) == pytest.approx(expected, rel=1e-4)
    added = float(result.losses["G"]) - float(compute(plain, nets, batch).losses["G"])
    assert added == pytest.approx(4 * expected, rel=1e-3)


def test_terms_of_weight_0_are_left_out(batch):
    weights = ("adversarial_weight", "overlap_weight", "change_weight")
    recipe = make_recipe(**dict.fromkeys(weights, 0.0))
    terms = compute(recipe, recipe.build_nets("float32"), batch).terms
    assert {name for name in terms if name.startswith("G/")} == {"G/l1"}


def test_preview_shows_own_and_others_maps(batch):
    recipe = make_recipe()
    nets = recipe.build_nets("float32")
    odd = {name: value[:3] for name, value in batch.items()}
    columns = [np.asarray(column) for column in recipe.preview(nets, odd)]
    assert [column.shape for column in columns] == [(3, 16, 16, 3)] * 5
    np.testing.assert_array_equal(columns[0], odd["image"])
    own = np.asarray(split_groups(odd["label_map"], 3))
    np.testing.assert_allclose(columns[1], colour_map(own, odd["colours"]), atol=1e-6)
    other = colour_map(own[[1, 2, 0]], odd["colours"])
    np.testing.assert_allclose(columns[3], other, atol=1e-6)
    inputs = {"masks": own[[1, 2, 0]], "colours": odd["colours"], "identity": odd["identity"]}
    np.testing.assert_allclose(columns[4], nets["generator"](inputs), atol=1e-5)


def test_serving_names_the_generator_and_its_inputs():
    serving = make_recipe().serving()
    assert serving.net == "generator" and serving.simplify is fold_batch_norm
    assert [(spec.name, spec.shape, spec.is_image) for spec in serving.inputs] == [
        ("masks", (None, 16, 16, 3), False),
        ("colours", (None, 3, 3), False),
        ("identity", (None, 5), False),
    ]
    assert isinstance(make_recipe().build_nets("float32")[serving.net], keras.Model)


def test_a_generator_that_is_told_no_identity_needs_none(batch):
    config = MaskGeneratorConfig(
        image_size=16, num_groups=3, identity_size=0, base_width=2, max_width=4
    )
    recipe = make_recipe(generator=config)
    nets = recipe.build_nets("float32")
    del batch["identity"]
    assert np.isfinite(float(compute(recipe, nets, batch).losses["G"]))
    assert [spec.name for spec in recipe.serving().inputs] == ["masks", "colours"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"l1_weight": -1.0}, "recipe.l1_weight must be >= 0"),
        ({"manipulate": False}, "recipe.overlap_weight must be 0 without recipe.manipulate"),
        ({"map_weight": 1.0}, "of the kind 'patch', got 1.0.*kind 'colour'"),
        (
            {"discriminator": dataclasses.replace(PATCHES, condition_channels=7)},
            "condition_channels must be the number of groups, 3, got 7",
        ),
        (
            {"discriminator": ColourDiscriminatorConfig(image_size=32)},
            "image_size must be the same for both nets, got 16 and 32",
        ),
    ],
)
def test_settings_that_do_not_belong_together_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        make_recipe(**values)
