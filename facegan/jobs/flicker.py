"""How much rendered videos flicker beside the video that they follow, as figures and as a page."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from facegan import config as config_lib
from facegan.errors import ConfigError
from facegan.evaluation.flicker import (
    FlickerReport,
    LandmarkMotion,
    measure_flicker,
    measure_landmark_motion,
)
from facegan.evaluation.report_page import LinePlot, PictureRow, Table, write_page
from facegan.face.align import extract_crop
from facegan.face.conditioning import (
    FIT_FACES,
    LabelMapConditioner,
    LabelMapConditioningConfig,
    LoadEngine,
)
from facegan.face.landmarks import DetectorConfig, make_detector
from facegan.face.parsing import ParserConfig
from facegan.jobs.video_job import common_settings
from facegan.preparation.face_clips import FaceClip, FaceClipConfig, open_face_clip, read_crops
from facegan.progress import ProgressFactory, no_progress
from facegan.video.label_deflicker import LabelDeflicker, LabelDeflickerConfig
from facegan.video.reader import VideoReader, probe_clip

_PICTURES = 6


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FlickerSource:
    """The video that others follow, and what is found in it.

    Attributes:
        video: The file.
        face: Which person: "largest", or 0, 1, ... by size.
        detector: What finds the faces.
        parser: What finds the regions; None leaves label churn out.
    """

    video: str | os.PathLike[str]
    face: str | int = "largest"
    detector: DetectorConfig = DetectorConfig()
    parser: ParserConfig | None = None


def report_flicker(
    source: FlickerSource,
    outputs: Mapping[str, str | os.PathLike[str]],
    page: str | os.PathLike[str] | None = None,
    *,
    steadied: Mapping[str, LabelDeflickerConfig] | None = None,
    load_engine: LoadEngine | None = None,
    progress: ProgressFactory = no_progress,
) -> dict[str, Any]:
    """Measures one or more renders of the same source.

    Args:
        source: The driving video.
        outputs: Rendered videos by name, such as "before" and "after"; generated squares, or full
            frames of the source's size.
        page: An HTML file to write.
        steadied: How the regions of an output were steadied, by its name; others were not.
        load_engine: Loads the bundle of a face parser, where the source names one.
        progress: Opens the progress of a named stage.

    Returns:
        By name ``flicker`` and the other figures of ``FlickerReport``, ``landmark_jitter``,
        ``source_landmark_jitter`` and ``follows`` of ``LandmarkMotion``; and ``report``.

    Raises:
        FaceganError: A video does not fit its source, or cannot be read.
    """
    with tempfile.TemporaryDirectory() as work:
        clip = open_face_clip(
            source.video,
            FaceClipConfig(detector=source.detector, select=source.face),
            work,
            progress=progress,
        )
        reports: dict[str, FlickerReport] = {}
        motions: dict[str, LandmarkMotion | None] = {}
        for name, output in outputs.items():
            labels = (steadied or {}).get(name, LabelDeflickerConfig(method="off"))
            view = _View(clip, output)
            maps = None
            if source.parser is not None and not view.is_full_frame:
                maps = _maps(view, source.parser, labels, load_engine)
            with progress(f"Measure {name}") as callback:
                frames = _counted(view.output_frames(), len(clip), callback)
                reports[name] = measure_flicker(view.source_frames(), frames, maps)
                motions[name] = _motion(view, source.detector)
        if page is not None:
            _write(page, clip, outputs, reports, motions)
    figures = {name: _figures(reports[name], motions[name]) for name in outputs}
    return {**figures, "report": None if page is None else str(page)}


def report_flicker_of_job(
    config: Any, learnt: Any, settings: Mapping[str, Any], progress: ProgressFactory = no_progress
) -> dict[str, Any]:
    """The flicker of a ``SpadeVideoConfig``'s job, without and with all that steadies it.

    Returns:
        ``flicker``: what ``report_flicker`` gives for "before" and "after"; ``report``.
    """
    from facegan.render.engine import load_engine
    from facegan.render.pipeline import RenderConfig, render_video

    before = config.work_path / "unsteadied.mp4"
    raw = {**settings, "labels": {"method": "off"}, "deflicker": {"method": "off"}}
    render_video(
        learnt.bundle,
        config.content,
        before,
        config_lib.decode(
            RenderConfig,
            {**common_settings(config), **raw},
        ),
        work_dir=config.work_path / "render",
        overwrite=True,
        progress=progress,
    )
    figures = report_flicker(
        FlickerSource(
            video=config.content,
            face=config.face,
            detector=config.detector,
            parser=config.parser,
        ),
        {"before": before, "after": config.output},
        config.report,
        steadied={"after": config.labels},
        load_engine=load_engine,
        progress=progress,
    )
    return {"report": figures.pop("report"), "flicker": figures}


class _View:
    """A source and an output, frame by frame, so that their faces lie over each other."""

    def __init__(self, clip: FaceClip, output: str | os.PathLike[str]) -> None:
        self.clip, self.output = clip, output
        info = probe_clip(output)
        self.is_full_frame = (info.width, info.height) == (clip.info.width, clip.info.height)
        if not self.is_full_frame and info.width != info.height:
            raise ConfigError(
                f"{output} is {info.width}x{info.height}: neither a square nor as large as "
                f"{clip.path} ({clip.info.width}x{clip.info.height}), so it is no render of it."
            )
        self.size = info.width

    def source_frames(self) -> Iterator[np.ndarray]:
        with VideoReader(self.clip.path) as reader:
            for frame in reader:
                yield frame.image if self.is_full_frame else self.crop(frame.image, frame.index)

    def output_frames(self) -> Iterator[np.ndarray]:
        with VideoReader(self.output) as reader:
            for frame in reader:
                yield frame.image

    def source_landmarks(self) -> np.ndarray:
        """[N, 68, 2] in pixels of the output."""
        if self.is_full_frame:
            return self.clip.landmarks_xy_px
        return self.clip.crop_landmarks(self.size)

    def crop(self, image: np.ndarray, index: int) -> np.ndarray:
        return extract_crop(image, self.clip.crops.crop_matrix(index, self.size), self.size)


def _maps(
    view: _View,
    parser: ParserConfig,
    labels: LabelDeflickerConfig,
    load_engine: LoadEngine | None,
) -> Iterator[np.ndarray]:
    """The regions that the generator was shown."""
    clip, size = view.clip, view.size
    conditioner = LabelMapConditioner(
        LabelMapConditioningConfig(size=size, parser=parser), load_engine
    )
    faces = list(read_crops(clip, clip.spread_faces(FIT_FACES), conditioner.crop_size))
    conditioner.fit([face.image for face in faces], [face.landmarks_xy_px for face in faces])

    def stream() -> Iterator[tuple[None, np.ndarray | None, np.ndarray]]:
        with VideoReader(clip.path) as reader:
            for frame in reader:
                guide = view.crop(frame.image, frame.index)
                if not np.isfinite(clip.landmarks_xy_px[frame.index]).all():
                    yield None, None, guide
                    continue
                side = conditioner.crop_size
                crop = extract_crop(frame.image, clip.crops.crop_matrix(frame.index, side), side)
                landmarks = clip.landmarks_in_crop(frame.index, side)
                yield None, conditioner(landmarks, crop)["label_map"], guide

    held = np.zeros((size, size), np.uint8)
    for _, label_map in LabelDeflicker(labels).filter(stream()):
        held = held if label_map is None else label_map
        yield held


def _counted(frames: Iterator[np.ndarray], total: int, callback: Any) -> Iterator[np.ndarray]:
    for number, frame in enumerate(frames):
        yield frame
        callback(number + 1, total, "frame")


def _motion(view: _View, detector: DetectorConfig) -> LandmarkMotion | None:
    """Landmarks are found in each output frame by itself: a tracker would steady them."""
    finder = make_detector(detector)
    paths = []
    for picture in view.output_frames():
        faces = finder.detect(picture)
        missing = np.full((68, 2), np.nan)
        paths.append(max(faces, key=lambda f: f.score).landmarks_xy_px if faces else missing)
    try:
        return measure_landmark_motion(view.source_landmarks(), np.stack(paths))
    except ConfigError:
        return None  # hardly a face can be found in it


def _figures(report: FlickerReport, motion: LandmarkMotion | None) -> dict[str, Any]:
    figures = config_lib.encode(report)
    figures.pop("series")
    return {
        **figures,
        "landmark_jitter": None if motion is None else motion.jitter,
        "source_landmark_jitter": None if motion is None else motion.source_jitter,
        "follows": None if motion is None else motion.follows,
    }


_ROWS = {
    "flicker": "flicker beyond the source's, codes",
    "warp_error": "change along the movement, codes",
    "source_warp_error": "the same of the source, codes",
    "motion_ratio": "motion beside the source's (1 is the same, 0 is frozen)",
    "label_churn": "share of pixels whose label changes",
    "landmark_jitter": "landmark jitter, eye distances",
    "source_landmark_jitter": "the same of the source",
    "follows": "landmarks follow the source's (correlation)",
    "judged": "share of pixels judged",
    "frames": "frames",
}


def _write(
    page: str | os.PathLike[str],
    clip: FaceClip,
    outputs: Mapping[str, str | os.PathLike[str]],
    reports: Mapping[str, FlickerReport],
    motions: Mapping[str, LandmarkMotion | None],
) -> None:
    figures = {name: _figures(reports[name], motions[name]) for name in outputs}
    table = Table(
        heading="Means",
        columns=["", *outputs],
        rows=[[text, *(figures[name][key] for name in outputs)] for key, text in _ROWS.items()],
        note="Movement is measured on the source. A video that stands still while its source moves "
        "flickers by these figures: what should move and does not counts as a change.",
    )
    sections: list[Table | LinePlot | PictureRow] = [table]
    for key, y_label in (("flicker", "codes"), ("label_churn", "share of pixels")):
        series = {n: r.series[key] for n, r in reports.items() if key in r.series}
        if series:
            sections.append(
                LinePlot(
                    heading=_ROWS[key].capitalize(),
                    series=series,
                    x_label="frame",
                    y_label=y_label,
                )
            )
    for name in outputs:
        view = _View(clip, outputs[name])
        wanted = np.linspace(0, len(clip) - 1, _PICTURES).astype(int)
        pictures = [
            (f"frame {index}", np.concatenate(pair, axis=1))
            for index, pair in enumerate(
                zip(view.source_frames(), view.output_frames(), strict=False)
            )
            if index in wanted
        ]
        sections.append(PictureRow(heading=f"Source and {name}", pictures=pictures))
    write_page(page, f"Flicker of {pathlib.Path(clip.path).name}", sections)
