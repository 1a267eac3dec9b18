import numpy as np
import pytest

from facegan.face.landmarks import MEAN_SHAPE, DetectorConfig, Face, box_from_landmarks
from facegan.image import read_image
from facegan.preparation.faces import describe_face, find_largest_face, require_one_face
from facegan.preparation.items import Rejected


def test_the_largest_face_is_found_and_described(media_dir):
    image = read_image(sorted((media_dir / "portraits" / "female").iterdir())[0])[::2, ::2]
    image = np.ascontiguousarray(image)
    face = find_largest_face(image, DetectorConfig())
    assert face.landmarks_xy_px.shape == (68, 2)
    assert describe_face(image, face).shape == (128,)
    assert find_largest_face(np.zeros((64, 64, 3), np.uint8), DetectorConfig()) is None


@pytest.mark.parametrize(("count", "reason"), [(0, "no_face"), (1, None), (2, "several_faces")])
def test_one_face_is_required_by_name(count, reason):
    faces = [Face(MEAN_SHAPE, box_from_landmarks(MEAN_SHAPE), 1.0)] * count
    if reason is None:
        require_one_face(faces, "a.png")
        return
    with pytest.raises(Rejected, match="found in a.png") as caught:
        require_one_face(faces, "a.png")
    assert caught.value.reason == reason
