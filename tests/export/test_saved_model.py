"""Export: the bundle gives what the model gives, whole or not at all."""

import os
import resource
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from facegan import image as image_lib
from facegan.bundle import read_manifest
from facegan.errors import BundleError, ConfigError
from facegan.export.saved_model import ServingSpec, export_bundle
from tests.toy_bundle import export_toy, image_spec, toy_spec


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "1"
    manifest, spec = export_toy(
        path,
        conditioning={"kind": "landmark_drawing", "version": 1},
        geometry={"a": 1.0},
        training_info={"steps": 5},
    )
    return path, manifest, spec


def test_both_signatures_give_what_the_model_gives(toy):
    path, _, spec = toy
    loaded = tf.saved_model.load(str(path))
    codes = np.random.default_rng(3).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    expected = spec.model({"condition": image_lib.to_float(codes)}, training=False).numpy()
    floats = loaded.signatures["serving_default"](condition=image_lib.to_float(codes))["image"]
    assert floats.dtype == tf.float32
    np.testing.assert_allclose(floats, expected, atol=1e-5)
    back = loaded.signatures["uint8"](condition=tf.constant(codes))["image"]
    assert back.dtype == tf.uint8
    difference = np.abs(back.numpy().astype(int) - image_lib.to_uint8(expected))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3


def test_dropout_and_batch_statistics_are_off(toy):
    path, _, _ = toy
    run = tf.saved_model.load(str(path)).signatures["serving_default"]
    images = np.random.default_rng(1).uniform(-1, 1, (2, 32, 32, 3)).astype(np.float32)
    both = run(condition=images)["image"].numpy()
    np.testing.assert_array_equal(both, run(condition=images)["image"].numpy())
    alone = run(condition=images[:1])["image"].numpy()
    np.testing.assert_allclose(both[:1], alone, atol=1e-6)


def test_manifest_tells_what_was_exported(toy):
    path, written, _ = toy
    manifest = read_manifest(path, verify=True)
    assert manifest == written
    assert manifest.model == "toy"
    assert manifest.image_size == 32
    assert manifest.inputs == (image_spec("condition", 32),)
    assert manifest.conditioning == {"kind": "landmark_drawing", "version": 1}
    assert manifest.training["steps"] == 5
    assert 0 <= manifest.training["export_max_difference"] < 1e-4
    assert 0 <= manifest.training["export_real_max_difference"] < 1e-4
    assert manifest.training["export_max_code_difference"] <= 1
    assert manifest.training["export_method_difference"] is None
    assert "saved_model.pb" in manifest.files
    assert set(manifest.signatures) == set(tf.saved_model.load(str(path)).signatures)


def test_an_existing_folder_is_kept_or_replaced(tmp_path):
    path = tmp_path / "1"
    first, _ = export_toy(path)
    with pytest.raises(BundleError, match="exists already"):
        export_toy(path, seed=1)
    assert read_manifest(path, verify=True) == first
    second, _ = export_toy(path, seed=1, overwrite=True)
    assert read_manifest(path, verify=True) == second
    assert first.fingerprint() != second.fingerprint()
    assert os.listdir(tmp_path) == ["1"]


def test_a_failed_export_leaves_nothing_and_keeps_the_old_one(tmp_path):
    path = tmp_path / "1"
    old, _ = export_toy(path)
    with pytest.raises(BundleError, match="differs from the one it was made from"):
        export_toy(path, overwrite=True, tolerance=-1.0)
    assert read_manifest(path, verify=True) == old
    assert os.listdir(tmp_path) == ["1"]


def test_broken_weights_are_refused(tmp_path):
    spec = toy_spec()
    spec.model.up.bias.assign([np.nan, 0.0, 0.0])
    with pytest.raises(BundleError, match="not finite"):
        export_bundle(tmp_path / "1", spec, model_name="toy", image_size=32)
    assert os.listdir(tmp_path) == []


def test_bfloat16_model_is_served_in_float32(tmp_path):
    spec = toy_spec(dtype="mixed_bfloat16")
    manifest = export_bundle(tmp_path / "1", spec, model_name="toy", image_size=32)
    assert manifest.precision == "bfloat16"
    run = tf.saved_model.load(str(tmp_path / "1")).signatures["serving_default"]
    assert run(condition=np.zeros((1, 32, 32, 3), np.float32))["image"].dtype == tf.float32


def test_free_height_and_width(tmp_path):
    toy = toy_spec()
    free = ServingSpec(
        model=toy.model,
        inputs=(image_spec("condition", None),),
        outputs=(image_spec("image", None),),
    )
    export_bundle(tmp_path / "1", free, model_name="toy", image_size=32)
    run = tf.saved_model.load(str(tmp_path / "1")).signatures["uint8"]
    assert run(condition=np.zeros((1, 48, 80, 3), np.uint8))["image"].shape == (1, 48, 80, 3)


def test_a_size_that_does_not_fit_is_refused_in_the_graph(tmp_path):
    toy = toy_spec()
    free = ServingSpec(
        model=toy.model,
        inputs=(image_spec("condition", None),),
        outputs=(image_spec("image", None),),
        size_multiple=4,
    )
    manifest = export_bundle(tmp_path / "1", free, model_name="toy", image_size=32)
    assert manifest.size_multiple == 4
    signatures = tf.saved_model.load(str(tmp_path / "1")).signatures
    message = "Height and width of condition must be multiples of 4"
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        signatures["serving_default"](condition=np.zeros((1, 48, 82, 3), np.float32))
    odd = image_lib.encode_picture(np.zeros((30, 32, 3), np.uint8))
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        signatures["encoded"](condition_bytes=tf.constant([odd]))


def test_what_cannot_be_served():
    with pytest.raises(ConfigError, match="at least one input"):
        ServingSpec(model=toy_spec().model, inputs=(), outputs=(image_spec("image", 32),))
    fixed = image_spec("condition", 32)
    fixed = type(fixed)(name="condition", shape=(4, 32, 32, 3))
    with pytest.raises(ConfigError, match="batch axis of input 'condition'"):
        ServingSpec(model=toy_spec().model, inputs=(fixed,), outputs=(image_spec("image", 32),))


def test_an_output_that_the_model_lacks(tmp_path):
    spec = ServingSpec(
        model=lambda inputs: {"picture": inputs["condition"]},
        inputs=(image_spec("condition", 32),),
        outputs=(image_spec("image", 32),),
    )
    with pytest.raises(ConfigError, match="returns \\['picture'\\]"):
        export_bundle(tmp_path / "1", spec, model_name="toy", image_size=32)
    assert os.listdir(tmp_path) == []


def test_unwritable_place(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(BundleError, match="Cannot create"):
        export_toy(tmp_path / "file" / "1")


def test_full_disk_leaves_nothing(tmp_path):
    # A process of its own: the limit on file sizes stands in for a disk without room.
    code = f"""
import resource, signal, sys
import tensorflow, keras
from facegan.errors import BundleError
from tests.toy_bundle import export_toy
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, {resource.RLIM_INFINITY}))
try:
    export_toy({str(tmp_path / "1")!r})
except BundleError as error:
    print("refused:", error)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "refused: Cannot write" in run.stdout, run.stderr[-2000:]
    assert os.listdir(tmp_path) == []
