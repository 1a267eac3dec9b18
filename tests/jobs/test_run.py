import dataclasses
import json

import pytest

from facegan.datasets.storage import REPORT_NAME
from facegan.errors import CheckpointError, ConfigError, DataError
from facegan.jobs import run as jobs
from facegan.training.devices import make_strategy
from facegan.training.recipes.stylegan2 import automatic


def test_every_preset_is_whole_and_spelled_out(repo_dir):
    assert {"pix2pix_256", "pix2pix_vid2vid_demo", "pix2pix_tiny"} <= set(jobs.list_presets())
    for name in jobs.list_presets():
        stored = json.loads((repo_dir / "facegan" / "presets" / f"{name}.json").read_text())
        spelled = jobs.encode_run(jobs.load_config(name))
        # The one whose recipe follows from the rest.
        assert (stored["recipe"] == "auto") == (name == "stylegan2_auto")
        if name == "stylegan2_auto":
            stored["recipe"] = spelled["recipe"]
        assert spelled == stored


@pytest.mark.parametrize(
    ("preset", "generator", "discriminator"),
    [
        ("pix2pix_256", 54_413_955, 2_768_705),
        ("mask_pix2pix_256", 14_222_659, 2_772_737),
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


@pytest.mark.parametrize(
    ("preset", "generator", "discriminator"),
    [
        ("1024", 30_370_060, 29_012_513),
        pytest.param("paper1024", 30_370_060, 29_012_513, marks=pytest.mark.slow),
        pytest.param("paper512", 30_276_583, 28_982_849, marks=pytest.mark.slow),
        ("paper256", 24_767_458, 24_001_089),
        ("auto", 23_191_522, 24_001_089),
    ],
)
def test_stylegan2_has_the_published_sizes(preset, generator, discriminator):
    parameters = jobs.describe_run(jobs.load_config(f"stylegan2_{preset}"))["parameters"]
    # The authors count the mapping net as a part of the generator.
    assert parameters["generator"] + parameters["mapping"] == generator
    assert parameters["discriminator"] == discriminator
    assert len(parameters) == 3


def test_automatic_settings_follow_from_the_size_and_the_batch():
    plain = jobs.load_config("stylegan2_auto")
    assert plain.recipe == automatic(256, 16)
    overrides = ["conditioning.size=512", "data.batch_size=8", "train.steps=7"]
    config = jobs.load_config("stylegan2_auto", overrides=overrides)
    assert config.recipe == automatic(512, 8)
    assert (config.conditioning.size, config.data.batch_size, config.train.steps) == (512, 8, 7)
    # Other settings come on top of that, wherever they stand in the list.
    overrides = ["recipe.r1_weight=5", "recipe.augment.limit=0.8", *overrides]
    config = jobs.load_config("stylegan2_auto", overrides=overrides)
    expected = automatic(512, 8)
    augment = dataclasses.replace(expected.augment, limit=0.8)
    assert config.recipe == dataclasses.replace(expected, r1_weight=5.0, augment=augment)


def test_a_run_folder_has_automatic_settings_spelled_out(tmp_path):
    config = jobs.load_config("stylegan2_auto", overrides=["data.batch_size=4"])
    path = tmp_path / "config.json"
    path.write_text(json.dumps(jobs.encode_run(config)))
    assert jobs.load_config(config_path=path) == config
    # Once spelled out, the recipe stays as it is.
    other = jobs.load_config(config_path=path, overrides=["data.batch_size=8"])
    assert other.recipe == config.recipe == automatic(256, 4)


def test_automatic_settings_that_cannot_be_are_refused(tmp_path, repo_dir):
    stored = json.loads((repo_dir / "facegan" / "presets" / "stylegan2_auto.json").read_text())
    path = tmp_path / "config.json"
    pix2pix = jobs.encode_run(jobs.load_config("pix2pix_tiny"))
    for document, message in (
        ({**pix2pix, "recipe": "auto"}, "Recipes of 'pix2pix' have no automatic settings; spell"),
        ({**stored, "kind": "stylegan3"}, "Did you mean 'stylegan2'"),
        ({**stored, "recipe": "automatic"}, "recipe must be an object"),
        ({k: v for k, v in stored.items() if k != "data"}, "'data' of the run config is missing"),
        ({k: v for k, v in stored.items() if k != "train"}, "'train' of the run config is missing"),
    ):
        path.write_text(json.dumps(document))
        with pytest.raises(ConfigError, match=message):
            jobs.load_config(config_path=path)
    for assignment, message in (
        ("data.batch_size=0", "data.batch_size must be at least 1"),
        ("conditioning.size=100", "size must be a power of two"),
        ("recipe.r2_weight=1", "Unknown key 'r2_weight'.*'r1_weight'|Did you mean 'r1_weight'"),
    ):
        with pytest.raises(ConfigError, match=message):
            jobs.load_config("stylegan2_auto", overrides=[assignment])


def test_faces_that_are_learnt_aligned_are_found_aligned_later(tmp_path):
    (tmp_path / "dataset_info.json").write_text("{}")
    (tmp_path / REPORT_NAME).write_text(json.dumps({"config": {"align": "ffhq"}}))
    config = jobs.load_config("stylegan2_tiny", overrides=["conditioning.align=none"])
    with pytest.raises(ConfigError, match="faces of .* are aligned.*conditioning.align=ffhq"):
        jobs.train_run(config, data_dir=tmp_path, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_size_goes_everywhere():
    config = jobs.with_size(jobs.load_config("pix2pix_tiny"), 64)
    assert config.conditioning.size == 64
    assert config.recipe.generator.image_size == 64
    assert config.recipe.discriminator.image_size == 64
    with pytest.raises(ConfigError, match="power of two"):
        jobs.with_size(config, 100)


def test_nets_of_another_size_than_the_pictures_are_refused(tmp_path):
    (tmp_path / "dataset_info.json").write_text("{}")
    config = jobs.load_config("mask_pix2pix_v2_256", overrides=["conditioning.size=64"])
    message = (
        r"recipe\.generator\.image_size is 256, but conditioning\.size is 64\. Add --set "
        r"recipe\.generator\.image_size=64 --set recipe\.discriminator\.image_size=64, or change"
    )
    with pytest.raises(ConfigError, match=message):
        jobs.train_run(config, data_dir=tmp_path, run_dir=tmp_path / "run")
    with pytest.raises(ConfigError, match=message):
        jobs.describe_run(config)
    assert not (tmp_path / "run").exists()
    assert jobs.describe_run(jobs.with_size(config, 64))["parameters"]


def test_a_batch_that_cannot_be_cut_leaves_no_run_folder(tmp_path):
    """Else the next try would have to ask for --overwrite."""
    config = jobs.load_config("mask_pix2pix_tiny", overrides=["data.batch_size=3"])
    message = "3 examples in groups of 2 .* over 1 devices; choose data.batch_size as a multiple"
    shared = {"source": tmp_path, "geometry": None, "begin": lambda session: None}
    with pytest.raises(ConfigError, match=message):
        # The batch is looked at before the records are.
        jobs.train_records(
            config, None, None, strategy=make_strategy(), run_dir=tmp_path / "run", **shared
        )
    with pytest.raises(ConfigError, match=message):
        jobs.describe_run(config)
    config = jobs.override(config, ["data.batch_size=6"])
    with pytest.raises(ConfigError, match="6 examples .* over 2 devices; .* a multiple of 4"):
        jobs.train_records(
            config, None, None, strategy=make_strategy(2), run_dir=tmp_path / "run", **shared
        )
    assert not (tmp_path / "run").exists()


def test_workers_that_cannot_share_a_batch_leave_no_run_folder(tmp_path, monkeypatch):
    cluster = {"worker": ["localhost:1", "localhost:2", "localhost:3"]}
    task = {"type": "worker", "index": 0}
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": task}))
    config = jobs.load_config("pix2pix_tiny")  # batches of 4
    with pytest.raises(ConfigError, match="multiple of the number of workers, got 4 for 3"):
        jobs.train_records(
            config,
            None,
            None,
            strategy=None,
            source=tmp_path,
            geometry=None,
            run_dir=tmp_path / "run",
            begin=lambda session: None,
        )
    assert not (tmp_path / "run").exists()


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
