"""Engines: all runtimes give the same picture; errors name what to do."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from facegan import image as image_lib
from facegan.bundle import MethodSpec, TensorSpec, read_manifest
from facegan.errors import BundleError, ConfigError
from facegan.export.saved_model import ServingSpec, export_bundle
from facegan.render.engine import ENGINES, BundleMethods, EngineConfig, load_engine
from tests.toy_bundle import export_toy, image_spec


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    path = tmp_path_factory.mktemp("engine") / "1"
    _, spec = export_toy(path)
    return path, spec


@pytest.fixture(scope="module")
def toy_onnx(tmp_path_factory):
    pytest.importorskip("tf2onnx")
    pytest.importorskip("onnxruntime")
    from facegan.export.onnx import write_onnx

    path = tmp_path_factory.mktemp("engine_onnx") / "1"
    _, spec = export_toy(path)
    write_onnx(path)
    return path, spec


def codes(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def check(engine, spec, most_codes=1):
    # First 2, then 5, then 1: engines that compile for one batch size must cut and pad.
    for count in (2, 5, 1):
        batch = codes(count, seed=count)
        expected = spec.reference({"condition": image_lib.to_float(batch)})["image"]
        got = engine.generate({"condition": batch})
        assert got.dtype == np.uint8
        assert got.shape == (count, 32, 32, 3)
        difference = np.abs(got.astype(int) - image_lib.to_uint8(expected))
        assert difference.max() <= most_codes


def test_tensorflow(toy):
    path, spec = toy
    engine = load_engine(path, "tensorflow")
    assert (engine.name, engine.precision) == ("tensorflow", "float32")
    check(engine, spec)


def test_onnxruntime(toy_onnx):
    path, spec = toy_onnx
    check(load_engine(path, EngineConfig(name="onnxruntime", num_threads=1)), spec)


@pytest.mark.parametrize("source", ["saved_model", "onnx"])
def test_openvino(source, request):
    pytest.importorskip("openvino")
    path, spec = request.getfixturevalue("toy" if source == "saved_model" else "toy_onnx")
    check(load_engine(path, "openvino"), spec)


def test_openvino_bfloat16_is_close(toy):
    pytest.importorskip("openvino")
    path, spec = toy
    engine = load_engine(path, EngineConfig(name="openvino", precision="bfloat16"))
    assert engine.precision == "bfloat16"
    check(engine, spec, most_codes=6)


def test_outputs_of_two_calls_do_not_share_memory(toy):
    path, _ = toy
    for name in ("auto", "tensorflow"):
        engine = load_engine(path, name)
        first = engine.generate({"condition": codes(1, 1)})
        kept = first.copy()
        engine.generate({"condition": codes(1, 2)})
        np.testing.assert_array_equal(first, kept)


def test_wrong_inputs(toy):
    engine = load_engine(toy[0], "tensorflow")
    with pytest.raises(ConfigError, match="takes the inputs \\['condition'\\], got \\['image'\\]"):
        engine.generate({"image": codes(1)})
    with pytest.raises(ConfigError, match="must be uint8 of shape"):
        engine.generate({"condition": codes(1).astype(np.float32)})
    with pytest.raises(ConfigError, match="must be uint8 of shape"):
        engine.generate({"condition": codes(1)[:, :16]})
    with pytest.raises(ConfigError, match="must be uint8 of shape"):
        engine.generate({"condition": codes(1)[0]})


def test_choices_that_cannot_be(toy):
    path, _ = toy
    with pytest.raises(ConfigError, match="Did you mean 'openvino'"):
        load_engine(path, "openvin")
    with pytest.raises(ConfigError, match="num_threads"):
        EngineConfig(num_threads=0)
    with pytest.raises(ConfigError, match="has no precision 'bfloat16'"):
        load_engine(path, EngineConfig(name="tensorflow", precision="bfloat16"))
    pytest.importorskip("onnxruntime")
    with pytest.raises(BundleError, match="has no model.onnx"):
        load_engine(path, "onnxruntime")


def test_damaged_bundle_is_found_before_it_is_run(tmp_path):
    path = tmp_path / "1"
    export_toy(path)
    data = next((path / "variables").glob("variables.data*"))
    raw = bytearray(data.read_bytes())
    raw[10] ^= 1
    data.write_bytes(raw)
    with pytest.raises(BundleError, match="is not the file that was exported"):
        load_engine(path)


@pytest.mark.parametrize(
    ("name", "source", "read"),
    [
        ("tensorflow", "toy_onnx", "variables/variables.data-00000-of-00001"),
        ("openvino", "toy", "variables/variables.data-00000-of-00001"),
        ("openvino", "toy_onnx", "model.onnx"),
        ("onnxruntime", "toy_onnx", "model.onnx"),
    ],
)
def test_an_engine_checks_what_it_reads_before_it_does(name, source, read, request, tmp_path):
    pytest.importorskip(name)
    path = tmp_path / "1"
    shutil.copytree(request.getfixturevalue(source)[0], path)
    # Of large files only the size is checked when a manifest is read; these change later.
    manifest = read_manifest(path)
    for file in ("variables/variables.data-00000-of-00001", "model.onnx"):
        if file in manifest.files and file != read:
            (path / file).write_bytes(b"no weights")
    ENGINES[name](path, manifest, EngineConfig())
    raw = bytearray((path / read).read_bytes())
    raw[len(raw) // 2] ^= 1
    (path / read).write_bytes(raw)
    with pytest.raises(BundleError, match=f"{read} is not the file that was exported"):
        ENGINES[name](path, manifest, EngineConfig())


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_engines_of_other_runtimes_do_not_import_tensorflow(toy_onnx, name):
    pytest.importorskip(name)
    code = f"""
