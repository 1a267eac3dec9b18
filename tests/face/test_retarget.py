"""Landmarks of one synthetic person in the geometry of another."""

import dataclasses
import json

import numpy as np
import pytest

from facegan.config import decode, encode
from facegan.errors import ConfigError, DataError
from facegan.face.retarget import (
    FEATURES,
    LANDMARK_DEPTHS,
    FaceGeometry,
    RetargetConfig,
    Retargeter,
    fit_geometry,
)

SIZE = 256


def toy_face(mouth=0.02, eyes=0.2, jaw_width=1.0, mouth_width=0.9):
    """[68, 2] a plain frontal face in eye distances, mouth and eyes opened by the given gaps."""
    xy = np.zeros((68, 2))
    angle = np.linspace(np.pi, 0, 17)
    xy[:17] = np.stack([1.05 * jaw_width * np.cos(angle), 1.75 * np.sin(angle)], 1)
    xy[4:13, 1] += 0.5 * mouth * np.sin(np.linspace(0, np.pi, 9))
    for start, sign in ((17, -1), (22, 1)):
        across = np.linspace(0.8, 0.25, 5)[:: 1 if sign < 0 else -1]
        xy[start : start + 5] = np.stack([sign * across, np.full(5, -0.4)], 1)
    xy[27:31] = [[0, 0.0], [0, 0.2], [0, 0.4], [0, 0.6]]
    xy[31:36] = np.stack([np.linspace(-0.2, 0.2, 5), np.full(5, 0.72)], 1)
    for start, centre in ((36, -0.5), (42, 0.5)):
        xs = np.array([-0.22, -0.08, 0.08, 0.22, 0.08, -0.08]) + centre
        ys = np.array([0.0, -0.5, -0.5, 0.0, 0.5, 0.5]) * eyes
        xy[start : start + 6] = np.stack([xs, ys], 1)
    half = mouth_width / 2
    outer = np.array([-1.0, -0.66, -0.25, 0, 0.25, 0.66, 1.0, 0.66, 0.25, 0, -0.25, -0.66]) * half
    xy[48:60, 0] = outer
    xy[48:60, 1] = 1.15 + mouth / 4
    xy[49:54, 1] = 1.07
    xy[55:60, 1] = 1.25 + mouth
    xy[60:68, 0] = np.array([-0.85, -0.4, 0, 0.4, 0.85, 0.4, 0, -0.4]) * half
    xy[60:68, 1] = 1.15 + mouth / 4
    xy[61:64, 1] = 1.15
    xy[65:68, 1] = 1.15 + mouth
    return xy


def toy_clip(seed, *, num_frames=120, widest=0.4, unit_px=50.0, centre=(128.0, 100.0), **face):
    """[N, 68, 2] px: mouth from closed to ``widest``, blinks, head wandering, 0.1 px of noise."""
    rng = np.random.default_rng(seed)
    t = np.arange(num_frames) / num_frames
    mouth = widest * (0.5 - 0.5 * np.cos(2 * np.pi * 3 * t))
    eyes = np.where(np.arange(num_frames) % 40 < 5, 0.03, 0.2)
    out = []
    for i in range(num_frames):
        xy = toy_face(0.015 + mouth[i], eyes[i], **face)
        turn = 0.08 * np.sin(2 * np.pi * (t[i] + seed / 7))
        xy[:, 0] += turn * LANDMARK_DEPTHS
        roll = 0.05 * np.sin(2 * np.pi * 2 * t[i])
        rotation = np.array([[np.cos(roll), np.sin(roll)], [-np.sin(roll), np.cos(roll)]])
        shift = 6 * np.array([np.sin(2 * np.pi * t[i]), np.cos(4 * np.pi * t[i])])
        out.append(xy @ rotation * unit_px + centre + shift + rng.normal(0, 0.1, (68, 2)))
    return np.array(out)


def fit(clip, size_px=SIZE):
    return fit_geometry(clip, np.ones(len(clip), bool), size_px)


def mouth_gap(xy):
    """Of one frame or several, in eye distances."""
    gap = (xy[..., [67, 66, 65], 1] - xy[..., [61, 62, 63], 1]).mean(-1)
    eyes = xy[..., 36:42, :].mean(-2) - xy[..., 42:48, :].mean(-2)
    return gap / np.linalg.norm(eyes, axis=-1)


