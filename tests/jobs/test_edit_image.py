import contextlib
import dataclasses
import json
import os

import numpy as np
import pytest

from facegan.errors import BundleError, CheckpointError, ConfigError, DataError, VideoError
from facegan.face.align import change_mask, face_mask, invert_matrix, paste_back, square_mask
from facegan.face.landmarks import DetectorConfig
from facegan.face.parsing import ParserConfig
from facegan.image import read_image, write_image
from facegan.jobs.catalogue import CatalogueConfig
from facegan.jobs.edit_image import EditImageConfig, edit_image, is_video, plan_edit
from facegan.models.local_editing import EditConfig
from facegan.preparation.squares import cut_square
from facegan.render.sampling import read_w
from facegan.training.projector import ProjectionConfig
from tests.fake_face import (
    RedSquareDetector,
    audio_packets,
    moving_square_clip,
    read_clip,
    red_square_frame,
)
from tests.toy_bundle import export_toy

pytestmark = pytest.mark.usefixtures("red_squares")

SIZE, SHAPE = 16, (6, 8)
FAST = EditImageConfig(
    parts=("eyes",),
    projection=ProjectionConfig(steps=3, perceptual_weight=0.0),
    frame_steps=2,
    colour_match=False,
)
GRID = dataclasses.replace(FAST, parts=(), grid=True, edit=EditConfig(epsilon=1e9))
COLUMNS = [
    *("target", "target, painted", "reference", "reference, painted"),
    *("eyes", "hair", "all"),
]


@pytest.fixture(scope="module")
def bundle(small_style_puppet):
    return small_style_puppet


@pytest.fixture(scope="module")
def aligned(aligned_style_puppet):
    return aligned_style_puppet


@pytest.fixture(scope="module")
def catalogue(bundle, make_catalogue):
    return make_catalogue(bundle)


@pytest.fixture(scope="module")
def aligned_catalogue(aligned, make_catalogue):
    return make_catalogue(aligned)


@pytest.fixture
def photo(tmp_path):
    """A wide photograph with a face to the right, and its file."""
    image = red_square_frame(96, 128, [(50, 24, 48)])
    image[::2] = np.clip(image[::2] + 9.0, 0, 255).astype(np.uint8)
    write_image(tmp_path / "photo.png", image)
    return image, tmp_path / "photo.png"


def listen(labels):
    """A progress factory that writes down which stages there are."""

    @contextlib.contextmanager
    def factory(label):
        labels.append(label)
        yield lambda done, total, unit: None

    return factory


def tile(sheet, row, column):
    y, x = row * (SIZE + 2), column * (SIZE + 2)
    return sheet[y : y + SIZE, x : x + SIZE]


def weigh(mask, matrix, height, width):
    """How much of a mask each pixel of a photograph gets, in 255ths."""
    black, white = (np.full((*shape, 3), code, np.uint8) for shape, code in (
        ((height, width), 0), (mask.shape, 255),
    ))  # fmt: skip
    return paste_back(black, white, invert_matrix(matrix), mask, colour_match=False)[..., 0]


def test_what_an_edit_changes_goes_back_into_the_photograph(bundle, catalogue, photo, tmp_path):
    image, path = photo
    ways = {"catalogue": catalogue, "work_dir": tmp_path / "work"}
    stages = []
    result = edit_image(
        bundle, path, ["seed:5"], tmp_path / "out.png", FAST, **ways, progress=listen(stages)
    )
    assert (result["kind"], result["parts"]) == ("picture", ["eyes"])
    assert stages == ["Project photo.png"] and list(result["psnr"]) == [str(path)]
    # The style that was found serves from now on.
    (stored,) = (tmp_path / "work").iterdir()
    before, stages = stored.stat().st_mtime_ns, []
    squares = {}
    for name, changes, references in (
        ("edited", {"full_frame": False}, ["seed:5"]),
        ("painted", {"parts": ()}, []),
    ):
        known = ways if references else {"work_dir": tmp_path / "work"}
        config = dataclasses.replace(FAST, **changes)
        output = tmp_path / f"{name}.png"
        told = edit_image(
            bundle, path, references, output, config, **known, progress=listen(stages)
        )
        assert told["psnr"] == result["psnr"]
        squares[name] = read_image(output)
    assert stages == [] and stored.stat().st_mtime_ns == before
    painted, edited = squares["painted"], squares["edited"]
    square = cut_square(image, "", SIZE, align="none", detector=DetectorConfig())
    mask = change_mask(painted, edited)
    assert result["changed"] == pytest.approx(mask.mean(), abs=1e-3) and mask.any()
    made, weight = read_image(tmp_path / "out.png"), weigh(mask, square.matrix, 96, 128)
    assert made.shape == image.shape and (weight[:, :16] == 0).all()  # left of the square
    np.testing.assert_array_equal(made[weight == 0], image[weight == 0])
    assert np.abs(made.astype(int) - image)[weight > 128].mean() > 5


