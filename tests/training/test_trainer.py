import itertools
import os
import signal
import threading

import keras
import numpy as np
import pytest

from facegan.errors import ConfigError
from facegan.training.devices import make_strategy
from facegan.training.metrics_log import read_log
from facegan.training.recipe import PhaseResult
from facegan.training.trainer import (
    Interrupted,
    TrainConfig,
    Trainer,
    count_parameters,
    settle,
)
from tests.training.toy_recipe import ToyRecipe


def batches(start=0):
    step = start
    while True:
        rng = np.random.default_rng(step)
        x = rng.normal(size=(8, 2)).astype(np.float32)
        yield {"x": x, "y": np.tanh(x @ np.ones((2, 3), np.float32))}
        step += 1


def config(**kwargs):
    values = {"steps": 12, "precision": "float32", "xla": "off", **kwargs}
    return TrainConfig(**values)


def values_of(trainer):
    return {name: v.numpy() for name, v in trainer.state.named_variables().items()}


def assert_equal(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


@pytest.mark.parametrize("xla", ["off", "on"])
def test_two_replicas_give_the_weights_of_one(xla):
    runs = []
    for replicas in (1, 2):
        trainer = Trainer(ToyRecipe(), config(xla=xla), strategy=make_strategy(replicas))
        trainer.fit(batches())
        runs.append(values_of(trainer))
    for name in runs[0]:
        np.testing.assert_allclose(runs[0][name], runs[1][name], atol=1e-6, err_msg=name)


def test_replicas_agree_on_batch_norm_statistics():
    trainer = Trainer(ToyRecipe(norm=True), config(), strategy=make_strategy(2))
    trainer.fit(batches())
    variable = trainer.state.nets["generator"].get_layer("norm").moving_mean.value
    first, second = (v.numpy() for v in variable.values)
    np.testing.assert_array_equal(first, second)
    assert np.abs(first).max() > 1e-4


def test_training_lowers_the_loss_and_moves_the_average():
    trainer = Trainer(ToyRecipe(), config(steps=60))
    before = values_of(trainer)
    first = float(trainer.train_step(next(batches()))["main/mse"])
    last = trainer.fit(batches(1))
    assert last["main/mse"] < 0.5 * first
    after = values_of(trainer)
    name = "ema/generator/out/kernel"
    assert np.abs(after[name] - before[name]).max() > 0.01
    assert not np.array_equal(after[name], after["nets/generator/out/kernel"])
    assert after["statistics/mean_loss"] > 0


@pytest.mark.parametrize("precision", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_resume_equals_the_unbroken_run_bit_for_bit(tmp_path, precision):
    recipe = {"noise": 0.1, "norm": True, "every": 3}
    whole = Trainer(ToyRecipe(**recipe), config(precision=precision))
    whole.fit(batches())
    first = Trainer(ToyRecipe(**recipe), config(precision=precision), run_dir=tmp_path)
    first.fit(batches(), until=7)
    second = Trainer(ToyRecipe(**recipe), config(precision=precision), run_dir=tmp_path)
    assert second.restore()
    assert second.step == 7
    second.fit(batches(7))
    assert_equal(values_of(whole), values_of(second))


def test_a_lazy_phase_runs_at_its_steps_only():
    trainer = Trainer(ToyRecipe(every=3), config())
    stream = batches()
    seen = ["lazy/mse" in trainer.train_step(next(stream)) for _ in range(7)]
    assert seen == [True, False, False, True, False, False, True]


class KernelRecipe(ToyRecipe):
    """Its lazy phase is a regularizer that has nothing to do with the critic's bias."""

    def compute(self, phase, nets, batch, seed, step, statistics):
        if phase != "lazy":
            return super().compute(phase, nets, batch, seed, step, statistics)
        loss = keras.ops.mean(keras.ops.square(nets["critic"].get_layer("score").kernel))
        return PhaseResult(losses={"D": loss}, terms={"lazy/kernel": loss})


@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_a_phase_leaves_alone_what_does_not_enter_into_it(precision, replicas):
    recipe = KernelRecipe()
    settings = config(precision=precision)
    trainer = Trainer(recipe, settings, strategy=make_strategy(replicas))
    # Gives Adam a memory of the bias; float16 skips steps until it has found its scale.
    for batch in itertools.islice(batches(), 3):
        trainer.train_step(batch)
    recipe.phases = recipe.phases[1:]
    before = values_of(trainer)
    assert before["nets/critic/score/bias"] != 0
    trainer.train_step(batch)
    after = values_of(trainer)
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert {name for name in changed if name.startswith("nets/")} == {"nets/critic/score/kernel"}


def test_terms_of_seldom_phases_stay_in_the_log(tmp_path):
    twin, last, expected = Trainer(ToyRecipe(every=5), config()), {}, []
    for step, batch in zip(range(12), batches(), strict=False):
        last |= {name: float(value) for name, value in twin.train_step(batch).items()}
        if step % 4 == 3:
            expected.append(last["lazy/mse"])
    settings = config(log_every=4)
    Trainer(ToyRecipe(every=5), settings, run_dir=tmp_path).fit(batches())
    # After 4, 8 and 12 steps, those of steps 0, 5 and 10.
    found = [line["lazy/mse"] for line in read_log(tmp_path)]
    assert found == pytest.approx(expected, rel=1e-6) and len(set(found)) == 3


def test_the_schedule_sets_the_learning_rate():
    trainer = Trainer(ToyRecipe(), config(steps=10))
    stream, rates = batches(), []
    for _ in range(10):
        trainer.train_step(next(stream))
        rates.append(float(trainer.state.optimizers["generator"].learning_rate))
    assert rates[:3] == pytest.approx([0.01] * 3)
    assert rates[9] == pytest.approx(0.01 / 8)


def test_float16_skips_an_overflow_and_lowers_its_scale():
    trainer = Trainer(ToyRecipe(), config(precision="mixed_float16"))
    scale = trainer.state.loss_scales["main"].scale
    scale.assign(1e30)
    before = values_of(trainer)
    trainer.train_step(next(batches()))
    after = values_of(trainer)
    np.testing.assert_array_equal(
        before["nets/generator/out/kernel"], after["nets/generator/out/kernel"]
    )
    assert float(scale) == pytest.approx(5e29)
    scale.assign(8.0)
    trainer.train_step(next(batches()))
    assert not np.array_equal(
        before["nets/generator/out/kernel"], values_of(trainer)["nets/generator/out/kernel"]
    )


def test_a_signal_stops_after_the_step_with_a_checkpoint(tmp_path):
    trainer = Trainer(ToyRecipe(), config(steps=100_000), run_dir=tmp_path)
    timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    with pytest.raises(Interrupted, match="kept as a checkpoint"):
        trainer.fit(batches())
    again = Trainer(ToyRecipe(), config(steps=100_000), run_dir=tmp_path)
    assert again.restore()
    assert again.step == trainer.step > 0
    assert_equal(values_of(trainer), values_of(again))


def test_a_loss_that_is_not_finite_stops_the_run():
    bad = next(batches())
    bad["y"] = np.full_like(bad["y"], np.nan)
    trainer = Trainer(ToyRecipe(), config(log_every=1))
    with pytest.raises(ConfigError, match="no longer finite between steps 0 and 1"):
        trainer.fit(iter([bad]))


def test_data_that_ends_stops_the_run():
    trainer = Trainer(ToyRecipe(), config())
    with pytest.raises(ConfigError, match="data ended after step 2 of 12"):
        trainer.fit(iter([next(batches()), next(batches())]))


def test_a_batch_that_cannot_be_split_is_refused():
    trainer = Trainer(ToyRecipe(), config(), strategy=make_strategy(2))
    odd = {name: value[:7] for name, value in next(batches()).items()}
    with pytest.raises(ConfigError, match="7 examples cannot be split over 2"):
        trainer.train_step(odd)


@pytest.mark.parametrize(("replicas", "size"), [(1, 7), (2, 4)])
def test_examples_that_belong_together_are_not_torn_apart(replicas, size):
    recipe = ToyRecipe()
    recipe.group = 3
    trainer = Trainer(recipe, config(), strategy=make_strategy(replicas))
    few = {name: value[:size] for name, value in next(batches()).items()}
    message = (
        f"in groups of 3 cannot be split over {replicas} devices.*a multiple of {3 * replicas}"
    )
    with pytest.raises(ConfigError, match=message):
        trainer.train_step(few)


def test_chosen_epochs_keep_their_checkpoints(tmp_path):
    settings = config(keep_epochs=(1,), keep_checkpoints=1, checkpoint_every=3, preview_every=5)
    trainer = Trainer(ToyRecipe(), settings, run_dir=tmp_path, steps_per_epoch=4)
    seen = []
    trainer.fit(
        batches(),
        preview_batch=next(batches()),
        progress=lambda done, total, unit: seen.append((done, total, unit)),
    )
    names = sorted(p.name for p in (tmp_path / "checkpoints").iterdir())
    assert names == ["step-00000004", "step-00000012"]
    assert seen[0] == (0, 12, "step")
    assert seen[-1] == (12, 12, "step")
    assert read_log(tmp_path)[-1]["step"] == 12
    assert len(list((tmp_path / "samples").glob("*.png"))) == 3


def test_settings_must_be_settled_and_in_range():
    with pytest.raises(ConfigError, match="settled"):
        Trainer(ToyRecipe(), TrainConfig())
    settled = settle(TrainConfig())
    assert settled.precision != "auto"
    assert settled.xla in ("on", "off")
    for name in ("steps", "log_every", "keep_checkpoints"):
        with pytest.raises(ConfigError, match=name):
            TrainConfig(**{name: 0})
    with pytest.raises(ConfigError, match="seed"):
        TrainConfig(seed=-1)


def test_count_parameters():
    counts = count_parameters(ToyRecipe(norm=True).build_nets("float32"))
    assert counts == {"generator": 2 * 4 + 4 + 2 * 4 + 4 * 3 + 3, "critic": 4}
