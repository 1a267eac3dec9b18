"""Writing: the stamps given are the stamps in the file, sound stays in place, nothing half done."""

import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import time
from fractions import Fraction

import av
import numpy as np
import pytest

from facegan import config
from facegan.errors import ConfigError, VideoError
from facegan.video.reader import VideoReader, probe_clip
from facegan.video.writer import SegmentedWriter, VideoWriter, join_clips, write_gif

ROOT = pathlib.Path(__file__).resolve().parents[2]
NTSC = Fraction(30000, 1001)


def copy_clip(source, output, **kwargs):
    with VideoReader(source) as reader:
        info = reader.info
        with VideoWriter(
            output,
            width=info.width,
            height=info.height,
            frame_rate=info.frame_rate,
            time_base=info.time_base,
            audio_from=source,
            **kwargs,
        ) as writer:
            for frame in reader:
                writer.write(frame.image, frame.pts)
    return writer


def times(path):
    return [f.pts * f.time_base for f in VideoReader(path, strict=True)]


def files_in(folder):
    return sorted(p.name for p in folder.iterdir())


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".m4v"])
@pytest.mark.parametrize(
    "stamps, time_base",
    [
        (None, 1 / NTSC),
        ([0, 1, 2, 10, 11, 40, 41, 43, 90], Fraction(1, 60)),
        ([7, 8, 20], Fraction(1, 12)),
        ([0, 33366, 66733, 100100, 133467], Fraction(1, 1_000_000)),
    ],
)
def test_stamps_are_kept_exactly(tmp_path, clips, suffix, stamps, time_base):
    source = clips.write(tmp_path / "in.mp4", pts=stamps, rate=NTSC, time_base=time_base)
    output = tmp_path / f"out{suffix}"
    copy_clip(source, output)
    assert times(output) == times(source)
    frames = list(VideoReader(output))
    assert [clips.number(f.image) for f in frames] == list(range(len(frames)))
    assert files_in(tmp_path) == sorted(["in.mp4", f"out{suffix}"])


def test_matroska_rounds_to_milliseconds(tmp_path, clips):
    source = clips.write(tmp_path / "in.mp4", num_frames=30, rate=NTSC, audio="aac")
    output = tmp_path / "out.mkv"
    copy_clip(source, output)
    pairs = zip(times(source), times(output), strict=True)
    assert max(abs(a - b) for a, b in pairs) <= Fraction(1, 2000)
    assert probe_clip(output).frame_rate == NTSC


def test_rate_and_length_are_exact(tmp_path, clips):
    source = clips.write(tmp_path / "in.mp4", num_frames=31, rate=NTSC)
    copy_clip(source, tmp_path / "out.mp4")
    info = probe_clip(tmp_path / "out.mp4")
    assert info.frame_rate == NTSC and info.num_frames == 31
    assert info.duration_s == pytest.approx(31 * 1001 / 30000, abs=1e-9)


@pytest.mark.parametrize("start_s", [0.0, 0.25])
@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_sound_is_copied_packet_by_packet(tmp_path, clips, suffix, start_s):
    source = clips.write(tmp_path / "in.mp4", num_frames=30, audio="aac", audio_start_s=start_s,
                         audio_duration_s=1.2 - start_s)  # fmt: skip
    output = tmp_path / f"out{suffix}"
    assert copy_clip(source, output).audio == "copied"
    old, new = clips.packets(source, "audio"), clips.packets(output, "audio")
    assert new == old[: len(new)] and len(new) >= len(old) - 2
    assert probe_clip(output).audio_start_s == probe_clip(source).audio_start_s


def test_late_sound_of_odd_rates_stays_exact(tmp_path, clips):
    # Milliseconds, MP4's usual unit for late starts, would round 0.1234375 s.
    source = clips.write(tmp_path / "in.mkv", num_frames=30, audio="pcm_s16le",
                         audio_start_s=0.1234375)  # fmt: skip
    late = tmp_path / "late.mov"
    copy_clip(source, late)
    again = tmp_path / "again.mov"
    copy_clip(late, again)
    assert clips.packets(again, "audio")[0][0] == clips.packets(late, "audio")[0][0]
    assert abs(clips.packets(late, "audio")[0][0] - Fraction(1234375, 10**7)) < Fraction(1, 1000)


