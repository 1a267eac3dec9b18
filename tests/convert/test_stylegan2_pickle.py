import contextlib
import os
import pickle
import struct
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

from facegan.convert.stylegan2_pickle import read_stylegan2_pickle
from facegan.errors import CheckpointError
from tests.convert.test_torch_file import DOUBLED, Bad
from tests.stylegan2_writer import Constant, Module, Parameter, PickleWriter, make_layer
from tests.torch_writer import Storage, Tensor, whole


@pytest.fixture
def writer(monkeypatch):
    return PickleWriter(monkeypatch)


def values():
    rng = np.random.default_rng(0)
    return {
        "mapping.fc0.weight": rng.normal(size=(4, 3)).astype("<f4"),
        "mapping.fc0.bias": rng.normal(size=4).astype("<f4"),
        "mapping.w_avg": rng.normal(size=4).astype("<f4"),
        "synthesis.b4.const": rng.normal(size=(2, 4, 4)).astype("<f2"),
        "synthesis.b4.resample_filter": rng.normal(size=(4, 4)).astype("<f4"),
        "synthesis.b4.conv1.noise_strength": np.array(0.25, "<f4"),
    }


def generator():
    arrays = {name: whole(str(i), value) for i, (name, value) in enumerate(values().items())}
    layer = Module(
        "SynthesisLayer",
        parameters=[("noise_strength", Parameter(arrays["synthesis.b4.conv1.noise_strength"]))],
        conv_clamp=256,
    )
    block = Module(
        "SynthesisBlock",
        parameters=[("const", Parameter(arrays["synthesis.b4.const"])), ("none", None)],
        buffers=[
            ("resample_filter", arrays["synthesis.b4.resample_filter"]),
            ("scratch", whole("x", np.zeros(3, "<f4"))),
        ],
        unkept=["scratch"],
        modules=[("conv1", layer), ("skip", None)],
        architecture="skip",
        device=Constant("cuda:0"),
    )
    dense = make_layer(
        parameters=[
            ("weight", Parameter(arrays["mapping.fc0.weight"])),
            ("bias", Parameter(arrays["mapping.fc0.bias"])),
        ],
    )
    mapping = Module(
        "MappingNetwork",
        buffers=[("w_avg", arrays["mapping.w_avg"])],
        modules=[("fc0", dense)],
        num_layers=1,
    )
    synthesis = Module("SynthesisNetwork", modules=[("b4", block)], block_resolutions=[4])
    return Module(
        "Generator",
        modules=[("synthesis", synthesis), ("mapping", mapping)],
        z_dim=3,
        w_dim=4,
        c_dim=0,
        img_resolution=np.int64(4),
        img_channels=3,
        noise=np.arange(6.0).reshape(2, 3),
        _init_args=(),
        _init_kwargs={"z_dim": 3, "synthesis_kwargs": {"conv_clamp": None, "fused": "yes"}},
    )


def discriminator():
    weight = whole("0", np.arange(6, dtype="<f4").reshape(2, 3))
    return Module("Discriminator", parameters=[("weight", Parameter(weight))], mbstd=1.5)


def document():
    make_pipe = sys.modules["training.augment"].make_pipe
    return {
        "training_set_kwargs": {"class_name": "training.dataset.ImageFolderDataset", "path": "x"},
        "augment_pipe": Module("AugmentPipe", pipe=Bad(make_pipe, 1.0), xflip=np.float32(1)),
        "G": None,
        "D": discriminator(),
        "G_ema": generator(),
    }


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("zipped", [False, True])
def test_networks_come_back(writer, protocol, zipped, tmp_path):
    writer.zipped = zipped
    (tmp_path / "a.pkl").write_bytes(writer.dumps(document(), protocol))
    found = read_stylegan2_pickle(tmp_path / "a.pkl")
    assert list(found) == ["G_ema", "D"]
    net = found["G_ema"]
    assert net.class_name == "Generator"
    assert set(net.state) == set(values())
    for name, value in values().items():
        np.testing.assert_array_equal(net.state[name], value)
        assert net.state[name].dtype == value.dtype
        assert not net.state[name].flags.writeable
    assert net.settings == {
        "z_dim": 3,
        "w_dim": 4,
        "c_dim": 0,
        "img_resolution": 4,
        "img_channels": 3,
        "init_args": [],
        "init_kwargs": {"z_dim": 3, "synthesis_kwargs": {"conv_clamp": None, "fused": "yes"}},
        "mapping": {"num_layers": 1, "fc0": {}},
        "synthesis": {
            "block_resolutions": [4],
            "b4": {"architecture": "skip", "conv1": {"conv_clamp": 256}},
        },
    }
    assert found["D"].class_name == "Discriminator" and found["D"].settings == {"mbstd": 1.5}
    np.testing.assert_array_equal(found["D"].state["weight"], [[0, 1, 2], [3, 4, 5]])


