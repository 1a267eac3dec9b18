import numpy as np
import pytest

from facegan.training.perceptual_term import pyramid_term


def test_it_tells_images_apart_once_it_is_prepared(caplog):
    term = pyramid_term("random")
    rng = np.random.default_rng(0)
    image, other = (rng.uniform(-1, 1, (1, 32, 32, 3)).astype(np.float32) for _ in range(2))
    with pytest.raises(RuntimeError, match="prepared"):
        term(image, image)
    term.prepare("float32")
    assert "random stand-in" in caplog.text
    assert float(term(image, image)) == 0
    with pytest.raises(RuntimeError, match="prepared"):
        pyramid_term("random").describe(image)
    near = np.clip(image + 0.05 * other, -1, 1)
    assert 0 < float(term(near, image)) < float(term(other, image))
    # Maps that are found once are compared with as many pictures as there are.
    maps = term.describe(image)
    assert len(maps) == 5 and maps[0].shape == (1, 32, 32, 64)
    for picture in (near, other):
        assert float(term.compare(picture, maps)) == float(term(picture, image))
