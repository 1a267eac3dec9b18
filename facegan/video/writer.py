"""Encoding video files frame by frame.

Files are H.264 in yuv420p without B-frames, so a packet's decoding time is its presentation time
and the stamps given to ``write`` are the stamps in the file. MP4 and MOV keep them exactly;
Matroska counts in milliseconds and rounds to them. A file stands under its name only when it is
whole: it grows as a hidden neighbour and is renamed at the end.
"""

from __future__ import annotations

import itertools
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from types import TracebackType
from typing import Any

import av
import numpy as np
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter

from facegan import config
from facegan.errors import ConfigError, VideoError
from facegan.image import resize
from facegan.video.frames import Frame
from facegan.video.output import MAX_TIMESCALE, OutputFile, check_output, container_format
from facegan.video.reader import (
    ACCURATE_RND,
    VideoReader,
    default_colorspace,
    open_container,
    reason,
)

PRESETS = (
    *("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower"),
    "veryslow",
)
MAX_SIDE_PX = 16384

# Values of the H.264 colour fields: BT.709 primaries and transfer (what screens assume), and the
# two matrices.
_PRIMARIES_709, _TRANSFER_709, _MATRIX_709, _MATRIX_601 = 1, 1, 1, 6
_LIMITED_RANGE = 1


