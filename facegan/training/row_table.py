"""Tables of learned rows of which a step needs few: one for each video of a dataset, say.

A table of a million rows does not have to fit on a device. It lies in the host's memory, each
worker's in whole; a step takes its batch's rows along as part of the batch, gets their gradients
back, and only those rows and their moments change.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf

from facegan.errors import ConfigError
from facegan.training.optimizers import AdamConfig


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RowTableSpec:
    """A table that a recipe learns.

    Attributes:
        rows: How many.
        width: Numbers in a row.
        index: The entry of the batch that names each example's row, [B] whole numbers.
        optimizer: Learns the rows.
        stddev: Of the normal distribution that they start from.
    """

    rows: int
    width: int
    index: str
    optimizer: AdamConfig
    stddev: float = 0.02


class RowTable:
    """The rows, learned by Adam of those that were used (its lazy form).

    A row's moments stay as they are in steps that do not use it; the correction of their bias
    counts the table's updates. With every row in every batch this is Adam.

    Args:
        spec: What it is.
        name: Of its variables.
        seed: The rows' start follows from it.

    Attributes:
        values: [rows, width] float32.
        first: Adam's first moments, likewise.
        second: Its second moments.
        updates: int64 scalar.
    """

    def __init__(self, spec: RowTableSpec, name: str, seed: int):
        self.spec = spec
        shape = (spec.rows, spec.width)
        with tf.device("CPU:0"):
            start = tf.random.stateless_normal(shape, [seed, 0x7AB1E], stddev=spec.stddev)
            self.values = tf.Variable(start, trainable=False, name=f"{name}_values")
            self.first, self.second = (
                tf.Variable(tf.zeros(shape), trainable=False, name=f"{name}_{moment}")
                for moment in ("first", "second")
            )
            self.updates = tf.Variable(0, dtype=tf.int64, trainable=False, name=f"{name}_updates")

    def named_variables(self) -> dict[str, tf.Variable]:
        """Its variables by short name."""
        names = ("values", "first", "second", "updates")
        return {name: getattr(self, name) for name in names}

    def read(self, index: np.ndarray) -> np.ndarray:
        """The rows [B, width] float32 of an index [B].

        Raises:
            ConfigError: There is no such row.
        """
        self._check(index)
        with tf.device("CPU:0"):
            return tf.gather(self.values, index).numpy()

    def update(self, index: np.ndarray, gradients: np.ndarray, learning_rate: float) -> None:
        """Learns from the gradients [B, width] of rows; those of a row named twice add up."""
        rows, where = np.unique(np.asarray(index, np.int64), return_inverse=True)
        summed = np.zeros((len(rows), self.spec.width), np.float32)
        np.add.at(summed, where.reshape(-1), np.asarray(gradients, np.float32))
        config = self.spec.optimizer
        count = int(self.updates.assign_add(1).numpy())
        with tf.device("CPU:0"):
            first = config.beta_1 * tf.gather(self.first, rows) + (1 - config.beta_1) * summed
            second = config.beta_2 * tf.gather(self.second, rows)
            second += (1 - config.beta_2) * tf.square(summed)
            rate = learning_rate * np.sqrt(1 - config.beta_2**count) / (1 - config.beta_1**count)
            moved = rate * first / (tf.sqrt(second) + config.epsilon)
            self.first.scatter_update(tf.IndexedSlices(first, rows))
            self.second.scatter_update(tf.IndexedSlices(second, rows))
            self.values.scatter_sub(tf.IndexedSlices(moved, rows))

    def _check(self, index: np.ndarray) -> None:
        low, high = int(np.min(index)), int(np.max(index))
        if low < 0 or high >= self.spec.rows:
            raise ConfigError(
                f"The table has rows 0 to {self.spec.rows - 1}; the data names "
                f"{self.spec.index} {low if low < 0 else high}. Train on the dataset that the run "
                "was started with, or start a new run."
            )
