"""The signatures of a bundle: one network behind all of them."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from facegan import image as image_lib
from facegan.bundle import TensorSpec, decode_description, read_manifest
from facegan.export.saved_model import ServingSpec, export_bundle
from tests.domain_puppet import export_domain_puppet
from tests.toy_bundle import export_puppet, export_toy, image_spec


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    path = tmp_path_factory.mktemp("signatures") / "1"
    manifest, _ = export_toy(path)
    return path, manifest, tf.saved_model.load(str(path))


def codes(count=2, size=32, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def png_files(pictures):
    return tf.constant([image_lib.encode_picture(picture) for picture in pictures])


def decode(files):
    return np.stack([image_lib.decode_picture(file) for file in files.numpy()])


def test_files_in_and_out_give_what_codes_give(toy):
    _, manifest, loaded = toy
    assert manifest.signatures == (
        *("serving_default", "uint8", "encoded", "encoded_jpeg", "describe"),
    )
    pictures = codes()
    expected = loaded.signatures["uint8"](condition=tf.constant(pictures))["image"].numpy()
    outputs = loaded.signatures["encoded"](condition_bytes=png_files(pictures))
    assert set(outputs) == {"image_bytes"}
    assert outputs["image_bytes"].numpy()[0].startswith(b"\x89PNG")
    np.testing.assert_array_equal(decode(outputs["image_bytes"]), expected)
    files = loaded.signatures["encoded_jpeg"](condition_bytes=png_files(pictures))["image_bytes"]
    assert files.numpy()[0].startswith(b"\xff\xd8")
    assert np.abs(decode(files).astype(int) - expected).mean() < 4


def test_a_picture_of_another_size_is_resized(toy):
    _, _, loaded = toy
    flat = np.full((1, 50, 70, 3), 90, np.uint8)
    resized = loaded.signatures["encoded"](condition_bytes=png_files(flat))["image_bytes"]
    exact = loaded.signatures["encoded"](condition_bytes=png_files(flat[:, :32, :32]))
    np.testing.assert_array_equal(decode(resized), decode(exact["image_bytes"]))


def test_a_bundle_describes_itself(toy):
    _, manifest, loaded = toy
    texts = loaded.signatures["describe"](query=tf.constant(["", "x"]))["manifest_bytes"].numpy()
    assert texts[0] == texts[1]
    described = decode_description(texts[0])
    assert described == dataclasses.replace(manifest, files={}, training={})


def test_the_network_is_in_the_file_once(toy):
    path, _, _ = toy
    model = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    library = model.meta_graphs[0].graph_def.library
    ops = [node.op for function in library.function for node in function.node_def]
    assert ops.count("Conv2D") == 1 and ops.count("Conv2DBackpropInput") == 1


def test_what_is_no_picture_stays_as_it_is(tmp_path):
    path = export_domain_puppet(tmp_path / "1")
    loaded = tf.saved_model.load(str(path))
    assert {"encoded", "generate", "encode_style", "map_style"} <= set(loaded.signatures)
    run = loaded.signatures["encoded"]
    assert set(run.structured_input_signature[1]) == {"source_bytes", "style"}
    pictures, style = codes(1), np.array([[0.5, -0.5, 0.0]], np.float32)
    made = run(source_bytes=png_files(pictures), style=tf.constant(style))["image_bytes"]
    expected = image_lib.to_uint8(0.5 * (image_lib.to_float(pictures) + style))
    assert np.abs(decode(made).astype(int) - expected).max() <= 1


def test_label_maps_and_channels_that_no_file_has(tmp_path):
    def label(inputs):
        return {"label_map": tf.argmax(inputs["stack"], axis=-1), "shown": inputs["ids"]}

    ids = TensorSpec(name="ids", shape=(None, 8, 8), dtype="uint8", value_range=(0, 5))
    out = TensorSpec(name="label_map", shape=(None, 8, 8), dtype="uint8", value_range=None)
    spec = ServingSpec(
        model=label,
        inputs=(TensorSpec(name="stack", shape=(None, 8, 8, 6)), ids),
        outputs=(out, dataclasses.replace(ids, name="shown")),
    )
    manifest = export_bundle(tmp_path / "1", spec, model_name="toy", image_size=8)
    assert "encoded_jpeg" not in manifest.signatures
    run = tf.saved_model.load(str(tmp_path / "1")).signatures["encoded"]
    stack = np.random.default_rng(0).standard_normal((1, 8, 8, 6)).astype(np.float32)
    label_map = np.random.default_rng(0).integers(0, 6, (8, 8), dtype=np.uint8)
    got = run(stack=stack, ids_bytes=tf.constant([image_lib.encode_labels(label_map)]))
    for name, expected in (("label_map_bytes", stack[0].argmax(-1)), ("shown_bytes", label_map)):
        read = tf.io.decode_png(got[name].numpy()[0]).numpy()
        np.testing.assert_array_equal(read[..., 0], expected)


def test_the_description_follows_the_weights(tmp_path):
    told = []
    for seed in (0, 1):
        export_toy(tmp_path / str(seed), seed=seed)
        loaded = tf.saved_model.load(str(tmp_path / str(seed)))
        text = loaded.signatures["describe"](query=tf.constant([""]))["manifest_bytes"].numpy()[0]
        told.append(decode_description(text))
    assert told[0].weights_sha256 != told[1].weights_sha256
    assert told[0].fingerprint() != told[1].fingerprint()


def test_a_bundle_without_pictures_gives_no_jpeg(tmp_path):
    export_puppet(tmp_path / "1", lambda condition: condition, size=16)
    assert "encoded_jpeg" in read_manifest(tmp_path / "1").signatures
    spec = ServingSpec(
        model=lambda inputs: tf.reduce_mean(inputs["image"], axis=(1, 2)),
        inputs=(image_spec("image", 16),),
        outputs=(TensorSpec(name="mean", shape=(None, 3), value_range=None),),
    )
    manifest = export_bundle(tmp_path / "2", spec, model_name="toy", image_size=16)
    assert "encoded_jpeg" not in manifest.signatures
