import pytest
import tensorflow as tf

from facegan.training.memory import peak_bytes, step_memory
from facegan.training.recipes.pix2pix import Pix2PixConfig, Recipe

KIB = 1024


def graph_of(function, *shapes):
    concrete = tf.function(function, autograph=False).get_concrete_function(
        *(tf.TensorSpec(shape, tf.float32) for shape in shapes)
    )
    return concrete.graph, concrete.outputs


def test_a_chain_holds_two_tensors_at_a_time():
    def chain(x):  # x [256] float32 is 1 KiB; inputs are the caller's
        for _ in range(5):
            x = tf.tanh(x)
        return x

    graph, kept = graph_of(chain, (256,))
    assert peak_bytes(graph, kept) == 2 * KIB


def test_what_is_used_late_is_held_until_then():
    def fan(x):
        parts = [tf.sin(x * float(i)) for i in range(4)]
        return tf.add_n(parts)

    graph, kept = graph_of(fan, (256,))
    # Four sines and their sum; a product is gone before the next sine is computed.
    assert peak_bytes(graph, kept) == 5 * KIB


def test_reshaping_costs_nothing_and_keeps_its_source_alive():
    def reshaped(x):
        y = tf.reshape(tf.tanh(x), (16, 16))
        z = tf.tanh(tf.tanh(tf.tanh(x)))
        return tf.reshape(z, (16, 16)) + y

    graph, kept = graph_of(reshaped, (256,))
    # y, and two of the chain at a time.
    assert peak_bytes(graph, kept) == 3 * KIB


@pytest.fixture(scope="module")
def tiny():
    from facegan.models.pix2pix import PatchDiscriminatorConfig, UNetConfig

    recipe = Recipe(
        Pix2PixConfig(
            generator=UNetConfig(image_size=32, base_width=8),
            discriminator=PatchDiscriminatorConfig(image_size=32, base_width=8, num_layers=1),
        )
    )
    return recipe, recipe.build_nets("float32")


def test_work_grows_with_the_batch_and_the_rest_does_not(tiny):
    recipe, nets = tiny

    def batch(size):
        return {n: tf.TensorSpec((size, 32, 32, 3), tf.float32) for n in ("condition", "image")}

    one, four = (step_memory(recipe, nets, batch(size)) for size in (1, 4))
    assert (
        one.weights
        == four.weights
        == sum(4 * int(tf.size(v.value)) for net in nets.values() for v in net.variables)
    )
    trainable = sum(
        v.value.shape.num_elements() for n in nets.values() for v in n.trainable_variables
    )
    assert one.optimizer == four.optimizer == 8 * trainable
    assert one.averages == 0
    assert one.work < four.work < 4 * one.work
    # Gradients of the generator stay to the end.
    generator = sum(v.value.shape.num_elements() for v in nets["generator"].trainable_variables)
    assert one.work > 4 * generator
    assert one.total == one.weights + one.averages + one.optimizer + one.work
