import contextlib

import numpy as np
import pytest

from facegan.convert.caffe_file import read_caffe_file
from facegan.errors import CheckpointError


def varint(value):
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def field(number, value):
    """A field of whole numbers, or of bytes."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def old_blob(values):
    shape = (1,) * (4 - values.ndim) + values.shape
    head = b"".join(field(i, size) for i, size in enumerate(shape, 1))
    return head + field(5, values.astype("<f4").tobytes())


def new_blob(values):
    shape = field(1, b"".join(varint(size) for size in values.shape))
    return field(7, shape) + field(5, values.astype("<f4").tobytes())


def net(layers, *, new=False):
    """A NetParameter with layers: name -> blobs."""
    number, name_field, blob_field = (100, 1, 7) if new else (2, 4, 6)
    blob = new_blob if new else old_blob
    data = field(1, b"net")
    for name, blobs in layers.items():
        inner = field(name_field, name.encode())
        inner += b"".join(field(blob_field, blob(values)) for values in blobs)
        data += field(number, inner)
    return data


LAYERS = {
    "conv1": [np.arange(54.0).reshape(2, 3, 3, 3), np.array([1.0, -2.0])],
    "relu1": [],
    "fc": [np.arange(300.0).reshape(10, 30), np.arange(10.0)],
}


@pytest.mark.parametrize("new", [False, True])
def test_layers_and_blobs(new, tmp_path):
    path = tmp_path / "a.caffemodel"
    path.write_bytes(net(LAYERS, new=new))
    found = read_caffe_file(path)
    assert list(found) == ["conv1", "fc"]
    for name in found:
        for got, wanted in zip(found[name], LAYERS[name], strict=True):
            np.testing.assert_array_equal(got.reshape(wanted.shape), wanted)
    assert found["conv1"][0].shape == (2, 3, 3, 3)
    assert found["conv1"][1].shape == ((2,) if new else (1, 1, 1, 2))


def test_numbers_that_are_not_packed_and_double(tmp_path):
    single = b"".join(varint(5 << 3 | 5) + np.float32(x).tobytes() for x in (1.5, 2.5))
    double = field(8, np.array([3.5, 4.5]).tobytes())
    path = tmp_path / "a.caffemodel"
    layer = field(1, b"l") + field(7, single) + field(7, double)
    path.write_bytes(field(100, layer))
    first, second = read_caffe_file(path)["l"]
    np.testing.assert_array_equal(first, [1.5, 2.5])
    np.testing.assert_array_equal(second, [3.5, 4.5])


def test_many_numbers_that_are_not_packed(tmp_path):
    # Runs of many lengths, each ended by another field; one by one, this many would take minutes.
    values = np.arange(1_000_000, dtype="<f4")
    rows = np.empty(len(values), np.dtype([("tag", "u1"), ("value", "<f4")]))
    rows["tag"], rows["value"] = 5 << 3 | 5, values
    data = field(1, len(values))
    for start, end in ((0, 1), (1, 16), (16, 33), (33, 70), (70, 1000), (1000, len(values))):
        data += rows[start:end].tobytes() + field(9, 1)
    path = tmp_path / "a.caffemodel"
    path.write_bytes(field(100, field(1, b"l") + field(7, data)))
    found = read_caffe_file(path)["l"][0]
    assert found.shape == (len(values), 1, 1, 1)
    np.testing.assert_array_equal(found.ravel(), values)


def test_numbers_of_another_kind_are_refused(tmp_path):
    path = tmp_path / "a.caffemodel"
    wide = varint(5 << 3 | 1) + np.float64(1.5).tobytes()
    for data in (wide, field(5, 7), field(5, b"12345")):
        path.write_bytes(field(100, field(1, b"l") + field(7, data)))
        with pytest.raises(CheckpointError, match="damaged"):
            read_caffe_file(path)


def test_what_is_read_cannot_be_written_to(tmp_path):
    path = tmp_path / "a.caffemodel"
    path.write_bytes(net(LAYERS))
    with pytest.raises(ValueError, match="read-only"):
        read_caffe_file(path)["conv1"][0][:] = 0


def test_forged_sizes_ask_for_no_memory(tmp_path):
    path = tmp_path / "a.caffemodel"
    for sizes in ((2**32, 2**32), (2**63 - 1,), (2**64 - 1, 2)):
        shape = field(7, field(1, b"".join(varint(size) for size in sizes)))
        path.write_bytes(field(100, field(1, b"l") + field(7, shape + field(5, b"\0" * 8))))
        with pytest.raises(CheckpointError, match="has 2 numbers"):
            read_caffe_file(path)


def test_any_damaged_byte_gives_layers_or_a_sentence(tmp_path):
    path = tmp_path / "a.caffemodel"
    data = net({"a": [np.ones((2, 1, 1, 1))], "b": [np.ones(3)]}, new=True)
    for at in range(len(data)):
        for value in (0, 0x7F, 0xFF, data[at] ^ 1):
            path.write_bytes(data[:at] + bytes([value]) + data[at + 1 :])
            with contextlib.suppress(CheckpointError):
                read_caffe_file(path)


def test_damage_is_one_sentence(tmp_path):
    path = tmp_path / "a.caffemodel"
    data = net(LAYERS)
    for size in (len(data) - 5, len(data) // 2, 100):
        path.write_bytes(data[:size])
        with pytest.raises(CheckpointError, match="damaged"):
            read_caffe_file(path)
    bad = field(1, b"l") + field(7, field(7, field(1, varint(5))) + field(5, b"\0" * 8))
    path.write_bytes(field(100, bad))
    with pytest.raises(CheckpointError, match=r"shape \[5\] has 2 numbers"):
        read_caffe_file(path)
    path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="is empty"):
        read_caffe_file(path)
    path.write_bytes(field(1, b"net"))
    with pytest.raises(CheckpointError, match="no layers with weights"):
        read_caffe_file(path)
    with pytest.raises(CheckpointError, match="Cannot read"):
        read_caffe_file(tmp_path / "none.caffemodel")
