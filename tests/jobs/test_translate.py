import contextlib
import json

import numpy as np
import pytest

from facegan.errors import BundleError, ConfigError, DataError
from facegan.image import read_image, write_image
from facegan.jobs.translate import (
    REPORT_NAME,
    TranslateConfig,
    list_pictures,
    paint_in_styles,
    plan_translate,
    translate,
)
from facegan.render.engine import load_engine
from facegan.video.reader import VideoReader
from tests.domain_puppet import export_domain_puppet
from tests.toy_bundle import export_toy

# Faces, and videos of them: tests/integration/test_stargan_v2.py.

CAT = TranslateConfig(domain="cat")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return export_domain_puppet(tmp_path_factory.mktemp("bundles") / "puppet")


@pytest.fixture
def animals(tmp_path):
    """Two pictures in a tree, and what is none."""
    root = tmp_path / "animals"
    (root / "deep er").mkdir(parents=True)
    wide = np.full((40, 60, 3), 250, np.uint8)
    wide[:, 10:50] = (200, 100, 50)
    write_image(root / "deep er" / "b é.png", wide)
    write_image(root / "a.png", np.full((32, 32, 3), (10, 20, 30), np.uint8))
    (root / "deep er" / "broken.jpg").write_bytes(b"\xff\xd8\xff no more")
    (root / "notes.txt").write_text("no picture")
    return root


def colour(seed, domain=0):
    latent = np.random.default_rng(seed).standard_normal(4)
    return np.tanh(latent[:3]) - 0.5 * domain


def painted(picture, style):
    """Codes of a flat picture in a style."""
    value = 0.5 * (np.asarray(picture) / 127.5 - 1.0 + style)
    return np.clip((value + 1.0) * 127.5, 0, 255)


def test_a_picture_in_one_style_and_in_several(bundle, animals, tmp_path):
    translate(
        bundle, animals / "a.png", tmp_path / "one.png", TranslateConfig(domain="dog", seed=3)
    )
    made = read_image(tmp_path / "one.png")
    assert made.shape == (32, 32, 3)
    np.testing.assert_allclose(made[5, 5], painted((10, 20, 30), colour(3, 1)), atol=1)
    several = TranslateConfig(domain="cat", seed=3, styles=2)
    result = translate(bundle, animals / "a.png", tmp_path / "x.png", several)
    assert [name.rpartition("/")[2] for name in result["written"]] == ["x_0.png", "x_1.png"]
    np.testing.assert_allclose(
        read_image(tmp_path / "x_1.png")[5, 5], painted((10, 20, 30), colour(4)), atol=1
    )


def test_a_centred_square_goes_back_whole(bundle, animals, tmp_path):
    config = TranslateConfig(domain="cat", full_frame=True, colour_match=False)
    translate(bundle, animals / "deep er" / "b é.png", tmp_path / "a.png", config)
    made = read_image(tmp_path / "a.png")
    assert made.shape == (40, 60, 3)
    np.testing.assert_allclose(made[20, 30], painted((200, 100, 50), colour(0)), atol=1)
    assert (made[:, :9] == 250).all() and (made[:, 51:] == 250).all()


def test_a_folder_goes_on_where_it_stopped(bundle, animals, tmp_path):
    out = tmp_path / "out"
    result = translate(bundle, animals, out, CAT)
    assert (result["pictures"], result["written"], result["left_out"]) == (3, 2, 1)
    assert sorted(p.name for p in out.rglob("*.png")) == ["a.png", "b é.png"]
    (refusal,) = json.loads((out / REPORT_NAME).read_text())["left_out"]
    assert refusal["file"] == "deep er/broken.jpg"
    (out / "a.png").unlink()
    with pytest.raises(ConfigError, match="is not empty. Add --resume"):
        translate(bundle, animals, out, CAT)
    assert translate(bundle, animals, out, CAT, resume=True)["written"] == 2
    assert (out / "a.png").is_file()


def test_a_folder_of_nothing_usable_is_refused(bundle, animals, tmp_path):
    with pytest.raises(DataError, match="gave no picture; the first: .*broken.jpg"):
        only = tmp_path / "only"
        only.mkdir()
        (only / "broken.jpg").write_bytes(b"\xff\xd8\xff no more")
        translate(bundle, only, tmp_path / "out", CAT)
    # A broken picture takes no name away from a good one.
    (animals / "a.jpg").write_bytes((animals / "a.png").read_bytes())
    (animals / "deep er" / "broken.png").write_bytes((animals / "a.png").read_bytes())
    translate(bundle, animals, tmp_path / "more", CAT)
    report = json.loads((tmp_path / "more" / REPORT_NAME).read_text())
    taken = [e for e in report["left_out"] if e["reason"] == "name_taken"]
    assert [entry["file"] for entry in taken] == ["a.png"]
    assert taken[0]["detail"].endswith("the same name as that of a.jpg.")
    assert (tmp_path / "more" / "deep er" / "broken.png").is_file()


def test_more_pictures_than_fit_are_refused_before_any_is_made(bundle, tmp_path):
    (tmp_path / "many").mkdir()
    for number in range(482):
        (tmp_path / "many" / f"{number}.png").touch()
    with pytest.raises(ConfigError, match="holds 482 pictures; what is written has room for 481"):
        translate(
            bundle, tmp_path / "many", tmp_path / "a.mp4", TranslateConfig(domain="cat", styles=2)
        )


