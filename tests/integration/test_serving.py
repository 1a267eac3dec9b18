"""Every kind of model, exported, served and rendered with: the frames are those of a local render.

The long test at the end is run by hand: two clients at once, of which one is killed half-way.
"""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import facegan
from facegan.image import encode_picture, read_image
from facegan.jobs.face_layouts import GridConfig
from facegan.jobs.generate import GenerateConfig, generate
from facegan.jobs.translate import TranslateConfig, translate
from facegan.render.engine import EngineConfig, RemoteConfig
from facegan.render.pipeline import RenderConfig
from facegan.samples import sample_portrait
from facegan.video.deflicker import DeflickerConfig
from tests import untrained
from tests.fake_face import RedSquareDetector, moving_square_clip, read_clip
from tests.serving_front import Models, ServingFront
from tests.style_puppet import export_style_puppet

ROOT = pathlib.Path(__file__).resolve().parents[2]
LOCAL = EngineConfig(name="tensorflow")
SCHEMES = ("grpc", "http")
# What a filter has seen before a break, it sees only in part when a render goes on.
PLAIN = {"crf": 0, "deflicker": DeflickerConfig(method="off")}

VIDEO_MODELS = {
    "pix2pix": {},
    "spade": {},
    "spade_of_a_style": {"style_image": "portrait"},
    "talking_head": {"portraits": ("portrait", "portrait")},
    "talking_head_person": {},
    "mask_pix2pix": {},
}


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def front(models_dir):
    with ServingFront(Models(models_dir)) as started:
        yield started


@pytest.fixture(scope="module")
def portrait(tmp_path_factory):
    path = tmp_path_factory.mktemp("portrait") / "hopper.png"
    path.write_bytes(encode_picture(sample_portrait("hopper")))
    return str(path)


@pytest.fixture(scope="module")
def landmarks_dir(tmp_path_factory):
    """Where the faces of the clip are kept, which are looked for once."""
    return tmp_path_factory.mktemp("work")


SLOW = ("spade_of_a_style", "talking_head_person")


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in VIDEO_MODELS],
)
def test_videos(name, models_dir, front, clips, portrait, landmarks_dir, tmp_path):
    folder = models_dir / name / "1"
    untrained.export_untrained(folder, getattr(untrained, name)())
    settings = {
        key: portrait if isinstance(value, str) else (portrait,) * len(value)
        for key, value in VIDEO_MODELS[name].items()
    }

    def render(bundle, output, engine):
        config = RenderConfig(crf=0, batch_size=3, engine=engine, **settings)
        video = clips["hopper"]
        return facegan.render_video(bundle, video, output, config, work_dir=landmarks_dir)

    render(folder, tmp_path / "local.mp4", LOCAL)
    expected, _ = read_clip(tmp_path / "local.mp4")
    assert len(expected) == 16 and np.ptp(expected[0]) > 20
    for scheme in SCHEMES:
        output = tmp_path / f"{scheme}.mp4"
        summary = render(front.url(scheme, name), output, EngineConfig())
        assert (summary["engine"], summary["frames"]) == ("serving", 16)
        np.testing.assert_array_equal(read_clip(output)[0], expected)
    # A model of maps of ones and zeros goes as numbers, pictures and maps of ids as files.
    assert {"uint8", "encoded"} <= {signature for signature, _ in front.models.answered}


def test_translations(models_dir, front, clips, people, tmp_path):
    folder = models_dir / "stargan_v2" / "1"
    untrained.export_untrained(folder, untrained.stargan_v2())
    picture = str(people / "collins" / "0.png")
    drawn = {"domain": "hopper"}
    taken = {"domain": "collins", "references": (picture,)}
    places = {"local": folder, **{s: front.url(s, "stargan_v2") for s in SCHEMES}}
    for name, bundle in places.items():
        engine = LOCAL if name == "local" else EngineConfig()
        config = TranslateConfig(**drawn, engine=engine)
        translate(bundle, clips["hopper"], tmp_path / f"{name}.mp4", config)
        config = TranslateConfig(**taken, engine=engine)
        translate(bundle, picture, tmp_path / f"{name}.png", config)
    for scheme in SCHEMES:
        for ending, read in ((".mp4", lambda path: read_clip(path)[0]), (".png", read_image)):
            made, expected = (read(tmp_path / f"{name}{ending}") for name in (scheme, "local"))
            np.testing.assert_array_equal(made, expected)


def test_faces_of_noise(models_dir, front, tmp_path):
    folder = models_dir / "stylegan2" / "1"
    export_style_puppet(folder, size=16)
    choice = {"seeds": "0-19", "truncation": 0.7, "layout": GridConfig()}
    generate(folder, tmp_path / "local.png", GenerateConfig(**choice, engine=LOCAL))
    for scheme in SCHEMES:
        output = tmp_path / f"{scheme}.png"
        generate(front.url(scheme, "stylegan2"), output, GenerateConfig(**choice))
        np.testing.assert_array_equal(read_image(output), read_image(tmp_path / "local.png"))


