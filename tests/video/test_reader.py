"""Reading: exact times, upright pictures, and one sentence for what cannot be read."""

import tracemalloc
from fractions import Fraction

import av
import numpy as np
import pytest

from facegan.errors import ConfigError, VideoError
from facegan.video.reader import VideoReader, count_frames, default_colorspace, probe_clip

B_FRAMES = {"bf": "3", "g": "12"}


def read(path, **kwargs):
    with VideoReader(path, **kwargs) as reader:
        return list(reader), reader


def test_frames_come_in_display_order_with_index_and_stamps(tmp_path, clips):
    path = clips.write(tmp_path / "a.mp4", num_frames=40, options=B_FRAMES)
    frames, reader = read(path)
    assert [clips.number(f.image) for f in frames] == list(range(40))
    assert [f.index for f in frames] == list(range(40))
    assert [f.pts * f.time_base for f in frames] == [Fraction(i, 25) for i in range(40)]
    assert reader.problems == []
    assert frames[0].image.flags["C_CONTIGUOUS"] and frames[0].image.dtype == np.uint8


@pytest.mark.parametrize("name", ["a.mp4", "a.mov"])
def test_ntsc_rate_is_exact(tmp_path, clips, name):
    rate = Fraction(30000, 1001)
    path = clips.write(tmp_path / name, num_frames=35, rate=rate)
    info = probe_clip(path)
    assert info.frame_rate == rate and info.num_frames == 35
    frames, _ = read(path)
    assert [f.pts * f.time_base for f in frames] == [i / rate for i in range(35)]


def test_ntsc_rate_survives_millisecond_stamps(tmp_path, clips):
    path = clips.write(tmp_path / "a.mkv", num_frames=60, rate=Fraction(30000, 1001))
    assert probe_clip(path).frame_rate == Fraction(30000, 1001)


