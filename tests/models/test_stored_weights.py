import gc

import numpy as np
import pytest

from facegan.errors import CheckpointError
from facegan.models.stored_weights import stored_arrays


def read(path):
    with stored_arrays(path, "toy", "Take another.") as stored:
        return stored["a"]


def test_arrays_come_by_name(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.arange(3))
    assert read(tmp_path / "a.npz").tolist() == [0, 1, 2]


def test_whatever_is_wrong_is_one_sentence(tmp_path):
    np.savez(tmp_path / "b.npz", b=np.arange(3))
    np.save(tmp_path / "one.npy", np.arange(3))
    np.savez(tmp_path / "cut.npz", a=np.arange(3000))
    data = (tmp_path / "cut.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(data[:2000])
    (tmp_path / "text.npz").write_text("weights")
    for name in ("b.npz", "one.npy", "cut.npz", "text.npz", "none.npz"):
        with pytest.raises(CheckpointError) as caught:
            read(tmp_path / name)
        message = str(caught.value)
        assert message.startswith(f"Cannot read toy weights from {tmp_path / name}: ")
        assert message.endswith(" Take another.")
    gc.collect()  # a file that was left open is told here


def test_a_wrong_shape_is_told_too(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.arange(3))
    with (
        pytest.raises(CheckpointError, match="Cannot read toy weights"),
        stored_arrays(tmp_path / "a.npz", "toy", "Take another.") as stored,
    ):
        np.zeros(4)[:] = stored["a"]
