"""How many pictures a second a served bundle gives, by gRPC and by REST, beside the same one here.

    python -m benchmarks.serving [--preset pix2pix_tiny] [--batch_size 4] [--batches 20]
        [--rounds 3] [--output result.json]

An untrained net is exported and served by the tests' stand-in for TensorFlow Serving
(tests/serving_front.py), a process of its own on the same machine: client and server share the
processor, so what is measured is the cost of the way, not what a second machine brings. The rows
take turns; given are medians of pictures a second, and their ratios to TensorFlow in this process.
"as bytes" is a server started with --enable_serialization_as_tensor_content.
"""

import argparse
import contextlib
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.cold_start import export_untrained

ROOT = pathlib.Path(__file__).resolve().parents[1]
IN_FLIGHT = (1, 4)


@contextlib.contextmanager
def served(models_dir: pathlib.Path, *flags: str) -> Iterator[dict[str, int]]:
    """Runs the server; gives its ports."""
    command = [sys.executable, "-m", "tests.serving_front", "--models_dir", str(models_dir)]
    process = subprocess.Popen(
        [*command, "--grpc_port=0", "--rest_port=0", *flags],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())
    finally:
        process.terminate()
        process.wait()


def pictures_per_s(engine: Any, batches: list[dict[str, np.ndarray]], in_flight: int) -> float:
    """How fast an engine runs all batches."""
    from facegan.render.stages import ordered_map

    start_s = time.perf_counter()
    for _ in ordered_map(engine.generate, batches, in_flight=in_flight):
        pass
    count = sum(len(next(iter(batch.values()))) for batch in batches)
    return count / (time.perf_counter() - start_s)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Exports, serves, and times all rows."""
    from facegan.bundle import read_manifest
    from facegan.export.random_inputs import sample_inputs
    from facegan.image import to_uint8
    from facegan.render.engine import load_engine

    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        bundle = pathlib.Path(folder) / "net" / "1"
        export_untrained(args.preset, bundle)
        manifest = read_manifest(bundle)
        images = {spec.name for spec in manifest.inputs if spec.is_image}
        batches = [
            {
                name: to_uint8(value) if name in images else value
                for name, value in sample_inputs(
                    manifest.inputs, args.batch_size, free_size=manifest.image_size, seed=seed
                ).items()
            }
            for seed in range(args.batches)
        ]
        plain = stack.enter_context(served(bundle.parents[1]))
        as_bytes = stack.enter_context(
            served(bundle.parents[1], "--enable_serialization_as_tensor_content")
        )
        engines = {
            "TensorFlow here": load_engine(bundle, "tensorflow"),
            "gRPC": load_engine(f"grpc://localhost:{plain['grpc']}/net"),
            "gRPC, as bytes": load_engine(f"grpc://localhost:{as_bytes['grpc']}/net"),
            "REST": load_engine(f"http://localhost:{plain['rest']}/net"),
        }
        rows = {
            (name, count): engine
            for name, engine in engines.items()
            for count in (IN_FLIGHT if name != "TensorFlow here" else (1,))
        }
        rates: dict[tuple[str, int], list[float]] = {row: [] for row in rows}
        for number in range(args.rounds + 1):
            for row, engine in rows.items():
                rate = pictures_per_s(engine, batches, row[1])
                if number:  # the first round warms up
                    rates[row].append(rate)
    here = statistics.median(rates["TensorFlow here", 1])
    return {
        f"{name}, {count} in flight": {
            "pictures_per_s": round(statistics.median(found), 1),
            "ratio": round(statistics.median(found) / here, 2),
        }
        for (name, count), found in rates.items()
    }


def main() -> None:
    """Prints the table and, if wanted, writes it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="pix2pix_tiny")
    parser.add_argument("--batch_size", type=int, default=4)
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output")
    args = parser.parse_args()
    result = measure(args)
    print(json.dumps(result, indent=2))
    if args.output:
        pathlib.Path(args.output).write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
