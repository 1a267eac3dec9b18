"""Pictures a second that the input pipeline makes of stored records, and where its time goes.

    python -m benchmarks.read_dataset [--kinds landmarks,labels,few_shot] [--cores 1,2]
        [--size 256] [--batch_size 8] [--shots 8] [--seconds 5]

Frames of the embedded portraits are written through TFDS as the builders store them: PNG with
landmarks (user_video), PNG with a label map (celebamask_hq), twenty JPEG frames a record
(voxceleb). Each measurement is a process of its own that may use so many cores; the best of three
rounds counts. A picture is one decoded picture; an example of few_shot holds shots + 1.

Times by stage are processor time on one core: decoding, augmenting, conditioning (drawing
landmarks, checking and reducing label maps), conversion to float; the rest is reading, shuffling,
copying and batching. The table goes to stderr, the report as JSON to stdout.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

KINDS = ("landmarks", "labels", "few_shot")
FRAMES_PER_VIDEO = 20

# The functions whose time is a stage's; none of them calls another.
STAGES = {
    "decode": ("decode_picture", "_decode_label_map"),
    "augment": ("sample_augmentation", "apply_to_image", "apply_to_landmarks", "apply_to_labels"),
    "condition": ("draw_landmarks", "check_labels", "resize_labels"),
}


def parse_flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--kinds", default=",".join(KINDS), help="kinds of examples, by commas")
    parser.add_argument(
        "--cores", default=f"1,{cores}" if cores > 1 else "1", help="numbers of cores, by commas"
    )
    parser.add_argument("--size", type=int, default=256, help="stored and made, pixels")
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--shots", type=int, default=8)
    parser.add_argument("--records", type=int, default=64, help="pictures, or frames of videos")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each round")
    parser.add_argument("--worker", nargs=2, metavar=("KIND", "DATASET"), help=argparse.SUPPRESS)
    return parser.parse_args()


def write_dataset(kind: str, folder: pathlib.Path, flags: argparse.Namespace) -> pathlib.Path:
    """Writes the records of a kind and returns the dataset's folder."""
    import numpy as np
    import tensorflow_datasets as tfds

    from facegan.datasets.storage import prepare_dataset
    from facegan.face.landmarks import MEAN_SHAPE
    from facegan.image import encode_jpeg, encode_picture
    from facegan.samples import sample_frames

    size = flags.size
    duration_s = max(flags.records, FRAMES_PER_VIDEO) / 25
    frames = list(sample_frames("collins", duration_s=duration_s, size=size))
    shifts = np.random.default_rng(0).uniform(-0.02, 0.02, (len(frames), 1, 2))
    landmarks = ((MEAN_SHAPE * 0.45 + (0.27, 0.3) + shifts) * size).astype(np.float32)
    picture = tfds.features.Image(shape=(size, size, 3), encoding_format="png")
    features: dict[str, Any] = {"image": picture}
    if kind == "landmarks":
        features["landmarks_xy_px"] = tfds.features.Tensor(shape=(68, 2), dtype=np.float32)
        examples = [
            {"image": encode_picture(frame), "landmarks_xy_px": points}
            for frame, points in zip(frames, landmarks, strict=True)
        ]
    elif kind == "labels":
        features["label_map"] = tfds.features.Image(shape=(size, size, 1), encoding_format="png")
        examples = [
            {"image": encode_picture(frame), "label_map": paint_labels(points, size)}
            for frame, points in zip(frames, landmarks, strict=True)
        ]
    else:
        features = {
            "images": tfds.features.Sequence(
                tfds.features.Image(shape=(size, size, 3), encoding_format="jpeg")
            ),
            "landmarks_xy_px": tfds.features.Tensor(shape=(None, 68, 2), dtype=np.float32),
            "video_index": np.int64,
        }
        starts = range(0, len(frames) - FRAMES_PER_VIDEO + 1, FRAMES_PER_VIDEO)
        examples = [
            {
                "images": [encode_jpeg(frame) for frame in frames[start:][:FRAMES_PER_VIDEO]],
                "landmarks_xy_px": landmarks[start:][:FRAMES_PER_VIDEO],
                "video_index": start,
            }
            for start in starts
        ]
    builder = tfds.dataset_builders.AdhocBuilder(
        name=f"benchmark_{kind}",
        version="1.0.0",
        features=tfds.features.FeaturesDict(features),
        split_datasets={"train": list(enumerate(examples))},
        data_dir=folder,
    )
    return prepare_dataset(builder)


