import dataclasses

import numpy as np
import pytest

from facegan.errors import DataError
from facegan.preparation.items import Item, LeftOut, Outcome
from facegan.preparation.parts import PartFolder, cut_parts
from tests.slow_work import SlowWork


def _items(count, **data):
    return [Item(f"i{n}", (f"f{n}",), (n,), dict(data)) for n in range(count)]


@pytest.fixture
def folder(tmp_path):
    return PartFolder(tmp_path / "work")


def test_parts_are_named_by_what_is_in_them_and_done_with_it():
    splits = {"train": _items(5), "test": _items(2)}
    parts = cut_parts(splits, {"size": 1}, 2)
    assert [(part.split, len(part.items)) for part in parts] == [
        ("train", 2),
        ("train", 2),
        ("train", 1),
        ("test", 2),
    ]
    assert cut_parts(splits, {"size": 1}, 2) == parts
    other = cut_parts(splits, {"size": 2}, 2)
    assert not {part.name for part in other} & {part.name for part in parts}
    changed = [*_items(4), dataclasses.replace(_items(5)[4], sizes=(99,))]
    again = cut_parts({"train": changed, "test": _items(2)}, {"size": 1}, 2)
    assert [a == b for a, b in zip(parts, again, strict=True)] == [True, True, False, True]


def test_records_come_back_as_they_were_made(folder):
    items = [*_items(2), Item("é ü", ("a b",), (), {"extra": 1})]
    (part,) = cut_parts({"train": items}, {}, 8)
    folder.plan([part])
    folder.make(part.name, SlowWork())
    pairs = list(folder.read_records(part.name))
    assert [key for key, _ in pairs] == ["i0", "i1", "é ü"]
    for key, record in pairs:
        assert record["name"] == key and record["number"] == len(key)
        assert record["data"] == key.encode() and record["pictures"] == [b"one", b"", b"three"]
        assert record["array"].dtype == np.float32
        np.testing.assert_array_equal(record["array"], [0, 1, 2])
    summary = folder.read_summary(part.name)
    assert (summary.num_items, summary.num_records, summary.counts) == (3, 3, {"made": 3})
    assert summary.left_out == (LeftOut("é ü/b", "extra", "A second file."),)


def test_odd_values_survive(folder):
    record = {
        "nothing": b"",
        "none": [],
        "empty": np.zeros((0, 68, 2), np.float32),
        "nan": np.full((2, 2), np.nan, np.float64),
        "scalar": np.array(3, np.int64),
        "number": -1.5,
        "truth": True,
        "turned": np.arange(6).reshape(2, 3).T,
    }
    (part,) = cut_parts({"train": _items(1)}, {}, 1)
    folder.plan([part])
    folder.make(part.name, lambda item: Outcome(((item.key, record),)))
    ((_, back),) = folder.read_records(part.name)
    assert back.keys() == record.keys()
    for name, value in record.items():
        np.testing.assert_array_equal(back[name], value)
        assert type(back[name]) is type(value)


def test_whatever_goes_wrong_with_an_item_is_a_line_of_the_report(folder):
    items = [
        *_items(1, reject=True),
        Item("two files", ("a", "b"), (), {"fail": True}),
        Item("good", ("g",)),
    ]
    (part,) = cut_parts({"train": items}, {}, 8)
    folder.plan([part])
    folder.make(part.name, SlowWork())
    assert folder.read_summary(part.name).left_out == (
        LeftOut("f0", "rejected", "i0 is not wanted."),
        LeftOut("two files", "unexpected", "ZeroDivisionError: two files"),
    )
    assert [key for key, _ in folder.read_records(part.name)] == ["good"]


def test_a_part_is_made_once_and_an_unfinished_one_again(folder):
    (part,) = cut_parts({"train": _items(3)}, {}, 8)
    folder.plan([part])
    calls = []

    def stop_at_two(item):
        calls.append(item.key)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return SlowWork()(item)

    with pytest.raises(KeyboardInterrupt):
        folder.make(part.name, stop_at_two)
    assert folder.done() == set()
    folder.make(part.name, stop_at_two)
    assert folder.done() == {part.name} and len(calls) == 5
    folder.make(part.name, stop_at_two)
    assert len(calls) == 5


def test_every_flipped_byte_of_a_part_is_noticed(folder):
    (part,) = cut_parts({"train": _items(2)}, {}, 8)
    folder.plan([part])
    folder.make(part.name, SlowWork())
    (path,) = [p for p in (folder_path(folder)).iterdir() if p.name.endswith(".records")]
    whole = path.read_bytes()
    good = [key for key, _ in folder.read_records(part.name)]
    # Within the bodies: a change in a name of the header is another name, and no less readable.
    position = whole.rindex(b"three")
    for damaged in (whole[:position] + b"X" + whole[position + 1 :], whole[:-1], whole[:40], b"x"):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="cannot be read"):
            list(folder.read_records(part.name))
    path.write_bytes(whole)
    assert [key for key, _ in folder.read_records(part.name)] == good


def folder_path(folder):
    import pathlib

    return pathlib.Path(folder.path)


def test_removing_leaves_only_what_is_others(folder):
    parts = cut_parts({"train": _items(4)}, {}, 2)
    folder.plan(parts)
    for part in parts:
        folder.make(part.name, SlowWork())
    folder.remove([parts[0].name])
    assert folder.done() == {parts[1].name}
    folder.remove([parts[1].name])
    assert not folder_path(folder).exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file/work cannot be written: Not a directory"):
        PartFolder(tmp_path / "file" / "work").plan([])
