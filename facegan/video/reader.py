"""Decoding video files frame by frame.

Decoding runs ahead in the codec's own threads; at most a handful of frames is held at a time,
whatever the length of the clip.
"""

from __future__ import annotations

import errno
import math
import os
import pathlib
import stat
from collections.abc import Iterator
from fractions import Fraction
from types import TracebackType
from typing import Any

import av
import numpy as np
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter

from facegan.errors import ConfigError, VideoError
from facegan.image import MAX_PIXELS
from facegan.video.frames import ClipInfo, Frame

# Damaged clips can have a fault in every frame; the list of them must not grow with the clip.
MAX_PROBLEMS = 20

# Time stamps of broadcast streams start anywhere; all other containers count from the start of
# the clip, and an offset there is meant.
_ARBITRARY_START = frozenset({"mpegts", "mpeg"})

# Containers that store frames at a constant rate in the order of decoding and no display times.
_NO_DISPLAY_TIMES = frozenset({"avi"})

# PQ and HLG, the transfer curves of HDR video.
_HDR_TRANSFERS = frozenset({16, 18})

# Codecs with one shown frame a packet, so that packets can be counted instead of frames.
_FRAME_PER_PACKET = frozenset({"h264", "hevc", "mjpeg", "prores", "ffv1", "dnxhd"})

_UNSPECIFIED_COLORSPACE = 2

# FFmpeg's fast conversion to RGB darkens by one to two codes on average, and rounds as the
# processor's instruction set has it. These flags (SWS_FULL_CHR_H_INT, SWS_ACCURATE_RND; PyAV names
# them from 18 on) give the unbiased one.
ACCURATE_RND = 0x40000
_FULL_CHROMA = 0x2000


def probe_clip(path: str | os.PathLike[str]) -> ClipInfo:
    """Reads what a video file says about itself and decodes its first frame.

    Returns:
        The facts; width and height are those of the upright picture.

    Raises:
        VideoError: The file is missing, a folder, not a video, has no video stream or no frame
            that can be decoded, or its pictures are larger than 64 megapixels.
    """
    with open_container(path) as container:
        stream = _video_stream(container, path)
        problems = _Problems()
        for raw in _decode(container, stream, path, problems):
            return _describe(container, stream, raw, path)
    raise VideoError(f"{path} has a video stream but not one frame that can be decoded.")


def count_frames(path: str | os.PathLike[str]) -> int:
    """Counts the frames that a ``VideoReader`` of the file yields.

    Whole files are counted by their packets, without decoding; where that could be wrong (damaged
    packets, a codec with hidden frames) the frames are decoded.

    Raises:
        VideoError: As ``probe_clip``.
    """
    probe_clip(path)
    with open_container(path) as container:
        stream = _video_stream(container, path)
        count = _count_packets(container, stream)
        if count is not None:
            return count
    with open_container(path) as container:
        stream = _video_stream(container, path)
        return sum(1 for _ in _decode(container, stream, path, _Problems()))