STYLE = toy_clip(1, widest=0.3, unit_px=56.0, centre=(120.0, 110.0), jaw_width=0.9)
CONTENT = toy_clip(2, widest=0.6, unit_px=40.0, centre=(150.0, 90.0), jaw_width=1.2)


def run(config=None, style=STYLE, content=CONTENT):
    retarget = Retargeter(fit(content), fit(style), config)
    return np.array([retarget(frame) for frame in content])


def test_depths_are_those_of_a_symmetric_face():
    mirror = [*range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, 35, 34, 33, 32, 31]
    mirror += [45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40]
    mirror += [54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65]
    assert LANDMARK_DEPTHS.shape == (68,)
    np.testing.assert_array_equal(LANDMARK_DEPTHS, LANDMARK_DEPTHS[mirror])
    assert LANDMARK_DEPTHS.argmax() == 30


def test_a_clip_onto_itself_stays_as_it_is():
    moved = np.linalg.norm(run(content=STYLE) - STYLE, axis=2)
    assert np.median(moved) < 1e-3
    assert np.quantile(moved, 0.98) < 0.5


def test_measures_of_a_known_face():
    geometry = fit(toy_clip(3, widest=0.4))
    ranges = dict(zip(FEATURES, geometry.feature_ranges, strict=True))
    assert ranges["mouth_opening"][2] == pytest.approx(0.415, abs=0.02)
    assert ranges["right_eye_opening"][0] == pytest.approx(0.03, abs=0.02)
    assert ranges["left_eye_opening"][1] == pytest.approx(0.2, abs=0.02)


def test_directions_change_one_measure_each():
    geometry = fit(STYLE)
    direction = np.array(geometry.directions[0]).reshape(68, 2)
    gap = direction[[67, 66, 65], 1] - direction[[61, 62, 63], 1]
    assert gap.mean() == pytest.approx(1.0, abs=1e-6)
    eye = direction[[41, 40], 1] - direction[[37, 38], 1]
    assert eye.mean() == pytest.approx(0.0, abs=1e-6)
    assert 0.2 < direction[8, 1] < 0.8  # the chin follows by half in these faces


def test_wide_open_becomes_wide_open_and_closed_stays_closed():
    before, after = mouth_gap(CONTENT), mouth_gap(run())
    assert before.max() > 0.55
    assert after.max() == pytest.approx(mouth_gap(STYLE).max(), abs=0.04)
    assert np.abs(after[before < 0.02]).max() < 0.03
    assert np.corrcoef(before, after)[0, 1] > 0.99


def test_without_openings_the_mouth_opens_by_its_size():
    free = RetargetConfig(openings=False, clamp_sigma=None)
    assert mouth_gap(run(free)).max() > 0.5


def test_lips_never_cross():
    closed = np.array([f for f in CONTENT if mouth_gap(f) < 0.05])
    closed[:, 66, 1] -= 8.0
    retarget = Retargeter(fit(CONTENT), fit(STYLE))
    out = np.array([retarget(frame) for frame in closed])
    assert (out[:, [67, 66, 65], 1] - out[:, [61, 62, 63], 1]).min() > -0.5


def test_the_eyes_blink_when_the_source_blinks():
    def openness(xy):
        return (xy[:, [41, 40], 1] - xy[:, [37, 38], 1]).mean(1)

    blinks = np.arange(len(CONTENT)) % 40 < 5
    out = openness(run())
    assert out[blinks].max() < 0.5 * out[~blinks].min()


def test_the_head_stands_where_the_style_stood():
    out = run()
    np.testing.assert_allclose(out[:, 27].mean(0), STYLE[:, 27].mean(0), atol=4.0)
    widths = [np.linalg.norm(c[:, 16] - c[:, 0], axis=1).mean() for c in (out, STYLE)]
    assert widths[0] == pytest.approx(widths[1], rel=0.03)


def test_the_head_stays_where_the_content_is_on_request():
    out = run(RetargetConfig(pose="content"))
    eyes = slice(36, 48)
    np.testing.assert_allclose(out[:, eyes].mean(1), CONTENT[:, eyes].mean(1), atol=1.5)


def test_proportions_can_be_kept():
    kept = run(RetargetConfig(proportions=False, pose="content", clamp_sigma=None))
    jaw = np.linalg.norm(kept[:, 16] - kept[:, 0], axis=1).mean()
    assert jaw == pytest.approx(
        np.linalg.norm(CONTENT[:, 16] - CONTENT[:, 0], axis=1).mean(), rel=0.02
    )


