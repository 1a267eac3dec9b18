"""A run's record: ``log.jsonl`` for programs, TensorBoard and preview pictures for people."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from facegan import image as image_lib


class MetricsLog:
    """Appends a run's scalars and preview grids.

    Args:
        run_dir: The run folder.
        start_step: Lines of later steps are dropped first: the steps after the checkpoint that a
            killed run goes on from are run, and logged, again.
    """

    def __init__(self, run_dir: str | os.PathLike[str], start_step: int):
        self._dir = pathlib.Path(run_dir)
        (self._dir / "samples").mkdir(parents=True, exist_ok=True)
        self._path = self._dir / "log.jsonl"
        _drop_lines_after(self._path, start_step)
        self._file = self._path.open("a", encoding="utf-8")
        self._writer = tf.summary.create_file_writer(str(self._dir / "tensorboard"))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Logs named numbers at a step."""
        record = {"step": step, **{k: float(f"{v:.7g}") for k, v in values.items()}}
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()
        with self._writer.as_default(step=step):
            for name, value in values.items():
                tf.summary.scalar(name, value)

    def preview(self, step: int, name: str, columns: Sequence[np.ndarray]) -> None:
        """Writes columns of [B, H, W, 3] images in [-1, 1] as one grid, an example a row."""
        pictures = [image_lib.to_uint8(column) for column in columns]
        grid = image_lib.make_grid(list(zip(*pictures, strict=True)))
        image_lib.write_image(self._dir / "samples" / f"{name}-{step:08d}.png", grid)
        with self._writer.as_default(step=step):
            tf.summary.image(name, grid[None])

    def close(self) -> None:
        """Writes out what is buffered."""
        self._file.close()
        self._writer.close()


def read_log(run_dir: str | os.PathLike[str]) -> list[dict[str, float]]:
    """The records of ``log.jsonl``, a half-written last line left out."""
    path = pathlib.Path(run_dir) / "log.jsonl"
    if not path.is_file():
        return []
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return records


def _drop_lines_after(path: pathlib.Path, step: int) -> None:
    if not path.is_file():
        return
    kept = [record for record in read_log(path.parent) if record["step"] <= step]
    temporary = path.with_name(".log.jsonl.tmp")
    temporary.write_text("".join(json.dumps(record) + "\n" for record in kept), encoding="utf-8")
    os.replace(temporary, path)
