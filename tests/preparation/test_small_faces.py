import numpy as np

from facegan.face.landmarks import DetectorConfig
from facegan.image import resize
from facegan.preparation.faces import find_largest_face
from facegan.preparation.small_faces import find_small_face
from facegan.samples import sample_portrait


def test_faces_are_found_in_pictures_too_small_for_a_detector():
    picture = sample_portrait("collins")
    small = resize(picture, 64, 64)
    assert find_largest_face(small, DetectorConfig()) is None
    face = find_small_face(small, DetectorConfig())
    assert face.image.shape == (256, 256, 3)
    whole = find_small_face(picture, DetectorConfig()).resize(256, 256)
    # Of the distance between the eyes' corners, some 80 pixels here.
    apart = np.linalg.norm(face.landmarks_xy_px - whole.landmarks_xy_px, axis=1)
    assert apart.mean() < 8


def test_larger_pictures_are_searched_as_they_are():
    picture = np.zeros((300, 400, 3), np.uint8)
    assert find_small_face(picture, DetectorConfig()) is None
    face = find_small_face(
        np.pad(sample_portrait("hopper"), ((0, 0), (0, 90), (0, 0))), DetectorConfig()
    )
    height = sample_portrait("hopper").shape[0]
    scale = max(1, 256 / height)
    assert face.image.shape == (round(scale * height), round(scale * (height + 90)), 3)
    half = face.resize(*(side // 2 for side in face.image.shape[:2]))
    np.testing.assert_allclose(
        half.landmarks_xy_px.mean(axis=0), face.landmarks_xy_px.mean(axis=0) / 2, atol=1
    )
