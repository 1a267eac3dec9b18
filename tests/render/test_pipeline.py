"""Rendering: exact frames, times and sound; what is shown; what bad input gets."""

import gc
import json
import os
import pathlib
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

from facegan import config as config_lib
from facegan.errors import BundleError, ConfigError, DataError, VideoError
from facegan.face.align import CropConfig
from facegan.face.landmarks import MEAN_SHAPE
from facegan.face.raster import draw_landmarks
from facegan.face.retarget import RetargetConfig
from facegan.render.engine import EngineConfig
from facegan.render.pipeline import RenderConfig, render_video
from facegan.video.deflicker import DeflickerConfig
from facegan.video.reader import VideoReader
from tests.fake_face import (
    GREEN,
    DrawingEngine,
    RedSquareDetector,
    audio_packets,
    moving_square_clip,
    read_clip,
    red_square_frame,
    write_clip,
)

PLAIN = {"deflicker": DeflickerConfig(method="off"), "crf": 4, "segment_frames": 20}


def render(video, target, /, *, engine=None, overwrite=False, work_dir=None, **changes):
    return render_video(
        "no bundle",
        video,
        target,
        RenderConfig(**{**PLAIN, **changes}),
        engine=engine or DrawingEngine(),
        detector=RedSquareDetector(),
        overwrite=overwrite,
        work_dir=work_dir,
    )


@pytest.fixture
def clip(tmp_path):
    path = tmp_path / "in.mp4"
    return path, moving_square_clip(path)


@pytest.fixture
def gappy(tmp_path):
    """Faces are missing at the beginning and in the middle."""
    path = tmp_path / "in.mp4"
    missing = {0, 1, 2, *range(25, 37)}
    return path, moving_square_clip(path, missing=missing), missing


def difference(a, b):
    return np.abs(a.astype(int) - b.astype(int)).mean()


@pytest.mark.parametrize("output", ["generated", "full_frame"])
def test_frames_times_and_sound_are_the_sources(clip, tmp_path, output):
    path, pts = clip
    summary = render(path, tmp_path / "out.mp4", output=output)
    frames, stamps = read_clip(tmp_path / "out.mp4")
    assert stamps == pts
    assert frames.shape[1:] == ((96, 96, 3) if output == "full_frame" else (64, 64, 3))
    theirs, ours = audio_packets(path), audio_packets(tmp_path / "out.mp4")
    assert ours[0] == theirs[0]
    assert ours[1:] == pytest.approx(theirs[1:], abs=1e-3)
    assert summary["frames"] == 60 and summary["audio"] is True
    assert summary["output"] == str(tmp_path / "out.mp4")
    assert summary["missing_faces"] == 0 and summary["resumed_frames"] == 0
    assert json.loads(json.dumps(summary)) == summary
    assert sorted(os.listdir(tmp_path)) == ["in.mp4", "out.mp4"]


def test_the_drawing_follows_the_face(clip, tmp_path):
    path, _ = clip
    render(path, tmp_path / "out.mp4", crop=CropConfig(mode="whole"))
    frames, _ = read_clip(tmp_path / "out.mp4")
    for index in (0, 11, 44, 59):
        left, top = 20 + 6 * np.sin(index / 7), 24 + 4 * np.cos(index / 9)
        corner = np.array([left, top])
        expected = draw_landmarks(
            ((MEAN_SHAPE * 48 + corner + 0.5) * 64 / 96 - 0.5).astype(np.float32), 64
        )
        wrong = np.roll(expected, 4, axis=1)
        right_error = difference(frames[index], expected)
        assert right_error < 0.5 * difference(frames[index], wrong)


def test_full_frame_changes_the_face_and_nothing_else(clip, tmp_path):
    path, _ = clip

    class Blue(DrawingEngine):
        def generate(self, inputs):
            out = np.zeros_like(inputs["condition"])
            out[..., 2] = 255
            return out

    render(path, tmp_path / "out.mp4", engine=Blue(), output="full_frame", colour_match=False)
    before, _ = read_clip(path)
    after, _ = read_clip(tmp_path / "out.mp4")
    outside = np.ones((96, 96), bool)
    outside[8:84, 8:84] = False
    assert difference(before[:, outside], after[:, outside]) < 3
    for index in (0, 30, 59):
        left = round(20 + 6 * np.sin(index / 7))
        top = round(24 + 4 * np.cos(index / 9))
        middle = after[index, top + 18 : top + 30, left + 18 : left + 30].reshape(-1, 3)
        assert np.abs(middle.mean(axis=0) - (0, 0, 255)).max() < 12


