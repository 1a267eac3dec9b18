"""Stored records -> batches, each a pure function of (seed, step).

    records -> order of the epoch -> skip to the step -> this shard's part of each batch
            -> decode, augment, condition (in parallel) -> batch -> [-1, 1]

The stream of training examples is endless and numbered; step ``s`` of a run takes the examples
``s * batch_size`` and on. The order within an epoch follows from the seed and the epoch's number,
an example's augmentation from the seed and the example's number. So a run that resumes at step
``s`` goes on with the very batch it would have had, and several workers cut one and the same
global batch into parts. Skipped records are never decoded.

The pipeline knows no dataset: what a record becomes is an ``ExampleMaker``'s matter.
"""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from facegan.datasets.examples import ExampleMaker
from facegan.datasets.storage import open_dataset
from facegan.datasets.transforms import Augmentation, AugmentConfig, sample_augmentation
from facegan.errors import ConfigError, DataError
from facegan.image import to_float_tensor


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PipelineConfig:
    """How records become batches.

    ``batch_size`` counts the examples of a step over all workers and devices. Records are
    shuffled within windows of ``shuffle_window`` (still encoded, in memory); a dataset that fits
    into one window is shuffled whole. ``parallel_calls`` threads make examples; the number has no
    influence on what comes out.
    """

    KIND: ClassVar[str] = "pipeline"

    batch_size: int = 8
    shuffle_window: int = 1024
    parallel_calls: int = 4
    prefetch_batches: int = 2
    augment: AugmentConfig = dataclasses.field(default_factory=AugmentConfig)

    def __post_init__(self) -> None:
        for name in ("batch_size", "shuffle_window", "parallel_calls", "prefetch_batches"):
            if getattr(self, name) < 1:
                raise ConfigError(f"data.{name} must be at least 1, got {getattr(self, name)}.")


def read_records(dataset_dir: str | os.PathLike[str], split: str) -> tf.data.Dataset:
    """Opens a prepared dataset with its pictures left encoded.

    Args:
        dataset_dir: The folder that holds ``dataset_info.json``.
        split: A split's name, or a part of one as TFDS writes it (``"train[:100]"``).

    Returns:
        A dataset of record dicts in the order on disk; pictures are scalar byte strings.

    Raises:
        DataError: The folder holds no dataset, or not this split.
    """
    builder = open_dataset(dataset_dir)
    name = split.partition("[")[0]
    if name not in builder.info.splits:
        raise DataError(
            f"The dataset {dataset_dir} has no split {name!r}; it has "
            f"{', '.join(sorted(builder.info.splits))}."
        )
    skip = {
        key: tfds.decode.SkipDecoding()
        for key, feature in builder.info.features.items()
        if isinstance(feature, tfds.features.Image)
    }
    return builder.as_dataset(
        split=split,
        decoders=skip,
        shuffle_files=False,
        # The order of records must not depend on how many files are read at once.
        read_config=tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False),
    )


def count_records(records: tf.data.Dataset) -> int:
    """The number of records, by reading them all where the dataset does not know it."""
    known = int(records.cardinality())
    if known == tf.data.INFINITE_CARDINALITY:
        raise ConfigError("Records must be finite; pass the dataset before repeat().")
    if known == tf.data.UNKNOWN_CARDINALITY:
        return int(records.reduce(np.int64(0), lambda count, _: count + 1))
    return known


def make_pipeline(
    records: tf.data.Dataset,
    make_example: ExampleMaker,
    config: PipelineConfig,
    *,
    seed: int = 0,
    start_step: int = 0,
    shard_index: int = 0,
    num_shards: int = 1,
    training: bool = True,
) -> tf.data.Dataset:
    """Makes this shard's part of every global batch from ``start_step`` on.

    Args:
        records: Finite dataset of record dicts of fixed shapes, pictures encoded
            (``read_records``).
        make_example: What a record becomes.
        config: Batch size, order and augmentation.
        seed: Seed of the run, in [0, 2**31).
        start_step: The first step whose batch is wanted.
        shard_index: This worker's number.
        num_shards: How many workers share each global batch.
        training: Endless, shuffled and augmented; else the records once, as they are, in the
            order on disk, with a smaller last batch.

    Returns:
        A dataset of dicts by the names of ``make_example.outputs``: pictures float32
        [b, H, W, C] in [-1, 1], all else as made; b is ``batch_size / num_shards``.

    Raises:
        ConfigError: The batch cannot be cut into the shards, or a number is out of range.
        DataError: There are no records, or they lack a field.
    """
    _check(records, make_example, config, seed, start_step, shard_index, num_shards)
    total = count_records(records)
    if total == 0:
        raise DataError("There are no records; build the dataset again, with less left out.")
    fields = {name: records.element_spec[name] for name in make_example.fields}
    records = records.map(lambda record: {name: record[name] for name in fields})
    first = start_step * config.batch_size
    if training:
        stream = _endless(records, total, config.shuffle_window, seed, first)
    else:
        stream = records.skip(first)
    per_shard = config.batch_size // num_shards
    stream = stream.enumerate(start=first)
    if num_shards > 1:
        stream = stream.filter(
            lambda number, _: (number % config.batch_size) // per_shard == shard_index
        )
    make = _graph_function(make_example, config.augment if training else None, seed)
    stream = stream.map(make, num_parallel_calls=config.parallel_calls, deterministic=True)
    stream = stream.batch(per_shard, drop_remainder=training)
    return stream.map(_to_float).prefetch(config.prefetch_batches)


