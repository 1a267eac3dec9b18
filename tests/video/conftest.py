"""Clips made on the spot, with every peculiarity that real ones have."""

import os
import pathlib
from fractions import Fraction

import av
import numpy as np
import pytest


def numbered_image(number, height=64, width=64):
    """A picture that says its number: ten vertical bars, one a bit."""
    image = np.zeros((height, width, 3), np.uint8)
    for bit in range(10):
        left, right = bit * width // 10, (bit + 1) * width // 10
        image[:, left:right] = 220 if number >> bit & 1 else 30
    return image


def read_number(image):
    width = image.shape[1]
    columns = [(2 * bit + 1) * width // 20 for bit in range(10)]
    return sum(
        int(image[image.shape[0] // 2, x].mean() > 125) << bit for bit, x in enumerate(columns)
    )


def write_clip(
    path,
    *,
    num_frames=20,
    rate=Fraction(25),
    time_base=None,
    pts=None,
    height=64,
    width=64,
    image=numbered_image,
    codec="libx264",
    pix_fmt="yuv420p",
    options=None,
    rotation_deg=0,
    audio=None,
    audio_start_s=0.0,
    audio_duration_s=None,
    format=None,
):
    """Writes a clip with PyAV alone; ``pts`` in units of ``time_base``."""
    time_base = time_base or 1 / Fraction(rate)
    pts = list(range(num_frames)) if pts is None else pts
    with av.open(str(path), "w", format=format) as container:
        video = container.add_stream(
            codec, rate=rate, width=width, height=height, time_base=time_base,
            options=options or {},
        )  # fmt: skip
        video.codec_context.pix_fmt = pix_fmt
        if rotation_deg:
            video.set_display_rotation(-rotation_deg)
        sound = container.add_stream(audio, rate=16000, layout="mono") if audio else None
        for index, stamp in enumerate(pts):
            frame = av.VideoFrame.from_ndarray(image(index, height, width), format="rgb24")
            frame = frame.reformat(format=pix_fmt)
            frame.pts, frame.time_base = stamp, time_base
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if sound is not None:
            length_s = audio_duration_s or float(len(pts) / rate)
            start = round(audio_start_s * 16000)
            times = np.arange(round(length_s * 16000)) / 16000
            wave = (8000 * np.sin(2 * np.pi * 440 * times)).astype(np.int16)[None]
            for offset in range(0, wave.shape[1], 1024):
                part = av.AudioFrame.from_ndarray(
                    np.ascontiguousarray(wave[:, offset : offset + 1024]), "s16", "mono"
                )
                part.sample_rate, part.pts = 16000, start + offset
                part.time_base = Fraction(1, 16000)
                container.mux(sound.encode(part))
            container.mux(sound.encode(None))
    return pathlib.Path(path)


def packets(path, kind):
    """(time in seconds, bytes) of each packet of the first stream of a kind."""
    with av.open(str(path)) as container:
        stream = getattr(container.streams, kind)[0]
        return [
            (Fraction(p.pts) * p.time_base, bytes(p)) for p in container.demux(stream) if p.size
        ]


@pytest.fixture
def clips():
    """The helpers above, without an import that depends on where pytest was started."""

    class Clips:
        write = staticmethod(write_clip)
        image = staticmethod(numbered_image)
        number = staticmethod(read_number)
        packets = staticmethod(packets)

    return Clips


@pytest.fixture(scope="session")
def real_clips():
    """The real clips beside the checkout; the test is skipped where there are none."""
    root = pathlib.Path(__file__).resolve().parents[2]
    shared = pathlib.Path(os.environ.get("FACEGAN_SHARED", root.parent / "shared"))
    found = sorted((shared / "media" / "clips").glob("*.mp4"))
    if not found:
        pytest.skip("no real clips beside the checkout")
    return found
