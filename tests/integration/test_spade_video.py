"""The whole job of system 0, from two clips to a video."""

import pytest

from facegan.errors import VideoError
from facegan.jobs.spade_video import SpadeVideoConfig, spade_video
from facegan.video.reader import VideoReader, probe_clip

TINY = (
    'recipe.generator={"kind": "spade", "image_size": 64, "base_width": 1, "hidden_width": 4, '
    '"norm": "instance"}',
    'recipe.discriminator={"kind": "spade_multiscale", "image_size": 64, "base_width": 4, '
    '"num_layers": 2}',
    'train.precision="float32"',
)


@pytest.fixture
def config(clips, tmp_path):
    return SpadeVideoConfig(
        style=str(clips["hopper"]),
        content=str(clips["collins"]),
        output=str(tmp_path / "out.mp4"),
        size=64,
        steps=2,
        max_frames=12,
        holdout=0.25,
        overrides=TINY,
    )


@pytest.mark.slow
def test_the_whole_job(config):
    result = spade_video(config)
    out, content = probe_clip(config.output), probe_clip(config.content)
    assert (out.width, out.height) == (64, 64)
    assert result["frames"] == out.num_frames == content.num_frames
    assert result["audio"] is content.has_audio
    scores = result["holdout"]["segmentation"]
    assert 0 <= scores["mean_iou"] <= scores["pixel_accuracy"] <= 1
    assert scores["pixel_accuracy"] <= 1 and "skin" in scores["iou"]
    # Behind the head there is snow, whatever two steps have learnt.
    with VideoReader(config.output) as reader:
        corner = next(iter(reader)).image[:4, :4].mean(axis=(0, 1))
    assert abs(corner - (255, 250, 250)).max() < 12
    # What was learnt is kept: another call finds everything done and says what is in the way.
    with pytest.raises(VideoError):
        spade_video(config)
    again = spade_video(config, overwrite=True)
    assert again["holdout"] == result["holdout"]
