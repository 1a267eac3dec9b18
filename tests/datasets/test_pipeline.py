import shutil

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from facegan.datasets import pipeline, storage
from facegan.datasets.examples import LandmarkExample, PictureExample
from facegan.datasets.transforms import AugmentConfig
from facegan.errors import ConfigError, DataError
from facegan.face.conditioning import ConditioningConfig
from facegan.face.landmarks import MEAN_SHAPE
from facegan.image import encode_picture

SIZE = 32
COUNT = 10


def _records(count=COUNT, size=SIZE):
    rng = np.random.default_rng(7)
    images = rng.integers(0, 256, (count, size, size, 3), np.uint8)
    landmarks = MEAN_SHAPE * (0.7 * size) + 0.15 * size + rng.normal(0, 0.5, (count, 68, 2))
    return tf.data.Dataset.from_tensor_slices(
        {
            "image": [encode_picture(image) for image in images],
            "landmarks_xy_px": landmarks.astype(np.float32),
            "frame_index": np.arange(count),
        }
    )


class Number:
    """Passes the frame index through and adds a label map of it."""

    fields = ("frame_index",)
    outputs = {"number": ((), np.int64), "labels": ((2, 3), np.uint8)}

    def __call__(self, record, augmentation):
        number = record["frame_index"]
        return {
            "number": np.int64(number),
            "labels": np.full((2, 3), number % 256, np.uint8),
        }


def _faces():
    return LandmarkExample(ConditioningConfig(size=SIZE))


def _take(dataset, count):
    return [{name: value.numpy() for name, value in batch.items()} for batch in dataset.take(count)]


def _numbers(count, batches, *, total=COUNT, window=4096, **kwargs):
    config = pipeline.PipelineConfig(batch_size=count, shuffle_window=window)
    records = tf.data.Dataset.range(total).map(lambda i: {"frame_index": i})
    made = pipeline.make_pipeline(records, Number(), config, **kwargs)
    return np.concatenate([batch["number"] for batch in _take(made, batches)])


def test_batch_holds_floats_of_the_declared_shapes():
    config = pipeline.PipelineConfig(batch_size=4)
    dataset = pipeline.make_pipeline(_records(), _faces(), config)
    assert {k: tuple(v.shape) for k, v in dataset.element_spec.items()} == {
        "condition": (4, SIZE, SIZE, 3),
        "image": (4, SIZE, SIZE, 3),
    }
    (batch,) = _take(dataset, 1)
    for value in batch.values():
        assert value.dtype == np.float32
        assert value.min() >= -1 and value.max() <= 1
    assert batch["condition"].max() > 0.2  # light lines
    assert np.median(batch["condition"]) == -1  # on black


@pytest.mark.parametrize("window", [4, 4096])
def test_a_resumed_run_goes_on_with_the_very_batches_it_would_have_had(window):
    config = pipeline.PipelineConfig(batch_size=4, shuffle_window=window)
    whole = _take(pipeline.make_pipeline(_records(), _faces(), config, seed=5), 7)
    for start in (1, 3, 6):  # 10 records: the epochs change inside batches 2 and 4
        resumed = pipeline.make_pipeline(_records(), _faces(), config, seed=5, start_step=start)
        for a, b in zip(whole[start:], _take(resumed, 7 - start), strict=True):
            np.testing.assert_array_equal(a["image"], b["image"])
            np.testing.assert_array_equal(a["condition"], b["condition"])


def test_nothing_depends_on_tensorflows_global_seed_or_the_number_of_threads():
    one = pipeline.PipelineConfig(batch_size=4, parallel_calls=1, prefetch_batches=1)
    many = pipeline.PipelineConfig(batch_size=4, parallel_calls=7, prefetch_batches=3)
    tf.random.set_seed(1)
    a = _take(pipeline.make_pipeline(_records(), _faces(), one), 4)
    tf.random.set_seed(2)
    b = _take(pipeline.make_pipeline(_records(), _faces(), many), 4)
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x["image"], y["image"])


def test_shards_together_are_the_whole_batch():
    config = pipeline.PipelineConfig(batch_size=6)
    make = _faces()
    whole = _take(pipeline.make_pipeline(_records(), make, config, start_step=1), 3)
    parts = [
        _take(
            pipeline.make_pipeline(
                _records(), make, config, start_step=1, shard_index=shard, num_shards=3
            ),
            3,
        )
        for shard in range(3)
    ]
    for step, batch in enumerate(whole):
        for name, value in batch.items():
            together = np.concatenate([part[step][name] for part in parts])
            np.testing.assert_array_equal(together, value)


