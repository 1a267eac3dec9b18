"""Clips a second while a VoxCeleb2-shaped dataset is built, by the number of processes.

    python -m benchmarks.build_dataset --clips a.mp4,b.mp4 [--copies 12] [--processes 1,2]

The clips are re-encoded at 224 px, as VoxCeleb2 has them, and copied into as many videos of as many
identities; every copy is decoded, searched for faces and written as if it were another. Starting
Beam and the child processes counts. The table goes to stderr, the report as JSON to stdout.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import shutil
import sys
import tempfile
import time
from fractions import Fraction

from facegan.jobs.dataset import build_dataset
from facegan.preparation.voxceleb import VoxCelebConfig
from facegan.preparation.workers import WorkersConfig
from facegan.video.reader import VideoReader
from facegan.video.writer import VideoWriter

SIDE_PX = 224


def parse_flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", required=True, help="square clips with a face, by commas")
    parser.add_argument("--copies", type=int, default=12, help="copies of each clip")
    parser.add_argument("--max_frames", type=int, default=200, help="frames taken of each clip")
    parser.add_argument("--processes", default="1,2", help="numbers of processes, by commas")
    return parser.parse_args()


def write_tree(clips: list[str], copies: int, max_frames: int, root: pathlib.Path) -> int:
    """Writes the tree and returns the number of frames in one copy of each clip."""
    frames = 0
    for number, clip in enumerate(clips):
        first = root / f"id{number}_0" / "video0" / "00001.mp4"
        first.parent.mkdir(parents=True)
        with (
            VideoReader(clip, size_hw=(SIDE_PX, SIDE_PX)) as reader,
            VideoWriter(
                first, width=SIDE_PX, height=SIDE_PX, frame_rate=25, time_base=Fraction(1, 25)
            ) as writer,
        ):
            for frame in reader:
                if frame.index == max_frames:
                    break
                writer.write(frame.image, frame.index)
                frames += 1
        for copy in range(1, copies):
            path = root / f"id{number}_{copy}" / "video0" / "00001.mp4"
            path.parent.mkdir(parents=True)
            shutil.copy(first, path)
    return frames


def main() -> None:
    args = parse_flags()
    clips = args.clips.split(",")
    report: dict[str, object] = {"clips": len(clips) * args.copies}
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        report["frames_per_clip"] = write_tree(
            clips, args.copies, args.max_frames, root / "vox"
        ) / len(clips)
        for processes in map(int, args.processes.split(",")):
            start = time.perf_counter()
            build_dataset(
                root / "vox",
                VoxCelebConfig(size=256, test=0.0),
                root / f"data{processes}",
                workers=WorkersConfig(processes=processes),
            )
            seconds = time.perf_counter() - start
            rate = len(clips) * args.copies / seconds
            report[f"processes_{processes}"] = {"seconds": seconds, "clips_per_s": rate}
            sys.stderr.write(f"{processes} processes: {seconds:6.1f} s, {rate:5.2f} clips/s\n")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
