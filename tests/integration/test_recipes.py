"""Every recipe trains: two steps on one and on two replicas, every preset at toy size."""

import numpy as np
import pytest

from facegan.datasets.pipeline import make_pipeline, read_records
from facegan.jobs.run import make_example_maker, make_recipe
from facegan.training.devices import make_strategy
from facegan.training.trainer import Trainer

VARIANTS = {
    "unet_simultaneous": (),
    "unet_alternating": ('recipe.update="alternating"',),
    "unet_all_terms": (
        'recipe.adversarial="hinge"',
        "recipe.feature_weight=10",
        "recipe.perceptual_weight=1",
        'recipe.perceptual_net="random"',
    ),
    "blocks": (
        'recipe.generator={"kind": "blocks", "image_size": 32, "base_width": 4, "num_blocks": 2}',
        'recipe.discriminator={"kind": "block_patch", "image_size": 32, "base_width": 4, '
        '"num_blocks": 2}',
        'recipe.adversarial="lsgan"',
    ),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_two_steps_change_every_net(dataset, tiny_run, variant):
    config = tiny_run(*VARIANTS[variant])
    trainer = make_trainer(config, 1)
    before = kernels(trainer)
    terms = run_steps(trainer, config, dataset, 2)
    after = kernels(trainer)
    assert all(np.isfinite(float(value)) for value in terms.values())
    assert before.keys() == after.keys()
    unchanged = [name for name in before if np.array_equal(before[name], after[name])]
    assert not unchanged


def test_two_replicas_equal_one(dataset, tiny_run):
    config = tiny_run("train.steps=2")
    results = []
    for replicas in (1, 2):
        trainer = make_trainer(config, replicas)
        run_steps(trainer, config, dataset, 2)
        results.append(kernels(trainer))
    for name in results[0]:
        # Adam divides by the root of tiny second moments, which blows up rounding.
        np.testing.assert_allclose(results[0][name], results[1][name], atol=2e-4, err_msg=name)


def test_first_weights_follow_from_the_seed(tiny_run):
    first, second = (kernels(make_trainer(tiny_run(), 1)) for _ in range(2))
    other = kernels(make_trainer(tiny_run("train.seed=1"), 1))
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)
        assert not np.array_equal(first[name], other[name])


def make_trainer(config, replicas):
    import dataclasses

    train = dataclasses.replace(config.train, xla="off")
    return Trainer(make_recipe(config), train, strategy=make_strategy(replicas))


def run_steps(trainer, config, dataset, steps):
    records = read_records(dataset["dataset_dir"], "train")
    batches = make_pipeline(records, make_example_maker(config.conditioning), config.data)
    for batch in batches.take(steps):
        terms = trainer.train_step(batch)
    return terms


def kernels(trainer):
    return {
        f"{net}/{v.path}": np.array(v)
        for net, model in trainer.state.nets.items()
        for v in model.trainable_variables
        if v.path.endswith("kernel")
    }
