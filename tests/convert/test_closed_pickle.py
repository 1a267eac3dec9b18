import collections
import datetime
import io
import pickle
import struct

import pytest

from facegan.convert.closed_pickle import (
    Budget,
    Dict,
    Function,
    Name,
    Record,
    load_pickle,
    make_set,
    refused_name,
)
from facegan.errors import CheckpointError

NAMES = {
    ("collections", "OrderedDict"): Function(Dict.of),
    ("builtins", "set"): Function(make_set),
    ("__builtin__", "set"): Function(make_set),
    ("datetime", "timedelta"): Name("datetime", "timedelta"),
}


def find_name(module, name):
    if (module, name) in NAMES:
        return NAMES[module, name]
    raise refused_name(module, name)


def load(data, find_storage=None):
    return load_pickle(io.BytesIO(data), find_name, Budget(len(data)), find_storage)


@pytest.mark.parametrize("protocol", range(6))
def test_plain_values_come_back(protocol):
    shared = ["a", "b" * 300]
    plain = {
        "ints": [0, 1, -1, 255, 70_000, -(2**31), 2**40, -(10**30)],
        "floats": [1.5, -0.0, float("inf")],
        "texts": ["", "\u00e9\u4e00", "line\nbreak \\ '", "x" * 70_000],
        "others": (
            None,
            True,
            False,
            (),
            (1,),
            (1, 2),
            (1, 2, 3),
            (1, 2, 3, 4),
            {},
            [],
            ({}, [[]]),
        ),
        1: {2.5: shared, None: shared, ("a", 1): {"b": 1, "c": 2}},
        "set": {1, "a"},
        "ordered": collections.OrderedDict([("z", 1), ("a", 2)]),
    }
    if protocol >= 3:
        plain["bytes"] = [b"", b"a\0\xff", b"y" * 300]
    if protocol >= 5:
        plain["more bytes"] = bytearray(b"abc")
    found = load(pickle.dumps(plain, protocol))
    assert found == plain
    assert list(found["ordered"]) == ["z", "a"]
    assert found[1][2.5] is found[1][None]


def test_texts_of_python_2():
    assert load(b"(S'a\\n\\'b'\nU\x02\xc3\xa9U\x01\xfft.") == ("a\n'b", "\u00e9", b"\xff")


def test_a_name_without_a_meaning_makes_a_record():
    found = load(pickle.dumps([datetime.timedelta(1, 2)], 4))
    assert isinstance(found[0], Record)
    assert (found[0].name, found[0].arguments) == ("datetime.timedelta", (1, 2, 0))
    # State and items given to it have no effect.
    found = load(b"cdatetime\ntimedelta\n)R}X\1\0\0\0aK\1sb(K\1e.")
    assert (found.arguments, found.state) == ((), {"a": 1})


def test_the_stream_is_left_behind_the_pickle():
    stream = io.BytesIO(pickle.dumps(1) + pickle.dumps("two") + b"rest")
    budget = Budget(100)
    assert [load_pickle(stream, find_name, budget) for _ in range(2)] == [1, "two"]
    assert stream.read() == b"rest"


def test_persistent_ids_need_someone_who_knows_them():
    assert load(b"(X\1\0\0\0aK\1tQ.", find_storage=lambda pid: pid[::-1]) == (1, "a")
    with pytest.raises(CheckpointError, match="outside of itself; it is refused"):
        load(b"X\1\0\0\0aQ.")


@pytest.mark.parametrize(
    "data",
    [
        b"cos\nsystem\n.",
        b"X\2\0\0\0osX\6\0\0\0system\x93.",
        b"K\1X\6\0\0\0system\x93.",  # a name that is no text
        b"(ios\nsystem\n.",  # INST
        b"(cdatetime\ntimedelta\no.",  # OBJ
        b"cdatetime\ntimedelta\n)}\x92.",  # NEWOBJ_EX
        b"\x82\1.",  # EXT1
        b"Pa\n.",  # PERSID
        b"\x97.",  # NEXT_BUFFER
        b"\x98.",  # READONLY_BUFFER
        b"Ncdatetime\ntimedelta\n)Rb0]}b.",  # BUILD on a list
        b"}}b.",  # on a plain dict
        b"cbuiltins\nset\n}b.",  # on a function
        b"cbuiltins\nset\n(K\1e.",  # APPENDS to a function
        b"cbuiltins\nset\nK\1K\1s.",  # SETITEM of a function
        b")K\1a.",  # APPEND to a tuple
        b"]K\1K\1s.",  # SETITEM of a list
        b"K\1)R.",  # a call of a number
    ],
)
def test_what_is_refused(data):
    with pytest.raises(CheckpointError, match="refused"):
        load(b"\x80\x04" + data)


def test_a_long_name_is_not_repeated():
    with pytest.raises(CheckpointError) as error:
        load(b"c" + b"a" * 10_000 + b"\nb\n.")
    assert len(str(error.value)) < 400


@pytest.mark.parametrize(
    "data",
    [
        b"}]K\1s.",  # a list
        b"}]\x85K\1s.",  # a tuple with a list in it
        b"}N\x85\x85K\1s.",  # a tuple in a tuple
        b"}(" + b"N" * 33 + b"tK\1s.",
        b"}\x8b" + struct.pack("<i", 9) + b"\x7f" * 9 + b"K\1s.",  # a number of 72 bits
        b"cbuiltins\nset\n]]a\x85R.",
        b"\x8f(]\x90.",
        b"(]\x91.",
        b"ccollections\nOrderedDict\n]]N\x86a\x85R.",
    ],
)
def test_keys_that_are_refused(data):
    with pytest.raises(CheckpointError, match="key of a dict"):
        load(b"\x80\x04" + data)


def test_what_a_call_looks_at_is_counted():
    pairs = b"(](" + b"K\1N\x86" * 1000 + b"eq\0"
    again = b"ccollections\nOrderedDict\nh\0\x85R"
    assert len(load(pairs + again * 3 + b"t.")) == 4
    text = b"(X" + struct.pack("<I", 10**4) + b"a" * 10**4 + b"q\0"
    for data in (
        pairs + again * 1000 + b"t.",
        text + b"cdatetime\ntimedelta\nh\0\x85R" * 100 + b"t.",
    ):
        with pytest.raises(CheckpointError, match="over and over"):
            load(data)


@pytest.mark.parametrize("data", [b"\x80\x02NN.", b"(N.", b"\x80\x02(NK\1."])
def test_a_stack_that_is_not_used_up_is_damage(data):
    with pytest.raises(CheckpointError, match="damaged"):
        load(data)


@pytest.mark.parametrize(
    "data", [b"", b"N", b".", b"0.", b"a.", b"h\0.", b"R.", b"t.", b"(N", b"\x80"]
)
def test_broken_instructions_raise(data):
    with pytest.raises((CheckpointError, ValueError, IndexError, KeyError)):
        load(data)
