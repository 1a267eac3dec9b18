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
import functools
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from facegan.datasets.examples import ExampleMaker
from facegan.datasets.storage import open_dataset, read_report
from facegan.datasets.transforms import Augmentation, AugmentConfig, sample_augmentation
from facegan.errors import ConfigError, DataError
from facegan.image import to_float_tensor

_Batch = TypeVar("_Batch")

# How TensorFlow reports a DataError that was raised inside of a dataset.
_RAISED_INSIDE = re.compile(r"\bDataError: (.*?)\nTraceback \(most recent call last\)", re.DOTALL)


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
        A dataset of record dicts in the order on disk; pictures are byte strings, a scalar or, for
        a sequence of pictures, [N].

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
    return builder.as_dataset(
        split=split,
        decoders=_leave_encoded(builder.info.features),
        shuffle_files=False,
        # The order of records must not depend on how many files are read at once.
        read_config=tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False),
    )


class _LeaveEncoded(tfds.decode.SkipDecoding):
    """Passes pictures on as they are stored."""

    def decode_batch_example(self, serialized_example: tf.Tensor) -> tf.Tensor:
        # TFDS itself would take a sequence apart and put it together again in a loop.
        return serialized_example


def _leave_encoded(features: Mapping[str, Any]) -> dict[str, Any]:
    """What keeps TFDS from decoding pictures, wherever they stand in a record."""
    skip: dict[str, Any] = {}
    for name, feature in features.items():
        inner = feature.feature if isinstance(feature, tfds.features.Sequence) else feature
        if isinstance(inner, tfds.features.Image):
            skip[name] = _LeaveEncoded()
        elif isinstance(inner, tfds.features.FeaturesDict) and (below := _leave_encoded(inner)):
            skip[name] = below
    return skip


def list_domains(dataset_dir: str | os.PathLike[str], field: str = "domain") -> tuple[str, ...]:
    """What the domains of a prepared dataset are called, by number.

    Args:
        dataset_dir: The folder that holds ``dataset_info.json``.
        field: The ``ClassLabel`` that says which domain a record belongs to.

    Raises:
        DataError: The dataset has no such field.
    """
    features = open_dataset(dataset_dir).info.features
    feature = features[field] if field in features else None
    if not isinstance(feature, tfds.features.ClassLabel):
        raise DataError(
            f"The records of {dataset_dir} have no domain {field!r}; build a dataset with a folder "
            "for each domain (tools/build_dataset.py --dataset image_folder)."
        )
    return tuple(feature.names)


def read_domains(
    dataset_dir: str | os.PathLike[str], split: str, field: str = "domain"
) -> tuple[tuple[str, ...], list[tf.data.Dataset]]:
    """Opens a prepared dataset as one dataset of records for each of its domains.

    Args:
        dataset_dir: The folder that holds ``dataset_info.json``.
        split: As ``read_records`` takes it.
        field: As ``list_domains`` takes it.

    Returns:
        The domains' names, and their datasets for ``make_pipeline``; domains without a record in
        this split are left out of both.

    Raises:
        DataError: The dataset has no such field.
    """
    domains = list_domains(dataset_dir, field)
    records = read_records(dataset_dir, split)
    known = _read_counts(dataset_dir)
    names, datasets = [], []
    for label, name in enumerate(domains):
        mine = records.filter(lambda record, label=label: record[field] == label)
        # Skipping through records costs reading them; the builder has counted already.
        count = known.get(f"{split}/{name}")
        if count is None:
            count = int(mine.reduce(np.int64(0), lambda count, _: count + 1))
        if count:
            names.append(name)
            datasets.append(mine.apply(tf.data.experimental.assert_cardinality(count)))
    return tuple(names), datasets


def _read_counts(dataset_dir: str | os.PathLike[str]) -> Mapping[str, int]:
    try:
        return read_report(dataset_dir).get("counts", {})
    except ConfigError:  # a dataset that somebody else's builder made
        return {}


def count_records(records: tf.data.Dataset) -> int:
    """The number of records, by reading them all where the dataset does not know it."""
    known = int(records.cardinality())
    if known == tf.data.INFINITE_CARDINALITY:
        raise ConfigError("Records must be finite; pass the dataset before repeat().")
    if known == tf.data.UNKNOWN_CARDINALITY:
        return int(records.reduce(np.int64(0), lambda count, _: count + 1))
    return known


