"""Renders one video with a bundle, with a comparison beside it if wanted."""

from __future__ import annotations

import os
import pathlib
from typing import Any

from facegan import config as config_lib
from facegan.errors import ConfigError
from facegan.progress import ProgressFactory, no_progress
from facegan.render.opened import open_bundle
from facegan.render.pipeline import RenderConfig, render_video
from facegan.render.provenance import provenance_path, video_metadata
from facegan.video.output import check_output, container_format
from facegan.video.reader import probe_clip
from facegan.video.writer import join_clips


def render_job(
    bundle: str | os.PathLike[str],
    video: str | os.PathLike[str],
    output: str | os.PathLike[str],
    config: RenderConfig | None = None,
    *,
    compare: bool = False,
    work_dir: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    progress: ProgressFactory = no_progress,
) -> dict[str, Any]:
    """Renders a video as ``render_video`` does.

    Args:
        bundle: The exported model, or the address of a server that runs it.
        video: The clip whose face is taken.
        output: The video to write.
        config: How to render.
        compare: Also write source and result side by side, with the source's sound, under the
            output's name with ``_compare`` before the ending.
        work_dir: Where an interrupted render's work stays.
        overwrite: Replace outputs that exist.
        progress: Opens the progress of a named stage.

    Returns:
        What ``render_video`` returns, with ``compare`` (a path or None).

    Raises:
        FaceganError: As ``render_video``; nothing stands under the output's name then.
    """
    beside = compare_path(output) if compare else None
    if beside is not None:
        check_output(beside, overwrite)
    told = config is not None and config.provenance
    summary = render_video(
        bundle,
        video,
        output,
        config,
        work_dir=work_dir,
        overwrite=overwrite,
        progress=progress,
    )
    if beside is not None:
        # Beside each other, source and result are recorded and made parts of one frame.
        metadata = video_metadata(composite=True) if told else None
        join_clips([video, output], beside, overwrite=overwrite, metadata=metadata)
    return {**summary, "compare": None if beside is None else str(beside)}


def plan_render(
    bundle: str | os.PathLike[str],
    video: str | os.PathLike[str],
    output: str | os.PathLike[str],
    config: RenderConfig,
    *,
    compare: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Checks what ``render_job`` would be given, and describes what it would do.

    Raises:
        FaceganError: As ``render_job`` would, as far as it shows without decoding.
    """
    output = pathlib.Path(output)
    container_format(output)
    check_output(output, overwrite)
    if compare:
        check_output(compare_path(output), overwrite)
    if config.provenance:
        check_output(provenance_path(output), overwrite)
    opened = open_bundle(bundle, config.engine)
    side = opened.manifest.image_size
    info = probe_clip(video)
    if os.path.abspath(output) == os.path.abspath(video):
        raise ConfigError(f"The output {output} is the source video; give it another name.")
    full = config.output == "full_frame"
    return {
        **opened.describe(),
        "video": str(video),
        "frames": info.num_frames,
        "fps": float(info.frame_rate),
        "audio": info.has_audio,
        "output": str(output),
        "width": info.width if full else side,
        "height": info.height if full else side,
        "compare": str(compare_path(output)) if compare else None,
        "provenance": str(provenance_path(output)) if config.provenance else None,
        "config": config_lib.encode(config),
    }


def compare_path(output: str | os.PathLike[str]) -> pathlib.Path:
    """Where the side-by-side video of an output goes."""
    output = pathlib.Path(output)
    return output.with_name(f"{output.stem}_compare{output.suffix}")