def _check(
    records: tf.data.Dataset,
    make_example: ExampleMaker,
    config: PipelineConfig,
    seed: int,
    start_step: int,
    shard_index: int,
    num_shards: int,
) -> None:
    if num_shards < 1 or config.batch_size % num_shards:
        raise ConfigError(
            f"data.batch_size must be a multiple of the number of workers, got "
            f"{config.batch_size} for {num_shards}."
        )
    if not 0 <= shard_index < num_shards:
        raise ConfigError(f"shard_index must be in [0, {num_shards}), got {shard_index}.")
    if not 0 <= seed < 2**31 or start_step < 0:
        raise ConfigError(
            f"seed must be in [0, 2**31) and start_step not negative, got {seed} and {start_step}."
        )
    spec = records.element_spec
    if not isinstance(spec, Mapping):
        raise DataError(f"Records must be dicts of fields, got {type(spec).__name__}.")
    missing = [name for name in make_example.fields if name not in spec]
    if missing:
        raise DataError(
            f"The records lack the field {missing[0]!r}; they have {', '.join(sorted(spec))}. "
            "This dataset was built for another kind of model."
        )


def _endless(
    records: tf.data.Dataset, total: int, window: int, seed: int, first: int
) -> tf.data.Dataset:
    """Epoch after epoch of shuffled records, from example number ``first`` on."""

    def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        if total <= window:
            return _shuffled_windows(records, window, [seed, 0], epoch)
        # Windows of an epoch begin elsewhere than those of the last: neighbours on disk do not
        # stay together for the whole training.
        lead = tf.random.stateless_uniform(
            [], _fold([seed, 1], epoch), 1, window + 1, dtype=tf.int64
        )
        head = _shuffled_windows(records.take(lead), window, [seed, 2], epoch)
        return head.concatenate(_shuffled_windows(records.skip(lead), window, [seed, 3], epoch))

    epochs = tf.data.Dataset.range(first // total, np.iinfo(np.int64).max)
    return epochs.flat_map(one_epoch).skip(first % total)


def _shuffled_windows(
    records: tf.data.Dataset, window: int, seed: list[int], epoch: tf.Tensor
) -> tf.data.Dataset:
    """Shuffles within windows by a stateless permutation.

    ``Dataset.shuffle`` would also depend on TensorFlow's global seed and on how far it was read.
    """

    def shuffle(index: tf.Tensor, rows: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        count = tf.shape(next(iter(rows.values())))[0]
        order = tf.random.experimental.stateless_shuffle(
            tf.range(count), _fold(_fold(seed, epoch), index)
        )
        return {name: tf.gather(value, order) for name, value in rows.items()}

    return records.batch(window).enumerate().map(shuffle).unbatch()


def _fold(seed: list[int] | tf.Tensor, number: tf.Tensor) -> tf.Tensor:
    """A new seed [2] from a seed and a number."""
    return tf.random.fold_in(tf.cast(seed, tf.int64), number)


def _graph_function(make_example: ExampleMaker, augment: AugmentConfig | None, seed: int) -> Any:
    """Wraps an example maker for ``Dataset.map`` over (number, record)."""
    outputs = list(make_example.outputs)

    def run(number: np.ndarray, *values: Any) -> list[np.ndarray]:
        record = dict(zip(make_example.fields, values, strict=True))
        move = Augmentation()
        if augment is not None:
            move = sample_augmentation(augment, seed, int(number))
        example = make_example(record, move)
        return [np.asarray(example[name]) for name in outputs]

    def make(number: tf.Tensor, record: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        made = tf.numpy_function(
            run,
            [number, *(record[name] for name in make_example.fields)],
            [make_example.outputs[name][1] for name in outputs],
        )
        for name, tensor in zip(outputs, made, strict=True):
            tensor.set_shape(make_example.outputs[name][0])
        return dict(zip(outputs, made, strict=True))

    return make


def _to_float(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Pictures to [-1, 1]; all else, label maps [B, H, W] included, as it is."""
    return {
        name: to_float_tensor(value) if value.dtype == tf.uint8 and value.shape.rank == 4 else value
        for name, value in batch.items()
    }