def paint_labels(landmarks_xy_px: Any, size: int) -> Any:
    """A label map [size, size, 1] of a face with these landmarks; the tenth part is hair."""
    import cv2
    import numpy as np

    from facegan.face.labels import CELEBAMASK19
    from facegan.face.landmarks import GROUPS

    out = np.zeros((size, size, 1), np.uint8)
    points = np.rint(landmarks_xy_px).astype(np.int32)
    middle = tuple(map(int, points[27]))
    cv2.circle(out, middle, size // 3, CELEBAMASK19.index("hair"), -1)
    regions = {"skin": range(68), "nose": range(27, 36)}
    parts = {"r_brow": "right_brow", "l_brow": "left_brow", "r_eye": "right_eye"}
    parts |= {"l_eye": "left_eye", "u_lip": "outer_lip", "mouth": "inner_lip"}
    regions |= {label: GROUPS[group] for label, group in parts.items()}
    for label, indices in regions.items():
        hull = cv2.convexHull(points[list(indices)])
        cv2.fillConvexPoly(out, hull, CELEBAMASK19.index(label))
    return out


def make_maker(kind: str, flags: argparse.Namespace) -> Any:
    from facegan.datasets.examples import LandmarkExample
    from facegan.datasets.few_shot_examples import FewShotExample
    from facegan.datasets.label_examples import LabelMapExample
    from facegan.face.conditioning import ConditioningConfig, FewShotConditioningConfig

    if kind == "landmarks":
        return LandmarkExample(ConditioningConfig(size=flags.size))
    if kind == "labels":
        return LabelMapExample(flags.size)
    return FewShotExample(FewShotConditioningConfig(size=flags.size, shots=flags.shots))


def work(kind: str, dataset_dir: str, flags: argparse.Namespace) -> dict[str, Any]:
    """Measures one kind on the cores that this process may use."""
    from facegan.datasets.pipeline import PipelineConfig, make_pipeline, read_records

    cores = len(os.sched_getaffinity(0))
    maker = make_maker(kind, flags)
    config = PipelineConfig(batch_size=flags.batch_size, parallel_calls=cores)
    pictures = flags.shots + 1 if kind == "few_shot" else 1
    spent: dict[str, float] = {}
    if cores == 1:  # before the pipeline's threads take their part of the core
        spent = profile_stages(maker, dataset_dir, config, flags.seconds)
        spent["float"] = float_seconds(maker, flags)
    batches = iter(make_pipeline(read_records(dataset_dir, "train"), maker, config))
    for _ in range(3):
        next(batches)
    wall_s, cpu_s = best_seconds(lambda: next(batches), flags.seconds)
    per_batch = flags.batch_size * pictures
    row: dict[str, Any] = {
        "kind": kind,
        "cores": cores,
        "pictures_per_s": round(per_batch / wall_s, 1),
        "pictures_per_s_per_core": round(per_batch / wall_s / cores, 1),
        "cpu_ms_per_picture": round(1000 * cpu_s / per_batch, 3),
    }
    if spent:
        spent["rest"] = cpu_s / flags.batch_size - sum(spent.values())
        row["stage_ms_per_picture"] = {
            stage: round(1000 * seconds / pictures, 3) for stage, seconds in spent.items()
        }
        row["stage_share"] = {
            stage: round(seconds * flags.batch_size / cpu_s, 3) for stage, seconds in spent.items()
        }
    return row


def best_seconds(call: Callable[[], Any], seconds: float, rounds: int = 3) -> tuple[float, float]:
    """Wall and processor seconds of a call: means over a round, each the least of all rounds."""
    means = []
    for _ in range(rounds):
        wall, cpu, calls = time.perf_counter(), time.process_time(), 0
        while time.perf_counter() - wall < seconds:
            call()
            calls += 1
        spent = time.perf_counter() - wall, time.process_time() - cpu
        means.append([value / calls for value in spent])
    return min(wall for wall, _ in means), min(cpu for _, cpu in means)


def profile_stages(maker: Any, dataset_dir: str, config: Any, seconds: float) -> dict[str, float]:
    """Processor seconds of each stage for one example, outside of TensorFlow."""
    import cProfile
    import pstats

    from facegan.datasets.pipeline import read_records
    from facegan.datasets.transforms import sample_augmentation

    records = list(read_records(dataset_dir, "train").as_numpy_iterator())
    profile = cProfile.Profile(time.thread_time)

    def make(number: int) -> None:
        maker(records[number % len(records)], sample_augmentation(config.augment, 0, number))

    make(0)
    count, end = 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        profile.runcall(make, count)
        count += 1
    spent = dict.fromkeys(STAGES, 0.0)
    for (_, _, name), (_, _, _, cumulative_s, _) in pstats.Stats(profile).stats.items():
        for stage, functions in STAGES.items():
            if name in functions:
                spent[stage] += cumulative_s / count
    return spent


def float_seconds(maker: Any, flags: argparse.Namespace) -> float:
    """Processor seconds to bring one example's pictures to [-1, 1], a batch at a time."""
    import numpy as np
    import tensorflow as tf

    from facegan.image import to_float_tensor

    shapes = [shape for shape, _ in maker.outputs.values() if len(shape) >= 3 and shape[-1] == 3]
    batch = [tf.zeros((flags.batch_size, *shape), tf.uint8) for shape in shapes]
    convert = tf.function(lambda tensors: [to_float_tensor(tensor) for tensor in tensors])
    convert(batch)
    _, cpu_s = best_seconds(lambda: np.asarray(convert(batch)[-1]), flags.seconds / 5)
    return cpu_s / flags.batch_size


def measure(kind: str, dataset_dir: pathlib.Path, cores: int, flags: argparse.Namespace) -> Any:
    """Runs ``work`` in a process that may use ``cores`` cores."""
    command = [sys.executable, "-m", "benchmarks.read_dataset", "--worker", kind, str(dataset_dir)]
    for name in ("size", "batch_size", "shots", "seconds"):
        command.append(f"--{name}={getattr(flags, name)}")
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    done = subprocess.run(
        [*command, f"--cores={cores}"], env=environment, stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        sys.exit(f"the measurement of {kind} on {cores} cores failed")
    return json.loads(done.stdout.splitlines()[-1])


def show_table(rows: list[dict[str, Any]]) -> None:
    stages = [*STAGES, "float", "rest"]
    lines = [
        f"{'kind':<11}{'cores':>6}{'pictures/s':>12}{'a core':>8}{'CPU ms':>8}"
        + "".join(f"{stage:>11}" for stage in stages)
    ]
    for row in rows:
        shares = row.get("stage_share", {})
        lines.append(
            f"{row['kind']:<11}{row['cores']:>6}{row['pictures_per_s']:>12.1f}"
            f"{row['pictures_per_s_per_core']:>8.1f}{row['cpu_ms_per_picture']:>8.2f}"
            + "".join(f"{shares[stage]:>11.1%}" for stage in stages if shares)
        )
    print("\n".join(lines), file=sys.stderr)


def main() -> None:
    flags = parse_flags()
    if flags.worker:
        # Before TensorFlow and OpenCV count the cores for their threads.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(flags.cores)])
        print(json.dumps(work(*flags.worker, flags)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for kind in flags.kinds.split(","):
            dataset_dir = write_dataset(kind, pathlib.Path(folder), flags)
            for cores in map(int, flags.cores.split(",")):
                rows.append(measure(kind, dataset_dir, cores, flags))
    show_table(rows)
    print(json.dumps({"size": flags.size, "batch_size": flags.batch_size, "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
