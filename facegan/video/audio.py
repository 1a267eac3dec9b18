"""Sound for a written video: packets copied from another file, or re-encoded where they must be.

Sound keeps its own time stamps, so it starts late where the source's does and never drifts. It is
handed out as the picture advances, which keeps the file interleaved and memory flat.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av

from facegan.errors import VideoError
from facegan.video.reader import open_container, origin_s, reason

# What common players read in each container. FFmpeg itself would put more into them.
COPIED_CODECS = {
    "mp4": frozenset({"aac", "mp3", "mp3float", "ac3", "eac3", "alac", "opus", "libopus"}),
    "mov": frozenset(
        {"aac", "mp3", "mp3float", "ac3", "eac3", "alac", "pcm_s16le", "pcm_s16be", "pcm_s24le"}
    ),
    "matroska": frozenset(
        {
            *("aac", "mp3", "mp3float", "ac3", "eac3", "alac", "opus", "libopus", "vorbis"),
            *("libvorbis", "flac", "dca", "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_f32le"),
        }
    ),
}

_AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)
_AAC_LAYOUTS = frozenset({"mono", "stereo", "3.0", "4.0", "5.0", "5.1", "7.1"})
_AAC_BITS_PER_CHANNEL = 96_000


class AudioFeed:
    """The first audio stream of a file, as packets for an output container.

    Args:
        path: The file with the sound.
        output: The open ``av`` output container; its video stream must be there already. An
            audio stream is added to it.

    Raises:
        VideoError: The file cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str], output: Any) -> None:
        self._path = path
        self._input: Any = open_container(path)
        self._pending: Any = None
        self._last_dts: int | None = None
        self.copied = False
        self.damaged_packets = 0
        streams = [s for s in self._input.streams.audio if s.codec_context is not None]
        if not streams:
            self.close()
            return
        self._source = streams[0]
        self._origin_s = origin_s(self._input)
        # Codecs need a run-up before the first sample, which MP4 hides by an edit list. Matroska
        # has no negative times; the muxer would move the picture instead.
        self._matroska = output.format.name == "matroska"
        name = self._source.codec_context.name
        self.copied = name in COPIED_CODECS.get(output.format.name, ())
        try:
            if self.copied:
                self._sink = output.add_stream_from_template(self._source)
                self._packets = self._copies()
            else:
                self._sink = self._add_encoder(output)
                self._packets = self._encodes()
        except (av.FFmpegError, ValueError) as error:
            self.close()
            raise VideoError(
                f"The sound of {path} ({name}) cannot be carried over: {reason(error)}."
            ) from error

    @property
    def present(self) -> bool:
        """Whether the file has sound."""
        return self._input is not None

    @property
    def rate(self) -> int:
        """Samples per second of the stream that is written."""
        return int(self._sink.codec_context.sample_rate)

    def packets_until(self, end_s: Fraction, *, last: bool = False) -> Iterator[Any]:
        """Yields the packets that are over by ``end_s`` and were not handed out before.

        With ``last`` the packet that is playing at ``end_s`` comes too, declared to last until
        then: packets have a fixed length, and the sound is to end with the picture.
        """
        while self.present:
            if self._pending is None:
                self._pending = next(self._packets, None)
                if self._pending is None:
                    self.close()
                    return
            packet = self._pending
            if (packet.pts + packet.duration) * packet.time_base > end_s:
                rest = int(end_s / packet.time_base) - packet.pts
                # Matroska's readers take the codec's packet length whatever is declared, so there
                # the nearer end is chosen.
                least = packet.duration / 2 if self._matroska else 1
                if not last or rest < least:
                    return
                packet.duration = rest
            self._pending = None
            if self._matroska and packet.pts < 0:
                if packet.pts + packet.duration <= 0:
                    continue
                packet.pts = packet.dts = 0
            packet.stream = self._sink
            yield packet

    def close(self) -> None:
        """Closes the file."""
        if self._input is not None:
            self._input.close()
            self._input = None

    def _raw_packets(self) -> Iterator[Any]:
        try:
            yield from self._input.demux(self._source)
        except (av.FFmpegError, OSError, ValueError):
            # A damaged tail: the sound ends where it can no longer be read.
            self.damaged_packets += 1

    def _copies(self) -> Iterator[Any]:
        next_pts = 0
        for packet in self._raw_packets():
            if packet.size == 0:
                continue
            if packet.pts is None:
                packet.pts = packet.dts if packet.dts is not None else next_pts
            packet.pts -= round(self._origin_s / packet.time_base)
            packet.dts = packet.pts
            if self._last_dts is not None and packet.dts <= self._last_dts:
                self.damaged_packets += 1
                continue
            self._last_dts = packet.dts
            next_pts = packet.pts + packet.duration
            yield packet

    def _add_encoder(self, output: Any) -> Any:
        context = self._source.codec_context
        rate = context.sample_rate if context.sample_rate in _AAC_RATES else 48000
        sink = output.add_stream("aac", rate=rate)
        layout = context.layout.name if context.layout.name in _AAC_LAYOUTS else "stereo"
        sink.codec_context.layout = layout
        channels = sink.codec_context.layout.nb_channels
        sink.codec_context.bit_rate = _AAC_BITS_PER_CHANNEL * channels
        sink.codec_context.time_base = Fraction(1, rate)
        return sink

    def _encodes(self) -> Iterator[Any]:
        for packet in self._raw_packets():
            try:
                frames = packet.decode()
            except av.FFmpegError:
                self.damaged_packets += 1
                continue
            for frame in frames:
                if frame.pts is not None and self._origin_s:
                    frame.pts -= round(self._origin_s / frame.time_base)
                yield from self._sink.encode(frame)
        yield from self._sink.encode(None)
