"""One short talking clip and one small dataset of it, for every test of the whole chain."""

import pytest

from facegan.jobs.run import load_config, override, with_everywhere, with_size

TINY = (
    "recipe.generator.base_width=8",
    "recipe.generator.depth=3",
    "recipe.discriminator.base_width=8",
    "recipe.discriminator.num_layers=2",
    "data.batch_size=4",
    "train.precision=float32",
    "train.steps=6",
    "train.log_every=1",
    "train.preview_every=4",
)


@pytest.fixture(scope="session")
def clips(tmp_path_factory):
    """Two seconds of each portrait."""
    from facegan.samples import write_sample_clip

    folder = tmp_path_factory.mktemp("clips")
    paths = {}
    for name in ("hopper", "collins"):
        paths[name] = folder / f"{name}.mp4"
        write_sample_clip(name, paths[name], duration_s=1.6, size=192, fps=10)
    return paths


@pytest.fixture(scope="session")
def dataset(clips, tmp_path_factory):
    """What ``build_user_video`` returns for one of the clips, with a held-out part."""
    from facegan.datasets.user_video.user_video_dataset_builder import (
        UserVideoConfig,
        build_user_video,
    )

    folder = tmp_path_factory.mktemp("data")
    return build_user_video([clips["hopper"]], UserVideoConfig(size=64, holdout=0.25), folder)


@pytest.fixture(scope="session")
def labelled_dataset(clips, tmp_path_factory):
    """The same with label maps."""
    from facegan.datasets.user_video.user_video_dataset_builder import (
        UserVideoConfig,
        build_user_video,
    )
    from facegan.face.parsing import ParserConfig

    config = UserVideoConfig(size=128, holdout=0.25, parser=ParserConfig(size=128))
    return build_user_video([clips["hopper"]], config, tmp_path_factory.mktemp("labels"))


@pytest.fixture
def tiny_spade_run():
    """A function: assignments -> the config of a SPADE run with everything that draws or counts."""

    def make(*assignments):
        nets = (
            'recipe.generator={"kind": "spade", "image_size": 128, "base_width": 1, '
            '"hidden_width": 4, "norm": "batch", "style_size": 4}',
            'recipe.encoder={"kind": "spade_style_encoder", "image_size": 128, "style_size": 4, '
            '"base_width": 1}',
            "recipe.discriminator.base_width=2",
            "recipe.perceptual_weight=0.1",
            "train.precision=float32",
        )
        return override(load_config("spade_tiny"), [*nets, *assignments])

    return make


@pytest.fixture
def tiny_run():
    """A function: assignments -> the config of a run that trains in seconds."""

    def make(*assignments, preset="pix2pix_tiny"):
        return override(with_size(load_config(preset), 32), [*TINY, *assignments])

    return make


@pytest.fixture(scope="session")
def people(tmp_path_factory):
    """A folder of photographs with a folder for each of two people, and a wall among them."""
    import numpy as np
    import skimage.data

    from facegan.image import write_image
    from facegan.samples import sample_portrait

    root = tmp_path_factory.mktemp("people")
    collins = np.ascontiguousarray(skimage.data.astronaut()[:256, 96:352])
    for name, picture in (("collins", collins), ("hopper", sample_portrait("hopper"))):
        (root / name).mkdir()
        for number in range(3):
            write_image(root / name / f"{number}.png", picture[:, :: -1 if number == 1 else 1])
    write_image(root / "hopper" / "wall.png", np.full((100, 90, 3), 120, np.uint8))
    return root


@pytest.fixture(scope="session")
def domains(people, tmp_path_factory):
    """What ``prepare_items`` returns for the same, aligned; the wall is left out."""
    from facegan.datasets.builder import find_config, prepare_items
    from facegan.datasets.image_folder.image_folder_dataset_builder import Builder
    from facegan.preparation.image_folder import ImageFolderConfig
    from facegan.preparation.workers import WorkersConfig

    builder = Builder(
        data_dir=tmp_path_factory.mktemp("domains"),
        config=find_config(Builder, ImageFolderConfig(size=64, align="ffhq")),
        source=people,
        workers=WorkersConfig(processes=0),
    )
    return prepare_items(builder)


@pytest.fixture(scope="session")
def tiny_stargan_run():
    """A function: assignments -> the config of a StarGAN v2 run of 32 px that trains in seconds."""

    def make(*assignments):
        config = with_size(load_config("stargan_v2_celebahq_tiny"), 32)
        config = with_everywhere(config, {"base_width": 4, "max_width": 8, "style_size": 6})
        fast = (
            *("recipe.mapping.width=8", "data.batch_size=6", "train.precision=float32"),
            *("train.steps=2", "train.log_every=1", "train.preview_every=2"),
        )
        return override(config, [*fast, *assignments])

    return make


@pytest.fixture(scope="session")
def stargan_bundle(domains, tiny_stargan_run, tmp_path_factory):
    """A bundle of two steps of training, and the run folder that it is of."""
    from facegan.jobs.export import export_run
    from facegan.jobs.run import train_run

    folder = tmp_path_factory.mktemp("stargan")
    train_run(tiny_stargan_run(), data_dir=domains["dataset_dir"], run_dir=folder / "run")
    export_run(folder / "run", folder / "bundle")
    return folder / "bundle"
