"""A talking head from start to end: videos of people, meta-learning, one person, a video."""

import contextlib
import json

import numpy as np
import pytest

from facegan.bundle import read_manifest
from facegan.datasets.builder import prepare_items
from facegan.errors import BundleError, CheckpointError, ConfigError
from facegan.jobs.evaluate_heads import HeadEvaluationConfig, evaluate_heads
from facegan.jobs.export import export_run, load_nets
from facegan.jobs.finetune import FinetuneConfig, finetune
from facegan.jobs.reenact import ReenactConfig, reenact
from facegan.jobs.run import load_config, override, read_run, train_run
from facegan.render.engine import EngineConfig
from facegan.render.pipeline import RenderConfig, render_video
from facegan.training.trainer import Trainer
from facegan.video.reader import VideoReader, count_frames
from tests.integration.test_resume import tensors as read_tensors

TINY = (
    'recipe.embedder={"kind": "talking_head_embedder", "image_size": 64, "base_width": 2, '
    '"num_downs": 4}',
    'recipe.generator={"kind": "talking_head", "image_size": 64, "base_width": 2, '
    '"num_blocks": 1, "embedding_size": 16, "unit_scale": true}',
    'recipe.discriminator={"kind": "talking_head_discriminator", "image_size": 64, '
    '"base_width": 2, "num_downs": 4}',
    "conditioning.size=64",
    "conditioning.shots=2",
    "data.batch_size=2",
    "train.precision=float32",
    "train.steps=4",
    "train.preview_every=2",
)


@pytest.fixture(scope="module")
def videos(clips, tmp_path_factory):
    """A dataset of two people, as VoxCeleb2 has them; one of them for testing."""
    import shutil

    from facegan.datasets.builder import find_config
    from facegan.datasets.voxceleb.voxceleb_dataset_builder import Builder
    from facegan.preparation.voxceleb import VoxCelebConfig

    folder = tmp_path_factory.mktemp("vox")
    for split, name in (("dev", "hopper"), ("test", "collins")):
        place = folder / "raw" / split / name / "talk"
        place.mkdir(parents=True)
        shutil.copy(clips[name], place / "00001.mp4")
    settings = VoxCelebConfig(size=64, frames_per_clip=12, min_frames=4)
    builder = Builder(
        data_dir=str(folder / "data"),
        config=find_config(Builder, settings),
        source=str(folder / "raw"),
    )
    return prepare_items(builder)["dataset_dir"]


@pytest.fixture(scope="module")
def meta_run(videos, tmp_path_factory):
    """A meta-learned run of four steps."""
    folder = tmp_path_factory.mktemp("heads") / "run"
    config = override(load_config("talking_head_tiny"), TINY)
    train_run(config, data_dir=videos, run_dir=folder)
    return folder


@pytest.fixture(scope="module")
def portraits(clips, tmp_path_factory):
    """Two frames of a clip as picture files."""
    from facegan.image import encode_jpeg

    folder = tmp_path_factory.mktemp("portraits")
    paths = []
    with VideoReader(clips["collins"]) as reader:
        for frame in reader:
            if frame.index in (2, 9):
                paths.append(folder / f"{frame.index}.jpg")
                paths[-1].write_bytes(encode_jpeg(frame.image))
    return tuple(map(str, paths))


def test_the_run_knows_how_many_videos_there_are(meta_run):
    assert read_run(meta_run).recipe.num_videos == 1
    samples = list((meta_run / "samples").glob("*"))
    assert samples


@pytest.mark.slow
def test_meta_learning_goes_on_bit_for_bit(meta_run, videos, tmp_path):
    config = override(load_config("talking_head_tiny"), TINY)
    with stopped_after(2):
        train_run(config, data_dir=videos, run_dir=tmp_path / "run")
    assert read_tensors(tmp_path / "run")[0] == 2
    train_run(config, data_dir=videos, run_dir=tmp_path / "run", resume=True)
    (_, whole), (_, parts) = read_tensors(meta_run), read_tensors(tmp_path / "run")
    assert any("video_rows" in name for name in whole)
    for name, value in whole.items():
        np.testing.assert_array_equal(parts[name], value, err_msg=name)


def test_one_bundle_serves_many_people(meta_run, portraits, clips, tmp_path):
    exported = export_run(meta_run, tmp_path / "bundle")
    assert {"serving_default", "uint8", "encoded", "generate", "embed"} < set(
        exported["signatures"]
    )
    manifest = read_manifest(tmp_path / "bundle")
    assert [spec.name for spec in manifest.inputs] == ["condition", "embedding"]
    with pytest.raises(ConfigError, match="a person from portraits; name it with portraits"):
        render_video(tmp_path / "bundle", clips["hopper"], tmp_path / "out.mp4")
    for engine in ("tensorflow", "auto"):
        summary = render_video(
            tmp_path / "bundle",
            clips["hopper"],
            tmp_path / f"{engine}.mp4",
            RenderConfig(portraits=portraits, engine=EngineConfig(name=engine)),
        )
        assert summary["frames"] == count_frames(clips["hopper"])
        assert summary["audio"]


