import json

import pytest

from facegan.errors import CheckpointError, ConfigError, DataError
from facegan.jobs import run as jobs


def test_every_preset_is_whole_and_spelled_out(repo_dir):
    assert {"pix2pix_256", "pix2pix_vid2vid_demo", "pix2pix_tiny"} <= set(jobs.list_presets())
    for name in jobs.list_presets():
        stored = json.loads((repo_dir / "facegan" / "presets" / f"{name}.json").read_text())
        assert jobs.encode_run(jobs.load_config(name)) == stored


@pytest.mark.parametrize(
    ("preset", "generator", "discriminator"),
    [
        ("pix2pix_256", 54_413_955, 2_768_705),
        pytest.param("pix2pix_vid2vid_demo", 138_416_771, 1_178_033, marks=pytest.mark.slow),
    ],
)
def test_presets_have_the_published_sizes(preset, generator, discriminator):
    parameters = jobs.describe_run(jobs.load_config(preset))["parameters"]
    assert parameters == {"generator": generator, "discriminator": discriminator}


@pytest.mark.parametrize(
    ("preset", "sizes"),
    [
        # The high-pass skip leaves 172,032 weights out that the authors' generator never uses.
        ("celebahq", (43_467_395 - 172_032, 2_438_272, 20_916_928, 20_852_290)),
        pytest.param(
            *("afhq", (33_892_995, 3_259_072, 20_949_760, 20_852_803)), marks=pytest.mark.slow
        ),
    ],
)
def test_stargan_v2_has_the_published_sizes(preset, sizes):
    parameters = jobs.describe_run(jobs.load_config(f"stargan_v2_{preset}_256"))["parameters"]
    names = ("generator", "mapping", "style_encoder", "discriminator")
    assert parameters == dict(zip(names, sizes, strict=True))


def test_a_size_goes_everywhere():
    config = jobs.with_size(jobs.load_config("pix2pix_tiny"), 64)
    assert config.conditioning.size == 64
    assert config.recipe.generator.image_size == 64
    assert config.recipe.discriminator.image_size == 64
    with pytest.raises(ConfigError, match="power of two"):
        jobs.with_size(config, 100)


def test_a_config_file_round_trips(tmp_path):
    config = jobs.load_config("pix2pix_tiny", overrides=["train.steps=7", "data.batch_size=2"])
    path = tmp_path / "config.json"
    path.write_text(json.dumps(jobs.encode_run(config)))
    assert jobs.load_config(config_path=path) == config
    assert config.train.steps == 7


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("train.stesp=5", "Unknown key 'stesp' in 'train'.*'steps'"),
        ("recipe.adversarial=wgan", "must be one of bce, lsgan, hinge"),
        ("recipe.generator.image_size=100", "power of two"),
        ("version=9", "version 9"),
        ("kind=pix2pixx", "Did you mean 'pix2pix'"),
        ('conditioning.kind="depth_map"', "'depth_map'.*knows: landmark_drawing"),
    ],
)
def test_wrong_settings_are_refused(assignment, message):
    with pytest.raises(ConfigError, match=message):
        jobs.load_config("pix2pix_tiny", overrides=[assignment])


def test_wrong_documents_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="Did you mean 'pix2pix_tiny'"):
        jobs.load_config("pix2pix_tniy")
    with pytest.raises(ConfigError, match="either a preset or a config file"):
        jobs.load_config()
    document = jobs.encode_run(jobs.load_config("pix2pix_tiny"))
    with pytest.raises(ConfigError, match="'train' of the run config is missing"):
        jobs.decode_run({k: v for k, v in document.items() if k != "train"})
    with pytest.raises(ConfigError, match="Unknown key 'trian'"):
        jobs.decode_run({**document, "trian": {}})
    with pytest.raises(ConfigError, match="must be a JSON object"):
        jobs.decode_run([])
    with pytest.raises(CheckpointError, match="no run folder"):
        jobs.read_run(tmp_path)


def test_find_dataset_wants_exactly_one(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        jobs.find_dataset(tmp_path / "none")
    with pytest.raises(DataError, match="no prepared dataset"):
        jobs.find_dataset(tmp_path)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "dataset_info.json").write_text("{}")
    with pytest.raises(DataError, match="2 datasets"):
        jobs.find_dataset(tmp_path)
    assert jobs.find_dataset(tmp_path / "a") == tmp_path / "a"
