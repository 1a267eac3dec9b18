import contextlib

import numpy as np
import pytest
from PIL import Image

from facegan.bundle import read_manifest
from facegan.errors import CheckpointError, ConfigError, DataError
from facegan.evaluation.ssim import psnr
from facegan.face.landmarks import DetectorConfig
from facegan.image import read_image, write_image
from facegan.jobs.face_styles import (
    FaceSource,
    StyleFinder,
    check_face,
    check_perceptual_net,
    find_seed,
)
from facegan.jobs.generate import GenerateConfig, generate
from facegan.render.sampling import find_mean_w, read_w
from facegan.training.projector import ProjectionConfig

SIZE, SHAPE = 16, (6, 8)
PIXELS = ProjectionConfig(steps=60, perceptual_weight=0.0)


@pytest.fixture
def make_finder(small_style_puppet, tmp_path):
    """A function: projection, perceptual_net -> a finder that keeps styles in tmp_path/kept."""
    (tmp_path / "kept").mkdir()

    def make(projection=PIXELS, perceptual_net="random"):
        return StyleFinder(
            small_style_puppet,
            read_manifest(small_style_puppet),
            tmp_path / "kept",
            projection,
            perceptual_net,
            DetectorConfig(),
        )

    return make


@pytest.fixture(scope="module")
def own_picture(small_style_puppet, tmp_path_factory):
    """A picture file that the bundle has painted, and the picture."""
    path = tmp_path_factory.mktemp("own") / "own.png"
    generate(small_style_puppet, path, GenerateConfig(seeds="3"))
    return path, read_image(path)


def listen(labels):
    """A progress factory that writes down which stages there are."""

    @contextlib.contextmanager
    def factory(label):
        labels.append(label)
        yield lambda done, total, unit: None

    return factory


def kept(tmp_path):
    return sorted((tmp_path / "kept").iterdir())


def test_a_drawn_face_is_that_of_its_seed(make_finder, small_style_puppet, tmp_path):
    finder = make_finder()
    face = finder.find(finder.read("seed:17"))
    assert (face.source, face.psnr) == (FaceSource("seed:17", 17), None)
    assert face.w.shape == SHAPE and face.painted.dtype == np.uint8
    config = GenerateConfig(seeds="17")
    generate(small_style_puppet, tmp_path / "a.png", config, save_w=tmp_path / "a.npz")
    np.testing.assert_allclose(read_w(tmp_path / "a.npz", SHAPE)[0], face.w, atol=1e-6)
    np.testing.assert_allclose(read_image(tmp_path / "a.png"), face.painted, atol=1)
    assert kept(tmp_path) == []


def test_a_picture_that_the_bundle_painted_is_found_again(
    make_finder, own_picture, small_style_puppet, tmp_path
):
    path, image = own_picture
    finder = make_finder()
    face = finder.find(finder.read(str(path)))
    mean = finder.paint(find_mean_w(finder.methods)[None])[0]
    assert face.psnr == psnr(face.painted, image) > psnr(mean, image) + 6
    # What is kept, other tools paint.
    (stored,) = kept(tmp_path)
    np.testing.assert_array_equal(read_w(stored, SHAPE)[0], face.w)
    generate(small_style_puppet, tmp_path / "again.png", GenerateConfig(w=(str(stored),)))
    np.testing.assert_allclose(read_image(tmp_path / "again.png"), face.painted, atol=1)
    # In w all layers share one style.
    finder.projection = ProjectionConfig(steps=5, perceptual_weight=0.0, space="w")
    shared = finder.find(face.source).w
    np.testing.assert_array_equal(shared, np.broadcast_to(shared[:1], SHAPE))
    assert (face.w != face.w[:1]).any()


def test_a_style_is_looked_for_once(make_finder, own_picture, tmp_path):
    path, image = own_picture
    few, stages = ProjectionConfig(steps=2, perceptual_weight=0.0), []
    finder = make_finder(few)
    first = finder.find(finder.read(str(path)), listen(stages))
    (stored,) = kept(tmp_path)
    before = stored.stat().st_mtime_ns
    # The same picture under another name, another finder.
    write_image(tmp_path / "copy.png", image)
    other = make_finder(few)
    second = other.find(other.read(str(tmp_path / "copy.png")), listen(stages))
    np.testing.assert_array_equal(first.w, second.w)
    assert stages == ["Project own.png"] and stored.stat().st_mtime_ns == before
    # Another picture has a style of its own.
    write_image(tmp_path / "other.png", 255 - image)
    other.find(other.read(str(tmp_path / "other.png")))
    assert len(kept(tmp_path)) == 2
    # A file of no use is replaced.
    stored.write_bytes(b"PK no styles")
    np.testing.assert_array_equal(finder.find(finder.read(str(path))).w, first.w)
    assert read_w(stored, SHAPE).shape == (1, *SHAPE)
    # With other settings it is searched for again, which nothing can be compared by here.
    (tmp_path / "junk.h5").write_bytes(b"no weights")
    longer = make_finder(ProjectionConfig(steps=3), str(tmp_path / "junk.h5"))
    with pytest.raises(CheckpointError):
        longer.find(longer.read(str(path)))


