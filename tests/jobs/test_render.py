import pathlib

import av
import pytest

from facegan.errors import BundleError, ConfigError, VideoError
from facegan.face.conditioning import ConditioningConfig, encode_conditioning
from facegan.jobs.render import compare_path, plan_render, render_job
from facegan.render.engine import EngineConfig
from facegan.render.pipeline import RenderConfig
from tests.fake_face import moving_square_clip
from tests.toy_bundle import export_puppet, repeat_drawing


def test_the_comparison_stands_beside_the_output():
    assert compare_path("films/a.mkv") == pathlib.Path("films/a_compare.mkv")


def test_what_is_there_is_not_replaced(tmp_path):
    (tmp_path / "out.mp4").touch()
    (tmp_path / "other_compare.mp4").touch()
    with pytest.raises(VideoError, match="out.mp4 exists already"):
        render_job("bundle", "video.mp4", tmp_path / "out.mp4")
    with pytest.raises(VideoError, match="other_compare.mp4 exists already"):
        render_job("bundle", "video.mp4", tmp_path / "other.mp4", compare=True)
    with pytest.raises(VideoError, match="other_compare.mp4 exists already"):
        plan_render("bundle", "v.mp4", tmp_path / "other.mp4", RenderConfig(), compare=True)
    (tmp_path / "told.provenance.json").touch()
    with pytest.raises(VideoError, match="told.provenance.json exists already"):
        plan_render("bundle", "v.mp4", tmp_path / "told.mp4", RenderConfig(provenance=True))


def test_the_comparison_says_what_it_is_too(tmp_path, red_squares):
    clip, bundle = tmp_path / "in.mp4", tmp_path / "bundle"
    moving_square_clip(clip, 12)
    conditioning = encode_conditioning(ConditioningConfig(size=64))
    export_puppet(bundle, repeat_drawing, size=64, conditioning=conditioning)
    for told in (True, False):
        output = tmp_path / f"{told}.mp4"
        config = RenderConfig(provenance=told, engine=EngineConfig(name="tensorflow"))
        summary = render_job(bundle, clip, output, config, compare=True)
        with av.open(summary["compare"]) as container:
            assert ("synthetic" in container.metadata.get("comment", "")) == told
    choice = summary["engine_choice"]
    assert (choice["engine"], choice["reason"]) == ("tensorflow", "given")


def test_a_plan_checks_bundle_and_video(tmp_path):
    with pytest.raises(VideoError, match="must end in one of"):
        plan_render("bundle", "video.mp4", tmp_path / "out.txt", RenderConfig())
    with pytest.raises(BundleError, match="bundle"):
        plan_render(tmp_path, "video.mp4", tmp_path / "out.mp4", RenderConfig())


def test_a_plan_of_a_real_render(tmp_path, media_dir):
    bundle = tmp_path / "bundle"
    export_puppet(bundle, repeat_drawing, size=32)
    clip = media_dir / "clips" / "d18.mp4"
    plan = plan_render(bundle, clip, tmp_path / "out.mp4", RenderConfig(), compare=True)
    assert (plan["frames"], plan["fps"], plan["audio"]) == (216, 30.0, True)
    assert plan["compare"].endswith("out_compare.mp4")
    assert plan["provenance"] is None
    told = RenderConfig(provenance=True)
    plan = plan_render(bundle, clip, tmp_path / "out.mp4", told)
    assert plan["provenance"] == str(tmp_path / "out.provenance.json")
    full = plan_render(bundle, clip, tmp_path / "out.mp4", RenderConfig(output="full_frame"))
    assert (full["width"], full["height"]) == (480, 480)
    with pytest.raises((ConfigError, VideoError), match="is the source video|exists already"):
        plan_render(bundle, clip, clip, RenderConfig())
