import keras
import numpy as np
import pytest

from facegan.errors import CheckpointError, ConfigError
from facegan.models.perceptual import (
    PYRAMID_WEIGHTS,
    VGGFeatures,
    VGGFeaturesConfig,
    load_vgg19,
    random_stand_in,
)

SMALL = VGGFeaturesConfig(layers=("relu1_1", "conv2_2", "relu2_2"))


def image(size=16):
    return np.random.default_rng(0).uniform(-1, 1, (1, size, size, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def original():
    """Keras' own VGG19 with random weights."""
    return keras.applications.VGG19(include_top=False, weights=None)


def test_loaded_weights_give_the_original_networks_features(tmp_path, original):
    path = tmp_path / "vgg19.weights.h5"
    original.save_weights(path)
    model = load_vgg19(path, VGGFeaturesConfig(layers=("relu1_1", "relu2_2", "relu3_1")))
    names = ["block1_conv1", "block2_conv2", "block3_conv1"]
    inner = keras.Model(original.input, [original.get_layer(name).output for name in names])
    pixels = (image() + 1) * 127.5
    expected = inner(keras.applications.vgg19.preprocess_input(pixels.copy()))
    for ours, theirs in zip(model({"image": image()}), expected, strict=True):
        scale = np.max(np.abs(theirs))
        np.testing.assert_allclose(ours, theirs, atol=1e-5 * scale)


def test_conv_maps_are_taken_before_the_activation():
    first, before, after = random_stand_in(0, SMALL)({"image": image()})
    assert np.any(np.asarray(before) < 0)
    np.testing.assert_array_equal(after, np.maximum(before, 0))
    assert first.shape == (1, 16, 16, 64)
    assert after.shape == (1, 8, 8, 128)


def test_only_the_layers_needed_are_made():
    assert len(VGGFeatures(SMALL).convs) == 4
    assert len(VGGFeatures(VGGFeaturesConfig()).convs) == 13
    assert len(PYRAMID_WEIGHTS) == len(VGGFeaturesConfig().layers)


def test_the_stand_in_follows_from_its_seed_and_keeps_the_scale():
    config = VGGFeaturesConfig(layers=("relu1_1", "relu3_1"), preprocessing="none")
    first, deep = random_stand_in(1, config)({"image": image(32)})
    again, _ = random_stand_in(1, config)({"image": image(32)})
    other, _ = random_stand_in(2, config)({"image": image(32)})
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert 0.2 < np.std(deep) / np.std(first) < 5


def test_torchvision_preprocessing_standardises():
    model = VGGFeatures(VGGFeaturesConfig(layers=("conv1_1",), preprocessing="torchvision"))
    out = np.asarray(model._preprocess(np.zeros((1, 1, 1, 3), np.float32)))
    expected = (0.5 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    np.testing.assert_allclose(out[0, 0, 0], expected, rtol=1e-5)


def test_nothing_is_trainable():
    model = random_stand_in(0, SMALL)
    assert not model.trainable_variables
    assert model.variables


def test_bad_files_and_names_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="Cannot read VGG19 weights"):
        load_vgg19(tmp_path / "missing.h5")
    path = tmp_path / "other.h5"
    path.write_bytes(b"not HDF5")
    with pytest.raises(CheckpointError, match="HDF5 file without the top"):
        load_vgg19(path)
    with pytest.raises(ConfigError, match="Did you mean 'relu1_1'"):
        VGGFeaturesConfig(layers=("relu_1_1",))
    with pytest.raises(ConfigError, match="layers"):
        VGGFeaturesConfig(layers=())