def run_tool(*flags):
    return subprocess.run(
        [sys.executable, str(ROOT / "tools" / "render_video.py"), *map(str, flags)],
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_plan_tells_what_the_server_has(scheme, models_dir, front, clips, tmp_path):
    if not (models_dir / "pix2pix").is_dir():
        untrained.export_untrained(models_dir / "pix2pix" / "1", untrained.pix2pix())
    url = front.url(scheme, "pix2pix")
    base = ("--server", url, "--video", clips["hopper"], "--output", tmp_path / "out.mp4")
    done = run_tool(*base, "--dry_run", "--requests_in_flight=2")
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert (plan["bundle"], plan["model"], plan["width"]) == (url, "pix2pix", 32)
    assert plan["server"]["version"] == 1 and plan["server"]["requests_in_flight"] == 2
    assert not list(tmp_path.iterdir())
    done = run_tool("--server", front.url(scheme, "anna"), *base[2:], "--dry_run")
    assert done.returncode == 2 and "has no such model" in done.stderr


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_server_that_ends_and_comes_back(scheme, models_dir, tmp_path):
    untrained.export_untrained(tmp_path / "models" / "toy" / "1", untrained.pix2pix())
    models = Models(tmp_path / "models")
    clip, output = tmp_path / "clip.mp4", tmp_path / "out.mp4"
    moving_square_clip(clip, 100)
    engine = EngineConfig(remote=RemoteConfig(retry_limit_s=0.5))

    def render(bundle, output, **changes):
        config = RenderConfig(**{**PLAIN, "segment_frames": 20, "engine": engine, **changes})
        return facegan.render_video(bundle, clip, output, config, detector=RedSquareDetector())

    front = ServingFront(models)

    url = front.url(scheme, "toy")

    def watch():
        while len(models.answered) < 15:
            time.sleep(0.005)
        front.stop()

    models.before_predict = lambda name, signature: time.sleep(0.02)
    watcher = threading.Thread(target=watch)
    watcher.start()
    with pytest.raises(facegan.BundleError, match="cannot be reached .*goes on from what is fini"):
        render(url, output)
    watcher.join()
    assert not output.exists()
    models.before_predict = lambda name, signature: None
    with ServingFront(models, front.grpc_port, front.rest_port):
        summary = render(url, output)
    assert summary["resumed_frames"] in (20, 40, 60, 80)
    render(tmp_path / "models" / "toy" / "1", tmp_path / "local.mp4", engine=LOCAL)
    np.testing.assert_array_equal(read_clip(output)[0], read_clip(tmp_path / "local.mp4")[0])


CLIENT = """
import sys, facegan
from facegan.render.pipeline import RenderConfig
from facegan.video.deflicker import DeflickerConfig
from tests.fake_face import RedSquareDetector

bundle, video, output = sys.argv[1:]
config = RenderConfig(
    crf=0, deflicker=DeflickerConfig(method="off"), segment_frames=100, output="full_frame"
)
facegan.render_video(bundle, video, output, config, detector=RedSquareDetector())
"""


@pytest.mark.slow
def test_two_clients_at_once_of_which_one_is_killed(tmp_path):
    folder = tmp_path / "models" / "pix2pix" / "1"
    untrained.export_untrained(folder, untrained.pix2pix())
    clip, count = tmp_path / "clip.mp4", 1000
    pts = moving_square_clip(clip, count, missing=range(300, 320))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "2"}

    def start(bundle, output):
        command = [sys.executable, "-c", CLIENT, bundle, str(clip), str(output)]
        return subprocess.Popen(command, cwd=ROOT, env=environment)

    server = subprocess.Popen(
        [sys.executable, "-m", "tests.serving_front", "--models_dir", tmp_path / "models"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    started = [server]
    try:
        ports = json.loads(server.stdout.readline())
        urls = {
            "grpc": f"grpc://127.0.0.1:{ports['grpc']}/pix2pix",
            "http": f"http://127.0.0.1:{ports['rest']}/pix2pix",
        }
        outputs = {scheme: tmp_path / f"{scheme}.mp4" for scheme in urls}
        clients = {scheme: start(urls[scheme], outputs[scheme]) for scheme in urls}
        started += clients.values()
        work, deadline = tmp_path / ".grpc.mp4.render", time.monotonic() + 300
        while not any(work.glob("segments-*/seg-00004.mp4")):
            assert clients["grpc"].poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        clients["grpc"].send_signal(signal.SIGKILL)
        assert clients["grpc"].wait() == -signal.SIGKILL and not outputs["grpc"].exists()
        started.append(start(urls["grpc"], outputs["grpc"]))
        assert clients["http"].wait(300) == 0 and started[-1].wait(300) == 0
        server.terminate()
        assert server.wait(30) == 0
    finally:
        for process in started:
            if process.poll() is None:
                process.kill()
                process.wait()
        server.stdout.close()
    config = RenderConfig(**PLAIN, segment_frames=100, output="full_frame", engine=LOCAL)
    local = tmp_path / "local.mp4"
    facegan.render_video(folder, clip, local, config, detector=RedSquareDetector())
    expected, _ = read_clip(local)
    assert len(expected) == count
    for output in outputs.values():
        frames, stamps = read_clip(output)
        assert stamps == pts
        np.testing.assert_array_equal(frames, expected)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_render_that_is_stopped_does_not_wait_for_a_server_that_hangs(scheme, tmp_path):
    untrained.export_untrained(tmp_path / "models" / "toy" / "1", untrained.pix2pix())
    moving_square_clip(tmp_path / "clip.mp4", 60)
    models, released = Models(tmp_path / "models"), threading.Event()

    def hang(name, signature):
        if len(models.answered) > 3:
            released.wait(60)

    stopped_s = []

    @contextlib.contextmanager
    def progress(label):
        def report(done, total, unit):
            if label == "Render" and done == 2:
                stopped_s.append(time.monotonic())
                raise KeyboardInterrupt

        yield report

    models.before_predict = hang
    with ServingFront(models) as front:
        with pytest.raises(KeyboardInterrupt):
            facegan.render_video(
                front.url(scheme, "toy"),
                tmp_path / "clip.mp4",
                tmp_path / "out.mp4",
                RenderConfig(**PLAIN),
                detector=RedSquareDetector(),
                progress=progress,
            )
        assert time.monotonic() - stopped_s[0] < 5.0
        released.set()
        stages = ("decode", "group", "generate", "request", "compose")
        assert not [t.name for t in threading.enumerate() if t.name.startswith(stages)]