def test_without_a_reference_the_target_is_projected(bundle, photo, tmp_path):
    config = dataclasses.replace(FAST, parts=())
    where = {"work_dir": tmp_path / "work"}
    result = edit_image(bundle, photo[1], [], tmp_path / "w.npz", config, **where)
    assert result["kind"] == "styles" and result["psnr"][str(photo[1])] > 5
    (stored,) = (tmp_path / "work").iterdir()
    np.testing.assert_array_equal(read_w(tmp_path / "w.npz", SHAPE), read_w(stored, SHAPE))
    result = edit_image(bundle, "seed:3", [], tmp_path / "three.png", config, **where)
    assert (result["kind"], result["psnr"]) == ("projection", {})
    assert read_image(tmp_path / "three.png").shape == (SIZE, SIZE, 3)


def test_a_grid_shows_each_part_and_all(bundle, catalogue, photo, tmp_path):
    result = edit_image(
        *(bundle, photo[1], ["seed:5", "seed:6"], tmp_path / "grid.png", GRID),
        catalogue=catalogue,
        work_dir=tmp_path / "work",
    )
    assert (result["kind"], result["columns"]) == ("grid", COLUMNS)
    sheet = read_image(tmp_path / "grid.png")
    assert sheet.shape == (2 * 18 - 2, 7 * 18 - 2, 3)
    square = cut_square(photo[0], "", SIZE, align="none", detector=DetectorConfig())
    for row in (0, 1):
        np.testing.assert_array_equal(tile(sheet, row, 0), square.image)
        np.testing.assert_array_equal(tile(sheet, row, 2), tile(sheet, row, 3))  # a drawn face
        # All channels are taken, and the parts share them out.
        np.testing.assert_allclose(tile(sheet, row, 6), tile(sheet, row, 3), atol=1)
        for column in (4, 5):
            for end in (1, 3):
                apart = tile(sheet, row, column).astype(int) - tile(sheet, row, end)
                assert np.abs(apart).mean() > 1
    assert (tile(sheet, 0, 3) != tile(sheet, 1, 3)).any()
    # At no strength all parts together leave the photograph.
    config = dataclasses.replace(FAST, parts=("all",), edit=EditConfig(strength=0.0))
    result = edit_image(
        *(bundle, photo[1], ["seed:5"], tmp_path / "same.png", config),
        catalogue=catalogue,
        work_dir=tmp_path / "work",
    )
    assert (result["parts"], result["changed"]) == (["eyes", "hair"], 0.0)
    np.testing.assert_array_equal(read_image(tmp_path / "same.png"), photo[0])


def test_an_aligned_face_is_turned_back(aligned, aligned_catalogue, photo, tmp_path):
    image, path = photo
    made = {}
    for paste in ("face", "square"):
        config = dataclasses.replace(FAST, paste=paste)
        edit_image(
            *(aligned, path, ["seed:5"], tmp_path / f"{paste}.png", config),
            catalogue=aligned_catalogue,
            work_dir=tmp_path / "work",
        )
        made[paste] = read_image(tmp_path / f"{paste}.png")
    square = cut_square(image, "", SIZE, align="ffhq", detector=DetectorConfig())
    for paste, mask in (
        ("face", face_mask(square.landmarks_xy_px, SIZE)),
        ("square", square_mask(SIZE)),
    ):
        weight = weigh(mask, square.matrix, 96, 128)
        assert 0 < (weight > 0).mean() < 1
        np.testing.assert_array_equal(made[paste][weight == 0], image[weight == 0])
        assert (made[paste][weight > 128] != image[weight > 128]).any()
    assert (made["face"] != made["square"]).any()


