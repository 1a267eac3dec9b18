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


@pytest.fixture
def tiny_run():
    """A function: assignments -> the config of a run that trains in seconds."""

    def make(*assignments, preset="pix2pix_tiny"):
        return override(with_size(load_config(preset), 32), [*TINY, *assignments])

    return make
