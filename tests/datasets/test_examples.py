import numpy as np
import pytest

from facegan.datasets import examples
from facegan.datasets.transforms import Augmentation
from facegan.errors import DataError
from facegan.face.conditioning import ConditioningConfig, LandmarkConditioner
from facegan.face.landmarks import MEAN_SHAPE
from facegan.image import encode_picture

CONFIG = ConditioningConfig(size=64)


def _record(size=64):
    image = np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)
    landmarks = (MEAN_SHAPE * 0.6 + 0.2) * size
    return image, landmarks, {"image": encode_picture(image), "landmarks_xy_px": landmarks}


def test_condition_is_what_rendering_draws():
    image, landmarks, record = _record()
    made = examples.LandmarkExample(CONFIG)(record, Augmentation())
    np.testing.assert_array_equal(made["image"], image)
    drawn = LandmarkConditioner(CONFIG)(landmarks)["condition"]
    np.testing.assert_array_equal(made["condition"], drawn)


def test_outputs_are_as_declared():
    maker = examples.LandmarkExample(CONFIG)
    made = maker(_record(128)[2], Augmentation(shift_xy=(0.1, 0.0)))
    assert {k: (v.shape, v.dtype.type) for k, v in made.items()} == maker.outputs


def test_picture_and_drawing_move_together():
    image = np.zeros((64, 64, 3), np.uint8)
    landmarks = (MEAN_SHAPE * 0.5 + 0.25) * 64
    image[:] = LandmarkConditioner(CONFIG)(landmarks)["condition"]  # the picture is its own drawing
    record = {"image": encode_picture(image), "landmarks_xy_px": landmarks}
    made = examples.LandmarkExample(CONFIG)(
        record, Augmentation(shift_xy=(0.1, -0.05), scale=1.1, rotation_deg=10)
    )
    a, b = (made[name][..., 0].astype(float).ravel() for name in ("image", "condition"))
    still = image[..., 0].astype(float).ravel()
    assert np.corrcoef(a, b)[0, 1] > 0.9
    assert np.corrcoef(still, b)[0, 1] < 0.6


def test_a_picture_alone_is_moved_and_reduced():
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    record = {"image": encode_picture(image)}
    maker = examples.PictureExample(32)
    made = maker(record, Augmentation(flip=True))
    assert {k: (v.shape, v.dtype.type) for k, v in made.items()} == maker.outputs
    blocks = image[:, ::-1].reshape(32, 2, 32, 2, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(made["image"], blocks, atol=0.51)


def test_a_picture_brings_its_domain_where_asked_for():
    maker = examples.PictureExample(64, domain=True)
    made = maker({**_record()[2], "domain": np.int64(3)}, Augmentation())
    assert {k: (v.shape, v.dtype.type) for k, v in made.items()} == maker.outputs
    assert made["domain"] == 3


@pytest.mark.parametrize("data", [b"", b"junk", encode_picture(np.zeros((8, 8, 3), np.uint8))[:50]])
def test_damaged_pictures_are_an_error_of_the_data(data):
    with pytest.raises(DataError, match=f"picture of {len(data)} bytes cannot be decoded"):
        examples.PictureExample(8)({"image": data}, Augmentation())
