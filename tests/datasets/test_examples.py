import numpy as np

from facegan.datasets import examples
from facegan.datasets.transforms import Augmentation
from facegan.face.conditioning import Conditioner, ConditioningConfig
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
    np.testing.assert_array_equal(made["condition"], Conditioner(CONFIG)(landmarks)["condition"])


def test_outputs_are_as_declared():
    maker = examples.LandmarkExample(CONFIG)
    made = maker(_record(128)[2], Augmentation(shift_xy=(0.1, 0.0)))
    assert {k: (v.shape, v.dtype.type) for k, v in made.items()} == maker.outputs


def test_picture_and_drawing_move_together():
    image = np.zeros((64, 64, 3), np.uint8)
    landmarks = (MEAN_SHAPE * 0.5 + 0.25) * 64
    image[:] = Conditioner(CONFIG)(landmarks)["condition"]  # the picture is its own drawing
    record = {"image": encode_picture(image), "landmarks_xy_px": landmarks}
    made = examples.LandmarkExample(CONFIG)(
        record, Augmentation(shift_xy=(0.1, -0.05), scale=1.1, rotation_deg=10)
    )
    a, b = (made[name][..., 0].astype(float).ravel() for name in ("image", "condition"))
    still = image[..., 0].astype(float).ravel()
    assert np.corrcoef(a, b)[0, 1] > 0.9
    assert np.corrcoef(still, b)[0, 1] < 0.6
