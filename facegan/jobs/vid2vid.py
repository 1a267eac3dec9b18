"""The whole of one job: the person of one video says what another person says."""

from __future__ import annotations

import dataclasses
import time
from typing import Any, ClassVar

from facegan.jobs.video_job import VideoJobConfig, learn_face, plan_video_job, render_learnt
from facegan.progress import ProgressFactory, no_progress

DEFAULT_PRESET = "pix2pix_tiny"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Vid2VidConfig(VideoJobConfig):
    """What is to be made."""

    KIND: ClassVar[str] = "vid2vid"

    preset: str = DEFAULT_PRESET


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
    plan_video_job(config, overwrite=overwrite)
    learnt = learn_face(config, progress=progress)
    result = render_learnt(config, learnt, {}, overwrite=overwrite, progress=progress)
    return {**result, "seconds": round(time.monotonic() - start_s, 1)}
