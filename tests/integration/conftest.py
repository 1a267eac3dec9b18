"""One short talking clip and one small dataset of it, for every test of the whole chain."""

import pytest

from facegan.jobs.run import load_config, override, with_size

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