def test_state_has_parameters_before_buffers_before_modules(writer, tmp_path):
    (tmp_path / "a.pkl").write_bytes(writer.dumps(document()))
    assert list(read_stylegan2_pickle(tmp_path / "a.pkl")["G_ema"].state) == [
        "synthesis.b4.const",
        "synthesis.b4.resample_filter",
        "synthesis.b4.conv1.noise_strength",
        "mapping.w_avg",
        "mapping.fc0.weight",
        "mapping.fc0.bias",
    ]


def test_views_of_one_storage(writer, tmp_path):
    shared = Storage("0", np.arange(12, dtype="<f4"))
    tensors = {"a": Tensor(shared, (4, 3), (1, 4)), "b": Tensor(shared, (2,), (3,), offset=5)}
    net = Module("G", parameters=[(name, Parameter(one)) for name, one in tensors.items()])
    (tmp_path / "a.pkl").write_bytes(writer.dumps({"G": net}))
    state = read_stylegan2_pickle(tmp_path / "a.pkl")["G"].state
    np.testing.assert_array_equal(state["a"], np.arange(12).reshape(3, 4).T)
    np.testing.assert_array_equal(state["b"], [5, 8])
    assert np.shares_memory(state["a"], state["b"])


def test_dicts_as_the_oldest_protocols_write_them(writer, tmp_path):
    data = writer.dumps({"D": discriminator()}, 2)
    new = b"cdnnlib.util\nEasyDict\nq\3)\x81"
    assert new in data
    for old in (
        b"ccopyreg\n_reconstructor\ncdnnlib.util\nEasyDict\nc__builtin__\ndict\n}\x87R",
        b"ccopy_reg\n__newobj__\ncdnnlib.util\nEasyDict\n\x85R",
        b"cdnnlib\nEasyDict\n)R",
    ):
        (tmp_path / "a.pkl").write_bytes(data.replace(new, old))
        assert read_stylegan2_pickle(tmp_path / "a.pkl")["D"].settings == {"mbstd": 1.5}


def test_the_text_of_a_class_is_never_run(writer, tmp_path):
    marker = tmp_path / "executed"
    writer.source = f"open({str(marker)!r}, 'w')\nclass Discriminator: pass\n"
    (tmp_path / "a.pkl").write_bytes(writer.dumps(document()))
    assert read_stylegan2_pickle(tmp_path / "a.pkl")
    assert not marker.exists()


@pytest.mark.parametrize("place", ["state", "settings", "augment_pipe", "key"])
@pytest.mark.parametrize(
    "bad",
    [
        Bad(os.system, "touch {}"),
        Bad(eval, "open('{}', 'w')"),
        Bad(exec, "open('{}', 'w')"),
        Bad(compile, "open('{}', 'w')", "x", "exec"),
        Bad(getattr, "x", "upper"),
        Bad(__import__, "os"),
        Bad(open, "{}", "w"),
        Bad(subprocess.getoutput, "touch {}"),
        Bad(np.load, "{}"),
    ],
    ids=lambda bad: bad.call[0].__name__,
)
def test_nothing_is_executed(writer, bad, place, tmp_path):
    function, arguments = bad.call
    marker = tmp_path / "executed"
    bad = Bad(function, *(text.replace("{}", str(marker)) for text in arguments))
    whole_file = document()
    net = whole_file["D"]
    if place == "state":
        net.state["_buffers"]["evil"] = bad
    elif place == "settings":
        net.state["evil"] = [bad]
    elif place == "key":
        net.state[bad] = 1
    else:
        whole_file["augment_pipe"] = bad
    (tmp_path / "a.pkl").write_bytes(writer.dumps(whole_file))
    with pytest.raises(CheckpointError, match="wants to call .* refused"):
        read_stylegan2_pickle(tmp_path / "a.pkl")
    assert not marker.exists()