@pytest.mark.parametrize("window", [3, 7, 4096])
def test_each_epoch_has_every_record_once_in_an_order_of_its_own(window):
    stream = _numbers(5, 6, window=window, seed=3)
    epochs = stream.reshape(3, COUNT)
    for epoch in epochs:
        assert sorted(epoch) == list(range(COUNT))
        assert list(epoch) != list(range(COUNT))
    assert len({tuple(epoch) for epoch in epochs}) == 3


@pytest.mark.parametrize(
    "window, seed, order",
    [
        (3, 0, [0, 1, 3, 2, 4, 7, 6, 5, 9, 8, 0, 2]),
        (4096, 5, [8, 7, 3, 0, 4, 1, 6, 5, 9, 2, 2, 0]),
    ],
)
def test_the_order_is_the_same_in_every_version(window, seed, order):
    """A run that was started with an older version goes on with the batches it would have had."""
    assert _numbers(4, 3, window=window, seed=seed).tolist() == order


class Count:
    """Passes the frame index through together with the length of a list."""

    fields = ("points", "frame_index")
    outputs = {"number": ((), np.int64), "length": ((), np.int64)}

    def __call__(self, record, augmentation):
        return {
            "number": np.int64(record["frame_index"]),
            "length": np.int64(len(record["points"])),
        }


@pytest.mark.parametrize("window", [3, 4096])
def test_records_of_varying_length_come_in_the_same_order(window):
    records = tf.data.Dataset.range(COUNT).map(
        lambda i: {"frame_index": i, "points": tf.zeros([i + 1, 2])}
    )
    config = pipeline.PipelineConfig(batch_size=4, shuffle_window=window)
    batches = _take(pipeline.make_pipeline(records, Count(), config, seed=3, start_step=1), 4)
    numbers = np.concatenate([batch["number"] for batch in batches])
    expected = _numbers(4, 4, window=window, seed=3, start_step=1)
    assert numbers.tolist() == expected.tolist()
    lengths = np.concatenate([batch["length"] for batch in batches])
    assert (lengths == numbers + 1).all()


def test_another_seed_gives_another_order():
    assert list(_numbers(5, 2, seed=0)) != list(_numbers(5, 2, seed=1))


def test_epochs_of_one_record_are_augmented_differently():
    config = pipeline.PipelineConfig(batch_size=1, augment=AugmentConfig(probability=1.0))
    records = _records(1)
    a, b = _take(pipeline.make_pipeline(records, _faces(), config), 2)
    assert not np.array_equal(a["image"], b["image"])
    assert not np.array_equal(a["condition"], b["condition"])


def test_evaluation_gives_every_record_once_unmoved_and_in_order():
    config = pipeline.PipelineConfig(batch_size=4, augment=AugmentConfig(probability=1.0))
    batches = list(
        pipeline.make_pipeline(_records(), _faces(), config, training=False).as_numpy_iterator()
    )
    assert [len(batch["image"]) for batch in batches] == [4, 4, 2]
    stored = [
        tf.io.decode_png(record["image"]).numpy() for record in _records().as_numpy_iterator()
    ]
    seen = np.concatenate([batch["image"] for batch in batches])
    np.testing.assert_array_equal(np.rint((seen + 1) * 127.5).astype(np.uint8), stored)
    np.testing.assert_array_equal(_numbers(4, 3, training=False), np.arange(COUNT))


def test_label_maps_and_numbers_of_other_makers_pass_through_unchanged():
    records = tf.data.Dataset.range(3).map(lambda i: {"frame_index": i, "other": i})
    config = pipeline.PipelineConfig(batch_size=3)
    (batch,) = _take(pipeline.make_pipeline(records, Number(), config, training=False), 1)
    assert batch["labels"].dtype == np.uint8
    np.testing.assert_array_equal(batch["labels"][:, 0, 0], [0, 1, 2])


