"""The whole of one job: a person of a few pictures moves as another does in a video."""

from __future__ import annotations

import dataclasses
import logging
import os
import pathlib
import time
from typing import Any, ClassVar

from facegan import config as config_lib
from facegan.errors import BundleError, ConfigError
from facegan.face.landmarks import DetectorConfig
from facegan.jobs.finetune import META_KIND, FinetuneConfig, finetune
from facegan.jobs.video_job import check_followed, claim_work_folder, export_once
from facegan.progress import ProgressFactory, no_progress
from facegan.video.output import check_output, container_format
from facegan.video.reader import probe_clip

DEFAULT_PRESET = "talking_head_tiny"
# Updates from untrained weights, where there is no meta-learned run to start from.
_UNTRAINED_STEPS = 600


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ReenactConfig:
    """What is to be made.

    Attributes:
        portraits: Pictures of the person who is to be seen.
        driving: Video that is followed.
        output: The video to write.
        run_dir: A meta-learned run to fine-tune; or
        bundle: its exported bundle, which paints anybody without learning; or
        preset: what is learnt from untrained weights, on the portraits alone.
        steps: Updates on the portraits; 0 takes a run as it is. None leaves it to the job.
        overrides: Single values of the fine-tuning run's config.
        retarget: Whether landmarks are brought into the person's proportions.
        face: Which person of the video: "largest", or 0, 1, ... by size.
        detector: What finds the faces.
        work_dir: Where all work is kept; None takes ``<output>_work`` beside the output.
    """

    KIND: ClassVar[str] = "reenact"

    portraits: tuple[str, ...]
    driving: str
    output: str
    run_dir: str | None = None
    bundle: str | None = None
    preset: str | None = None
    steps: int | None = None
    overrides: tuple[str, ...] = ()
    retarget: bool = True
    face: str | int = "largest"
    detector: DetectorConfig = DetectorConfig()
    work_dir: str | None = None

    def __post_init__(self) -> None:
        if not self.portraits:
            raise ConfigError("portraits must name at least one picture, got none.")
        named = [n for n in ("run_dir", "bundle", "preset") if getattr(self, n) is not None]
        if len(named) != 1:
            raise ConfigError(
                "Name one of run_dir, bundle and preset: what the person is painted with; got "
                f"{', '.join(named) or 'none'}."
            )
        if self.steps is not None and self.steps < 0:
            raise ConfigError(f"steps must be at least 0, got {self.steps}.")
        if self.bundle is not None and self.steps:
            raise ConfigError("A bundle cannot learn; leave steps out, or name its run_dir.")
        if self.preset is not None and self.steps == 0:
            raise ConfigError("A preset has learnt nothing yet; steps must be at least 1.")

    @property
    def work_path(self) -> pathlib.Path:
        """The work folder."""
        if self.work_dir is not None:
            return pathlib.Path(self.work_dir)
        output = pathlib.Path(self.output)
        return output.with_name(f"{output.stem}_work")


def reenact(
    config: ReenactConfig,
    *,
    overwrite: bool = False,
    progress: ProgressFactory = no_progress,
) -> dict[str, Any]:
    """Paints the person of some pictures as a video moves, with its sound.

    Fine-tunes, exports and renders, as far as that is not done yet: a job that was stopped or
    killed goes on when it is called again.

    Args:
        config: What is to be made.
        overwrite: Replace an output that exists. What was learnt stays.
        progress: Opens the progress of a named stage.

    Returns:
        ``output``, ``side_by_side``, ``frames``, ``fps``, ``audio``, ``bundle``, ``steps`` (of
        fine-tuning), ``untrained`` (whether it began with untrained weights) and ``seconds``.

    Raises:
        FaceganError: A picture, video, setting or folder cannot be used; nothing half-made stands
            under the output's name.
    """
    start_s = time.monotonic()
    plan_reenact(config, overwrite=overwrite)
    check_followed(config.driving, config.detector)
    bundle, steps, portraits = _prepare(config, progress)
    from facegan.jobs.render import compare_path, render_job
    from facegan.render.pipeline import RenderConfig

    output = pathlib.Path(config.output)
    settings = {
        "face": config.face,
        "detector": config_lib.encode(config.detector),
        "retarget": {"enabled": config.retarget},
        "portraits": list(portraits),
    }
    rendered = render_job(
        bundle,
        config.driving,
        output,
        config_lib.decode(RenderConfig, settings),
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
        "bundle": str(bundle),
        "steps": steps,
        "untrained": config.preset is not None,
        "seconds": round(time.monotonic() - start_s, 1),
    }