def test_settings_decide_whether_a_folder_goes_on(bundle, animals, tmp_path):
    out = tmp_path / "out"
    translate(bundle, animals, out, CAT)
    with pytest.raises(ConfigError, match="made by another bundle or with other settings"):
        translate(bundle, animals, out, TranslateConfig(domain="dog"), resume=True)
    with pytest.raises(ConfigError, match="exclude each other"):
        translate(bundle, animals, out, CAT, resume=True, overwrite=True)
    before = (out / "a.png").read_bytes()
    translate(bundle, animals, out, TranslateConfig(domain="dog"), overwrite=True)
    assert (out / "a.png").read_bytes() != before
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "file").touch()
    with pytest.raises(ConfigError, match="no translate.json, so they are not of an earlier call"):
        translate(bundle, animals, tmp_path / "foreign", CAT, resume=True)


def test_pictures_of_other_settings_do_not_stay_after_a_kill(bundle, animals, tmp_path):
    out, dog = tmp_path / "out", TranslateConfig(domain="dog")
    translate(bundle, animals, out, CAT)
    cat = (out / "deep er" / "b é.png").read_bytes()

    @contextlib.contextmanager
    def killed_after_one(label):
        def report(done, total, unit):
            if done == 1:
                raise KeyboardInterrupt

        yield report

    with pytest.raises(KeyboardInterrupt):
        translate(bundle, animals, out, dog, overwrite=True, progress=killed_after_one)
    translate(bundle, animals, out, dog, resume=True)
    assert (out / "deep er" / "b é.png").read_bytes() != cat


def test_a_grid_of_references(bundle, animals, tmp_path):
    config = TranslateConfig(domain="cat", references=(str(animals / "a.png"),), grid=True)
    result = translate(bundle, animals, tmp_path / "grid.png", config)
    assert [entry["file"].rpartition("/")[2] for entry in result["left_out"]] == ["broken.jpg"]
    grid = read_image(tmp_path / "grid.png")
    assert grid.shape == (3 * 34 - 2, 2 * 34 - 2, 3)
    assert (grid[:32, :32] == 255).all() and (grid[:32, 34:] == (10, 20, 30)).all()
    style = np.array((10, 20, 30)) / 127.5 - 1
    np.testing.assert_allclose(grid[80, 50], painted((200, 100, 50), style), atol=1)


def test_a_way_through_styles_begins_and_ends_with_the_first(bundle, animals, tmp_path):
    config = TranslateConfig(domain="cat", styles=2)
    result = translate(bundle, animals / "a.png", tmp_path / "way.mp4", config)
    assert (result["frames"], result["fps"]) == (42, 30.0)
    with VideoReader(tmp_path / "way.mp4") as reader:
        frames = [frame.image.astype(int) for frame in reader]
    first, last = (painted((10, 20, 30), colour(seed)) for seed in (0, 1))
    for index, expected in ((0, first), (10, (first + last) / 2), (20, last), (41, first)):
        np.testing.assert_allclose(frames[index][16, 50], expected, atol=6)
        np.testing.assert_allclose(frames[index][16, 10], (10, 20, 30), atol=6)


def test_styles_are_painted_in_batches(bundle):
    styles = np.random.default_rng(0).uniform(-1, 1, (23, 3)).astype(np.float32)
    image = np.full((32, 32, 3), 128, np.uint8)
    made = paint_in_styles(load_engine(bundle), image, None, styles)
    assert made.shape == (23, 32, 32, 3)
    np.testing.assert_allclose(made[:, 4, 4], painted((128, 128, 128), styles), atol=1)


def test_references_may_be_folders(animals):
    config = TranslateConfig(domain="cat", references=(str(animals),))
    names = [(choice.reference or "").rpartition("/")[2] for choice in config.choices()]
    assert names == ["a.png", "b é.png", "broken.jpg"]
    with pytest.raises(DataError, match="does not exist"):
        list_pictures(animals / "none")


def test_the_plan_tells_what_would_be_made(bundle, animals, tmp_path):
    plan = plan_translate(bundle, animals, tmp_path / "out", CAT)
    assert (plan["kind"], plan["domains"]) == ("folder", ["cat", "dog"])
    assert plan["styles"][0]["domain"] == "cat"
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_is_refused(bundle, animals, tmp_path):
    for changes, message in (
        ({"styles": 0}, "styles must be at least 1"),
        ({"styles": 2, "references": ("a.png",)}, "with references, leave them out"),
        ({"seed": 2, "references": ("a.png",)}, "with references, leave them out"),
        ({"grid": True, "full_frame": True}, "leave full_frame out, or the grid"),
        ({"visible_label": "künstlich"}, "made of ASCII letters"),
    ):
        with pytest.raises(ConfigError, match=message):
            TranslateConfig(domain="cat", **changes)
    video = tmp_path / "a.mp4"
    video.write_bytes(b"no video")
    with pytest.raises(ConfigError, match="not aligned by a face.*frames as a folder"):
        translate(bundle, video, tmp_path / "b.mp4", CAT)
    for told in ({"provenance": True}, {"visible_label": "AI"}):
        with pytest.raises(ConfigError, match="provenance and visible_label are for videos"):
            translate(bundle, animals, tmp_path / "out", TranslateConfig(domain="cat", **told))
    with pytest.raises(ConfigError, match="notes.txt is that of no picture"):
        translate(bundle, animals / "notes.txt", tmp_path / "b.png", CAT)
    export_toy(tmp_path / "toy")
    with pytest.raises(BundleError, match="'toy' bundle knows no domains"):
        translate(tmp_path / "toy", animals, tmp_path / "out", CAT)
