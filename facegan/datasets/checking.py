"""Looks a prepared dataset over before days of training are spent on it.

One pass over the records tells what is there, and what would make training wrong: pictures that
cannot be decoded, label ids outside of the schema, identities in two splits. What is looked at
follows from the features that are there, so it works for every builder. Records stay encoded until
they are looked at and are forgotten afterwards; what grows with the dataset are 16 bytes a picture.
"""

import array
import collections
import colorsys
import concurrent.futures
import itertools
import os
import pathlib
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from facegan.datasets.pipeline import read_records
from facegan.datasets.record_facts import (
    FAR_OUTSIDE,
    LABEL_MAP,
    Fields,
    PictureFacts,
    RecordFacts,
    find_fields,
    look_at,
)
from facegan.datasets.storage import REPORT_NAME, open_dataset, read_report
from facegan.errors import ConfigError
from facegan.face.labels import CELEBAMASK19, PALETTES, LabelSchema, decode_schema, find_schema
from facegan.progress import ProgressFactory, no_progress

# Texts that many records share; others, as file names, may be different in each record.
_GROUPS = ("identity", "person", "video", "clip", "domain")
_MAX_EXAMPLES = 10
_MAX_VALUES = 64
# Mean codes below and above which a picture shows next to nothing.
_DARK, _BRIGHT = 8.0, 247.0
_BINS_PER_CODE = 10
_CHUNK = 64
_SPLIT_ORDER = ("train", "validation", "test")


class _Finding:
    """Things of one kind: how many, and the names of the first."""

    def __init__(self) -> None:
        self.count = 0
        self.examples: list[str] = []

    def add(self, example: str, count: int = 1) -> None:
        self.count += count
        if len(self.examples) < _MAX_EXAMPLES and example not in self.examples:
            self.examples.append(example)


def check_dataset(
    dataset_dir: str | os.PathLike[str],
    *,
    samples_per_split: int = 16,
    limit: int | None = None,
    progress: ProgressFactory = no_progress,
) -> dict[str, Any]:
    """Looks at every record of a prepared dataset.

    Args:
        dataset_dir: The folder that holds ``dataset_info.json``.
        samples_per_split: How many records of each split are chosen to be shown.
        limit: Look at the first so many records of each split only.
        progress: Told how far each split is.

    Returns:
        JSON values, the same for the same dataset. ``problems`` is a list of ``level``
        (``"error"``: training would go wrong; ``"warning"``: to be known), ``what`` (a sentence),
        ``count`` and ``examples``; ``ok`` tells that there is no error; ``samples`` holds the
        chosen records' numbers by split; the rest is what was counted.

    Raises:
        DataError: The folder holds no dataset.
        ConfigError: A number is out of range.
    """
    if samples_per_split < 0 or (limit is not None and limit < 1):
        raise ConfigError(
            f"samples_per_split must not be negative and limit at least 1, got {samples_per_split} "
            f"and {limit}."
        )
    info = open_dataset(dataset_dir).info
    report = open_report(dataset_dir)
    fields = find_fields(info.features)
    tally = _Tally(fields, report)
    samples = {}
    rank = {name: number for number, name in enumerate(_SPLIT_ORDER)}
    names = sorted(info.splits, key=lambda name: (rank.get(name, len(rank)), name))
    threads = concurrent.futures.ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1))
    # Readers of pictures quieten warnings and restore them; in threads they may restore what
    # another one quietened, so the first state is kept here.
    with warnings.catch_warnings(), threads:
        for split in names:
            stored = info.splits[split].num_examples
            total = stored if limit is None else min(stored, limit)
            tally.start_split(split)
            with progress(f"Check {split}") as callback:
                callback(0, total, "record")
                for facts in _read_facts(dataset_dir, split, total, fields, threads, tally):
                    tally.add(facts)
                    callback(tally.records[split], total, "record")
            samples[split] = _spread(min(total, tally.records[split]), samples_per_split)
            if tally.records[split] != total and split not in tally.broken:
                tally.broken[split] = "the files hold fewer records than dataset_info.json tells"
    for split in report.get("splits", {}):
        # TFDS cannot store a split without records; the report still knows of it.
        tally.records.setdefault(split, 0)
    problems = tally.find_problems()
    return {
        "kind": "dataset_check",
        "version": 1,
        "ok": not any(problem["level"] == "error" for problem in problems),
        "dataset_dir": os.fspath(dataset_dir),
        "dataset": info.full_name,
        "limit": limit,
        "problems": problems,
        **tally.describe(),
        "left_out": tally.left_out,
        "counts": tally.counts,
        "samples": samples,
    }