class VideoReader:
    """Streams the frames of a video file; a ``FrameSource`` and a context manager.

    Frames come in display order, upright, with strictly growing time stamps. What had to be
    mended or is missing is told in ``problems``, a list of sentences that is complete after the
    last frame; it holds at most ``MAX_PROBLEMS`` sentences and one that counts the rest.
    Each ``iter`` starts again at ``start_index``.

    Args:
        path: The video file.
        start_index: First frame to yield. The frames before it are decoded but not converted,
            so that the numbering is the same wherever one starts, in damaged clips too.
        start_pts: Time stamp that frame ``start_index`` is known to have from an earlier pass.
            With it the reader jumps to the nearest key frame instead of decoding from the
            beginning.
        size_hw: Height and width to deliver, area-averaged while converting; by default the
            clip's own.
        strict: Raise a VideoError instead of recording a problem.

    Raises:
        VideoError: As ``probe_clip``; while iterating, with ``strict``, at the first problem.

    Example:
        >>> from facegan.video.reader import VideoReader
        >>> with VideoReader("talk.mp4") as reader:  # doctest: +SKIP
        ...     for frame in reader:
        ...         print(frame.index, frame.time_s, frame.image.shape)
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        start_index: int = 0,
        start_pts: int | None = None,
        size_hw: tuple[int, int] | None = None,
        strict: bool = False,
    ) -> None:
        if start_index < 0:
            raise ConfigError(f"start_index must be at least 0, got {start_index}.")
        if size_hw is not None and (len(size_hw) != 2 or min(size_hw) < 1):
            raise ConfigError(f"size_hw must be two positive numbers, got {size_hw!r}.")
        self.info: ClipInfo = probe_clip(path)
        self._path = path
        self._start_index = start_index
        self._start_pts = start_pts
        self.size_hw = size_hw
        self._strict = strict
        self._problems = _Problems()
        self._container: Any = None
        self._stamped = False
        self._first_dts: int | None = None

    @property
    def problems(self) -> list[str]:
        """What was wrong with the clip so far, a sentence each."""
        return self._problems.sentences()

    def __iter__(self) -> Iterator[Frame]:
        self.close()
        self._problems = _Problems(self._path if self._strict else None)
        self._stamped = False
        if self._start_index > 0 and self._start_pts is not None:
            container, raws = self._open()
            # Without the known stamp in the file (a clip whose stamps were mended) the numbering
            # can only be had by decoding from the beginning.
            found = _seek_exactly(container, raws, self._start_pts, self.info, self._path)
            if found is not None:
                yield from self._frames(found, self._start_index, check_length=False)
                return
            self.close()
        container, raws = self._open()
        yield from self._frames(
            _decode(container, raws, self._path, self._problems), 0, check_length=True
        )

    def _open(self) -> tuple[Any, Any]:
        self.close()
        self._container = open_container(self._path)
        return self._container, _video_stream(self._container, self._path)

    def _frames(self, raws: Iterator[Any], index: int, *, check_length: bool) -> Iterator[Frame]:
        info, convert = self.info, _Converter(self.info, self.size_hw)
        origin = _origin_pts(self._container, info.time_base)
        step = max(1, round(1 / (info.frame_rate * info.time_base)))
        last_pts: int | None = None
        end_s = 0.0
        container = self._container
        try:
            for raw in raws:
                pts = self._stamp(raw, index, last_pts, step, origin)
                if last_pts is not None and pts <= last_pts:
                    mended = last_pts + 1
                    self._problems.add(
                        f"Frame {index} has the time stamp {pts}, not after {last_pts} of the "
                        f"frame before it; {mended} was put in."
                    )
                    pts = mended
                last_pts = pts
                end_s = float((pts + step) * info.time_base)
                if index >= self._start_index:
                    image = convert(raw, index, self._problems)
                    yield Frame(image, index, pts, info.time_base)
                    if self._container is not container:
                        raise VideoError(
                            f"{self._path} was closed, or begun anew, while it was being read."
                        )
                index += 1
            if check_length:
                self._check_length(index, end_s)
        finally:
            if self._container is container:
                self.close()

    def _stamp(self, raw: Any, index: int, last_pts: int | None, step: int, origin: int) -> int:
        """The frame's own time stamp, or the one that follows from what the file has instead."""
        following = 0 if last_pts is None else last_pts + step
        if self._container.format.name in _NO_DISPLAY_TIMES:
            # The stamps count packets as stored. Frames leave the decoder with growing decoding
            # times, which differ from the display times by a constant.
            if index == 0:
                self._first_dts = raw.dts
            if raw.dts is None or self._first_dts is None:
                return following
            return max(raw.dts - self._first_dts, last_pts + 1 if last_pts is not None else 0)
        if raw.pts is not None:
            self._stamped = True
            return raw.pts - origin
        if self._stamped:
            self._problems.add(f"Frame {index} has no time stamp; {following} was put in.")
        elif index == 0:
            self._problems.add(
                "The file has no time stamps; its frames are taken to follow each other at "
                f"{float(self.info.frame_rate):.6g} a second."
            )
        return following

    def _check_length(self, count: int, end_s: float) -> None:
        info = self.info
        if info.num_frames is not None and count != info.num_frames:
            self._problems.add(
                f"The file declares {info.num_frames} frames but {count} could be decoded; it is "
                "truncated or damaged."
            )
        elif info.num_frames is None and info.duration_s is not None:
            slack_s = max(0.25, 2.5 / float(info.frame_rate))
            if end_s < info.duration_s - slack_s:
                self._problems.add(
                    f"The file declares {info.duration_s:.2f} s of video but it ends at "
                    f"{end_s:.2f} s; it is truncated or damaged."
                )

    def close(self) -> None:
        """Closes the file."""
        if self._container is not None:
            self._container.close()
            self._container = None

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _Problems:
    """A bounded list of sentences; raises the first of them when a strict path is given."""

    def __init__(self, strict_path: str | os.PathLike[str] | None = None) -> None:
        self._strict_path = strict_path
        self._first: list[str] = []
        self._more = 0

    def add(self, sentence: str) -> None:
        if self._strict_path is not None:
            raise VideoError(f"{self._strict_path}: {sentence}")
        if len(self._first) < MAX_PROBLEMS:
            self._first.append(sentence)
        else:
            self._more += 1

    def sentences(self) -> list[str]:
        rest = [f"There are {self._more} more problems like these."] if self._more else []
        return [*self._first, *rest]


