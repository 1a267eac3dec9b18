import contextlib
import json
import shutil

import numpy as np
import pytest

from facegan.bundle import read_manifest
from facegan.errors import BundleError, ConfigError, DataError, VideoError
from facegan.image import read_image
from facegan.jobs.face_layouts import GridConfig, MixingConfig, TruncationsConfig, WalkConfig
from facegan.jobs.generate import SETTINGS_NAME, GenerateConfig, generate, plan_generate
from facegan.render.engine import BundleMethods, load_engine
from facegan.render.sampling import (
    draw_seeded_latents,
    find_mean_w,
    map_latents,
    paint_w,
    read_w,
)
from facegan.video.reader import VideoReader
from tests.style_puppet import export_style_puppet
from tests.toy_bundle import export_toy

SHAPE = (8, 8)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return export_style_puppet(tmp_path_factory.mktemp("bundles") / "puppet")


@pytest.fixture(scope="module")
def paint(bundle):
    """Paints styles."""
    engine = load_engine(bundle)
    return lambda w: np.stack(list(paint_w(engine, w)))


@pytest.fixture(scope="module")
def draw(bundle):
    """Styles of seeds."""
    methods = BundleMethods(bundle, read_manifest(bundle))
    return lambda *seeds: map_latents(methods, draw_seeded_latents(methods, seeds))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def tile(sheet, row, column, size=32):
    y, x = row * (size + 2), column * (size + 2)
    return sheet[y : y + size, x : x + size]


@contextlib.contextmanager
def killed_after_one(label):
    def report(done, total, unit):
        if done == 1:
            raise KeyboardInterrupt

    yield report


def test_a_picture_follows_from_its_seed_alone(bundle, paint, draw, tmp_path):
    expected = paint(draw(17))[0]
    one = generate(bundle, tmp_path / "face.png", GenerateConfig(seeds="17"))
    assert one == {"output": str(tmp_path / "face.png"), "kind": "picture", "pictures": 1}
    many = generate(bundle, tmp_path / "faces", GenerateConfig(seeds="0-19"))
    assert (many["kind"], many["pictures"], many["written"]) == ("folder", 20, 20)
    assert names(tmp_path / "faces") == [
        SETTINGS_NAME,
        *(f"seed{number:06d}.png" for number in range(20)),
    ]
    for path in (tmp_path / "face.png", tmp_path / "faces" / "seed000017.png"):
        np.testing.assert_allclose(read_image(path), expected, atol=1)
    assert np.abs(read_image(tmp_path / "faces" / "seed000016.png") - 0.0 - expected).mean() > 5


def test_truncation_is_towards_the_mean_face(bundle, paint, draw, tmp_path):
    mean = find_mean_w(BundleMethods(bundle, read_manifest(bundle)))
    w = draw(3)
    w[:, :4] = 0.5 * (w[:, :4] + mean[:4])
    config = GenerateConfig(seeds="3", truncation=0.5, truncated_layers=4)
    generate(bundle, tmp_path / "a.png", config)
    np.testing.assert_allclose(read_image(tmp_path / "a.png"), paint(w)[0], atol=1)


def test_a_folder_goes_on_where_it_was_killed(bundle, tmp_path):
    out, config = tmp_path / "out", GenerateConfig(seeds="0-2")
    with pytest.raises(KeyboardInterrupt):
        generate(bundle, out, config, progress=killed_after_one)
    assert names(out) == [SETTINGS_NAME, "seed000000.png"]
    with pytest.raises(ConfigError, match="is not empty. Add --resume"):
        generate(bundle, out, config)
    before = (out / "seed000000.png").stat().st_mtime_ns
    assert generate(bundle, out, config, resume=True)["written"] == 2
    # More of the same may come.
    assert generate(bundle, out, GenerateConfig(seeds="2-3"), resume=True)["written"] == 1
    assert (out / "seed000000.png").stat().st_mtime_ns == before
    with pytest.raises(ConfigError, match="with other settings"):
        generate(bundle, out, GenerateConfig(seeds="0-2", truncation=0.5), resume=True)


def test_pictures_of_other_settings_do_not_stay(bundle, tmp_path):
    out, near = tmp_path / "out", GenerateConfig(seeds="0-2", truncation=0.5)
    generate(bundle, out, GenerateConfig(seeds="0-3"))
    far = (out / "seed000001.png").read_bytes()
    (out / "notes.txt").touch()
    with pytest.raises(KeyboardInterrupt):
        generate(bundle, out, near, overwrite=True, progress=killed_after_one)
    assert names(out) == [SETTINGS_NAME, "notes.txt", "seed000000.png"]
    assert generate(bundle, out, near, resume=True)["written"] == 2
    assert (out / "seed000001.png").read_bytes() != far


