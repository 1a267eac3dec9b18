"""Examples a second of the input pipeline on a prepared dataset, and where the time goes.

    python -m benchmarks.read_dataset --dataset_dir DIR --example picture|labels|landmarks|few_shot
        [--size 256] [--batch_size 8] [--seconds 10] [--threads 1,2]

What an example is made of is timed on one core, one thing after the other: decoding its pictures,
and the rest (augmentation, drawing). Then the whole pipeline runs, from records on disk to float
batches, with each number of threads. The table goes to stderr, the report as JSON to stdout.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

from facegan.datasets.examples import LandmarkExample, PictureExample
from facegan.datasets.few_shot_examples import FewShotConfig, FewShotExample
from facegan.datasets.label_examples import LabelMapExample
from facegan.datasets.pipeline import PipelineConfig, make_pipeline, read_records
from facegan.datasets.transforms import AugmentConfig, sample_augmentation
from facegan.face.conditioning import ConditioningConfig
from facegan.image import decode_picture

AUGMENT = AugmentConfig(probability=1.0, flip=True)
SHOTS = 8


def parse_flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset_dir", required=True, help="a prepared dataset")
    parser.add_argument(
        "--example", required=True, choices=["picture", "labels", "landmarks", "few_shot"]
    )
    parser.add_argument("--size", type=int, default=256, help="of the examples")
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--threads", default="1,2", help="numbers of threads, by commas")
    return parser.parse_args()


def make_maker(kind: str, size: int) -> Any:
    if kind == "picture":
        return PictureExample(size)
    if kind == "labels":
        return LabelMapExample(size)
    if kind == "landmarks":
        return LandmarkExample(ConditioningConfig(size=size))
    return FewShotExample(FewShotConfig(size=size, shots=SHOTS))


def decode_all(record: dict[str, Any], kind: str) -> int:
    """Decodes the pictures that one example of the record needs; returns their number."""
    if kind == "few_shot":
        pictures = record["images"][: SHOTS + 1]
    else:
        pictures = [record["image"], *([record["label_map"]] if kind == "labels" else [])]
    for picture in pictures:
        decode_picture(picture)
    return len(pictures)


def time_one_core(records: list[dict[str, Any]], kind: str, maker: Any, seconds: float) -> Any:
    """Milliseconds an example for decoding alone and for the whole, and pictures an example."""
    totals = {"decode": 0.0, "whole": 0.0}
    examples = pictures = 0
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        record = records[examples % len(records)]
        move = sample_augmentation(AUGMENT, 0, examples)
        start = time.perf_counter()
        pictures += decode_all(record, kind)
        middle = time.perf_counter()
        maker(record, move)
        totals["decode"] += middle - start
        totals["whole"] += time.perf_counter() - middle
        examples += 1
    milliseconds = {name: 1000 * total / examples for name, total in totals.items()}
    return {**milliseconds, "pictures": pictures / examples}


def time_pipeline(args: argparse.Namespace, maker: Any, threads: int) -> float:
    """Examples a second from disk to float batches."""
    config = PipelineConfig(
        batch_size=args.batch_size, parallel_calls=threads, shuffle_window=64, augment=AUGMENT
    )
    batches = iter(make_pipeline(read_records(args.dataset_dir, "train"), maker, config))
    for _ in range(4):  # what is prefetched would count as made in no time
        next(batches)
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < args.seconds:
        next(batches)
        count += args.batch_size
    return count / (time.perf_counter() - start)


def main() -> None:
    args = parse_flags()
    maker = make_maker(args.example, args.size)
    stored = read_records(args.dataset_dir, "train").take(64)
    records = list(stored.as_numpy_iterator())
    alone = time_one_core(records, args.example, maker, args.seconds)
    report: dict[str, Any] = {"example": args.example, "ms_an_example": alone, "examples_per_s": {}}
    sys.stderr.write(
        f"{args.example}: {alone['whole']:.2f} ms an example of {alone['pictures']:.0f} pictures, "
        f"{100 * alone['decode'] / alone['whole']:.0f} % of it decoding\n"
    )
    for threads in map(int, args.threads.split(",")):
        rate = time_pipeline(args, maker, threads)
        report["examples_per_s"][str(threads)] = rate
        pictures = rate * alone["pictures"]
        sys.stderr.write(
            f"  {threads} threads: {rate:7.1f} examples/s, {pictures:7.1f} pictures/s\n"
        )
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
