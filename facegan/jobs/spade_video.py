"""The whole of one job: a face video in another person's style, by the regions of the face."""

from __future__ import annotations

import dataclasses
import time
from typing import Any, ClassVar, Literal

from facegan import config as config_lib
from facegan.face.conditioning import require_colour
from facegan.face.parsing import ParserConfig
from facegan.jobs.video_job import VideoJobConfig, learn_face, plan_video_job, render_learnt
from facegan.progress import ProgressFactory, no_progress
from facegan.video.label_deflicker import LabelDeflickerConfig
from facegan.video.label_rules import load_rules

DEFAULT_PRESET = "spade_tiny"

# The source system's: what is behind a head is no part of its style.
SNOW = (255, 250, 250)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SpadeVideoConfig(VideoJobConfig):
    """What is to be made, beside what every such job has.

    Attributes:
        parser: What finds the regions of faces.
        background: (r, g, b) that the background is painted with, in what is learnt and in what is
            made; None learns the background too.
        labels: Steadies the regions over time.
        rules: File of rules that change the regions.
        deflicker: What steadies the pictures: as ``DeflickerConfig``'s ``method``.
        report: Page to write about the flicker, before and after; it takes a second render.
    """

    KIND: ClassVar[str] = "spade_video"

    preset: str = DEFAULT_PRESET
    parser: ParserConfig = dataclasses.field(default_factory=ParserConfig)
    background: tuple[int, int, int] | None = SNOW
    labels: LabelDeflickerConfig = dataclasses.field(default_factory=LabelDeflickerConfig)
    rules: str | None = None
    deflicker: Literal["off", "guarded", "motion"] = "motion"
    report: str | None = None

    def __post_init__(self) -> None:
        # Not super(): a dataclass with slots is another class than the one the name stood for.
        VideoJobConfig.__post_init__(self)
        if self.background is not None:
            require_colour("background", self.background)


def spade_video(
    config: SpadeVideoConfig,
    *,
    overwrite: bool = False,
    progress: ProgressFactory = no_progress,
) -> dict[str, Any]:
    """Learns what the regions of one face look like, and renders another video's regions so.

    As ``vid2vid``, with a map of the face's regions in place of a drawing of its landmarks: hair
    and clothes have their shape from the content video and their look from the style video. With
    ``retarget`` frames are bent to the learnt person's proportions before they are parsed.

    Args:
        config: What is to be made.
        overwrite: Replace an output that exists. What was learnt stays.
        progress: Opens the progress of a named stage.

    Returns:
        As ``vid2vid``; ``holdout`` has the segmentation scores too. With ``report`` also
        ``flicker``: figures before and after, and ``report``.

    Raises:
        FaceganError: A video, a setting or a folder cannot be used; nothing half-made stands under
            the output's name.
    """
    start_s = time.monotonic()
    plan_spade_video(config, overwrite=overwrite)
    background = "null" if config.background is None else str(list(config.background))
    learnt = learn_face(
        dataclasses.replace(
            config, overrides=(*config.overrides, f"conditioning.background={background}")
        ),
        parser=config.parser,
        progress=progress,
    )
    settings = {
        "labels": config_lib.encode(config.labels),
        "rules": config.rules,
        "deflicker": {"method": config.deflicker},
    }
    result = render_learnt(config, learnt, settings, overwrite=overwrite, progress=progress)
    if config.report is not None:
        from facegan.jobs.flicker import report_flicker_of_job

        result |= report_flicker_of_job(config, learnt, settings, progress=progress)
    return {**result, "seconds": round(time.monotonic() - start_s, 1)}


def plan_spade_video(config: SpadeVideoConfig, *, overwrite: bool = False) -> dict[str, Any]:
    """Checks a job's input and output, and describes what it would do.

    Raises:
        FaceganError: As ``spade_video`` would, as far as it shows without decoding.
    """
    plan = plan_video_job(config, overwrite=overwrite)
    if config.parser.bundle is not None:
        from facegan.bundle import read_manifest

        read_manifest(config.parser.bundle)
    if config.rules is not None:
        from facegan.face.labels import CELEBAMASK19

        load_rules(config.rules, CELEBAMASK19.labels)
    return {**plan, "parser": config_lib.encode(config.parser)}
