import numpy as np
import pytest

from facegan.convert.weights_file import (
    find_problem,
    refuse_existing,
    refuse_problems,
    write_weights,
)
from facegan.errors import CheckpointError


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (None, "is missing"),
        (np.zeros((2, 3)), "is [2, 3], not [3]"),
        (np.zeros(3, np.int64), "is int64, not float"),
        (np.array([0, np.inf, 0], np.float16), "has values that are not finite"),
        (np.zeros(3, np.float16), ""),
    ],
)
def test_problems(value, problem):
    assert find_problem(value, (3,)) == problem


def test_the_first_problems_are_told():
    refuse_problems("a.pth", "net", [])
    with pytest.raises(CheckpointError, match=r"^a\.pth is no net: a; b\.$"):
        refuse_problems("a.pth", "net", ["a", "b"])
    with pytest.raises(CheckpointError, match=r": a; b; c; d; e; f; and 1 more\.$"):
        refuse_problems("a.pth", "net", list("abcdefg"))


def test_files_are_written_whole(tmp_path):
    path = tmp_path / "a.npz"
    refuse_existing(path, overwrite=False)
    write_weights(path, {"x/y": np.arange(3.0)})
    with np.load(path) as stored:
        np.testing.assert_array_equal(stored["x/y"], [0, 1, 2])
    refuse_existing(path, overwrite=True)
    with pytest.raises(CheckpointError, match="is there already"):
        refuse_existing(path, overwrite=False)
    with pytest.raises(CheckpointError, match="Cannot write"):
        write_weights(tmp_path / "absent" / "a.npz", {})
    (tmp_path / "folder").mkdir()
    with pytest.raises(CheckpointError, match="Cannot write"):
        write_weights(tmp_path / "folder", {})
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.npz", "folder"]
