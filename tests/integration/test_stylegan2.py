"""StyleGAN2 from a folder of pictures to a bundle that makes others."""

import shutil
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf

from facegan.bundle import read_manifest
from facegan.datasets.builder import find_config, prepare_items
from facegan.datasets.image_folder.image_folder_dataset_builder import Builder
from facegan.datasets.pipeline import make_pipeline, read_records
from facegan.image import write_image
from facegan.jobs.export import export_run, load_nets
from facegan.jobs.run import (
    load_config,
    make_example_maker,
    make_recipe,
    override,
    read_run,
    train_run,
    with_everywhere,
    with_size,
)
from facegan.layers.randomness import GivenSeed, fold_in
from facegan.preparation.image_folder import ImageFolderConfig
from facegan.preparation.workers import WorkersConfig
from facegan.render.engine import BundleMethods
from facegan.training.checkpoint import list_checkpoints
from facegan.training.devices import make_strategy
from facegan.training.metrics_log import read_log
from facegan.training.optimizers import AdamConfig
from facegan.training.trainer import Interrupted, TrainConfig, Trainer

SIZE, LATENT, STYLE = 8, 5, 6


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """The folder of a prepared dataset of noise."""
    raw, rng = tmp_path_factory.mktemp("raw"), np.random.default_rng(0)
    for number in range(12):
        write_image(raw / f"{number}.png", rng.integers(0, 256, (20, 18, 3), np.uint8))
    builder = Builder(
        data_dir=tmp_path_factory.mktemp("data"),
        config=find_config(Builder, ImageFolderConfig(size=16)),
        source=raw,
        workers=WorkersConfig(processes=0),
    )
    return prepare_items(builder)["dataset_dir"]


def make_config(*assignments):
    """The tiny preset at toy size, with everything that draws or counts."""
    config = with_size(load_config("stylegan2_tiny"), SIZE)
    sizes = {"base_width": 16, "max_width": 8, "style_size": STYLE, "latent_size": LATENT}
    toy = (
        *("recipe.path_every=2", "recipe.r1_every=4", "recipe.discriminator.group_size=2"),
        *("recipe.augment.start=0.3", "recipe.augment.interval=2"),
        "recipe.augment.rise_steps=20",
        *("conditioning.align=none", "data.batch_size=4", "train.steps=6", "train.xla=off"),
        *("train.log_every=1", "train.preview_every=6"),
        *("train.checkpoint_every=3", "train.keep_checkpoints=9"),
    )
    return override(with_everywhere(config, sizes), [*toy, *assignments])


@pytest.fixture(scope="module")
def run(pictures, tmp_path_factory):
    """The folder of a run of six steps."""
    folder = tmp_path_factory.mktemp("stylegan2") / "run"
    result = train_run(make_config(), data_dir=pictures, run_dir=folder)
    assert np.isfinite(list(result["terms"].values())).all()
    assert {"G/adv", "G/path", "D/real", "D/ada", "D/r1"} <= set(result["terms"])
    return folder


def values_of(trainer):
    """Name -> value, of every replica."""
    return {
        name: [np.array(v) for v in getattr(variable, "values", [variable])]
        for name, variable in trainer.state.named_variables().items()
    }


def read_checkpoint(run_dir):
    newest = list_checkpoints(run_dir / "checkpoints")[-1]
    reader = tf.train.load_checkpoint(str(newest.path / "state"))
    names = [name for name in reader.get_variable_to_shape_map() if not name.startswith("_")]
    return newest.step, {name: reader.get_tensor(name) for name in names}


def assert_same(run_dir, other):
    (step, whole), (other_step, cut) = read_checkpoint(run_dir), read_checkpoint(other)
    assert step == other_step == 6 and whole.keys() == cut.keys()
    for name in whole:
        np.testing.assert_array_equal(whole[name], cut[name], err_msg=name)


def test_a_restored_trainer_goes_on_as_if_nothing_had_happened(pictures, run, tmp_path):
    first = list_checkpoints(run / "checkpoints")[0]
    assert first.step == 3
    shutil.copytree(first.path, tmp_path / "checkpoints" / first.path.name)
    config = read_run(run)
    trainer = Trainer(make_recipe(config), config.train, run_dir=tmp_path)
    start = values_of(trainer)
    assert trainer.restore() and trainer.step == 3
    # Until then every weight, its average and every statistic has moved.
    moved = values_of(trainer)
    learnt = [name for name in start if name.startswith(("nets/", "ema/", "statistics/"))]
    still = {name for name in learnt if np.array_equal(start[name], moved[name])}
    assert {name.split("/")[-1] for name in still} == {"noise_const"}
    batches = make_pipeline(
        read_records(pictures, "train"),
        make_example_maker(config.conditioning),
        config.data,
        seed=config.train.seed,
        start_step=3,
    )
    trainer.fit(batches)
    assert_same(run, tmp_path)


