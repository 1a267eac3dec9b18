"""Aligning files and folders of pictures."""

import json
import shutil
import zipfile

import numpy as np
import pytest
import skimage.data
from PIL import Image

from facegan.config import write_json
from facegan.errors import ConfigError, DataError
from facegan.face.landmarks import DetectorConfig, make_detector
from facegan.face.portrait import extract_portrait, portrait_matrix
from facegan.image import read_image, write_image
from facegan.jobs.align import AlignConfig, align_faces, plan_align
from facegan.preparation.workers import WorkersConfig

CONFIG = AlignConfig(size=64)
HERE = WorkersConfig(processes=0)


@pytest.fixture(scope="module")
def person():
    """Half a portrait of Eileen Collins, [256, 256, 3]: its one face is some 50 pixels wide."""
    return np.ascontiguousarray(skimage.data.astronaut()[:256, 96:352])


@pytest.fixture
def photos(tmp_path, person):
    """A folder of pictures and of what is none."""
    root = tmp_path / "photos"
    (root / "sub folder").mkdir(parents=True)
    write_image(root / "anna.png", person)
    write_image(root / "sub folder" / "Zoë.png", person[:, ::-1])
    write_image(root / "wall.png", np.full((100, 90, 3), 120, np.uint8))
    (root / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    (root / "empty.jpg").touch()
    return root


def align(photos, out, config=CONFIG, **how):
    return align_faces(photos, out, config, workers=HERE, **how)


def listed(out):
    return json.loads((out / "align.json").read_text())["pictures"]


def files(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def stamps(out):
    return {p.name: p.stat().st_mtime_ns for p in out.rglob("*.png")}


def test_a_folder_is_aligned_and_what_cannot_be_is_named(photos, tmp_path, person):
    (photos / "link").symlink_to("/usr")
    out = tmp_path / "out"
    # By default in a process of its own.
    result = align_faces(photos, out, CONFIG)
    assert result == {
        "pictures": 5,
        "written": 2,
        "left_out": {"empty": 1, "no_face": 1, "truncated": 1, "outside_tree": 1},
        "output": str(out),
    }
    assert files(out) == ["align.json", "anna.png", "report.json", "sub folder/Zoë.png"]
    report = json.loads((out / "report.json").read_text())
    assert {row["file"]: row["reason"] for row in report["files"]} == {
        "broken.jpg": "truncated",
        "empty.jpg": "empty",
        "link": "outside_tree",
        "wall.png": "no_face",
    }
    face = make_detector(DetectorConfig()).detect(person)[0]
    matrix = portrait_matrix(face.landmarks_xy_px, 64)
    entry = listed(out)["anna.png"]
    assert (entry["width"], entry["height"]) == (256, 256)
    assert entry["portraits"] == [{"file": "anna.png", "matrix": matrix.tolist()}]
    expected = extract_portrait(person, matrix, 64)
    np.testing.assert_array_equal(read_image(out / "anna.png"), expected)


def test_one_picture_is_turned_as_its_exif_says(tmp_path, person):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it clockwise to see it upright
    lying = Image.fromarray(np.rot90(person).copy())
    (tmp_path / "elsewhere").mkdir()
    lying.save(tmp_path / "elsewhere" / "phone.jpg", quality=98, exif=exif)
    (tmp_path / "link.jpg").symlink_to(tmp_path / "elsewhere" / "phone.jpg")
    result = align(tmp_path / "link.jpg", tmp_path / "out")
    assert (result["pictures"], result["written"]) == (1, 1)
    write_image(tmp_path / "upright.png", person)
    align(tmp_path / "upright.png", tmp_path / "other")
    turned = read_image(tmp_path / "out" / "link.png").astype(int)
    upright = read_image(tmp_path / "other" / "upright.png")
    assert np.abs(turned - upright).mean() < 8 < np.abs(np.rot90(turned) - upright).mean()


def test_all_faces_come_from_the_largest_on(tmp_path, person):
    large = np.asarray(Image.fromarray(person).resize((512, 512)))
    both = np.full((512, 768, 3), 90, np.uint8)
    both[:, 256:], both[128:384, :256] = large, person
    (tmp_path / "in").mkdir()
    write_image(tmp_path / "in" / "a.b.png", both)
    config = AlignConfig(size=128, all_faces=True)
    assert align(tmp_path / "in", tmp_path / "all", config)["written"] == 2
    assert files(tmp_path / "all") == ["a.b_0.png", "a.b_1.png", "align.json", "report.json"]
    portraits = listed(tmp_path / "all")["a.b.png"]["portraits"]
    scales = [np.hypot(*np.array(p["matrix"])[:, 0]) for p in portraits]
    assert scales[1] / scales[0] == pytest.approx(2.0, rel=0.1)
    # The small face is left out alone where it is too small.
    half = align(tmp_path / "in", tmp_path / "one", AlignConfig(size=512, all_faces=True))
    assert half["written"] == 1 and half["left_out"] == {"too_small": 1}
    assert (tmp_path / "one" / "a.b_0.png").exists()
    align(tmp_path / "in", tmp_path / "largest", AlignConfig(size=128))
    assert files(tmp_path / "largest") == ["a.b.png", "align.json", "report.json"]


def test_a_face_that_is_too_small_is_left_out(tmp_path, person):
    write_image(tmp_path / "a.png", person)
    with pytest.raises(DataError, match=r"gave no portrait: .* at least 256 are needed"):
        align(tmp_path / "a.png", tmp_path / "out", AlignConfig(size=512))
    taken = align(tmp_path / "a.png", tmp_path / "new", AlignConfig(size=512, min_scale=0.1))
    assert taken["written"] == 1
    assert read_image(tmp_path / "new" / "a.png").shape == (512, 512, 3)


def test_resume_does_what_is_not_done_yet(photos, tmp_path, person):
    out = tmp_path / "out"
    align(photos, out)
    first = stamps(out)
    with pytest.raises(ConfigError, match="is not empty. Add --resume"):
        align(photos, out)
    with pytest.raises(ConfigError, match="made with other settings"):
        align(photos, out, AlignConfig(size=32), resume=True)
    assert align(photos, out, resume=True)["written"] == 2 and stamps(out) == first
    # A new picture, a changed one, a portrait that was removed, a picture that is gone.
    write_image(photos / "bert.png", person)
    write_image(photos / "wall.png", person[:, ::-1])
    assert plan_align(photos, out, CONFIG, resume=True)["to_do"] == 2
    again = align(photos, out, resume=True)
    assert again["written"] == 4 and again["left_out"] == {"empty": 1, "truncated": 1}
    assert first.items() < stamps(out).items()
    (out / "anna.png").unlink()
    write_image(photos / "bert.png", np.zeros((50, 50, 3), np.uint8))
    shutil.rmtree(photos / "sub folder")
    last = align(photos, out, resume=True)
    assert last["written"] == 3 and last["left_out"]["no_face"] == 1
    assert sorted(stamps(out)) == ["Zoë.png", "anna.png", "wall.png"]
    assert listed(out)["bert.png"]["portraits"] == []


def test_overwrite_removes_the_old_portraits_and_nothing_else(photos, tmp_path):
    out = tmp_path / "out"
    align(photos, out, AlignConfig(size=64, all_faces=True))
    (out / "mine.txt").write_text("mine")
    (tmp_path / "theirs.png").touch()
    known = json.loads((out / "align.json").read_text())
    known["pictures"]["wall.png"]["portraits"] = [{"file": "../theirs.png", "matrix": []}]
    write_json(out / "align.json", known)
    align(photos, out, AlignConfig(size=32), overwrite=True)
    assert files(out) == [
        "align.json",
        "anna.png",
        "mine.txt",
        "report.json",
        "sub folder/Zoë.png",
    ]
    assert read_image(out / "anna.png").shape == (32, 32, 3)
    assert (tmp_path / "theirs.png").exists()


class Stop:
    """Progress that interrupts after a number of pictures."""

    def __init__(self, after):
        self.after, self.calls = after, []

    def __call__(self, label):
        return self

    def __enter__(self):
        return self._count

    def __exit__(self, *error):
        return None

    def _count(self, done, total, unit):
        self.calls.append((done, total))
        if done == self.after:
            raise KeyboardInterrupt


def test_what_was_stopped_goes_on(tmp_path, person):
    (tmp_path / "in").mkdir()
    for number in range(20):
        write_image(tmp_path / "in" / f"{number:02}.png", person)
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        align(tmp_path / "in", out, progress=Stop(18))
    assert listed(out) == {} and len(stamps(out)) >= 16
    first = stamps(out)
    assert plan_align(tmp_path / "in", out, CONFIG, resume=True)["to_do"] == 4
    rest = Stop(None)
    assert align(tmp_path / "in", out, resume=True, progress=rest)["written"] == 20
    assert rest.calls[0] == (0, 4) and rest.calls[-1] == (4, 4)
    unchanged = [f"{number:02}.png" for number in range(16)]
    assert [stamps(out)[name] for name in unchanged] == [first[name] for name in unchanged]
    assert len(listed(out)) == 20
    assert files(out)[-2:] == ["align.json", "report.json"] and not (out / ".align").exists()


def test_a_portrait_that_could_not_be_written_is_tried_again(photos, tmp_path):
    out = tmp_path / "out"
    (photos / "later").mkdir()
    shutil.move(photos / "sub folder" / "Zoë.png", photos / "later" / "z.png")
    align(photos, out)
    shutil.rmtree(out / "later")
    (out / "later").touch()
    blocked = align(photos, out, resume=True)
    assert blocked["written"] == 1 and blocked["left_out"]["not_written"] == 1
    (out / "later").unlink()
    assert align(photos, out, resume=True)["written"] == 2
    assert (out / "later" / "z.png").exists()


def test_two_pictures_of_one_name_do_not_overwrite_each_other(photos, tmp_path, person):
    Image.fromarray(person[:, ::-1].copy()).save(photos / "anna.jpg", quality=95)
    result = align(photos, tmp_path / "out")
    assert result["written"] == 2 and result["left_out"]["name_taken"] == 1
    # The list is sorted, so anna.jpg comes before anna.png.
    assert listed(tmp_path / "out")["anna.jpg"]["portraits"][0]["file"] == "anna.png"
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    (taken,) = [row for row in report["files"] if row["reason"] == "name_taken"]
    assert taken["file"] == "anna.png" and "anna.jpg" in taken["detail"]


def test_a_zip_is_read_and_leads_nowhere(photos, tmp_path):
    path = tmp_path / "photos.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(photos / "anna.png", "a/anna.png")
        archive.write(photos / "anna.png", "../evil.png")
    (tmp_path / "made").mkdir()
    result = align(path, tmp_path / "made" / "out")
    assert result["written"] == 1 and result["left_out"] == {"outside_tree": 1}
    assert files(tmp_path / "made" / "out")[0] == "a/anna.png"
    assert not list(tmp_path.rglob("evil*"))


def test_outputs_that_mix_with_other_things_are_refused(photos, tmp_path):
    for output in (photos, photos / "new"):
        with pytest.raises(ConfigError, match="is where the pictures of"):
            align(photos, output)
    with pytest.raises(ConfigError, match="is where the pictures of"):
        align(photos / "anna.png", photos, overwrite=True)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").touch()
    for how in ({}, {"resume": True}, {"overwrite": True}):
        with pytest.raises(ConfigError, match="holds files but no align.json"):
            align(photos, tmp_path / "full", **how)
    with pytest.raises(ConfigError, match="is a file"):
        align(photos, tmp_path / "full" / "letter.txt")
    with pytest.raises(ConfigError, match="exclude each other"):
        align(photos, tmp_path / "out", resume=True, overwrite=True)
    write_json(tmp_path / "full" / "align.json", {"pictures": {"a.png": 3}})
    with pytest.raises(ConfigError, match="lists no pictures"):
        align(photos, tmp_path / "full", resume=True)
    assert not (tmp_path / "out").exists() and len(files(photos)) == 5


def test_inputs_and_settings_that_lead_to_nothing_are_refused(photos, tmp_path):
    out = tmp_path / "out"
    (tmp_path / "hollow").mkdir()
    with pytest.raises(DataError, match="holds no files"):
        align(tmp_path / "hollow", out)
    with pytest.raises(DataError, match="does not exist"):
        align(tmp_path / "absent", out)
    with pytest.raises(ConfigError, match="needs model_path"):
        align(photos, out, AlignConfig(detector=DetectorConfig(name="mediapipe")))
    with pytest.raises(ConfigError, match="size must be a power of two"):
        AlignConfig(size=100)
    with pytest.raises(ConfigError, match="min_scale"):
        AlignConfig(min_scale=1.5)
    assert not out.exists()
    for name in ("anna.png", "sub folder/Zoë.png"):
        (photos / name).unlink()
    with pytest.raises(DataError, match="report.json says why"):
        align(photos, out)
    assert len(json.loads((out / "report.json").read_text())["files"]) == 3