class _Converter:
    """Decoded frame -> upright [H, W, 3] uint8 RGB of the wanted size."""

    def __init__(self, info: ClipInfo, size_hw: tuple[int, int] | None) -> None:
        self._info = info
        self._size_hw = size_hw or (info.height, info.width)
        # One reformatter for all frames: building its tables costs more than a small frame.
        self._reformatter = VideoReformatter()
        self._told_hdr = False

    def __call__(self, raw: Any, index: int, problems: _Problems) -> np.ndarray:
        quarter_turns, mirrored = _orientation(raw)
        height, width = self._size_hw
        stored_hw = (width, height) if quarter_turns % 2 else (height, width)
        if raw.is_corrupt:
            problems.add(f"Frame {index} is damaged.")
        if raw.color_trc in _HDR_TRANSFERS and not self._told_hdr:
            self._told_hdr = True
            problems.add("The clip is HDR; its colours are read as they are, without tone mapping.")
        shrinks = stored_hw[0] * stored_hw[1] < raw.height * raw.width
        method = Interpolation.AREA if shrinks else Interpolation.BILINEAR
        rgb = self._reformatter.reformat(
            raw,
            width=stored_hw[1],
            height=stored_hw[0],
            format="rgb24",
            src_colorspace=_colorspace(raw),
            interpolation=int(method) | ACCURATE_RND | _FULL_CHROMA,
            threads=1,
        )
        image = rgb.to_ndarray()
        if mirrored:
            image = image[:, ::-1]
        if quarter_turns:
            image = np.rot90(image, -quarter_turns)
        return np.ascontiguousarray(image)


def _colorspace(raw: Any) -> int | None:
    """The YUV matrix to assume: the frame's own, else what players take for its size."""
    if raw.colorspace != _UNSPECIFIED_COLORSPACE:
        return None
    return default_colorspace(raw.height, raw.width)


def default_colorspace(height_px: int, width_px: int) -> int:
    """The YUV matrix of an untagged clip: BT.709 for HD sizes, else BT.601."""
    large = max(height_px, width_px) >= 1280 or min(height_px, width_px) > 576
    return Colorspace.ITU709 if large else Colorspace.ITU601


def _orientation(raw: Any) -> tuple[int, bool]:
    """Clockwise quarter turns that set a decoded frame upright, and whether to mirror first."""
    matrix = _display_matrix(raw)
    if matrix is None:
        return round(-raw.rotation / 90) % 4, False
    a, b, c, d = (int(matrix[k]) for k in (0, 1, 3, 4))
    mirrored = a * d - b * c < 0
    if mirrored:
        a, b = -a, -b
    return round(math.degrees(math.atan2(b, a)) / 90) % 4, mirrored


