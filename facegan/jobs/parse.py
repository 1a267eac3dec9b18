"""The regions of a face over a video: to look at before anything is learnt from them."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from facegan.errors import ConfigError
from facegan.face.align import extract_crop
from facegan.face.conditioning import FIT_FACES, LabelMapConditioner, LabelMapConditioningConfig
from facegan.face.labels import Palette, find_schema, schema_colours
from facegan.face.landmarks import DetectorConfig
from facegan.face.parsing import ParserConfig, overlay_labels
from facegan.image import encode_labels, resize
from facegan.preparation.face_clips import FaceClip, FaceClipConfig, open_face_clip, read_crops
from facegan.progress import ProgressFactory, no_progress
from facegan.video.frames import Frame
from facegan.video.label_deflicker import LabelDeflicker, LabelDeflickerConfig
from facegan.video.label_rules import load_rules
from facegan.video.output import check_output, container_format
from facegan.video.reader import VideoReader, probe_clip
from facegan.video.writer import VideoWriter


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ParseConfig:
    """How a video is parsed.

    Attributes:
        parser: What finds the regions.
        labels: Steadies them over time.
        rules: File of rules that change them.
        size: Height and width of the overlay, a power of two.
        opacity: Of the colours over the picture, 0 to 1.
        face: Which person: "largest", or 0, 1, ... by size.
        detector: What finds the faces.
        schema: Name of the schema that the regions are shown in.
    """

    KIND: ClassVar[str] = "parse"

    parser: ParserConfig = dataclasses.field(default_factory=ParserConfig)
    labels: LabelDeflickerConfig = dataclasses.field(default_factory=LabelDeflickerConfig)
    rules: str | None = None
    size: int = 256
    opacity: float = 0.5
    face: str | int = "largest"
    detector: DetectorConfig = DetectorConfig()
    schema: str = "celebamask19"

    def __post_init__(self) -> None:
        if not 0 <= self.opacity <= 1:
            raise ConfigError(f"opacity must be from 0 to 1, got {self.opacity}.")


def parse_video(
    video: str | os.PathLike[str],
    output: str | os.PathLike[str],
    config: ParseConfig | None = None,
    *,
    labels_dir: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    progress: ProgressFactory = no_progress,
) -> dict[str, Any]:
    """Writes a video of a face with its regions in colour, with the source's frames and sound.

    Args:
        video: The clip.
        output: The video to write.
        config: How to parse.
        labels_dir: A folder for the maps themselves, a PNG of ids a frame with a face; it must be
            empty or not there.
        overwrite: Replace an output that exists.
        progress: Opens the progress of a named stage.

    Returns:
        ``output``, ``frames``, ``parsed`` (frames with a face), ``churn`` (mean share of pixels
        whose label differs from that of the frame before) and ``shares`` (of all pixels, by label).

    Raises:
        FaceganError: The video or a setting cannot be used; nothing half-made stands under the
            output's name.
    """
    from facegan.render.engine import load_engine

    config = config or ParseConfig()
    output = pathlib.Path(output)
    container_format(output)
    check_output(output, overwrite)
    folder = _make_labels_dir(labels_dir)
    schema = find_schema(config.schema)
    conditioner = LabelMapConditioner(
        LabelMapConditioningConfig(size=config.size, schema=config.schema, parser=config.parser),
        load_engine,
    )
    rules = None if config.rules is None else load_rules(config.rules, schema.labels)
    info = probe_clip(video)
    palette = Palette(name="shown", schema=schema, colours=schema_colours(schema))
    with tempfile.TemporaryDirectory() as work:
        clip = open_face_clip(
            video,
            FaceClipConfig(detector=config.detector, select=config.face),
            work,
            progress=progress,
        )
        _fit(conditioner, clip)

        def stream(reader: VideoReader) -> Iterator[tuple[tuple[Frame, np.ndarray], Any, Any]]:
            for frame in reader:
                crop = _crop(clip, frame, conditioner.crop_size)
                shown = resize(crop, config.size, config.size)
                label_map = None
                if np.isfinite(clip.landmarks_xy_px[frame.index]).all():
                    landmarks = clip.landmarks_in_crop(frame.index, conditioner.crop_size)
                    label_map = conditioner(landmarks, crop)["label_map"]
                    if rules is not None:
                        label_map = rules.apply(label_map, frame.index)
                yield (frame, shown), label_map, shown

        counts = np.zeros(schema.num_labels, np.int64)
        changed: list[float] = []
        before: np.ndarray | None = None
        parsed = 0
        with (
            VideoReader(video) as reader,
            VideoWriter(
                output,
                width=config.size,
                height=config.size,
                frame_rate=info.frame_rate,
                time_base=info.time_base,
                audio_from=video if info.has_audio else None,
                overwrite=overwrite,
            ) as writer,
            progress("Parse") as report,
        ):
            report(0, info.num_frames, "frame")
            for (frame, shown), label_map in LabelDeflicker(config.labels).filter(stream(reader)):
                picture = shown
                if label_map is not None:
                    picture = overlay_labels(shown, label_map, palette, config.opacity)
                    counts += np.bincount(label_map.ravel(), minlength=schema.num_labels)
                    parsed += 1
                    if before is not None:
                        changed.append(float(np.mean(label_map != before)))
                    if folder is not None:
                        name = f"{frame.index:06d}.png"
                        (folder / name).write_bytes(encode_labels(label_map))
                before = label_map
                writer.write(picture, frame.pts)
                report(frame.index + 1, info.num_frames, "frame")
    return {
        "output": str(output),
        "frames": len(clip),
        "parsed": parsed,
        "churn": float(np.mean(changed)) if changed else None,
        "shares": {
            name: round(float(count / max(counts.sum(), 1)), 6)
            for name, count in zip(schema.labels, counts, strict=True)
        },
        "labels_dir": None if folder is None else str(folder),
    }


def _make_labels_dir(path: str | os.PathLike[str] | None) -> pathlib.Path | None:
    if path is None:
        return None
    folder = pathlib.Path(path)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"The folder of label maps {folder} is not empty; name another.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"Cannot make the folder {folder}: {error.strerror or error}.") from error
    return folder


def _fit(conditioner: LabelMapConditioner, clip: FaceClip) -> None:
    spread = clip.spread_faces(FIT_FACES)
    faces = list(read_crops(clip, spread, conditioner.crop_size))
    conditioner.fit([face.image for face in faces], [face.landmarks_xy_px for face in faces])


def _crop(clip: FaceClip, frame: Frame, size_px: int) -> np.ndarray:
    return extract_crop(frame.image, clip.crops.crop_matrix(frame.index, size_px), size_px)
