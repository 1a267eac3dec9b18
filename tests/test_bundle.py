"""Bundle manifest: round trip, and what broken bundles get."""

import dataclasses
import hashlib
import json
import subprocess
import sys

import pytest

from facegan.bundle import (
    MANIFEST_FILE,
    Manifest,
    Provenance,
    TensorSpec,
    check_files,
    decode_description,
    encode_description,
    hash_files,
    read_manifest,
    write_manifest,
)
from facegan.errors import BundleError, ConfigError


def make_manifest(**changes):
    values = {
        "model": "pix2pix",
        "facegan_version": "0.1.0",
        "inputs": (TensorSpec(name="condition", shape=(None, 64, 64, 3)),),
        "outputs": (TensorSpec(name="image", shape=(None, 64, 64, 3)),),
        "image_size": 64,
        "conditioning": {"kind": "landmark_drawing", "version": 1, "size": 64},
        "geometry": {"neutral": [[0.25, 0.5]]},
        "training": {"steps": 7},
    }
    return Manifest(**{**values, **changes})


@pytest.fixture
def bundle_dir(tmp_path):
    folder = tmp_path / "bundle"
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"graph")
    (folder / "variables" / "variables.data").write_bytes(bytes(5_000_000))
    return folder


def edit(bundle_dir, change):
    path = bundle_dir / MANIFEST_FILE
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def test_round_trip_with_hashes(bundle_dir):
    written = write_manifest(bundle_dir, make_manifest())
    read = read_manifest(bundle_dir, verify=True)
    assert read == written
    assert read.inputs[0].shape == (None, 64, 64, 3)
    assert set(read.files) == {"saved_model.pb", "variables/variables.data"}
    expected = hashlib.sha256(b"graph").hexdigest()
    assert read.files["saved_model.pb"].sha256 == expected


def test_fingerprint_follows_the_weights(bundle_dir):
    first = write_manifest(bundle_dir, make_manifest()).fingerprint()
    assert first == read_manifest(bundle_dir).fingerprint()
    (bundle_dir / "variables" / "variables.data").write_bytes(bytes(4_999_999) + b"x")
    assert write_manifest(bundle_dir, make_manifest()).fingerprint() != first


def test_small_changed_file_is_found_at_once_and_large_one_when_asked(bundle_dir):
    write_manifest(bundle_dir, make_manifest())
    (bundle_dir / "variables" / "variables.data").write_bytes(bytes(4_999_999) + b"x")
    read_manifest(bundle_dir)
    with pytest.raises(BundleError, match="variables.data is not the file"):
        read_manifest(bundle_dir, verify=True)
    (bundle_dir / "saved_model.pb").write_bytes(b"grapf")
    with pytest.raises(BundleError, match="saved_model.pb is not the file"):
        read_manifest(bundle_dir)


def test_truncated_and_missing_files(bundle_dir):
    write_manifest(bundle_dir, make_manifest())
    (bundle_dir / "variables" / "variables.data").write_bytes(bytes(10))
    with pytest.raises(BundleError, match="damaged"):
        read_manifest(bundle_dir)
    (bundle_dir / "variables" / "variables.data").unlink()
    with pytest.raises(BundleError, match="incomplete: variables/variables.data"):
        read_manifest(bundle_dir)


def test_no_folder_and_no_manifest(bundle_dir, tmp_path):
    with pytest.raises(BundleError, match="is no bundle"):
        read_manifest(tmp_path / "absent")
    with pytest.raises(BundleError, match="facegan.json is missing"):
        read_manifest(bundle_dir)
    with pytest.raises(BundleError, match="is no folder"):
        write_manifest(tmp_path / "absent", make_manifest())


@pytest.mark.parametrize("text", ["", "{", '{"kind": "bundle"', "\x00\xff", "[]", '{"kind": "x"}'])
def test_broken_manifest(bundle_dir, text):
    write_manifest(bundle_dir, make_manifest())
    (bundle_dir / MANIFEST_FILE).write_text(text, encoding="latin-1")
    with pytest.raises(BundleError, match="broken"):
        read_manifest(bundle_dir)


def test_other_version(bundle_dir):
    write_manifest(bundle_dir, make_manifest())
    edit(bundle_dir, lambda data: data.update(version=99))
    with pytest.raises(BundleError, match="version 99; this facegan reads version 1"):
        read_manifest(bundle_dir)


