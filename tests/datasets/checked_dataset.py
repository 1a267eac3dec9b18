"""Small prepared datasets with chosen records, for tests of what checks them."""

import numpy as np
import tensorflow_datasets as tfds

from facegan.config import write_json
from facegan.datasets.storage import REPORT_NAME, prepare_dataset
from facegan.image import encode_labels, encode_picture

SIZE = 32


class Chosen(tfds.core.GeneratorBasedBuilder):
    """Records as they are given, faults included."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, *, fields, records, report=None, **kwargs):
        self._fields, self._records, self._report = fields, records, report
        super().__init__(**kwargs)

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(self._fields)
        )

    def _split_generators(self, dl_manager):
        if self._report is not None:
            write_json(self.data_path / REPORT_NAME, self._report)
        return {split: self._generate_examples(split) for split in self._records}

    def _generate_examples(self, split):
        # One shard keeps the order in which TFDS sorts the hashed keys; tests ask for facts that
        # do not depend on it, or have one record.
        for number, record in enumerate(self._records[split]):
            yield f"{split}-{number}", record


def store(folder, fields, records, report=None):
    """Writes records by split; returns the dataset's folder."""
    builder = Chosen(data_dir=folder, fields=fields, records=records, report=report)
    return prepare_dataset(builder)


def face_fields(**more):
    return {
        "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
        "label_map": tfds.features.Image(shape=(None, None, 1), encoding_format="png"),
        "landmarks_xy_px": tfds.features.Tensor(shape=(68, 2), dtype=np.float32),
        "identity": tfds.features.Text(),
        **more,
    }


def picture(seed, size=SIZE):
    """A picture [size, size, 3] that no other seed gives."""
    return np.random.default_rng(seed).integers(60, 200, (size, size, 3), np.uint8)


def labels(*ids, size=SIZE):
    """A label map of equal bands."""
    bands = np.array(ids, np.uint8)[np.arange(size) * len(ids) // size]
    return np.repeat(bands[:, None], size, axis=1)


def face(seed, **changes):
    """A record of ``face_fields`` without a fault, but for what is changed."""
    return {
        "image": encode_picture(picture(seed)),
        "label_map": encode_labels(labels(0, 1, 13)),
        "landmarks_xy_px": np.random.default_rng(seed).uniform(4, 28, (68, 2)).astype(np.float32),
        "identity": f"person {seed}",
        **changes,
    }
