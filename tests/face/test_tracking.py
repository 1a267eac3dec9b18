"""Tracks of several people."""

import json

import cv2
import numpy as np
import pytest

from facegan.errors import ConfigError
from facegan.face.identity import IdentityModel
from facegan.face.landmarks import MEAN_SHAPE, interocular_px
from facegan.face.tracking import FaceTracker, TrackerConfig, match_boxes, overlap, strain


def still(x=100, y=80, side=90):
    return lambda n: (x, y, side)


def follow(tracker, scene, numbers):
    return [tracker.update(scene.image(n)) for n in numbers]


def test_searches_every_nth_frame_only(make_scene):
    scene = make_scene([still()])
    faces = follow(FaceTracker(scene, TrackerConfig(detect_every=8)), scene, range(30))
    assert scene.searches == [0, 8, 16, 24]
    assert [sorted(f) for f in faces] == [[0]] * 30


def test_two_people_keep_their_ids_while_passing(make_scene):
    scene = make_scene([lambda n: (20 + 4 * n, 60, 80), lambda n: (200 - 4 * n, 170, 70)])
    faces = follow(FaceTracker(scene), scene, range(40))
    for number, found in enumerate(faces):
        truth = scene.truth(number)
        for person in (0, 1):
            np.testing.assert_array_equal(
                found[person].landmarks_xy_px, truth[person].landmarks_xy_px
            )


def test_a_newcomer_gets_a_new_id_at_the_next_search(make_scene):
    scene = make_scene([still(20, 20), lambda n: (200, 180, 90) if n >= 12 else None])
    faces = follow(FaceTracker(scene, TrackerConfig(detect_every=5)), scene, range(20))
    assert [sorted(f) for f in faces] == [[0]] * 15 + [[0, 1]] * 5


def test_a_missed_search_does_not_lose_a_face_that_landmarks_follow(make_scene):
    scene = make_scene([still()])
    scene.blind = {10, 13}
    faces = follow(FaceTracker(scene), scene, range(25))
    assert all(0 in f for f in faces)
    # After a miss the search comes sooner, until the face is confirmed.
    assert scene.searches == [0, 10, 13, 16]


def test_a_face_that_left_is_given_up_and_found_again_in_its_place(make_scene):
    scene = make_scene([lambda n: (100, 80, 90) if n < 12 or n >= 40 else None])
    config = TrackerConfig(detect_every=10, retry_every=3, max_misses=1, lost_after=60)
    faces = follow(FaceTracker(scene, config), scene, range(60))
    present = np.array([0 in f for f in faces])
    assert present[:12].all() and not present[25:40].any() and present[43:].all()
    assert all(set(f) <= {0} for f in faces)


def test_lost_tracks_time_out(make_scene):
    scene = make_scene([lambda n: (100, 80, 90) if n < 5 or n >= 60 else None])
    config = TrackerConfig(detect_every=3, max_misses=0, lost_after=20)
    faces = follow(FaceTracker(scene, config), scene, range(70))
    assert set(faces[0]) == {0} and set(faces[-1]) == {1}


def test_descriptors_bring_back_the_old_id(make_scene):
    # The person comes back elsewhere, long after the track was closed; another one does not.
    scene = make_scene(
        [
            lambda n: (20, 20, 90) if n < 5 else (200, 180, 90) if 60 <= n < 80 else None,
            lambda n: (100, 20, 60) if n >= 90 else None,
        ]
    )

    def describe(image, landmarks):
        side = np.ptp(landmarks[:, 0])
        return np.full(4, 0.0 if side > 70 else 1.0, np.float32)

    config = TrackerConfig(detect_every=3, max_misses=0, lost_after=20)
    tracker = FaceTracker(scene, config, describe)
    faces = follow(tracker, scene, range(100))
    assert set(faces[0]) == {0} and set(faces[70]) == {0} and set(faces[-1]) == {1}
    again = FaceTracker(scene, config, describe)
    again.restore(json.loads(json.dumps(tracker.state())))
    assert again.state() == tracker.state()


def test_a_cut_forces_a_search(make_scene):
    scene = make_scene([lambda n: (20, 20, 80) if n < 13 else (180, 190, 80)])
    images = [scene.image(n) for n in range(20)]
    for n in range(13, 20):
        images[n][1:] = 200
    tracker = FaceTracker(scene)
    faces = [tracker.update(image) for image in images]
    assert scene.searches == [0, 10, 13]
    truth = scene.truth(13)[0].landmarks_xy_px
    (found,) = faces[13].values()
    np.testing.assert_array_equal(found.landmarks_xy_px, truth)


def test_people_are_told_apart_across_cuts(read_clip, dlib_detector):
    woman = read_clip("d10", 12, every=3)
    man = [cv2.resize(image, (512, 512)) for image in read_clip("d18", 6)]
    tracker = FaceTracker(dlib_detector, describe=IdentityModel().describe)
    seen = [list(tracker.update(image)) for image in [*woman[:6], *man, *woman[6:]]]
    assert seen == [[0]] * 6 + [[1]] * 6 + [[0]] * 6


