import numpy as np
import pytest

from facegan.datasets import examples
from facegan.datasets.transforms import Augmentation
from facegan.errors import DataError
from facegan.face.conditioning import ConditioningConfig, LandmarkConditioner
from facegan.face.landmarks import FLIP_ORDER, MEAN_SHAPE
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


def _marked(size=64):
    """A picture with a white dot at the tip of the nose, and a face that is not symmetric."""
    landmarks = (MEAN_SHAPE * 0.5 + (0.3, 0.2)) * size
    landmarks[30] = (size * 0.5 - 9, size * 0.5 + 4)
    image = np.zeros((size, size, 3), np.uint8)
    image[int(landmarks[30, 1]), int(landmarks[30, 0])] = 255
    record = {"image": encode_picture(image), "landmarks_xy_px": landmarks.astype(np.float32)}
    return landmarks, record


def _brightest(image):
    y, x = np.indices(image.shape[:2])
    weight = image[..., 0].astype(float)
    return (x * weight).sum() / weight.sum(), (y * weight).sum() / weight.sum()


def test_a_picture_brings_its_landmarks_where_asked_for():
    landmarks, record = _marked()
    maker = examples.PictureExample(64, landmarks=True)
    assert maker.fields == ("image", "landmarks_xy_px")
    made = maker(record, Augmentation())
    assert {k: (v.shape, v.dtype.type) for k, v in made.items()} == maker.outputs
    np.testing.assert_allclose(made["landmarks_xy_px"], landmarks, atol=1e-5)
    both = examples.PictureExample(64, domain=True, landmarks=True)
    assert both.fields == ("image", "domain", "landmarks_xy_px")
    made = both({**record, "domain": np.int64(1)}, Augmentation())
    assert {k: (v.shape, v.dtype.type) for k, v in made.items()} == both.outputs
    assert examples.PictureExample(64).fields == ("image",)


def test_a_flip_swaps_the_sides_of_a_face():
    landmarks, record = _marked()
    maker = examples.PictureExample(64, landmarks=True)
    made = maker(record, Augmentation(flip=True))
    expected = landmarks[FLIP_ORDER]
    expected[:, 0] = 63 - expected[:, 0]
    np.testing.assert_allclose(made["landmarks_xy_px"], expected, atol=1e-4)
    np.testing.assert_allclose(_brightest(made["image"]), expected[30], atol=1e-4)
    # The person's right eye stands at the left still.
    assert made["landmarks_xy_px"][36:42, 0].max() < made["landmarks_xy_px"][42:48, 0].min()


@pytest.mark.parametrize("size", [64, 32])
def test_a_pictures_landmarks_move_with_it(size):
    _, record = _marked()
    change = Augmentation(shift_xy=(0.1, -0.05), scale=1.2, rotation_deg=20, flip=True)
    made = examples.PictureExample(size, landmarks=True)(record, change)
    assert made["image"].shape == (size, size, 3)
    seen = _brightest(made["image"])
    np.testing.assert_allclose(seen, made["landmarks_xy_px"][30], atol=0.2)
    alone = examples.PictureExample(size)(record, change)
    np.testing.assert_array_equal(alone["image"], made["image"])


def test_absent_landmarks_stay_absent():
    record = {**_record()[2], "landmarks_xy_px": np.full((68, 2), np.nan, np.float32)}
    moved = Augmentation(flip=True, scale=1.1, warp=0.02, landmark_jitter=0.01)
    for change in (Augmentation(), moved):
        for size in (64, 32):
            made = examples.PictureExample(size, landmarks=True)(record, change)
            assert made["landmarks_xy_px"].dtype == np.float32
            assert np.isnan(made["landmarks_xy_px"]).all()
            assert made["image"].shape == (size, size, 3)


@pytest.mark.parametrize("data", [b"", b"junk", encode_picture(np.zeros((8, 8, 3), np.uint8))[:50]])
def test_damaged_pictures_are_an_error_of_the_data(data):
    with pytest.raises(DataError, match=f"picture of {len(data)} bytes cannot be decoded"):
        examples.PictureExample(8)({"image": data}, Augmentation())