@pytest.mark.slow
def test_a_stopped_and_resumed_run_equals_an_unbroken_one(pictures, run, tmp_path):
    def stop_at_three(label):
        class Report:
            def __enter__(self):
                return lambda done, total, unit: done == 3 and signal.raise_signal(signal.SIGTERM)

            def __exit__(self, *_):
                pass

        return Report()

    config = make_config("train.checkpoint_every=100")
    with pytest.raises(Interrupted, match="Stopped at step"):
        train_run(config, data_dir=pictures, run_dir=tmp_path, progress=stop_at_three)
    assert [info.step for info in list_checkpoints(tmp_path / "checkpoints")] == [3]
    train_run(None, data_dir=pictures, run_dir=tmp_path, resume=True)
    assert_same(run, tmp_path)


def make_batch(count=4, seed=0):
    rng = np.random.default_rng(seed)
    return {"image": rng.uniform(-1, 1, (count, SIZE, SIZE, 3)).astype(np.float32)}


def test_two_replicas_equal_one_in_what_draws_nothing(two_cpus):
    # Latents and augmentations are each replica's own draws, and examples of two replicas are never
    # compared with each other. What is left are real pictures, each judged for itself. A large
    # epsilon keeps Adam from making whole steps of the rounding of gradients that are 0.
    config = make_config("recipe.discriminator.group_size=1", "recipe.augment=null")
    adam = AdamConfig(learning_rate=1e-2, beta_1=0.0, beta_2=0.9, epsilon=1e-3)
    found = []
    for replicas in (1, 2):
        recipe = make_recipe(config)
        recipe.optimizers = dict.fromkeys(recipe.optimizers, adam)
        train = TrainConfig(precision="float32", xla="off")
        trainer = Trainer(recipe, train, strategy=make_strategy(replicas))
        start = values_of(trainer)
        phases = {phase.name: phase for phase in recipe.phases}
        recipe.phases = (phases["r1"],)
        slopes = []
        for seed in range(2):
            trainer.state.step.assign(0)  # at which it runs
            slopes.append(float(trainer.train_step(make_batch(seed=seed))["D/r1"]))
        learnt = {
            name: values[0]
            for name, values in values_of(trainer).items()
            if name.startswith("nets/discriminator") and not np.array_equal(values, start[name])
        }
        recipe.phases = (phases["discriminator"],)
        terms = trainer.train_step(make_batch(seed=2))
        found.append((*slopes, float(terms["D/real"]), learnt))
    (*one, one_learnt), (*two, two_learnt) = found
    np.testing.assert_allclose(one, two, rtol=1e-4)
    assert one_learnt.keys() == two_learnt.keys() and len(one_learnt) > 5
    for name in one_learnt:
        np.testing.assert_allclose(one_learnt[name], two_learnt[name], atol=1e-4, err_msg=name)


@pytest.mark.slow
def test_two_replicas_stay_alike(two_cpus):
    # Of the augmentations the quickest to compile; p moves all the same.
    plain = ("recipe.augment.blit=false", "recipe.augment.geometry=false")
    recipe = make_recipe(make_config(*plain))
    train = TrainConfig(precision="float32", xla="off", seed=5)
    trainer = Trainer(recipe, train, strategy=make_strategy(2))
    mapping, phases = trainer.state.nets["mapping"], recipe.phases
    # The mean style is that of all latents; the second replica's seed is 7919 further on.
    latents = [
        keras.random.normal((2, LATENT), seed=GivenSeed(fold_in(np.int32([5 + offset, 0]), 0)))
        for offset in (0, 7919)
    ]
    assert not np.array_equal(*latents)
    mean = np.mean([mapping({"latent": latent}) for latent in latents], axis=(0, 1))
    recipe.phases = phases[:1]
    trainer.train_step(make_batch())
    for value in mapping.w_avg.value.values:
        np.testing.assert_allclose(value, 0.005 * mean, rtol=1e-4, atol=1e-8)
    # R1 draws nothing but augmentations; the test before has it.
    recipe.phases = phases[:3]
    for step in (4, 5):  # at the first of them the lengths are evened out and p moves
        trainer.state.step.assign(step)
        terms = trainer.train_step(make_batch(seed=step))
        assert all(np.isfinite(float(value)) for value in terms.values())
    for name, values in values_of(trainer).items():
        if len(values) == 2:
            np.testing.assert_array_equal(*values, err_msg=name)