def format_table(result: Mapping[str, Any]) -> str:
    """What ``check_dataset`` found as aligned lines of text."""
    lines = [f"{result['dataset']} in {result['dataset_dir']}"]
    if result["limit"] is not None:
        lines.append(f"Only the first {result['limit']} records of each split were looked at.")
    for title, header, rows in list_tables(result):
        lines += ["", title, *_align([header, *rows])]
    lines.append("")
    for problem in result["problems"]:
        lines.append(f"{problem['level'].upper()}: {problem['what']}")
        lines += [f"    {example}" for example in problem["examples"]]
    lines.append(summarize(result))
    return "\n".join(lines) + "\n"


def summarize(result: Mapping[str, Any]) -> str:
    """One sentence: whether the dataset can be trained on."""
    levels = collections.Counter(problem["level"] for problem in result["problems"])
    found = f"{_many(levels['error'], 'error')}, {_many(levels['warning'], 'warning')}"
    verdict = "can be trained on" if result["ok"] else "should not be trained on"
    return f"The dataset {verdict}: {found}."


def list_tables(result: Mapping[str, Any]) -> list[tuple[str, list[str], list[list[str]]]]:
    """The parts of a result that are tables: title, header and rows of text."""
    tables = []
    splits = list(result["splits"])
    groups = result["groups"]
    tables.append(
        (
            "Splits",
            ["split", "records", "pictures", *(f"{name} values" for name in groups)],
            [
                [
                    split,
                    *(str(result["splits"][split][key]) for key in ("records", "pictures")),
                    *(str(groups[name]["different"].get(split, 0)) for name in groups),
                ]
                for split in splits
            ],
        )
    )
    for name, group in groups.items():
        values = sorted({value for split in group["values"].values() for value in split})
        rows = [
            [value, *(str(group["values"].get(split, {}).get(value, 0)) for split in splits)]
            for value in values
        ]
        if rows:
            tables.append((f"Records by {name}", [name, *splits], rows))
    sizes = [
        [field, size, str(count)]
        for field, counts in result["sizes"].items()
        for size, count in counts.items()
    ]
    if sizes:
        tables.append(("Sizes", ["field", "width x height", "pictures"], sizes))
    if result["brightness"]:
        names = ["darkest", "median", "brightest"]
        row = [f"{result['brightness'][name]:.1f}" for name in names]
        tables.append(("Mean brightness of a picture, 0 to 255", names, [row]))
    if result["labels"]:
        rows = [
            [
                str(entry["id"]),
                entry["name"],
                f"{entry['pixel_share']:.2%}",
                f"{entry['picture_share']:.1%}",
            ]
            for entry in result["labels"]
        ]
        header = ["id", "label", "of pixels", "in label maps"]
        tables.append((f"Labels, schema {result['schema'] or 'unknown'}", header, rows))
    if result["landmarks"]:
        marks = result["landmarks"]
        total = max(marks["faces"], 1)
        rows = [
            [name.replace("_", " "), str(marks[name]), f"{marks[name] / total:.1%}"]
            for name in ("faces", "without_face", "far_outside")
        ]
        tables.append(("Landmarks", ["what", "sets", "share"], rows))
    if result["duplicates"]:
        rows = [[k.replace("_", " "), str(v)] for k, v in result["duplicates"].items()]
        tables.append(("Identical pictures", ["where", "pictures"], rows))
    for key, title, what in (
        ("left_out", "Left out when the dataset was built", "reason"),
        ("counts", "Counted when the dataset was built", "what"),
    ):
        if result[key]:
            rows = [[name, str(count)] for name, count in result[key].items()]
            tables.append((title, [what, "count"], rows))
    return tables


def open_report(dataset_dir: str | os.PathLike[str]) -> dict[str, Any]:
    """The builder's report; empty for a dataset that was made without one."""
    if not (pathlib.Path(dataset_dir) / REPORT_NAME).is_file():
        return {}
    return read_report(dataset_dir)


def find_report_schema(report: Mapping[str, Any]) -> LabelSchema:
    """The schema that a report names or holds; that of CelebAMask-HQ where it says nothing.

    Raises:
        ConfigError: The schema is not known.
    """
    told = report.get("schema", CELEBAMASK19.name)
    return decode_schema(told) if isinstance(told, Mapping) else find_schema(str(told))


