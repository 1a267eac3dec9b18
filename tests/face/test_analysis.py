"""The landmark store: what is written, what survives a kill, what is read back."""

import dataclasses
import json
from fractions import Fraction

import numpy as np
import pytest

from facegan.errors import ConfigError, DataError
from facegan.face.analysis import (
    RECORD,
    LandmarkStore,
    Track,
    analyse_frames,
    next_index,
    rank_tracks,
    select_track,
    smooth_track,
)
from facegan.face.smoothing import SmoothingConfig
from facegan.face.tracking import TrackerConfig


@dataclasses.dataclass(frozen=True)
class Frame:
    image: np.ndarray
    index: int
    pts: int
    time_base: Fraction = Fraction(1, 15360)


def frames_of(scene, start, stop):
    return (Frame(scene.image(n), n, 512 * n) for n in range(start, stop))


@pytest.fixture
def scene(make_scene):
    """Someone large who is away for frames 40-59, and someone small who comes at frame 30."""
    return make_scene(
        [
            lambda n: None if 40 <= n < 60 else (100 + 20 * np.sin(n / 9), 60, 110),
            lambda n: (10, 200, 60 + n / 20) if n >= 30 else None,
        ]
    )


CONFIG = TrackerConfig(detect_every=5, retry_every=2, max_misses=0)


def test_records_of_every_frame(tmp_path, scene):
    calls = []
    store = analyse_frames(
        frames_of(scene, 0, 90),
        tmp_path / "store",
        scene,
        CONFIG,
        fingerprint="a",
        total=90,
        progress=lambda *a: calls.append(a),
    )
    assert store.complete and store.num_frames == 90 and store.frame_hw == (320, 320)
    assert calls[0] == (0, 90, "frame") and calls[-1] == (90, 90, "frame")
    records = store.records
    assert records.dtype == RECORD
    assert sorted(set(records["index"].tolist())) == list(range(90))
    np.testing.assert_allclose(records["time_s"], records["index"] / 30.0)
    big = records[(records["track"] == 0) & (records["index"] == 7)][0]
    truth = scene.truth(7)[0]
    np.testing.assert_array_equal(big["landmarks_xy_px"], truth.landmarks_xy_px)
    np.testing.assert_array_equal(big["box_xyxy_px"], truth.box_xyxy_px)
    assert records["pts"][records["index"] == 7].tolist() == [7 * 512]


def test_a_frame_without_a_face_has_a_record(tmp_path, make_scene):
    scene = make_scene([lambda n: None])
    store = analyse_frames(frames_of(scene, 0, 3), tmp_path / "s", scene, fingerprint="a")
    assert store.records["track"].tolist() == [-1, -1, -1]
    with pytest.raises(DataError, match="No face was found in any of the 3 frames"):
        select_track(store)


@pytest.mark.parametrize("kill_at", [5, 119, 121, 250])
def test_a_killed_analysis_ends_with_the_same_bytes(tmp_path, scene, kill_at):
    def killed(start):
        for frame in frames_of(scene, start, 300):
            if frame.index == kill_at:
                raise KeyboardInterrupt
            yield frame

    whole = analyse_frames(frames_of(scene, 0, 300), tmp_path / "w", scene, CONFIG, fingerprint="a")
    path = tmp_path / "k"
    with pytest.raises(KeyboardInterrupt):
        analyse_frames(killed(0), path, scene, CONFIG, fingerprint="a")
    start = next_index(path, "a")
    assert start == kill_at // 120 * 120
    resumed = analyse_frames(frames_of(scene, start, 300), path, scene, CONFIG, fingerprint="a")
    assert resumed.complete
    assert (path / "records.bin").read_bytes() == (whole.path / "records.bin").read_bytes()


def test_a_complete_store_is_not_analysed_again(tmp_path, scene):
    analyse_frames(frames_of(scene, 0, 10), tmp_path / "s", scene, fingerprint="a")
    searches = len(scene.searches)
    store = analyse_frames(iter(()), tmp_path / "s", scene, fingerprint="a")
    assert store.num_frames == 10 and len(scene.searches) == searches


def test_another_fingerprint_begins_anew(tmp_path, scene):
    path = tmp_path / "s"
    analyse_frames(frames_of(scene, 0, 10), path, scene, fingerprint="a")
    assert next_index(path, "a") == 10 and next_index(path, "b") == 0
    with pytest.raises(DataError, match="other input"):
        LandmarkStore.open(path, "b")
    assert analyse_frames(frames_of(scene, 0, 4), path, scene, fingerprint="b").num_frames == 4
    assert len(LandmarkStore.open(path, "b").records) == 4


def test_wrong_order_and_size_are_refused(tmp_path, scene):
    with pytest.raises(DataError, match="expects frame 0 next, got 3"):
        analyse_frames(frames_of(scene, 3, 9), tmp_path / "s", scene, fingerprint="a")
    frames = [Frame(scene.image(0), 0, 0), Frame(scene.image(1)[:200], 1, 512)]
    with pytest.raises(DataError, match="200x320"):
        analyse_frames(frames, tmp_path / "t", scene, fingerprint="a")


