"""Whatever the clip: frame count, stamps and sound come out as they went in."""

import pathlib
import tempfile
from fractions import Fraction

import av
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from facegan.video.deflicker import DeflickerConfig, FrameDeflicker
from facegan.video.reader import VideoReader, count_frames, probe_clip
from facegan.video.writer import SegmentedWriter, VideoWriter

QUICK = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
AUDIO_RATE = 16000


@st.composite
def timelines(draw):
    """A rate, a time base and growing stamps, regular or with gaps, starting anywhere."""
    rate = draw(st.sampled_from([Fraction(24000, 1001), 25, 30, Fraction(30000, 1001), 60]))
    rate = Fraction(rate)
    if draw(st.booleans()):
        time_base = 1 / rate
        gaps = draw(st.lists(st.just(1), max_size=30))
    else:
        time_base = draw(
            st.sampled_from([Fraction(1, 600), Fraction(1, 15360), Fraction(1, 90000)])
        )
        step = round(1 / (rate * time_base))
        gaps = draw(st.lists(st.integers(1, 4 * step), max_size=30))
    start = draw(st.integers(0, 3))
    return rate, time_base, [int(p) for p in np.cumsum([start, *gaps])]


def image_of(index, height, width):
    return np.full((height, width, 3), 20 + 5 * (index % 40), np.uint8)


def write_all(writer, stamps, hw, begin=0):
    with writer:
        for index in range(begin, len(stamps)):
            writer.write(image_of(index, *hw), stamps[index])


def write_sound(path, length_s, start_s):
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=AUDIO_RATE, layout="mono")
        count = max(2048, round(length_s * AUDIO_RATE))
        for offset in range(0, count, 1024):
            part = av.AudioFrame.from_ndarray(np.full((1, 1024), 300, np.int16), "s16", "mono")
            part.sample_rate, part.time_base = AUDIO_RATE, Fraction(1, AUDIO_RATE)
            part.pts = round(start_s * AUDIO_RATE) + offset
            container.mux(sound.encode(part))
        container.mux(sound.encode(None))


def sound_of(path):
    with av.open(str(path)) as container:
        return [
            (p.pts * p.time_base, (p.pts + p.duration) * p.time_base, bytes(p))
            for p in container.demux(audio=0)
            if p.size
        ]


@QUICK
@given(
    timeline=timelines(),
    hw=st.tuples(st.integers(16, 40), st.integers(16, 40)),
    suffix=st.sampled_from([".mp4", ".mov"]),
    segment_frames=st.integers(1, 12),
    stop=st.integers(0, 30),
    sound=st.none() | st.tuples(st.floats(0.1, 3.0), st.floats(0.0, 0.5)),
)
def test_stamps_count_and_sound_are_kept(timeline, hw, suffix, segment_frames, stop, sound):
    rate, time_base, stamps = timeline
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        audio = None
        if sound is not None:
            audio = folder / "sound.m4a"
            audio = audio.with_suffix(".mp4")
            write_sound(audio, *sound)
        same = {
            "width": hw[1],
            "height": hw[0],
            "frame_rate": rate,
            "time_base": time_base,
            "audio_from": audio,
            "preset": "ultrafast",
        }
        plain, joined = folder / f"plain{suffix}", folder / f"joined{suffix}"
        write_all(VideoWriter(plain, **same), stamps, hw)
        same |= {"work_dir": folder / "work", "segment_frames": segment_frames}
        broken = SegmentedWriter(joined, **same)
        for index in range(min(stop, len(stamps))):
            broken.write(image_of(index, *hw), stamps[index])
        broken.abort()
        resumed = SegmentedWriter(joined, **same)
        assert resumed.resume_index == min(stop, len(stamps)) // segment_frames * segment_frames
        write_all(resumed, stamps, hw, begin=resumed.resume_index)
        end_s = (stamps[-1] + max(1, round(1 / (rate * time_base)))) * time_base
        for path in (plain, joined):
            frames = list(VideoReader(path, strict=True))
            assert [f.pts * f.time_base for f in frames] == [p * time_base for p in stamps]
            assert [f.index for f in frames] == list(range(len(stamps)))
            assert count_frames(path) == len(stamps) == probe_clip(path).num_frames
            for frame in frames:
                wanted = image_of(frame.index, 1, 1)[0, 0]
                assert np.abs(frame.image.mean(axis=(0, 1)) - wanted).max() < 6
            if audio is not None and sound_of(audio)[0][0] < end_s:
                old, new = sound_of(audio), sound_of(path)
                kept = [o for o in old if o[0] < end_s]
                # A rest of less than one unit of the sound's clock is no packet.
                assert len(kept) - 1 <= len(new) <= len(kept)
                assert [(n[0], n[2]) for n in new] == [(o[0], o[2]) for o in kept[: len(new)]]
                assert new[-1][1] <= end_s
                assert new[-1][1] >= min(old[-1][1], end_s) - Fraction(2, AUDIO_RATE)


@QUICK
@given(
    seed=st.integers(0, 1000),
    method=st.sampled_from(["off", "guarded", "motion"]),
    strength=st.floats(0.0, 0.95),
    tolerance=st.floats(0.5, 255.0),
    hw=st.tuples(st.integers(1, 150), st.integers(1, 150)),
)
def test_deflicker_of_a_constant_clip_is_the_clip(seed, method, strength, tolerance, hw):
    image = np.random.default_rng(seed).integers(0, 256, (*hw, 3)).astype(np.uint8)
    config = DeflickerConfig(method=method, strength=strength, tolerance=tolerance)
    deflicker = FrameDeflicker(config)
    for _ in range(4):
        assert np.array_equal(deflicker(image), image)


@QUICK
@given(seed=st.integers(0, 1000), method=st.sampled_from(["guarded", "motion"]))
def test_deflicker_stays_between_the_frames_it_blends(seed, method):
    rng = np.random.default_rng(seed)
    low, high = sorted(rng.integers(0, 256, 2))
    frames = rng.integers(low, high + 1, (4, 40, 40, 3)).astype(np.uint8)
    deflicker = FrameDeflicker(DeflickerConfig(method=method, tolerance=100.0))
    for frame in frames:
        shown = deflicker(frame)
        assert low <= shown.min() and shown.max() <= high