def test_a_person_is_learnt_kept_and_gone_on_with(meta_run, portraits, tmp_path):
    config = FinetuneConfig(run_dir=str(meta_run), images=portraits, steps=3)
    whole = finetune(config, tmp_path / "whole")
    assert (whole["steps"], whole["shots"]) == (3, 2)
    part = FinetuneConfig(run_dir=str(meta_run), images=portraits, steps=3)
    with stopped_after(1):
        finetune(part, tmp_path / "parts")
    with pytest.raises(ConfigError, match="not empty. Add --resume"):
        finetune(part, tmp_path / "parts")
    finetune(part, tmp_path / "parts", resume=True)
    a, b = (load_nets(tmp_path / name) for name in ("whole", "parts"))
    for net in a:
        for one, two in zip(a[net].variables, b[net].variables, strict=True):
            np.testing.assert_array_equal(one, two, err_msg=one.path)
    other = FinetuneConfig(run_dir=str(meta_run), images=portraits[:1], steps=3)
    with pytest.raises(ConfigError, match="begun with other pictures"):
        finetune(other, tmp_path / "whole", resume=True)
    exported = export_run(tmp_path / "whole", tmp_path / "bundle")
    assert exported["max_difference"] < 1e-4
    manifest = read_manifest(tmp_path / "bundle")
    assert manifest.geometry["num_frames"] == 2
    with pytest.raises(CheckpointError, match="starts from a 'talking_head' run"):
        finetune(FinetuneConfig(run_dir=str(tmp_path / "whole"), images=portraits), tmp_path / "x")


@contextlib.contextmanager
def stopped_after(steps):
    """What is trained here does not come to its end, as after a kill."""
    with pytest.MonkeyPatch.context() as patch:
        fit = Trainer.fit
        patch.setattr(
            Trainer, "fit", lambda self, batches, **kw: fit(self, batches, **kw | {"until": steps})
        )
        yield


@pytest.mark.slow
def test_one_command_from_a_run_from_a_preset_and_without_learning(
    meta_run, portraits, clips, tmp_path, caplog
):
    driving = str(clips["hopper"])
    config = ReenactConfig(
        portraits=portraits,
        driving=driving,
        output=str(tmp_path / "tuned.mp4"),
        run_dir=str(meta_run),
        steps=2,
    )
    result = reenact(config)
    assert (result["steps"], result["untrained"], result["audio"]) == (2, False, True)
    assert count_frames(result["output"]) == count_frames(driving)
    again = reenact(config, overwrite=True)
    assert again["steps"] == 2
    plain = reenact(
        ReenactConfig(
            portraits=portraits,
            driving=driving,
            output=str(tmp_path / "plain.mp4"),
            run_dir=str(meta_run),
            steps=0,
        )
    )
    assert plain["steps"] == 0
    served = reenact(
        ReenactConfig(
            portraits=portraits,
            driving=driving,
            output=str(tmp_path / "served.mp4"),
            bundle=plain["bundle"],
        )
    )
    assert served["frames"] == result["frames"]
    assert "untrained" not in caplog.text
    with pytest.raises(ConfigError, match="belongs to another job"):
        reenact(
            ReenactConfig(
                portraits=portraits[:1],
                driving=driving,
                output=str(tmp_path / "tuned.mp4"),
                run_dir=str(meta_run),
                steps=2,
            ),
            overwrite=True,
        )
    with pytest.raises(BundleError, match="tools/render_video.py"):
        reenact(
            ReenactConfig(
                portraits=portraits,
                driving=driving,
                output=str(tmp_path / "other.mp4"),
                bundle=result["bundle"],
            )
        )


@pytest.mark.slow
def test_a_preset_says_that_it_is_untrained(portraits, clips, tmp_path, caplog, monkeypatch):
    from facegan.jobs import run

    load = run.load_config
    monkeypatch.setattr(run, "load_config", lambda name: override(load(name), TINY))
    result = reenact(
        ReenactConfig(
            portraits=portraits,
            driving=str(clips["hopper"]),
            output=str(tmp_path / "out.mp4"),
            preset="talking_head_tiny",
            steps=2,
        )
    )
    assert result["untrained"]
    assert "untrained weights of talking_head_tiny" in caplog.text


@pytest.mark.slow
def test_the_protocol_counts_shots(meta_run, videos, tmp_path):
    config = HeadEvaluationConfig(shots=(1, 4), steps=2, test_frames=5)
    scores = evaluate_heads(meta_run, videos, tmp_path, config)
    assert scores["videos"] == 1
    assert set(scores["shots"]) == {"1", "4"}
    for found in scores["shots"].values():
        assert {"feed_forward", "fine_tuned"} == set(found)
        assert found["fine_tuned"]["pairs"] == 5
        assert -1 <= found["fine_tuned"]["ssim"] <= 1
    json.dumps(scores)
