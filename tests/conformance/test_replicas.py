"""Two replicas with half a batch each find the gradients of one with the whole batch."""

import numpy as np
import tensorflow as tf

from facegan.training.devices import make_strategy
from tests.conformance.cases import each_case
from tests.conformance.harness import call, make_built, make_inputs, make_seed, scalar


def _gradients(layer, inputs, training):
    with tf.GradientTape() as tape:
        loss = scalar(call(layer, inputs, training=training, seed=make_seed()))
    return loss, tape.gradient(loss, [v.value for v in layer.trainable_variables])


@each_case
def test_two_replicas_equal_one(case, two_cpus):
    inputs = make_inputs(case)
    # Batch norm sees half the batch on each replica, and dropout draws per replica: by design these
    # differ in training, so such a layer is compared as it serves.
    training = not (case.couples_examples or case.random)
    loss, gradients = _gradients(make_built(case), inputs, training)

    strategy = make_strategy(len(two_cpus))
    with strategy.scope():
        layer = make_built(case)
    halves = [tf.nest.map_structure(lambda x, i=i: x[i : i + 1], inputs) for i in range(2)]
    parts = strategy.experimental_distribute_values_from_function(
        lambda context: halves[context.replica_id_in_sync_group]
    )
    losses, by_replica = strategy.run(_gradients, (layer, parts, training))
    mean = np.mean(strategy.experimental_local_results(losses))
    np.testing.assert_allclose(mean, loss, rtol=1e-5, atol=10 * case.tolerance)
    for whole, part in zip(gradients, by_replica, strict=True):
        mean = np.mean([np.asarray(g) for g in strategy.experimental_local_results(part)], axis=0)
        scale = max(np.max(np.abs(whole)), 1.0)
        np.testing.assert_allclose(mean, whole, rtol=0, atol=10 * case.tolerance * scale)