def test_records_larger_than_the_condition_are_reduced():
    config = pipeline.PipelineConfig(batch_size=2)
    (batch,) = _take(pipeline.make_pipeline(_records(2, 64), _faces(), config), 1)
    assert batch["image"].shape == (2, SIZE, SIZE, 3)


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"num_shards": 3}, "multiple of the number of workers"),
        ({"num_shards": 2, "shard_index": 2}, "shard_index"),
        ({"seed": -1}, "seed"),
        ({"start_step": -1}, "start_step"),
    ],
)
def test_wrong_numbers_are_refused(kwargs, message):
    with pytest.raises(ConfigError, match=message):
        _numbers(4, 1, **kwargs)


def test_records_of_another_kind_are_refused():
    records = tf.data.Dataset.range(3).map(lambda i: {"label_map": i})
    with pytest.raises(DataError, match="lack the field 'image'"):
        pipeline.make_pipeline(records, _faces(), pipeline.PipelineConfig())


def test_endless_and_empty_records_are_refused():
    config = pipeline.PipelineConfig()
    with pytest.raises(ConfigError, match="finite"):
        pipeline.make_pipeline(_records().repeat(), _faces(), config)
    with pytest.raises(DataError, match="no records"):
        pipeline.make_pipeline(_records().take(0), _faces(), config)


def test_records_of_unknown_number_are_counted():
    records = _records().filter(lambda record: record["frame_index"] < 6)
    assert pipeline.count_records(records) == 6


def test_a_folder_without_a_dataset_is_refused(tmp_path):
    with pytest.raises(DataError, match="no prepared dataset"):
        pipeline.read_records(tmp_path, "train")


@pytest.mark.parametrize("name", ["batch_size", "shuffle_window", "parallel_calls"])
def test_config_refuses_numbers_below_one(name):
    with pytest.raises(ConfigError, match=f"data.{name}"):
        pipeline.PipelineConfig(**{name: 0})


def _domain(label, count):
    images = [np.full((8, 8, 3), 10 * label + n, np.uint8) for n in range(count)]
    rows = {
        "image": [encode_picture(image) for image in images],
        "domain": np.full(count, label, np.int64),
    }
    return tf.data.Dataset.from_tensor_slices(rows)


def _take_balanced(records, steps, start=0, batch_size=4, **kwargs):
    config = pipeline.PipelineConfig(
        batch_size=batch_size, shuffle_window=3, augment=AugmentConfig(probability=0.0)
    )
    maker = PictureExample(8, domain=True)
    batches = pipeline.make_pipeline(records, maker, config, seed=3, start_step=start, **kwargs)
    return list(batches.take(steps).as_numpy_iterator())


def test_every_block_holds_each_domain_once():
    records = [_domain(0, 7), _domain(1, 2), _domain(2, 4)]
    batches = _take_balanced(records, 12)
    labels = np.concatenate([batch["domain"] for batch in batches]).reshape(-1, 3)
    assert (np.sort(labels, axis=1) == [0, 1, 2]).all()
    assert len({tuple(row) for row in labels}) > 3
    values = np.rint((np.concatenate([b["image"][:, 0, 0, 0] for b in batches]) + 1) * 127.5)
    mine = values[labels.ravel() == 0]
    assert sorted(mine[:7]) == sorted(mine[7:14]) == list(range(7))
    assert list(mine[:7]) != list(mine[7:14])


def test_balanced_batches_resume_and_are_cut_into_shards():
    records = [_domain(0, 7), _domain(1, 2), _domain(2, 4)]
    whole = _take_balanced(records, 9)
    for a, b in zip(whole[5:], _take_balanced(records, 4, start=5), strict=True):
        np.testing.assert_array_equal(a["image"], b["image"])
    parts = [_take_balanced(records, 9, shard_index=k, num_shards=2) for k in range(2)]
    for a, left, right in zip(whole, *parts, strict=True):
        np.testing.assert_array_equal(a["image"], np.concatenate([left["image"], right["image"]]))


def test_domains_come_one_after_the_other_without_training():
    batches = _take_balanced([_domain(0, 3), _domain(1, 2)], 9, training=False)
    assert np.concatenate([b["domain"] for b in batches]).tolist() == [0, 0, 0, 1, 1]


