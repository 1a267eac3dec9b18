"""Verification: a bundle that gives something else is found out."""

import numpy as np
import pytest

from facegan import image as image_lib
from facegan.bundle import TensorSpec
from facegan.errors import BundleError
from facegan.export.verify import LoadedBundle, max_difference, sample_inputs, verify_bundle
from tests.toy_bundle import export_toy, toy_spec


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    path = tmp_path_factory.mktemp("verify") / "1"
    manifest, spec = export_toy(path)
    return path, manifest, spec


def test_the_same_model_passes(toy):
    path, _, spec = toy
    report = verify_bundle(path, spec.reference, batch_sizes=(1, 3))
    assert report.max_difference < 1e-5
    assert report.max_code_difference <= 1
    assert report.num_examples == 4


def test_another_model_is_refused(toy):
    path, _, _ = toy
    with pytest.raises(BundleError, match="differs from the one"):
        verify_bundle(path, toy_spec(seed=1).reference)


def test_a_small_shift_is_measured(toy):
    path, _, spec = toy

    def shifted(inputs):
        return {"image": spec.reference(inputs)["image"] + np.float32(0.01)}

    assert verify_bundle(path, shifted, tolerance=0.02).max_difference == pytest.approx(
        0.01, abs=1e-4
    )
    with pytest.raises(BundleError, match="0.01"):
        verify_bundle(path, shifted)


def test_another_shape_is_refused(toy):
    path, manifest, spec = toy

    def cropped(inputs):
        return {"image": spec.reference(inputs)["image"][:, :16]}

    with pytest.raises(BundleError, match="has the shape"):
        verify_bundle(path, cropped)
    with pytest.raises(BundleError, match="not finite"):
        bad = {"image": np.array([np.nan])}
        max_difference({"image": np.zeros(1)}, bad, manifest, "x")


def test_sample_inputs_follow_the_specs():
    specs = (
        TensorSpec(name="image", shape=(None, None, None, 3)),
        TensorSpec(name="labels", shape=(None, 8), dtype="int32", value_range=(0, 18)),
        TensorSpec(name="style", shape=(None, 16), value_range=None),
        TensorSpec(name="weight", shape=(None, 2), value_range=(0.0, 0.5)),
    )
    arrays = sample_inputs(specs, 4, free_size=12, seed=1)
    assert arrays["image"].shape == (4, 12, 12, 3)
    np.testing.assert_array_equal(
        image_lib.to_float(image_lib.to_uint8(arrays["image"])), arrays["image"]
    )
    assert arrays["labels"].dtype == np.int32
    assert set(np.unique(arrays["labels"])) <= set(range(19))
    assert arrays["style"].dtype == np.float32
    assert arrays["weight"].min() >= 0 and arrays["weight"].max() <= 0.5
    again = sample_inputs(specs, 4, free_size=12, seed=1)
    np.testing.assert_array_equal(arrays["style"], again["style"])


def test_loading_and_running_errors(toy, tmp_path):
    path, _, _ = toy
    with pytest.raises(BundleError, match="cannot load"):
        LoadedBundle(tmp_path)
    bundle = LoadedBundle(path)
    with pytest.raises(BundleError, match="no signature 'x'"):
        bundle.run("x", {})
    with pytest.raises(BundleError, match="cannot run"):
        bundle.run("serving_default", {"condition": np.zeros((1, 7, 7, 3), np.float32)})