def test_a_grid_of_all(bundle, paint, draw, tmp_path):
    config = GenerateConfig(seeds="5,9,2", layout=GridConfig())
    result = generate(bundle, tmp_path / "grid.png", config)
    assert (result["kind"], result["rows"], result["columns"]) == ("grid", 2, 2)
    sheet = read_image(tmp_path / "grid.png")
    assert sheet.shape == (66, 66, 3)
    for number, image in enumerate(paint(draw(5, 9, 2))):
        np.testing.assert_allclose(tile(sheet, *divmod(number, 2)), image, atol=1)
    assert (tile(sheet, 1, 1) == 255).all()


def test_a_sheet_of_truncations(bundle, paint, draw, tmp_path):
    layout = TruncationsConfig(truncations=(-1.0, 0.0, 1.0))
    generate(bundle, tmp_path / "psi.png", GenerateConfig(seeds="5,9", layout=layout))
    sheet = read_image(tmp_path / "psi.png")
    assert sheet.shape == (66, 100, 3)
    np.testing.assert_array_equal(tile(sheet, 0, 1), tile(sheet, 1, 1))  # the mean face
    np.testing.assert_allclose(tile(sheet, 1, 2), paint(draw(9))[0], atol=1)


def test_a_sheet_of_mixtures(bundle, paint, draw, tmp_path):
    layout = MixingConfig(columns="4,5,6", layers="middle,0")
    config = GenerateConfig(seeds="1,2", layout=layout)
    result = generate(bundle, tmp_path / "mix.png", config, save_w=tmp_path / "w.npz")
    assert result["layers"] == [0, 4, 5, 6, 7]
    sheet = read_image(tmp_path / "mix.png")
    assert sheet.shape == (100, 134, 3)
    assert (tile(sheet, 0, 0) == 255).all()
    np.testing.assert_allclose(tile(sheet, 0, 2), paint(draw(5))[0], atol=1)
    np.testing.assert_allclose(tile(sheet, 2, 0), paint(draw(2))[0], atol=1)
    row, column = draw(2, 5)
    row[[0, 4, 5, 6, 7]] = column[[0, 4, 5, 6, 7]]
    np.testing.assert_allclose(tile(sheet, 2, 2), paint(row[None])[0], atol=1)
    np.testing.assert_allclose(read_w(tmp_path / "w.npz", SHAPE), draw(1, 2), atol=1e-6)


def test_a_walk_is_a_closed_video(bundle, paint, draw, tmp_path):
    layout = WalkConfig(seconds=0.4, fps=10)
    result = generate(bundle, tmp_path / "a.mp4", GenerateConfig(seeds="1,5,9", layout=layout))
    assert (result["kind"], result["frames"], result["fps"]) == ("walk", 12, 10)
    with VideoReader(tmp_path / "a.mp4") as reader:
        frames = [frame.image.mean(axis=(0, 1)) for frame in reader]
    expected = paint(draw(1, 5, 9)).mean(axis=(1, 2))
    np.testing.assert_allclose(np.stack(frames)[[0, 4, 8]], expected, atol=8)


def test_styles_of_files_are_numbered_faces(bundle, paint, draw, tmp_path):
    generate(bundle, tmp_path / "a.png", GenerateConfig(seeds="7"), save_w=tmp_path / "seven.npz")
    np.savez(tmp_path / "two.npz", w=draw(8, 9))
    files = (str(tmp_path / "seven.npz"), str(tmp_path / "two.npz"))
    out = tmp_path / "out"
    result = generate(bundle, out, GenerateConfig(w=files), save_w=out / "w.npz")
    assert (result["pictures"], result["w"]) == (3, str(out / "w.npz"))
    assert names(out) == [SETTINGS_NAME, "w.npz", *(f"w00000{n}.png" for n in range(3))]
    np.testing.assert_allclose(read_image(out / "w000002.png"), paint(draw(9))[0], atol=1)
    layout = MixingConfig(columns="2", layers="fine,0")
    with pytest.raises(ConfigError, match="'fine,0' names layer 8"):
        generate(bundle, tmp_path / "x.png", GenerateConfig(w=files, layout=layout))
    for seeds, columns in (("0-3", "0"), ("0", "3")):
        config = GenerateConfig(w=files, seeds=seeds, layout=MixingConfig(columns=columns))
        with pytest.raises(ConfigError, match="names 3, and the styles of the files are 0-2"):
            plan_generate(bundle, tmp_path / "x.png", config)
    # The same styles under another name go on, others do not.
    shutil.move(files[0], tmp_path / "moved.npz")
    moved = GenerateConfig(w=(str(tmp_path / "moved.npz"), files[1]))
    assert generate(bundle, out, moved, save_w=out / "w.npz", resume=True)["written"] == 0
    with pytest.raises(ConfigError, match="with other settings"):
        generate(bundle, out, GenerateConfig(w=files[1:]), resume=True)
    with pytest.raises(DataError, match="Cannot read styles from .*seven.npz"):
        generate(bundle, tmp_path / "x.png", GenerateConfig(w=files[:1]))


