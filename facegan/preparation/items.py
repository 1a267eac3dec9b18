"""What a dataset is made of before it is records: items, and what becomes of each.

An item is the smallest thing that is worked on alone: a picture with its masks, the clips of one
video. What a dataset does with an item is its ``Work``, a small object that can be sent to another
process. Work that cannot use a file raises ``Rejected`` or names the file in its outcome; it never
ends the whole.
"""

import collections
import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from facegan.errors import ConfigError, DataError

# What a record may hold: texts and bytes, numbers, arrays, and lists of encoded pictures.
Value = bytes | str | int | float | bool | np.ndarray | list[bytes]
Record = Mapping[str, Value]


class Rejected(DataError):
    """A file that cannot be used.

    Attributes:
        reason: Few lower-case words joined by underscores, the same for every file of its kind.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.reason, str(self))


@dataclasses.dataclass(frozen=True, slots=True)
class LeftOut:
    """A file that is in no record, and why.

    Attributes:
        file: Its name below the source's root, or the item's key.
        reason: As ``Rejected.reason``.
        detail: One sentence.
    """

    file: str
    reason: str
    detail: str


@dataclasses.dataclass(frozen=True, slots=True)
class Item:
    """One thing to be worked on.

    Attributes:
        key: Unique within the dataset, the same in every build.
        files: Names below the source's root.
        sizes: Bytes of each file, so that a file that was replaced is worked on again.
        data: Further facts that the listing found, JSON values.
    """

    key: str
    files: tuple[str, ...]
    sizes: tuple[int, ...] = ()
    data: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an item.

    Attributes:
        records: Pairs of a key, unique within the dataset, and a record.
        left_out: Files of the item that are in no record.
        counts: Things that are added up over the whole dataset, by name.
    """

    records: tuple[tuple[str, Record], ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    counts: Mapping[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Listing:
    """What a source holds.

    Attributes:
        splits: Items by split, in an order that does not change.
        left_out: Files that are in no item, with the reason.
        labels: Names for ``ClassLabel`` features that only the source knows, by feature.
        facts: Further JSON values for the report.
    """

    splits: Mapping[str, Sequence[Item]]
    left_out: Sequence[LeftOut] = ()
    labels: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class Work(Protocol):
    """Turns an item into records, in any process.

    An implementation is a frozen dataclass of plain values and a source, so that it can be pickled
    and so that ``fingerprint`` can tell one from another.
    """

    def __call__(self, item: Item) -> Outcome:
        """Works on one item.

        Raises:
            Rejected: Nothing of it can be used.
        """

    def fingerprint(self) -> Mapping[str, Any]:
        """JSON values that decide what records look like; sources and places are not among them."""


def drop_unused(facts: Mapping[str, Any], **unused: Any) -> dict[str, Any]:
    """A fingerprint without settings that came later and are not used.

    What was made before there were such settings is then still known to be the same.

    Args:
        facts: A work's fingerprint.
        **unused: Each such setting, with the value that stands for not using it.
    """
    return {
        name: value for name, value in facts.items() if name not in unused or value != unused[name]
    }


def count_reasons(left_out: Sequence[LeftOut]) -> dict[str, int]:
    """How many files are left out for each reason, the commonest first."""
    return dict(collections.Counter(entry.reason for entry in left_out).most_common())


def tell_commonest(left_out: Sequence[LeftOut], what: str = "files ") -> str:
    """The commonest reason with an example; ``what`` names that which is counted."""
    reason, count = next(iter(count_reasons(left_out).items()))
    example = next(entry for entry in left_out if entry.reason == reason)
    return f"{count} {what}are left out as {reason}, such as {example.file}: {example.detail}"


def split_by_name(name: str, validation: float, test: float) -> str:
    """The split of whatever has this name: the same in every build, whatever else there is.

    Args:
        name: Of an identity, so that all that belongs to it stays together, or of a file.
        validation: Share that goes to ``validation``.
        test: Share that goes to ``test``.
    """
    place = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64
    if place < test:
        return "test"
    return "validation" if place < test + validation else "train"


def check_shares(validation: float, test: float) -> None:
    """Raises ConfigError unless the shares leave something for training."""
    if validation < 0 or test < 0 or validation + test >= 1:
        raise ConfigError(
            "validation and test are shares of the whole, not negative and less than 1 together; "
            f"got {validation} and {test}."
        )
