"""The main job on embedded input: Grace Hopper says what Eileen Collins says."""

from __future__ import annotations

import dataclasses
import math
import os
import pathlib
import shutil
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from facegan import config as config_lib
from facegan.errors import ConfigError
from facegan.image import make_grid, write_image
from facegan.jobs.vid2vid import Vid2VidConfig, vid2vid
from facegan.progress import ProgressFactory, no_progress
from facegan.samples import SampleName, write_sample_clip
from facegan.video.reader import VideoReader, count_frames
from facegan.video.writer import write_gif

_STYLE: SampleName = "hopper"
_CONTENT: SampleName = "collins"
_SHEET_COLUMNS = 8
_GIF_FPS = 12.5
_GIF_WIDTH_PX = 320
_RESULTS = ("output", "side_by_side", "gif", "contact_sheet", "bundle")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class DemoConfig:
    """What the demo makes.

    Attributes:
        size: Height and width of the generated video.
        steps: Training steps; None takes the preset's.
        duration_s: Length of both clips.
        fps: Their frames per second.
    """

    size: int = 128
    steps: int | None = None
    duration_s: float = 10.0
    fps: int = 25

    def __post_init__(self) -> None:
        config_lib.require_power_of_two("size", self.size, 64, 512)
        if self.steps is not None and self.steps < 1:
            raise ConfigError(f"steps must be at least 1, got {self.steps}.")


def demo(
    output_dir: str | os.PathLike[str],
    config: DemoConfig | None = None,
    *,
    overwrite: bool = False,
    progress: ProgressFactory = no_progress,
) -> dict[str, Any]:
    """Animates both portraits, learns one of them, and renders her saying the other's words.

    A demo that was stopped goes on when it is called again; a finished one is not done twice.

    Args:
        output_dir: Folder for everything.
        config: What to make.
        overwrite: Start anew, without what an earlier demo left in the folder.
        progress: Shows the progress.

    Returns:
        What ``vid2vid`` returns, with ``style``, ``content``, ``gif`` and ``contact_sheet``.

    Raises:
        FaceganError: A package is missing, or the folder is somebody else's or cannot be written.
    """
    start_s = time.monotonic()
    config = config or DemoConfig()
    plan = plan_demo(output_dir, config)
    record = _claim_folder(plan, overwrite)
    if record.get("result") and all(os.path.exists(record["result"][name]) for name in _RESULTS):
        return record["result"]
    _write_clips({_STYLE: plan["style"], _CONTENT: plan["content"]}, config, progress)
    result = vid2vid(
        Vid2VidConfig(
            style=plan["style"],
            content=plan["content"],
            output=plan["output"],
            size=config.size,
            steps=config.steps,
            work_dir=plan["work_dir"],
        ),
        overwrite=True,
        progress=progress,
    )
    with progress("Pictures") as callback:
        callback(0, 2, "file")
        _write_gif(result["side_by_side"], plan["gif"])
        callback(1, 2, "file")
        sheet = make_contact_sheet([plan["content"], result["output"]], config.size)
        write_image(plan["contact_sheet"], sheet)
        callback(2, 2, "file")
    extra = {name: plan[name] for name in ("style", "content", "gif", "contact_sheet")}
    result = {**result, **extra, "seconds": round(time.monotonic() - start_s, 1)}
    config_lib.write_json(plan["record"], {"config": plan["config"], "result": result})
    return result


def plan_demo(output_dir: str | os.PathLike[str], config: DemoConfig) -> dict[str, Any]:
    """The files that the demo writes, and its settings."""
    names = {
        "record": "demo.json",
        "style": f"{_STYLE}.mp4",
        "content": f"{_CONTENT}.mp4",
        "output": f"{_STYLE}_says_{_CONTENT}.mp4",
        "gif": f"{_STYLE}_says_{_CONTENT}.gif",
        "contact_sheet": "contact_sheet.png",
        "work_dir": "work",
    }
    paths = {key: os.path.join(output_dir, name) for key, name in names.items()}
    return {**paths, "config": config_lib.encode(config)}


def _write_clips(
    paths: dict[SampleName, str], config: DemoConfig, progress: ProgressFactory
) -> None:
    # A clip gets its name when it is whole, so one that is there need not be made again.
    missing = {name: path for name, path in paths.items() if not os.path.exists(path)}
    if not missing:
        return
    with progress("Animate portraits") as callback:
        callback(0, len(missing), "clip")
        for done, (name, path) in enumerate(missing.items(), 1):
            write_sample_clip(name, path, duration_s=config.duration_s, fps=config.fps)
            callback(done, len(missing), "clip")


def _claim_folder(plan: dict[str, Any], overwrite: bool) -> dict[str, Any]:
    """Makes the folder this demo's own; returns what it records of an earlier call."""
    folder = pathlib.Path(plan["record"]).parent
    advice = "Add --overwrite to start anew, or name another --output_dir."
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if overwrite:
            _remove_demo(plan)
        if os.path.exists(plan["record"]):
            record = config_lib.read_json(plan["record"])
            if record.get("config") == plan["config"]:
                return record
            raise ConfigError(f"{folder} holds a demo with other settings. {advice}")
        if not overwrite and any(folder.iterdir()):
            raise ConfigError(f"The folder {folder} is not empty and holds no demo. {advice}")
    except OSError as error:
        raise ConfigError(f"Cannot use the folder {folder}: {error.strerror}.") from error
    record = {"config": plan["config"], "result": None}
    config_lib.write_json(plan["record"], record)
    return record


def _remove_demo(plan: dict[str, Any]) -> None:
    # By name: the folder may hold what is not ours.
    for name in ("record", "style", "content", "output", "gif", "contact_sheet"):
        pathlib.Path(plan[name]).unlink(missing_ok=True)
    if os.path.isdir(plan["work_dir"]):
        shutil.rmtree(plan["work_dir"])


def make_contact_sheet(videos: list[str], size: int, columns: int = _SHEET_COLUMNS) -> np.ndarray:
    """Shows videos of one length above each other at the same moments.

    Args:
        videos: Video files; each becomes a row.
        size: Height and width of a picture, in pixels.
        columns: Number of moments, spread evenly.

    Returns:
        One picture [H, W, 3] uint8.
    """
    rows = []
    for video in videos:
        count = count_frames(video)
        # The middles of equal parts of the video.
        wanted = {math.floor((i + 0.5) * count / columns) for i in range(columns)}
        with VideoReader(video, size_hw=(size, size)) as reader:
            rows.append([frame.image for frame in reader if frame.index in wanted])
    return make_grid(rows)


def _write_gif(video: str, path: str) -> None:
    with VideoReader(video) as reader:
        step = max(round(float(reader.info.frame_rate) / _GIF_FPS), 1)

        def images() -> Iterator[np.ndarray]:
            for frame in reader:
                if frame.index % step == 0:
                    yield frame.image

        fps = float(reader.info.frame_rate) / step
        write_gif(path, images(), fps, max_width_px=_GIF_WIDTH_PX, overwrite=True)