class VideoWriter:
    """Writes frames as H.264 into an MP4, MOV or MKV file; a ``FrameSink``.

    In a ``with`` block the file is finished at the end and removed when an exception leaves the
    block. H.264 in yuv420p has even sides only: for an odd width or height the last column or row
    is written twice, and ``padded`` is true.

    Sound is copied packet by packet where the container takes its codec, else encoded to AAC
    (``audio`` tells which). It keeps its own start and ends with the picture (in MKV to half a
    packet, as its readers know no shorter ones).

    Args:
        path: The file; its ending (.mp4, .m4v, .mov, .mkv) names the container.
        width: Width of the frames to come, in pixels.
        height: Height of the frames to come, in pixels.
        frame_rate: Frames per second, a whole number or a ``Fraction``; it sets how long the
            last frame stays and what players show as the rate. The stamps decide everything else.
        time_base: Seconds per unit of the stamps.
        audio_from: A file whose first audio stream is put beside the picture, on the same clock.
            A file without sound gives a video without sound.
        crf: x264's quality, 0 (lossless) to 51.
        preset: x264's speed.
        pixel_aspect: Width of a pixel divided by its height.
        overwrite: Replace an existing file instead of refusing.
        faststart: Put the index in front, so that playing starts before the file is loaded.
        metadata: Texts about the file as a whole. MP4 keeps ``comment``, ``description`` and
            ``software`` (as ``encoder``), Matroska every name, MOV only ``comment``.

    Raises:
        ConfigError: A setting is wrong.
        VideoError: The file exists, its folder cannot be written to, or the sound is unreadable.

    Example:
        >>> from facegan.video.reader import VideoReader
        >>> from facegan.video.writer import VideoWriter
        >>> with VideoReader("talk.mp4") as reader:  # doctest: +SKIP
        ...     info = reader.info
        ...     with VideoWriter("out.mp4", width=info.width, height=info.height,
        ...                      frame_rate=info.frame_rate, time_base=info.time_base,
        ...                      audio_from="talk.mp4") as writer:
        ...         for frame in reader:
        ...             writer.write(frame.image, frame.pts)
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        width: int,
        height: int,
        frame_rate: Fraction | int,
        time_base: Fraction,
        audio_from: str | os.PathLike[str] | None = None,
        crf: int = 18,
        preset: str = "veryfast",
        pixel_aspect: Fraction = Fraction(1),
        overwrite: bool = False,
        faststart: bool = True,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        check_encoding(width, height, frame_rate, time_base, crf, preset)
        self.path = pathlib.Path(path)
        self.num_frames = 0
        self.padded = bool(width % 2 or height % 2)
        self._hw = (height, width)
        self._even_hw = (height + height % 2, width + width % 2)
        self._time_base = Fraction(time_base)
        self._last_pts: int | None = None
        self._reformatter = VideoReformatter()
        large = default_colorspace(*self._even_hw) == Colorspace.ITU709
        self._colorspace = Colorspace.ITU709 if large else Colorspace.ITU601
        self._file = OutputFile(
            path,
            frame_rate=Fraction(frame_rate),
            time_base=self._time_base,
            overwrite=overwrite,
            faststart=faststart,
            metadata=metadata,
        )
        with self._file.guard():
            stream = self._file.container.add_stream(
                "libx264",
                rate=Fraction(frame_rate),
                width=self._even_hw[1],
                height=self._even_hw[0],
                time_base=self._time_base,
                # The conversion from RGB puts a chroma sample in the middle of its four pixels;
                # unless told, decoders assume it half a pixel to the left.
                options={
                    **{"crf": str(crf), "preset": preset, "bf": "0"},
                    "x264-params": "chromaloc=1",
                },
            )
            context = stream.codec_context
            context.max_b_frames = 0
            context.pix_fmt = "yuv420p"
            context.colorspace = _MATRIX_709 if large else _MATRIX_601
            context.color_range = _LIMITED_RANGE
            context.color_primaries = _PRIMARIES_709
            context.color_trc = _TRANSFER_709
            context.sample_aspect_ratio = Fraction(pixel_aspect)
            self._stream = stream
            self._file.start(stream, audio_from)

    @property
    def audio(self) -> str:
        """How the sound gets into the file: ``"none"``, ``"copied"`` or ``"encoded"``."""
        return self._file.audio

    def write(self, image: np.ndarray, pts: int) -> None:
        """Encodes one frame.

        Args:
            image: [H, W, 3] uint8 RGB of the size given at construction.
            pts: Time stamp in units of ``time_base``, larger than the one before.
        """
        self._file.check_open()
        if image.shape != (*self._hw, 3) or image.dtype != np.uint8:
            raise ConfigError(
                f"A frame for {self.path} must be uint8 of shape {(*self._hw, 3)}, got "
                f"{image.dtype} of shape {image.shape}."
            )
        check_pts(pts, self._last_pts, self.num_frames, self.path)
        if self.padded:
            rows, columns = self._even_hw[0] - self._hw[0], self._even_hw[1] - self._hw[1]
            image = np.pad(image, ((0, rows), (0, columns), (0, 0)), mode="edge")
        with self._file.guard():
            frame = av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(image), format="rgb24")
            frame = self._reformatter.reformat(
                frame,
                format="yuv420p",
                dst_colorspace=self._colorspace,
                dst_color_range=_LIMITED_RANGE,
                interpolation=int(Interpolation.BILINEAR) | ACCURATE_RND,
                threads=1,
            )
            frame.pts = int(pts)
            frame.time_base = self._time_base
            for packet in self._stream.encode(frame):
                self._file.mux(packet)
        self._last_pts = int(pts)
        self.num_frames += 1

    def close(self) -> None:
        """Finishes the file and gives it its name.

        Raises:
            VideoError: No frame was written, or the file cannot be finished; nothing is left.
        """
        if not self._file.is_open:
            return
        if not self.num_frames:
            self.abort()
            raise VideoError(f"{self.path} was not written: it would have no frame.")
        with self._file.guard():
            for packet in self._stream.encode(None):
                self._file.mux(packet)
        self._file.commit(self.num_frames)

    def abort(self) -> None:
        """Gives the file up and removes what was written."""
        self._file.abort()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close() if kind is None else self.abort()


class SegmentedWriter:
    """A ``VideoWriter`` that survives being killed; a ``FrameSink``.

    The clip is encoded in segments that are kept in a work folder as soon as they are whole. A
    new ``SegmentedWriter`` with the same work folder and settings goes on after the last of them:
    feed it the frames from ``resume_index`` on. ``close`` joins the segments without re-encoding,
    adds the sound, gives the file its name and empties the work folder. Segments end at fixed
    frame numbers, so a run that was killed gives the same file as one that was not.

    Args:
        path: As in ``VideoWriter``.
        work_dir: Folder of the segments, made when it is missing; for this one output only.
        width: As in ``VideoWriter``.
        height: As in ``VideoWriter``.
        frame_rate: As in ``VideoWriter``.
        time_base: As in ``VideoWriter``.
        audio_from: As in ``VideoWriter``.
        crf: As in ``VideoWriter``.
        preset: As in ``VideoWriter``.
        pixel_aspect: As in ``VideoWriter``.
        overwrite: Replace an existing file instead of refusing, and start anew instead of
            refusing when the work folder holds segments of other settings.
        segment_frames: Frames in a segment; a kill loses at most these.
        fingerprint: Names everything else that decides the pictures (source, model, settings);
            segments of another fingerprint are not continued.
        metadata: As in ``VideoWriter``.

    Raises:
        ConfigError: A setting is wrong, or the work folder holds segments of other settings.
        VideoError: As ``VideoWriter``.
    """

    KIND = "segments"
    VERSION = 1

    def __init__(
        self,
        path: str | os.PathLike[str],
        work_dir: str | os.PathLike[str],
        *,
        width: int,
        height: int,
        frame_rate: Fraction | int,
        time_base: Fraction,
        audio_from: str | os.PathLike[str] | None = None,
        crf: int = 18,
        preset: str = "veryfast",
        pixel_aspect: Fraction = Fraction(1),
        overwrite: bool = False,
        segment_frames: int = 240,
        fingerprint: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        check_encoding(width, height, frame_rate, time_base, crf, preset)
        if segment_frames < 1:
            raise ConfigError(f"segment_frames must be at least 1, got {segment_frames}.")
        self.path = pathlib.Path(path)
        container_format(self.path)
        check_output(self.path, overwrite)
        if audio_from is not None:
            open_container(audio_from).close()
        self.padded = bool(width % 2 or height % 2)
        self._work_dir = pathlib.Path(work_dir)
        self._frame_rate, self._time_base = Fraction(frame_rate), Fraction(time_base)
        self._audio_from, self._overwrite = audio_from, overwrite
        self._metadata = metadata
        self._segment_frames = segment_frames
        self._encoding: dict[str, Any] = {
            "width": width,
            "height": height,
            "frame_rate": self._frame_rate,
            "time_base": self._time_base,
            "crf": crf,
            "preset": preset,
            "pixel_aspect": Fraction(pixel_aspect),
        }
        self._settings = {
            **{k: str(v) if isinstance(v, Fraction) else v for k, v in self._encoding.items()},
            "segment_frames": segment_frames,
            "fingerprint": fingerprint,
            # Segments of two encoder versions cannot be joined without re-encoding.
            "encoder": "libavcodec " + ".".join(map(str, av.library_versions["libavcodec"])),
        }
        self._segments: list[dict[str, Any]] = self._take_over()
        self.resume_index: int = sum(s["frames"] for s in self._segments)
        self.resume_pts: int | None = self._segments[-1]["last_pts"] if self._segments else None
        self.num_frames = self.resume_index
        self._last_pts = self.resume_pts
        self._first_pts = 0
        self._writer: VideoWriter | None = None
        self._open = True

    def _take_over(self) -> list[dict[str, Any]]:
        """Reads what an earlier run left, drops what is not whole, and returns the rest."""
        try:
            self._work_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise VideoError(
                f"The work folder {self._work_dir} cannot be made: {reason(error)}."
            ) from error
        check_output(self._index_path, overwrite=True)
        segments: list[dict[str, Any]] = []
        if self._index_path.exists():
            index = config.read_json(self._index_path)
            changed = self._changes(index)
            if changed and not self._overwrite:
                raise ConfigError(
                    f"The work folder {self._work_dir} holds a half-written video of other "
                    f"settings ({', '.join(changed)} changed); use another work folder, or allow "
                    "overwriting to start anew."
                )
            segments = [] if changed else index["segments"]
        whole = list(itertools.takewhile(self._is_whole, segments))
        kept = {s["file"] for s in whole}
        for file in self._work_dir.glob("*seg-*.mp4*"):
            if file.name not in kept:
                file.unlink(missing_ok=True)
        self._write_index(whole)
        return whole

    def _changes(self, index: Any) -> list[str]:
        if (
            not isinstance(index, dict)
            or (index.get("kind"), index.get("version")) != (self.KIND, self.VERSION)
            or not isinstance(index.get("settings"), dict)
            or not isinstance(index.get("segments"), list)
        ):
            return ["the form of segments.json"]
        old = index["settings"]
        return sorted(k for k in {*old, *self._settings} if old.get(k) != self._settings.get(k))

    def _is_whole(self, segment: dict[str, Any]) -> bool:
        try:
            return (self._work_dir / segment["file"]).stat().st_size == segment["bytes"]
        except OSError:
            return False

    @property
    def _index_path(self) -> pathlib.Path:
        return self._work_dir / "segments.json"

    def _write_index(self, segments: list[dict[str, Any]]) -> None:
        index = {
            "kind": self.KIND,
            "version": self.VERSION,
            "settings": self._settings,
            "segments": segments,
        }
        try:
            config.write_json(self._index_path, index)
        except ConfigError as error:
            raise VideoError(str(error)) from error

    def write(self, image: np.ndarray, pts: int) -> None:
        """Encodes one frame; the first is frame ``resume_index`` of the clip.

        Args:
            image: [H, W, 3] uint8 RGB of the size given at construction.
            pts: Time stamp in units of ``time_base``, larger than the one before.
        """
        if not self._open:
            raise VideoError(f"{self.path} is closed; no more frames can be written to it.")
        check_pts(pts, self._last_pts, self.num_frames, self.path)
        if self._writer is None:
            self._first_pts = int(pts)
            name = f"seg-{len(self._segments):05d}.mp4"
            # Without the index in front: a segment is read once, from beginning to end.
            self._writer = VideoWriter(
                self._work_dir / name, overwrite=True, faststart=False, **self._encoding
            )
        self._writer.write(image, int(pts) - self._first_pts)
        self._last_pts = int(pts)
        self.num_frames += 1
        if self._writer.num_frames == self._segment_frames:
            self._store_segment()

    def _store_segment(self) -> None:
        writer, self._writer = self._writer, None
        if writer is None:
            return
        writer.close()
        segment = {
            "file": writer.path.name,
            "bytes": writer.path.stat().st_size,
            "frames": writer.num_frames,
            "first_pts": self._first_pts,
            "last_pts": self._last_pts,
        }
        self._write_index([*self._segments, segment])
        self._segments.append(segment)

    def close(self) -> None:
        """Joins the segments, adds the sound, names the file and empties the work folder.

        Raises:
            VideoError: No frame was written, or the file cannot be finished; the segments stay.
        """
        if not self._open:
            return
        self._store_segment()
        if not self._segments:
            self.abort()
            raise VideoError(f"{self.path} was not written: it would have no frame.")
        self._open = False
        self._join()
        for segment in self._segments:
            (self._work_dir / segment["file"]).unlink(missing_ok=True)
        self._index_path.unlink(missing_ok=True)
        if not any(self._work_dir.iterdir()):
            self._work_dir.rmdir()

    def _join(self) -> None:
        output = OutputFile(
            self.path,
            frame_rate=self._frame_rate,
            time_base=self._time_base,
            overwrite=self._overwrite,
            faststart=True,
            metadata=self._metadata,
        )
        stream: Any = None
        extradata = b""
        for segment in self._segments:
            file = self._work_dir / segment["file"]
            with output.guard(), open_container(file) as container:
                source = container.streams.video[0]
                if stream is None:
                    stream = output.container.add_stream_from_template(source, opaque=True)
                    stream.time_base = self._time_base
                    extradata = source.codec_context.extradata
                    output.start(stream, self._audio_from)
                elif source.codec_context.extradata != extradata:
                    raise VideoError(
                        f"The segment {file} was encoded with other settings than the first; "
                        "remove the work folder and start anew."
                    )
                for packet in container.demux(source):
                    if packet.size:
                        ticks = Fraction(packet.pts) * packet.time_base / self._time_base
                        packet.pts = packet.dts = segment["first_pts"] + round(ticks)
                        packet.time_base = self._time_base
                        output.mux(packet)
        output.commit(self.num_frames)

    def abort(self) -> None:
        """Drops the unfinished segment; finished ones stay for the next run."""
        if self._writer is not None:
            self._writer.abort()
            self._writer = None
        self._open = False

    def __enter__(self) -> SegmentedWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close() if kind is None else self.abort()


def check_encoding(
    width: int,
    height: int,
    frame_rate: Fraction | int,
    time_base: Fraction,
    crf: int,
    preset: str,
) -> None:
    """Raises ConfigError for settings that cannot be encoded."""
    for name, side in (("width", width), ("height", height)):
        if not 1 <= side <= MAX_SIDE_PX:
            raise ConfigError(f"{name} must be 1 to {MAX_SIDE_PX} pixels, got {side}.")
    for name, value in (("frame_rate", frame_rate), ("time_base", time_base)):
        if not isinstance(value, Fraction | int) or value <= 0:
            raise ConfigError(
                f"{name} must be a positive Fraction, such as Fraction(30000, 1001), got {value!r}."
            )
    if Fraction(time_base).denominator > MAX_TIMESCALE:
        raise ConfigError(
            f"time_base must have a denominator of at most {MAX_TIMESCALE}, got {time_base}."
        )
    if not 0 <= crf <= 51:
        raise ConfigError(f"crf must be 0 (lossless) to 51, got {crf}.")
    if preset not in PRESETS:
        raise config.unknown_name("preset", preset, PRESETS, what="value")


def check_pts(pts: int, last_pts: int | None, index: int, path: pathlib.Path) -> None:
    """Raises VideoError unless the stamp of frame ``index`` comes after the one before it."""
    if last_pts is not None and pts <= last_pts:
        raise VideoError(
            f"Frame {index} for {path} has the time stamp {pts}, which is not after {last_pts} of "
            "the frame before it."
        )


def write_gif(
    path: str | os.PathLike[str],
    images: Iterable[np.ndarray],
    fps: float,
    *,
    max_width_px: int = 480,
    overwrite: bool = False,
) -> None:
    """Writes images as an endless GIF, one at a time.

    Args:
        path: The file, ending in .gif.
        images: Images [H, W, 3] uint8 RGB, all of one size.
        fps: Images per second. GIF counts in hundredths of a second; the steps are rounded so
            that the whole stays in time. Most viewers show at most 50.
        max_width_px: Wider images are shrunk to this width.
        overwrite: Replace an existing file instead of refusing.

    Raises:
        ConfigError: The rate or an image is wrong.
        VideoError: There is no image, or the file cannot be written.
    """
    from PIL import Image

    path = pathlib.Path(path)
    if not 0 < fps <= 100:
        raise ConfigError(f"fps of a GIF must be above 0 and at most 100, got {fps}.")
    if path.suffix.lower() != ".gif":
        raise VideoError(f"{path} must end in .gif to be written as a GIF.")
    time_base = Fraction(1, 100)
    output = OutputFile(
        path,
        frame_rate=Fraction(fps).limit_denominator(1001),
        time_base=time_base,
        overwrite=overwrite,
        faststart=False,
    )
    stream: Any = None
    shape: tuple[int, ...] = ()
    count = 0
    with output.guard():
        for count, image in enumerate(images, start=1):
            if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
                raise ConfigError(
                    f"Image {count - 1} for {path} must be [H, W, 3] uint8, got {image.dtype} of "
                    f"shape {image.shape}."
                )
            if shape and image.shape != shape:
                raise ConfigError(
                    f"Image {count - 1} for {path} has the shape {image.shape}, the first had "
                    f"{shape}."
                )
            shape = image.shape
            if image.shape[1] > max_width_px:
                height = max(1, round(image.shape[0] * max_width_px / image.shape[1]))
                image = resize(image, height, max_width_px)
            if stream is None:
                height, width = image.shape[:2]
                stream = output.container.add_stream(
                    "gif", rate=100, width=width, height=height, time_base=time_base
                )
                stream.codec_context.pix_fmt = "pal8"
                output.start(stream, None)
            # A palette for each image: one for all would need all images first.
            small = Image.fromarray(image).quantize(256)
            palette = np.zeros((256, 4), np.uint8)
            colours = np.array(small.getpalette("RGB"), np.uint8).reshape(-1, 3)
            palette[: len(colours), 1:], palette[:, 0] = colours, 255
            indexed: Any = (np.asarray(small), palette)
            frame = av.VideoFrame.from_ndarray(indexed, format="pal8")
            frame.pts = round(100 * (count - 1) / fps)
            frame.time_base = time_base
            for packet in stream.encode(frame):
                output.mux(packet)
        if not count:
            raise VideoError(f"{path} was not written: it would have no image.")
        for packet in stream.encode(None):
            output.mux(packet)
    output.commit(count)


def join_clips(
    paths: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    audio_from: str | os.PathLike[str] | None = None,
    height_px: int | None = None,
    crf: int = 18,
    preset: str = "veryfast",
    overwrite: bool = False,
    metadata: Mapping[str, str] | None = None,
) -> int:
    """Writes several videos side by side, in time with each other.

    The first video sets the clock: each of its frames stands beside the frame that the others
    show at that moment. Shorter ones hold their last frame.

    Args:
        paths: The videos, from left to right.
        output: The file to write.
        audio_from: The file whose sound is used; by default the first video.
        height_px: Common height; by default that of the first video.
        crf: x264's quality.
        preset: x264's speed.
        overwrite: Replace an existing file instead of refusing.
        metadata: As in ``VideoWriter``.

    Returns:
        The number of frames written.

    Raises:
        VideoError: A video cannot be read or the output not written.
    """
    if not paths:
        raise ConfigError("join_clips needs at least one video.")
    first = VideoReader(paths[0])
    height = height_px or first.info.height
    readers = [first, *(VideoReader(path) for path in paths[1:])]
    widths = [_shown_width(reader, height) for reader in readers]
    for reader, width in zip(readers, widths, strict=True):
        reader.size_hw = (height, width)
    with VideoWriter(
        output,
        width=sum(widths),
        height=height,
        frame_rate=first.info.frame_rate,
        time_base=first.info.time_base,
        audio_from=paths[0] if audio_from is None else audio_from,
        crf=crf,
        preset=preset,
        overwrite=overwrite,
        metadata=metadata,
    ) as writer:
        others = [_ShownFrames(iter(reader)) for reader in readers[1:]]
        for frame in first:
            at_s = frame.pts * frame.time_base
            images = [frame.image, *(other.at(at_s) for other in others)]
            writer.write(np.concatenate(images, axis=1), frame.pts)
    return writer.num_frames


def _shown_width(reader: VideoReader, height: int) -> int:
    info = reader.info
    return max(1, round(info.width * info.pixel_aspect * height / info.height))


class _ShownFrames:
    """The frame that a clip shows at growing moments."""

    def __init__(self, frames: Iterator[Frame]) -> None:
        self._frames = frames
        self._shown: Frame | None = next(frames, None)
        self._next: Frame | None = next(frames, None)

    def at(self, time_s: Fraction) -> np.ndarray:
        while self._next is not None and self._next.pts * self._next.time_base <= time_s:
            self._shown, self._next = self._next, next(self._frames, None)
        if self._shown is None:
            raise VideoError("A video to be shown beside others has no frame.")
        return self._shown.image
