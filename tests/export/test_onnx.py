"""ONNX beside the SavedModel."""

import os

import numpy as np
import pytest

from facegan.bundle import read_manifest
from facegan.errors import BundleError
from facegan.export.onnx import write_onnx
from facegan.export.verify import LoadedBundle
from tests.toy_bundle import export_puppet, export_toy, toy_spec

pytest.importorskip("tf2onnx")
onnxruntime = pytest.importorskip("onnxruntime")


def test_onnx_equals_the_saved_model(tmp_path):
    path = tmp_path / "1"
    before, _ = export_toy(path)
    manifest = write_onnx(path)
    assert manifest.training["export_onnx_max_difference"] < 1e-5
    assert manifest.training["export_onnx_real_max_difference"] < 1e-5
    assert manifest == read_manifest(path, verify=True)
    assert set(manifest.files) - set(before.files) == {"model.onnx"}
    session = onnxruntime.InferenceSession(
        str(path / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    images = np.random.default_rng(2).uniform(-1, 1, (5, 32, 32, 3)).astype(np.float32)
    (got,) = session.run(["image"], {"condition": images})
    expected = LoadedBundle(path).run("serving_default", {"condition": images})["image"]
    assert expected.std() > 0.1
    np.testing.assert_allclose(got, expected, atol=1e-4)
    assert set(write_onnx(path).files) == set(manifest.files)
    assert not [name for name in os.listdir(path) if name.startswith(".")]


def test_what_cannot_be_converted_leaves_the_bundle_as_it_was(tmp_path):
    import tensorflow as tf

    def bessel(condition):  # has no ONNX form
        return tf.math.bessel_i0e(condition)

    path = tmp_path / "1"
    before = export_puppet(path, bessel, size=16)
    with pytest.raises(BundleError, match="cannot be written as ONNX"):
        write_onnx(path)
    assert read_manifest(path, verify=True) == before
    assert not any("onnx" in name for name in os.listdir(path))


def test_difference_above_the_tolerance(tmp_path):
    path = tmp_path / "1"
    before, _ = export_toy(path)
    with pytest.raises(BundleError, match="differs from the SavedModel"):
        write_onnx(path, tolerance=-1.0)
    assert read_manifest(path, verify=True) == before


def test_it_is_compared_with_the_model_where_there_is_one(tmp_path):
    path = tmp_path / "1"
    before, spec = export_toy(path)
    with pytest.raises(BundleError, match="differs from the model"):
        write_onnx(path, toy_spec(seed=1).reference)
    assert read_manifest(path, verify=True) == before
    manifest = write_onnx(path, spec.reference)
    assert 0 <= manifest.training["export_onnx_max_difference"] < 1e-5


def test_a_damaged_bundle_is_refused(tmp_path):
    path = tmp_path / "1"
    export_toy(path)
    (path / "saved_model.pb").write_bytes(b"x")
    with pytest.raises(BundleError, match="damaged"):
        write_onnx(path)