def test_unknown_and_missing_keys(bundle_dir):
    write_manifest(bundle_dir, make_manifest())
    edit(bundle_dir, lambda data: data.update(imagesize=3))
    with pytest.raises(BundleError, match="Did you mean 'image_size'"):
        read_manifest(bundle_dir)
    edit(bundle_dir, lambda data: (data.pop("imagesize"), data.pop("model")))
    with pytest.raises(BundleError, match="'model' is missing"):
        read_manifest(bundle_dir)


def test_manifest_may_not_name_files_outside(bundle_dir):
    write_manifest(bundle_dir, make_manifest())
    edit(
        bundle_dir,
        lambda data: data["files"].update({"../x": {"num_bytes": 1, "sha256": "0"}}),
    )
    with pytest.raises(BundleError, match="outside the bundle"):
        read_manifest(bundle_dir)


def test_values_that_json_cannot_carry(bundle_dir):
    with pytest.raises(BundleError, match="JSON"):
        write_manifest(bundle_dir, make_manifest(geometry={"x": float("nan")}))
    assert not (bundle_dir / MANIFEST_FILE).exists()


def test_spec_checks():
    with pytest.raises(ConfigError, match="sizes of tensor 'a'"):
        TensorSpec(name="a", shape=(None, 0))
    with pytest.raises(ConfigError, match="distinct names"):
        make_manifest(outputs=())
    spec = TensorSpec(name="a", shape=(None, 4, 4, 3))
    assert spec.is_image
    assert not dataclasses.replace(spec, shape=(None, 512)).is_image
    assert not dataclasses.replace(spec, value_range=None).is_image


def test_names_in_the_encoded_signature():
    picture = TensorSpec(name="image", shape=(None, 4, 4, 3))
    ids = TensorSpec(name="ids", shape=(None, 4, 4), dtype="uint8", value_range=(0, 18))
    names = {
        "image_bytes": picture,
        "ids_bytes": ids,
        "masks": TensorSpec(name="masks", shape=(None, 4, 4, 3), value_range=(0.0, 1.0)),
        "stack": TensorSpec(name="stack", shape=(None, 4, 4, 6)),
        "domain": TensorSpec(name="domain", shape=(None,), dtype="int32"),
    }
    assert [spec.encoded_name for spec in names.values()] == list(names)
    assert ids.is_label_map and not picture.is_label_map and not names["domain"].is_label_map


def test_a_description_is_the_manifest_but_for_what_is_known_later(bundle_dir):
    training = {"steps": 7, "export_max_difference": 1e-6}
    manifest = make_manifest(weights_sha256="ab", training=training)
    written = write_manifest(bundle_dir, manifest)
    text = encode_description(written)
    assert text == encode_description(make_manifest(weights_sha256="ab"))
    expected = dataclasses.replace(written, files={}, training={"steps": 7})
    assert decode_description(text) == decode_description(text.encode()) == expected


@pytest.mark.parametrize(
    "text", ["", "{", b"\xff", "[]", '{"kind": "bundle"}', '{"kind": "bundle", "version": 1}']
)
def test_a_broken_description(text):
    with pytest.raises(BundleError, match="served bundle|What the server tells"):
        decode_description(text)


def test_a_manifest_of_before_there_were_weights_and_provenance_in_it(bundle_dir):
    write_manifest(bundle_dir, make_manifest())
    edit(bundle_dir, lambda data: (data.pop("weights_sha256"), data.pop("provenance")))
    manifest = read_manifest(bundle_dir)
    assert manifest.weights_sha256 == ""
    assert manifest.provenance == Provenance() and manifest.provenance.synthetic


def test_hidden_files_are_left_out(bundle_dir):
    (bundle_dir / ".tmp").write_text("x")
    assert ".tmp" not in hash_files(bundle_dir)


def test_reading_needs_no_tensorflow():
    code = (
        "import sys, facegan.bundle, facegan.progress; "
        "sys.exit(any(m in sys.modules for m in ('tensorflow', 'keras', 'cv2')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_named_files_alone_are_hashed(tmp_path):
    for name in ("a.bin", "b.bin"):
        (tmp_path / name).write_bytes(b"x" * 9_000_000)  # more than two blocks
    manifest = write_manifest(tmp_path, make_manifest())
    check_files(tmp_path, manifest)
    (tmp_path / "b.bin").write_bytes(b"x" * 8_999_999 + b"y")
    assert read_manifest(tmp_path) == manifest  # of large files only the size
    check_files(tmp_path, manifest, ["a.bin"])
    for names in (["b.bin"], None):
        with pytest.raises(BundleError, match="b.bin is not the file that was exported"):
            check_files(tmp_path, manifest, names)
