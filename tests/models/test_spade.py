import keras
import numpy as np
import pytest
import tensorflow as tf

from facegan.errors import ConfigError
from facegan.layers.fast_paths import allow_fast_paths
from facegan.layers.label_windows import find_windows, one_hot_labels
from facegan.models.configured import fold_spectral_norm
from facegan.models.spade import (
    SPADE,
    SpadeConfig,
    SPADEDiscriminator,
    SpadeDiscriminatorConfig,
    SPADEGenerator,
    StyleEncoder,
    StyleEncoderConfig,
)
from tests.conformance.harness import randomize


def built(model):
    model.build({name: (None, *shape) for name, shape in model.input_shapes().items()})
    return model


def face_maps(batch, height, width, num_labels=5):
    """Maps of nested ellipses at different places: few windows, many borders."""
    rows, columns = np.mgrid[0:height, 0:width]
    maps = np.zeros((batch, height, width), np.uint8)
    for number in range(batch):
        for label in range(1, num_labels):
            size = 0.5 - 0.1 * label
            y, x = (0.5 + 0.03 * number) * height, (0.45 + 0.04 * label) * width
            inside = ((rows - y) / (size * height)) ** 2 + ((columns - x) / (size * width)) ** 2 < 1
            maps[number][inside] = label
    return maps