def make_pipeline(
    records: tf.data.Dataset | Sequence[tf.data.Dataset],
    make_example: ExampleMaker,
    config: PipelineConfig,
    *,
    seed: int = 0,
    start_step: int = 0,
    shard_index: int = 0,
    num_shards: int = 1,
    training: bool = True,
    pattern: tuple[int, ...] = (0,),
) -> tf.data.Dataset:
    """Makes this shard's part of every global batch from ``start_step`` on.

    Args:
        records: Finite dataset of record dicts, pictures encoded (``read_records``); or one for
            each domain (``read_domains``): of every D examples, one comes from each of the D, in
            an order that changes.
        make_example: What a record becomes.
        config: Batch size, order and augmentation.
        seed: Seed of the run, in [0, 2**31).
        start_step: The first step whose batch is wanted.
        shard_index: This worker's number.
        num_shards: How many workers share each global batch.
        training: Endless, shuffled and augmented; else the records once, as they are, in the
            order on disk and domain after domain, with a smaller last batch.
        pattern: What stands together while training: examples come in groups of so many, and
            those of a group with equal numbers are of one domain. With (0, 0), a batch's even and
            odd examples are pairs of one domain; with (0, 1, 1), there is an example of any domain
            before each such pair.

    Returns:
        A dataset of dicts by the names of ``make_example.outputs``: pictures float32
        [b, ..., H, W, 3] in [-1, 1], all else as made; b is ``batch_size / num_shards``.
        ``iterate_batches`` goes through it with errors that a user understands.

    Raises:
        ConfigError: The batch cannot be cut into the shards or groups, or a number is out of range.
        DataError: There are no records, or they lack a field.
    """
    _check_numbers(config, seed, start_step, shard_index, num_shards, len(pattern))
    domains = [records] if isinstance(records, tf.data.Dataset) else list(records)
    if not domains:
        raise DataError("There is no domain to take examples from; the split is empty.")
    for domain in domains:
        _check(domain, make_example)
    totals = [count_records(domain) for domain in domains]
    if not all(totals):
        raise DataError("There are no records; build the dataset again, with less left out.")
    domains = [domain.map(_keep_fields(make_example.fields)) for domain in domains]
    first = start_step * config.batch_size
    if training:
        stream = _balanced(domains, totals, config.shuffle_window, seed, first, pattern)
    else:
        stream = functools.reduce(tf.data.Dataset.concatenate, domains).skip(first)
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


def batch_spec(make_example: ExampleMaker, batch_size: int) -> dict[str, tf.TensorSpec]:
    """What the batches of ``make_pipeline`` look like, without a dataset."""
    spec = {}
    for name, (shape, dtype) in make_example.outputs.items():
        shape = (batch_size, *shape)
        spec[name] = tf.TensorSpec(shape, tf.float32 if _is_picture(shape, dtype) else dtype)
    return spec


def iterate_batches(
    batches: Iterable[_Batch], dataset_dir: str | os.PathLike[str]
) -> Iterator[_Batch]:
    """Goes through batches and says what is wrong with records that cannot be used.

    TensorFlow wraps every error that occurs inside of a dataset into one of its own.

    Args:
        batches: What ``make_pipeline`` made, or its ``as_numpy_iterator()``.
        dataset_dir: Where the records are, for the message.

    Raises:
        DataError: A record, or a file of records, is damaged or does not suit the example maker.
    """
    try:
        yield from batches
    except tf.errors.OpError as error:
        raised = _RAISED_INSIDE.search(error.message)
        if raised is not None:
            raise DataError(f"A record of {dataset_dir} cannot be used: {raised[1]}") from error
        # A file is cut or changed inside; ends too early; is gone.
        kinds = tf.errors.DataLossError, tf.errors.FailedPreconditionError, tf.errors.NotFoundError
        if not isinstance(error, kinds):
            raise
        # The operation's name stands around the sentence.
        told = re.sub(r"^\{\{.*?\}\} | \[Op:.*$", "", error.message, flags=re.DOTALL).rstrip(".")
        raise DataError(
            f"The records of {dataset_dir} cannot be read: {told}. Build the dataset again."
        ) from error


def require_shards(batch_size: int, num_shards: int) -> None:
    """Raises ConfigError if a global batch cannot be cut into equal shards, one a worker."""
    if num_shards < 1 or batch_size % num_shards:
        raise ConfigError(
            f"data.batch_size must be a multiple of the number of workers, got "
            f"{batch_size} for {num_shards}."
        )


def _check_numbers(
    config: PipelineConfig,
    seed: int,
    start_step: int,
    shard_index: int,
    num_shards: int,
    group: int,
) -> None:
    require_shards(config.batch_size, num_shards)
    if not 0 <= shard_index < num_shards:
        raise ConfigError(f"shard_index must be in [0, {num_shards}), got {shard_index}.")
    if not 0 <= seed < 2**31 or start_step < 0:
        raise ConfigError(
            f"seed must be in [0, 2**31) and start_step not negative, got {seed} and {start_step}."
        )
    per_shard = config.batch_size // num_shards
    if group < 1 or per_shard % group:
        raise ConfigError(
            f"A worker's {per_shard} examples of a batch cannot be cut into groups of {group}; "
            "choose data.batch_size as a multiple of the group times the number of workers."
        )


