"""Verification: a bundle that gives something else is found out."""

import dataclasses
import shutil

import numpy as np
import pytest

from facegan import image as image_lib
from facegan.bundle import TensorSpec, write_manifest
from facegan.errors import BundleError
from facegan.export.random_inputs import sample_inputs
from facegan.export.verify import (
    LoadedBundle,
    encode_inputs,
    make_trials,
    max_difference,
    verify_bundle,
)
from tests.toy_bundle import export_toy, image_spec, toy_spec


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
    assert report.real_max_difference is not None and report.real_max_difference < 1e-5
    assert report.num_examples == 6


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


def test_a_fault_on_real_faces_alone_is_refused(toy):
    path, _, spec = toy

    def elsewhere(inputs):
        outputs = spec.reference(inputs)
        # Neighbouring pixels of pictures are alike, those of random numbers are not.
        smooth = np.abs(np.diff(inputs["condition"], axis=1)).mean() < 0.2
        return {"image": outputs["image"] + np.float32(0.01 if smooth else 0.0)}

    assert verify_bundle(path, elsewhere, tolerance=0.02).max_difference < 1e-5
    with pytest.raises(BundleError, match="0.01"):
        verify_bundle(path, elsewhere)


def test_where_sizes_are_free_several_are_tried(toy):
    _, manifest, _ = toy
    free = dataclasses.replace(
        manifest, inputs=(image_spec("condition", None),), size_multiple=8, image_size=32
    )
    shapes = [trial.inputs["condition"].shape for trial in make_trials(free)]
    assert shapes == [(1, 32, 32, 3), (2, 16, 40, 3), (2, 32, 32, 3)]
    assert [trial.is_real for trial in make_trials(free)] == [False, False, True]


def test_what_a_bundle_says_of_itself_is_compared(toy, tmp_path):
    path, manifest, spec = toy
    shutil.copytree(path, tmp_path / "1")
    write_manifest(tmp_path / "1", dataclasses.replace(manifest, model="other"))
    with pytest.raises(BundleError, match="'describe' .* another model than its manifest"):
        verify_bundle(tmp_path / "1", spec.reference)


def test_inputs_as_files():
    specs = (
        image_spec("image", 8),
        TensorSpec(name="ids", shape=(None, 8, 8), dtype="int32", value_range=(0, 18)),
        TensorSpec(name="stack", shape=(None, 8, 8, 6)),
    )
    inputs = sample_inputs(specs, 2)
    files = encode_inputs(specs, inputs)
    assert list(files) == ["image_bytes", "ids_bytes", "stack"]
    assert files["stack"] is inputs["stack"]
    picture = image_lib.decode_picture(files["image_bytes"][1])
    np.testing.assert_array_equal(picture, image_lib.to_uint8(inputs["image"][1]))


def test_loading_and_running_errors(toy, tmp_path):
    path, _, _ = toy
    with pytest.raises(BundleError, match="cannot load"):
        LoadedBundle(tmp_path)
    bundle = LoadedBundle(path)
    with pytest.raises(BundleError, match="no signature 'x'"):
        bundle.run("x", {})
    with pytest.raises(BundleError, match="cannot run"):
        bundle.run("serving_default", {"condition": np.zeros((1, 7, 7, 3), np.float32)})
