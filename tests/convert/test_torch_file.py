import collections
import contextlib
import os
import pickle
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from facegan.convert.torch_file import read_torch_file
from facegan.errors import CheckpointError
from tests.torch_writer import Storage, Tensor, Writer, whole


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


def test_big_endian_files(writer, tmp_path):
    values = {"a": np.arange(5, dtype="<f4"), "b": np.arange(3, dtype="<i8")}
    upper = np.array([0x3FC0, 0xC000], "<u2")  # 1.5, -2 in bfloat16
    state = {name: whole(name, numbers) for name, numbers in values.items()}
    state["c"] = whole("c", upper)
    writer.zip(tmp_path / "a.pth", state, order=b"big")
    # Whatever machine writes a legacy file, its numbers are little-endian.
    writer.legacy(tmp_path / "b.pth", state, little=False)
    for name in ("a.pth", "b.pth"):
        found = read_torch_file(tmp_path / name)
        np.testing.assert_array_equal(found["c"], [1.5, -2.0])
        for key, wanted in values.items():
            np.testing.assert_array_equal(found[key], wanted)
            assert found[key].dtype == wanted.dtype.newbyteorder("=")
    writer.zip(tmp_path / "a.pth", state, order=b"middle")
    with pytest.raises(CheckpointError, match="byte order"):
        read_torch_file(tmp_path / "a.pth")


def test_parameters_sizes_and_dicts_with_attributes(writer, tmp_path):
    """What torch.save writes of a module's state: a version on the dict, parameters, sizes."""
    body = writer.pickle({"a": whole("0", np.arange(2, dtype="<f4"))}, {})
    assert body.endswith(b"s.")
    size = b"X\x01\0\0\0bctorch\nSize\nK\x02K\x03\x86\x85R"
    state = b"X\x01\0\0\0cccollections\nOrderedDict\n)R}X\x09\0\0\0_metadataNsb"
    again = b"X\x01\0\0\0dctorch._utils\n_rebuild_parameter\n"
    again += body[body.index(b"ctorch._utils") : -2] + b"\x89N\x87R"
    pickled = body[:-1] + size + b"s" + state + b"s" + again + b"s."
    write_pickle(tmp_path / "a.pth", pickled, {"0": np.arange(2, dtype="<f4").tobytes()})
    found = read_torch_file(tmp_path / "a.pth")
    assert list(found) == ["a", "d"]
    np.testing.assert_array_equal(found["d"], [0, 1])


def test_names_that_are_taken_twice(write, tmp_path):
    first, second = (whole(key, np.zeros(2, "<f4")) for key in "01")
    write(tmp_path / "a.pth", {"a": {"b": first}, "a.b": second})
    with pytest.raises(CheckpointError, match=r"two tensors of the name 'a\.b'"):
        read_torch_file(tmp_path / "a.pth")


def write_pickle(path, data, storages):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", data)
        for key, numbers in storages.items():
            archive.writestr(f"model/data/{key}", numbers)


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


@pytest.mark.parametrize(
    "data",
    [
        b"\x82\1.",  # EXT1
        b"\x83\1\0.",  # EXT2
        b"\x84\1\0\0\0.",  # EXT4
        b"Pstorage\n.",  # PERSID
        b"(ios\nsystem\n.",  # INST
        b"(ccollections\nOrderedDict\no.",  # OBJ
        b"ccollections\nOrderedDict\n)}\x92.",  # NEWOBJ_EX
        b"\x97.",  # NEXT_BUFFER
        b"X\2\0\0\0osX\6\0\0\0system\x93X\2\0\0\0id\x85R.",  # STACK_GLOBAL
        b"K\1X\6\0\0\0system\x93.",
        b"cposix\nsystem\nX\2\0\0\0id\x85\x81.",  # NEWOBJ
        b"cbuiltins\nexec\n.",
        b"ctorch\nload\n.",
        b"ctorch.storage\n_load_from_bytes\n.",
        b"ctorch\nFloatStorage\n)R.",  # a call of what is no function
        b"K\1)R.",
    ],
)
def test_instructions_and_names_that_weights_do_not_need(data, tmp_path):
    write_pickle(tmp_path / "a.pth", b"\x80\x04" + data, {})
    with pytest.raises(CheckpointError, match="refused"):
        read_torch_file(tmp_path / "a.pth")


@pytest.mark.parametrize(
    "change",
    [
        b"ctorch\nFloatStorage\n(X\x0b\0\0\0HalfStoragelb",
        b"ctorch\nFloatStorage\nN}X\x04\0\0\0nameX\x0b\0\0\0HalfStorages\x86b",
        b"ctorch._utils\n_rebuild_tensor_v2\nN}X\x08\0\0\0__name__X\x01\0\0\0xs\x86b",
        b"ccollections\nOrderedDict\n}X\x05\0\0\0clearNsb",
    ],
)
def test_a_file_cannot_change_how_the_next_is_read(writer, change, tmp_path):
    write_pickle(tmp_path / "bad.pth", b"\x80\x02" + change + b".", {})
    with pytest.raises(CheckpointError, match="wants to change"):
        read_torch_file(tmp_path / "bad.pth")
    values = np.arange(3, dtype="<f4")
    writer.zip(tmp_path / "good.pth", {"a": whole("0", values)})
    np.testing.assert_array_equal(read_torch_file(tmp_path / "good.pth")["a"], values)


