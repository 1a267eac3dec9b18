"""Frames a second of every stage of a render alone, and of the whole render.

    python -m benchmarks.render_stages --video clip.mp4 [--bundle DIR] [--engine openvino]
        [--precision bfloat16] [--full_frame] [--report report.json]

Without a bundle an untrained U-Net of 256 px (64 filters) is exported and taken; weights do not
change the time. Each stage runs over the same frames by itself, as often as ``--repeats`` says, and
the fastest run counts. The whole render overlaps them; its rate is compared with that of the
slowest stage. The table goes to stderr, the report as JSON to stdout.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from facegan.face.align import CropConfig
from facegan.face.analysis import analyse_frames, select_track, smooth_track
from facegan.face.landmarks import DetectorConfig, make_detector
from facegan.face.retarget import RetargetConfig
from facegan.face.smoothing import SmoothingConfig
from facegan.render.compose import Composer, Job
from facegan.render.engine import EngineConfig, load_engine
from facegan.render.pipeline import RenderConfig, render_video
from facegan.render.plan import make_conditioner, make_plan
from facegan.video.deflicker import DeflickerConfig
from facegan.video.reader import VideoReader
from facegan.video.writer import VideoWriter


def parse_flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--video", required=True, help="clip with a face in it")
    parser.add_argument("--bundle", help="exported model; by default an untrained U-Net")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--batch_size", type=int, default=RenderConfig().batch_size)
    parser.add_argument("--deflicker", default=RenderConfig().deflicker.method)
    parser.add_argument("--full_frame", action="store_true")
    parser.add_argument("--max_frames", type=int, default=200, help="of the stages alone")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--report", help="also write the JSON here")
    return parser.parse_args()


def export_untrained(folder: pathlib.Path, size: int = 256) -> pathlib.Path:
    """Exports a U-Net with the weights it starts from."""
    from facegan.bundle import TensorSpec
    from facegan.export.saved_model import ServingSpec, export_bundle
    from facegan.face.conditioning import ConditioningConfig, encode_conditioning
    from facegan.models.pix2pix import UNetConfig, UNetGenerator

    model = UNetGenerator(UNetConfig(image_size=size))
    model({"condition": np.zeros((1, size, size, 3), np.float32)})
    shape = (None, size, size, 3)
    spec = ServingSpec(
        model=model,
        inputs=(TensorSpec(name="condition", shape=shape),),
        outputs=(TensorSpec(name="image", shape=shape),),
    )
    conditioning = encode_conditioning(ConditioningConfig(size=size))
    export_bundle(folder, spec, model_name="pix2pix", image_size=size, conditioning=conditioning)
    return folder


def best_seconds(run: Callable[[], Any], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def exhaust(items: Iterable[Any]) -> None:
    for _ in items:
        pass


def measure(flags: argparse.Namespace, scratch: pathlib.Path) -> dict[str, Any]:
    bundle = pathlib.Path(flags.bundle) if flags.bundle else export_untrained(scratch / "bundle")
    engine = load_engine(bundle, EngineConfig(name=flags.engine, precision=flags.precision))
    conditioner = make_conditioner(engine.manifest)
    with VideoReader(flags.video) as reader:
        info = reader.info
        frames = [frame for frame, _ in zip(reader, range(flags.max_frames), strict=False)]
    count = len(frames)
    seconds: dict[str, float] = {}

    def decode() -> None:
        with VideoReader(flags.video) as again:
            exhaust(frame for frame, _ in zip(again, range(count), strict=False))

    seconds["decode"] = best_seconds(decode, flags.repeats)

    detector = make_detector(DetectorConfig())
    runs = iter(range(1000))

    def detect() -> Any:
        store = scratch / f"landmarks{next(runs)}"
        return analyse_frames(frames, store, detector, fingerprint="benchmark")

    seconds["detect"] = best_seconds(detect, flags.repeats)
    store = detect()
    plan = None

    def make() -> None:
        nonlocal plan
        track = smooth_track(select_track(store), SmoothingConfig())
        plan = make_plan(
            track,
            (info.height, info.width),
            engine.manifest,
            crop=CropConfig(),
            retarget=RetargetConfig(),
            missing_face="hold",
        )

    seconds["plan"] = best_seconds(make, flags.repeats)
    jobs = [Job(i, plan.pts(i), frames[i].image) for i in range(count)]

    def condition() -> None:
        for job in jobs:
            job.face = plan.face(job.index)
            job.inputs = conditioner(job.face.landmarks_xy_px)

    seconds["condition"] = best_seconds(condition, flags.repeats)

    def generate() -> None:
        for start in range(0, count, flags.batch_size):
            group = jobs[start : start + flags.batch_size]
            names = group[0].inputs.keys()
            batch = {name: np.stack([job.inputs[name] for job in group]) for name in names}
            for job, picture in zip(group, engine.generate(batch), strict=True):
                job.generated = picture

    engine.generate({name: value[None] for name, value in jobs[0].inputs.items()})
    engine = load_engine(bundle, EngineConfig(name=flags.engine, precision=flags.precision))
    generate()
    seconds["generate"] = best_seconds(generate, flags.repeats)

    def compose() -> None:
        composer = Composer(
            plan,
            full_frame=flags.full_frame,
            deflicker=DeflickerConfig(method=flags.deflicker),
            feather=RenderConfig().feather,
            colour_match=RenderConfig().colour_match,
        )
        for job in jobs:
            job.picture = composer(job)

    seconds["compose"] = best_seconds(compose, flags.repeats)

    def encode() -> None:
        height, width = jobs[0].picture.shape[:2]
        with VideoWriter(
            scratch / "encoded.mp4",
            width=width,
            height=height,
            frame_rate=info.frame_rate,
            time_base=info.time_base,
            overwrite=True,
        ) as writer:
            for job in jobs:
                writer.write(job.picture, job.pts)

    seconds["encode"] = best_seconds(encode, flags.repeats)

    config = RenderConfig(
        output="full_frame" if flags.full_frame else "generated",
        batch_size=flags.batch_size,
        deflicker=DeflickerConfig(method=flags.deflicker),
    )
    start = time.perf_counter()
    summary = render_video(
        bundle, flags.video, scratch / "whole.mp4", config, engine=engine, overwrite=True
    )
    whole_s = time.perf_counter() - start
    rates = {name: count / spent for name, spent in seconds.items() if spent > 0}
    slowest = min(rates, key=rates.__getitem__)
    whole_fps = summary["frames"] / whole_s
    others = sum(spent for name, spent in seconds.items() if name != "generate")
    return {
        "video": f"{info.width}x{info.height}, {summary['frames']} frames",
        "engine": engine.name,
        "precision": engine.precision,
        "batch_size": flags.batch_size,
        "output": config.output,
        "deflicker": flags.deflicker,
        "cores": len(os.sched_getaffinity(0)),
        "stage_fps": {name: round(rate, 1) for name, rate in rates.items()},
        "stage_ms": {name: round(1000 * s / count, 3) for name, s in seconds.items()},
        "all_but_generate_ms": round(1000 * others / count, 3),
        "slowest_stage": slowest,
        "whole_fps": round(whole_fps, 1),
        "second_pass_fps": summary["render_fps"],
        "whole_share_of_slowest": round(whole_fps / rates[slowest], 3),
    }


def show_table(report: dict[str, Any]) -> None:
    heading = f"{report['video']}, {report['engine']} {report['precision']}"
    lines = [heading, f"{'stage':<12}{'ms/frame':>10}{'fps':>10}"]
    for name, rate in report["stage_fps"].items():
        lines.append(f"{name:<12}{report['stage_ms'][name]:>10.2f}{rate:>10.1f}")
    lines.append(f"{'whole':<12}{1000 / report['whole_fps']:>10.2f}{report['whole_fps']:>10.1f}")
    lines.append(
        f"everything but generate: {report['all_but_generate_ms']:.2f} ms/frame; whole render: "
        f"{report['whole_share_of_slowest']:.0%} of {report['slowest_stage']}"
    )
    print("\n".join(lines), file=sys.stderr)


def main() -> None:
    flags = parse_flags()
    with tempfile.TemporaryDirectory() as scratch:
        report = measure(flags, pathlib.Path(scratch))
    show_table(report)
    text = json.dumps(report, indent=2)
    print(text)
    if flags.report:
        pathlib.Path(flags.report).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
