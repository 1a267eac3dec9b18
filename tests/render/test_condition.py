"""Rendering models that are shown the regions of a face."""

import dataclasses

import cv2
import numpy as np
import pytest

from facegan.bundle import TensorSpec
from facegan.errors import BundleError, ConfigError
from facegan.face.conditioning import LabelMapConditioningConfig, encode_conditioning
from facegan.face.label_maps import colour_labels
from facegan.face.labels import CELEBAMASK19, PALETTES, encode_schema
from facegan.face.parsing import ParserConfig
from facegan.image import encode_picture
from facegan.render.pipeline import RenderConfig, render_video
from facegan.video.deflicker import DeflickerConfig
from facegan.video.label_deflicker import LabelDeflickerConfig
from facegan.video.reader import VideoReader
from tests.fake_face import (
    RedSquareDetector,
    drawing_manifest,
    moving_square_clip,
    read_clip,
)

SIZE = 64
PALETTE = PALETTES["celebamask19_dataset"]


class RegionsEngine:
    """Paints regions in their colours, so that a video shows what the network was shown."""

    name, precision = "regions", "float32"

    def __init__(self, background=None, style=False, stop_after=None):
        config = LabelMapConditioningConfig(
            size=SIZE, parser=ParserConfig(size=SIZE), background=background
        )
        inputs = (
            TensorSpec(
                name="label_map", shape=(None, SIZE, SIZE), dtype="uint8", value_range=(0, 18)
            ),
        )
        if style:
            inputs += (TensorSpec(name="style_image", shape=(None, 32, 32, 3)),)
        self.manifest = drawing_manifest(
            SIZE,
            model="regions",
            inputs=inputs,
            conditioning=encode_conditioning(config),
            labels=encode_schema(CELEBAMASK19),
            geometry=None,
        )
        self.shown, self.styles, self.stop_after = [], [], stop_after

    def generate(self, inputs):
        if self.stop_after is not None and len(self.shown) >= self.stop_after:
            raise KeyboardInterrupt
        self.shown.extend(inputs["label_map"])
        self.styles.extend(inputs.get("style_image", ()))
        return np.stack([colour_labels(label_map, PALETTE) for label_map in inputs["label_map"]])


def render(video, target, engine, **changes):
    settings = {
        "deflicker": DeflickerConfig(method="off"),
        "labels": LabelDeflickerConfig(method="off"),
        "crf": 0,
        "segment_frames": 8,
        **changes,
    }
    return render_video(
        "no bundle",
        video,
        target,
        RenderConfig(**settings),
        engine=engine,
        detector=RedSquareDetector(),
    )


def difference(a, b):
    return np.abs(a.astype(int) - b.astype(int)).mean()


def test_every_frame_is_made_of_its_own_regions(tmp_path):
    moving_square_clip(tmp_path / "in.mp4", 24)
    engine = RegionsEngine()
    summary = render(tmp_path / "in.mp4", tmp_path / "out.mp4", engine)
    pictures = read_clip(tmp_path / "out.mp4")[0]
    assert summary["frames"] == len(pictures) == len(engine.shown) == 24
    for picture, label_map in zip(pictures, engine.shown, strict=True):
        assert (
            difference(picture, colour_labels(label_map, PALETTE)) < 14
        )  # half the colours are kept
    # The face stands in the middle of each crop, with its parts.
    for label_map in engine.shown:
        assert {"skin", "nose", "l_eye", "r_eye"} <= {
            CELEBAMASK19.labels[i] for i in np.unique(label_map)
        }


def test_the_background_is_painted_where_the_regions_say(tmp_path):
    moving_square_clip(tmp_path / "in.mp4", 10)
    for engine, changes, colour in (
        (RegionsEngine(background=(255, 250, 250)), {}, (255, 250, 250)),
        (RegionsEngine(), {"background": (10, 200, 30)}, (10, 200, 30)),
    ):
        target = tmp_path / f"{colour[0]}.mp4"
        render(tmp_path / "in.mp4", target, engine, **changes)
        for picture, label_map in zip(read_clip(target)[0], engine.shown, strict=True):
            inner = cv2.erode((label_map == 0).astype(np.uint8), np.ones((5, 5))) > 0
            if inner.any():
                assert difference(picture[inner], np.array(colour)) < 8


def test_a_frame_without_a_face_holds_the_regions_of_another(tmp_path):
    missing = {0, 1, *range(9, 22)}  # a shorter gap is bridged
    moving_square_clip(tmp_path / "in.mp4", 30, missing=missing)
    engine = RegionsEngine()
    render(tmp_path / "in.mp4", tmp_path / "out.mp4", engine)
    shown = engine.shown
    assert len(shown) == 30
    for index, source in {0: 2, 1: 2, 9: 8, 15: 8, 21: 8}.items():
        np.testing.assert_array_equal(shown[index], shown[source])
    blank = RegionsEngine()
    render(tmp_path / "in.mp4", tmp_path / "blank.mp4", blank, missing_face="blank")
    assert len(blank.shown) == 30 - len(missing)
    assert read_clip(tmp_path / "blank.mp4")[0][10].max() < 10