@pytest.mark.parametrize("audio, suffix", [("pcm_s16le", ".mp4"), ("flac", ".mov")])
def test_sound_is_encoded_where_the_container_does_not_take_it(tmp_path, clips, audio, suffix):
    source = clips.write(tmp_path / "in.mkv", num_frames=30, audio=audio, audio_start_s=0.2,
                         audio_duration_s=1.0)  # fmt: skip
    output = tmp_path / f"out{suffix}"
    assert copy_clip(source, output).audio == "encoded"
    info = probe_clip(output)
    assert info.audio_codec == "aac"
    with av.open(str(output)) as container:
        parts = list(container.decode(audio=0))
    wave = np.concatenate([p.to_ndarray()[0] for p in parts])
    loud = np.abs(wave) > 0.02
    first_s = float(parts[0].pts * parts[0].time_base) + loud.argmax() / 16000
    assert abs(first_s - 0.2) < 0.01
    crossings = np.sum((wave[4000:12000][:-1] < 0) & (wave[4000:12000][1:] >= 0))
    assert abs(crossings - 220) < 5


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("rate", [Fraction(25), Fraction(60)])
def test_sound_ends_with_the_picture(tmp_path, clips, suffix, rate):
    source = clips.write(tmp_path / "in.mp4", num_frames=40, rate=rate, audio="aac",
                         audio_duration_s=4.0)  # fmt: skip
    output = tmp_path / f"out{suffix}"
    copy_clip(source, output)
    with av.open(str(output)) as container:
        end_s = max(
            float((p.pts + p.duration) * p.time_base) for p in container.demux(audio=0) if p.size
        )
    slack = Fraction(512, 16000) if suffix == ".mkv" else 0
    assert abs(end_s - 40 / rate) <= slack + Fraction(1, 1000)
    if suffix != ".mkv":
        info = probe_clip(output)
        assert abs(info.audio_duration_s + info.audio_start_s - info.duration_s) < 1e-3


def test_broadcast_sound_is_carried_into_mp4(tmp_path, clips):
    source = clips.write(tmp_path / "in.ts", pts=list(range(250, 280)), audio="aac",
                         audio_start_s=10.0, format="mpegts")  # fmt: skip
    output = tmp_path / "out.mp4"
    assert copy_clip(source, output).audio == "copied"
    assert times(output) == times(source)
    info = probe_clip(output)
    assert info.audio_start_s < 0.2 and info.audio_duration_s == pytest.approx(1.2, abs=0.1)


def test_picture_and_sound_are_interleaved(tmp_path, clips):
    source = clips.write(tmp_path / "in.mp4", num_frames=200, audio="aac")
    output = tmp_path / "out.mp4"
    copy_clip(source, output)
    with av.open(str(output)) as container:
        places = {"video": [], "audio": []}
        for packet in container.demux():
            if packet.size:
                places[packet.stream.type].append(packet.pos)
    middle = sum(p < np.median(places["video"]) for p in places["audio"]) / len(places["audio"])
    assert 0.35 < middle < 0.65


def test_source_without_sound_gives_none(tmp_path, clips):
    source = clips.write(tmp_path / "in.mp4")
    assert copy_clip(source, tmp_path / "out.mp4").audio == "none"
    assert not probe_clip(tmp_path / "out.mp4").has_audio


@pytest.mark.parametrize("height, width", [(65, 101), (64, 33), (1, 1)])
def test_odd_sizes_are_padded_by_repeating_the_edge(tmp_path, height, width):
    rng = np.random.default_rng(0)
    image = rng.integers(40, 200, (1, 1, 3)).astype(np.uint8) + np.zeros(
        (height, width, 3), np.uint8
    )
    with VideoWriter(
        tmp_path / "a.mp4", width=width, height=height, frame_rate=25, time_base=Fraction(1, 25)
    ) as writer:
        writer.write(image, 0)
    assert writer.padded
    frame = next(iter(VideoReader(tmp_path / "a.mp4")))
    assert frame.image.shape == (height + height % 2, width + width % 2, 3)
    assert np.abs(frame.image.astype(int) - image[0, 0]).max() <= 4