def test_groups_hold_one_domain_each():
    records = [_domain(0, 7), _domain(1, 2), _domain(2, 4)]
    whole = _take_balanced(records, 9, pattern=(0, 0))
    pairs = np.concatenate([batch["domain"] for batch in whole]).reshape(-1, 2)
    assert (pairs[:, 0] == pairs[:, 1]).all()
    assert (np.sort(pairs[:, 0].reshape(-1, 3), axis=1) == [0, 1, 2]).all()
    # Every picture of a domain comes before one comes again.
    values = np.concatenate([batch["image"][:, 0, 0, 0] for batch in whole])
    assert len(set(values[pairs.ravel() == 0][:7])) == 7
    for a, b in zip(whole[4:], _take_balanced(records, 5, start=4, pattern=(0, 0)), strict=True):
        np.testing.assert_array_equal(a["image"], b["image"])


def test_groups_are_not_cut():
    with pytest.raises(ConfigError, match="2 examples of a batch cannot be cut into groups of 4"):
        _take_balanced([_domain(0, 3)], 1, pattern=(0, 0, 0, 0), num_shards=2)
    with pytest.raises(ConfigError, match="cannot be cut into groups of 0"):
        _take_balanced([_domain(0, 3)], 1, pattern=())


def test_pairs_stand_behind_an_example_of_any_domain():
    records = [_domain(0, 7), _domain(1, 2), _domain(2, 4)]
    batches = _take_balanced(records, 60, batch_size=9, pattern=(0, 1, 1))
    threes = np.concatenate([batch["domain"] for batch in batches]).reshape(-1, 3)
    assert (threes[:, 1] == threes[:, 2]).all()
    # In a block of three threes, each domain is once the first and once the pair.
    blocks = threes.reshape(60, 3, 3)
    assert (np.sort(blocks[..., 0], axis=1) == [0, 1, 2]).all()
    assert (np.sort(blocks[..., 1], axis=1) == [0, 1, 2]).all()
    # Neither says anything of the other: each combination comes about as often, 180 / 9 times.
    combinations = np.bincount(3 * threes[:, 0] + threes[:, 1], minlength=9)
    assert combinations.min() >= 10 and combinations.max() <= 30
    # Every picture of a domain comes before one comes again.
    values = np.concatenate([batch["image"][:, 0, 0, 0] for batch in batches])
    for domain, count in enumerate((7, 2, 4)):
        mine = values[threes.ravel() == domain][: 3 * count].reshape(3, count)
        assert all(len(set(epoch)) == count for epoch in mine)
        assert (np.sort(mine, axis=1) == np.sort(mine[0])).all()


@pytest.mark.parametrize("start", [1, 6])
def test_threes_resume_and_are_cut_into_shards(start):
    records = [_domain(0, 7), _domain(1, 2), _domain(2, 4)]
    # A block is nine examples, a batch six: blocks begin inside of batches.
    made = {"batch_size": 6, "pattern": (0, 1, 1)}
    whole = _take_balanced(records, 9, **made)[start:]
    resumed = _take_balanced(records, 9 - start, start=start, **made)
    parts = [
        _take_balanced(records, 9 - start, start=start, shard_index=k, num_shards=2, **made)
        for k in range(2)
    ]
    for a, b, left, right in zip(whole, resumed, *parts, strict=True):
        for name in ("image", "domain"):
            np.testing.assert_array_equal(a[name], b[name])
            np.testing.assert_array_equal(a[name], np.concatenate([left[name], right[name]]))


def test_numbers_of_a_pattern_only_say_what_is_equal():
    records = [_domain(0, 7), _domain(1, 2), _domain(2, 4)]
    for pattern in ((0, 1, 1), (1, 0, 0), (0, 5, 5)):
        batches = _take_balanced(records, 6, batch_size=9, pattern=pattern)
        threes = np.concatenate([batch["domain"] for batch in batches]).reshape(-1, 3)
        assert (threes[:, 1] == threes[:, 2]).all() and (threes[:, 0] != threes[:, 1]).any()


def test_one_domain_fills_every_place_of_a_pattern():
    batches = _take_balanced([_domain(0, 7)], 7, batch_size=3, pattern=(0, 1, 1))
    assert all((batch["domain"] == 0).all() for batch in batches)
    values = np.concatenate([batch["image"][:, 0, 0, 0] for batch in batches]).reshape(3, 7)
    assert all(len(set(epoch)) == 7 for epoch in values)


def test_no_domain_is_refused():
    with pytest.raises(DataError, match="no domain"):
        _take_balanced([], 1)


