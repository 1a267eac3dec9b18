import json

import numpy as np
import skimage.data
from PIL import Image


def test_align_faces_refuses(refused, junk):
    (junk / "photos").mkdir()
    base = ("align_faces", "--input", junk / "photos")
    assert "--output must be given" in refused(*base)
    assert "exclude each other" in refused(*base, "--output=o", "--resume", "--overwrite")
    assert "holds files but no align.json" in refused(*base, "--output", junk / "occupied")
    assert "size must be a power of two" in refused(*base, "--output=o", "--size=100")
    sentence = refused("align_faces", "--input", junk / "absent", "--output", junk / "o")
    assert "absent" in sentence and "does not exist" in sentence
    sentence = refused(*base, "--output", junk / "o")
    assert "photos" in sentence and "holds no files" in sentence
    (junk / "photos" / "a.jpg").touch()
    sentence = refused(*base, "--output", junk / "o", "--detector=mediapipe")
    assert "needs model_path" in sentence and not (junk / "o").exists()


def test_align_faces_says_what_it_would_do_and_does_it(run_tool, tmp_path):
    (tmp_path / "in").mkdir()
    person = np.ascontiguousarray(skimage.data.astronaut()[:256, 96:352])
    Image.fromarray(person).save(tmp_path / "in" / "a person.png")
    flags = ("--input", tmp_path / "in", "--output", tmp_path / "out", "--size=64")
    code, out, _ = run_tool("align_faces", *flags, "--dry_run")
    plan = json.loads(out)
    assert code == 0 and (plan["pictures"], plan["to_do"]) == (1, 1)
    assert plan["config"]["size"] == 64 and not (tmp_path / "out").exists()
    code, out, err = run_tool("align_faces", *flags, "--all_faces")
    assert code == 0, err
    assert json.loads(out)["written"] == 1
    assert (tmp_path / "out" / "a person_0.png").is_file()