@pytest.mark.parametrize("height, width", [(64, 64), (720, 1280)])
def test_colours_survive_and_are_tagged(tmp_path, height, width):
    ys, xs = np.mgrid[0:height, 0:width]
    image = np.stack([xs * 255 // width, ys * 255 // height, 255 - xs * 255 // width], -1)
    image = image.astype(np.uint8)
    path = tmp_path / "a.mp4"
    with VideoWriter(
        path, width=width, height=height, frame_rate=25, time_base=Fraction(1, 25), crf=1
    ) as writer:
        writer.write(image, 0)
    shown = next(iter(VideoReader(path))).image.astype(float)
    assert np.abs(shown - image).mean() < 2.0
    assert np.abs((shown - image).mean(axis=(0, 1))).max() < 0.5
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        assert (context.colorspace, context.color_range) == (1 if height > 576 else 6, 1)
        assert (context.color_primaries, context.color_trc) == (1, 1)
        assert context.pix_fmt == "yuv420p" and context.name == "h264"


def test_pixel_aspect_is_kept(tmp_path, clips):
    with VideoWriter(
        tmp_path / "a.mp4", width=64, height=60, frame_rate=25, time_base=Fraction(1, 25),
        pixel_aspect=Fraction(15, 16),
    ) as writer:  # fmt: skip
        writer.write(clips.image(0, 60, 64), 0)
    assert probe_clip(tmp_path / "a.mp4").pixel_aspect == Fraction(15, 16)


def test_index_is_in_front(tmp_path, clips):
    copy_clip(clips.write(tmp_path / "in.mp4"), tmp_path / "out.mp4")
    data = (tmp_path / "out.mp4").read_bytes()
    assert 0 < data.find(b"moov") < data.find(b"mdat")


def settings(**kwargs):
    return {"width": 64, "height": 64, "frame_rate": 25, "time_base": Fraction(1, 25), **kwargs}


def test_an_error_in_the_block_leaves_nothing(tmp_path, clips):
    with pytest.raises(KeyError), VideoWriter(tmp_path / "a.mp4", **settings()) as writer:
        writer.write(clips.image(0), 0)
        assert files_in(tmp_path) != ["a.mp4"]
        raise KeyError
    assert files_in(tmp_path) == []
    with pytest.raises(VideoError, match="closed"):
        writer.write(clips.image(1), 1)


def test_no_frame_no_file(tmp_path):
    with pytest.raises(VideoError, match="no frame"), VideoWriter(tmp_path / "a.mp4", **settings()):
        pass
    assert files_in(tmp_path) == []


def test_stamps_must_grow(tmp_path, clips):
    with (
        pytest.raises(VideoError, match="Frame 1 .* time stamp 5"),
        VideoWriter(tmp_path / "a.mp4", **settings()) as writer,
    ):
        writer.write(clips.image(0), 5)
        writer.write(clips.image(1), 5)
    assert files_in(tmp_path) == []


def test_frames_must_have_the_declared_size(tmp_path, clips):
    with (
        pytest.raises(ConfigError, match=r"\(64, 64, 3\)"),
        VideoWriter(tmp_path / "a.mp4", **settings()) as writer,
    ):
        writer.write(clips.image(0, 32, 64), 0)


@pytest.mark.parametrize("kind", [VideoWriter, SegmentedWriter])
def test_places_that_cannot_be_written_are_refused_first(tmp_path, clips, kind):
    (tmp_path / "there.mp4").write_bytes(b"kept")
    (tmp_path / "folder.mp4").mkdir()
    cases = {
        "there.mp4": "exists already",
        "folder.mp4": "is a folder",
        "nowhere/a.mp4": "does not exist",
        "a.avi": r"\.mp4, \.m4v, \.mov, \.mkv",
    }
    if os.geteuid() == 0:
        # Root may write anywhere but in the kernel's own folders.
        cases["/proc/a.mp4"] = "takes no files"
    else:
        (tmp_path / "locked").mkdir(mode=0o500)
        cases["locked/a.mp4"] = "takes no files"
    for name, words in cases.items():
        with pytest.raises(VideoError, match=words) as caught:
            extra = {"work_dir": tmp_path / "work"} if kind is SegmentedWriter else {}
            kind(tmp_path / name, **extra, **settings())
        assert "\n" not in str(caught.value) and str(caught.value).endswith(".")
    assert (tmp_path / "there.mp4").read_bytes() == b"kept"


def test_overwriting_replaces_only_when_done(tmp_path, clips):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"old")
    with VideoWriter(path, **settings(), overwrite=True) as writer:
        writer.write(clips.image(3), 0)
        assert path.read_bytes() == b"old"
    assert clips.number(next(iter(VideoReader(path))).image) == 3


def test_wrong_settings(tmp_path):
    for wrong, words in [
        ({"width": 0}, "width"),
        ({"crf": 99}, "crf"),
        ({"preset": "veryfst"}, "Did you mean 'veryfast'"),
        ({"frame_rate": 29.97}, "Fraction"),
        ({"time_base": Fraction(0)}, "time_base"),
    ]:
        with pytest.raises(ConfigError, match=words):
            VideoWriter(tmp_path / "a.mp4", **settings(**wrong))
    assert files_in(tmp_path) == []


def test_unreadable_sound_leaves_nothing(tmp_path):
    (tmp_path / "junk.mp4").write_bytes(b"junk" * 500)
    with pytest.raises(VideoError, match="junk"):
        VideoWriter(tmp_path / "a.mp4", **settings(), audio_from=tmp_path / "junk.mp4")
    assert files_in(tmp_path) == ["junk.mp4"]


def run_python(code, *args):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, args)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([os.environ.get("PYTHONPATH", ""), str(ROOT)]),
        },
    )


