"""Composing: what is generated, steadied, pasted or replaced, for single frames."""

import numpy as np
import pytest

from facegan.face.align import CropConfig
from facegan.face.analysis import Track
from facegan.face.landmarks import MEAN_SHAPE
from facegan.face.retarget import RetargetConfig
from facegan.render.compose import Composer, Job
from facegan.render.plan import make_plan
from facegan.video.deflicker import DeflickerConfig
from tests.fake_face import drawing_manifest

SIZE = 64
OFF = DeflickerConfig(method="off")


@pytest.fixture
def random():
    return np.random.default_rng(0)


def make(missing_face="copy", full_frame=True, deflicker=OFF, colour_match=False):
    landmarks = np.repeat((MEAN_SHAPE * 50 + 30)[None], 3, axis=0).astype(np.float32)
    present = np.array([True, True, False])
    landmarks[2] = np.nan
    track = Track(0, landmarks, present, np.arange(3), np.arange(3) / 25)
    plan = make_plan(
        track,
        (120, 120),
        drawing_manifest(SIZE),
        crop=CropConfig(mode="whole"),
        retarget=RetargetConfig(),
        missing_face=missing_face,
    )
    composer = Composer(
        plan,
        full_frame=full_frame,
        deflicker=deflicker,
        feather=0.05,
        colour_match=colour_match,
    )
    return plan, composer


def job_for(plan, index, image, generated=None):
    return Job(index, index, image, plan.face(index), None, generated)


def test_generated_square_passes_as_it_is(random):
    plan, composer = make(full_frame=False)
    picture = random.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    np.testing.assert_array_equal(composer(job_for(plan, 0, None, picture)), picture)


def test_a_fourth_channel_says_how_much_is_pasted(random):
    plan, composer = make()
    image = random.integers(0, 100, (120, 120, 3), dtype=np.uint8)
    picture = random.integers(150, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    whole = composer(job_for(plan, 0, image, picture))

    def paste(share):
        shown = np.full((SIZE, SIZE, 1), share, np.uint8)
        return composer(job_for(plan, 0, image, np.concatenate([picture, shown], axis=-1)))

    np.testing.assert_array_equal(paste(255), whole)
    np.testing.assert_array_equal(paste(0), image)
    np.testing.assert_allclose(paste(128), (image + whole.astype(float)) / 2, atol=2)
    _, square = make(full_frame=False)
    marked = np.concatenate([picture, picture[..., :1]], axis=-1)
    np.testing.assert_array_equal(square(job_for(plan, 0, None, marked)), picture)


def test_pasting_changes_the_face_only_and_not_the_source_array(random):
    plan, composer = make()
    image = random.integers(0, 100, (120, 120, 3), dtype=np.uint8)
    kept = image.copy()
    white = np.full((SIZE, SIZE, 3), 255, np.uint8)
    out = composer(job_for(plan, 0, image, white))
    np.testing.assert_array_equal(image, kept)
    assert out.shape == image.shape
    np.testing.assert_array_equal(out[:10], image[:10])
    np.testing.assert_array_equal(out[:, -10:], image[:, -10:])
    assert (out[50:60, 50:60] > 250).all()


def test_frames_without_a_face(random):
    image = random.integers(0, 256, (120, 120, 3), dtype=np.uint8)
    for full_frame, shape in ((True, (120, 120, 3)), (False, (SIZE, SIZE, 3))):
        plan, composer = make("copy", full_frame)
        out = composer(job_for(plan, 2, image))
        assert out.shape == shape
        if full_frame:
            np.testing.assert_array_equal(out, image)
        else:
            assert abs(out.mean() - image.mean()) < 2
        plan, composer = make("blank", full_frame)
        out = composer(job_for(plan, 2, image if full_frame else None))
        assert out.shape == shape and not out.any()


def test_the_filter_steadies_and_forgets_at_a_frame_without_a_face():
    plan, composer = make(full_frame=False, deflicker=DeflickerConfig(method="guarded"))
    low, high = np.full((SIZE, SIZE, 3), 100, np.uint8), np.full((SIZE, SIZE, 3), 104, np.uint8)
    assert (composer(job_for(plan, 0, None, low)) == 100).all()
    assert composer(job_for(plan, 1, None, high)).max() < 104
    composer(job_for(plan, 2, np.zeros((120, 120, 3), np.uint8)))
    assert (composer(job_for(plan, 0, None, high)) == 104).all()