def test_nothing_is_executed_in_the_bytes_of_a_storage(writer, tmp_path):
    marker = tmp_path / "executed"
    bad = Bad(os.system, f"touch {marker}")
    load = sys.modules["torch.storage"]._load_from_bytes
    for payload in (
        pickle.dumps(bad),
        writer.legacy_bytes(bad),
        writer.legacy_bytes({"a": whole("0", np.zeros(2, "<f4")), "b": bad}),
        # In there, neither the authors' packages nor another file in bytes have a meaning.
        writer.legacy_bytes(Bad(load, writer.legacy_bytes(Storage("0", np.zeros(2, "<f4"))))),
        writer.legacy_bytes(writer.EasyDict()),
    ):
        data = writer.dumps({"D": discriminator(), "evil": Bad(load, payload)})
        (tmp_path / "a.pkl").write_bytes(data)
        with pytest.raises(CheckpointError, match="wants to call .* refused"):
            read_stylegan2_pickle(tmp_path / "a.pkl")
    assert not marker.exists()


PERSISTENT = b"ctorch_utils.persistence\n_reconstruct_persistent_obj\n"


@pytest.mark.parametrize(
    "data",
    [
        b"cposix\nsystem\nX\2\0\0\0id\x85R.",
        b"cbuiltins\nexec\n.",
        b"c__builtin__\neval\n.",
        b"cbuiltins\ngetattr\n.",
        b"cbuiltins\n__import__\n.",
        b"cimportlib\nimport_module\n.",
        b"cfunctools\npartial\n.",
        b"coperator\nattrgetter\n.",
        b"cpickle\nloads\n.",
        b"ctorch\nload\n.",
        b"ctorch.hub\nload\n.",
        b"ctorch.nnx\nLinear\n.",
        b"ctrainings\nLinear\n.",
        b"cnumpy\nload\n.",
        b"cnumpy.core.multiarray\nfromfile\n.",
        b"X\2\0\0\0osX\6\0\0\0system\x93.",  # STACK_GLOBAL
        b"K\1X\6\0\0\0system\x93.",
        b"c_codecs\nencode\nX\2\0\0\0osX\6\0\0\0latin1\x86RX\6\0\0\0system\x93.",  # computed
        b"(ctorch.nn\nLinear\no.",  # OBJ
        b"(itorch.nn\nLinear\n.",  # INST
        b"ctorch.nn\nLinear\n)}\x92.",  # NEWOBJ_EX
        b"\x82\1.",
        b"\x83\1\0.",
        b"\x84\1\0\0\0.",
        b"Pa\n.",
        b"X\1\0\0\0aQ.",
        PERSISTENT + b"}X\1\0\0\0aNsb.",  # BUILD on what builds networks
        b"ctorch.nn\nLinear\n}X\1\0\0\0aNsb.",
        b"cnumpy\nndarray\n}b.",
        b"ctorch.storage\n_load_from_bytes\n}b.",
        b"cdnnlib.util\nEasyDict\n}X\1\0\0\0aNsb.",
        b"}}b.",
        b"ctorch\nFloatStorage\n)R.",
    ],
)
def test_instructions_and_names_that_networks_do_not_need(data, tmp_path):
    (tmp_path / "a.pkl").write_bytes(b"\x80\x04" + data)
    with pytest.raises(CheckpointError, match="refused"):
        read_stylegan2_pickle(tmp_path / "a.pkl")