FULL_DISK = """
    import resource, sys
    from fractions import Fraction
    import numpy as np
    from facegan.errors import VideoError
    from facegan.video.writer import SegmentedWriter, VideoWriter

    # A limit on the file size ends writes as a full disk does.
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
    settings = dict(width=64, height=64, frame_rate=25, time_base=Fraction(1, 25))
    if sys.argv[2] == "plain":
        writer = VideoWriter(sys.argv[1] + "/a.mp4", **settings)
    else:
        writer = SegmentedWriter(sys.argv[1] + "/a.mp4", sys.argv[1] + "/parts",
                                 segment_frames=5, **settings)
    rng = np.random.default_rng(0)
    try:
        with writer:
            for index in range(40):
                writer.write(rng.integers(0, 256, (64, 64, 3)).astype(np.uint8), index)
    except VideoError as error:
        print(error)
"""


@pytest.mark.parametrize("kind", ["plain", "segmented"])
def test_full_disk(tmp_path, kind):
    pytest.importorskip("resource")
    process = run_python(FULL_DISK, tmp_path, kind)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert out.startswith("Cannot write") and "too large" in out and out.count("\n") == 1
    assert "Traceback" not in err
    assert files_in(tmp_path) == ([] if kind == "plain" else ["parts"])


def test_leftovers_of_a_killed_writer_are_removed(tmp_path, clips):
    process = run_python("import os; print(os.getpid())")
    dead = int(process.communicate(timeout=60)[0])
    leftover = tmp_path / f".a.mp4.{dead}-0.partial"
    leftover.write_bytes(b"half a video")
    running = tmp_path / f".a.mp4.{os.getppid()}-0.partial"
    running.write_bytes(b"another writer's")
    other = tmp_path / f".b.mp4.{dead}-0.partial"
    other.write_bytes(b"another output's")
    with VideoWriter(tmp_path / "a.mp4", **settings()) as writer:
        writer.write(clips.image(0), 0)
    assert not leftover.exists() and running.exists() and other.exists()


