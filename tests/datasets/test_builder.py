import dataclasses
import json
import pathlib
from typing import Any, ClassVar

import numpy as np
import pytest
import tensorflow_datasets as tfds

from facegan.datasets.builder import ItemsBuilder, find_config, list_configs, prepare_items
from facegan.errors import ConfigError, DataError
from facegan.preparation.items import Item, LeftOut, Listing
from facegan.preparation.workers import WorkersConfig
from tests.slow_work import SlowWork


@dataclasses.dataclass(frozen=True)
class ToyConfig:
    KIND: ClassVar[str] = "toy_items"

    size: int = 3


class ToyItems(ItemsBuilder):
    """Items as the files of the source say: each line of plan.json is one."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = "A folder with plan.json."
    BUILDER_CONFIGS = list_configs({"three": ToyConfig()}, "Toy")
    ITEMS_PER_PART = 2

    def describe_features(self) -> dict[str, Any]:
        return {
            "name": tfds.features.Text(),
            "number": np.int64,
            "data": tfds.features.Text(),
            "pictures": tfds.features.Sequence(tfds.features.Text()),
            "array": tfds.features.Tensor(shape=(None,), dtype=np.float32),
        }

    def list_items(self, source):
        plan = json.loads(source.read("plan.json"))
        splits = {
            split: [Item(key, (key,), (1,), data) for key, data in items.items()]
            for split, items in plan.items()
        }
        return Listing(splits, [LeftOut("odd", "bad_name", "Odd.")], facts={"more": 1})

    def make_work(self, source):
        return SlowWork(self.settings.size)

    def _info(self):
        features = tfds.features.FeaturesDict(self.describe_features())
        return tfds.core.DatasetInfo(builder=self, features=features)


def _build(tmp_path, plan, name="data", processes=0, beam_options=(), **kwargs):
    source = tmp_path / "in"
    source.mkdir(exist_ok=True)
    (source / "plan.json").write_text(json.dumps(plan))
    builder = ToyItems(
        data_dir=tmp_path / name,
        source=source,
        workers=WorkersConfig(processes=processes, beam_options=beam_options),
        **kwargs,
    )
    return builder, prepare_items(builder)


def _names(builder, split):
    return [r["name"].decode() for r in builder.as_dataset(split=split).as_numpy_iterator()]


PLAN = {
    "train": {**{f"i{n}": {} for n in range(5)}, "bad": {"reject": True}, "two": {"extra": 1}},
    "test": {"t0": {}},
    "none": {"gone": {"fail": True}},
}


def test_records_report_and_splits(tmp_path):
    builder, made = _build(tmp_path, PLAN)
    assert made["splits"] == {"train": 6, "test": 1, "none": 0}
    assert set(builder.info.splits) == {"train", "test"}
    assert sorted(_names(builder, "train")) == ["i0", "i1", "i2", "i3", "i4", "two"]
    report = json.loads(pathlib.Path(made["report"]).read_text())
    assert report["items"] == 9 and report["counts"] == {"made": 7} and report["more"] == 1
    assert report["kind"] == "toy_items_report" and report["config"] == {
        "kind": "toy_items",
        "size": 3,
    }
    assert made["left_out"] == {"bad_name": 1, "rejected": 1, "unexpected": 1, "extra": 1}
    lines = (pathlib.Path(made["dataset_dir"]) / "left_out.jsonl").read_text().splitlines()
    assert [json.loads(line)["file"] for line in lines] == ["bad", "gone", "odd", "two/b"]


@pytest.mark.parametrize(
    "who",
    [
        {"processes": 2},
        # The way of a cluster: making and writing are pipelines of the named runner.
        {"beam_options": ("--runner=DirectRunner", "--direct_num_workers=1")},
    ],
    ids=["two processes", "a named runner"],
)
def test_whoever_works_the_records_are_the_same(tmp_path, who):
    here, made = _build(tmp_path, PLAN)
    there, other = _build(tmp_path, PLAN, "there", **who)
    assert made["splits"] == other["splits"] and made["left_out"] == other["left_out"]
    for split in ("train", "test"):
        assert _names(here, split) == _names(there, split)


def test_finished_parts_are_not_made_again(tmp_path):
    done = []

    @dataclasses.dataclass(frozen=True)
    class Counting(SlowWork):
        def __call__(self, item):
            done.append(item.key)
            if len(done) == 4:
                raise KeyboardInterrupt
            return super().__call__(item)

    class Stopping(ToyItems):
        def make_work(self, source):
            return Counting(self.settings.size)

    source = tmp_path / "in"
    source.mkdir()
    (source / "plan.json").write_text(json.dumps({"train": {f"i{n}": {} for n in range(6)}}))

    def build():
        builder = Stopping(
            data_dir=tmp_path / "data", source=source, workers=WorkersConfig(processes=0)
        )
        return builder, prepare_items(builder)

    with pytest.raises(KeyboardInterrupt):
        build()
    builder, made = build()
    assert made["splits"] == {"train": 6}
    assert done == ["i0", "i1", "i2", "i3", "i3", "i4", "i5"]
    assert not list((tmp_path / "data").glob(".*"))


def test_nothing_usable_is_an_error_with_the_commonest_reason(tmp_path):
    with pytest.raises(DataError, match="left out as rejected, such as a: a is not wanted"):
        _build(tmp_path, {"train": {"a": {"reject": 1}, "b": {"reject": 1}}})
    with pytest.raises(DataError, match="holds nothing"):
        _build(tmp_path, {"train": {}})


def test_work_can_be_kept(tmp_path):
    builder, _ = _build(tmp_path, PLAN, keep_work=True)
    kept = list((tmp_path / "data" / ".toy_items_work").glob("*.records"))
    assert len(kept) == 9


def test_settings_find_their_config():
    assert find_config(ToyItems, ToyConfig()) is ToyItems.BUILDER_CONFIGS[0]
    other = find_config(ToyItems, ToyConfig(size=5))
    assert other.name.startswith("5px_") and other.settings == ToyConfig(size=5)
    assert find_config(ToyItems, ToyConfig(size=5)).name == other.name


def test_beam_options_are_checked(tmp_path):
    with pytest.raises(ConfigError, match="must look like --name=value, got 'runner'"):
        _build(tmp_path, PLAN, beam_options=("runner",))
