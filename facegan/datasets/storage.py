"""Prepared datasets on disk: writing them through TFDS, and opening them again.

A prepared dataset is one folder that holds all there is to know about it: TFDS' record files and
``dataset_info.json``, and beside them ``report.json`` (what was taken, what was left out and why)
and whatever else the builder puts there. It is complete or absent: TFDS writes into a temporary
neighbour and renames it.
"""

import contextlib
import io
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from absl import logging

from facegan.config import read_json
from facegan.errors import DataError

REPORT_NAME = "report.json"
_INFO_NAME = "dataset_info.json"


def prepare_dataset(
    builder: tfds.core.DatasetBuilder,
    *,
    overwrite: bool = False,
    download_config: tfds.download.DownloadConfig | None = None,
) -> pathlib.Path:
    """Writes a builder's dataset, unless it is there already.

    Args:
        builder: The builder.
        overwrite: Make the dataset again where it is there.
        download_config: Where manual downloads are, and other matters of TFDS.

    Returns:
        The dataset's folder.

    Raises:
        DataError: The disk is full or may not be written.
    """
    config = download_config or tfds.download.DownloadConfig()
    if overwrite:
        config.download_mode = tfds.download.GenerateMode.REUSE_CACHE_IF_EXISTS
    try:
        with quiet_tfds():
            builder.download_and_prepare(download_config=config)
    except (OSError, RuntimeError, tf.errors.OpError) as error:
        # TFDS wraps what went wrong while writing into new exceptions.
        root: BaseException = error
        while root.__cause__ is not None:
            root = root.__cause__
        if not isinstance(root, OSError | tf.errors.OpError):
            raise
        reason = root.strerror if isinstance(root, OSError) else root.message
        raise DataError(
            f"The dataset {builder.data_dir} cannot be written: {reason or root}."
        ) from error
    return pathlib.Path(builder.data_dir)


@contextlib.contextmanager
def quiet_tfds() -> Iterator[None]:
    """Keeps back what TFDS says by the way.

    It writes sentences on stdout, which belongs to a tool's result, draws progress bars of its
    own, and warns about each builder config that is not one of its list. Builders of this library
    report their progress themselves.
    """
    bars = tfds.core.utils.tqdm_utils
    were_shown, verbosity = bars._active, logging.get_verbosity()
    tfds.disable_progress_bar()
    logging.set_verbosity(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        tfds.display_progress_bar(were_shown)
        logging.set_verbosity(verbosity)


def manual_folder(dl_manager: tfds.download.DownloadManager) -> pathlib.Path:
    """The folder into which the user put what cannot be downloaded.

    Raises:
        DataError: It is missing or empty.
    """
    try:
        return pathlib.Path(dl_manager.manual_dir)
    except AssertionError as error:
        # TFDS' way to tell the user something; its text holds the builder's instructions.
        raise DataError(" ".join(str(error).split())) from error


def open_dataset(dataset_dir: str | os.PathLike[str]) -> tfds.core.DatasetBuilder:
    """Opens the folder of a prepared dataset, whatever code made it.

    Raises:
        DataError: The folder holds no dataset.
    """
    if not (pathlib.Path(dataset_dir) / _INFO_NAME).is_file():
        raise DataError(
            f"{dataset_dir} holds no prepared dataset (no {_INFO_NAME}); make one with "
            "tools/build_dataset.py and name the folder that it prints."
        )
    return tfds.builder_from_directory(os.fspath(dataset_dir))


def read_report(dataset_dir: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads what a builder told about a prepared dataset."""
    return read_json(pathlib.Path(dataset_dir) / REPORT_NAME)


def list_left_out(reasons: Mapping[str, Iterable[int]], limit: int = 50) -> dict[str, Any]:
    """The part of a report that says which items were left out and why.

    Args:
        reasons: Numbers of the items (frames of a clip, pictures of a folder) by reason.
        limit: Ranges listed at most for each reason; the count is always of all.

    Returns:
        ``{reason: {"count": n, "ranges": [[first, last], ...]}}`` for reasons that occurred.
    """
    out = {}
    for reason, items in reasons.items():
        numbers = np.unique(np.fromiter(items, np.int64))
        if not len(numbers):
            continue
        pieces = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
        ranges = [[int(piece[0]), int(piece[-1])] for piece in pieces[:limit]]
        out[reason] = {"count": len(numbers), "ranges": ranges}
    return out