def test_a_real_portrait_stays_as_it_is_around_the_face(
    aligned, aligned_catalogue, media_dir, tmp_path, monkeypatch
):
    from facegan.face.landmarks import DlibDetector

    found = DlibDetector()
    monkeypatch.setattr("facegan.preparation.faces._detector", lambda config: found)
    path = sorted((media_dir / "portraits" / "female").glob("*.jpg"))[0]
    result = edit_image(
        *(aligned, path, ["seed:5"], tmp_path / "out.png", FAST),
        catalogue=aligned_catalogue,
        work_dir=tmp_path / "work",
    )
    image, made = read_image(path), read_image(tmp_path / "out.png")
    square = cut_square(image, "", SIZE, align="ffhq", detector=DetectorConfig())
    weight = weigh(square_mask(SIZE), square.matrix, *image.shape[:2])
    np.testing.assert_array_equal(made[weight == 0], image[weight == 0])
    assert result["changed"] > 0 and (made != image).any()


def test_a_catalogue_is_made_once(aligned, photo, tmp_path, monkeypatch):
    small = CatalogueConfig(samples=8, clusters=3, pixels=32, named=4, parser=ParserConfig(size=64))
    face = RedSquareDetector().detect(photo[0])
    monkeypatch.setattr(RedSquareDetector, "detect", lambda self, image: face)
    config = dataclasses.replace(FAST, parts=("all",), fit=small)
    work, stages = tmp_path / "work", []
    first = edit_image(
        *(aligned, "seed:1", ["seed:2"], tmp_path / "a.png", config),
        work_dir=work,
        progress=listen(stages),
    )
    assert stages == ["Cluster", "Weigh", "Name"] and first["parts"]
    (made,) = work.iterdir()
    plan = plan_edit(aligned, "seed:1", ["seed:2"], tmp_path / "b.png", config, work_dir=work)
    assert (plan["catalogue"], plan["catalogue_exists"]) == (str(made), True)
    assert plan["parts"] == first["parts"]
    edit_image(
        *(aligned, "seed:1", ["seed:2"], tmp_path / "b.png", config),
        work_dir=work,
        progress=listen(stages),
    )
    assert len(stages) == 3
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    # Other settings make another one, and one of no use is made again.
    more = dataclasses.replace(config, fit=dataclasses.replace(small, clusters=4))
    plan = plan_edit(aligned, "seed:1", ["seed:2"], tmp_path / "c.png", more, work_dir=work)
    assert plan["catalogue"] != str(made) and not plan["catalogue_exists"]
    made.write_bytes(b"PK")
    assert not plan_edit(
        *(aligned, "seed:1", ["seed:2"], tmp_path / "c.png", config), work_dir=work
    )["catalogue_exists"]


def test_what_was_found_stays_after_an_interruption(bundle, catalogue, photo, tmp_path):
    write_image(tmp_path / "other.png", photo[0][:, ::-1])

    @contextlib.contextmanager
    def stop_at_the_target(label):
        def report(done, total, unit):
            if label == "Project photo.png" and done == 2:
                raise KeyboardInterrupt

        yield report

    given = (bundle, photo[1], [tmp_path / "other.png"], tmp_path / "out.png", FAST)
    ways = {"catalogue": catalogue, "work_dir": tmp_path / "work"}
    with pytest.raises(KeyboardInterrupt):
        edit_image(*given, **ways, progress=stop_at_the_target)
    (stored,) = (tmp_path / "work").iterdir()
    assert read_w(stored, SHAPE).shape == (1, *SHAPE)
    assert not (tmp_path / "out.png").exists()
    stages = []
    result = edit_image(*given, **ways, progress=listen(stages))
    assert stages == ["Project photo.png"] and len(result["psnr"]) == 2


def test_a_video_keeps_its_frames_and_sound(aligned, aligned_catalogue, photo, tmp_path):
    pts = moving_square_clip(tmp_path / "a.mp4", 10, missing=(0, 1))
    stages = []
    ways = {"catalogue": aligned_catalogue, "work_dir": tmp_path / "work"}
    result = edit_image(
        *(aligned, tmp_path / "a.mp4", [photo[1]], tmp_path / "out.mp4", FAST),
        **ways,
        progress=listen(stages),
    )
    assert stages == ["Project photo.png", "Find faces", "Render", "Project the first face"]
    assert (result["kind"], result["frames"], result["missing_faces"]) == ("video", 10, 2)
    assert list(result["psnr"]) == [str(photo[1])] and result["parts"] == ["eyes"]
    json.dumps(result)
    (before, _), (after, stamps) = read_clip(tmp_path / "a.mp4"), read_clip(tmp_path / "out.mp4")
    assert after.shape == before.shape and stamps == pts
    assert audio_packets(tmp_path / "out.mp4")[0] == audio_packets(tmp_path / "a.mp4")[0]
    for number in range(10):
        change = np.abs(after[number].astype(int) - before[number])
        assert change[-20:, -20:].mean() < 3  # the encoder's
        middle = change[40:60, 36:56].mean()  # in the face, wherever it moves
        assert middle < 3 if number < 2 else middle > 10
    # The square alone, as it is painted.
    config = dataclasses.replace(FAST, full_frame=False)
    edit_image(*(aligned, tmp_path / "a.mp4", [photo[1]], tmp_path / "square.mp4", config), **ways)
    assert read_clip(tmp_path / "square.mp4")[0].shape == (10, SIZE, SIZE, 3)


