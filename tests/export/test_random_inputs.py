"""Random inputs for a signature."""

import numpy as np

from facegan import image as image_lib
from facegan.bundle import TensorSpec
from facegan.export.random_inputs import sample_inputs, settle_shape


def test_sample_inputs_follow_the_specs():
    specs = (
        TensorSpec(name="image", shape=(None, None, None, 3)),
        TensorSpec(name="labels", shape=(None, 8), dtype="int32", value_range=(0, 18)),
        TensorSpec(name="style", shape=(None, 16), value_range=None),
        TensorSpec(name="weight", shape=(None, 2), value_range=(0.0, 0.5)),
    )
    arrays = sample_inputs(specs, 4, free_size=12, seed=1)
    assert arrays["image"].shape == (4, 12, 12, 3)
    np.testing.assert_array_equal(
        image_lib.to_float(image_lib.to_uint8(arrays["image"])), arrays["image"]
    )
    assert arrays["labels"].dtype == np.int32
    assert set(np.unique(arrays["labels"])) <= set(range(19))
    assert arrays["style"].dtype == np.float32
    assert arrays["weight"].min() >= 0 and arrays["weight"].max() <= 0.5
    again = sample_inputs(specs, 4, free_size=12, seed=1)
    np.testing.assert_array_equal(arrays["style"], again["style"])


def test_free_height_and_width_of_pictures_and_maps():
    picture = TensorSpec(name="image", shape=(None, None, None, 3))
    ids = TensorSpec(name="ids", shape=(None, None, 24), dtype="uint8", value_range=(0, 4))
    shots = TensorSpec(name="shots", shape=(None, None, 16, 16, 3))
    settled = [settle_shape(s, 2, free_size=5, free_hw=(32, 48)) for s in (picture, ids, shots)]
    assert settled == [(2, 32, 48, 3), (2, 32, 24), (2, 5, 16, 16, 3)]