# The segmented writer


def segment_clip(source, output, work, *, start=None, stop=None, **kwargs):
    info = probe_clip(source)
    kwargs = {
        "width": info.width,
        "height": info.height,
        "frame_rate": info.frame_rate,
        "time_base": info.time_base,
        "audio_from": source,
        "segment_frames": 8,
        **kwargs,
    }
    with SegmentedWriter(output, work, **kwargs) as writer:
        begin = writer.resume_index if start is None else start
        for frame in VideoReader(source, start_index=begin):
            if frame.index == stop:
                raise KeyboardInterrupt
            writer.write(frame.image, frame.pts)
    return begin


@pytest.fixture
def source(tmp_path, clips):
    folder = tmp_path / "source"
    folder.mkdir()
    stamps = [2 * i + (i > 20) * 7 for i in range(45)]
    return clips.write(folder / "in.mp4", pts=stamps, time_base=Fraction(1, 50), audio="aac",
                       audio_start_s=0.15, audio_duration_s=3.0)  # fmt: skip


def test_segments_join_to_the_same_times_and_sound(tmp_path, clips, source):
    segment_clip(source, tmp_path / "a.mp4", tmp_path / "work")
    copy_clip(source, tmp_path / "b.mp4")
    assert times(tmp_path / "a.mp4") == times(source)
    frames = list(VideoReader(tmp_path / "a.mp4", strict=True))
    assert [clips.number(f.image) for f in frames] == list(range(45))
    assert clips.packets(tmp_path / "a.mp4", "audio") == clips.packets(tmp_path / "b.mp4", "audio")
    assert probe_clip(tmp_path / "a.mp4").frame_rate == probe_clip(tmp_path / "b.mp4").frame_rate
    assert files_in(tmp_path) == ["a.mp4", "b.mp4", "source"]


@pytest.mark.parametrize("stop", [0, 1, 8, 20, 44])
def test_resumed_file_equals_the_unbroken_one(tmp_path, source, stop):
    segment_clip(source, tmp_path / "whole.mp4", tmp_path / "work0")
    with pytest.raises(KeyboardInterrupt):
        segment_clip(source, tmp_path / "a.mp4", tmp_path / "work", stop=stop)
    assert not (tmp_path / "a.mp4").exists()
    begin = segment_clip(source, tmp_path / "a.mp4", tmp_path / "work")
    assert begin == stop // 8 * 8
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()


def test_resume_pts_is_the_last_stored_stamp(tmp_path, source):
    with pytest.raises(KeyboardInterrupt):
        segment_clip(source, tmp_path / "a.mp4", tmp_path / "work", stop=18)
    info = probe_clip(source)
    with pytest.raises(VideoError, match="not after"), SegmentedWriter(
        tmp_path / "a.mp4", tmp_path / "work", width=64, height=64, frame_rate=info.frame_rate,
        time_base=info.time_base, segment_frames=8,
    ) as writer:  # fmt: skip
        frames = list(VideoReader(source))
        assert writer.resume_index == 16 and writer.resume_pts == frames[15].pts
        writer.write(frames[15].image, frames[15].pts)


KILLED = """
    import sys, time
    from fractions import Fraction
    from facegan.video.reader import VideoReader, probe_clip
    from facegan.video.writer import SegmentedWriter

    source, output, work = sys.argv[1:]
    info = probe_clip(source)
    with SegmentedWriter(output, work, width=64, height=64, frame_rate=info.frame_rate,
                         time_base=info.time_base, audio_from=source, segment_frames=8) as writer:
        print("resumes", writer.resume_index, flush=True)
        for frame in VideoReader(source, start_index=writer.resume_index):
            writer.write(frame.image, frame.pts)
            print("wrote", frame.index, flush=True)
            time.sleep(0.005)
"""


