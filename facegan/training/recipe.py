"""What a model's training recipe gives to the trainer.

A recipe is mathematics: from a batch to losses. It opens no tape, knows no distribution strategy
and keeps no state; the trainer does those things once, for every model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import keras

from facegan.bundle import TensorSpec
from facegan.errors import ConfigError
from facegan.face.labels import LabelSchema
from facegan.training.ema import EmaConfig
from facegan.training.optimizers import OptimizerConfig
from facegan.training.row_table import RowTableSpec

Tensor = Any
Batch = Mapping[str, Tensor]
Nets = Mapping[str, keras.Model]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Phase:
    """One forward pass and the updates that follow from it.

    Attributes:
        name: Names the phase's compiled function and its logs.
        updates: Loss name -> nets, and tables of rows, whose gradients are taken of it. Several
            losses share one forward pass; no net may stand under two of them.
        every: The phase runs at steps divisible by this (lazy regularisation).
    """

    name: str
    updates: Mapping[str, tuple[str, ...]]
    every: int = 1


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PhaseResult:
    """What a phase computes on one replica's part of the batch.

    Attributes:
        losses: Loss name -> float32 scalar, the mean over this replica's examples.
        terms: Name such as ``G/l1`` -> float32 scalar for the log.
        statistics: Name -> new value of a statistic, averaged over replicas by the trainer.
    """

    losses: Mapping[str, Tensor]
    terms: Mapping[str, Tensor]
    statistics: Mapping[str, Tensor] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ServedMethod:
    """A further method of what is exported, called by its name on a dict of tensors.

    Attributes:
        inputs: As ``Serving`` has them.
        outputs: Likewise.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Serving:
    """The part of a trained run that is exported: a net on a dict of tensors.

    Attributes:
        net: The name of the net.
        inputs: Its inputs as the bundle describes them, batch first.
        outputs: Its outputs likewise.
        simplify: Makes an equal net that serves faster, such as one with its norms folded into
            the convolutions; None where there is nothing to gain. It is called with the built net,
            then those of ``with_nets``, and ``dtype``, the type to compute in and keep weights in.
        with_nets: Names of further nets that go into what is served.
        fast_paths: Whether the graph is made for TensorFlow alone, by forms of operations that
            other runtimes lack (``layers.fast_paths``). ONNX is written from the plain forms.
        labels: What the ids of label maps among inputs or outputs mean.
        size_multiple: What height and width must be multiples of, where the specs leave them free.
        methods: Further methods of what is served, each a signature of its own name. The call then
            has the name ``generate`` too.
    """

    net: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    simplify: Callable[..., keras.Model] | None = None
    with_nets: tuple[str, ...] = ()
    fast_paths: bool = False
    labels: LabelSchema | None = None
    size_multiple: int = 1
    methods: Mapping[str, ServedMethod] = dataclasses.field(default_factory=dict)


def require_weights(config: Any) -> None:
    """Raises ConfigError unless every ``*_weight`` of a recipe's config is at least 0."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name.endswith("_weight") and value < 0:
            raise ConfigError(f"recipe.{field.name} must be >= 0, got {value}.")


class Recipe(Protocol):
    """The protocol that ``training/recipes/<stem>.py`` fulfils with a class ``Recipe``."""

    stem: str
    # So many examples in a row belong together; no device gets a part of them.
    group: int
    phases: tuple[Phase, ...]
    optimizers: Mapping[str, OptimizerConfig]
    ema: EmaConfig | None
    ema_nets: tuple[str, ...]
    statistics: Mapping[str, Any]
    tables: Mapping[str, RowTableSpec]

    def build_nets(self, precision: str) -> dict[str, keras.Model]:
        """Makes and builds every net under the dtype policy named ``precision``."""

    def prepare(self, precision: str) -> None:
        """Gets what the losses need beside the nets, such as a fixed network's weights.

        Called before the first step, in the strategy's scope; not for what only looks at or exports
        the nets.
        """

    def compute(
        self, phase: str, nets: Nets, batch: Batch, seed: Tensor, step: Tensor, statistics: Batch
    ) -> PhaseResult:
        """Losses of one phase.

        Args:
            phase: A phase's name.
            nets: The nets being trained.
            batch: This replica's part of the batch, float32, with the rows [B, width] that its
                examples have in the ``tables``, under the tables' names.
            seed: [2] int32; every random draw of the phase follows from it.
            step: int64 scalar, the number of finished steps.
            statistics: Name -> float32 value.
        """

    def preview(self, nets: Nets, batch: Batch) -> list[Tensor]:
        """Columns of a preview grid: each [B, H, W, 3] float in [-1, 1]."""

    def serving(self) -> Serving:
        """What ``tools/export.py`` writes."""
