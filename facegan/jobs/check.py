"""Looks a prepared dataset over and writes down what was found, as one call."""

from __future__ import annotations

import os
from typing import Any

from facegan.config import write_json
from facegan.datasets.check_page import read_samples, write_page
from facegan.datasets.checking import check_dataset, format_table
from facegan.jobs.run import find_dataset
from facegan.progress import ProgressFactory, no_progress

REPORT_NAME = "check.json"
PAGE_NAME = "check.html"


def check_and_report(
    data_dir: str | os.PathLike[str], *, progress: ProgressFactory = no_progress
) -> dict[str, Any]:
    """Checks the one dataset at or below a folder.

    Args:
        data_dir: The dataset's folder, or one above it.
        progress: Shows the progress.

    Returns:
        ``ok``, ``problems``, ``dataset_dir``, ``table`` (text), and the paths of the JSON and HTML
        files that were written into the dataset's folder, ``report`` and ``page``.

    Raises:
        DataError: There is no dataset, or several, or the folder cannot be written.
    """
    folder = find_dataset(data_dir)
    result = check_dataset(folder, progress=progress)
    write_json(folder / REPORT_NAME, result)
    write_page(result, read_samples(folder, result), folder / PAGE_NAME)
    return {
        "ok": result["ok"],
        "problems": result["problems"],
        "dataset_dir": str(folder),
        "table": format_table(result),
        "report": str(folder / REPORT_NAME),
        "page": str(folder / PAGE_NAME),
    }