def colour_table(schema: LabelSchema | None) -> np.ndarray:
    """A colour to show each id with, [256, 3] uint8; ids outside of the schema are white."""
    table = np.full((256, 3), 255, np.uint8)
    if schema is None:
        table[:] = _spread_colours(256)
        return table
    fitting = [palette.colours for palette in PALETTES.values() if palette.schema == schema]
    own = [schema.colours] if schema.colours else []
    colours = [*own, *fitting, _spread_colours(schema.num_labels)][0]
    table[: schema.num_labels] = colours
    return table


def _spread_colours(count: int) -> list[tuple[int, ...]]:
    """Colours that neighbouring ids do not share; background is black."""
    golden = 0.618034
    hues = [colorsys.hsv_to_rgb(i * golden % 1, 0.75, 0.9) for i in range(1, count)]
    return [(0, 0, 0), *(tuple(round(255 * part) for part in colour) for colour in hues)]


def _read_facts(
    dataset_dir: str | os.PathLike[str],
    split: str,
    total: int,
    fields: Fields,
    threads: concurrent.futures.Executor,
    tally: "_Tally",
) -> Iterator[RecordFacts]:
    """Facts of the first ``total`` records in their order; stops at what cannot be read."""
    if not total:
        return
    records = enumerate(read_records(dataset_dir, f"{split}[:{total}]").as_numpy_iterator())
    chunk: list[tuple[int, Any]] = []
    ended = False
    while not ended:
        # Decoders run beside each other, on a few records at a time.
        chunk.clear()
        try:
            chunk.extend(itertools.islice(records, _CHUNK))
            ended = len(chunk) < _CHUNK
        except tf.errors.OpError as error:
            # What was read before the fault is in the chunk.
            tally.broken[split] = error.message.splitlines()[0]
            ended = True
        yield from threads.map(lambda pair: look_at(fields, split, *pair), chunk)


