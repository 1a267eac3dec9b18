import numpy as np

from facegan.face.landmarks import DetectorConfig
from facegan.image import read_image
from facegan.preparation.faces import describe_face, find_largest_face


def test_the_largest_face_is_found_and_described(media_dir):
    image = read_image(sorted((media_dir / "portraits" / "female").iterdir())[0])[::2, ::2]
    image = np.ascontiguousarray(image)
    face = find_largest_face(image, DetectorConfig())
    assert face.landmarks_xy_px.shape == (68, 2)
    assert describe_face(image, face).shape == (128,)
    assert find_largest_face(np.zeros((64, 64, 3), np.uint8), DetectorConfig()) is None
