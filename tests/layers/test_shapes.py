import numpy as np
import pytest

from facegan.errors import ConfigError
from facegan.layers.shapes import require_images


def test_tensors_and_shapes_are_let_through():
    require_images("Net", {"image": np.zeros((1, 8, 4, 3))}, "image", 3, multiple_of=4)
    require_images("Net", {"image": (None, None, None, 3)}, "image", 3, multiple_of=4)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"picture": (1, 8, 8, 3)}, "key 'image', got picture"),
        ((1, 8, 8, 3), "key 'image', got tuple"),
        ({"image": (1, 8, 8)}, r"\[B, H, W, 3\], got \[1, 8, 8\]"),
        ({"image": (1, 8, 8, 4)}, r"got \[1, 8, 8, 4\]"),
        ({"image": (1, 8, 6, 3)}, "multiples of 4, got 8x6"),
        ({"image": (1, None, 6, 3)}, "multiples of 4"),
    ],
)
def test_what_does_not_fit_is_named(inputs, message):
    with pytest.raises(ConfigError, match=message):
        require_images("Net", inputs, "image", 3, multiple_of=4)