@pytest.mark.parametrize("stop_after", [4, 13])
def test_a_stopped_render_goes_on_with_the_same_regions(tmp_path, stop_after):
    moving_square_clip(tmp_path / "in.mp4", 30, missing={15})
    steady = {"labels": LabelDeflickerConfig()}
    render(tmp_path / "in.mp4", tmp_path / "whole.mp4", RegionsEngine(), **steady)
    with pytest.raises(KeyboardInterrupt):
        render(
            tmp_path / "in.mp4",
            tmp_path / "out.mp4",
            RegionsEngine(stop_after=stop_after),
            **steady,
        )
    assert not (tmp_path / "out.mp4").exists()
    summary = render(tmp_path / "in.mp4", tmp_path / "out.mp4", RegionsEngine(), **steady)
    assert summary["frames"] == 30
    whole, again = (read_clip(tmp_path / f"{name}.mp4")[0] for name in ("whole", "out"))
    for index, (first, second) in enumerate(zip(whole, again, strict=True)):
        assert difference(first, second) < 1, index


def test_one_style_picture_goes_with_every_frame(tmp_path):
    moving_square_clip(tmp_path / "in.mp4", 6)
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[:, 10:50] = (200, 30, 60)  # the middle square
    (tmp_path / "style.png").write_bytes(encode_picture(picture))
    engine = RegionsEngine(style=True)
    style = str(tmp_path / "style.png")
    render(tmp_path / "in.mp4", tmp_path / "out.mp4", engine, style_image=style)
    assert len(engine.styles) == 6
    for shown in engine.styles:
        np.testing.assert_array_equal(shown, np.full((32, 32, 3), (200, 30, 60), np.uint8))


def test_what_a_model_has_no_use_for_is_refused(tmp_path):
    moving_square_clip(tmp_path / "in.mp4", 4)
    out = tmp_path / "out.mp4"
    with pytest.raises(ConfigError, match="style_image is for models that take a style"):
        render(tmp_path / "in.mp4", out, RegionsEngine(), style_image="x.png")
    with pytest.raises(ConfigError, match="takes a style from a picture; name it"):
        render(tmp_path / "in.mp4", out, RegionsEngine(style=True))
    with pytest.raises(ConfigError, match="Cannot read .*x.png"):
        render(tmp_path / "in.mp4", out, RegionsEngine(style=True), style_image="x.png")
    drawing = RegionsEngine()
    drawing.manifest = drawing_manifest(SIZE)
    with pytest.raises(ConfigError, match="rules is for models that are shown the regions"):
        render(tmp_path / "in.mp4", out, drawing, rules="rules.json")
    with pytest.raises(ConfigError, match="needs no face parser"):
        render(tmp_path / "in.mp4", out, drawing, parser=ParserConfig())
    picture = RegionsEngine()
    document = {"kind": "picture", "version": 1, "size": SIZE, "schema": "celebamask19"}
    picture.manifest = dataclasses.replace(picture.manifest, conditioning=document)
    with pytest.raises(ConfigError, match="makes no face video"):
        render(tmp_path / "in.mp4", out, picture)
    other = RegionsEngine()
    inputs = (TensorSpec(name="labels", shape=(None, SIZE, SIZE), dtype="uint8"),)
    other.manifest = dataclasses.replace(other.manifest, inputs=inputs)
    with pytest.raises(BundleError, match="takes the inputs labels, but its conditioning makes"):
        render(tmp_path / "in.mp4", out, other)


def test_parsed_frames_are_the_clip_s(tmp_path):
    """The picture that is parsed is the crop of the very frame, not of a neighbour."""
    pictures = moving_square_clip(tmp_path / "in.mp4", 12)
    assert pictures is not None
    engine = RegionsEngine()
    render(tmp_path / "in.mp4", tmp_path / "out.mp4", engine)
    with VideoReader(tmp_path / "in.mp4") as reader:
        frames = [frame.image for frame in reader]
    reds = [np.argwhere(f[..., 0].astype(int) - f[..., 1] > 100).mean(axis=0) for f in frames]
    assert np.ptp([red[1] for red in reds]) > 5  # the face moves in the frame ...
    centres = [np.argwhere(m == CELEBAMASK19.index("nose")).mean(axis=0) for m in engine.shown]
    assert np.ptp([c[1] for c in centres]) < 12  # ... and its crop goes with it
