"""Weights of fixed networks, from the files that ``tools/convert_weights.py`` writes."""

import contextlib
import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping

import numpy as np

from facegan.errors import CheckpointError


@contextlib.contextmanager
def stored_arrays(
    path: str | os.PathLike[str], network: str, advice: str
) -> Iterator[Mapping[str, np.ndarray]]:
    """Opens an ``.npz`` file, and says what is wrong with it whatever is done with its arrays.

    Args:
        path: The file.
        network: Whose weights are wanted, for the message.
        advice: What to do if they are not there: a sentence.

    Raises:
        CheckpointError: It is no such file, it is damaged, or it lacks an array or has one of
            another shape.
    """
    try:
        # Opened here, because NumPy leaves a file open that it cannot read.
        with open(path, "rb") as file:
            found = np.load(file, allow_pickle=False)
            if not isinstance(found, Mapping):
                raise ValueError("it holds one array without a name")
            yield found
    # What is raised for a file that is cut, changed, of another kind, or of other names or shapes.
    except (
        *(OSError, ValueError, KeyError, IndexError, EOFError),
        *(zipfile.BadZipFile, zlib.error),
    ) as error:
        raise CheckpointError(
            f"Cannot read {network} weights from {path}: {error}. {advice}"
        ) from error