def test_variable_frame_rate_keeps_every_gap(tmp_path, clips):
    stamps = [0, 1, 2, 10, 11, 40, 41, 43, 90]
    path = clips.write(tmp_path / "a.mp4", pts=stamps, time_base=Fraction(1, 60), options=B_FRAMES)
    frames, reader = read(path)
    assert [f.pts * f.time_base for f in frames] == [Fraction(s, 60) for s in stamps]
    assert reader.problems == []


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_rotation_flag_is_applied(tmp_path, clips, turn):
    def marked(number, height, width):
        image = np.full((height, width, 3), 30, np.uint8)
        image[: height // 2, : width // 2] = (220, 40, 40)
        return image

    path = clips.write(tmp_path / "a.mp4", num_frames=3, height=48, width=80, image=marked,
                       rotation_deg=turn)  # fmt: skip
    info = probe_clip(path)
    assert info.rotation_deg == turn
    assert (info.height, info.width) == ((48, 80) if turn == 180 else (80, 48))
    expected = np.rot90(marked(0, 48, 80), -turn // 90)
    frames, _ = read(path)
    assert frames[0].image.shape == expected.shape
    assert np.abs(frames[0].image.astype(int) - expected).mean() < 6
    small, _ = read(path, size_hw=(info.height // 2, info.width // 2))
    assert np.abs(small[0].image.astype(int) - expected[::2, ::2]).mean() < 8


def test_odd_sizes_are_kept(tmp_path, clips):
    path = clips.write(
        tmp_path / "a.mkv", height=65, width=101, codec="ffv1", pix_fmt="yuv444p", num_frames=5
    )
    frames, reader = read(path)
    assert frames[0].image.shape == (65, 101, 3)
    assert (reader.info.height, reader.info.width) == (65, 101)
    assert [clips.number(f.image) for f in frames] == list(range(5))


@pytest.mark.parametrize("hd", [False, True])
def test_untagged_colours_follow_the_picture_size(tmp_path, clips, hd):
    height, width = (720, 1280) if hd else (64, 64)
    colour = (200, 60, 120)

    def flat(number, height, width):
        return np.full((height, width, 3), colour, np.uint8)

    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25, width=width, height=height)
        stream.codec_context.pix_fmt = "yuv420p"
        frame = av.VideoFrame.from_ndarray(flat(0, height, width), format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace=default_colorspace(height, width))
        frame.colorspace = 2
        frame.pts = 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    frames, _ = read(path)
    assert np.abs(frames[0].image.reshape(-1, 3).mean(axis=0) - colour).max() < 2.5


def test_start_index_and_start_pts_give_the_same_frames(tmp_path, clips):
    path = clips.write(tmp_path / "a.mp4", num_frames=50, options=B_FRAMES)
    whole, _ = read(path)
    for start in (1, 13, 30, 49):
        tail, _ = read(path, start_index=start)
        jumped, _ = read(path, start_index=start, start_pts=whole[start].pts)
        missed, _ = read(path, start_index=start, start_pts=whole[start].pts + 1)
        for frames in (tail, jumped, missed):
            assert [(f.index, f.pts) for f in frames] == [(f.index, f.pts) for f in whole[start:]]
            assert all(
                np.array_equal(a.image, b.image) for a, b in zip(frames, whole[start:], strict=True)
            )


def test_start_past_the_end_yields_nothing(tmp_path, clips):
    path = clips.write(tmp_path / "a.mp4", num_frames=5)
    assert read(path, start_index=9)[0] == []


def test_reader_can_be_iterated_twice(tmp_path, clips):
    reader = VideoReader(clips.write(tmp_path / "a.mp4", num_frames=4))
    assert len(list(reader)) == len(list(reader)) == 4


@pytest.mark.parametrize("options", [{"bf": "0"}, B_FRAMES])
def test_avi_has_the_order_of_decoding_only(tmp_path, clips, options):
    path = clips.write(tmp_path / "a.avi", num_frames=30, options=options)
    frames, _ = read(path, strict=True)
    assert [clips.number(f.image) for f in frames] == list(range(30))
    assert [f.pts for f in frames] == list(range(30))
    tail, _ = read(path, start_index=20, start_pts=20)
    assert [(f.index, f.pts, clips.number(f.image)) for f in tail] == [
        (i, i, i) for i in range(20, 30)
    ]


def test_raw_stream_without_a_clock_is_told(tmp_path, clips):
    path = clips.write(tmp_path / "a.h264", num_frames=30, options=B_FRAMES, format="h264")
    frames, reader = read(path)
    assert [clips.number(f.image) for f in frames] == list(range(30))
    assert [f.pts * f.time_base for f in frames] == [Fraction(i, 25) for i in range(30)]
    assert len(reader.problems) == 1 and "no time stamps" in reader.problems[0]


def test_repeated_stamps_are_mended_and_told(tmp_path, clips):
    source = clips.write(tmp_path / "a.mp4", num_frames=12, options={"bf": "0"})
    path = tmp_path / "twice.mkv"
    with av.open(str(source)) as container, av.open(str(path), "w") as sink:
        stream = sink.add_stream_from_template(container.streams.video[0])
        for index, packet in enumerate(container.demux(video=0)):
            if packet.size:
                if index in (5, 6):
                    packet.pts = packet.dts = packet.pts - (index - 4) * packet.duration
                packet.stream = stream
                sink.mux(packet)
    frames, reader = read(path)
    assert [clips.number(f.image) for f in frames] == list(range(12))
    assert [f.pts for f in frames][4:8] == [160, 161, 162, 280]
    assert len(reader.problems) == 2 and reader.problems[0].startswith("Frame 5 ")
    with pytest.raises(VideoError, match="Frame 5 "):
        read(path, strict=True)
    tail, _ = read(path, start_index=6, start_pts=162)
    assert [(f.index, f.pts) for f in tail] == [(f.index, f.pts) for f in frames[6:]]


def test_closing_while_reading_is_told(tmp_path, clips):
    reader = VideoReader(clips.write(tmp_path / "a.mp4", num_frames=9))
    frames = iter(reader)
    next(frames)
    reader.close()
    with pytest.raises(VideoError, match="while it was being read"):
        next(frames)
    first = iter(reader)
    next(first)
    second = iter(reader)
    next(second)
    with pytest.raises(VideoError, match="begun anew"):
        next(first)
    assert next(second).index == 1


def test_late_sound_is_told(tmp_path, clips):
    path = clips.write(tmp_path / "a.mp4", audio="aac", audio_start_s=0.3)
    info = probe_clip(path)
    assert info.has_audio and info.audio_codec == "aac"
    # The encoder's run-up of 1024 samples comes before the first sound.
    assert abs(info.audio_start_s - 0.3) < 0.07
    silent = probe_clip(clips.write(tmp_path / "b.mp4"))
    assert not silent.has_audio and silent.audio_start_s is None


def test_broadcast_streams_start_at_zero(tmp_path, clips):
    path = clips.write(tmp_path / "a.ts", pts=list(range(250, 280)), audio="aac",
                       audio_start_s=10.0, format="mpegts")  # fmt: skip
    with av.open(str(path)) as container:
        assert container.start_time > 1_000_000
    frames, reader = read(path)
    assert [clips.number(f.image) for f in frames] == list(range(30))
    assert 0 <= frames[0].time_s < 0.2
    assert abs(frames[-1].time_s - frames[0].time_s - 29 / 25) < 1e-3
    assert reader.info.audio_start_s < 0.2


def test_count_frames(tmp_path, clips):
    whole = clips.write(tmp_path / "a.mp4", num_frames=37, options=B_FRAMES)
    assert count_frames(whole) == 37
    assert count_frames(clips.write(tmp_path / "b.mkv", num_frames=21, options=B_FRAMES)) == 21
    hidden = clips.write(tmp_path / "c.webm", num_frames=12, codec="libvpx-vp9",
                         options={"auto-alt-ref": "1", "lag-in-frames": "8"})  # fmt: skip
    assert count_frames(hidden) == 12 == len(read(hidden)[0])


def truncated(tmp_path, clips, keep=0.6):
    def busy(number, height, width):
        grain = np.random.default_rng(number).integers(0, 256, (height, width, 3))
        return grain.astype(np.uint8)

    path = clips.write(tmp_path / "whole.mp4", num_frames=40, image=busy)
    front = tmp_path / "front.mp4"
    with (
        av.open(str(path)) as source,
        av.open(str(front), "w", container_options={"movflags": "faststart"}) as sink,
    ):
        stream = sink.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                sink.mux(packet)
    data = front.read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(data[: int(len(data) * keep)])
    return cut


def test_truncated_clip_is_reported(tmp_path, clips):
    cut = truncated(tmp_path, clips)
    frames, reader = read(cut)
    assert 10 < len(frames) < 40
    assert any(f"declares 40 frames but {len(frames)}" in p for p in reader.problems)
    assert count_frames(cut) == len(frames)


def test_truncated_clip_is_refused_when_strict(tmp_path, clips):
    cut = truncated(tmp_path, clips)
    with pytest.raises(VideoError, match=r"cut\.mp4: "):
        read(cut, strict=True)


def test_truncated_matroska_is_reported(tmp_path, clips):
    def busy(number, height, width):
        return np.random.default_rng(number).integers(0, 256, (height, width, 3)).astype(np.uint8)

    path = clips.write(tmp_path / "a.mkv", num_frames=60, image=busy)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    frames, reader = read(path)
    assert 10 < len(frames) < 60 and reader.problems


def test_flipped_bits_never_pass_silently_or_crash(tmp_path, clips):
    path = clips.write(tmp_path / "a.mp4", num_frames=30, options=B_FRAMES)
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(12):
        broken = bytearray(data)
        for place in rng.integers(0, len(data), 8):
            broken[place] ^= 1 << int(rng.integers(8))
        bad = tmp_path / "bad.mp4"
        bad.write_bytes(broken)
        try:
            frames, reader = read(bad)
        except VideoError:
            continue
        assert len(frames) == 30 or reader.problems
        stamps = [f.pts for f in frames]
        assert all(a < b for a, b in zip(stamps, stamps[1:], strict=False))


def test_problems_do_not_grow_with_the_clip(tmp_path, clips):
    from facegan.video.reader import MAX_PROBLEMS, _Problems

    problems = _Problems()
    for number in range(1000):
        problems.add(f"fault {number}")
    assert len(problems.sentences()) == MAX_PROBLEMS + 1
    assert "980 more" in problems.sentences()[-1]


def test_edit_list_frames_are_not_missed(tmp_path, clips):
    # A clip cut between key frames keeps the frames before the cut and hides them.
    path = clips.write(tmp_path / "a.mp4", num_frames=30, options={"g": "30", "bf": "0"})
    cut = tmp_path / "cut.mp4"
    with av.open(str(path)) as source, av.open(str(cut), "w") as sink:
        stream = sink.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                shift = round(Fraction(10, 25) / packet.time_base)
                packet.pts -= shift
                packet.dts -= shift
                packet.stream = stream
                sink.mux(packet)
    frames, reader = read(cut)
    assert [clips.number(f.image) for f in frames] == list(range(10, 30))
    assert reader.problems == [] and reader.info.num_frames == 20 == count_frames(cut)


def test_what_is_not_a_video_gets_one_sentence(tmp_path, clips):
    import cv2

    (tmp_path / "junk.mp4").write_bytes(bytes(range(256)) * 40)
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("a text, not a video\n" * 20)
    cv2.imwrite(str(tmp_path / "still.png"), np.zeros((32, 32, 3), np.uint8))
    with av.open(str(tmp_path / "sound.m4a"), "w", format="mp4") as container:
        sound = container.add_stream("aac", rate=16000, layout="mono")
        part = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.int16), "s16", "mono")
        part.sample_rate = 16000
        container.mux(sound.encode(part))
        container.mux(sound.encode(None))
    whole = clips.write(tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "head.mp4").write_bytes(whole[: len(whole) // 2])
    cases = {
        "missing.mp4": "does not exist",
        ".": "is a folder",
        "junk.mp4": "not a video",
        "empty.mp4": "empty file",
        "text.mp4": "not a video|no video stream",
        "still.png": "still picture",
        "sound.m4a": "no video stream",
        "head.mp4": "not a video",
    }
    for name, words in cases.items():
        for reading in (probe_clip, count_frames, VideoReader):
            with pytest.raises(VideoError, match=words) as caught:
                reading(tmp_path / name)
            assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


def test_video_without_frames_is_refused(tmp_path):
    path = tmp_path / "none.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, width=64, height=64)
        stream.codec_context.pix_fmt = "yuv420p"
        container.start_encoding()
    with pytest.raises(VideoError):
        probe_clip(path)


def test_absurd_size_is_refused_before_decoding(tmp_path):
    path = tmp_path / "bomb.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_mux_stream("mjpeg", rate=25, width=12000, height=12000)
        packet = av.Packet(b"\xff\xd8" + bytes(100))
        packet.pts = packet.dts = 0
        packet.time_base = Fraction(1, 25)
        packet.stream = stream
        container.mux(packet)
    with pytest.raises(VideoError, match="12000x12000.*megapixels"):
        probe_clip(path)


def test_cover_art_is_no_video(tmp_path, clips):
    source = clips.write(tmp_path / "a.mp4", num_frames=1, codec="mjpeg", pix_fmt="yuvj420p",
                         audio="aac")  # fmt: skip
    music = tmp_path / "music.m4a"
    with av.open(str(source)) as container, av.open(str(music), "w", format="mp4") as sink:
        streams = {
            s.index: sink.add_stream_from_template(s, opaque=True) for s in container.streams
        }
        streams[0].disposition = av.stream.Disposition.attached_pic
        for packet in container.demux():
            if packet.size:
                packet.stream = streams[packet.stream.index]
                sink.mux(packet)
    with pytest.raises(VideoError, match="no video stream"):
        probe_clip(music)


def test_names_with_colons_are_files(tmp_path, clips):
    path = clips.write(tmp_path / "a.mp4", num_frames=2).rename(tmp_path / "data:12:30.mp4")
    assert probe_clip(path).num_frames == 2


def test_wrong_arguments(tmp_path, clips):
    path = clips.write(tmp_path / "a.mp4", num_frames=2)
    with pytest.raises(ConfigError, match="start_index"):
        VideoReader(path, start_index=-1)
    with pytest.raises(ConfigError, match="size_hw"):
        VideoReader(path, size_hw=(0, 5))


def test_memory_does_not_grow_with_the_clip(tmp_path, clips):
    path = clips.write(tmp_path / "a.mp4", num_frames=300)
    tracemalloc.start()
    try:
        reader = iter(VideoReader(path))
        for _ in range(20):
            next(reader)
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(270):
            next(reader)
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 100_000


def test_real_clips(real_clips):
    for path in real_clips:
        with VideoReader(path, size_hw=(64, 64), strict=True) as reader:
            stamps = [f.pts for f in reader]
        assert len(stamps) == reader.info.num_frames == count_frames(path)
        assert all(a < b for a, b in zip(stamps, stamps[1:], strict=False))
