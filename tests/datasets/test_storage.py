import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from absl import logging

from facegan.config import write_json
from facegan.datasets import storage
from facegan.errors import DataError, VideoError


class Toy(tfds.core.GeneratorBasedBuilder):
    """Two numbers."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict({"number": np.int64})
        )

    def _split_generators(self, dl_manager):
        write_json(self.data_path / storage.REPORT_NAME, {"splits": {"train": 2}})
        return {"train": ((str(i), {"number": i}) for i in range(2))}

    def _generate_examples(self):
        return iter(())


class Failing(Toy):
    """Stops at its second record."""

    error: Exception

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        yield "0", {"number": 0}
        raise self.error


def test_preparing_says_nothing_on_stdout_and_leaves_settings_as_they_were(tmp_path, capsys):
    before = logging.get_verbosity()
    folder = storage.prepare_dataset(Toy(data_dir=tmp_path))
    assert capsys.readouterr().out == ""
    assert logging.get_verbosity() == before
    assert storage.read_report(folder) == {"splits": {"train": 2}}
    assert storage.open_dataset(folder).info.splits["train"].num_examples == 2


def test_preparing_again_reuses_unless_told_otherwise(tmp_path):
    folder = storage.prepare_dataset(Toy(data_dir=tmp_path))
    (folder / "mark").write_text("old")
    storage.prepare_dataset(Toy(data_dir=tmp_path))
    assert (folder / "mark").exists()
    storage.prepare_dataset(Toy(data_dir=tmp_path), overwrite=True)
    assert not (folder / "mark").exists()
    assert storage.open_dataset(folder).info.splits["train"].num_examples == 2


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        tf.errors.ResourceExhaustedError(None, None, "No space left on device"),
    ],
)
def test_a_full_disk_is_told_and_leaves_no_dataset(error, tmp_path):
    builder = Failing(data_dir=tmp_path)
    builder.error = error
    with pytest.raises(DataError, match="cannot be written: No space left on device."):
        storage.prepare_dataset(builder)
    with pytest.raises(DataError, match="holds no prepared dataset"):
        storage.open_dataset(builder.data_dir)


@pytest.mark.parametrize("error", [VideoError("clip.mp4 ended early."), RuntimeError("a bug")])
def test_other_errors_pass_as_they_are(error, tmp_path):
    builder = Failing(data_dir=tmp_path)
    builder.error = error
    with pytest.raises(type(error)) as caught:
        storage.prepare_dataset(builder)
    assert caught.value is error


def test_left_out_items_are_counted_and_listed_as_ranges():
    told = storage.list_left_out(
        {"no_face": [3, 1, 2, 9], "blurred": [], "not_chosen": range(0, 300, 2)}, limit=3
    )
    assert told == {
        "no_face": {"count": 4, "ranges": [[1, 3], [9, 9]]},
        "not_chosen": {"count": 150, "ranges": [[0, 0], [2, 2], [4, 4]]},
    }
