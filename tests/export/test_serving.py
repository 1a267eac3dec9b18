"""The folder that TensorFlow Serving serves from."""

import importlib
import shutil

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from google.protobuf import wrappers_pb2 as wrappers

from facegan.bundle import read_manifest
from facegan.errors import BundleError, ConfigError
from facegan.export import serving
from facegan.export.serving import plan_version, publish_bundle
from tests import untrained
from tests.domain_puppet import export_domain_puppet
from tests.toy_bundle import export_toy

prediction_log_pb2 = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
model_server_config_pb2 = pytest.importorskip("tensorflow_serving.config.model_server_config_pb2")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    path = tmp_path_factory.mktemp("bundles") / "anna" / "1"
    export_toy(path)
    return path


def read_config(folder):
    text = (folder / "models.config").read_text()
    return text_format.Parse(text, model_server_config_pb2.ModelServerConfig())


def batching_parameters():
    """The message class of TensorFlow Serving's file, which no package carries."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="batching.proto", syntax="proto3", dependency=[wrappers.DESCRIPTOR.name]
    )
    message = file.message_type.add(name="BatchingParameters")
    whole = ("max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads")
    for number, name in enumerate(whole, 1):
        message.field.add(
            name=name,
            number=number,
            type=field.TYPE_MESSAGE,
            label=field.LABEL_OPTIONAL,
            type_name=".google.protobuf.Int64Value",
        )
    message.field.add(
        name="allowed_batch_sizes", number=6, type=field.TYPE_INT64, label=field.LABEL_REPEATED
    )
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("BatchingParameters"))()


def test_a_bundle_becomes_a_version_and_the_next_one(bundle, tmp_path):
    folder = tmp_path / "serving"
    first, second = publish_bundle(bundle, folder), publish_bundle(bundle, folder)
    assert (first.name, first.version, second.version) == ("anna", 1, 2)
    assert first.path == folder / "anna" / "1"
    manifest = read_manifest(second.path, verify=True)
    assert set(manifest.files) - set(read_manifest(bundle).files) == {serving.WARMUP_FILE}
    assert sorted(path.name for path in folder.iterdir()) == [
        *("README.md", "anna", "batching_parameters.txt", "models.config"),
    ]
    assert sorted(path.name for path in (folder / "anna").iterdir()) == ["1", "2"]
    (entry,) = read_config(folder).model_config_list.config
    assert (entry.name, entry.base_path) == ("anna", "/models/anna")
    assert entry.model_platform == "tensorflow"


@pytest.mark.parametrize("kind", ["spade", "domains"])
def test_the_requests_that_warm_up_can_be_run(kind, tmp_path):
    if kind == "spade":
        untrained.export_untrained(tmp_path / kind, untrained.spade())
    else:
        export_domain_puppet(tmp_path / kind)
    served = publish_bundle(tmp_path / kind, tmp_path / "serving")
    signatures = tf.saved_model.load(str(served.path)).signatures
    path = served.path / serving.WARMUP_FILE
    assert path.stat().st_size < 100_000
    asked = []
    for record in tf.data.TFRecordDataset(str(path)):
        log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
        request = log.predict_log.request
        assert request.model_spec.name == kind
        inputs = {name: tf.constant(tf.make_ndarray(v)) for name, v in request.inputs.items()}
        outputs = signatures[request.model_spec.signature_name](**inputs)
        asked.append((request.model_spec.signature_name, len(next(iter(outputs.values())))))
    names = ("serving_default", "uint8", "encoded")
    assert asked == [(name, size) for name in names for size in (1, 2, 4, 8)]


def test_batching_parameters(bundle, tmp_path):
    publish_bundle(bundle, tmp_path)
    file = tmp_path / "batching_parameters.txt"
    parsed = text_format.Parse(file.read_text(), batching_parameters())
    assert parsed.allowed_batch_sizes[-1] == parsed.max_batch_size.value == 8
    assert parsed.num_batch_threads.value > 0 and parsed.max_enqueued_batches.value > 0
    # What a person changed stays, and decides what is warmed up.
    text = "max_batch_size { value: 3 }\nallowed_batch_sizes: 3  # allowed_batch_sizes: 9\n"
    file.write_text(text)
    served = publish_bundle(bundle, tmp_path)
    assert file.read_text() == text
    records = list(tf.data.TFRecordDataset(str(served.path / serving.WARMUP_FILE)))
    assert len(records) == 3 * 2  # of 1 and 3


def test_other_models_and_what_a_person_wrote_stay(bundle, tmp_path):
    config = tmp_path / "models.config"
    config.write_text(
        "model_config_list { config { name: 'other' base_path: '/elsewhere' "
        "model_version_policy { specific { versions: 4 } } } }"
    )
    publish_bundle(bundle, tmp_path, name="ben")
    other, ben = read_config(tmp_path).model_config_list.config
    assert other.base_path == "/elsewhere"
    assert list(other.model_version_policy.specific.versions) == [4]
    assert ben.name == "ben"
    before = config.read_text()
    publish_bundle(bundle, tmp_path, name="ben")
    assert config.read_text() == before


def test_a_taken_version(bundle, tmp_path):
    publish_bundle(bundle, tmp_path, version=7)
    with pytest.raises(BundleError, match="version 7 already. Leave the version out to take 8"):
        publish_bundle(bundle, tmp_path, version=7)
    served = publish_bundle(bundle, tmp_path, version=7, overwrite=True)
    read_manifest(served.path, verify=True)
    assert plan_version(bundle, tmp_path).version == 8
    assert not [path for path in (tmp_path / "anna").iterdir() if path.name.startswith(".")]


def test_what_is_refused(bundle, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="got 'a/b'"):
        publish_bundle(bundle, tmp_path / "new", name="a/b")
    with pytest.raises(ConfigError, match="version must be at least 1"):
        publish_bundle(bundle, tmp_path / "new", version=0)
    broken = tmp_path / "broken"
    shutil.copytree(bundle, broken)
    (broken / "saved_model.pb").write_bytes(b"x")
    with pytest.raises(BundleError, match="damaged"):
        publish_bundle(broken, tmp_path / "new")
    (tmp_path / "models.config").write_text("model_config_list {")
    with pytest.raises(BundleError, match="models.config cannot be read as a ModelServerConfig"):
        publish_bundle(bundle, tmp_path)

    def missing(name, package=None):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ConfigError, match=r'pip install "facegan\[serving\]"'):
        publish_bundle(bundle, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_file_in_place_of_the_folder(bundle, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(BundleError, match="Cannot create|Cannot write"):
        publish_bundle(bundle, tmp_path / "file" / "serving")


def test_values_of_warm_up_requests_are_stored_once():
    from facegan.bundle import Manifest, TensorSpec

    manifest = Manifest(
        model="toy",
        facegan_version="0",
        inputs=(TensorSpec(name="image", shape=(None, None, None, 3)),),
        outputs=(TensorSpec(name="image", shape=(None, None, None, 3)),),
        image_size=1024,
    )
    proto = serving._blank_inputs(manifest, "uint8", 8)["image"]
    assert proto.ByteSize() < 100
    array = tf.make_ndarray(proto)
    assert array.shape == (8, 1024, 1024, 3) and array.dtype == np.uint8