@pytest.mark.parametrize("policy", ["hold", "copy", "blank"])
@pytest.mark.parametrize("output", ["generated", "full_frame"])
def test_frames_without_a_face(gappy, tmp_path, policy, output):
    path, pts, missing = gappy
    summary = render(path, tmp_path / "out.mp4", missing_face=policy, output=output)
    frames, stamps = read_clip(tmp_path / "out.mp4")
    assert stamps == pts
    assert summary["missing_faces"] == len(missing)
    assert audio_packets(tmp_path / "out.mp4")[0] == audio_packets(path)[0]
    for index in (0, 1, 26, 36):
        if policy == "blank":
            assert frames[index].max() < 8
        elif policy == "copy":
            assert np.abs(frames[index].reshape(-1, 3).mean(axis=0) - GREEN).max() < 6
        elif output == "generated":
            shown = 3 if index < 3 else 24
            assert difference(frames[index], frames[shown]) < 1.5
    # A drawing has white lines and a source frame has none.
    assert (frames[24].min(axis=-1) > 90).any()
    if policy == "copy":
        assert not (frames[26].min(axis=-1) > 90).any()


def test_auto_holds_a_square_and_copies_a_frame():
    assert RenderConfig().missing_face_policy == "hold"
    assert RenderConfig(output="full_frame").missing_face_policy == "copy"
    assert RenderConfig(output="full_frame", missing_face="hold").missing_face_policy == "hold"


