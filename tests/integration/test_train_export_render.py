"""The chain that the library exists for: a clip, a dataset, a run, a bundle, a video."""

import json
import shutil

import numpy as np
import pytest

from facegan.bundle import read_manifest
from facegan.errors import BundleError, CheckpointError, ConfigError, VideoError
from facegan.image import to_float, to_uint8
from facegan.jobs.evaluate import evaluate_holdout, identity_to_person
from facegan.jobs.export import export_run, plan_export
from facegan.jobs.provenance import read_provenance, write_provenance
from facegan.jobs.render import render_job
from facegan.jobs.run import encode_run, make_recipe, read_run, train_run
from facegan.jobs.vid2vid import Vid2VidConfig, vid2vid
from facegan.render.engine import load_engine
from facegan.training.metrics_log import read_log
from facegan.training.trainer import Trainer, settle
from facegan.video.reader import VideoReader, probe_clip


@pytest.fixture(scope="module")
def run(dataset, tmp_path_factory):
    from facegan.jobs.run import load_config, override, with_size
    from tests.integration.conftest import TINY

    config = override(with_size(load_config("pix2pix_tiny"), 32), TINY)
    run_dir = tmp_path_factory.mktemp("runs") / "run"
    summary = train_run(config, data_dir=dataset["dataset_dir"], run_dir=run_dir)
    return config, run_dir, summary


@pytest.fixture(scope="module")
def bundle(run, tmp_path_factory):
    path = tmp_path_factory.mktemp("bundles") / "1"
    return path, export_run(run[1], path)


def test_a_run_folder_holds_all_that_is_needed(run):
    config, run_dir, summary = run
    assert summary["steps"] == 6
    assert summary["examples"] == 12
    names = {path.name for path in run_dir.iterdir()}
    assert {"config.json", "conditioning.json", "checkpoints", "log.jsonl"} <= names
    assert {"tensorboard", "samples"} <= names
    stored = read_run(run_dir)
    assert stored.train.xla in ("on", "off")
    assert encode_run(stored)["recipe"] == encode_run(config)["recipe"]
    assert [record["step"] for record in read_log(run_dir)] == [1, 2, 3, 4, 5, 6]
    assert {"G/l1", "G/adv", "D/adv"} <= read_log(run_dir)[0].keys()


def test_an_occupied_run_folder_is_refused(run, dataset, tiny_run):
    with pytest.raises(ConfigError, match="not empty.*--resume"):
        train_run(run[0], data_dir=dataset["dataset_dir"], run_dir=run[1])
    with pytest.raises(ConfigError, match=r"another config \(differing: train.steps\)"):
        train_run(
            tiny_run("train.steps=7"),
            data_dir=dataset["dataset_dir"],
            run_dir=run[1],
            resume=True,
        )


def test_a_finished_run_resumes_to_itself(run, dataset):
    again = train_run(None, data_dir=dataset["dataset_dir"], run_dir=run[1], resume=True)
    assert again["steps"] == 6


def test_a_run_can_start_from_anothers_weights(run, dataset, tiny_run, tmp_path):
    config = tiny_run("train.steps=1", "recipe.generator_optimizer.learning_rate=1e-9")
    first, tuned = tmp_path / "first", tmp_path / "fine"
    shutil.copytree(run[1], first)
    write_provenance(first, licence="for research only")
    train_run(
        config,
        data_dir=dataset["dataset_dir"],
        run_dir=tuned,
        init_from=first,
        preset="pix2pix_tiny",
    )
    assert read_provenance(tuned).preset == "pix2pix_tiny"
    assert read_provenance(tuned).licence == "for research only"
    a = export_run(first, tmp_path / "a")["bundle"]
    b = export_run(tuned, tmp_path / "b")["bundle"]
    condition = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8)
    out = [load_engine(x, "tensorflow").generate({"condition": condition}) for x in (a, b)]
    assert np.abs(out[0].astype(int) - out[1].astype(int)).max() <= 30
    with pytest.raises(CheckpointError, match="no run folder"):
        train_run(
            config, data_dir=dataset["dataset_dir"], run_dir=tmp_path / "x", init_from=tmp_path
        )