def test_two_real_people_in_one_frame(read_clip, dlib_detector):
    left = read_clip("d10", 15)
    right = [cv2.resize(image, (400, 400)) for image in read_clip("d18", 15)]
    tracker = FaceTracker(dlib_detector)
    for a, b in zip(left, right, strict=True):
        frame = np.zeros((512, 912, 3), np.uint8)
        frame[:, :512], frame[50:450, 512:] = a, b
        faces = tracker.update(frame)
        assert sorted(faces) == [0, 1]
        assert faces[0].landmarks_xy_px[:, 0].max() < 512 < faces[1].landmarks_xy_px[:, 0].min()


def test_drift_is_corrected_by_the_search(make_scene):
    scene = make_scene([still()])
    honest = scene.refine

    def drifting(image, box):
        face = honest(image, box)
        face.landmarks_xy_px[...] += 12.0
        return face

    scene.refine = drifting
    faces = follow(FaceTracker(scene, TrackerConfig(detect_every=5)), scene, range(6))
    truth = scene.truth(0)[0].landmarks_xy_px
    assert np.abs(faces[4][0].landmarks_xy_px - truth).max() == pytest.approx(12.0, abs=1e-3)
    np.testing.assert_array_equal(faces[5][0].landmarks_xy_px, truth)


def test_state_goes_on_exactly(make_scene):
    people = [
        lambda n: (20 + 3 * n, 60 + np.sin(n), 80),
        lambda n: (200, 190, 70) if n % 30 < 20 else None,
    ]
    scene = make_scene(people)
    whole = follow(FaceTracker(scene), scene, range(60))
    for stop in (1, 7, 23, 31):
        first = FaceTracker(scene)
        follow(first, scene, range(stop))
        second = FaceTracker(scene)
        second.restore(json.loads(json.dumps(first.state())))
        for a, b in zip(whole[stop:], follow(second, scene, range(stop, 60)), strict=True):
            assert sorted(a) == sorted(b)
            for number in a:
                np.testing.assert_array_equal(a[number].landmarks_xy_px, b[number].landmarks_xy_px)
                assert a[number].score == b[number].score


def test_overlap_and_greedy_matching():
    a = np.array([0.0, 0.0, 10.0, 10.0])
    assert overlap(a, a) == 1.0
    assert overlap(a, a + 10) == 0.0
    assert overlap(a, a + (5, 0, 5, 0)) == pytest.approx(1 / 3)
    # Both tracks overlap the first box; the better one gets it.
    pairs = match_boxes({3: a + 4, 7: a}, [a + 1, a + 50], 0.25)
    assert pairs == {7: 0}
    assert match_boxes({3: a + 4, 7: a + 1}, [a, a + 4], 0.25) == {3: 1, 7: 0}
    assert match_boxes({}, [a], 0.25) == {}


def test_strain_tells_faces_from_scattered_points():
    rng = np.random.default_rng(0)
    assert strain(MEAN_SHAPE * 100 + 30) == pytest.approx(0.0, abs=1e-3)
    assert strain(rng.random((68, 2)) * 100) > 0.2


def test_config_is_checked():
    with pytest.raises(ConfigError, match="detect_every"):
        TrackerConfig(detect_every=0)
    with pytest.raises(ConfigError, match="match_overlap"):
        TrackerConfig(match_overlap=1.0)


@pytest.mark.parametrize("name", ["d18", "s18"])
def test_tracked_landmarks_agree_with_full_detection(name, read_clip, dlib_detector):
    images = read_clip(name, 45)
    tracker = FaceTracker(dlib_detector)
    tracked = [tracker.update(image) for image in images]
    assert [sorted(faces) for faces in tracked] == [[0]] * len(images)
    errors = []
    for index in range(9, len(images), 10):  # the frames just before a search
        (detected,) = dlib_detector.detect(images[index])
        apart = tracked[index][0].landmarks_xy_px - detected.landmarks_xy_px
        eyes = interocular_px(detected.landmarks_xy_px)
        errors.append(np.linalg.norm(apart, axis=1).mean() / eyes)
    assert max(errors) < 0.03


def test_a_moving_real_face_is_followed_between_searches(
    portrait, portrait_face, dlib_detector, shifted
):
    # 12 px a frame is an eighth of the face's box.
    tracker = FaceTracker(dlib_detector, TrackerConfig(detect_every=50))
    for step in range(12):
        found = tracker.update(shifted(portrait, 12 * step, 6 * step))
        truth = portrait_face.landmarks_xy_px + (12 * step, 6 * step)
        apart = np.linalg.norm(found[0].landmarks_xy_px - truth, axis=1).mean()
        assert apart < 0.05 * interocular_px(truth)