# A tuple of twice the one before, forty times over: few bytes, and a hash or a text without end.
DOUBLED = b")" + b"2\x86" * 40
MAKE_DICT = b"ccollections\nOrderedDict\nh\0\x85R"


@pytest.mark.parametrize(
    "data",
    [
        b"Nr\xff\xff\xff\x7f.",  # remembers an object under the number 2**31 - 1
        b"\x96" + struct.pack("<Q", 2**40) + b"ab.",  # bytes of 2**40
        b"\x8d" + struct.pack("<Q", 2**40) + b"ab.",  # a text of 2**40
        b"}q\0" + b"X\x01\0\0\0ah\0sX\x01\0\0\0bh\0s.",  # a dict that holds itself
        # Dicts that hold the one before twice, forty times over.
        b"}q\0" + b"".join(b"}K\1h%cs" % i + b"K\2h%csq%c" % (i, i + 1) for i in range(40)) + b".",
        # The same of tuples, as a key of a dict, as a storage's key, and as a tensor's place.
        b"}" + DOUBLED + b"Ns.",
        b"(X\7\0\0\0storagectorch\nFloatStorage\n" + DOUBLED + b"X\3\0\0\0cpuK\1tQ.",
        # A list of a thousand pairs, from which a thousand dicts are made.
        b"](" + b"K\1N\x86" * 1000 + b"eq\0(" + MAKE_DICT * 1000 + b"t.",
        # A hundred thousand tuples in one another, as a key.
        b"}N" + b"\x85" * 10**5 + b"Ns.",
        # Numbers of a million digits, which are multiplied.
        b"ctorch._utils\n_rebuild_tensor_v2\n"
        b"((X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0aX\3\0\0\0cpuK\1tQK\0"
        b"\x8b" + struct.pack("<i", 10**6) + b"\x7f" * 10**6 + b"q\0\x85h\0\x85tR.",
    ],
)
def test_forged_pickles_ask_for_no_memory(data, tmp_path):
    path = tmp_path / "a.pth"
    write_pickle(path, b"\x80\x02" + data, {"a": b"\0\0\0\0"})
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError):
            read_torch_file(path)
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()


def test_views_do_not_multiply_numbers(write, tmp_path):
    shared = Storage("0", np.arange(10, dtype="<f4"))
    write(tmp_path / "a.pth", {"a": Tensor(shared, (5, 10), (0, 1))})
    np.testing.assert_array_equal(
        read_torch_file(tmp_path / "a.pth")["a"], np.tile(np.arange(10), (5, 1))
    )
    write(tmp_path / "a.pth", {"a": Tensor(shared, (10**6, 10**6), (0, 0))})
    with pytest.raises(CheckpointError, match="of only 10 numbers"):
        read_torch_file(tmp_path / "a.pth")
    write(tmp_path / "a.pth", {"a": Tensor(shared, (1,) * 40, (1,) * 40)})
    with pytest.raises(CheckpointError, match="40 axes"):
        read_torch_file(tmp_path / "a.pth")


def test_any_damaged_byte_gives_tensors_or_a_sentence(write, tmp_path):
    path = tmp_path / "a.pth"
    write(path, {"a": whole("0", np.ones(2, "<f4")), "b": {"c": whole("1", np.ones(1, "<f2"))}})
    data = path.read_bytes()
    for at in range(len(data)):
        for value in (0xFF, data[at] ^ 1):
            path.write_bytes(data[:at] + bytes([value]) + data[at + 1 :])
            with contextlib.suppress(CheckpointError):
                read_torch_file(path)


def test_what_pytorch_writes(tmp_path):
    torch = pytest.importorskip("torch")
    numbers = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    state = {
        "module": module.state_dict(),
        "parameter": torch.nn.Parameter(numbers),
        "view": numbers[1, :, 1::2].t(),
        "half": numbers.half(),
        "bfloat16": numbers.bfloat16(),
        "bool": numbers > 3,
        "scalar": torch.tensor(2.5, dtype=torch.float64),
        "none": torch.zeros(0, 3),
        "size": numbers.shape,
        "epoch": 3,
    }
    wanted = {f"module.{name}": value for name, value in state.pop("module").items()}
    wanted |= {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
    state["module"] = module.state_dict()
    for new in (True, False):
        torch.save(state, tmp_path / "a.pth", _use_new_zipfile_serialization=new)
        found = read_torch_file(tmp_path / "a.pth")
        assert set(found) == set(wanted)
        for name, value in wanted.items():
            plain = value.detach().float() if name == "bfloat16" else value.detach()
            np.testing.assert_array_equal(found[name], plain.numpy())
            assert found[name].dtype == plain.numpy().dtype


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
    writer.zip(path, tensors, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(CheckpointError, match="compressed"):
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