@pytest.mark.parametrize(
    "data",
    [
        # Names of the authors' packages stand for nothing, whatever they look like.
        b"ctorch.nn\n__class__.__base__.__subclasses__\n)R.",
        b"cdnnlib\nutil.os.system\nX\2\0\0\0id\x85R.",
        b"ctraining\nos.system\nX\2\0\0\0id\x85R}b.",
        PERSISTENT + b"N\x85R.",
        PERSISTENT + b"}\x85R.",
        PERSISTENT + b"}X\5\0\0\0stateK\1s\x85R.",
        PERSISTENT + b")R.",
        b"ctorch.storage\n_load_from_bytes\nK\1\x85R.",
        b"ctorch.storage\n_load_from_bytes\nC\0\x85R.",
        b"ctorch._utils\n_rebuild_tensor_v2\nNK\0))tR.",
        # Calls that call themselves.
        b"(" + b"ccopyreg\n__newobj__\n" * 20_000 + b"t2\x81.",
        b"ccopyreg\n__newobj__\n(" + b"ccopyreg\n__newobj__\n" * 5000 + b"tR.",
        # Lengths and numbers beyond the file.
        b"Nr\xff\xff\xff\x7f.",
        b"\x96" + struct.pack("<Q", 2**40) + b"ab.",
        b"\x8e" + struct.pack("<Q", 2**40) + b"ab.",
        b"\x8d" + struct.pack("<Q", 2**40) + b"ab.",
        b"\x95" + struct.pack("<Q", 2**62) + b"N.",
        # Few bytes that stand for endless keys and settings.
        b"}" + DOUBLED + b"Ns.",
        b"}N" + b"\x85" * 50_000 + b"Ns.",
        # A text that is turned into bytes again and again.
        b"X" + struct.pack("<I", 10**5) + b"a" * 10**5 + b"q\0("
        b"" + b"c_codecs\nencode\nh\0X\6\0\0\0latin1\x86R" * 5000 + b"t.",
        # A class whose name is a tuple without end, and one of a long name that is made often.
        PERSISTENT + b"}X\5\0\0\0state}sX\x0a\0\0\0class_name" + DOUBLED + b"s\x85R.",
        b"(ctorch.nn\n" + b"a" * 10**5 + b"\nq\0" + b"h\0)R" * 10**4 + b"t.",
        # Records in one another.
        b"ctorch.nn\nLinear\nq\0" + b"h\0" * 50_000 + b"N" + b"\x85R" * 50_001 + b".",
        # Arrays of other sizes than their bytes.
        b"cnumpy.core.numeric\n_frombuffer\n(C\4abcdcnumpy\ndtype\nX\2\0\0\0f4\x85R"
        b"J\xff\xff\xff\x7f\x85X\1\0\0\0CtR.",
    ],
)
def test_forged_pickles_are_one_sentence_and_ask_for_no_memory(data, tmp_path):
    path = tmp_path / "a.pkl"
    path.write_bytes(b"\x80\x04" + data)
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError) as error:
            read_stylegan2_pickle(path)
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()
    assert len(str(error.value)) < 400 and "\n" not in str(error.value)


def test_settings_and_modules_that_nest_without_end(writer, tmp_path):
    path = tmp_path / "a.pkl"
    doubled, deep = [], []
    for _ in range(30):
        doubled = [doubled, doubled]
    for _ in range(100):
        deep = {"a": deep}
    for settings in (doubled, deep):
        net = discriminator()
        net.state["setting"] = settings
        path.write_bytes(writer.dumps({"D": net}))
        with pytest.raises(CheckpointError, match="deeper or wider"):
            read_stylegan2_pickle(path)
    net = discriminator()
    for _ in range(40):
        net = Module("D", modules=[("a", net), ("b", net)])
    path.write_bytes(writer.dumps({"D": net}))
    with pytest.raises(CheckpointError, match="deeper or wider"):
        read_stylegan2_pickle(path)
    # A dict of modules that holds the module itself.
    data = b"\x80\x04}X\1\0\0\0D" + PERSISTENT + b"}X\5\0\0\0state}q\0X\x08\0\0\0_modules}q\1ss"
    data += b"\x85Rq\2sh\1X\1\0\0\0ah\2s0."
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="deeper or wider"):
        read_stylegan2_pickle(path)