def _display_matrix(raw: Any) -> np.ndarray | None:
    """The nine numbers that place a stored picture on the screen, None for most clips."""
    for item in raw.side_data.keys() if len(raw.side_data) else ():
        if item.type.name == "DISPLAYMATRIX":
            return np.frombuffer(bytes(item), np.int32, 9)
    return None


def open_container(path: str | os.PathLike[str]) -> Any:
    """Opens a media file for reading; VideoError where it is none."""
    path = pathlib.Path(path)
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise VideoError(f"{path} is a folder; a video file is needed.")
        if not stat.S_ISREG(mode):
            raise VideoError(f"{path} is not a regular file; a video file is needed.")
        if not path.stat().st_size:
            raise VideoError(f"{path} is an empty file, not a video.")
        # "file:" keeps names such as "a:b.mp4" from being taken for network addresses, and the
        # list keeps playlists from opening other files or addresses.
        container = av.open(f"file:{path}", options={"protocol_whitelist": "file"})
    except FileNotFoundError as error:
        raise VideoError(f"{path} does not exist.") from error
    except PermissionError as error:
        raise VideoError(f"{path} may not be read: permission denied.") from error
    except (av.FFmpegError, OSError, ValueError) as error:
        raise VideoError(f"{path} is not a video that can be read: {reason(error)}.") from error
    if container.format.name.endswith("_pipe") or container.format.name == "image2":
        container.close()
        raise VideoError(f"{path} is a still picture, not a video.")
    return container


def _video_stream(container: Any, path: str | os.PathLike[str]) -> Any:
    # Cover art of a music file is a video stream of one picture to the container.
    streams = [s for s in container.streams.video if not _is_cover_art(s)]
    if not streams:
        kinds = sorted({s.type for s in container.streams}) or ["nothing"]
        raise VideoError(f"{path} has no video stream (it holds {', '.join(kinds)}).")
    stream = streams[0]
    context = stream.codec_context
    if context is None:
        raise VideoError(f"{path} has a video codec that cannot be decoded here.")
    if context.width * context.height > MAX_PIXELS:
        raise VideoError(
            f"{path} has pictures of {context.width}x{context.height} pixels; at most "
            f"{MAX_PIXELS // 1_000_000} megapixels are read."
        )
    stream.thread_type = "AUTO"
    return stream