def test_what_cannot_be_is_found_before_anything_slow(aligned, photo, tmp_path):
    stages = []
    write_image(tmp_path / "wall.png", np.full((64, 64, 3), 120, np.uint8))
    (tmp_path / "junk.png").write_bytes(b"no picture")
    (tmp_path / "junk.h5").write_bytes(b"no weights")
    moving_square_clip(tmp_path / "wall.mp4", 3, missing=range(3))
    compared = dataclasses.replace(
        FAST, projection=ProjectionConfig(), perceptual_net=str(tmp_path / "junk.h5")
    )
    for target, reference, config, error, message in (
        ("wall.png", "seed:1", FAST, DataError, "No face is found in .*wall.png"),
        ("photo.png", "wall.png", FAST, DataError, "No face is found in .*wall.png"),
        ("photo.png", "junk.png", FAST, DataError, "junk.png is no picture"),
        ("wall.mp4", "photo.png", FAST, DataError, "No face is found in any frame of .*wall.mp4"),
        ("photo.png", "seed:1", compared, CheckpointError, "perceptual_net, the weights file"),
    ):
        with pytest.raises(error, match=message):
            edit_image(
                aligned,
                tmp_path / target,
                [reference if reference == "seed:1" else tmp_path / reference],
                tmp_path / ("out.mp4" if target == "wall.mp4" else "out.png"),
                config,
                work_dir=tmp_path / "work",
                progress=listen(stages),
            )
    assert stages == [] and not (tmp_path / "work").exists()


def test_the_plan_makes_nothing(bundle, photo, tmp_path):
    plan = plan_edit(bundle, photo[1], ["seed:2"], tmp_path / "out.png", FAST)
    assert (plan["kind"], plan["parts"], plan["catalogue_exists"]) == ("picture", ["eyes"], False)
    assert plan["work_dir"] == f"{bundle}_editing"
    assert plan["catalogue"].startswith(plan["work_dir"])
    json.dumps(plan)
    assert [p.name for p in tmp_path.iterdir()] == ["photo.png"]
    assert not os.path.exists(plan["work_dir"])
    plan = plan_edit(bundle, "seed:3", [], tmp_path / "w.npz")
    assert (plan["kind"], plan["catalogue"]) == ("styles", None)