class _Tally:
    """Adds up what was found in the records."""

    def __init__(self, fields: Fields, report: Mapping[str, Any]) -> None:
        self.fields, self.report = fields, report
        self.records: dict[str, int] = {}
        self.broken: dict[str, str] = {}
        self.left_out = _count_left_out(report)
        self.counts = {str(k): int(v) for k, v in report.get("counts", {}).items()}
        self._split = ""
        self._pictures: collections.Counter[str] = collections.Counter()
        self._sizes: dict[str, collections.Counter[tuple[int, int]]] = {}
        self._brightness = np.zeros(255 * _BINS_PER_CODE + 1, np.int64)
        # One entry a picture; which split a picture is of follows from where each began.
        self._digests, self._owners = array.array("Q"), array.array("Q")
        self._starts: list[tuple[int, str]] = []
        self._groups: dict[str, dict[str, collections.Counter[str]]] = {
            name: {}
            for name in sorted(fields.all_texts, key=_group_rank)
            if name in _GROUPS or name in fields.classes
        }
        self._label_pixels = np.zeros(256, np.int64)
        self._label_maps = np.zeros(256, np.int64)
        self._num_label_maps = 0
        self._landmarks: collections.Counter[str] = collections.Counter()
        self._found: collections.defaultdict[str, _Finding] = collections.defaultdict(_Finding)
        self._schema: LabelSchema | None = None
        self._schema_fault = ""
        if fields.has_labels:
            try:
                self._schema = find_report_schema(report)
            except ConfigError as error:
                self._schema_fault = str(error)

    def start_split(self, split: str) -> None:
        self._split = split
        self.records[split] = 0
        self._starts.append((len(self._digests), split))
        for counts in self._groups.values():
            counts[split] = collections.Counter()

    def add(self, facts: RecordFacts) -> None:
        """Adds the next record of the split."""
        index = self.records[self._split]
        self.records[self._split] += 1
        for name, by_split in self._groups.items():
            text = facts.texts[name]
            if name == "video" and "identity" in facts.texts:
                # The same video may show several people.
                text = f"{facts.texts['identity']}/{text}"
            by_split[self._split][text] += 1
        if (self.fields.pictures or self.fields.strips) and not facts.pictures:
            self._found["no_pictures"].add(facts.name)
        for picture in facts.pictures:
            self._add_picture(facts, index, picture)
        self._add_labels(facts)
        self._add_landmarks(facts)

    def _add_picture(self, facts: RecordFacts, index: int, picture: PictureFacts) -> None:
        self._pictures[self._split] += 1
        if picture.size is None:
            self._found["undecodable"].add(picture.fault)
            return
        self._digests.append(picture.digest)
        self._owners.append(index)
        self._sizes.setdefault(picture.field, collections.Counter())[picture.size] += 1
        self._brightness[round(picture.brightness * _BINS_PER_CODE)] += 1
        if not _DARK <= picture.brightness <= _BRIGHT:
            self._found["brightness"].add(f"{facts.name}: mean {picture.brightness:.1f}")

    def _add_labels(self, facts: RecordFacts) -> None:
        if facts.label_fault:
            self._found["label_undecodable"].add(facts.label_fault)
        if facts.label_counts is None or facts.label_size is None:
            return
        self._num_label_maps += 1
        self._label_pixels += facts.label_counts
        self._label_maps += facts.label_counts > 0
        self._sizes.setdefault(LABEL_MAP, collections.Counter())[facts.label_size] += 1
        if self._schema is not None:
            outside = np.flatnonzero(facts.label_counts[self._schema.num_labels :])
            if len(outside):
                ids = ", ".join(str(i + self._schema.num_labels) for i in outside[:8])
                self._found["outside"].add(f"{facts.name}: {ids}")
        if facts.label_counts[0] == facts.label_counts.sum():
            self._found["only_background"].add(facts.name)
        for picture in facts.pictures:
            if picture.size is not None and picture.size != facts.label_size:
                self._found["mismatch"].add(
                    f"{facts.name}: {picture.field} {_size_text(picture.size)}, {LABEL_MAP} "
                    f"{_size_text(facts.label_size)}"
                )

    def _add_landmarks(self, facts: RecordFacts) -> None:
        if facts.no_face is None or facts.far_outside is None:
            return
        if facts.landmark_fault:
            self._found["landmark_number"].add(f"{facts.name}: {facts.landmark_fault}")
        self._landmarks["faces"] += len(facts.no_face)
        for name, which in (("without_face", facts.no_face), ("far_outside", facts.far_outside)):
            if which.any():
                self._landmarks[name] += int(which.sum())
                self._found[name].add(facts.name, int(which.sum()))

    def describe(self) -> dict[str, Any]:
        """What was counted, as JSON values."""
        return {
            "splits": {
                split: {"records": count, "pictures": self._pictures[split]}
                for split, count in self.records.items()
            },
            "groups": {
                name: {
                    "different": {split: len(counts) for split, counts in by_split.items()},
                    "values": _small_tables(by_split),
                }
                for name, by_split in self._groups.items()
            },
            "sizes": {
                field: {_size_text(size): counts[size] for size in sorted(counts)}
                for field, counts in sorted(self._sizes.items())
            },
            "brightness": self._describe_brightness(),
            "schema": None if self._schema is None else self._schema.name,
            "labels": self._describe_labels(),
            "landmarks": {
                name: self._landmarks[name] for name in ("faces", "without_face", "far_outside")
            }
            if self.fields.has_landmarks
            else {},
            "duplicates": {
                "within_a_split": self._found["within"].count,
                "over_splits": self._found["over"].count,
            }
            if self._digests
            else {},
        }

    def _describe_brightness(self) -> dict[str, float]:
        total = int(self._brightness.sum())
        if not total:
            return {}
        filled = np.flatnonzero(self._brightness)
        middle = np.searchsorted(np.cumsum(self._brightness), (total + 1) // 2)
        return {
            "darkest": float(filled[0] / _BINS_PER_CODE),
            "median": float(middle / _BINS_PER_CODE),
            "brightest": float(filled[-1] / _BINS_PER_CODE),
        }

    def _describe_labels(self) -> list[dict[str, Any]]:
        """Every label of the schema, and other ids that occur."""
        if not self.fields.has_labels:
            return []
        names = () if self._schema is None else self._schema.labels
        colours = colour_table(self._schema)
        pixels = max(int(self._label_pixels.sum()), 1)
        maps = max(self._num_label_maps, 1)
        return [
            {
                "id": index,
                "name": names[index] if index < len(names) else "(outside of the schema)",
                "colour": "#{:02x}{:02x}{:02x}".format(*colours[index]),
                "pixels": int(self._label_pixels[index]),
                "pixel_share": float(self._label_pixels[index] / pixels),
                "label_maps": int(self._label_maps[index]),
                "picture_share": float(self._label_maps[index] / maps),
            }
            for index in range(256)
            if index < len(names) or self._label_pixels[index]
        ]

    def find_problems(self) -> list[dict[str, Any]]:
        """Errors, then warnings."""
        self._find_duplicates()
        pictures, maps = sum(self._pictures.values()), self._num_label_maps
        records, sets = sum(self.records.values()), self._landmarks["faces"]
        rebuild = "build the dataset again from whole files"
        errors = [
            *self._find_split_problems(),
            *self._told("undecodable", f"of {pictures} pictures cannot be decoded; {rebuild}."),
            *self._told("no_pictures", f"of {records} records hold no picture."),
            *self._told("label_undecodable", f"of {records} label maps cannot be read; {rebuild}."),
        ]
        if self._schema_fault:
            errors.append(_problem("error", f"{REPORT_NAME}: {self._schema_fault}", 1, []))
        if self._schema is not None:
            last = self._schema.num_labels - 1
            errors += self._told(
                "outside",
                f"of {maps} label maps have ids outside of the schema {self._schema.name!r}, "
                f"0 to {last}; they were made with another schema.",
            )
        errors += [
            *self._told("mismatch", f"of {maps} label maps have another size than their picture."),
            *self._told(
                "landmark_number", f"of {records} records have not one set of landmarks a picture."
            ),
            *self._find_shared("identity", "error", "what is tested was trained on."),
        ]
        warnings = [
            *self._find_shared(
                "person",
                "warning",
                "that is meant where splits are parts of the same videos, and wrong otherwise.",
            ),
            *self._told(
                "over",
                f"of {pictures} pictures are in more than one split, byte for byte.",
                "warning",
            ),
            *self._told(
                "within", f"of {pictures} pictures repeat another of their split.", "warning"
            ),
            *self._find_size_problems(),
            *self._told(
                "brightness", f"of {pictures} pictures are nearly black or white.", "warning"
            ),
            *self._told("only_background", f"of {maps} label maps are background only.", "warning"),
            *self._find_missing_labels(),
            *self._told(
                "without_face", f"of {sets} sets of landmarks are NaN: no face found.", "warning"
            ),
            *self._told(
                "far_outside",
                f"of {sets} sets of landmarks have points more than {FAR_OUTSIDE:.0%} of a side "
                "outside of the picture.",
                "warning",
            ),
            *self._find_report_problems(),
        ]
        return errors + warnings

    def _told(self, name: str, what: str, level: str = "error") -> list[dict[str, Any]]:
        found = self._found[name]
        if not found.count:
            return []
        return [_problem(level, f"{found.count} {what}", found.count, found.examples)]

    def _find_split_problems(self) -> Iterator[dict[str, Any]]:
        if not self.records:
            yield _problem("error", "The dataset has no split; build it again.", 1, [])
        empty = [name for name, count in self.records.items() if not count]
        for split in empty:
            if split not in self.broken:
                yield _problem("error", f"The split {split!r} is empty.", 1, [])
        for split, reason in self.broken.items():
            yield _problem(
                "error",
                f"The split {split!r} can be read to record {self.records[split]} only: {reason}. "
                "Copy or build the dataset again.",
                1,
                [],
            )

    def _find_shared(self, field: str, level: str, advice: str) -> Iterator[dict[str, Any]]:
        by_split = self._groups.get(field, {})
        homes: dict[str, list[str]] = {}
        for split, counts in by_split.items():
            for value in counts:
                homes.setdefault(value, []).append(split)
        shared = [value for value in sorted(homes) if len(homes[value]) > 1]
        if shared:
            examples = [f"{value}: {', '.join(homes[value])}" for value in shared[:_MAX_EXAMPLES]]
            told = f"{len(shared)} of {len(homes)} values of {field} are in several splits"
            yield _problem(level, f"{told}; {advice}", len(shared), examples)

    def _find_size_problems(self) -> Iterator[dict[str, Any]]:
        for field, counts in sorted(self._sizes.items()):
            if len(counts) > 1:
                examples = [
                    f"{_size_text(size)}: {count}"
                    for size, count in counts.most_common(_MAX_EXAMPLES)
                ]
                what = f"The pictures of {field} have {len(counts)} different sizes."
                yield _problem("warning", what, len(counts), examples)

    def _find_missing_labels(self) -> Iterator[dict[str, Any]]:
        if self._schema is None or not self._num_label_maps:
            return
        missing = [
            name for index, name in enumerate(self._schema.labels) if not self._label_pixels[index]
        ]
        if missing:
            what = f"Of the schema {self._schema.name!r}, {len(missing)} labels occur nowhere."
            yield _problem("warning", what, len(missing), missing[:_MAX_EXAMPLES])

    def _find_report_problems(self) -> Iterator[dict[str, Any]]:
        missing = {
            name.partition(":")[2]: count
            for name, count in self.counts.items()
            if name.startswith("missing_part:") and count
        }
        if missing:
            yield _problem(
                "warning",
                "Pictures came without parts that every face has.",
                sum(missing.values()),
                [f"{part}: {count}" for part, count in missing.items()][:_MAX_EXAMPLES],
            )
        # What was more than was asked for is no loss.
        lost = {name: count for name, count in self.left_out.items() if name != "not_chosen"}
        if lost:
            yield _problem(
                "warning",
                f"{sum(lost.values())} files or frames were left out when the dataset was built; "
                "the files beside the records tell which.",
                sum(lost.values()),
                [f"{name}: {count}" for name, count in lost.items()][:_MAX_EXAMPLES],
            )

    def _find_duplicates(self) -> None:
        """Counts pictures with equal digests, within and over splits."""
        digests = np.frombuffer(self._digests, np.uint64)
        if len(digests) < 2:
            return
        order = np.argsort(digests, kind="stable")
        ordered = digests[order]
        same = np.flatnonzero(ordered[1:] == ordered[:-1])
        if not len(same):
            return
        # Runs of equal digests: [first, last] in the sorted order.
        cuts = np.flatnonzero(np.diff(same) > 1)
        firsts = same[np.concatenate([[0], cuts + 1])]
        lasts = same[np.concatenate([cuts, [len(same) - 1]])] + 1
        starts = np.array([start for start, _ in self._starts])
        names = [name for _, name in self._starts]
        # In the order of the records, so that the examples are the first.
        for run in np.argsort(order[firsts], kind="stable"):
            members = order[firsts[run] : lasts[run] + 1]
            splits = np.searchsorted(starts, members, side="right") - 1
            shown = " = ".join(
                f"{names[split]}[{self._owners[member]}]"
                for split, member in zip(splits[:4], members[:4], strict=True)
            ) + (" = ..." if len(members) > 4 else "")
            num_splits = len(np.unique(splits))
            if num_splits > 1:
                self._found["over"].add(shown)
            if len(members) > num_splits:
                self._found["within"].add(shown, len(members) - num_splits)


def _count_left_out(report: Mapping[str, Any]) -> dict[str, int]:
    """What a report, or the clips in it, tell was left out, by reason."""
    counts: collections.Counter[str] = collections.Counter()
    for part in (report, *report.get("clips", ())):
        for reason, entry in part.get("left_out", {}).items():
            counts[reason] += int(entry["count"])
    return dict(counts.most_common())


def _group_rank(name: str) -> tuple[int, str]:
    return (_GROUPS.index(name) if name in _GROUPS else len(_GROUPS), name)


def _small_tables(
    by_split: Mapping[str, collections.Counter[str]],
) -> dict[str, dict[str, int]]:
    """Records by value for each split, unless there are too many values to be read."""
    if len(set(itertools.chain.from_iterable(by_split.values()))) > _MAX_VALUES:
        return {}
    return {split: dict(sorted(counts.items())) for split, counts in by_split.items()}


def _problem(level: str, what: str, count: int, examples: Sequence[str]) -> dict[str, Any]:
    return {"level": level, "what": what, "count": count, "examples": list(examples)}


def _spread(total: int, count: int) -> list[int]:
    """Up to ``count`` numbers below ``total``, each in the middle of an equal part."""
    count = min(total, count)
    return [(2 * i + 1) * total // (2 * count) for i in range(count)]


def _size_text(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _many(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")


def _align(rows: Iterable[Sequence[str]]) -> list[str]:
    """Columns under each other: texts to the left, the rest to the right."""
    rows = [list(row) for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    left = [not any(row[i][:1].isdigit() for row in rows[1:]) for i in range(len(widths))]
    return [
        "  "
        + "  ".join(
            text.ljust(width) if is_left else text.rjust(width)
            for text, width, is_left in zip(row, widths, left, strict=True)
        ).rstrip()
        for row in rows
    ]
