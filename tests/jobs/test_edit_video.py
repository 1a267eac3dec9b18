import contextlib
import dataclasses
import os
import signal

import numpy as np
import pytest

from facegan.bundle import read_manifest
from facegan.errors import DataError
from facegan.face.align import change_mask
from facegan.face.landmarks import DetectorConfig
from facegan.image import to_float
from facegan.jobs.edit_video import VideoEdit, VideoEditor, edit_video, require_face
from facegan.jobs.face_styles import StyleFinder
from facegan.models.local_editing import EditConfig, load_catalogue
from facegan.progress import no_progress
from facegan.render.pipeline import RenderConfig
from facegan.render.sampling import read_w
from facegan.training.projector import ProjectionConfig
from tests.fake_face import moving_square_clip

pytestmark = pytest.mark.usefixtures("red_squares")

SIZE, SHAPE = 16, (6, 8)
FEW = ProjectionConfig(steps=3, perceptual_weight=0.0)


@pytest.fixture
def make_finder(aligned_style_puppet, tmp_path):
    """A function: projection -> a finder that keeps styles in tmp_path/kept."""
    (tmp_path / "kept").mkdir()

    def make(projection=FEW):
        manifest, folder = read_manifest(aligned_style_puppet), tmp_path / "kept"
        return StyleFinder(
            aligned_style_puppet, manifest, folder, projection, "random", DetectorConfig()
        )

    return make


@pytest.fixture(scope="module")
def catalogue(aligned_style_puppet, make_catalogue):
    return load_catalogue(make_catalogue(aligned_style_puppet))


@pytest.fixture
def edit(catalogue):
    """The eyes of some face."""
    return VideoEdit(
        catalogue=catalogue,
        reference_w=np.random.default_rng(1).standard_normal(SHAPE).astype(np.float32),
        parts=("eyes",),
        edit=EditConfig(),
        frame_steps=2,
        paste="change",
    )


def frames(count):
    return np.random.default_rng(0).integers(0, 256, (count, SIZE, SIZE, 3)).astype(np.uint8)


def test_frames_are_projected_and_edited_one_from_the_other(make_finder, edit, tmp_path):
    finder, images = make_finder(), frames(3)
    editor = VideoEditor(finder, dataclasses.replace(edit, paste="square"), no_progress)
    made = np.concatenate([editor.generate({"source": images[i : i + 2]}) for i in (0, 2)])
    # By hand: the first is found like a photograph, the others from it on.
    (stored,) = (tmp_path / "kept").iterdir()
    start = read_w(stored, SHAPE)
    following = finder.make_projector(
        ProjectionConfig(steps=2, perceptual_weight=0.0, noise=0.0, learning_rate=0.02)
    )
    pair = following.project(to_float(images[:2]), np.repeat(start, 2, axis=0))
    last = following.project(to_float(images[2:]), pair[1:])
    w = np.concatenate([pair, last])
    expected = finder.paint_edited(w, edit.reference_w[None], edit.catalogue, edit.parts, edit.edit)
    np.testing.assert_allclose(made, expected, atol=1)
    # A fourth channel says where the edit changes what is painted.
    marking = VideoEditor(finder, edit, no_progress)
    marked = np.concatenate([marking.generate({"source": images[i : i + 2]}) for i in (0, 2)])
    np.testing.assert_allclose(marked[..., :3], expected, atol=1)
    masks = np.stack(list(map(change_mask, finder.paint(w), expected)))
    masks[1] = 0.8 * masks[0] + 0.2 * masks[1]
    masks[2] = 0.8 * masks[1] + 0.2 * masks[2]
    np.testing.assert_allclose(marked[..., 3], 255.0 * masks, atol=2)


def test_an_edit_of_no_strength_leaves_the_frames(make_finder, edit):
    still = dataclasses.replace(edit, edit=EditConfig(strength=0.0))
    editor = VideoEditor(make_finder(), still, no_progress)
    assert (editor.generate({"source": frames(2)})[..., 3] == 0).all()


def test_what_is_pasted_follows_from_the_parts(edit):
    for parts, paste, pasted in (
        (("eyes", "mouth"), "change", "face"),
        (("eyes", "hair"), "change", "square"),
        (("hair",), "face", "face"),
        (("eyes",), "square", "square"),
    ):
        assert dataclasses.replace(edit, parts=parts, paste=paste).pasted == pasted


def test_an_editor_is_known_by_what_its_pictures_follow_from(make_finder, edit):
    finder, editors = make_finder(), []
    for changes in (
        *({}, {"parts": ("hair",)}, {"edit": EditConfig(strength=0.5)}, {"frame_steps": 3}),
        *({"paste": "face"}, {"reference_w": edit.reference_w + 1}),
        {"edit": EditConfig(layers=("conv_8",))},
    ):
        editors.append(VideoEditor(finder, dataclasses.replace(edit, **changes), no_progress))
    known = {editor.manifest.fingerprint() for editor in editors}
    assert len(known) == len(editors)
    same = VideoEditor(finder, dataclasses.replace(edit), no_progress)
    assert same.manifest.fingerprint() == editors[0].manifest.fingerprint()
    finder.projection = ProjectionConfig(steps=4, perceptual_weight=0.0)
    assert VideoEditor(finder, edit, no_progress).manifest.fingerprint() not in known
    assert editors[0].batch_size == 8


@pytest.mark.skipif(
    "PYTEST_XDIST_WORKER" in os.environ, reason="the signal would end the worker of pytest-xdist"
)
def test_an_interruption_ends_the_search(aligned_style_puppet, make_finder, edit, tmp_path):
    moving_square_clip(tmp_path / "a.mp4", 3)
    endless = ProjectionConfig(steps=10**9, perceptual_weight=0.0)

    @contextlib.contextmanager
    def interrupt(label):
        def report(done, total, unit):
            if label == "Project the first face" and done == 2:
                os.kill(os.getpid(), signal.SIGINT)

        yield report

    editor = VideoEditor(make_finder(endless), edit, interrupt)
    with pytest.raises(KeyboardInterrupt):
        edit_video(
            *(aligned_style_puppet, tmp_path / "a.mp4", tmp_path / "out.mp4", editor),
            RenderConfig(output="full_frame"),
            overwrite=False,
            progress=interrupt,
        )
    assert not (tmp_path / "out.mp4").exists() and not list((tmp_path / "kept").iterdir())


def test_a_video_of_nobody_is_refused(tmp_path):
    moving_square_clip(tmp_path / "late.mp4", 4, missing=(0, 1, 2))
    require_face(tmp_path / "late.mp4", DetectorConfig())
    moving_square_clip(tmp_path / "wall.mp4", 3, missing=range(3))
    with pytest.raises(DataError, match="No face is found in any frame of .*wall.mp4"):
        require_face(tmp_path / "wall.mp4", DetectorConfig())
