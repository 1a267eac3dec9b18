import numpy as np
import pytest

from facegan.errors import ConfigError, DataError, VideoError
from facegan.face.align import CropConfig
from facegan.preparation import face_clips
from facegan.preparation.face_clips import FaceClipConfig
from facegan.preparation.items import Rejected
from tests.two_discs import HalvesDetector, two_discs

SIZE = 64


class NeverAsked:
    def detect(self, image):
        raise AssertionError("faces were searched for again")

    refine = detect


def _open(path, tmp_path, detector, **kwargs):
    config = FaceClipConfig(crop=CropConfig(mode="face", scale=1.5), **kwargs)
    return face_clips.open_face_clip(path, config, tmp_path / "work", detector=detector)


def _disc_centre(image):
    y, x = np.nonzero((image[..., 0].astype(int) - image[..., 1]) > 80)
    return np.array([x.mean(), y.mean()])


def test_crops_hold_the_face_where_the_landmarks_say(
    write_disc_clip, moving_frames, disc_detector, tmp_path
):
    clip = _open(write_disc_clip(moving_frames), tmp_path, disc_detector)
    assert len(clip) == 30 and clip.found.all() and clip.name == "clip"
    wanted = np.array([0, 7, 8, 29])
    crops = list(face_clips.read_crops(clip, wanted, SIZE))
    assert [crop.index for crop in crops] == list(wanted)
    assert [crop.time_s for crop in crops] == pytest.approx(list(wanted / 25))
    every = clip.crop_landmarks(SIZE)
    for crop in crops:
        assert crop.image.shape == (SIZE, SIZE, 3)
        np.testing.assert_allclose(
            crop.landmarks_xy_px.mean(axis=0), _disc_centre(crop.image), atol=1.5
        )
        np.testing.assert_allclose(crop.landmarks_xy_px, every[crop.index], atol=1e-3)


def test_a_second_opening_reads_what_the_first_found(
    write_disc_clip, moving_frames, disc_detector, tmp_path
):
    path = write_disc_clip(moving_frames)
    first = _open(path, tmp_path, disc_detector)
    second = _open(path, tmp_path, NeverAsked())
    np.testing.assert_array_equal(first.landmarks_xy_px, second.landmarks_xy_px)


def test_other_settings_of_the_detector_search_again(
    write_disc_clip, moving_frames, disc_detector, tmp_path
):
    from facegan.face.tracking import TrackerConfig

    path = write_disc_clip(moving_frames)
    _open(path, tmp_path, disc_detector)
    before = disc_detector.calls
    _open(path, tmp_path, disc_detector, tracker=TrackerConfig(detect_every=5))
    assert disc_detector.calls > before


def test_frames_without_a_face_are_known(
    write_disc_clip, moving_frames, frame_maker, disc_detector, tmp_path
):
    moving_frames[12:15] = [frame_maker(None)] * 3
    clip = _open(write_disc_clip(moving_frames), tmp_path, disc_detector)
    assert not clip.found[12:15].any()
    assert not clip.inside_frame()[12:15].any()
    assert clip.found[:12].all() and clip.found[-8:].all()


def test_a_face_that_leaves_the_frame_is_not_inside(
    write_disc_clip, frame_maker, disc_detector, tmp_path
):
    frames = [frame_maker((60 - 2 * number, 48), seed=number) for number in range(30)]
    clip = _open(write_disc_clip(frames), tmp_path, disc_detector)
    inside = clip.inside_frame()
    assert inside[:15].all() and not inside[-2:].any()
    assert clip.inside_frame(reach=0.5)[clip.found].all()


def test_a_clip_without_a_face_names_the_file(
    write_disc_clip, frame_maker, disc_detector, tmp_path
):
    path = write_disc_clip([frame_maker(None)] * 5, "empty room.mp4")
    with pytest.raises(DataError, match="empty room.mp4: No face"):
        _open(path, tmp_path, disc_detector)


def test_a_truncated_clip_is_refused_unless_allowed(
    write_disc_clip, moving_frames, disc_detector, tmp_path
):
    path = write_disc_clip(moving_frames)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * 0.7)])
    with pytest.raises(VideoError, match="declares 30 frames but only"):
        _open(path, tmp_path, disc_detector)
    clip = _open(path, tmp_path, disc_detector, allow_damaged=True)
    assert 0 < len(clip) < 30


def test_a_clip_that_shrank_since_it_was_analysed_is_an_error(
    write_disc_clip, moving_frames, disc_detector, tmp_path
):
    path = write_disc_clip(moving_frames)
    clip = _open(path, tmp_path, disc_detector)
    path.unlink()
    write_disc_clip(moving_frames[:10])
    with pytest.raises(VideoError, match="ended before frame 20"):
        list(face_clips.read_crops(clip, np.array([2, 20]), SIZE))


