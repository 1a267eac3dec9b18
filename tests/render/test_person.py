import types

import numpy as np
import pytest

from facegan.bundle import Manifest, TensorSpec
from facegan.errors import ConfigError
from facegan.face.align import CropConfig
from facegan.face.conditioning import ConditioningConfig, LandmarkConditioner
from facegan.face.landmarks import DetectorConfig
from facegan.image import encode_picture
from facegan.render.opened import FolderBundle
from facegan.render.person import EMBEDDING, STYLE_IMAGE, read_person

# Portraits and the embedder: tests/integration/test_talking_head.py.


def read(names=(), style_image=None, portraits=()):
    shapes = {STYLE_IMAGE: (None, 16, 16, 3), EMBEDDING: (None, 8)}
    condition = TensorSpec(name="condition", shape=(None, 32, 32, 3))
    inputs = (condition, *(TensorSpec(name=name, shape=shapes[name]) for name in names))
    manifest = Manifest(
        model="toy", facegan_version="0", inputs=inputs, outputs=(condition,), image_size=32
    )
    return read_person(
        FolderBundle("bundle", engine=types.SimpleNamespace(manifest=manifest)),
        LandmarkConditioner(ConditioningConfig(size=32)),
        style_image=style_image,
        portraits=portraits,
        crop=CropConfig(),
        detector=DetectorConfig(),
    )


def test_a_model_of_one_person_needs_nothing():
    person = read()
    assert person.constants == {} and person.geometry is None and person.fingerprints == ()


def test_a_style_picture_is_cut_square_from_its_middle(tmp_path):
    picture = np.zeros((20, 32, 3), np.uint8)
    picture[:, 6:26] = (200, 100, 50)
    (tmp_path / "a.png").write_bytes(encode_picture(picture))
    person = read([STYLE_IMAGE], style_image=str(tmp_path / "a.png"))
    style = person.constants[STYLE_IMAGE]
    assert style.shape == (16, 16, 3) and (style == (200, 100, 50)).all()
    assert len(person.fingerprints) == 1


def test_what_is_missing_or_of_no_use_is_named(tmp_path):
    with pytest.raises(ConfigError, match="takes a style from a picture; name it with style_im"):
        read([STYLE_IMAGE])
    with pytest.raises(ConfigError, match="a person from portraits; name it with portraits"):
        read([EMBEDDING])
    with pytest.raises(ConfigError, match="style_image is for models.*'toy' does not"):
        read(style_image="a.png")
    with pytest.raises(ConfigError, match="portraits is for models.*'toy' does not"):
        read(portraits=("a.png",))
    with pytest.raises(ConfigError, match="Cannot read .*none.png"):
        read([STYLE_IMAGE], style_image=str(tmp_path / "none.png"))
