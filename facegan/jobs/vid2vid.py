"""The whole of one job: the person of one video says what another person says."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import time
from typing import Any, ClassVar

from facegan import config as config_lib
from facegan.errors import ConfigError, DataError, VideoError
from facegan.face.landmarks import DetectorConfig, make_detector
from facegan.progress import ProgressFactory, no_progress
from facegan.render.workspace import identify_file
from facegan.video.output import check_output, container_format
from facegan.video.reader import VideoReader, count_frames, probe_clip

DEFAULT_PRESET = "pix2pix_tiny"

# The renderer's tracker looks for new faces as often.
_LOOK_EVERY = 10


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Vid2VidConfig:
    """What is to be made.

    Attributes:
        style: Video of the person who is to be seen.
        content: Video of the person who speaks.
        output: The video to write.
        size: Height and width of what is learnt, in pixels, a power of two.
        steps: Training steps; None takes the preset's.
        preset: What is trained.
        overrides: Single values of it, such as ``"train.seed=1"``.
        holdout: Last part of the style video that is kept for measuring.
        max_frames: Most frames of the style video that are learnt from; None takes all.
        face: Which person of each video: "largest", or 0, 1, ... by size.
        detector: What finds the faces.
        retarget: Whether the speaker's landmarks are brought into the seen person's geometry.
        work_dir: Where dataset, run and bundle are kept; None takes ``<output>_work`` beside it.
    """

    KIND: ClassVar[str] = "vid2vid"

    style: str
    content: str
    output: str
    size: int = 128
    steps: int | None = None
    preset: str = DEFAULT_PRESET
    overrides: tuple[str, ...] = ()
    holdout: float = 0.0
    max_frames: int | None = 1000
    face: str | int = "largest"
    detector: DetectorConfig = DetectorConfig()
    retarget: bool = True
    work_dir: str | None = None

    def __post_init__(self) -> None:
        config_lib.require_power_of_two("size", self.size, 32, 1024)
        if self.steps is not None and self.steps < 1:
            raise ConfigError(f"steps must be at least 1, got {self.steps}.")
        if not 0 <= self.holdout <= 0.9:
            raise ConfigError(f"holdout must be in [0, 0.9], got {self.holdout}.")
        if self.face == "all":
            raise ConfigError('face must be one of each video: "largest", or a number; got "all".')

    @property
    def work_path(self) -> pathlib.Path:
        """The work folder."""
        if self.work_dir is not None:
            return pathlib.Path(self.work_dir)
        output = pathlib.Path(self.output)
        return output.with_name(f"{output.stem}_work")


def vid2vid(
    config: Vid2VidConfig,
    *,
    overwrite: bool = False,
    progress: ProgressFactory = no_progress,
) -> dict[str, Any]:
    """Learns a face from one video and renders it speaking as in another.

    Prepares the style video, trains, exports and renders. Every stage is kept in the work folder
    and found there again: a job that was stopped or killed goes on when it is called again, and
    another content video with the same ``work_dir`` is rendered without training.

    Args:
        config: What is to be made.
        overwrite: Replace an output that exists. What was learnt stays.
        progress: Opens the progress of a named stage.

    Returns:
        ``output``, ``side_by_side`` (content and result beside each other, with sound),
        ``frames``, ``fps``, ``audio``, ``bundle``, ``run_dir``, ``dataset_dir``, ``steps``,
        ``holdout`` (scores on the held-out part, None without one) and ``seconds``.

    Raises:
        FaceganError: A video, a setting or a folder cannot be used; nothing half-made stands under
            the output's name.
    """
    start_s = time.monotonic()
    plan_vid2vid(config, overwrite=overwrite)
    _check_content(config)
    # TensorFlow is not imported before the input is known to be good.
    settings = run_config(config)
    from facegan.datasets.user_video.user_video_dataset_builder import (
        UserVideoConfig,
        build_user_video,
    )
    from facegan.jobs.evaluate import evaluate_holdout
    from facegan.jobs.render import compare_path, render_job
    from facegan.jobs.run import train_run
    from facegan.render.pipeline import RenderConfig

    work = config.work_path
    _claim_work_folder(config)
    dataset = build_user_video(
        [config.style],
        config_lib.decode(
            UserVideoConfig,
            {
                # Twice the size that is learnt: what augmentation moves is reduced afterwards and
                # stays sharp.
                "size": min(2 * config.size, 1024),
                "max_frames": config.max_frames,
                "holdout": config.holdout,
                "clip": {
                    "detector": config_lib.encode(config.detector),
                    "select": config.face,
                },
            },
        ),
        work / "data",
        progress=progress,
    )
    run_dir = work / "run"
    run = train_run(
        settings,
        data_dir=dataset["dataset_dir"],
        run_dir=run_dir,
        resume=True,
        progress=progress,
    )
    bundle = _export(run_dir, work / "bundle", run["steps"], progress)
    holdout = evaluate_holdout(bundle, dataset["dataset_dir"]) if config.holdout else None
    output = pathlib.Path(config.output)
    rendered = render_job(
        bundle,
        config.content,
        output,
        config_lib.decode(
            RenderConfig,
            {
                "face": config.face,
                "detector": config_lib.encode(config.detector),
                "retarget": {"enabled": config.retarget},
            },
        ),
        compare=True,
        work_dir=work / "render",
        # What stands under the side-by-side name of an unfinished job is this job's own.
        overwrite=overwrite or not output.exists(),
        progress=progress,
    )
    return {
        "output": str(output),
        "side_by_side": str(compare_path(output)),
        "frames": rendered["frames"],
        "fps": rendered["fps"],
        "audio": rendered["audio"],
        "bundle": str(bundle),
        "run_dir": str(run_dir),
        "dataset_dir": dataset["dataset_dir"],
        "steps": run["steps"],
        "holdout": holdout,
        "seconds": round(time.monotonic() - start_s, 1),
    }


def plan_vid2vid(config: Vid2VidConfig, *, overwrite: bool = False) -> dict[str, Any]:
    """Checks a job's input and output, and describes what it would do.

    Raises:
        FaceganError: As ``vid2vid`` would, as far as it shows without decoding.
    """
    output = pathlib.Path(config.output)
    container_format(output)
    check_output(output, overwrite)
    clips = {}
    for name in ("style", "content"):
        path = getattr(config, name)
        info = probe_clip(path)
        if os.path.abspath(path) == os.path.abspath(output):
            raise ConfigError(f"The output {output} is the {name} video; give it another name.")
        clips[name] = {
            "file": str(path),
            "frames": info.num_frames,
            "fps": float(info.frame_rate),
            "width": info.width,
            "height": info.height,
            "audio": info.has_audio,
        }
    work = config.work_path
    if work.exists() and not work.is_dir():
        raise ConfigError(f"The work folder {work} is a file; name a folder with --work_dir.")
    return {**clips, "output": str(output), "work_dir": str(work), "preset": config.preset}


def run_config(config: Vid2VidConfig) -> Any:
    """The training run's config: the preset at the job's size and steps."""
    from facegan.jobs.run import load_config, override, with_size

    run = with_size(load_config(config.preset), config.size)
    assignments = list(config.overrides)
    if config.steps is not None:
        assignments.append(f"train.steps={config.steps}")
    return override(run, assignments) if assignments else run


def _check_content(config: Vid2VidConfig) -> None:
    """Refuses a content video that could not be rendered, before anything is learnt for it."""
    declared, found = probe_clip(config.content).num_frames, count_frames(config.content)
    if declared is not None and found < declared:
        raise VideoError(
            f"{config.content} is truncated or damaged: it declares {declared} frames and holds "
            f"{found}. Get a whole copy."
        )
    detector = make_detector(config.detector)
    with VideoReader(config.content) as reader:
        for frame in reader:
            if frame.index % _LOOK_EVERY == 0 and detector.detect(frame.image):
                return
    raise DataError(
        f"{config.content}: No face was found. Use a video in which a face is seen from the front, "
        "at least 40 pixels wide."
    )


def _claim_work_folder(config: Vid2VidConfig) -> None:
    """Refuses a work folder in which another face was learnt."""
    work = config.work_path
    learnt = {
        "version": 1,
        "style": identify_file(config.style),
        "size": config.size,
        "holdout": config.holdout,
        "max_frames": config.max_frames,
        "face": config.face,
        "detector": config_lib.encode(config.detector),
    }
    record = work / "job.json"
    if record.is_file():
        found = config_lib.read_json(record)
        changed = [name for name in learnt if found.get(name) != learnt[name]]
        if changed:
            raise ConfigError(
                f"The work folder {work} belongs to another job (differing: "
                f"{', '.join(changed)}). Name another --work_dir, or delete it."
            )
        return
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"Cannot make the work folder {work}: {error.strerror or error}."
        ) from error
    config_lib.write_json(record, learnt)


def _export(
    run_dir: pathlib.Path, bundle: pathlib.Path, steps: int, progress: ProgressFactory
) -> pathlib.Path:
    from facegan.bundle import read_manifest
    from facegan.errors import BundleError
    from facegan.jobs.export import export_run

    if bundle.exists():
        try:
            if read_manifest(bundle).training.get("steps") == steps:
                return bundle
        except BundleError:
            pass  # made by a killed or older run: it is written anew
    with progress("Export") as callback:
        callback(0, 1, "bundle")
        # The old bundle stays until the new one is whole.
        export_run(run_dir, bundle, overwrite=True)
        callback(1, 1, "bundle")
    return bundle