def test_a_person_is_chosen_by_size(tmp_path):
    path = tmp_path / "in.mp4"
    moving_square_clip(
        path, 20, size_hw=(96, 192), squares=lambda i: [(10, 30, 30), (110 + i // 4, 20, 56)]
    )
    sides = []
    for face in (0, 1):
        output = tmp_path / f"{face}.mp4"
        render(path, output, face=face, output="full_frame")
        changed = np.abs(read_clip(output)[0][10].astype(int) - read_clip(path)[0][10]).sum(-1)
        sides.append(np.flatnonzero(changed.max(axis=0) > 100).mean() > 96)
    assert sides == [True, False]
    with pytest.raises(ConfigError, match="from 0 to 1"):
        render(path, tmp_path / "x.mp4", face=2)


def test_no_face_no_output(tmp_path):
    path = tmp_path / "in.mp4"
    write_clip(path, [red_square_frame(64, 64, [])] * 8, range(0, 320, 40))
    with pytest.raises(DataError, match="No face"):
        render(path, tmp_path / "out.mp4")
    assert os.listdir(tmp_path) == ["in.mp4"]


def test_output_that_exists(clip, tmp_path):
    path, _ = clip
    output = tmp_path / "out.mp4"
    output.write_text("mine")
    with pytest.raises(VideoError, match="exists"):
        render(path, output)
    assert output.read_text() == "mine"
    render(path, output, overwrite=True)
    assert len(read_clip(output)[0]) == 60
    with pytest.raises(ConfigError, match="is the source video"):
        render(path, path, overwrite=True)


@pytest.mark.parametrize("kind", ["missing", "folder", "text", "empty"])
def test_what_is_no_video(tmp_path, kind):
    path = tmp_path / "in.mp4"
    if kind == "folder":
        path.mkdir()
    elif kind != "missing":
        path.write_text("not a video" if kind == "text" else "")
    with pytest.raises(VideoError):
        render(path, tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]


def test_a_truncated_video_is_refused_or_rendered_as_far_as_it_goes(tmp_path):
    from facegan.video.writer import VideoWriter

    whole, path = tmp_path / "whole.mp4", tmp_path / "in.mp4"
    moving_square_clip(whole, 60)
    with VideoReader(whole) as reader:
        info = reader.info
        with VideoWriter(
            path,
            width=96,
            height=96,
            frame_rate=info.frame_rate,
            time_base=info.time_base,
            crf=4,
        ) as writer:
            for frame in reader:
                writer.write(frame.image, frame.pts)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(VideoError, match="declares 60 frames"):
        render(path, tmp_path / "out.mp4")
    assert sorted(os.listdir(tmp_path)) == ["in.mp4", "whole.mp4"]
    summary = render(path, tmp_path / "out.mp4", truncated="accept")
    assert 10 < summary["frames"] < 60
    assert len(read_clip(tmp_path / "out.mp4")[0]) == summary["frames"]
    assert summary["problems"]


def test_bundles_that_cannot_render(clip, tmp_path):
    path, _ = clip
    output = tmp_path / "out.mp4"
    unknown = {"kind": "iris_map", "version": 1, "size": 64}
    with pytest.raises(ConfigError, match="'iris_map' .*not known"):
        render(path, output, engine=DrawingEngine(conditioning=unknown))
    with pytest.raises(BundleError, match="does not say how its inputs"):
        render(path, output, engine=DrawingEngine(conditioning=None))
    with pytest.raises(BundleError, match="geometry in the bundle is broken"):
        render(path, output, engine=DrawingEngine(geometry={"neutral": []}))
    with pytest.raises(BundleError, match="is no bundle"):
        render_video(tmp_path / "absent", path, output, detector=RedSquareDetector())
    assert os.listdir(tmp_path) == ["in.mp4"]


def test_unwritable_output(clip, tmp_path):
    with pytest.raises(VideoError, match="does not exist"):
        render(clip[0], tmp_path / "absent" / "out.mp4")
    with pytest.raises(VideoError, match="must end in"):
        render(clip[0], tmp_path / "out.gif")


class Stops(DrawingEngine):
    """Fails after some pictures, as a process that dies would stop."""

    def __init__(self, after):
        super().__init__()
        self.after = after

    def generate(self, inputs):
        if self.num_generated >= self.after:
            raise RuntimeError("out of power")
        return super().generate(inputs)


@pytest.mark.parametrize("method", ["off", "guarded", "motion"])
def test_a_stopped_render_goes_on_and_ends_the_same(clip, tmp_path, method):
    path, pts = clip
    changes = {"deflicker": DeflickerConfig(method=method, strength=0.3)}
    output, unbroken = tmp_path / "out.mp4", tmp_path / "unbroken.mp4"
    render(path, unbroken, **changes)
    with pytest.raises(RuntimeError, match="out of power"):
        render(path, output, engine=Stops(48), **changes)
    assert not output.exists()
    engine = DrawingEngine()
    summary = render(path, output, engine=engine, **changes)
    assert summary["resumed_frames"] in (20, 40)
    assert engine.num_generated < 60
    frames, stamps = read_clip(output)
    expected, _ = read_clip(unbroken)
    assert stamps == pts
    if method == "off":
        np.testing.assert_array_equal(frames, expected)
    else:
        assert np.abs(frames.astype(int) - expected).max() <= 4
    assert audio_packets(output)[0] == audio_packets(path)[0]
    assert sorted(os.listdir(tmp_path)) == ["in.mp4", "out.mp4", "unbroken.mp4"]


def test_other_settings_do_not_continue_old_segments(clip, tmp_path, monkeypatch):
    path, _ = clip
    work = tmp_path / "work"
    output = tmp_path / "out.mp4"
    with pytest.raises(RuntimeError, match="out of power"):
        render(path, output, engine=Stops(48), work_dir=work)
    landmarks = [name for name in os.listdir(work) if name.startswith("landmarks")]
    # The faces are the same, so they are not looked for again, and stay for the next time.
    monkeypatch.delattr(RedSquareDetector, "detect")
    summary = render(
        path, output, work_dir=work, retarget=RetargetConfig(enabled=False), missing_face="blank"
    )
    assert summary["resumed_frames"] == 0
    assert [name for name in os.listdir(work) if name.startswith("landmarks")] == landmarks


def test_progress_tells_both_passes(clip, tmp_path):
    import contextlib

    seen = []

    @contextlib.contextmanager
    def watch(label):
        yield lambda done, total, unit: seen.append((label, done, total, unit))

    render_video(
        "no bundle",
        clip[0],
        tmp_path / "out.mp4",
        RenderConfig(**PLAIN),
        engine=DrawingEngine(),
        detector=RedSquareDetector(),
        progress=watch,
    )
    labels = [entry[0] for entry in seen]
    assert list(dict.fromkeys(labels)) == ["Find faces", "Render"]
    render_steps = [entry[1:] for entry in seen if entry[0] == "Render"]
    assert render_steps[0] == (0, 60, "frame")
    assert render_steps[-1] == (60, 60, "frame")


def test_memory_does_not_grow_with_the_clip(tmp_path):
    def peak(count):
        path = tmp_path / f"{count}.mp4"
        moving_square_clip(path, count, size_hw=(192, 192), audio=False)
        gc.collect()
        tracemalloc.start()
        try:
            render(path, tmp_path / f"out{count}.mp4", output="full_frame", batch_size=2)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(20)  # whatever is made once
    short, long = peak(60), peak(300)
    frame_bytes = 192 * 192 * 3
    # 240 frames more; a frame's landmarks alone are 544 bytes and belong on the disk.
    assert long - short < 3 * frame_bytes
    assert long < 60 * frame_bytes


def test_config_round_trip_and_checks():
    config = RenderConfig(output="full_frame", face=1, crf=20)
    assert config_lib.decode(RenderConfig, config_lib.encode(config)) == config
    assert config_lib.set_by_name(config, ["deflicker.method=off"]).deflicker.method == "off"
    for wrong in ({"batch_size": 0}, {"segment_frames": 0}, {"feather": 0.6}, {"face": -1}):
        with pytest.raises(ConfigError):
            RenderConfig(**wrong)


def test_a_real_clip(media_dir, tmp_path):
    pytest.importorskip("dlib")
    pytest.importorskip("av")
    clip = media_dir / "clips" / "d18.mp4"
    engine = DrawingEngine(128)
    summary = render_video("no bundle", clip, tmp_path / "out.mp4", engine=engine)
    with VideoReader(clip) as source, VideoReader(tmp_path / "out.mp4") as result:
        theirs = [frame.pts * frame.time_base for frame in source]
        ours = [frame.pts * frame.time_base for frame in result]
    assert ours == theirs
    assert summary["frames"] == len(theirs) == engine.num_generated
    assert summary["missing_faces"] == 0
    assert audio_packets(tmp_path / "out.mp4")[0] == audio_packets(clip)[0]
    assert pathlib.Path(summary["output"]).is_file()


def test_a_bundle_on_disk_renders_as_the_fake_engine_does(clip, tmp_path):
    from facegan.face.conditioning import ConditioningConfig, encode_conditioning
    from tests.toy_bundle import export_puppet, repeat_drawing

    path, pts = clip
    bundle = tmp_path / "bundle"
    conditioning = encode_conditioning(ConditioningConfig(size=64))
    export_puppet(bundle, repeat_drawing, size=64, conditioning=conditioning)
    config = RenderConfig(**PLAIN, engine=EngineConfig(name="tensorflow"))
    summary = render_video(bundle, path, tmp_path / "out.mp4", config, detector=RedSquareDetector())
    assert (summary["engine"], summary["precision"]) == ("tensorflow", "float32")
    render(path, tmp_path / "fake.mp4")
    frames, stamps = read_clip(tmp_path / "out.mp4")
    assert stamps == pts
    np.testing.assert_array_equal(frames, read_clip(tmp_path / "fake.mp4")[0])


def test_full_disk_leaves_nothing_under_the_name(clip, tmp_path):
    # A process of its own: the limit on file sizes stands in for a disk without room.
    path, _ = clip
    code = f"""
import resource, signal
from facegan.errors import FaceganError
from facegan.face.retarget import RetargetConfig
from facegan.render.engine import EngineConfig
from facegan.render.pipeline import RenderConfig, render_video
from tests.fake_face import DrawingEngine, RedSquareDetector
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for limit in (4_000, 45_000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        render_video("no bundle", {str(path)!r}, {str(tmp_path / "out.mp4")!r},
                     RenderConfig(crf=0, segment_frames=500), engine=DrawingEngine(128),
                     detector=RedSquareDetector())
    except FaceganError as error:
        print("refused:", error)
"""
    environment = {**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).resolve().parents[2])}
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert run.stdout.count("refused:") == 2, run.stdout + run.stderr[-2000:]
    assert not (tmp_path / "out.mp4").exists()
