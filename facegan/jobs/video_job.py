"""What every job has in common that learns a face from one video and renders another with it.

A job prepares the style video, trains, exports and renders. Every stage is kept in a work folder
and found there again, so a job that was stopped or killed goes on when it is called again, and
another content video with the same work folder is rendered without training.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from facegan import config as config_lib
from facegan.errors import ConfigError, DataError, VideoError
from facegan.face.landmarks import DetectorConfig, make_detector
from facegan.progress import ProgressFactory, no_progress
from facegan.render.workspace import identify_file
from facegan.video.output import check_output, container_format
from facegan.video.reader import VideoReader, count_frames, probe_clip

# The renderer's tracker looks for new faces as often.
_LOOK_EVERY = 10


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class VideoJobConfig:
    """What is to be made.

    Attributes:
        style: Video of the person who is to be seen.
        content: Video that is followed.
        output: The video to write.
        size: Height and width of what is learnt, in pixels, a power of two.
        steps: Training steps; None takes the preset's.
        preset: What is trained.
        overrides: Single values of it, such as ``"train.seed=1"``.
        holdout: Last part of the style video that is kept for measuring.
        max_frames: Most frames of the style video that are learnt from; None takes all.
        face: Which person of each video: "largest", or 0, 1, ... by size.
        detector: What finds the faces.
        retarget: Whether the face of the content video is brought into the proportions of the one
            that was learnt.
        work_dir: Where dataset, run and bundle are kept; None takes ``<output>_work`` beside it.
    """

    style: str
    content: str
    output: str
    size: int = 128
    steps: int | None = None
    preset: str
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


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Learnt:
    """What a job has when it has learnt a face.

    Attributes:
        dataset_dir: Folder of the dataset.
        run_dir: The run folder.
        bundle: Folder of the exported model.
        steps: Training steps.
        holdout: Scores on the held-out part, None without one.
    """

    dataset_dir: str
    run_dir: pathlib.Path
    bundle: pathlib.Path
    steps: int
    holdout: dict[str, Any] | None


def learn_face(
    config: VideoJobConfig, *, parser: Any = None, progress: ProgressFactory = no_progress
) -> Learnt:
    """Prepares the style video, trains and exports, as far as that is not done yet.

    Args:
        config: What is to be made.
        parser: A ``ParserConfig``: what finds the regions of faces, for a model that is shown them.
        progress: Opens the progress of a named stage.

    Raises:
        FaceganError: A video, a setting or a folder cannot be used.
    """
    check_followed(config.content, config.detector)
    # TensorFlow is not imported before the input is known to be good.
    settings = run_config(config, parser)
    from facegan.datasets.user_video.user_video_dataset_builder import (
        UserVideoConfig,
        build_user_video,
    )
    from facegan.jobs.evaluate import evaluate_holdout
    from facegan.jobs.run import train_run
    from facegan.render.engine import load_engine

    work = config.work_path
    _claim_work_folder(config, parser)
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
                "parser": None if parser is None else config_lib.encode(parser),
            },
        ),
        work / "data",
        progress=progress,
        load_engine=load_engine,
    )
    if parser is not None:
        settings = _with_substitutes(settings, dataset["dataset_dir"])
    run_dir = work / "run"
    run = train_run(
        settings,
        data_dir=dataset["dataset_dir"],
        run_dir=run_dir,
        resume=True,
        preset=config.preset,
        progress=progress,
    )
    bundle = export_once(run_dir, work / "bundle", run["steps"], progress)
    scores = evaluate_holdout(bundle, dataset["dataset_dir"]) if config.holdout else None
    return Learnt(
        dataset_dir=dataset["dataset_dir"],
        run_dir=run_dir,
        bundle=bundle,
        steps=run["steps"],
        holdout=scores,
    )


def render_learnt(
    config: VideoJobConfig,
    learnt: Learnt,
    settings: Mapping[str, Any],
    *,
    overwrite: bool = False,
    progress: ProgressFactory = no_progress,
) -> dict[str, Any]:
    """Renders the content video, and source and result side by side.

    Args:
        config: What is to be made.
        learnt: What ``learn_face`` gave.
        settings: Of the job's own in ``RenderConfig``, as JSON values.
        overwrite: Replace an output that exists.
        progress: Opens the progress of a named stage.

    Returns:
        ``output``, ``side_by_side``, ``frames``, ``fps``, ``audio``, ``bundle``, ``run_dir``,
        ``dataset_dir``, ``steps`` and ``holdout``.
    """
    from facegan.jobs.render import compare_path, render_job
    from facegan.render.pipeline import RenderConfig

    output = pathlib.Path(config.output)
    rendered = render_job(
        learnt.bundle,
        config.content,
        output,
        config_lib.decode(
            RenderConfig,
            {**common_settings(config), **settings},
        ),
        compare=True,
        work_dir=config.work_path / "render",
        # What stands under the side-by-side name of an unfinished job is this job's own.
        overwrite=overwrite or not output.exists(),
        progress=progress,
    )
    return {
        "output": str(output),
        "side_by_side": str(compare_path(output)),
        **{name: rendered[name] for name in ("frames", "fps", "audio")},
        "bundle": str(learnt.bundle),
        "run_dir": str(learnt.run_dir),
        "dataset_dir": learnt.dataset_dir,
        "steps": learnt.steps,
        "holdout": learnt.holdout,
    }


def common_settings(config: VideoJobConfig) -> dict[str, Any]:
    """What every job sets in ``RenderConfig``, as JSON values."""
    return {
        "face": config.face,
        "detector": config_lib.encode(config.detector),
        "retarget": {"enabled": config.retarget},
    }


def plan_video_job(config: VideoJobConfig, *, overwrite: bool = False) -> dict[str, Any]:
    """Checks a job's input and output, and describes what it would do.

    Raises:
        FaceganError: As the job would, as far as it shows without decoding.
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


