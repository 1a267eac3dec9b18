"""Everything that decides a run's next step, under names that do not change between processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from facegan.training.row_table import RowTable


class TrainState:
    """The variables of a training run.

    Attributes:
        nets: Net name -> built Keras model.
        ema_nets: Net name -> a copy of it that holds the averaged weights.
        optimizers: Net name -> its optimizer, built on the net's trainable variables.
        statistics: Name -> float32 variable that a recipe's phases read and replace.
        tables: Name -> table of rows that phases learn.
        loss_scales: Phase name -> its dynamic loss scale, when training in float16.
        step: int64 variable, the number of finished steps.
    """

    def __init__(
        self,
        nets: Mapping[str, keras.Model],
        ema_nets: Mapping[str, keras.Model],
        optimizers: Mapping[str, keras.Optimizer],
        statistics: Mapping[str, Any],
        scaled_phases: Sequence[str] = (),
        tables: Mapping[str, RowTable] | None = None,
    ):
        self.nets = dict(nets)
        self.ema_nets = dict(ema_nets)
        self.optimizers = dict(optimizers)
        for name, optimizer in self.optimizers.items():
            optimizer.build(self.nets[name].trainable_variables)
        for name, average in self.ema_nets.items():
            for target, source in zip(average.variables, self.nets[name].variables, strict=True):
                target.assign(source)
        self.statistics = {
            name: tf.Variable(value, dtype=tf.float32, trainable=False, name=name)
            for name, value in statistics.items()
        }
        self.tables = dict(tables or {})
        self.loss_scales = {name: LossScale(name) for name in scaled_phases}
        self.step = tf.Variable(0, dtype=tf.int64, trainable=False, name="step")

    def named_variables(self) -> dict[str, tf.Variable]:
        """Every variable under a stable name, such as ``nets/generator/down_1/kernel``.

        Optimizer slots are numbered in the order of the net's variables: their own paths hold
        counters that differ between processes.
        """
        out: dict[str, tf.Variable] = {}
        for group, nets in (("nets", self.nets), ("ema", self.ema_nets)):
            for name, net in nets.items():
                for variable in net.variables:
                    out[f"{group}/{name}/{_path_in_net(variable)}"] = variable.value
        for name, optimizer in self.optimizers.items():
            for index, variable in enumerate(optimizer.variables):
                out[f"optimizers/{name}/{index:04d}"] = variable.value
        for name, statistic in self.statistics.items():
            out[f"statistics/{name}"] = statistic
        for name, table in self.tables.items():
            for part, variable in table.named_variables().items():
                out[f"tables/{name}/{part}"] = variable
        for name, scale in self.loss_scales.items():
            out[f"loss_scales/{name}/scale"] = scale.scale
            out[f"loss_scales/{name}/good_steps"] = scale.good_steps
        out["step"] = self.step
        expected = 1 + len(self.statistics) + 4 * len(self.tables) + 2 * len(self.loss_scales)
        expected += sum(len(n.variables) for n in (*self.nets.values(), *self.ema_nets.values()))
        expected += sum(len(o.variables) for o in self.optimizers.values())
        if len(out) != expected:
            raise RuntimeError("Two variables of one net share a path; name its layers apart.")
        return out


class LossScale:
    """Dynamic loss scaling (Micikevicius et al., "Mixed Precision Training", ICLR 2018, 3.2).

    Halves after an overflow, whose step is skipped, and doubles after ``GROWTH_STEPS`` good steps.
    """

    INITIAL = 2.0**15
    GROWTH_STEPS = 2000

    def __init__(self, name: str):
        self.scale = tf.Variable(self.INITIAL, trainable=False, name=f"{name}_loss_scale")
        self.good_steps = tf.Variable(0, dtype=tf.int64, trainable=False, name=f"{name}_good")

    def value(self) -> tf.Tensor:
        """The factor for the next step's loss, float32."""
        return tf.convert_to_tensor(self.scale)

    def update(self, finite: bool) -> None:
        """Notes whether the last step's gradients were finite."""
        if not finite:
            self.scale.assign(tf.maximum(self.scale / 2.0, 1.0))
            self.good_steps.assign(0)
        elif int(self.good_steps.assign_add(1).numpy()) >= self.GROWTH_STEPS:
            self.scale.assign(self.scale * 2.0)
            self.good_steps.assign(0)


def _path_in_net(variable: keras.Variable) -> str:
    # The first part of a path is the net's own name, which an EMA copy has too.
    path = variable.path
    return path.split("/", 1)[1] if "/" in path else path