@pytest.fixture(scope="module")
def nets(run):
    """The averaged nets."""
    return load_nets(run)


@pytest.fixture(scope="module")
def methods(run):
    """Of the run's bundle."""
    bundle = run.parent / "bundle"
    result = export_run(run, bundle)
    assert result["max_difference"] < 1e-4
    return BundleMethods(bundle, read_manifest(bundle))


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_a_bundle_makes_pictures_of_the_averaged_nets(nets, methods):
    manifest = methods.manifest
    assert manifest.model == "stylegan2" and manifest.image_size == SIZE
    assert manifest.conditioning["kind"] == "latent" and manifest.training["averaged"]
    names = {"map_style", "find_scales", "paint_scales", "trace_features", "weigh_channels"}
    assert set(manifest.methods) == names
    assert names | {"serving_default", "uint8", "portable", "generate"} < set(manifest.signatures)
    latent, truncation = draw(3, LATENT), np.float32([1.0, 0.5, 0.0])
    w = methods.run("map_style", {"latent": latent, "truncation": truncation})["w"]
    expected = nets["mapping"]({"latent": latent}, truncation=truncation[:, None])
    np.testing.assert_allclose(w, np.repeat(expected[:, None], 4, axis=1), atol=1e-5)
    image = methods.run("generate", {"w": w})["image"]
    np.testing.assert_allclose(image, nets["generator"]({"w": w}, noise="const"), atol=1e-4)
    scales = methods.run("find_scales", {"w": w})
    assert set(scales) == {"conv_4", "rgb_4", "up_8", "conv_8", "rgb_8"}
    np.testing.assert_allclose(methods.run("paint_scales", scales)["image"], image, atol=1e-5)


@pytest.mark.slow
def test_a_bundle_in_bfloat16_makes_about_the_same(run, nets):
    bundle = run.parent / "low"
    export_run(run, bundle, precision="bfloat16")
    low = BundleMethods(bundle, read_manifest(bundle))
    assert low.manifest.precision == "bfloat16"
    w = draw(2, 4, STYLE)
    exact = np.asarray(nets["generator"]({"w": w}, noise="const"))
    apart = np.abs(low.run("generate", {"w": w})["image"] - exact)
    assert 0 < apart.mean() < 0.03 * np.abs(exact).mean()
    # Styles are found in float32 all the same.
    given = {"latent": draw(2, LATENT), "truncation": np.ones(2, np.float32)}
    styles = low.run("map_style", given)["w"]
    np.testing.assert_allclose(styles[:, 0], nets["mapping"](given), atol=1e-5)


@pytest.mark.parametrize("clusters", [1, 4])
def test_a_bundle_weighs_channels_for_any_number_of_clusters(methods, clusters):
    w = draw(3, 4, STYLE)
    features = methods.run("trace_features", {"w": w})["features"]
    membership = np.random.default_rng(1).uniform(size=(3, SIZE, SIZE, clusters)).astype(np.float32)
    found = methods.run("weigh_channels", {"w": w, "membership": membership})
    weighed = np.einsum("bhwc,bhwk->bkc", features, membership) / SIZE**2
    squares = np.einsum("bhwc,bhwk->bkc", features**2, membership) / SIZE**2
    np.testing.assert_allclose(found["rgb_8"], np.stack([weighed, squares], 1), atol=1e-4)


def test_gradients_go_through_a_bundle_as_through_the_net(nets, methods):
    generator, w = nets["generator"], tf.constant(draw(2, 4, STYLE))

    def slope(paint):
        with tf.GradientTape() as tape:
            tape.watch(w)
            loss = tf.reduce_sum(tf.square(paint(w) - 0.5))
        return tape.gradient(loss, w)

    expected = slope(lambda w: generator({"w": w}, noise="const"))
    assert np.abs(expected).max() > 1e-3
    found = slope(lambda w: methods.run_tensors("generate", {"w": w})["image"])
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)

    def by_scales(w):
        return methods.run_tensors("paint_scales", methods.run_tensors("find_scales", {"w": w}))

    found = tf.function(lambda: slope(lambda w: by_scales(w)["image"]))()
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


def test_the_log_tells_of_every_step_and_the_preview_of_the_last(run):
    lines = read_log(run)
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    # p moves with the second and the fourth step that follow the first, by 2 / 20 each.
    ada = [line["D/ada"] for line in lines]
    assert ada[0] == ada[1] == pytest.approx(0.3)
    assert abs(ada[2] - ada[1]) == pytest.approx(0.1) == abs(ada[4] - ada[3])
    assert ada[2] == ada[3] and ada[4] == ada[5]
    assert len(list((run / "samples").glob("*.png"))) == 1