def test_all_faces_of_a_clip_have_a_crop_path_each(write_disc_clip, tmp_path):
    path = write_disc_clip([two_discs(22, 26, seed=n) for n in range(30)])
    config = FaceClipConfig(crop=CropConfig(mode="face", scale=1.2), select="all")
    work, detector = tmp_path / "work", HalvesDetector()
    clips = face_clips.open_face_clips(path, config, work, detector=detector)
    assert [clip.people[place][0] for place, clip in enumerate(clips)] == [c.track for c in clips]
    centres = [clip.landmarks_xy_px.mean(axis=(0, 1))[0] for clip in clips]
    np.testing.assert_allclose(centres, (96, 32), atol=2)  # the larger first
    assert clips[0].crops.side_px > clips[1].crops.side_px
    for clip in clips:
        (crop,) = face_clips.read_crops(clip, np.array([10]), SIZE)
        middle = crop.landmarks_xy_px.mean(axis=0)
        assert np.abs(middle - SIZE / 2).max() < SIZE / 6
    asked = detector.calls
    one = FaceClipConfig(crop=config.crop, select=1)
    assert face_clips.open_face_clip(path, one, work, detector=detector).track == clips[1].track
    assert detector.calls == asked  # what was found holds for every choice


@pytest.mark.parametrize("left_radius, frames", [(22, 12), (15, 30)])
def test_faces_seen_shortly_or_small_are_not_among_all(
    left_radius, frames, write_disc_clip, tmp_path
):
    path = write_disc_clip(
        [two_discs(left_radius if n < frames else 0, 26, seed=n) for n in range(30)]
    )
    config = FaceClipConfig(select="all", min_track_frames=20)
    (clip,) = face_clips.open_face_clips(path, config, tmp_path, detector=HalvesDetector())
    assert len(clip.people) == 2
    assert clip.landmarks_xy_px.mean(axis=(0, 1))[0] == pytest.approx(96, abs=2)


def test_a_clip_without_the_chosen_face_says_what_it_has(
    write_disc_clip, moving_frames, disc_detector, tmp_path
):
    path = write_disc_clip(moving_frames)
    with pytest.raises(Rejected, match="clip.mp4: .* from 0 to 0 .*got 3") as caught:
        _open(path, tmp_path, disc_detector, select=3)
    assert caught.value.reason == "no_such_face"
    config = FaceClipConfig(select="all", min_track_frames=31)
    with pytest.raises(Rejected, match="in 31 frames .* longest track has 30") as caught:
        face_clips.open_face_clips(path, config, tmp_path / "work", detector=disc_detector)
    assert caught.value.reason == "no_face_in_clip"
    with pytest.raises(ConfigError, match="one face"):
        _open(path, tmp_path, disc_detector, select="all")


def test_problems_of_a_clip_are_told_again_by_the_second_opening(
    write_disc_clip, moving_frames, disc_detector, tmp_path
):
    path = write_disc_clip(moving_frames)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * 0.7)])
    first = _open(path, tmp_path, disc_detector, allow_damaged=True)
    second = _open(path, tmp_path, NeverAsked(), allow_damaged=True)
    assert first.problems and first.problems == second.problems


def test_sharpness_falls_with_blur(write_disc_clip, frame_maker, disc_detector, tmp_path):
    frames = [frame_maker((60, 48), sharp=number % 2 == 0, seed=number) for number in range(6)]
    clip = _open(write_disc_clip(frames), tmp_path, disc_detector)
    values = [face_clips.sharpness(c) for c in face_clips.read_crops(clip, np.arange(6), SIZE)]
    assert max(values[1::2]) < 0.7 * min(values[0::2])


def test_fingerprint_follows_content_and_settings(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"x" * (5 << 20))
    first = face_clips.fingerprint(path, {"a": 1})
    assert face_clips.fingerprint(path, {"a": 1}) == first
    assert face_clips.fingerprint(path, {"a": 2}) != first
    for place in (0, (5 << 20) // 2, (5 << 20) - 1):
        data = bytearray(b"x" * (5 << 20))
        data[place] = 0
        path.write_bytes(data)
        assert face_clips.fingerprint(path, {"a": 1}) != first
    path.write_bytes(b"x" * (5 << 20) + b"x")
    assert face_clips.fingerprint(path, {"a": 1}) != first
    with pytest.raises(VideoError, match="Cannot read"):
        face_clips.fingerprint(tmp_path / "none", {})


@pytest.mark.parametrize("total, count", [(10, 3), (10, 9), (1000, 7), (5, 1)])
def test_chosen_frames_are_evenly_spread(total, count):
    chosen = face_clips.choose_evenly(np.arange(total) + 100, count)
    assert len(np.unique(chosen)) == count
    gaps = np.diff(chosen)
    assert not len(gaps) or gaps.max() - gaps.min() <= 1
    # As much is left free before the first as after the last, to within one.
    assert abs((chosen[0] - 100) - (total + 99 - chosen[-1])) <= 1


@pytest.mark.parametrize("count", [None, 5, 6])
def test_all_frames_are_taken_when_there_are_no_more(count):
    np.testing.assert_array_equal(face_clips.choose_evenly(np.arange(5), count), np.arange(5))


@pytest.mark.parametrize(
    "wrong", [{"min_sharpness": 1.0}, {"min_track_frames": 0}, {"select": "both"}, {"select": -1}]
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        FaceClipConfig(**wrong)