class Nested(tfds.core.GeneratorBasedBuilder):
    """Pictures wherever a record can hold them."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        picture = tfds.features.Image(shape=(8, 8, 3), encoding_format="png")
        features = {
            "image": picture,
            "images": tfds.features.Sequence(picture),
            "pair": {"left": picture, "number": np.int64},
            "views": tfds.features.Sequence({"view": picture, "angle": np.float32}),
            "labels": tfds.features.LabeledImage(labels=["a", "b"], shape=(8, 8, 1)),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for number in range(1, 5):
            picture = np.full((8, 8, 3), number, np.uint8)
            yield (
                str(number),
                {
                    "image": picture,
                    "images": [picture] * number,
                    "pair": {"left": picture, "number": number},
                    "views": [{"view": picture, "angle": 0.5}] * number,
                    "labels": picture[..., :1] % 2,
                },
            )


@pytest.fixture(scope="module")
def nested_dir(tmp_path_factory):
    return storage.prepare_dataset(Nested(data_dir=tmp_path_factory.mktemp("nested")))


def test_pictures_stay_encoded_wherever_they_stand(nested_dir):
    records = list(pipeline.read_records(nested_dir, "train").as_numpy_iterator())
    assert sorted(len(record["images"]) for record in records) == [1, 2, 3, 4]
    for record in records:
        number = record["pair"]["number"]
        pictures = (
            record["image"],
            *record["images"],
            record["pair"]["left"],
            *record["views"]["view"],
        )
        assert len(pictures) == 2 + 2 * number
        for picture in pictures:
            np.testing.assert_array_equal(tf.io.decode_png(picture), np.full((8, 8, 3), number))
        assert record["labels"][:4] == b"\x89PNG"


def _go_through(records, maker, **kwargs):
    batches = pipeline.make_pipeline(
        records, maker, pipeline.PipelineConfig(batch_size=2), **kwargs
    )
    return list(pipeline.iterate_batches(batches.take(9), "data/faces"))


def test_batches_pass_unchanged_where_nothing_is_damaged():
    config = pipeline.PipelineConfig(batch_size=2)
    batches = pipeline.make_pipeline(_records(), _faces(), config).take(3)
    told = list(pipeline.iterate_batches(batches.as_numpy_iterator(), "data/faces"))
    for a, b in zip(told, batches.as_numpy_iterator(), strict=True):
        np.testing.assert_array_equal(a["image"], b["image"])


@pytest.mark.parametrize("training", [True, False])
def test_a_damaged_record_is_told_in_one_sentence(training):
    pictures = [encode_picture(np.zeros((8, 8, 3), np.uint8)), b"junk"]
    records = tf.data.Dataset.from_tensor_slices({"image": pictures})
    with pytest.raises(DataError) as caught:
        _go_through(records, PictureExample(8), training=training)
    assert str(caught.value) == (
        "A record of data/faces cannot be used: A picture of 4 bytes cannot be decoded; build the "
        "dataset again."
    )


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda data: data[: len(data) // 2], r"cannot be read: truncated record at \d+.* Build"),
        (lambda data: b"\xff" + data[1:], "cannot be read: corrupted record at 0 .* Build"),
        (lambda data: b"", "cannot be read: Input dataset was expected to contain 4 .* only 0"),
        (None, "cannot be read: .*nested-train.tfrecord.*; No such file or directory. Build"),
    ],
)
def test_a_damaged_file_is_told_in_one_sentence(damage, message, nested_dir, tmp_path):
    copy = tmp_path / "nested"
    shutil.copytree(nested_dir, copy)
    (path,) = copy.glob("*.tfrecord*")
    data = path.read_bytes()
    path.unlink()
    if damage is not None:
        path.write_bytes(damage(data))
    with pytest.raises(DataError, match=message) as caught:
        _go_through(pipeline.read_records(copy, "train"), PictureExample(8))
    assert str(caught.value).startswith("The records of data/faces")
    assert "{{" not in str(caught.value) and "[Op:" not in str(caught.value)


def test_a_fault_of_the_maker_keeps_its_traceback():
    class Broken(PictureExample):
        def __call__(self, record, augmentation):
            raise KeyError("pictures")

    with pytest.raises(tf.errors.UnknownError, match="KeyError: 'pictures'"):
        _go_through(_records(), Broken(8))
