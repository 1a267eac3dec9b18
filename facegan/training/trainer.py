"""The training loop: gradients compiled per replica, updates outside, exact resume.

``strategy.run`` goes around a ``tf.function(jit_compile=...)`` that opens the tape and returns
gradients; optimizers, statistics and moving averages are applied outside it, because neither
cross-replica sums nor mirrored assignments can stand inside an XLA computation.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import random
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from facegan.errors import ConfigError, FaceganError
from facegan.layers.fast_paths import allow_fast_paths
from facegan.progress import ProgressCallback
from facegan.training import checkpoint as checkpoint_lib
from facegan.training.ema import ema_decay, update_ema
from facegan.training.metrics_log import MetricsLog
from facegan.training.optimizers import make_optimizer
from facegan.training.recipe import Phase, PhaseResult, Recipe
from facegan.training.row_table import RowTable
from facegan.training.schedules import schedule_factor
from facegan.training.state import TrainState


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """How long and on what a recipe is trained.

    ``precision`` "auto" and ``xla`` "auto" are settled by the machine: bfloat16 where the hardware
    multiplies it natively; XLA on a GPU and not on a CPU, where it measures slower for
    convolutions (BENCHMARKS.md). ``keep_epochs`` names epochs whose checkpoints always stay,
    besides the ``keep_checkpoints`` newest.
    """

    steps: int = 2000
    seed: int = 0
    precision: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"] = "auto"
    xla: Literal["auto", "on", "off"] = "auto"
    replicas: int | None = None
    log_every: int = 20
    preview_every: int = 250
    checkpoint_every: int = 500
    checkpoint_every_s: float = 120.0
    keep_checkpoints: int = 2
    keep_epochs: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("steps", "log_every", "preview_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"train.{name} must be at least 1, got {getattr(self, name)}.")
        if self.keep_checkpoints < 1:
            raise ConfigError(
                f"train.keep_checkpoints must be at least 1, got {self.keep_checkpoints}."
            )
        if not 0 <= self.seed < 2**31:
            raise ConfigError(f"train.seed must be in [0, 2**31), got {self.seed}.")


class Interrupted(FaceganError):
    """Training was asked to stop; a checkpoint of the last finished step stands."""


class Trainer:
    """Trains a recipe's nets, from the start or from where a run folder stopped.

    Args:
        recipe: What to train.
        config: How long and on what; "auto" settings must be settled.
        strategy: The distribution strategy; nets are made in its scope.
        run_dir: The run folder, or None to train without writing anything.
        steps_per_epoch: For ``keep_epochs``.

    Attributes:
        state: The TrainState.
    """

    def __init__(
        self,
        recipe: Recipe,
        config: TrainConfig,
        *,
        strategy: tf.distribute.Strategy | None = None,
        run_dir: str | os.PathLike[str] | None = None,
        steps_per_epoch: int = 0,
    ):
        if "auto" in (config.precision, config.xla):
            raise ConfigError("Trainer needs settled precision and xla; call settle() first.")
        self.recipe = recipe
        self.config = config
        self.strategy = strategy or tf.distribute.get_strategy()
        self.run_dir = None if run_dir is None else pathlib.Path(run_dir)
        self._keep_steps = {epoch * steps_per_epoch for epoch in config.keep_epochs}
        # Outside of the scope, in which every device would get a copy.
        tables = {name: RowTable(t, name, config.seed) for name, t in recipe.tables.items()}
        with self.strategy.scope(), _seeded(config.seed):
            nets = recipe.build_nets(config.precision)
            averages = recipe.build_nets("float32") if recipe.ema else {}
            optimizers = {
                name: make_optimizer(spec, name) for name, spec in recipe.optimizers.items()
            }
            self.state = TrainState(
                nets,
                {name: averages[name] for name in recipe.ema_nets if averages},
                optimizers,
                recipe.statistics,
                [p.name for p in recipe.phases] if config.precision == "mixed_float16" else [],
                tables,
            )
            self._ema_decay = tf.Variable(0.0, dtype=tf.float32, trainable=False)
        updated = [name for p in recipe.phases for nets in p.updates.values() for name in nets]
        self._shared = {name for name in updated if updated.count(name) > 1}
        self._gradients = {phase.name: self._make_gradients(phase) for phase in recipe.phases}
        self._updates = {phase.name: self._make_update(phase) for phase in recipe.phases}
        self._average = tf.function(self._average_step, autograph=False)
        self._prepared = False
        self._refuse_xla_with_synchronised_norms()

    @property
    def step(self) -> int:
        """The number of finished steps."""
        return int(self.state.step.numpy())

    @property
    def is_chief(self) -> bool:
        """Whether this process writes the run folder."""
        resolver = self.strategy.cluster_resolver
        return resolver is None or not resolver.cluster_spec() or resolver.task_id in (0, None)

    def restore(self) -> bool:
        """Goes on from the run folder's newest checkpoint; False if it has none."""
        if self.run_dir is None:
            return False
        found = checkpoint_lib.restore_latest(
            self.run_dir / "checkpoints", self.state, self.recipe.stem
        )
        return found is not None

    def fit(
        self,
        batches: Iterable[Mapping[str, Any]],
        *,
        preview_batch: Mapping[str, Any] | None = None,
        until: int | None = None,
        progress: ProgressCallback | None = None,
        on_log: Callable[[str], None] | None = None,
    ) -> dict[str, float]:
        """Trains to the configured number of steps.

        SIGTERM and SIGINT finish the step, write a checkpoint and raise Interrupted.

        Args:
            batches: This process's part of each global batch, beginning with the batch of step
                ``self.step``. Dicts of arrays [b, ...], float32.
            preview_batch: Held-out examples whose preview is drawn now and then.
            until: Stop after this many steps in all, before the configured end.
            progress: Told the number of finished steps after each.
            on_log: Told the terms, in short, whenever they are logged.

        Returns:
            The last logged terms.

        Raises:
            FaceganError: A loss is no longer finite, or the data ended.
            Interrupted: A signal asked to stop.
        """
        end = min(self.config.steps, until or self.config.steps)
        stop = _StopSignal()
        log = MetricsLog(self.run_dir, self.step) if self.run_dir and self.is_chief else None
        last: dict[str, float] = {}
        try:
            with stop:
                iterator = iter(batches)
                if progress:
                    progress(self.step, end, "step")
                saved_at, saved_s = self.step, time.monotonic()
                logged_at, logged_s = self.step, time.monotonic()
                # Of phases that seldom run, those of the last time.
                terms: dict[str, Any] = {}
                while self.step < end:
                    terms |= self.train_step(self._next(iterator))
                    step = self.step
                    if progress:
                        progress(step, end, "step")
                    if step % self.config.log_every == 0 or step == end:
                        last = self._read_terms(terms, logged_at, step)
                        if on_log:
                            on_log(_shown(last))
                        if log:
                            rate = (step - logged_at) / max(time.monotonic() - logged_s, 1e-9)
                            log.scalars(step, {**last, "steps_per_second": rate})
                        logged_at, logged_s = step, time.monotonic()
                    if log and preview_batch and self._preview_due(step, end):
                        log.preview(step, "preview", self.preview(preview_batch))
                    due = step - saved_at >= self.config.checkpoint_every
                    due |= time.monotonic() - saved_s >= self.config.checkpoint_every_s
                    if due or stop.asked or step == end or step in self._keep_steps:
                        self.save()
                        saved_at, saved_s = step, time.monotonic()
                    if stop.asked and step < end:
                        raise Interrupted(
                            f"Stopped at step {step} of {end}, which is kept as a checkpoint."
                        )
        finally:
            if log:
                log.close()
        return last

    def train_step(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Runs one step on this process's part of a global batch.

        Returns:
            Terms as device tensors; reading them waits for the step.
        """
        if not self._prepared:
            with self.strategy.scope():
                self.recipe.prepare(self.config.precision)
            self._prepared = True
        step = self.step
        for name, spec in self.recipe.optimizers.items():
            factor = schedule_factor(spec.schedule, step, self.config.steps)
            self.state.optimizers[name].learning_rate = spec.learning_rate * factor
        parts = None if self.state.tables else self._distribute(batch)
        terms: dict[str, Any] = {}
        for index, phase in enumerate(self.recipe.phases):
            if step % phase.every == 0:
                if self.state.tables:  # an earlier phase may have changed the rows
                    parts = self._distribute({**batch, **self._read_rows(batch)})
                seed = tf.constant([self.config.seed, step * len(self.recipe.phases) + index])
                count = tf.constant(step, tf.int64)
                found, rows = self._updates[phase.name](parts, seed, count)
                terms.update(found)
                self._update_rows(batch, rows)
        if self.recipe.ema:
            self._ema_decay.assign(ema_decay(self.recipe.ema, step))
            self._average()
        self.state.step.assign_add(1)
        return terms

    def _read_rows(self, batch: Mapping[str, Any]) -> dict[str, np.ndarray]:
        return {
            name: table.read(np.asarray(batch[table.spec.index]))
            for name, table in self.state.tables.items()
        }

    def _update_rows(self, batch: Mapping[str, Any], gradients: Mapping[str, Any] | None) -> None:
        """Learns rows from their gradients, one tensor [b, width] for each replica."""
        for name, values in (gradients or {}).items():
            table = self.state.tables[name]
            index = np.asarray(batch[table.spec.index])
            if self.strategy.num_replicas_in_sync > 1:
                # All workers see all gradients, so that their tables stay the same.
                values = self.strategy.gather(values, axis=0)
                parts = self._distribute({"index": index})
                index = self.strategy.gather(parts["index"], axis=0).numpy()
            config = table.spec.optimizer
            factor = schedule_factor(config.schedule, self.step, self.config.steps)
            table.update(index, values.numpy(), config.learning_rate * factor)

    def preview(self, batch: Mapping[str, Any]) -> list[np.ndarray]:
        """The recipe's preview columns, by the averaged nets where there are some."""
        nets = {**self.state.nets, **self.state.ema_nets}
        return [np.asarray(column) for column in self.recipe.preview(nets, batch)]

    def save(self) -> None:
        """Writes a checkpoint of the finished steps, if this process is the one that writes."""
        if self.run_dir is not None and self.is_chief:
            checkpoint_lib.save_checkpoint(
                self.run_dir / "checkpoints",
                self.state,
                self.recipe.stem,
                keep=self.config.keep_checkpoints,
                keep_steps=self._keep_steps,
            )

    def _refuse_xla_with_synchronised_norms(self) -> None:
        if self.config.xla == "off" or self.strategy.num_replicas_in_sync == 1:
            return
        for name, net in self.state.nets.items():
            for layer in net._flatten_layers():
                if getattr(layer, "synchronized", False):
                    raise ConfigError(
                        f"The batch norm of {name!r} is synchronised over "
                        f"{self.strategy.num_replicas_in_sync} devices, which XLA cannot compile. "
                        "Train with --set train.xla=off, or with the norm 'batch'."
                    )

    def _make_gradients(self, phase: Phase):
        names = [name for nets in phase.updates.values() for name in nets]
        if len(set(names)) != len(names):
            raise ConfigError(f"Phase {phase.name!r} updates a net by two losses: {names}.")
        replicas = self.strategy.num_replicas_in_sync

        def gradients(batch, seed, step, loss_scale):
            nets = self.state.nets
            with tf.GradientTape(persistent=len(phase.updates) > 1) as tape:
                for name in self.state.tables:
                    tape.watch(batch[name])
                result: PhaseResult = self.recipe.compute(
                    phase.name, nets, batch, seed, step, self.state.statistics
                )
                # The one place where a mean over a replica becomes its share of the global mean.
                factor = 1.0 / replicas if loss_scale is None else loss_scale / replicas
                scaled = {
                    loss: tf.cast(result.losses[loss], tf.float32) * factor
                    for loss in phase.updates
                }
            grads = {}
            for loss, names in phase.updates.items():
                variables = {
                    name: [batch[name]]
                    if name in self.state.tables
                    else [v.value for v in nets[name].trainable_variables]
                    for name in names
                }
                found = tape.gradient(scaled[loss], variables)
                for name in names:
                    flat = found[name]
                    if loss_scale is not None:
                        flat = [None if g is None else g / loss_scale for g in flat]
                    grads[name] = flat
            terms = {**result.terms, **{f"loss/{k}": v for k, v in result.losses.items()}}
            # Read after the forward pass and handed out as values: an assignment outside that
            # follows from them cannot be ordered before the one inside.
            buffers = [tf.identity(v.value) for v in self._buffers()]
            return grads, buffers, terms, dict(result.statistics)

        if self.config.xla == "on":
            return tf.function(gradients, jit_compile=True, autograph=False)

        def uncompiled(*args):
            # Not a tf.function of its own: synchronised batch norm sums over the replicas, which
            # cannot be done from inside of one.
            with allow_fast_paths():
                return gradients(*args)

        return uncompiled

    def _make_update(self, phase: Phase):
        def apply(grads, buffers, statistics):
            context = tf.distribute.get_replica_context()
            for net, values in grads.items():
                if net in self.state.tables:
                    continue
                variables = self.state.nets[net].trainable_variables
                if net in self._shared:
                    # A regularizer's phase leaves alone what does not enter into it.
                    known = [i for i, value in enumerate(values) if value is not None]
                    if not known:
                        raise RuntimeError(f"No gradient of {phase.name!r} reaches {net!r}.")
                    values, variables = ([all_[i] for i in known] for all_ in (values, variables))
                self.state.optimizers[net].apply(values, variables)
            # Batch norm's moving statistics are updated per replica inside the compiled function,
            # where no cross-replica mean can stand; they would drift apart.
            for variable, value in zip(self._buffers(), buffers, strict=True):
                variable.assign(context.all_reduce(tf.distribute.ReduceOp.MEAN, value))
            for name, value in statistics.items():
                value = context.all_reduce(tf.distribute.ReduceOp.MEAN, value)
                self.state.statistics[name].assign(value)

        def gradients(batch, seed, step, loss_scale):
            # Each replica draws its own noise; replica 0 of one and of many draws the same.
            context = tf.distribute.get_replica_context()
            seed = seed + tf.stack([context.replica_id_in_sync_group * 7919, 0])
            return self._gradients[phase.name](batch, seed, step, loss_scale)

        def of_rows(grads):
            return {name: grads[name][0] for name in self.state.tables if name in grads}

        def mean(value):
            return self.strategy.reduce(tf.distribute.ReduceOp.MEAN, value, axis=None)

        @tf.function(autograph=False)
        def update(parts, seed, step):
            def replica_step(batch, seed, step):
                grads, buffers, terms, statistics = gradients(batch, seed, step, None)
                apply(grads, buffers, statistics)
                return terms, of_rows(grads)

            terms, rows = self.strategy.run(replica_step, args=(parts, seed, step))
            return {name: mean(value) for name, value in terms.items()}, rows

        if self.config.precision != "mixed_float16":
            return update

        @tf.function(autograph=False)
        def scaled_gradients(parts, seed, step, loss_scale):
            def replica_step(batch, seed, step, loss_scale):
                grads, buffers, terms, statistics = gradients(batch, seed, step, loss_scale)
                # 0 * x is NaN for every x that is not finite, and a sum keeps it.
                probe = tf.add_n(
                    [tf.reduce_sum(g * 0.0) for gs in grads.values() for g in gs if g is not None]
                )
                return (grads, buffers, statistics), terms, of_rows(grads), probe

            args = (parts, seed, step, loss_scale)
            updates, terms, rows, probe = self.strategy.run(replica_step, args=args)
            terms = {name: mean(value) for name, value in terms.items()}
            return updates, terms, rows, mean(probe)

        @tf.function(autograph=False)
        def scaled_apply(updates):
            self.strategy.run(apply, args=updates)

        def update_unless_overflow(parts, seed, step):
            # The host decides for all replicas at once: a decision inside the graph, such as
            # Keras' LossScaleOptimizer takes, is each replica's own, and they would part ways.
            scale = self.state.loss_scales[phase.name]
            updates, terms, rows, probe = scaled_gradients(parts, seed, step, scale.value())
            finite = bool(np.isfinite(probe.numpy()))
            if finite:
                scaled_apply(updates)
            scale.update(finite)
            return terms, rows if finite else None

        return update_unless_overflow

    def _buffers(self) -> list[keras.Variable]:
        """Moving statistics that replicas have to agree on; a phase may touch any net's."""
        if self.strategy.num_replicas_in_sync == 1:
            return []
        nets = self.state.nets.values()
        return [v for net in nets for v in net.non_trainable_variables if v.dtype == "float32"]

    def _average_step(self) -> None:
        def replica_average():
            for name, average in self.state.ema_nets.items():
                update_ema(average.variables, self.state.nets[name].variables, self._ema_decay)

        self.strategy.run(replica_average)

    def _distribute(self, batch: Mapping[str, Any]):
        local = self.strategy.extended._num_replicas_in_sync // _workers(self.strategy)
        size = len(next(iter(batch.values())))
        require_whole_groups(size, self.recipe.group, local)
        if self.strategy.num_replicas_in_sync == 1:
            return {name: tf.convert_to_tensor(value) for name, value in batch.items()}

        def part(context):
            index = context.replica_id_in_sync_group % local
            rows = slice(index * size // local, (index + 1) * size // local)
            return {name: tf.convert_to_tensor(value[rows]) for name, value in batch.items()}

        return self.strategy.experimental_distribute_values_from_function(part)

    def _next(self, iterator: Iterator[Mapping[str, Any]]) -> Mapping[str, Any]:
        try:
            return next(iterator)
        except StopIteration:
            raise ConfigError(
                f"The data ended after step {self.step} of {self.config.steps}; a training "
                "pipeline must repeat."
            ) from None

    def _read_terms(self, terms: Mapping[str, Any], since: int, step: int) -> dict[str, float]:
        values = {name: float(value) for name, value in sorted(terms.items())}
        if not all(np.isfinite(list(values.values()))):
            bad = ", ".join(name for name, value in values.items() if not np.isfinite(value))
            raise ConfigError(
                f"{bad} is no longer finite between steps {since} and {step}. Lower the learning "
                "rates, or train with --set train.precision=float32."
            )
        return values

    def _preview_due(self, step: int, end: int) -> bool:
        return step % self.config.preview_every == 0 or step == end


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Lets the first weights follow from the run's seed.

    An initializer that is given no seed takes one from Python's generator, which is handed back
    as it was.
    """
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)


def settle(config: TrainConfig) -> TrainConfig:
    """Replaces "auto" settings by what suits this machine."""
    from facegan.training.devices import suggest_precision

    if config.precision == "auto":
        config = dataclasses.replace(config, precision=suggest_precision())
    if config.xla == "auto":
        on_gpu = bool(tf.config.list_physical_devices("GPU"))
        config = dataclasses.replace(config, xla="on" if on_gpu else "off")
    return config


def require_whole_groups(batch_size: int, group: int, num_devices: int) -> None:
    """Raises ConfigError if a machine's batch cannot be cut over its devices in whole groups.

    Args:
        batch_size: Examples of one machine.
        group: How many of them belong together; see ``Recipe.group``.
        num_devices: Devices of that machine.
    """
    if batch_size % (num_devices * group):
        groups = f" in groups of {group}" if group > 1 else ""
        raise ConfigError(
            f"A batch of {batch_size} examples{groups} cannot be split over {num_devices} devices; "
            f"choose data.batch_size as a multiple of {num_devices * group} for each machine."
        )


def _workers(strategy: tf.distribute.Strategy) -> int:
    resolver = strategy.cluster_resolver
    spec = resolver.cluster_spec() if resolver else None
    return max(len(spec.as_dict().get("worker", ())) if spec else 1, 1)


def _shown(terms: Mapping[str, float]) -> str:
    return " ".join(f"{k}={v:.3f}" for k, v in terms.items() if not k.startswith("loss/"))


class _StopSignal:
    """Notes SIGTERM and SIGINT while it is entered; a second signal acts as usual."""

    def __init__(self) -> None:
        self.asked = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> _StopSignal:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def _note(self, number: int, frame: Any) -> None:
        self.asked = True
        signal.signal(number, self._previous[number])

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)


def count_parameters(nets: Mapping[str, keras.Model]) -> dict[str, int]:
    """Net name -> number of trainable parameters."""
    return {
        name: int(sum(np.prod(v.shape) for v in net.trainable_variables))
        for name, net in nets.items()
    }
