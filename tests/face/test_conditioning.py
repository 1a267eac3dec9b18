"""The conditioning document and what it draws."""

import json

import numpy as np
import pytest

from facegan.errors import ConfigError
from facegan.face.conditioning import (
    ConditioningConfig,
    LandmarkConditioner,
    decode_conditioning,
    encode_conditioning,
)
from facegan.face.landmarks import MEAN_SHAPE
from facegan.face.raster import DrawingConfig, draw_landmarks


def test_document_round_trip():
    config = ConditioningConfig(size=128, drawing=DrawingConfig(line_width=3.0, colours="groups"))
    document = json.loads(json.dumps(encode_conditioning(config)))
    assert document["kind"] == "landmark_drawing" and document["version"] == 1
    assert decode_conditioning(document) == config


@pytest.mark.parametrize(
    "change", [{"kind": "iris_map"}, {"version": 2}, {"kind": None}, {"version": None}]
)
def test_unknown_kind_or_version_names_the_known_ones(change):
    document = {**encode_conditioning(ConditioningConfig()), **change}
    with pytest.raises(ConfigError, match=r"landmark_drawing \(version 1\)"):
        decode_conditioning(document)


def test_wrong_documents_are_refused():
    document = encode_conditioning(ConditioningConfig())
    with pytest.raises(ConfigError, match="line_width"):
        decode_conditioning({**document, "drawing": {"line_widht": 2.0}})
    with pytest.raises(ConfigError, match="power of two"):
        decode_conditioning({**document, "size": 200})
    with pytest.raises(ConfigError, match="object"):
        decode_conditioning([])


def test_conditioner_draws_at_its_size():
    config = ConditioningConfig(size=64, drawing=DrawingConfig(colours="groups"))
    conditioner = LandmarkConditioner(config)
    arrays = conditioner(MEAN_SHAPE * 40 + 12)
    assert tuple(arrays) == conditioner.inputs
    expected = draw_landmarks(MEAN_SHAPE * 40 + 12, 64, config.drawing)
    np.testing.assert_array_equal(arrays["condition"], expected)
