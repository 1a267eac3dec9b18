import json
import pathlib

import numpy as np
import pytest

from facegan.errors import DataError
from facegan.jobs.check import check_and_report
from facegan.jobs.dataset import build_dataset
from facegan.preparation.image_folder import ImageFolderConfig
from facegan.preparation.workers import WorkersConfig
from tests.celebamask_layout import write_picture


@pytest.fixture
def dataset(tmp_path):
    for name, value in (("train/a/1.png", 50), ("train/a/2.png", 90), ("test/a/3.png", 50)):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_picture(path, np.full((32, 32, 3), value, np.uint8))
    build_dataset(
        tmp_path / "in",
        ImageFolderConfig(size=32),
        tmp_path / "data",
        workers=WorkersConfig(processes=0),
    )
    return tmp_path / "data"


def test_what_is_found_is_written_beside_the_records(dataset):
    result = check_and_report(dataset)
    assert pathlib.Path(result["page"]).read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    report = json.loads(pathlib.Path(result["report"]).read_text())
    assert report["ok"] == result["ok"] and report["problems"] == result["problems"]
    assert "train" in result["table"]
    # The same picture is in both splits.
    assert any("more than one split" in problem["what"] for problem in result["problems"])


def test_a_folder_without_a_dataset_is_refused(tmp_path):
    with pytest.raises(DataError, match="no prepared dataset"):
        check_and_report(tmp_path)
