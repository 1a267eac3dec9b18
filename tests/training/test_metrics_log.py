import json

import numpy as np

from facegan import image as image_lib
from facegan.training.metrics_log import MetricsLog, read_log


def test_scalars_and_previews_land_in_the_run_folder(tmp_path):
    log = MetricsLog(tmp_path, 0)
    log.scalars(3, {"G/l1": 0.25})
    log.scalars(6, {"G/l1": 0.125})
    column = np.zeros((2, 8, 8, 3), np.float32)
    log.preview(6, "preview", [column - 1, column + 1])
    log.close()
    assert [(r["step"], r["G/l1"]) for r in read_log(tmp_path)] == [(3, 0.25), (6, 0.125)]
    grid = image_lib.read_image(tmp_path / "samples" / "preview-00000006.png")
    assert grid.shape == (18, 18, 3)
    assert grid[0, 0, 0] == 0
    assert grid[0, 12, 0] == 255
    assert list((tmp_path / "tensorboard").glob("events*"))


def test_a_resumed_run_logs_each_step_once(tmp_path):
    log = MetricsLog(tmp_path, 0)
    for step in (2, 4, 6):
        log.scalars(step, {"x": float(step)})
    log.close()
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 8, "x"')  # a kill in the middle of a line
    log = MetricsLog(tmp_path, 4)
    log.scalars(6, {"x": 60.0})
    log.close()
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["x"] for line in lines] == [2.0, 4.0, 60.0]


def test_no_log_is_an_empty_log(tmp_path):
    assert read_log(tmp_path) == []