@pytest.mark.parametrize("norm", ["batch", "instance"])
@pytest.mark.parametrize("training", [False, True])
def test_windows_give_what_the_convolutions_give(norm, training):
    maps = face_maps(2, 40, 56)
    features = np.random.default_rng(0).standard_normal((2, 40, 56, 6)).astype(np.float32)
    plain, fast = SPADE(5, 7, norm, name="a"), SPADE(5, 7, norm, name="b")
    for layer in (plain, fast):
        layer.build({"features": features.shape})
        randomize(layer)
    weights = np.random.default_rng(1).standard_normal(features.shape).astype(np.float32)
    results = []
    for layer, labels in (
        (plain, {"labels": one_hot_labels(maps, 5, "float32")}),
        (fast, find_windows(maps, 5)),
    ):
        x = tf.constant(features)
        with tf.GradientTape() as tape:
            tape.watch(x)
            out = layer({"features": x, **labels}, training=training)
            loss = tf.reduce_sum(out * weights)
        variables = [v.value for v in layer.trainable_variables]
        results.append([out, *tape.gradient(loss, [x, *variables]), *layer.non_trainable_variables])
    for expected, got in zip(*results, strict=True):
        expected, got = np.asarray(expected), np.asarray(tf.convert_to_tensor(got))
        np.testing.assert_allclose(got, expected, atol=2e-5 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("style_size", [None, 3])
def test_generator_takes_the_fast_path_only_when_allowed(style_size):
    config = SpadeConfig(
        image_size=64,
        num_labels=5,
        base_width=2,
        hidden_width=4,
        norm="instance",
        style_size=style_size,
    )
    model = built(SPADEGenerator(config))
    randomize(model)
    inputs = {"label_map": face_maps(2, 64, 64)}
    if style_size:
        inputs["style"] = np.ones((2, style_size), np.float32)

    def operations(allowed):
        @tf.function
        def run(inputs):
            with allow_fast_paths(allowed):
                return model(inputs)

        names = {op.type for op in run.get_concrete_function(inputs).graph.get_operations()}
        return names, run(inputs)

    plain_names, plain = operations(False)
    fast_names, fast = operations(True)
    assert "Unique" not in plain_names and "Unique" in fast_names
    np.testing.assert_allclose(fast, plain, atol=1e-4)


def test_a_graph_of_free_sizes_looks_up_where_one_of_fixed_sizes_does():
    config = SpadeConfig(image_size=64, num_labels=5, base_width=1, hidden_width=2, norm="instance")
    generator = SPADEGenerator(config)
    generator.build({"label_map": (None, 64, 64)})
    found = []
    for sizes in ((64, 64), (None, None)):
        spec = {"label_map": tf.TensorSpec((None, *sizes), tf.uint8)}
        with allow_fast_paths(True):
            graph = tf.function(generator).get_concrete_function(spec).graph
        found.append(sum(operation.type == "Unique" for operation in graph.get_operations()))
    # Of the grids of 2 to 64 pixels, those of 32 and 64: windows, and the patches in them.
    assert found == [4, 4]


def test_folded_generator_equals_the_trained_one():
    config = SpadeConfig(image_size=32, num_labels=5, base_width=2, hidden_width=4, norm="batch")
    model = built(SPADEGenerator(config))
    randomize(model)
    folded = fold_spectral_norm(model)
    assert not [v.path for v in folded.variables if "singular" in v.path]
    inputs = {"label_map": face_maps(2, 32, 32)}
    np.testing.assert_allclose(folded(inputs), model(inputs), atol=1e-5)
    rough = fold_spectral_norm(model, dtype="bfloat16")
    assert {v.dtype for v in rough.blocks[0].conv_0.variables} == {"bfloat16"}


def test_only_a_built_generator_can_be_folded():
    with pytest.raises(ConfigError, match="built"):
        fold_spectral_norm(SPADEGenerator(SpadeConfig(image_size=32, base_width=1)))


def test_generator_takes_other_sizes_without_a_style():
    config = SpadeConfig(image_size=32, num_labels=5, base_width=1, hidden_width=2, norm="instance")
    model = built(SPADEGenerator(config))
    assert model({"label_map": face_maps(1, 64, 96)}).shape == (1, 64, 96, 3)
    with pytest.raises(ConfigError, match="multiples of 32"):
        model({"label_map": np.zeros((1, 40, 32), np.uint8)})
    with pytest.raises(ConfigError, match="argmax"):
        model({"label_map": np.zeros((1, 32, 32, 5), np.float32)})


def test_discriminator_judges_two_scales():
    config = SpadeDiscriminatorConfig(num_labels=5, base_width=2)
    model = built(SPADEDiscriminator(config))
    out = model(
        {"label_map": np.zeros((1, 256, 256), np.uint8), "image": np.zeros((1, 256, 256, 3))}
    )
    assert [tuple(x.shape) for x in out["logits"]] == [(1, 35, 35, 1), (1, 19, 19, 1)]
    assert [len(maps) for maps in out["features"]] == [4, 4]
    assert all(x.dtype == "float32" for x in out["logits"])


def test_style_encoder_refuses_another_size():
    model = built(StyleEncoder(StyleEncoderConfig(image_size=128, style_size=4, base_width=1)))
    assert model({"image": np.zeros((2, 128, 128, 3), np.float32)})["mean"].shape == (2, 4)
    with pytest.raises(ConfigError, match="128x128"):
        model({"image": np.zeros((2, 64, 64, 3), np.float32)})


@pytest.mark.parametrize(
    ("cls", "settings", "message"),
    [
        (SpadeConfig, {"image_size": 100}, "power of two"),
        (SpadeConfig, {"num_labels": 1}, "num_labels"),
        (SpadeConfig, {"base_width": 0}, "base_width"),
        (SpadeConfig, {"style_size": 0}, "style_size"),
        (SpadeConfig, {"image_size": 64, "upsampling": "most"}, "128"),
        (SpadeDiscriminatorConfig, {"num_scales": 0}, "num_scales"),
        (SpadeDiscriminatorConfig, {"image_size": 32, "num_layers": 6}, "64"),
        (StyleEncoderConfig, {"image_size": 64}, "128"),
    ],
)
def test_wrong_settings_are_named(cls, settings, message):
    with pytest.raises(ConfigError, match=message):
        cls(**settings)


def test_discriminator_sees_float32_losses_from_bfloat16_maps():
    config = SpadeDiscriminatorConfig(image_size=32, num_labels=5, base_width=2)
    model = built(SPADEDiscriminator(config, dtype="mixed_bfloat16"))
    out = model({"label_map": face_maps(1, 32, 32), "image": np.zeros((1, 32, 32, 3), np.float32)})
    dtypes = {keras.backend.standardize_dtype(x.dtype) for x in out["logits"]}
    assert dtypes == {"float32"}