def test_kill_nine_at_any_moment(tmp_path, source):
    segment_clip(source, tmp_path / "whole.mp4", tmp_path / "work0")
    output, work = tmp_path / "a.mp4", tmp_path / "work"
    resumed = []
    for kill_after in (3, 7, 16, 5, 9):
        process = run_python(KILLED, source, output, work)
        for line in process.stdout:
            if line.startswith("resumes"):
                resumed.append(int(line.split()[1]))
            elif int(line.split()[1]) >= resumed[-1] + kill_after:
                break
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        assert not output.exists()
    assert resumed == sorted(resumed) and resumed[-1] >= 16
    process = run_python(KILLED, source, output, work)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert output.read_bytes() == (tmp_path / "whole.mp4").read_bytes()
    assert files_in(tmp_path) == ["a.mp4", "source", "whole.mp4"]


def test_kill_nine_at_random_times(tmp_path, source):
    segment_clip(source, tmp_path / "whole.mp4", tmp_path / "work0")
    output, work = tmp_path / "a.mp4", tmp_path / "work"
    rng = np.random.default_rng(0)
    for _ in range(4):
        process = run_python(KILLED, source, output, work)
        process.stdout.readline()
        time.sleep(float(rng.uniform(0.0, 0.35)))
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        if output.exists():
            break
    if not output.exists():
        process = run_python(KILLED, source, output, work)
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    assert output.read_bytes() == (tmp_path / "whole.mp4").read_bytes()


def test_other_settings_are_refused_or_start_anew(tmp_path, source):
    work = tmp_path / "work"
    with pytest.raises(KeyboardInterrupt):
        segment_clip(source, tmp_path / "a.mp4", work, stop=20, fingerprint="one")
    for change in ({"fingerprint": "two"}, {"crf": 30, "fingerprint": "one"}):
        with pytest.raises(ConfigError, match="another work folder"):
            segment_clip(source, tmp_path / "a.mp4", work, **change)
    assert len(config.read_json(work / "segments.json")["segments"]) == 2
    begin = segment_clip(source, tmp_path / "a.mp4", work, fingerprint="two", overwrite=True)
    assert begin == 0 and times(tmp_path / "a.mp4") == times(source)


def test_a_damaged_work_folder_is_told_or_mended(tmp_path, source):
    work = tmp_path / "work"
    with pytest.raises(KeyboardInterrupt):
        segment_clip(source, tmp_path / "a.mp4", work, stop=30)
    with open(work / "seg-00001.mp4", "ab") as file:
        file.write(b"more")
    (work / "notes.txt").write_text("not ours")
    assert segment_clip(source, tmp_path / "a.mp4", work) == 8
    assert times(tmp_path / "a.mp4") == times(source)
    assert files_in(work) == ["notes.txt"]
    (work / "segments.json").write_text("{")
    with pytest.raises(ConfigError, match="not a JSON file"):
        segment_clip(source, tmp_path / "b.mp4", work)


def test_no_segment_no_file(tmp_path):
    with (
        pytest.raises(VideoError, match="no frame"),
        SegmentedWriter(tmp_path / "a.mp4", tmp_path / "work", **settings()),
    ):
        pass
    assert not (tmp_path / "a.mp4").exists()


def test_gif_keeps_time_and_colours(tmp_path, clips):
    images = [np.full((40, 100, 3), (10 * i, 200, 30), np.uint8) for i in range(12)]
    write_gif(tmp_path / "a.gif", iter(images), fps=30, max_width_px=50)
    info = probe_clip(tmp_path / "a.gif")
    assert (info.height, info.width) == (20, 50)
    frames = list(VideoReader(tmp_path / "a.gif"))
    assert len(frames) == 12
    assert [round(100 * f.time_s) for f in frames] == [round(100 * i / 30) for i in range(12)]
    for frame, image in zip(frames, images, strict=True):
        assert np.abs(frame.image.astype(int) - image[:20, :50]).max() <= 6
    with pytest.raises(VideoError, match="exists"):
        write_gif(tmp_path / "a.gif", images, fps=30)
    with pytest.raises(VideoError, match="no image"):
        write_gif(tmp_path / "b.gif", [], fps=30)
    with pytest.raises(ConfigError, match="Image 1 "):
        write_gif(tmp_path / "b.gif", [images[0], images[0][:20]], fps=30)
    assert files_in(tmp_path) == ["a.gif"]


