"""Plans: whose landmarks a frame shows, and the way back into the frame."""

import dataclasses

import numpy as np
import pytest

from facegan import config as config_lib
from facegan.bundle import TensorSpec
from facegan.errors import BundleError, ConfigError, DataError
from facegan.face.align import CropConfig, transform_points
from facegan.face.analysis import Track
from facegan.face.conditioning import MaskConditioningConfig, encode_conditioning
from facegan.face.landmarks import MEAN_SHAPE
from facegan.face.parsing import ParserConfig
from facegan.face.retarget import RetargetConfig, fit_geometry
from facegan.render.plan import is_aligned, make_conditioner, make_plan
from tests.fake_face import drawing_manifest

SIZE = 64


def make_track(present, *, side=60.0, corner=(70.0, 40.0)):
    """A face that wanders to the right and opens its mouth now and then."""
    count = len(present)
    landmarks = np.repeat((MEAN_SHAPE * side + corner)[None], count, axis=0)
    landmarks[:, :, 0] += 6 * np.sin(np.arange(count) / 5)[:, None]
    opening = 0.06 * side * (1 + np.sin(np.arange(count) / 3))
    landmarks[:, [65, 66, 67], 1] += opening[:, None]
    landmarks = landmarks.astype(np.float32)
    present = np.array(present, bool)
    landmarks[~present] = np.nan
    times = np.arange(count) / 25
    return Track(0, landmarks, present, np.arange(count) * 40, times)


def plan_for(track, manifest=None, *, retarget=None, missing_face="hold"):
    return make_plan(
        track,
        (160, 240),
        manifest or drawing_manifest(SIZE),
        crop=CropConfig(),
        retarget=retarget or RetargetConfig(),
        missing_face=missing_face,
    )


def test_without_retargeting_the_way_back_is_exact():
    track = make_track([True] * 20)
    plan = plan_for(track)
    for index in (0, 7, 19):
        shown = plan.face(index)
        assert shown.landmarks_xy_px.min() > 0 and shown.landmarks_xy_px.max() < SIZE
        back = transform_points(shown.patch_to_frame, shown.landmarks_xy_px)
        np.testing.assert_allclose(back, track.landmarks_xy_px[index], atol=1e-3)
    assert plan.pts(7) == 280
    assert (plan.num_frames, plan.num_missing) == (20, 0)


@pytest.mark.parametrize(
    ("policy", "shown"),
    [("hold", [2, 2, 2, 3, 3, 3, 6]), ("copy", [None, None, 2, 3, None, None, 6])],
)
def test_frames_without_a_face(policy, shown):
    track = make_track([False, False, True, True, False, False, True])
    plan = plan_for(track, missing_face=policy)
    assert plan.num_missing == 4
    for index, source in enumerate(shown):
        face = plan.face(index)
        if source is None:
            assert face is None
        else:
            np.testing.assert_array_equal(face.landmarks_xy_px, plan.face(source).landmarks_xy_px)


def test_retargeted_face_returns_to_the_place_of_the_source():
    count = 40
    target = make_track([True] * count, side=100.0, corner=(10.0, 12.0))
    pixels = target.landmarks_xy_px * (SIZE / 160)
    geometry = config_lib.encode(fit_geometry(pixels, target.present, SIZE))
    track = make_track([True] * count)
    manifest = drawing_manifest(SIZE, geometry=geometry)
    plan, plain = plan_for(track, manifest), plan_for(track)
    for index in (0, 13, 39):
        shown = plan.face(index)
        # In the generated picture the head is where the target's was ...
        middle = shown.landmarks_xy_px.mean(axis=0)
        assert np.abs(middle - pixels.mean(axis=(0, 1))).max() < 5
        assert np.abs(middle - plain.face(index).landmarks_xy_px.mean(axis=0)).max() > 3
        # ... and pasted back, the same face lies on the source's.
        back = transform_points(shown.patch_to_frame, shown.landmarks_xy_px)
        assert np.abs(back - track.landmarks_xy_px[index]).max() < 3
    off = plan_for(track, manifest, retarget=RetargetConfig(enabled=False))
    np.testing.assert_array_equal(off.face(5).landmarks_xy_px, plain.face(5).landmarks_xy_px)


def test_no_face_at_all():
    with pytest.raises(DataError, match="face"):
        plan_for(make_track([False] * 5))


def test_bundles_whose_parts_do_not_fit():
    manifest = drawing_manifest(64)
    assert make_conditioner(manifest).config.size == 64
    with pytest.raises(BundleError, match="32 px"):
        document = {**manifest.conditioning, "size": 32}
        make_conditioner(drawing_manifest(64, conditioning=document))
    renamed = tuple(type(spec)(name="label_map", shape=spec.shape) for spec in manifest.inputs)
    with pytest.raises(BundleError, match="takes the inputs label_map"):
        make_conditioner(drawing_manifest(64, inputs=renamed))


def test_models_of_masks_see_faces_aligned_and_take_another_parser():
    config = MaskConditioningConfig(size=64, parser=ParserConfig(size=64))
    inputs = (
        TensorSpec(name="masks", shape=(None, 64, 64, 7), value_range=(0.0, 1.0)),
        TensorSpec(name="colours", shape=(None, 7, 3)),
        TensorSpec(name="identity", shape=(None, 128), value_range=None),
    )
    manifest = drawing_manifest(64, conditioning=encode_conditioning(config), inputs=inputs)
    assert is_aligned(manifest)
    assert make_conditioner(manifest).crop_size == 64
    assert make_conditioner(manifest, ParserConfig(size=128)).crop_size == 128
    config = dataclasses.replace(config, align="none")
    assert not is_aligned(drawing_manifest(64, conditioning=encode_conditioning(config)))
    with pytest.raises(ConfigError, match="needs no face parser"):
        make_conditioner(drawing_manifest(64), ParserConfig(size=128))