import sys
import numpy as np
from facegan.render.engine import load_engine
engine = load_engine({str(toy_onnx[0])!r}, {name!r})
engine.generate({{"condition": np.zeros((1, 32, 32, 3), np.uint8)}})
print(sorted({{"tensorflow", "keras"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


class Painter:
    """What is served: pictures of one colour, and how bright a colour is."""

    def __call__(self, inputs):
        return tf.tile(tf.square(inputs["colour"])[:, None, None], (1, 4, 4, 1))

    def weigh(self, inputs):
        """The brightness, and that of the colour's negative."""
        bright = tf.reduce_sum(inputs["colour"] * [0.25, 0.5, 0.25], axis=1)
        return {"bright": bright, "dark": -bright}


@pytest.fixture(scope="module")
def methods(tmp_path_factory):
    """Of a bundle that has a method beside the call."""
    folder = tmp_path_factory.mktemp("methods") / "1"
    colour = TensorSpec(name="colour", shape=(None, 3), value_range=None)
    outputs = tuple(
        TensorSpec(name=name, shape=(None,), value_range=None) for name in ("bright", "dark")
    )
    spec = ServingSpec(
        model=Painter(),
        inputs=(colour,),
        outputs=(image_spec("image", 4),),
        methods={"weigh": MethodSpec(inputs=(colour,), outputs=outputs)},
    )
    export_bundle(folder, spec, model_name="painter", image_size=4)
    return BundleMethods(folder, read_manifest(folder))


COLOURS = np.float32([[0.5, -0.25, 1.0], [0.1, 0.2, 0.3]])


def test_methods_and_the_call_itself_are_run_by_name(methods):
    found = methods.run("weigh", {"colour": COLOURS})
    assert set(found) == {"bright", "dark"} and isinstance(found["dark"], np.ndarray)
    np.testing.assert_allclose(found["bright"], COLOURS @ [0.25, 0.5, 0.25], rtol=1e-6)
    image = methods.run("generate", {"colour": COLOURS})["image"]
    assert image.shape == (2, 4, 4, 3)
    np.testing.assert_allclose(image[:, 1, 2], COLOURS**2, rtol=1e-6)
    assert methods.find_input("generate", "colour") == methods.manifest.inputs[0]


def test_gradients_go_through_methods_also_in_graphs(methods):
    def slope(colour):
        with tf.GradientTape() as tape:
            tape.watch(colour)
            image = methods.run_tensors("generate", {"colour": colour})["image"]
            total = tf.reduce_sum(image) + tf.reduce_sum(
                methods.run_tensors("weigh", {"colour": colour})["dark"]
            )
        return tape.gradient(total, colour)

    expected = 16 * 2 * COLOURS - np.float32([0.25, 0.5, 0.25])
    for function in (slope, tf.function(slope)):
        np.testing.assert_allclose(function(tf.constant(COLOURS)), expected, rtol=1e-5)


@pytest.mark.parametrize("run", ["run", "run_tensors"])
def test_methods_that_are_not_there_are_refused(methods, toy, run):
    for method, name in (("wiegh", "colour"), ("weigh", "color"), ("generate", "condition")):
        with pytest.raises(BundleError, match=f"no signature '{method}' with an input '{name}'"):
            getattr(methods, run)(method, {name: tf.constant(COLOURS)})
    # Without methods the call has no other name.
    plain = BundleMethods(toy[0], read_manifest(toy[0]))
    with pytest.raises(BundleError, match="no signature 'generate'.*Export it again"):
        getattr(plain, run)("generate", {"condition": tf.zeros((1, 32, 32, 3))})