def run_config(config: VideoJobConfig, parser: Any = None) -> Any:
    """The training run's config: the preset at the job's size and steps.

    Raises:
        ConfigError: The preset is shown something else than the job can make.
    """
    from facegan.face.conditioning import ConditioningConfig, LabelMapConditioningConfig
    from facegan.jobs.run import load_config, override, with_size

    run = with_size(load_config(config.preset), config.size)
    wanted: type = ConditioningConfig
    if parser is not None:
        wanted = LabelMapConditioningConfig
    if not isinstance(run.conditioning, wanted):
        raise ConfigError(
            f"The preset {config.preset!r} is shown {run.conditioning.KIND!r}; this job takes "
            f"presets that are shown {wanted.KIND!r}."  # type: ignore[attr-defined]
        )
    if parser is not None:
        conditioning = dataclasses.replace(run.conditioning, parser=parser)
        run = dataclasses.replace(run, conditioning=conditioning)
    assignments = list(config.overrides)
    if config.steps is not None:
        assignments.append(f"train.steps={config.steps}")
    return override(run, assignments) if assignments else run


def _with_substitutes(settings: Any, dataset_dir: str) -> Any:
    """A run's config that says what stands for labels of which the dataset has none."""
    from facegan.datasets.pipeline import read_records
    from facegan.face.label_maps import count_labels, find_substitutes
    from facegan.face.labels import find_schema
    from facegan.image import decode_picture

    frames_with, frames = np.zeros(256, np.int64), 0
    for record in read_records(dataset_dir, "train").as_numpy_iterator():
        frames_with += count_labels(decode_picture(record["label_map"])[..., 0].copy()) > 0
        frames += 1
    schema = find_schema(settings.conditioning.schema)
    substitutes = find_substitutes(frames_with, frames, schema)
    conditioning = dataclasses.replace(settings.conditioning, substitutes=substitutes)
    return dataclasses.replace(settings, conditioning=conditioning)


def check_followed(video: str, detection: DetectorConfig) -> None:
    """Refuses a video that could not be rendered, before anything is learnt for it."""
    declared, found = probe_clip(video).num_frames, count_frames(video)
    if declared is not None and found < declared:
        raise VideoError(
            f"{video} is truncated or damaged: it declares {declared} frames and holds {found}. "
            "Get a whole copy."
        )
    detector = make_detector(detection)
    with VideoReader(video) as reader:
        for frame in reader:
            if frame.index % _LOOK_EVERY == 0 and detector.detect(frame.image):
                return
    raise DataError(
        f"{video}: No face was found. Use a video in which a face is seen from the front, "
        "at least 40 pixels wide."
    )


def _claim_work_folder(config: VideoJobConfig, parser: Any) -> None:
    """Refuses a work folder in which another face was learnt."""
    learnt = {
        "version": 1,
        "style": identify_file(config.style),
        "size": config.size,
        "holdout": config.holdout,
        "max_frames": config.max_frames,
        "face": config.face,
        "detector": config_lib.encode(config.detector),
    }
    if parser is not None:
        learnt["parser"] = config_lib.encode(parser)
    claim_work_folder(config.work_path, learnt)


def claim_work_folder(work: pathlib.Path, learnt: Mapping[str, Any]) -> None:
    """Makes the work folder of a job, or finds that it is there for the same one.

    Args:
        work: The folder.
        learnt: All that what is kept in it follows from, as JSON values.

    Raises:
        ConfigError: It belongs to another job, or cannot be made.
    """
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


def export_once(
    run_dir: pathlib.Path, bundle: pathlib.Path, steps: int, progress: ProgressFactory
) -> pathlib.Path:
    """Exports a run's newest checkpoint, if its bundle is not there already."""
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
