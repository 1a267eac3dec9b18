"""Readers of bundles that are not ours: TensorFlow's own tool and its C API."""

import contextlib
import importlib.util
import io
import os
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.tools import saved_model_cli

from facegan.bundle import read_manifest
from facegan.export.random_inputs import sample_inputs
from facegan.export.verify import LoadedBundle
from tests import untrained
from tests.domain_puppet import export_domain_puppet
from tests.style_puppet import export_style_puppet
from tests.toy_bundle import export_toy

SOURCE = pathlib.Path(__file__).with_name("read_saved_model.c")
KINDS = {
    "pix2pix": lambda path: untrained.export_untrained(path, untrained.pix2pix()),
    "spade": lambda path: untrained.export_untrained(path, untrained.spade()),
    "talking_head": lambda path: untrained.export_untrained(path, untrained.talking_head()),
    "talking_head_person": lambda path: untrained.export_untrained(
        path, untrained.talking_head_person()
    ),
    "stargan_v2": lambda path: untrained.export_untrained(path, untrained.stargan_v2()),
    "mask_pix2pix": lambda path: untrained.export_untrained(path, untrained.mask_pix2pix()),
    "stylegan2": export_style_puppet,
    "domains": export_domain_puppet,
}


def show(path):
    """What ``saved_model_cli show --all`` prints, as text by signature.

    The function behind the command: the command takes seconds to import TensorFlow.
    """
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        saved_model_cli._show_all(str(path))
    text = printed.getvalue().split("Concrete Functions:")[0]
    parts = re.split(r"signature_def\['(\w+)'\]:", text)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    path = tmp_path_factory.mktemp("readers") / "1"
    manifest, _ = export_toy(path)
    return path, manifest


@pytest.mark.parametrize("kind", KINDS)
def test_tensorflows_tool_names_every_tensor(kind, tmp_path):
    KINDS[kind](tmp_path / "1")
    manifest = read_manifest(tmp_path / "1")
    shown = show(tmp_path / "1")
    assert set(shown) - {"__saved_model_init_op"} == set(manifest.signatures)
    for name, text in shown.items():
        if name == "__saved_model_init_op":
            continue
        method = manifest.methods.get(name, manifest)
        inputs, outputs = (
            set(re.findall(rf"{side}\['(\w+)'\] tensor_info", text))
            for side in ("inputs", "outputs")
        )
        if name == "describe":
            assert (inputs, outputs) == ({"query"}, {"manifest_bytes"})
        elif name.startswith("encoded"):
            assert inputs == {spec.encoded_name for spec in manifest.inputs}
            assert outputs == {spec.encoded_name for spec in manifest.outputs}
        else:
            assert inputs == {spec.name for spec in method.inputs}
            assert outputs == {spec.name for spec in method.outputs}


def test_the_tool_reads_it_as_a_program(toy):
    program = pathlib.Path(sys.executable).with_name("saved_model_cli")
    if not program.exists():
        pytest.skip("saved_model_cli is not beside this Python")
    done = subprocess.run(
        [program, "show", "--dir", toy[0], "--tag_set", "serve", "--signature_def", "encoded"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "inputs['condition_bytes'] tensor_info" in done.stdout
    assert re.search(r"outputs\['image_bytes'\] tensor_info:\s+dtype: DT_STRING", done.stdout)


@pytest.fixture(scope="module")
def c_program(tmp_path_factory):
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    package = pathlib.Path(importlib.util.find_spec("tensorflow").origin).parent
    names = ("libtensorflow_cc.so.2", "libtensorflow_framework.so.2")
    libraries = [package / name for name in names if (package / name).exists()]
    if len(libraries) != 2:
        pytest.skip("this TensorFlow brings no C library")
    program = tmp_path_factory.mktemp("c") / "read_saved_model"
    subprocess.run(
        [
            *(compiler, "-std=c99", "-Wall", "-Werror", "-o", program, SOURCE),
            *("-I", package / "include"),
            *libraries,
            f"-Wl,-rpath,{package}",
        ],
        check=True,
    )
    return program


def tensor_name(path, signature, kind):
    """The place in the graph of a signature's only input or output."""
    model = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    definition = model.meta_graphs[0].signature_def[signature]
    (info,) = getattr(definition, kind).values()
    return info.name


@pytest.mark.parametrize("kind", ["toy", "pix2pix"])
def test_a_c_program_gets_the_same_numbers(kind, toy, c_program, tmp_path):
    path, manifest = toy
    if kind == "pix2pix":
        path = tmp_path / "1"
        manifest = KINDS[kind](path)
    inputs = sample_inputs(manifest.inputs, 2, free_hw=(32, 64), seed=3)
    (values,) = inputs.values()
    values.tofile(tmp_path / "input")
    names = [tensor_name(path, "serving_default", side) for side in ("inputs", "outputs")]
    done = subprocess.run(
        [c_program, path, *names, tmp_path / "input", *map(str, values.shape)],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    shape, *numbers = done.stdout.splitlines()
    got = np.array(numbers, np.float32).reshape([int(size) for size in shape.split()])
    expected = LoadedBundle(path).run("serving_default", inputs)["image"]
    assert got.std() > 0.01
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_a_c_program_is_refused_what_does_not_fit(toy, c_program, tmp_path):
    np.zeros(3, np.float32).tofile(tmp_path / "input")
    names = [tensor_name(toy[0], "serving_default", side) for side in ("inputs", "outputs")]
    done = subprocess.run(
        [c_program, toy[0], *names, tmp_path / "input", "1", "32", "32", "3"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1 and "too short" in done.stderr
    assert tf.saved_model.contains_saved_model(str(toy[0]))


@pytest.mark.parametrize("kind", ["pix2pix", "talking_head_person"])
def test_openvino_reads_free_sizes(kind, tmp_path):
    openvino = pytest.importorskip("openvino")
    manifest = KINDS[kind](tmp_path / "1")
    model = openvino.Core().read_model(tmp_path / "1")
    for free_hw in ((64, 64), (64, 128)):
        inputs = sample_inputs(manifest.inputs, 1, free_hw=free_hw)
        (values,) = inputs.values()
        model.reshape(list(values.shape))
        compiled = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        expected = LoadedBundle(tmp_path / "1").run("serving_default", inputs)["image"]
        np.testing.assert_allclose(compiled(values)[0], expected, atol=1e-4)
