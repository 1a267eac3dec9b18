"""How much memory a training step needs, told from its graph without running it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from facegan.training.recipe import Nets, Phase, Recipe

# Their output is their input's buffer under another shape or name.
_ALIASES = frozenset(
    ("Identity", "IdentityN", "StopGradient", "PreventGradient", "Reshape", "Squeeze", "ExpandDims")
)
# Their output is the variable itself, which is counted on its own.
_VARIABLE_READS = frozenset(("ReadVariableOp", "Placeholder", "Const", "VarHandleOp"))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StepMemory:
    """Bytes that a training step needs on each device, besides the process itself.

    Attributes:
        weights: Every net's variables.
        averages: The EMA copies.
        optimizer: Adam's two moments for each trainable variable.
        work: Activations and gradients at the step's highest point, under the assumption that
            operations run in the order of the graph and buffers are freed after their last use.
            Five measured steps on a CPU took this and 180 to 260 MiB more, whatever the size:
            TensorFlow's own.
    """

    weights: int
    averages: int
    optimizer: int
    work: int

    @property
    def total(self) -> int:
        """The sum."""
        return self.weights + self.averages + self.optimizer + self.work


def step_memory(recipe: Recipe, nets: Nets, batch: Mapping[str, tf.TensorSpec]) -> StepMemory:
    """Estimates the memory of a training step.

    Args:
        recipe: The training recipe.
        nets: Its nets, built under the precision that is asked about.
        batch: What one device gets in a step.
    """
    size = next(iter(batch.values())).shape[0]
    rows = {
        name: tf.TensorSpec((size, table.width), tf.float32)
        for name, table in recipe.tables.items()
    }
    batch = {**batch, **rows}
    trainable = sum(_bytes_of(net.trainable_variables) for net in nets.values())
    return StepMemory(
        weights=sum(_bytes_of(net.variables) for net in nets.values()),
        averages=sum(_bytes_of(nets[name].variables) for name in recipe.ema_nets),
        optimizer=2 * trainable,
        work=max(_phase_peak(recipe, phase, nets, batch) for phase in recipe.phases),
    )


def _bytes_of(variables: list[keras.Variable]) -> int:
    return sum(math.prod(v.shape) * tf.as_dtype(v.dtype).size for v in variables)


def _phase_peak(
    recipe: Recipe, phase: Phase, nets: Nets, specs: Mapping[str, tf.TensorSpec]
) -> int:
    @tf.function(autograph=False)
    def gradients(batch: Any, seed: Any, step: Any) -> Any:
        statistics = {k: tf.constant(v, tf.float32) for k, v in recipe.statistics.items()}
        with tf.GradientTape(persistent=len(phase.updates) > 1) as tape:
            for name in recipe.tables:
                tape.watch(batch[name])
            result = recipe.compute(phase.name, nets, batch, seed, step, statistics)
        return [
            tape.gradient(
                result.losses[loss],
                [
                    value
                    for name in names
                    for value in (
                        [batch[name]]
                        if name in recipe.tables
                        else [v.value for v in nets[name].trainable_variables]
                    )
                ],
            )
            for loss, names in phase.updates.items()
        ]

    function = gradients.get_concrete_function(
        dict(specs), tf.TensorSpec((2,), tf.int32), tf.TensorSpec((), tf.int64)
    )
    kept = [tensor for tensor in function.outputs if tensor is not None]
    return peak_bytes(function.graph, kept)


def peak_bytes(graph: Any, kept: list[Any]) -> int:
    """Bytes alive at the worst moment of a graph that runs in its own order.

    Args:
        graph: A FuncGraph. Tensors of unknown shape count nothing.
        kept: Tensors that stay until the end.
    """
    operations = graph.get_operations()
    root: dict[str, str] = {}
    size: dict[str, int] = {}
    last_use: dict[str, int] = {}
    for index, operation in enumerate(operations):
        for tensor in operation.inputs:
            last_use[root[tensor.name]] = index
        for tensor in operation.outputs:
            if operation.type in _ALIASES and len(operation.inputs):
                root[tensor.name] = root[operation.inputs[0].name]
                continue
            root[tensor.name] = tensor.name
            counted = operation.type not in _VARIABLE_READS and tensor.shape.is_fully_defined()
            elements = tensor.shape.num_elements() if counted else 0
            size[tensor.name] = elements * max(tensor.dtype.size or 0, 0)
            last_use[tensor.name] = index
    for tensor in kept:
        last_use[root[tensor.name]] = len(operations)
    freed: dict[int, int] = {}
    for name, index in last_use.items():
        freed[index] = freed.get(index, 0) + size[name]
    alive = peak = 0
    for index, operation in enumerate(operations):
        alive += sum(size[t.name] for t in operation.outputs if root[t.name] == t.name)
        peak = max(peak, alive)
        alive -= freed.get(index, 0)
    return peak
