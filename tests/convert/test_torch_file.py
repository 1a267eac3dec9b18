import collections
import io
import os
import pickle
import struct
import sys
import types
import zipfile

import numpy as np
import pytest

from facegan.convert.torch_file import read_torch_file
from facegan.errors import CheckpointError

KINDS = {
    "<f4": "FloatStorage",
    "<f8": "DoubleStorage",
    "<f2": "HalfStorage",
    "<i8": "LongStorage",
    "<u2": "BFloat16Storage",
    "|b1": "BoolStorage",
}


class Writer:
    """Writes files as PyTorch does, with modules of its names that hold nothing but names."""

    def __init__(self, monkeypatch):
        torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")

        def _rebuild_tensor_v2():
            pass

        _rebuild_tensor_v2.__module__ = "torch._utils"
        _rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
        utils._rebuild_tensor_v2 = _rebuild_tensor_v2
        for name in KINDS.values():
            setattr(torch, name, type(name, (), {"__module__": "torch"}))
        for name, module in (("torch", torch), ("torch._utils", utils)):
            monkeypatch.setitem(sys.modules, name, module)
        self.torch, self.rebuild = torch, _rebuild_tensor_v2

    def pickle(self, node, storages):
        buffer = io.BytesIO()
        writer = self

        class Pickler(pickle.Pickler):
            def persistent_id(self, value):
                if not isinstance(value, Storage):
                    return None
                storages[value.key] = value.data
                kind = getattr(writer.torch, KINDS[value.data.dtype.str])
                return ("storage", kind, value.key, "cpu", value.count or len(value.data))

            def reducer_override(self, value):
                if not isinstance(value, Tensor):
                    return NotImplemented
                arguments = (value.storage, value.offset, value.size, value.stride, False, {})
                return writer.rebuild, arguments

        Pickler(buffer, protocol=2).dump(node)
        return buffer.getvalue()

    def zip(self, path, node, order=b"little"):
        storages = {}
        data = self.pickle(node, storages)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("model/data.pkl", data)
            archive.writestr("model/byteorder", order)
            for key, numbers in storages.items():
                archive.writestr(f"model/data/{key}", numbers.tobytes())

    def legacy(self, path, node, little=True):
        storages = {}
        data = self.pickle(node, storages)
        with open(path, "wb") as file:
            pickle.dump(0x1950A86A20F9469CFC6C, file, protocol=2)
            pickle.dump(1001, file, protocol=2)
            pickle.dump({"protocol_version": 1001, "little_endian": little}, file, protocol=2)
            file.write(data)
            pickle.dump(sorted(storages), file, protocol=2)
            for key in sorted(storages):
                file.write(struct.pack("<q", len(storages[key])) + storages[key].tobytes())


class Storage:
    def __init__(self, key, data, count=None):
        self.key, self.data, self.count = key, data, count


class Tensor:
    def __init__(self, storage, size, stride, offset=0):
        self.storage, self.size, self.stride, self.offset = storage, size, stride, offset


def whole(key, values):
    values = np.ascontiguousarray(values)
    stride = tuple(step // values.itemsize for step in values.strides)
    return Tensor(Storage(key, values.ravel()), values.shape, stride)


@pytest.fixture
def writer(monkeypatch):
    return Writer(monkeypatch)


@pytest.fixture(params=["zip", "legacy"])
def write(request, writer):
    return getattr(writer, request.param)


def test_state_dicts_are_read(write, tmp_path):
    weight = np.arange(24, dtype="<f4").reshape(2, 3, 4)
    state = collections.OrderedDict(
        [("conv.weight", whole("0", weight)), ("count", whole("1", np.array([7], "<i8")))]
    )
    write(tmp_path / "a.pth", {"net": state, "epoch": 3, "name": "x", "flags": [1, None]})
    found = read_torch_file(tmp_path / "a.pth")
    assert list(found) == ["net.conv.weight", "net.count"]
    np.testing.assert_array_equal(found["net.conv.weight"], weight)
    assert found["net.count"].dtype == np.int64


def test_views_of_one_storage(write, tmp_path):
    shared = Storage("0", np.arange(12, dtype="<f4"))
    turned = Tensor(shared, (4, 3), (1, 4))
    part = Tensor(shared, (2,), (3,), offset=5)
    write(tmp_path / "a.pth", {"a": turned, "b": part, "none": Tensor(shared, (0, 3), (3, 1))})
    found = read_torch_file(tmp_path / "a.pth")
    np.testing.assert_array_equal(found["a"], np.arange(12).reshape(3, 4).T)
    np.testing.assert_array_equal(found["b"], [5, 8])
    assert found["none"].shape == (0, 3)


def test_bfloat16_becomes_float32(write, tmp_path):
    values = np.array([1.5, -2.0, 3.0], np.float32)
    upper = (values.view(np.uint32) >> 16).astype("<u2")
    write(tmp_path / "a.pth", {"a": whole("0", upper)})
    np.testing.assert_array_equal(read_torch_file(tmp_path / "a.pth")["a"], values)


class Bad:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    "bad",
    [
        Bad(os.system, "touch {}"),
        Bad(eval, "open('{}', 'w')"),
        Bad(getattr, "x", "upper"),
        Bad(__import__, "os"),
    ],
)
def test_nothing_is_executed(write, bad, tmp_path):
    function, arguments = bad.call
    marker = tmp_path / "executed"
    bad.call = function, tuple(text.replace("{}", str(marker)) for text in arguments)
    write(tmp_path / "a.pth", {"a": whole("0", np.zeros(3, "<f4")), "b": {"c": bad}})
    with pytest.raises(CheckpointError, match="wants to call .* refused"):
        read_torch_file(tmp_path / "a.pth")
    assert not marker.exists()


def test_damage_is_one_sentence(writer, write, tmp_path):
    path = tmp_path / "a.pth"
    write(path, {"a": whole("0", np.zeros(300, "<f4"))})
    data = path.read_bytes()
    for size in (0, 1, 40, len(data) // 2, len(data) - 30):
        path.write_bytes(data[:size])
        with pytest.raises(CheckpointError):
            read_torch_file(path)
    shared = Storage("0", np.zeros(4, "<f4"))
    for tensor in (
        Tensor(shared, (2, 3), (3, 1)),
        Tensor(shared, (2,), (-1,), offset=3),
        Tensor(shared, (4,), (1,), offset=1),
    ):
        write(path, {"a": tensor})
        with pytest.raises(CheckpointError, match="'a' reaches outside"):
            read_torch_file(path)
    write(path, {"a": Tensor(Storage("0", np.zeros(4, "<f4"), count=10**12), (4,), (1,))})
    with pytest.raises(CheckpointError, match="declared|numbers"):
        read_torch_file(path)
    write(path, {"epoch": 3})
    with pytest.raises(CheckpointError, match="holds no tensors"):
        read_torch_file(path)


def test_other_files_are_refused(writer, tmp_path):
    path = tmp_path / "a.pth"
    tensors = {"a": whole("0", np.zeros(3, "<f4"))}
    writer.zip(path, tensors, order=b"big")
    with pytest.raises(CheckpointError, match="big-endian"):
        read_torch_file(path)
    writer.legacy(path, tensors, little=False)
    with pytest.raises(CheckpointError, match="big-endian"):
        read_torch_file(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "x")
    with pytest.raises(CheckpointError, match="not one of PyTorch weights"):
        read_torch_file(path)
    path.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(CheckpointError, match="no file of PyTorch weights"):
        read_torch_file(path)
    with pytest.raises(CheckpointError, match="Cannot read"):
        read_torch_file(tmp_path / "none.pth")