def test_the_bundle_is_the_averaged_generator(bundle, run):
    path, summary = bundle
    manifest = read_manifest(path, verify=True)
    assert summary["step"] == 6
    assert summary["max_difference"] < 1e-4
    assert manifest.model == "pix2pix"
    assert manifest.training["averaged"]
    assert manifest.conditioning["kind"] == "landmark_drawing"
    assert manifest.conditioning["size"] == 32
    assert manifest.geometry["kind"] == "face_geometry"
    with pytest.raises(BundleError, match="exists already"):
        export_run(run[1], path)
    assert plan_export(run[1])["step"] == 6
    with pytest.raises(ConfigError, match="no checkpoint of step 5"):
        plan_export(run[1], 5)


def test_batch_norm_is_folded_at_export(dataset, tiny_run, tmp_path):
    config = tiny_run('recipe.generator.norm="batch"', "train.steps=2", "recipe.ema=null")
    train_run(config, data_dir=dataset["dataset_dir"], run_dir=tmp_path / "run")
    export_run(tmp_path / "run", tmp_path / "bundle")
    trainer = Trainer(make_recipe(config), settle(config.train), run_dir=tmp_path / "run")
    assert trainer.restore()
    condition = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    generator = trainer.state.nets["generator"]
    wanted = to_uint8(np.asarray(generator({"condition": to_float(condition)}, training=False)))
    engine = load_engine(tmp_path / "bundle", "tensorflow")
    found = engine.generate({"condition": condition})
    assert np.abs(found.astype(int) - wanted).max() <= 1


def test_the_bundle_renders_every_frame_with_its_sound(bundle, clips, tmp_path):
    output = tmp_path / "out.mp4"
    summary = render_job(bundle[0], clips["collins"], output, compare=True)
    with VideoReader(clips["collins"]) as source, VideoReader(output) as result:
        assert [f.time_s for f in source] == [f.time_s for f in result]
    assert summary["frames"] == 16
    info = probe_clip(output)
    assert info.has_audio
    assert (info.width, info.height) == (32, 32)
    assert probe_clip(summary["compare"]).has_audio


def test_the_held_out_part_is_scored(bundle, dataset):
    scores = evaluate_holdout(bundle[0], dataset["dataset_dir"])
    assert scores["pairs"] == dataset["splits"]["test"] == 4
    assert 0 < scores["ssim"] < 1
    assert 5 < scores["psnr_db"] < 30


def test_a_person_is_nearer_to_themselves(clips):
    same = identity_to_person(clips["collins"], clips["collins"], every=4)
    other = identity_to_person(clips["hopper"], clips["collins"], every=4)
    assert same["coverage"] == 1.0
    assert other["distance"] > 0.6 > same["own_distance"]


def test_vid2vid_does_it_all_and_takes_up_what_it_finds(clips, tmp_path, monkeypatch):
    from tests.integration.conftest import TINY

    stages = []

    def progress(label):
        import contextlib

        stages.append(label)
        return contextlib.nullcontext(lambda done, total, unit: None)

    config = Vid2VidConfig(
        style=str(clips["hopper"]),
        content=str(clips["collins"]),
        output=str(tmp_path / "out.mp4"),
        size=32,
        holdout=0.25,
        overrides=TINY,
        steps=3,
    )
    result = vid2vid(config, progress=progress)
    wanted = {"output", "frames", "fps", "audio", "bundle", "seconds", "side_by_side"}
    assert wanted <= result.keys()
    assert json.dumps(result)
    assert result["frames"] == 16
    assert result["audio"] is True
    assert result["steps"] == 3
    assert result["holdout"]["pairs"] == 4
    assert "Train" in stages
    with pytest.raises(VideoError, match="exists|there already"):
        vid2vid(config)
    # Another content, the same face: nothing is learnt again.
    stages.clear()
    import dataclasses

    second = dataclasses.replace(
        config,
        content=str(clips["hopper"]),
        output=str(tmp_path / "second.mp4"),
        work_dir=str(config.work_path),
    )
    assert vid2vid(second, progress=progress)["frames"] == 16
    assert "Train" not in stages
    with pytest.raises(ConfigError, match="belongs to another job.*style"):
        vid2vid(
            dataclasses.replace(
                second, style=str(clips["collins"]), output=str(tmp_path / "third.mp4")
            )
        )
