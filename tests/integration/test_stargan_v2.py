"""StarGAN v2 from photographs to translated pictures and videos."""

import json
import shutil
import signal

import numpy as np
import pytest
import tensorflow as tf

from facegan.bundle import read_manifest
from facegan.convert.fan import save_fan
from facegan.datasets.builder import find_config, prepare_items
from facegan.datasets.image_folder.image_folder_dataset_builder import Builder
from facegan.errors import ConfigError, DataError
from facegan.face.align import invert_matrix, transform_points
from facegan.face.landmarks import DetectorConfig
from facegan.image import read_image, to_float, to_uint8
from facegan.jobs.evaluate_domains import (
    DomainEvaluationConfig,
    evaluate_domains,
    write_domains_page,
)
from facegan.jobs.export import export_run, load_nets
from facegan.jobs.run import read_run, train_run
from facegan.jobs.translate import REPORT_NAME, TranslateConfig, translate
from facegan.models.fan import FAN
from facegan.preparation.image_folder import ImageFolderConfig
from facegan.preparation.squares import cut_square, read_photo_file
from facegan.preparation.workers import WorkersConfig
from facegan.render.engine import BundleMethods, EngineConfig
from facegan.render.pipeline import RenderConfig, render_video
from facegan.render.style import StyleChoice, find_styles
from facegan.training.checkpoint import list_checkpoints
from facegan.video.reader import VideoReader, probe_clip
from tests.fake_face import audio_packets

HOPPER = TranslateConfig(domain="hopper")


def test_the_run_knows_the_domains_of_its_dataset(stargan_bundle, domains):
    assert domains["splits"] == {"train": 6} and domains["left_out"] == {"no_face": 1}
    config = read_run(stargan_bundle.parent / "run")
    assert config.conditioning.domains == ("collins", "hopper")
    assert config.recipe.mapping.num_domains == 2
    manifest = read_manifest(stargan_bundle)
    assert [spec.name for spec in manifest.inputs] == ["source", "style", "landmarks_xy_px"]
    assert {"generate", "encode_style", "map_style"} <= set(manifest.signatures)


