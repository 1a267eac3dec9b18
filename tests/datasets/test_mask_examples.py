import numpy as np
import pytest
import tensorflow as tf

from facegan.datasets import pipeline
from facegan.datasets.label_examples import LabelMapExample
from facegan.datasets.mask_examples import MaskExample
from facegan.datasets.transforms import Augmentation, AugmentConfig
from facegan.errors import DataError
from facegan.face.conditioning import MaskConditioningConfig
from facegan.face.labels import CELEBAMASK19, GROUPS7
from facegan.face.mask_groups import mean_colours, split_groups
from facegan.image import encode_labels, encode_picture, to_float

CONFIG = MaskConditioningConfig(size=32)


@pytest.fixture
def record():
    rng = np.random.default_rng(0)
    label_map = np.repeat(np.repeat(rng.integers(0, 19, (8, 8)), 8, 0), 8, 1).astype(np.uint8)
    return {
        "image": encode_picture(rng.integers(0, 256, (64, 64, 3), np.uint8)),
        "label_map": encode_labels(label_map),
        "descriptor": rng.normal(0, 0.1, 128).astype(np.float32),
    }


@pytest.mark.parametrize(
    "move",
    [Augmentation(), Augmentation(flip=True, scale=1.2, shift_xy=(0.1, 0.0), brightness=0.2)],
    ids=["still", "moved"],
)
def test_groups_and_colours_are_those_of_the_moved_picture(record, move):
    maker = MaskExample(CONFIG)
    made = maker(record, move)
    assert {k: (v.shape, v.dtype.type) for k, v in made.items()} == maker.outputs
    parts = LabelMapExample(32, GROUPS7, CELEBAMASK19)(record, move)
    for name in ("image", "label_map"):
        np.testing.assert_array_equal(made[name], parts[name])
    for group in range(7):
        inside = made["image"][made["label_map"] == group + 1]
        np.testing.assert_allclose(made["colours"][group], to_float(inside).mean(axis=0), atol=1e-5)
    expected = mean_colours(made["image"], split_groups(made["label_map"], 7))
    np.testing.assert_array_equal(made["colours"], expected)
    np.testing.assert_array_equal(made["identity"], record["descriptor"])


def test_nobody_is_asked_for_who_is_not_wanted(record):
    maker = MaskExample(MaskConditioningConfig(size=32, identity=False))
    assert maker.fields == ("image", "label_map")
    del record["descriptor"]
    assert set(maker(record, Augmentation())) == {"image", "label_map", "colours"}


def test_a_record_without_a_face_is_refused(record):
    record["descriptor"][:] = np.nan
    with pytest.raises(DataError, match="one_face=true, .*conditioning.identity=false"):
        MaskExample(CONFIG)(record, Augmentation())


def test_the_pipeline_passes_all_of_it_on(record):
    rows = {name: [value, value] for name, value in record.items()}
    records = tf.data.Dataset.from_tensor_slices(rows)
    config = pipeline.PipelineConfig(batch_size=4, augment=AugmentConfig(flip=True))
    maker = MaskExample(CONFIG)
    batches = pipeline.make_pipeline(records, maker, config)
    assert batches.element_spec == pipeline.batch_spec(maker, 4)
    batch = next(iter(batches.as_numpy_iterator()))
    assert batch["image"].dtype == np.float32 and batch["label_map"].dtype == np.uint8
    assert batch["colours"].shape == (4, 7, 3) and batch["identity"].shape == (4, 128)