def test_the_same_bytes_are_not_read_again_and_again(writer, tmp_path):
    payload = writer.legacy_bytes(Storage("0", np.zeros(10_000, "<u2")))
    load = b"ctorch.storage\n_load_from_bytes\nh\0\x85R"
    data = b"\x80\x04B" + struct.pack("<I", len(payload)) + payload + b"q\0(" + load * 1000 + b"t."
    (tmp_path / "a.pkl").write_bytes(data)
    with pytest.raises(CheckpointError, match="over and over"):
        read_stylegan2_pickle(tmp_path / "a.pkl")


def test_views_do_not_multiply_numbers(writer, tmp_path):
    shared = Storage("0", np.arange(10, dtype="<f4"))
    for tensor, sentence in (
        (Tensor(shared, (10**6, 10**6), (0, 0)), "of only 10 numbers"),
        (Tensor(shared, (1,) * 40, (1,) * 40), "40 axes"),
        (Tensor(shared, (4, 4), (4, 1)), "'D.a' reaches outside"),
        (Tensor(shared, (2,), (1,), offset=-1), "'D.a' reaches outside"),
        (Tensor(Storage("0", shared.data, count=10**12), (4,), (1,)), "declared|numbers"),
    ):
        net = Module("D", parameters=[("a", tensor)])
        (tmp_path / "a.pkl").write_bytes(writer.dumps({"D": net}))
        with pytest.raises(CheckpointError, match=sentence):
            read_stylegan2_pickle(tmp_path / "a.pkl")


@pytest.mark.parametrize("zipped", [False, True])
def test_truncated_files(writer, zipped, tmp_path):
    writer.zipped = zipped
    data = writer.dumps(document(), 4 if zipped else 3)
    path = tmp_path / "a.pkl"
    for size in range(0, len(data), 13):
        path.write_bytes(data[:size])
        with pytest.raises(CheckpointError) as error:
            read_stylegan2_pickle(path)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("protocol", [3, 4])
def test_any_damaged_byte_gives_networks_or_a_sentence(writer, protocol, tmp_path):
    marker = tmp_path / "executed"
    writer.source = f"open({str(marker)!r}, 'w')"
    data = writer.dumps(document(), protocol)
    path = tmp_path / "a.pkl"
    for at in range(0, len(data), 8):
        for value in (0xFF, data[at] ^ 1):
            path.write_bytes(data[:at] + bytes([value]) + data[at + 1 :])
            with contextlib.suppress(CheckpointError):
                read_stylegan2_pickle(path)
    assert not marker.exists()


def test_other_files_are_refused(writer, tmp_path):
    path = tmp_path / "a.pkl"
    for node, sentence in (
        ({"epoch": 1}, "none of the networks G_ema, G, D"),
        ((discriminator(),), "no dict of networks.*TensorFlow"),
        ({"D": Module("D")}, "network D holds no tensors"),
        ({"D": Module("D", parameters=[("a", 1)])}, "D.a is no tensor"),
        ({"D": Module("D", modules=[("a", 1)])}, "D.a is no module"),
        ({"D": Module("D", modules=[(1, 1)])}, "no dict by name"),
    ):
        path.write_bytes(writer.dumps(node))
        with pytest.raises(CheckpointError, match=sentence):
            read_stylegan2_pickle(path)
    writer.zip(path, {"a": whole("0", np.zeros(3, "<f4"))})
    with pytest.raises(CheckpointError, match="zip file"):
        read_stylegan2_pickle(path)
    path.write_bytes(b"some text")
    with pytest.raises(CheckpointError, match="no pickle of StyleGAN2-ADA networks"):
        read_stylegan2_pickle(path)
    with pytest.raises(CheckpointError, match="Cannot read"):
        read_stylegan2_pickle(tmp_path / "none.pkl")
