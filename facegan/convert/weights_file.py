"""The files of weights that converters write: checks of what goes in, and the writing."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from facegan.errors import CheckpointError

_MOST_LISTED = 6


def refuse_existing(output: pathlib.Path, *, overwrite: bool) -> None:
    """Raises CheckpointError if the output is there and may not be replaced."""
    if output.exists() and not overwrite:
        raise CheckpointError(f"{output} is there already. Allow overwriting, or name another.")


def find_problem(value: np.ndarray | None, shape: tuple[int, ...]) -> str:
    """Tells what keeps an array from being weights of a shape, "" for nothing."""
    if value is None:
        return "is missing"
    if value.shape != shape:
        return f"is {list(value.shape)}, not {list(shape)}"
    if value.dtype.kind != "f":
        return f"is {value.dtype}, not float"
    if not np.isfinite(value).all():
        return "has values that are not finite"
    return ""


def refuse_problems(path: str | os.PathLike[str], what: str, problems: Sequence[str]) -> None:
    """Raises CheckpointError if there are problems, with the first few of them.

    Args:
        path: The file that has them.
        what: What it was taken for.
        problems: Each begins with the name of an array.
    """
    if problems:
        left = len(problems) - _MOST_LISTED
        more = f"; and {left} more" if left > 0 else ""
        listed = "; ".join(problems[:_MOST_LISTED])
        raise CheckpointError(f"{path} is no {what}: {listed}{more}.")


def write_weights(output: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays as an ``.npz`` file, whole or not at all.

    Raises:
        CheckpointError: It cannot be written.
    """
    temporary = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        os.replace(temporary, output)
    except OSError as error:
        raise CheckpointError(f"Cannot write {output}: {error.strerror or error}.") from error
    finally:
        temporary.unlink(missing_ok=True)