def test_clips_side_by_side_stay_in_time(tmp_path, clips):
    left = clips.write(tmp_path / "l.mp4", num_frames=24, rate=Fraction(24), audio="aac")
    right = clips.write(tmp_path / "r.mp4", num_frames=6, rate=Fraction(12), height=32, width=64)
    count = join_clips([left, right], tmp_path / "out.mp4")
    assert count == 24
    frames = list(VideoReader(tmp_path / "out.mp4"))
    assert frames[0].image.shape == (64, 64 + 128, 3)
    assert [clips.number(f.image[:, :64]) for f in frames] == list(range(24))
    assert [clips.number(f.image[:, 64:]) for f in frames] == [min(i // 2, 5) for i in range(24)]
    assert clips.packets(tmp_path / "out.mp4", "audio")[:10] == clips.packets(left, "audio")[:10]


def test_real_clips_are_copied_exactly(tmp_path, clips, real_clips):
    for path in real_clips:
        output = tmp_path / path.name
        info = probe_clip(path)
        stamps = []
        with VideoWriter(
            output, width=64, height=64, frame_rate=info.frame_rate, time_base=info.time_base,
            audio_from=path,
        ) as writer:  # fmt: skip
            for frame in VideoReader(path, size_hw=(64, 64)):
                stamps.append(frame.pts * frame.time_base)
                writer.write(frame.image, frame.pts)
        assert times(output) == stamps
        new = probe_clip(output)
        assert new.frame_rate == info.frame_rate and new.has_audio == info.has_audio
        if info.has_audio:
            assert writer.audio == "copied"
            old, kept = clips.packets(path, "audio"), clips.packets(output, "audio")
            assert kept == old[: len(kept)]
            assert abs(new.audio_duration_s - new.duration_s) <= 1 / info.frame_rate


def metadata_of(path):
    """Names in lower case, as Matroska's readers shout them."""
    with av.open(str(path)) as container:
        return {name.lower(): text for name, text in container.metadata.items()}


TEXTS = {"comment": "Made up; all of it.", "description": "Nobody's face.", "software": "facegan 9"}
KEPT = {
    ".mp4": {"comment": "comment", "description": "description", "software": "encoder"},
    ".m4v": {"comment": "comment", "description": "description", "software": "encoder"},
    ".mov": {"comment": "comment"},
    ".mkv": {"comment": "comment", "description": "description", "software": "software"},
}


@pytest.mark.parametrize("suffix", KEPT)
def test_metadata_is_written_as_far_as_the_container_keeps_it(tmp_path, clips, suffix):
    source, output = tmp_path / "in.mp4", tmp_path / f"out{suffix}"
    clips.write(source, num_frames=5)
    copy_clip(source, output, metadata=TEXTS)
    found = metadata_of(output)
    assert {name: found.get(kept) for name, kept in KEPT[suffix].items()} == {
        name: TEXTS[name] for name in KEPT[suffix]
    }
    copy_clip(source, output, overwrite=True)
    assert not set(TEXTS.values()) & set(metadata_of(output).values())


def test_joined_segments_and_joined_clips_carry_metadata(tmp_path):
    frame = np.zeros((32, 32, 3), np.uint8)
    with SegmentedWriter(
        tmp_path / "out.mkv",
        tmp_path / "work",
        width=32,
        height=32,
        frame_rate=25,
        time_base=Fraction(1, 25),
        segment_frames=2,
        metadata=TEXTS,
    ) as writer:
        for pts in range(5):
            writer.write(frame, pts)
    join_clips([tmp_path / "out.mkv"] * 2, tmp_path / "both.mp4", metadata=TEXTS)
    for path in (tmp_path / "out.mkv", tmp_path / "both.mp4"):
        assert metadata_of(path)["comment"] == TEXTS["comment"]