def test_what_does_not_go_together_is_refused(bundle, aligned, catalogue, photo, tmp_path):
    (tmp_path / "there.png").touch()
    (tmp_path / "junk.mp4").write_bytes(b"no video")
    moving_square_clip(tmp_path / "a.mp4", 2)
    face, other = str(photo[1]), ["seed:1"]
    grid = {"parts": (), "grid": True}
    for target, references, output, changes, ways, message in (
        ("none.png", other, "a.png", {}, {}, "The target none.png is no file that exists"),
        (face, ["none.png"], "a.png", {}, {}, "The reference none.png is no file that exists"),
        (face, [str(tmp_path / "a.mp4")], "a.png", {}, {}, "A reference is a picture, got the vid"),
        (face, [], "a.png", {}, {}, "Name a reference"),
        (face, [], "a.gif", {"parts": ()}, {}, "of a projection must end in .png.*'a.gif'"),
        (face, [], "a.png", {"parts": (), "paste": "square"}, {}, "nothing is pasted"),
        (face, [], "a.png", {"parts": ()}, {"catalogue": catalogue}, "catalogue is for edits"),
        (face, other, "a.png", {"parts": ()}, {}, "Name the parts that are taken, as eyes,mouth"),
        (face, ["seed:1", "seed:2"], "a.png", {}, {}, "from one reference, got 2; a grid takes"),
        (face, [face], "a.png", {}, {}, "are both .*photo.png: nothing would change"),
        ("seed:1", ["seed:01"], "a.png", {}, {}, "are both seed:1: nothing would change"),
        ("seed:2", other, "a.png", {"paste": "face"}, {}, "seed:2 is a drawn face, in no photo"),
        (face, other, "a.png", {"paste": "face"}, {}, "paste must be change or square"),
        (face, other, "a.npz", {}, {}, "of a picture must end in .png"),
        (face, other, "a.npz", grid, {}, "of a grid must end in .png"),
        (face, other, "photo.png", {}, {"overwrite": True}, "is read itself"),
        (face, other, "there.png", {}, {}, "exists already"),
        (face, other, "none/a.png", {}, {}, "the folder .*none does not exist"),
        (face, other, "a.png", {"face": 1}, {}, "face chooses a person of a video"),
        (face, other, "a.png", {"perceptual_net": "vgg"}, {}, "perceptual_net must be imagenet"),
        (face, other, "a.png", {"parts": ("eye",)}, {}, "A part must be .*Did you mean 'eyes'"),
        (
            *(face, other, "a.png", {"parts": ("nose",)}, {"catalogue": catalogue}),
            "knows no part 'nose', only eyes, hair: none of its 2 clusters tells it best",
        ),
        (
            *(face, other, "a.png", {"edit": EditConfig(layers=("conv_3",))}),
            *({"catalogue": catalogue}, "A layer must be one of"),
        ),
        (face, other, "a.png", {}, {"catalogue": tmp_path / "no.npz"}, "no.npz does not exist"),
        (face, other, "a.png", {}, {"catalogue": photo[1]}, "cannot be read as a catalogue"),
        (face, other, "a.png", {}, {"work_dir": photo[1]}, "photo.png is a file"),
        (face, other, "a.png", {}, {"work_dir": photo[1] / "sub"}, "photo.png is a file"),
        (face, other, "a.png", {}, {"work_dir": "/proc/facegan"}, "cannot be written.*as work_dir"),
        (face, other, "a.png", {}, {"work_dir": bundle / "work"}, "lies in the bundle"),
        (tmp_path / "a.mp4", other, "b.mp4", {}, {}, "not aligned by a face.*frames as pictures"),
    ):
        with pytest.raises((ConfigError, DataError, VideoError), match=message):
            config = dataclasses.replace(FAST, **changes)
            plan_edit(bundle, target, references, tmp_path / output, config, **ways)
    for target, output, changes, message in (
        ("a.mp4", "b.png", {}, "of a video must end in .mp4"),
        ("a.mp4", "b.png", grid, "the target is a video"),
        ("junk.mp4", "b.mp4", {}, "junk.mp4"),
    ):
        with pytest.raises((ConfigError, VideoError), match=message):
            config = dataclasses.replace(FAST, **changes)
            plan_edit(aligned, tmp_path / target, other, tmp_path / output, config)
    with pytest.raises(ConfigError, match="catalogue.npz was made for another bundle"):
        plan_edit(aligned, face, other, tmp_path / "a.png", FAST, catalogue=catalogue)
    many = [*other] * 4000
    with pytest.raises(ConfigError, match="A grid of 4000 x 15 pictures"):
        plan_edit(bundle, face, many, tmp_path / "a.png", GRID)
    export_toy(tmp_path / "toy")
    with pytest.raises(BundleError, match="'toy' bundle makes no faces of noise"):
        plan_edit(tmp_path / "toy", face, other, tmp_path / "a.png", FAST)


def test_settings_that_cannot_be_are_refused():
    for settings, message in (
        ({"frame_steps": 0}, "frame_steps must be at least 1"),
        ({"grid": True, "parts": ("eyes",)}, "A grid shows every part"),
        ({"parts": ("eyes", "all")}, "'all' names every part"),
        ({"parts": ("eyes", "hair", "eyes")}, "names one twice: eyes, hair, eyes"),
        ({"grid": True, "paste": "face"}, "none is written; leave it out"),
        ({"parts": ("eyes",), "full_frame": False, "paste": "face"}, "none is written"),
    ):
        with pytest.raises(ConfigError, match=message):
            EditImageConfig(**settings)


def test_a_video_is_known_by_its_ending():
    assert [is_video(name) for name in ("a.mp4", "A.MOV", "a.png", "seed:3")] == [
        *(True, True, False, False)
    ]
