"""Faces from segmentation maps, from photographs to a bundle."""

import numpy as np
import pytest

from facegan.bundle import read_manifest
from facegan.datasets.builder import find_config, prepare_items
from facegan.datasets.image_folder.image_folder_dataset_builder import Builder
from facegan.datasets.pipeline import make_pipeline, read_records
from facegan.errors import ConfigError, DataError
from facegan.face.conditioning import decode_conditioning, make_conditioner
from facegan.face.landmarks import DetectorConfig
from facegan.face.parsing import ParserConfig
from facegan.image import read_image, to_uint8
from facegan.jobs.export import export_run, load_nets
from facegan.jobs.run import (
    load_config,
    make_example_maker,
    make_recipe,
    override,
    train_run,
    with_everywhere,
    with_size,
)
from facegan.preparation.image_folder import ImageFolderConfig
from facegan.preparation.squares import cut_square
from facegan.preparation.workers import WorkersConfig
from facegan.render.engine import load_engine
from facegan.render.pipeline import RenderConfig, render_video
from facegan.training.devices import make_strategy
from facegan.training.trainer import Trainer, settle
from facegan.video.reader import probe_clip

FAST = ("data.batch_size=4", "train.precision=float32", "train.steps=2", "train.preview_every=2")
VARIANTS = {
    "mask_pix2pix_tiny": ("recipe.identity_weight=1",),
    "mask_pix2pix_256": (),
    "mask_pix2pix_v2_256": (),
    "mask_pix2pix_rec_256": (),
}


def make_run(*assignments, preset="mask_pix2pix_tiny"):
    config = with_size(load_config(preset), 32)
    config = with_everywhere(config, {"base_width": 4, "max_width": 8, "num_layers": 2})
    return override(config, [*FAST, *assignments])


@pytest.fixture(scope="module")
def faces(people, tmp_path_factory):
    """What ``prepare_items`` returns for portraits with regions and identities."""
    config = ImageFolderConfig(
        size=64, align="ffhq", parser=ParserConfig(size=64), identity=True, test=0.3
    )
    builder = Builder(
        data_dir=tmp_path_factory.mktemp("faces"),
        config=find_config(Builder, config),
        source=people,
        workers=WorkersConfig(processes=0),
    )
    return prepare_items(builder)


@pytest.fixture(scope="module")
def bundle(faces, tmp_path_factory):
    """A bundle of two steps of training, and the run folder that it is of."""
    folder = tmp_path_factory.mktemp("masks")
    train_run(make_run(), data_dir=faces["dataset_dir"], run_dir=folder / "run")
    export_run(folder / "run", folder / "bundle")
    return folder / "bundle"


@pytest.mark.parametrize("preset", VARIANTS)
def test_two_steps_change_every_net(faces, preset):
    config = make_run(*VARIANTS[preset], preset=preset)
    train = settle(config.train)
    trainer = Trainer(make_recipe(config), train, strategy=make_strategy(1))
    before = weights(trainer)
    records = read_records(faces["dataset_dir"], "train")
    batches = make_pipeline(records, make_example_maker(config.conditioning), config.data)
    for batch in batches.take(2):
        terms = trainer.train_step(batch)
    assert all(np.isfinite(float(value)) for value in terms.values())
    after = weights(trainer)
    unchanged = [name for name in before if np.array_equal(before[name], after[name])]
    assert not unchanged


def weights(trainer):
    return {
        f"{net}/{v.path}": np.array(v)
        for net, model in trainer.state.nets.items()
        for v in model.trainable_variables
    }


def test_the_bundle_paints_what_the_net_paints(bundle, people):
    manifest = read_manifest(bundle)
    assert [spec.name for spec in manifest.inputs] == ["masks", "colours", "identity"]
    config = decode_conditioning(manifest.conditioning)
    conditioner = make_conditioner(config)
    photo = read_image(people / "hopper" / "0.png")
    size = conditioner.crop_size
    square = cut_square(photo, "hopper", size, align=config.align, detector=DetectorConfig())
    shown = conditioner(square.landmarks_xy_px, square.image)
    inputs = {name: value[None] for name, value in shown.items()}
    made = load_engine(bundle).generate(inputs)
    assert made.shape == (1, 32, 32, 3)
    expected = to_uint8(load_nets(bundle.parent / "run")["generator"](inputs))
    assert np.abs(made.astype(int) - expected).max() <= 1


@pytest.mark.slow
def test_onnx_gives_the_same_picture(bundle, tmp_path):
    export_run(bundle.parent / "run", tmp_path / "bundle", onnx=True)
    rng = np.random.default_rng(0)
    inputs = {
        "masks": rng.integers(0, 2, (2, 32, 32, 7)).astype(np.float32),
        "colours": rng.uniform(-1, 1, (2, 7, 3)).astype(np.float32),
        "identity": rng.normal(0, 0.1, (2, 128)).astype(np.float32),
    }
    made = [
        load_engine(tmp_path / "bundle", name).generate(inputs).astype(int)
        for name in ("tensorflow", "onnxruntime", "openvino")
    ]
    assert max(np.abs(made[0] - other).max() for other in made[1:]) <= 1


def test_a_video_is_painted_from_its_own_maps(bundle, clips, tmp_path):
    render_video(bundle, clips["collins"], tmp_path / "out.mp4", RenderConfig())
    assert probe_clip(tmp_path / "out.mp4").num_frames == probe_clip(clips["collins"]).num_frames


def test_a_dataset_without_regions_is_refused(domains, tmp_path):
    with pytest.raises(DataError, match="lack the field 'label_map'"):
        train_run(make_run(), data_dir=domains["dataset_dir"], run_dir=tmp_path / "run")


def test_faces_that_are_cut_in_another_way_are_refused(faces, tmp_path):
    config = make_run("conditioning.align=none")
    with pytest.raises(ConfigError, match="faces of .* are aligned"):
        train_run(config, data_dir=faces["dataset_dir"], run_dir=tmp_path / "run")


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("conditioning.identity=false", "identity_size is 128, but the conditioning shows .* 0"),
        ("recipe.generator.identity_size=0", "Add --set recipe.generator.identity_size=128"),
        ("conditioning.schema=celebamask19", "num_groups is 7, but the conditioning shows .* 18"),
    ],
)
def test_a_generator_that_is_shown_something_else_is_refused(faces, tmp_path, assignment, message):
    with pytest.raises(ConfigError, match=message):
        train_run(make_run(assignment), data_dir=faces["dataset_dir"], run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()
