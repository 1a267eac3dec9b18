"""Writes files of weights as PyTorch does, without PyTorch."""

import io
import pickle
import struct
import sys
import types
import zipfile

import numpy as np

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

    def zip(self, path, node, order=b"little", compression=zipfile.ZIP_STORED):
        storages = {}
        data = self.pickle(node, storages)
        with zipfile.ZipFile(path, "w", compression) as archive:
            archive.writestr("model/data.pkl", data)
            archive.writestr("model/byteorder", order)
            for key, numbers in storages.items():
                numbers = numbers.byteswap() if order == b"big" else numbers
                archive.writestr(f"model/data/{key}", numbers.tobytes())

    def legacy(self, path, node, little=True):
        path.write_bytes(self.legacy_bytes(node, little))

    def legacy_bytes(self, node, little=True):
        storages = {}
        data = self.pickle(node, storages)
        machine = {"protocol_version": 1001, "little_endian": little}
        parts = [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, machine)]
        parts += [data, pickle.dumps(sorted(storages), 2)]
        for key in sorted(storages):
            parts += [struct.pack("<q", len(storages[key])), storages[key].tobytes()]
        return b"".join(parts)


class Storage:
    def __init__(self, key, data, count=None):
        self.key, self.data, self.count = key, data, count


class Tensor:
    def __init__(self, storage, size, stride, offset=0):
        self.storage, self.size, self.stride, self.offset = storage, size, stride, offset


def whole(key, values):
    values = np.asarray(values, order="C")
    stride = tuple(step // values.itemsize for step in values.strides)
    return Tensor(Storage(key, values.ravel()), values.shape, stride)