def test_a_search_that_is_stopped_leaves_nothing(make_finder, own_picture, tmp_path):
    @contextlib.contextmanager
    def stop(label):
        def report(done, total, unit):
            if done == 2:
                raise KeyboardInterrupt

        yield report

    finder = make_finder()
    with pytest.raises(KeyboardInterrupt):
        finder.find(finder.read(str(own_picture[0])), stop)
    assert kept(tmp_path) == []


def test_a_turned_photograph_is_read_upright(make_finder, tmp_path):
    upright = np.zeros((40, 24, 3), np.uint8)
    upright[:10] = 250  # the sky
    turned = Image.fromarray(np.rot90(upright))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    turned.save(tmp_path / "a.png", exif=exif)
    turned.save(tmp_path / "a.jpg", exif=exif, quality=95)
    finder = make_finder()
    for name in ("a.png", "a.jpg"):
        source = finder.read(str(tmp_path / name))
        assert source.photo.shape == (40, 24, 3)
        np.testing.assert_allclose(source.photo[:7], 250, atol=8)
        assert source.square.image.shape == (SIZE, SIZE, 3)


def test_what_compares_pictures_is_wanted_only_for_a_search(make_finder, own_picture, tmp_path):
    (tmp_path / "junk.h5").write_bytes(b"no weights")
    junk = str(tmp_path / "junk.h5")
    path, image = own_picture
    finder = make_finder(ProjectionConfig(steps=2), junk)
    source = finder.read(str(path))
    for prepare in (lambda: finder.prepare([source]), finder.prepare, lambda: finder.find(source)):
        with pytest.raises(
            CheckpointError, match="cannot be had from .*junk.h5: .* perceptual_net, .* or random"
        ):
            prepare()
    finder.prepare([finder.read("seed:3")])
    finder.prepare([])
    finder.projection = PIXELS
    finder.prepare([source])
    # Where the style is known, nothing is compared.
    stand_in = make_finder(ProjectionConfig(steps=2))
    stand_in.prepare([source])
    w = stand_in.find(source).w
    again = make_finder(ProjectionConfig(steps=2))
    again.prepare([source])
    np.testing.assert_array_equal(again.find(source, listen(stages := [])).w, w)
    assert stages == []


def test_without_a_network_the_stand_in_is_named(make_finder, own_picture, monkeypatch):
    def fail(**settings):
        raise OSError("URL fetch failure on https://somewhere: None -- Name not known")

    monkeypatch.setattr("keras.applications.VGG19", fail)
    finder = make_finder(ProjectionConfig(steps=2), "imagenet")
    with pytest.raises(CheckpointError) as caught:
        finder.prepare([finder.read(str(own_picture[0]))])
    assert "cannot be had from imagenet: URL fetch failure" in str(caught.value)
    assert "or random for an untrained stand-in" in str(caught.value)
    assert "recipe" not in str(caught.value)  # that is about training


def test_names_of_faces():
    assert [find_seed(name) for name in ("seed:0", "seed:12", "seed:", "seed:-1", "a.jpg")] == [
        *(0, 12, None, None, None)
    ]


def test_what_is_not_there_is_refused(make_finder, tmp_path):
    (tmp_path / "notes.txt").write_text("no picture")
    check_face("seed:3", "target")
    check_face(str(tmp_path / "notes.txt"), "target")
    for name in ("none.jpg", "seed:x"):
        with pytest.raises(ConfigError, match=f"The target .*{name} is no file that exists"):
            check_face(str(tmp_path / name), "target")
    with pytest.raises(ConfigError, match="is no file that exists"):
        check_face(str(tmp_path), "reference")
    for name in ("imagenet", "random", str(tmp_path / "notes.txt")):
        check_perceptual_net(name)
    with pytest.raises(ConfigError, match="must be imagenet, random or a weights file.*'imagnet'"):
        check_perceptual_net("imagnet")
    with pytest.raises(DataError, match="notes.txt is no picture"):
        make_finder().read(str(tmp_path / "notes.txt"))