def test_broken_stores_are_refused(tmp_path, scene):
    path = tmp_path / "s"
    with pytest.raises(DataError, match="not a landmark store"):
        LandmarkStore.open(path)
    analyse_frames(frames_of(scene, 0, 5), path, scene, fingerprint="a")
    whole = (path / "records.bin").read_bytes()
    (path / "records.bin").write_bytes(whole[:-1])
    with pytest.raises(DataError, match="too short"):
        LandmarkStore.open(path)
    (path / "records.bin").write_bytes(whole)
    (path / "state.json").write_text("{}")
    with pytest.raises(DataError, match=r"state\.json is broken"):
        LandmarkStore.open(path)
    header = json.loads((path / "header.json").read_text())
    (path / "header.json").write_text(json.dumps({**header, "version": 99}))
    with pytest.raises(DataError, match="version 1"):
        LandmarkStore.open(path)


def test_unwritable_place_is_refused(tmp_path, scene):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="Cannot write"):
        analyse_frames(frames_of(scene, 0, 2), tmp_path / "file", scene, fingerprint="a")


def test_selecting_by_size(tmp_path, scene):
    store = analyse_frames(frames_of(scene, 0, 90), tmp_path / "s", scene, CONFIG, fingerprint="a")
    ranked = rank_tracks(store)
    assert [r[0] for r in ranked] == [0, 1]
    assert ranked[0][2] == pytest.approx(110, abs=0.1)
    large, second = select_track(store), select_track(store, 1)
    assert large.track_id == 0 and second.track_id == 1
    assert select_track(store, "1").track_id == 1
    assert isinstance(large.landmarks_xy_px, np.memmap)
    assert large.present[:40].all() and not large.present[46:60].any()
    assert np.isnan(large.landmarks_xy_px[50]).all()
    np.testing.assert_array_equal(large.landmarks_xy_px[80], scene.truth(80)[0].landmarks_xy_px)
    np.testing.assert_array_equal(large.pts, np.arange(90) * 512)
    for wrong in (2, "smallest", -1):
        with pytest.raises(ConfigError, match="from 0 to 1"):
            select_track(store, wrong)


def make_track(scene, present, folder=None):
    landmarks = np.stack([scene.truth(n)[0].landmarks_xy_px for n in range(len(present))])
    landmarks[~present] = np.nan
    count = np.arange(len(present))
    return Track(0, landmarks, present, count * 512, count / 30.0, folder)


@pytest.mark.parametrize("on_disk", [False, True])
def test_smoothing_bridges_short_gaps_only(make_scene, tmp_path, on_disk):
    scene = make_scene([lambda n: (100 + n, 60, 110)])
    present = np.ones(60, bool)
    present[20:23] = False
    present[40:50] = False
    track = make_track(scene, present, tmp_path if on_disk else None)
    smooth = smooth_track(track, SmoothingConfig(bridge_frames=4))
    assert smooth.present[:40].all() and not smooth.present[40:50].any()
    assert isinstance(smooth.landmarks_xy_px, np.memmap) == on_disk
    truth = scene.truth(21)[0].landmarks_xy_px
    assert np.abs(smooth.landmarks_xy_px[21] - truth).max() < 0.5
    assert np.isnan(smooth.landmarks_xy_px[45]).all()
    assert smooth_track(track, SmoothingConfig(enabled=False)) is track
    # The input is left as it was.
    assert not track.present[21] and np.isnan(track.landmarks_xy_px[21]).all()


def test_a_gap_across_a_jump_is_left_open(make_scene):
    scene = make_scene([lambda n: (100 if n < 10 else 200, 60, 60)])
    present = np.ones(20, bool)
    present[9:11] = False
    smooth = smooth_track(make_track(scene, present), SmoothingConfig(bridge_frames=4))
    assert not smooth.present[9:11].any()


def test_a_real_clip(tmp_path, read_clip, dlib_detector):
    images = read_clip("d13", 25)
    frames = [Frame(image, n, 512 * n) for n, image in enumerate(images)]
    store = analyse_frames(frames, tmp_path / "s", dlib_detector, fingerprint="d13")
    track = select_track(store)
    assert track.present.all() and store.frame_hw == (1280, 720)
    smooth = smooth_track(track)
    moved = np.linalg.norm(smooth.landmarks_xy_px - track.landmarks_xy_px, axis=-1).mean()
    jitter = [np.abs(np.diff(t.landmarks_xy_px, 2, axis=0)).mean() for t in (track, smooth)]
    # Smoothing takes most of the trembling and moves nothing by a visible amount.
    assert jitter[1] < 0.6 * jitter[0] and moved < 3.0