def test_other_domains_than_the_datasets_are_refused(domains, tiny_stargan_run, tmp_path):
    data_dir = domains["dataset_dir"]
    for assignment, message in (
        ('conditioning.domains=["cat", "dog"]', "are cat, dog, but those of .* are collins, hop"),
        ("conditioning.align=none", "faces of .* are aligned.*conditioning.align=ffhq"),
    ):
        with pytest.raises(ConfigError, match=message):
            train_run(tiny_stargan_run(assignment), data_dir=data_dir, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_domain_without_pictures_to_learn_from_is_refused(dataset, tiny_stargan_run, tmp_path):
    with pytest.raises(DataError, match="have no domain 'domain'"):
        train_run(tiny_stargan_run(), data_dir=dataset["dataset_dir"], run_dir=tmp_path / "run")


def test_a_bundle_that_finds_details_itself_makes_videos(
    clips, domains, tiny_stargan_run, tmp_path
):
    net = FAN()
    net.build({"image": (None, None, None, 3)})
    save_fan(net, tmp_path / "fan.npz")
    config = tiny_stargan_run(f"recipe.fan={tmp_path / 'fan.npz'}", "train.steps=1")
    train_run(config, data_dir=domains["dataset_dir"], run_dir=tmp_path / "run")
    assert not read_run(tmp_path / "run").conditioning.landmarks
    export_run(tmp_path / "run", tmp_path / "bundle")
    inputs = read_manifest(tmp_path / "bundle").inputs
    assert [spec.name for spec in inputs] == ["source", "style"]
    result = translate(tmp_path / "bundle", clips["collins"], tmp_path / "out.mp4", HOPPER)
    assert result["missing_faces"] == 0


def test_a_run_that_goes_on_wants_the_domains_it_knows(stargan_bundle, people, tmp_path):
    for name in ("cat", "hopper"):
        shutil.copytree(people / "hopper", tmp_path / "raw" / name)
    builder = Builder(
        data_dir=tmp_path / "data",
        config=find_config(Builder, ImageFolderConfig(size=64)),
        source=tmp_path / "raw",
        workers=WorkersConfig(processes=0),
    )
    data_dir = prepare_items(builder)["dataset_dir"]
    with pytest.raises(
        ConfigError, match="conditioning.domains are collins, hopper, but those of .* cat, hop"
    ):
        train_run(None, data_dir=data_dir, run_dir=stargan_bundle.parent / "run", resume=True)


def test_onnx_gives_the_same_picture(stargan_bundle, people, tmp_path):
    bundle = tmp_path / "bundle"
    export_run(stargan_bundle.parent / "run", bundle, onnx=True)
    picture = people / "collins" / "0.png"
    made = []
    for name in ("onnxruntime", "tensorflow"):
        config = TranslateConfig(domain="hopper", engine=EngineConfig(name=name))
        translate(bundle, picture, tmp_path / f"{name}.png", config)
        made.append(read_image(tmp_path / f"{name}.png").astype(int))
    assert np.abs(made[0] - made[1]).max() <= 1


@pytest.mark.slow
def test_a_resumed_run_equals_an_unbroken_one(domains, tiny_stargan_run, tmp_path):
    data_dir = domains["dataset_dir"]
    whole = tiny_stargan_run("train.steps=5", "recipe.diversity_steps=4")
    train_run(whole, data_dir=data_dir, run_dir=tmp_path / "whole")

    def stop_at_two(label):
        class Report:
            def __enter__(self):
                return lambda done, total, unit: done == 2 and signal.raise_signal(signal.SIGTERM)

            def __exit__(self, *_):
                pass

        return Report()

    with pytest.raises(Exception, match="Stopped at step"):
        train_run(whole, data_dir=data_dir, run_dir=tmp_path / "cut", progress=stop_at_two)
    assert list_checkpoints(tmp_path / "cut" / "checkpoints")[-1].step < 5
    train_run(None, data_dir=data_dir, run_dir=tmp_path / "cut", resume=True)

    def tensors(name):
        newest = list_checkpoints(tmp_path / name / "checkpoints")[-1]
        assert newest.step == 5
        reader = tf.train.load_checkpoint(str(newest.path / "state"))
        names = [n for n in reader.get_variable_to_shape_map() if not n.startswith("_")]
        return {n: reader.get_tensor(n) for n in names}

    whole, cut = tensors("whole"), tensors("cut")
    assert whole.keys() == cut.keys()
    for name in whole:
        np.testing.assert_array_equal(whole[name], cut[name], err_msg=name)


def test_styles_are_those_of_the_averaged_nets(stargan_bundle, people):
    nets = load_nets(stargan_bundle.parent / "run")
    methods = BundleMethods(stargan_bundle, read_manifest(stargan_bundle))
    reference = str(people / "hopper" / "0.png")
    choices = [
        StyleChoice(domain="hopper", seed=3),
        StyleChoice(domain="hopper", reference=reference),
        StyleChoice(domain="collins", seed=3),
    ]
    styles = find_styles(methods, choices, DetectorConfig())
    latent = np.random.default_rng(3).standard_normal((1, 16)).astype(np.float32)
    expected = [
        nets["mapping"]({"latent": latent, "domain": np.array([domain])}) for domain in (1, 0)
    ]
    photo = read_photo_file(reference)
    square = cut_square(photo, reference, 32, align="ffhq", detector=DetectorConfig())
    given = {"image": to_float(square.image)[None], "domain": np.array([1])}
    np.testing.assert_allclose(styles[0], np.asarray(expected[0])[0], atol=1e-5)
    np.testing.assert_allclose(styles[1], np.asarray(nets["style_encoder"](given))[0], atol=1e-5)
    np.testing.assert_allclose(styles[2], np.asarray(expected[1])[0], atol=1e-5)
    with pytest.raises(
        ConfigError, match="domain must be one of collins, hopper.*Did you mean 'hopper'"
    ):
        find_styles(methods, [StyleChoice(domain="hoper")], DetectorConfig())


def test_a_picture_becomes_a_square_or_stays_whole(stargan_bundle, people, tmp_path):
    picture = people / "collins" / "0.png"
    result = translate(stargan_bundle, picture, tmp_path / "a.png", HOPPER)
    assert result["kind"] == "picture"
    made = read_image(tmp_path / "a.png")
    assert made.shape == (32, 32, 3)
    whole = TranslateConfig(domain="hopper", full_frame=True, colour_match=False)
    translate(stargan_bundle, picture, tmp_path / "b.png", whole)
    photo, back = read_image(picture), read_image(tmp_path / "b.png")
    assert photo.shape == back.shape
    square = cut_square(photo, "", 32, align="ffhq", detector=DetectorConfig())
    points = transform_points(invert_matrix(square.matrix), square.landmarks_xy_px)
    x, y = np.rint(points[30]).astype(int)  # the nose
    assert (photo[y, x] != back[y, x]).any()
    np.testing.assert_array_equal(photo[:8], back[:8])
    # What the network is told to paint is what it was shown in training: the nets say so too.
    nets = load_nets(stargan_bundle.parent / "run")
    style = find_styles(
        BundleMethods(stargan_bundle, read_manifest(stargan_bundle)),
        HOPPER.choices(),
        DetectorConfig(),
    )
    from facegan.models.stargan_translator import StarTranslator

    translator = StarTranslator(nets["generator"], nets["mapping"], nets["style_encoder"])
    given = {
        "source": to_float(square.image)[None],
        "style": style,
        "landmarks_xy_px": square.landmarks_xy_px[None],
    }
    expected = to_uint8(np.asarray(translator(given)))[0].astype(int)
    assert np.abs(made - expected).max() <= 1


def test_a_folder_keeps_its_tree_and_tells_what_was_left_out(stargan_bundle, people, tmp_path):
    out = tmp_path / "out"
    several = TranslateConfig(domain="collins", styles=2)
    result = translate(stargan_bundle, people, out, several)
    assert (result["written"], result["left_out"]) == (12, 1)
    names = sorted(str(path.relative_to(out)) for path in out.rglob("*.png"))
    assert names[:2] == ["collins/0_0.png", "collins/0_1.png"] and len(names) == 12
    report = json.loads((out / REPORT_NAME).read_text())
    assert report["left_out"][0]["file"] == "hopper/wall.png"
    assert report["left_out"][0]["reason"] == "no_face"
    # Going on makes only what is missing.
    kept, again = out / "collins" / "0_0.png", out / "hopper" / "2_1.png"
    kept.write_bytes(b"mine")
    again.unlink()
    other = TranslateConfig(domain="hopper", styles=2)
    with pytest.raises(ConfigError, match="made by another bundle or with other settings"):
        translate(stargan_bundle, people, out, other, resume=True)
    with pytest.raises(ConfigError, match="not empty. Add --resume"):
        translate(stargan_bundle, people, out, several)
    assert translate(stargan_bundle, people, out, several, resume=True)["written"] == 12
    assert again.is_file() and kept.read_bytes() == b"mine"


def test_a_grid_has_references_on_top_and_pictures_down_the_side(stargan_bundle, people, tmp_path):
    references = (str(people / "hopper" / "0.png"), str(people / "hopper" / "1.png"))
    config = TranslateConfig(domain="hopper", references=references, grid=True)
    result = translate(stargan_bundle, people / "collins", tmp_path / "grid.png", config)
    assert (result["pictures"], result["styles"]) == (3, 2)
    grid = read_image(tmp_path / "grid.png")
    assert grid.shape == (4 * 34 - 2, 3 * 34 - 2, 3)
    single = TranslateConfig(domain="hopper", references=references[1:])
    translate(stargan_bundle, people / "collins" / "2.png", tmp_path / "one.png", single)
    one = read_image(tmp_path / "one.png")
    np.testing.assert_allclose(grid[3 * 34 :, 2 * 34 :].astype(int), one.astype(int), atol=1)
    assert (grid[:32, :32] == 255).all()


def test_a_video_of_a_picture_wanders_between_styles(stargan_bundle, people, tmp_path):
    config = TranslateConfig(domain="hopper", styles=2)
    picture = people / "collins" / "0.png"
    result = translate(stargan_bundle, picture, tmp_path / "a.mp4", config)
    assert result["frames"] == 42
    with VideoReader(tmp_path / "a.mp4") as reader:
        frames = [frame.image for frame in reader]
    assert len(frames) == 42 and frames[0].shape[:2] == (32, 66)
    with pytest.raises(ConfigError, match="needs at least two"):
        translate(stargan_bundle, picture, tmp_path / "b.mp4", HOPPER)


def test_a_video_keeps_its_frames_size_and_sound(stargan_bundle, clips, tmp_path):
    out = tmp_path / "out.mp4"
    result = translate(stargan_bundle, clips["collins"], out, HOPPER)
    source, made = probe_clip(clips["collins"]), probe_clip(out)
    assert result["frames"] == source.num_frames == made.num_frames
    assert (made.width, made.height) == (source.width, source.height)
    assert audio_packets(out)[0] == audio_packets(clips["collins"])[0]
    with VideoReader(clips["collins"]) as a, VideoReader(out) as b:
        before, after = (np.stack([f.image for f in r]).astype(int) for r in (a, b))
    apart = np.abs(before - after).mean(axis=(0, 3))
    # The face lies in the middle; corners are touched by the encoder alone.
    assert apart[80:110, 80:110].mean() > 5 * apart[:20, :20].mean()
    # The same by the general renderer.
    config = RenderConfig(output="full_frame", style=StyleChoice(domain="hopper"))
    render_video(stargan_bundle, clips["collins"], tmp_path / "same.mp4", config)
    assert (tmp_path / "same.mp4").read_bytes() == out.read_bytes()
    with pytest.raises(ConfigError, match="takes the style of a domain .*; name it with style"):
        render_video(stargan_bundle, clips["collins"], tmp_path / "no.mp4")


def test_what_does_not_go_together_is_refused(stargan_bundle, clips, people, tmp_path):
    picture = people / "collins" / "0.png"
    for input, output, config, message in (
        (clips["collins"], "a.png", HOPPER, "output of a video must end in .mp4"),
        (clips["collins"], "a.mp4", TranslateConfig(domain="hopper", grid=True), "grid is made of"),
        (clips["collins"], "a.mp4", TranslateConfig(domain="hopper", styles=2), "in one style"),
        (picture, "a.txt", HOPPER, "output of a picture must end in .png"),
        (
            picture,
            "a.png",
            TranslateConfig(domain="cat"),
            "domain must be one of collins, hopper; got 'cat'",
        ),
        (people, people / "sub", HOPPER, "lies where the pictures are"),
        (people, "all.png", HOPPER, "For one picture of all add --grid"),
        (picture, picture, HOPPER, "is read itself"),
        (picture, "a.png", TranslateConfig(domain="hopper", face=1), "a person of a video"),
    ):
        with pytest.raises(ConfigError, match=message):
            translate(stargan_bundle, input, tmp_path / output, config)
    with pytest.raises(DataError, match="does not exist"):
        translate(stargan_bundle, tmp_path / "none.png", tmp_path / "a.png", HOPPER)
    with pytest.raises(DataError, match="No face is found in .*wall.png"):
        translate(stargan_bundle, people / "hopper" / "wall.png", tmp_path / "a.png", HOPPER)
    assert not list(tmp_path.iterdir())


def test_every_pair_of_domains_is_scored(stargan_bundle, domains, tmp_path):
    config = DomainEvaluationConfig(outputs=2, split="train", lpips="random")
    scores = evaluate_domains(stargan_bundle, domains["dataset_dir"], config)
    assert scores["pictures"] == {"collins": 3, "hopper": 3}
    for kind in ("latent", "reference"):
        pairs = scores[kind]["pairs"]
        assert set(pairs) == {"collins to hopper", "hopper to collins"}
        values = [pair["lpips"] for pair in pairs.values()]
        assert min(values) > 0 and scores[kind]["lpips"] == pytest.approx(np.mean(values))
    again = evaluate_domains(stargan_bundle, domains["dataset_dir"], config)
    assert again == scores
    write_domains_page(tmp_path / "page.html", stargan_bundle, scores)
    assert "collins to hopper" in (tmp_path / "page.html").read_text()
    with pytest.raises(ConfigError, match="nothing to measure"):
        DomainEvaluationConfig()
    with pytest.raises(DataError, match="has no split 'test'"):
        evaluate_domains(
            stargan_bundle, domains["dataset_dir"], DomainEvaluationConfig(lpips="random")
        )