def _is_cover_art(stream: Any) -> bool:
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _decode(
    container: Any, stream: Any, path: str | os.PathLike[str], problems: _Problems
) -> Iterator[Any]:
    """Yields decoded frames; faults in the data go to ``problems`` and decoding continues."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except (av.FFmpegError, OSError, ValueError) as error:
            problems.add(f"The file cannot be read to its end: {reason(error)}.")
            packet = None
        try:
            frames = stream.decode(packet if packet is not None else None)
        except av.FFmpegError as error:
            if error.errno == errno.ENOMEM:
                raise VideoError(f"{path} needs more memory to decode than there is.") from error
            if isinstance(error, av.error.EOFError):
                return
            at = "the end" if packet is None or packet.pts is None else f"stamp {packet.pts}"
            problems.add(f"The data at {at} cannot be decoded: {reason(error)}.")
            frames = []
        for frame in frames:
            if frame.width * frame.height > MAX_PIXELS:
                raise VideoError(
                    f"{path} changes to pictures of {frame.width}x{frame.height} pixels; at most "
                    f"{MAX_PIXELS // 1_000_000} megapixels are read."
                )
            yield frame
        if packet is None or packet.size == 0 and packet.dts is None:
            return


def _describe(container: Any, stream: Any, raw: Any, path: str | os.PathLike[str]) -> ClipInfo:
    quarter_turns, _ = _orientation(raw)
    height, width = raw.height, raw.width
    aspect = Fraction(stream.codec_context.sample_aspect_ratio or 1)
    if aspect <= 0:
        aspect = Fraction(1)
    if quarter_turns % 2:
        height, width, aspect = width, height, 1 / aspect
    time_base = Fraction(stream.time_base)
    audio = container.streams.audio[0] if container.streams.audio else None
    origin_s = float(_origin_pts(container, time_base) * time_base)
    audio_start_s = audio_duration_s = None
    if audio is not None and audio.time_base is not None:
        if audio.start_time is not None:
            audio_start_s = float(audio.start_time * audio.time_base) - origin_s
        if audio.duration is not None:
            audio_duration_s = float(audio.duration * audio.time_base)
    return ClipInfo(
        path=str(path),
        width=width,
        height=height,
        frame_rate=_frame_rate(stream),
        time_base=time_base,
        num_frames=_declared_frames(stream),
        duration_s=_declared_duration_s(stream),
        rotation_deg=90 * quarter_turns,
        pixel_aspect=aspect,
        codec=stream.codec_context.name,
        has_audio=audio is not None,
        audio_codec=audio.codec_context.name if audio is not None and audio.codec_context else None,
        audio_start_s=audio_start_s,
        audio_duration_s=audio_duration_s,
    )


def _frame_rate(stream: Any) -> Fraction:
    for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate):
        if rate:
            break
    else:
        rate = Fraction(25)
    # Containers that count in milliseconds blur 30000/1001 to 29.97; the two families of rates
    # in use (whole numbers and whole numbers * 1000/1001) are 1e-3 apart.
    for exact in (Fraction(round(rate)), Fraction(1000 * round(rate * 1001 / 1000), 1001)):
        if abs(rate / exact - 1 if exact else 1) < Fraction(2, 100_000):
            return exact
    return Fraction(rate)


def _declared_frames(stream: Any) -> int | None:
    if not stream.frames:
        return None
    # An edit list (a clip cut without re-encoding) hides frames that the table still counts; its
    # entries in the index are marked, or the stream's duration is shorter than its table.
    hidden = 0
    if hasattr(stream, "index_entries"):
        hidden = sum(1 for entry in stream.index_entries if entry.is_discard)
    return stream.frames - hidden


def _declared_duration_s(stream: Any) -> float | None:
    if stream.duration is not None and stream.duration > 0:
        return float(stream.duration * stream.time_base)
    # Matroska keeps the length of each stream as a text.
    parts = stream.metadata.get("DURATION", "").split(":")
    try:
        hours, minutes, seconds = (float(part) for part in parts)
    except ValueError:
        return None
    return 3600 * hours + 60 * minutes + seconds


def _origin_pts(container: Any, time_base: Fraction) -> int:
    """Where the clip's clock starts, in units of ``time_base``."""
    return round(origin_s(container) / time_base)


def origin_s(container: Any) -> Fraction:
    """Where the clock of an open file starts, to be taken off every time in it."""
    if container.start_time is None or container.format.name not in _ARBITRARY_START:
        return Fraction(0)
    return Fraction(container.start_time, av.time_base)


def _seek_exactly(
    container: Any, stream: Any, pts: int, info: ClipInfo, path: str | os.PathLike[str]
) -> Iterator[Any] | None:
    """Frames from the one stamped ``pts`` on, None where no frame has exactly this stamp."""
    if container.format.name in _NO_DISPLAY_TIMES:
        return None
    wanted = pts + _origin_pts(container, info.time_base)
    try:
        container.seek(wanted, stream=stream, backward=True)
    except (av.FFmpegError, OSError):
        return None
    raws = _decode(container, stream, path, _Problems())
    for raw in raws:
        if raw.pts == wanted:
            return _chain(raw, raws)
        if raw.pts is None or raw.pts > wanted:
            return None
    return None


def _chain(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    yield first
    yield from rest


def _count_packets(container: Any, stream: Any) -> int | None:
    """Frames by packets alone; None where decoding could come to another number."""
    if stream.codec_context.name not in _FRAME_PER_PACKET:
        return None
    count = 0
    try:
        for packet in container.demux(stream):
            if packet.size == 0 and packet.dts is None:
                continue
            if packet.is_corrupt or (count == 0 and not packet.is_keyframe):
                return None
            count += not packet.is_discard
    except (av.FFmpegError, OSError, ValueError):
        return None
    return count if count == (_declared_frames(stream) or count) else None


def reason(error: Exception) -> str:
    """The system's or FFmpeg's words for an error, without its number and file name."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text[:1].lower() + text[1:].rstrip(".")