def test_the_plan_makes_nothing(bundle, tmp_path):
    plan = plan_generate(bundle, tmp_path / "out", GenerateConfig(seeds="3,17,20-25"))
    assert (plan["kind"], plan["pictures"], plan["model"]) == ("folder", 8, "stylegan2")
    assert plan["config"]["seeds"] == "3,17,20-25"
    assert not (tmp_path / "out").exists()
    json.dumps(plan)


def test_what_does_not_go_together_is_refused(bundle, tmp_path):
    (tmp_path / "there.png").touch()
    (tmp_path / "there.npz").touch()
    walk, pair = WalkConfig(), {"seeds": "1,2"}
    for output, settings, ways, message in (
        ("a.png", pair, {}, "a.png is one picture, and 2 faces are asked for. Add --grid"),
        ("a.webp", {}, {}, r"written as .png, .jpg, .jpeg or into a folder.*; got 'a.webp'"),
        ("a.gif", {}, {}, "and videos as .mp4, .m4v, .mov, .mkv; got 'a.gif'"),
        ("out", {**pair, "layout": walk}, {}, "of a walk must end in .mp4.*, got 'out'"),
        ("out", {**pair, "layout": GridConfig()}, {}, "of a sheet must end in .png.*, got 'out'"),
        ("a.mp4", {"layout": walk}, {}, "name at least two of them"),
        ("out", {"seeds": "4,2-5"}, {}, "names a face twice"),
        ("a.png", {"truncated_layers": 9, "truncation": 0.5}, {}, "must be 1 to 8, the layers"),
        ("a.png", {"truncated_layers": 0, "truncation": 0.5}, {}, "must be 1 to 8, the layers"),
        ("there.png", {}, {}, "exists already"),
        ("none/a.png", {}, {}, "the folder .*none does not exist"),
        ("a.png", {}, {"resume": True}, "is a file; leave resume out"),
        ("there.png", {}, {"overwrite": True, "save_w": "a.txt"}, "must end in .npz, got 'a.txt'"),
        ("a.png", {}, {"save_w": tmp_path / "there.npz"}, "exists already"),
        ("bundle", {}, {}, "lies in the bundle"),
        ("out", {}, {"save_w": bundle / "w.npz"}, "lies in the bundle"),
        (
            "grid.png",
            {"seeds": "0-999999", "layout": GridConfig()},
            {},
            "1000 x 1000 pictures of 32 px would have 33998 x 33998 px; .* Take fewer",
        ),
    ):
        place = bundle / "out" if output == "bundle" else tmp_path / output
        with pytest.raises((ConfigError, VideoError), match=message):
            plan_generate(bundle, place, GenerateConfig(**settings), **ways)
    np.savez(tmp_path / "w.npz", w=np.zeros(SHAPE))
    own = GenerateConfig(w=(str(tmp_path / "w.npz"),))
    with pytest.raises(ConfigError, match="w.npz is read itself"):
        plan_generate(bundle, tmp_path / "a", own, save_w=tmp_path / "w.npz", overwrite=True)
    export_toy(tmp_path / "toy")
    with pytest.raises(BundleError, match="'toy' bundle makes no faces of noise"):
        plan_generate(tmp_path / "toy", tmp_path / "out", GenerateConfig())


def test_settings_that_cannot_be_are_refused():
    for settings, message in (
        ({"seeds": "-1"}, "seeds must be whole numbers from 0 on"),
        ({"truncation": float("nan")}, "truncation must be a finite number"),
        ({"truncated_layers": 4}, "changes nothing without a truncation"),
        (
            {"truncation": 0.5, "layout": TruncationsConfig(truncations=(0.0,))},
            "truncation and truncations exclude each other",
        ),
        ({"w": ("a.npz",), "layout": WalkConfig(space="z")}, "have no latents"),
    ):
        with pytest.raises(ConfigError, match=message):
            GenerateConfig(**settings)
    GenerateConfig(truncated_layers=4, layout=TruncationsConfig(truncations=(0.0,)))