def plan_reenact(config: ReenactConfig, *, overwrite: bool = False) -> dict[str, Any]:
    """Checks a job's input and output, and describes what it would do.

    Raises:
        FaceganError: As ``reenact`` would, as far as it shows without decoding.
    """
    output = pathlib.Path(config.output)
    container_format(output)
    check_output(output, overwrite)
    info = probe_clip(config.driving)
    if os.path.abspath(config.driving) == os.path.abspath(output):
        raise ConfigError(f"The output {output} is the driving video; give it another name.")
    for path in config.portraits:
        if not pathlib.Path(path).is_file():
            raise ConfigError(f"The portrait {path} does not exist.")
    if config.bundle is not None:
        from facegan.bundle import read_manifest

        manifest = read_manifest(config.bundle)
        if manifest.model != META_KIND:
            raise BundleError(
                f"{config.bundle} is a {manifest.model!r} bundle; this job takes those of "
                f"{META_KIND!r}. A person's own bundle is rendered with tools/render_video.py."
            )
    if config.work_path.exists() and not config.work_path.is_dir():
        raise ConfigError(
            f"The work folder {config.work_path} is a file; name a folder with --work_dir."
        )
    return {
        "portraits": list(config.portraits),
        "driving": config.driving,
        "frames": info.num_frames,
        "output": str(output),
        "with": config.run_dir or config.bundle or config.preset,
        "untrained": config.preset is not None,
        "work_dir": str(config.work_path),
    }


def _prepare(
    config: ReenactConfig, progress: ProgressFactory
) -> tuple[pathlib.Path, int, tuple[str, ...]]:
    """The bundle to render with, its steps of fine-tuning, and the portraits that it wants."""
    from facegan.jobs.run import begin_run, load_config
    from facegan.render.workspace import identify_file
    from facegan.training.checkpoint import list_checkpoints

    if config.bundle is not None:
        return pathlib.Path(config.bundle), 0, config.portraits
    work = config.work_path
    claim_work_folder(
        work,
        {
            "version": 1,
            "portraits": [identify_file(path) for path in config.portraits],
            "detector": config_lib.encode(config.detector),
            "from": config.run_dir or config.preset,
            "steps": config.steps,
            "overrides": list(config.overrides),
        },
    )
    meta, steps = config.run_dir, config.steps
    if config.preset is not None:
        run = load_config(config.preset)
        if run.kind != META_KIND:
            raise ConfigError(
                f"The preset {config.preset!r} is a {run.kind!r}; this job takes presets of "
                f"{META_KIND!r}, such as {DEFAULT_PRESET!r}."
            )
        logging.getLogger("facegan").warning(
            "Starting from untrained weights of %s: there is no meta-learned run. With one "
            "(run_dir) the result is better and takes fewer steps.",
            config.preset,
        )
        steps = steps or _UNTRAINED_STEPS
        meta = str(begin_run(run, work / "untrained"))
    if meta is None:
        raise ConfigError("There is nothing to start from.")
    if steps == 0:
        newest = list_checkpoints(pathlib.Path(meta) / "checkpoints")
        done = newest[-1].step if newest else 0
        bundle = export_once(pathlib.Path(meta), work / "bundle", done, progress)
        return bundle, 0, config.portraits
    tuned = finetune(
        FinetuneConfig(
            run_dir=meta,
            images=config.portraits,
            steps=steps,
            overrides=config.overrides,
            detector=config.detector,
        ),
        work / "run",
        resume=True,
        progress=progress,
    )
    bundle = export_once(work / "run", work / "bundle", tuned["steps"], progress)
    return bundle, tuned["steps"], ()
