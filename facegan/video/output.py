"""The file under construction: hidden until it is whole, with picture and sound interleaved."""

from __future__ import annotations

import contextlib
import errno
import glob
import itertools
import math
import os
import pathlib
import tempfile
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

import av

from facegan.errors import VideoError
from facegan.video.audio import AudioFeed
from facegan.video.reader import reason

CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}

# What FFmpeg calls a field of metadata in MP4, where it is not called as elsewhere.
_MP4_NAMES = {"software": "encoding_tool"}

# MP4 keeps its clocks' units in 32 bits.
MAX_TIMESCALE = 2**31 - 1

_partial_numbers = itertools.count()


class OutputFile:
    """A file that grows under a hidden name, with one video stream and perhaps sound.

    The user adds the video stream to ``container``, calls ``start``, then ``mux`` with packets in
    order, then ``commit`` or ``abort``. Whatever fails inside ``guard`` aborts and becomes a
    VideoError.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        frame_rate: Fraction,
        time_base: Fraction,
        overwrite: bool,
        faststart: bool,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        self.path = pathlib.Path(path)
        is_gif = self.path.suffix.lower() == ".gif"
        self._format = "gif" if is_gif else container_format(self.path)
        self._overwrite = overwrite
        self._time_base = time_base
        self._step = max(1, round(1 / (frame_rate * time_base)))
        self._faststart = faststart
        self._stream: Any = None
        self._held: Any = None
        self._audio: AudioFeed | None = None
        self.audio = "none"
        check_output(self.path, overwrite)
        self._partial = self._claim_partial()
        self.container: Any = None
        with self.guard():
            self.container = av.open(f"file:{self._partial}", "w", format=self._format)
            for name, text in (metadata or {}).items():
                mp4_name = _MP4_NAMES.get(name, name)
                self.container.metadata[mp4_name if self._format == "mp4" else name] = text

    @property
    def is_open(self) -> bool:
        return self.container is not None

    def check_open(self) -> None:
        if not self.is_open:
            raise VideoError(f"{self.path} is closed; no more frames can be written to it.")

    def start(self, stream: Any, audio_from: str | os.PathLike[str] | None) -> None:
        """Takes the video stream, and the sound, and fixes the container's clocks."""
        self._stream = stream
        audio_rate = 1
        if audio_from is not None:
            self._audio = AudioFeed(audio_from, self.container)
            if self._audio.present:
                self.audio = "copied" if self._audio.copied else "encoded"
                audio_rate = self._audio.rate
        if self._format in ("mp4", "mov"):
            # The track must count in units that hold the stamps exactly. Late starts are written
            # in the movie's own units, by default milliseconds; these hold picture and sound.
            track = self._time_base.denominator
            while track < 1000:
                track *= 10
            movie = math.lcm(track, audio_rate)
            options = {"video_track_timescale": str(track)}
            if movie <= MAX_TIMESCALE:
                options["movie_timescale"] = str(movie)
            if self._faststart:
                options["movflags"] = "+faststart"
            self.container.container_options.update(options)

    def mux(self, packet: Any) -> None:
        """Writes a video packet, once its successor tells how long it lasts."""
        if self._held is not None:
            self._held.duration = packet.pts - self._held.pts
            self._write_held()
        self._held = packet

    def _write_held(self) -> None:
        packet, self._held = self._held, None
        packet.stream = self._stream
        end_s = (packet.pts + packet.duration) * self._time_base
        self.container.mux(packet)
        self._feed_audio(end_s)

    def _feed_audio(self, end_s: Fraction, *, last: bool = False) -> None:
        if self._audio is not None:
            for packet in self._audio.packets_until(end_s, last=last):
                self.container.mux(packet)

    def commit(self, num_frames: int) -> None:
        """Finishes the file, makes sure that it is whole, and renames it."""
        with self.guard():
            self._held.duration = self._step
            end_s = (self._held.pts + self._step) * self._time_base
            self._write_held()
            self._feed_audio(end_s, last=True)
            self._close_audio()
            self.container.close()
            self._verify(num_frames)
            _sync(self._partial)
            check_output(self.path, self._overwrite)
            os.replace(self._partial, self.path)
        self.container = None

    def _verify(self, num_frames: int) -> None:
        # A write error that only shows when the system closes the file reaches nobody else.
        with av.open(f"file:{self._partial}") as written:
            found = written.streams.video[0].frames
        if found and found != num_frames:
            raise OSError(errno.EIO, f"only {found} of {num_frames} frames arrived in the file")

    def abort(self) -> None:
        """Closes and removes the hidden file."""
        self._held = None
        self._close_audio()
        if self.container is not None:
            with contextlib.suppress(av.FFmpegError, OSError, ValueError):
                self.container.close()
            self.container = None
        with contextlib.suppress(OSError):
            self._partial.unlink(missing_ok=True)

    def _close_audio(self) -> None:
        if self._audio is not None:
            self._audio.close()

    @contextlib.contextmanager
    def guard(self) -> Iterator[None]:
        """Aborts on any error inside, and says in a VideoError what the system said."""
        try:
            yield
        except (av.FFmpegError, OSError, ValueError) as error:
            self.abort()
            raise VideoError(f"Cannot write {self.path}: {reason(error)}.") from error
        except BaseException:
            self.abort()
            raise

    def _claim_partial(self) -> pathlib.Path:
        prefix, suffix = f".{self.path.name}.", ".partial"
        for old in self.path.parent.glob(f"{glob.escape(prefix)}*{suffix}"):
            owner = old.name[len(prefix) : -len(suffix)].partition("-")[0]
            if owner.isdigit() and not _is_running(int(owner)):
                old.unlink(missing_ok=True)
        return self.path.with_name(f"{prefix}{os.getpid()}-{next(_partial_numbers)}{suffix}")


def check_output(path: pathlib.Path, overwrite: bool) -> None:
    """Raises VideoError unless a file can be put at ``path``; nothing is left behind."""
    if path.is_dir():
        raise VideoError(f"{path} is a folder; an output file is needed.")
    if path.exists() and not overwrite:
        raise VideoError(f"{path} exists already; choose another name or allow overwriting.")
    folder = path.parent
    if not folder.is_dir():
        raise VideoError(f"{path} cannot be written: the folder {folder} does not exist.")
    try:
        # Permission bits do not tell about read-only disks; trying does.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise VideoError(
            f"{path} cannot be written: the folder {folder} takes no files ({reason(error)})."
        ) from error


def container_format(path: pathlib.Path) -> str:
    """FFmpeg's name for the container that the ending of ``path`` asks for."""
    name = CONTAINERS.get(path.suffix.lower())
    if name is None:
        raise VideoError(
            f"{path} must end in one of {', '.join(CONTAINERS)} to be written as a video; got "
            f"{path.suffix!r}."
        )
    return name


def _is_running(process_id: int) -> bool:
    if os.name != "posix":
        # Signal 0 asks on POSIX and kills elsewhere.
        return True
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _sync(path: pathlib.Path) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
