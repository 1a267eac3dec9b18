"""Bundles of models that take or give label maps, on every engine."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from facegan.bundle import TensorSpec
from facegan.errors import BundleError, ConfigError
from facegan.export.onnx import write_onnx
from facegan.export.saved_model import ServingSpec, export_bundle
from facegan.face.labels import CELEBAMASK19, encode_schema
from facegan.image import to_uint8
from facegan.jobs.export import make_spec
from facegan.models.spade import SpadeConfig, SpadeDiscriminatorConfig, StyleEncoderConfig
from facegan.render.engine import EngineConfig, load_engine
from facegan.training.recipes import face_parser, spade
from facegan.training.trainer import TrainConfig, Trainer

SIZE = 128


def make_session(recipe):
    return Trainer(recipe, TrainConfig(steps=1, precision="float32", xla="off"))


def spade_recipe(style=False):
    style_size = 4 if style else None
    return spade.Recipe(
        spade.SpadeRecipeConfig(
            generator=SpadeConfig(
                image_size=SIZE, base_width=1, hidden_width=4, norm="batch", style_size=style_size
            ),
            discriminator=SpadeDiscriminatorConfig(image_size=SIZE, base_width=2),
            encoder=StyleEncoderConfig(image_size=SIZE, style_size=4, base_width=1)
            if style
            else None,
            perceptual_weight=0.0,
        )
    )


def export(path, session, precision="float32", **changes):
    serving = session.recipe.serving()
    spec = make_spec(serving, session.state.nets, precision)
    spec = dataclasses.replace(spec, **changes)
    manifest = export_bundle(
        path, spec, model_name=session.recipe.stem, image_size=SIZE, labels=serving.labels
    )
    return manifest, spec


def face_maps(count):
    rows, columns = np.mgrid[0:SIZE, 0:SIZE]
    maps = np.zeros((count, SIZE, SIZE), np.uint8)
    for number in range(count):
        for label in range(1, 6):
            size = SIZE * (0.45 - 0.07 * label)
            inside = (rows - 60 - 3 * number) ** 2 + (columns - 64) ** 2 < size**2
            maps[number][inside] = label
    return maps


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    path = tmp_path_factory.mktemp("spade") / "1"
    manifest, spec = export(path, make_session(spade_recipe()))
    return path, manifest, spec


def test_the_manifest_tells_labels_and_runtime(bundle):
    _, manifest, _ = bundle
    assert manifest.labels == encode_schema(CELEBAMASK19)
    assert manifest.runtime == "tensorflow"
    assert {"serving_default", "uint8", "encoded", "portable"} < set(manifest.signatures)
    assert manifest.inputs[0].dtype == "uint8" and not manifest.inputs[0].is_image


def test_the_fast_graph_gives_what_the_plain_one_gives(bundle):
    path, _, spec = bundle
    maps = face_maps(2)
    loaded = tf.saved_model.load(str(path))
    fast = loaded.signatures["serving_default"](label_map=tf.constant(maps))["image"]
    plain = loaded.signatures["portable"](label_map=tf.constant(maps))["image"]
    expected = spec.reference({"label_map": maps})["image"]
    np.testing.assert_allclose(fast, expected, atol=1e-4)
    np.testing.assert_allclose(plain, expected, atol=1e-4)
    graph = str(loaded.signatures["serving_default"].graph.as_graph_def())
    assert "Unique" in graph
    assert "Unique" not in str(loaded.signatures["portable"].graph.as_graph_def())


def test_tensorflow_is_chosen_and_others_want_onnx(bundle):
    path, _, spec = bundle
    engine = load_engine(path)
    assert engine.name == "tensorflow"
    maps = face_maps(3)
    expected = to_uint8(spec.reference({"label_map": maps})["image"])
    made = engine.generate({"label_map": maps})
    assert np.abs(made.astype(int) - expected).max() <= 1
    with pytest.raises(BundleError, match="made for TensorFlow.*--onnx"):
        load_engine(path, "openvino")


@pytest.mark.slow
def test_every_engine_gives_the_same_pictures(tmp_path):
    _, spec = export(tmp_path / "b", make_session(spade_recipe()))
    write_onnx(tmp_path / "b")
    maps = face_maps(2)
    expected = to_uint8(spec.reference({"label_map": maps})["image"])
    for name in ("tensorflow", "onnxruntime", "openvino"):
        made = load_engine(tmp_path / "b", name).generate({"label_map": maps})
        assert np.abs(made.astype(int) - expected).max() <= 1, name
    assert load_engine(tmp_path / "b").name == "tensorflow"


@pytest.mark.slow
def test_bfloat16_is_exported_and_run(tmp_path):
    session = make_session(spade_recipe())
    _, spec = export(tmp_path / "full", session)
    manifest, _ = export(tmp_path / "half", session, "bfloat16")
    assert manifest.precision == "bfloat16"
    engine = load_engine(tmp_path / "half", EngineConfig(precision="bfloat16"))
    assert (engine.name, engine.precision) == ("tensorflow", "bfloat16")
    maps = face_maps(1)
    exact = to_uint8(spec.reference({"label_map": maps})["image"]).astype(int)
    assert np.abs(engine.generate({"label_map": maps}) - exact).mean() < 4
    with pytest.raises(ConfigError, match="no precision 'bfloat16'"):
        load_engine(tmp_path / "full", EngineConfig(name="tensorflow", precision="bfloat16"))


def test_a_styled_bundle_takes_its_style_from_a_picture(tmp_path):
    _, spec = export(tmp_path / "b", make_session(spade_recipe(style=True)))
    engine = load_engine(tmp_path / "b")
    maps = face_maps(2)
    styles = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3)).astype(np.uint8)
    made = engine.generate({"label_map": maps, "style_image": styles})
    inputs = {"label_map": maps, "style_image": styles.astype(np.float32) / 127.5 - 1}
    expected = to_uint8(spec.reference(inputs)["image"])
    assert np.abs(made.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("engine", ["tensorflow", "openvino"])
def test_a_parser_gives_ids(tmp_path, engine):
    config = face_parser.CONFIG(parser=toy_parser())
    _, spec = export(tmp_path / "b", make_session(face_parser.Recipe(config)))
    pictures = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3)).astype(np.uint8)
    made = load_engine(tmp_path / "b", engine).generate({"image": pictures})
    assert made.dtype == np.uint8 and made.shape == (2, SIZE, SIZE)
    floats = pictures.astype(np.float32) / 127.5 - 1
    expected = spec.reference({"image": floats})["label_map"]
    assert np.mean(made == expected) > 0.999


def toy_parser():
    from facegan.models.face_parser import ParserUNetConfig

    return ParserUNetConfig(image_size=SIZE, base_width=2, depth=2)


def test_ids_that_differ_too_often_are_refused(tmp_path):
    out = TensorSpec(name="label_map", shape=(None, 8, 8), dtype="uint8", value_range=None)
    calls = []

    def unsteady(inputs):
        calls.append(1)
        return tf.cast(tf.reduce_mean(inputs["image"], axis=-1) > len(calls) / 9 - 0.3, tf.uint8)

    spec = ServingSpec(
        model=unsteady,
        inputs=(TensorSpec(name="image", shape=(None, 8, 8, 3)),),
        outputs=(out,),
    )
    with pytest.raises(BundleError, match="of the ids of the output 'label_map'"):
        export_bundle(tmp_path / "b", spec, model_name="x", image_size=8)
    assert not (tmp_path / "b").exists()