def test_disabled_only_changes_the_size():
    source, target = fit(CONTENT), fit(STYLE, size_px=SIZE * 2)
    retarget = Retargeter(source, target, RetargetConfig(enabled=False))
    np.testing.assert_allclose(retarget(CONTENT[5]), CONTENT[5] * 2, rtol=1e-6)


def test_sizes_of_both_crops_count():
    small = Retargeter(fit(CONTENT), fit(STYLE))
    large = Retargeter(fit(CONTENT * 2, SIZE * 2), fit(STYLE))
    np.testing.assert_allclose(small(CONTENT[9]), large(CONTENT[9] * 2), atol=1e-2)


def test_a_source_that_hardly_moves_is_not_blown_up():
    still = toy_clip(4, widest=0.01)
    out = run(content=still)
    assert np.ptp(mouth_gap(out)) < 3 * np.ptp(mouth_gap(still))


def test_jitter_does_not_grow():
    def jitter(xy):
        unit = np.linalg.norm(xy[:, 36] - xy[:, 45], axis=1).mean()
        return np.linalg.norm(xy[2:] - 2 * xy[1:-1] + xy[:-2], axis=2).mean() / unit

    assert jitter(run()) < 1.15 * jitter(CONTENT)


def test_a_shape_never_seen_is_pulled_towards_the_known_ones():
    strange = CONTENT[0].copy()
    strange[0:9, 0] -= 40.0
    bound = Retargeter(fit(CONTENT), fit(STYLE))(strange)
    free = Retargeter(fit(CONTENT), fit(STYLE), RetargetConfig(clamp_sigma=None))(strange)
    away = [np.linalg.norm(STYLE - x, axis=2).mean(1).min() for x in (bound, free)]
    assert away[0] < 0.5 * away[1]


def test_one_frame_is_enough_for_a_target():
    out = run(style=STYLE[:1])
    assert np.isfinite(out).all()
    # It stands where the frame stands, and moves as the content does: one frame shows no limits.
    assert np.linalg.norm(out.mean(axis=0) - STYLE[0], axis=1).mean() < 10.0
    assert out.std(axis=0).mean() > 0.5 * CONTENT.std(axis=0).mean()


def test_geometry_survives_json():
    geometry = fit(STYLE)
    text = json.dumps(encode(geometry))
    assert len(text) < 100_000
    again = decode(FaceGeometry, json.loads(text))
    assert again == geometry
    np.testing.assert_array_equal(
        Retargeter(again, again)(STYLE[3]), Retargeter(geometry, geometry)(STYLE[3])
    )


def test_missing_frames_are_left_out():
    holes = STYLE.copy()
    holes[::3] = np.nan
    present = np.isfinite(holes[:, 0, 0])
    geometry = fit_geometry(holes, present, SIZE)
    assert geometry.num_frames == present.sum()
    assert geometry == fit(STYLE[present])


def test_a_missing_frame_gives_nan():
    assert np.isnan(Retargeter(fit(CONTENT), fit(STYLE))(np.full((68, 2), np.nan))).all()


def test_refusals():
    good = np.ones(len(STYLE), bool)
    with pytest.raises(ConfigError, match=r"landmarks must be \[N, 68, 2\]"):
        fit_geometry(STYLE[:, :5], good, SIZE)
    with pytest.raises(ConfigError, match="present must be"):
        fit_geometry(STYLE, good[:-1], SIZE)
    with pytest.raises(ConfigError, match="size_px"):
        fit_geometry(STYLE, good, 0)
    with pytest.raises(DataError, match="None of the 120 frames"):
        fit_geometry(STYLE, ~good, SIZE)
    with pytest.raises(ConfigError, match=r"landmarks must be \[68, 2\]"):
        Retargeter(fit(STYLE), fit(STYLE))(STYLE)
    with pytest.raises(ConfigError, match="max_gain"):
        RetargetConfig(max_gain=0.5)
    with pytest.raises(ConfigError, match="min_pose_gain"):
        RetargetConfig(min_pose_gain=2.0)
    with pytest.raises(ConfigError, match="clamp_sigma"):
        RetargetConfig(clamp_sigma=0.0)
    with pytest.raises(ConfigError, match="version 7"):
        dataclasses.replace(fit(STYLE), version=7)
    with pytest.raises(ConfigError, match="neutral has 1 items, not 136"):
        dataclasses.replace(fit(STYLE), neutral=(0.0,))