def _check(records: tf.data.Dataset, make_example: ExampleMaker) -> None:
    spec = records.element_spec
    if not isinstance(spec, Mapping):
        raise DataError(f"Records must be dicts of fields, got {type(spec).__name__}.")
    missing = [name for name in make_example.fields if name not in spec]
    if missing:
        raise DataError(
            f"The records lack the field {missing[0]!r}; they have {', '.join(sorted(spec))}. "
            "This dataset was built for another kind of model."
        )


def _keep_fields(fields: Sequence[str]) -> Any:
    return lambda record: {name: record[name] for name in fields}


def _balanced(
    domains: Sequence[tf.data.Dataset],
    totals: Sequence[int],
    window: int,
    seed: int,
    first: int,
    pattern: tuple[int, ...],
) -> tf.data.Dataset:
    """Blocks that hold each domain once in every place of a group, from example ``first`` on."""
    count, group = len(domains), len(pattern)
    if count == 1:
        return _endless(domains[0], totals[0], window, seed, first, 0)
    block = first // (count * group)
    streams = [
        _endless(domain, total, window, seed, block * group, number)
        for number, (domain, total) in enumerate(zip(domains, totals, strict=True))
    ]

    def order(number: tf.Tensor) -> tf.data.Dataset:
        orders = {
            place: tf.random.experimental.stateless_shuffle(
                tf.range(count, dtype=tf.int64), _fold([seed, -1 - place], number)
            )
            for place in set(pattern)
        }
        groups = tf.stack([orders[place] for place in pattern], axis=1)
        return tf.data.Dataset.from_tensor_slices(tf.reshape(groups, [-1]))

    choices = tf.data.Dataset.range(block, np.iinfo(np.int64).max).flat_map(order)
    return tf.data.Dataset.choose_from_datasets(streams, choices).skip(first % (count * group))


def _endless(
    records: tf.data.Dataset, total: int, window: int, seed: int, first: int, domain: int
) -> tf.data.Dataset:
    """Epoch after epoch of shuffled records, from example number ``first`` on."""
    # Every draw has a stream of numbers of its own, in every domain.
    draw = 4 * domain

    def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        if total <= window:
            return _shuffled_windows(records, window, [seed, draw], epoch)
        # Windows of an epoch begin elsewhere than those of the last: neighbours on disk do not
        # stay together for the whole training.
        lead = tf.random.stateless_uniform(
            [], _fold([seed, draw + 1], epoch), 1, window + 1, dtype=tf.int64
        )
        head = _shuffled_windows(records.take(lead), window, [seed, draw + 2], epoch)
        return head.concatenate(
            _shuffled_windows(records.skip(lead), window, [seed, draw + 3], epoch)
        )

    epochs = tf.data.Dataset.range(first // total, np.iinfo(np.int64).max)
    return epochs.flat_map(one_epoch).skip(first % total)


def _shuffled_windows(
    records: tf.data.Dataset, window: int, seed: list[int], epoch: tf.Tensor
) -> tf.data.Dataset:
    """Shuffles within windows by a stateless permutation.

    ``Dataset.shuffle`` would also depend on TensorFlow's global seed and on how far it was read.
    """

    def shuffle(index: tf.Tensor, rows: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        any_rows = next(iter(rows.values()))
        is_ragged = isinstance(any_rows, tf.RaggedTensor)
        count = any_rows.nrows(tf.int32) if is_ragged else tf.shape(any_rows)[0]
        order = tf.random.experimental.stateless_shuffle(
            tf.range(count), _fold(_fold(seed, epoch), index)
        )
        return {name: tf.gather(value, order) for name, value in rows.items()}

    shapes = [spec.shape for spec in tf.nest.flatten(records.element_spec)]
    varies = not all(shape.is_fully_defined() for shape in shapes)
    windows = records.ragged_batch(window) if varies else records.batch(window)
    return windows.enumerate().map(shuffle).unbatch()


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
    """Pictures [..., H, W, 3] to [-1, 1]; all else, label maps [B, H, W] included, as it is."""
    return {
        name: to_float_tensor(value)
        if _is_picture(value.shape, value.dtype.as_numpy_dtype)
        else value
        for name, value in batch.items()
    }


def _is_picture(shape: Any, dtype: Any) -> bool:
    return dtype == np.uint8 and len(shape) >= 4 and shape[-1] == 3
