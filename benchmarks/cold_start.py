"""How long a new process takes until a bundle's first picture is there.

    python -m benchmarks.cold_start [--presets pix2pix_tiny,pix2pix_256] [--rounds 5]
        [--bundles folder] [--output result.json]

Untrained nets of presets are exported once; weights do not change the times. Then each row is run
in a process of its own, the rows take turns, and the first round, in which files come from the
disk, is left out. Times run from the start of the process to its first picture, batch 1; those of
`import numpy` and `import tensorflow` until they are imported. "plain" rows load and call the
bundle with TensorFlow alone, without this library: what is above them is ours. Given are medians,
by the clock and by the processor (all threads), and their ratios to `import tensorflow` of the same
rounds. Engines other than TensorFlow's must not import it; if one does, the benchmark fails.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]
PRESETS = ("pix2pix_tiny", "pix2pix_256", "spade_celebamask_256", "stargan_v2_celebahq_256")
IMPORTS = ("numpy", "tensorflow")
ENGINES = ("plain", "tensorflow", "onnxruntime", "openvino")


def export_untrained(preset: str, folder: pathlib.Path) -> None:
    """Exports the net of a preset as it is before training, with its ONNX file."""
    from facegan.export.onnx import write_onnx
    from facegan.export.saved_model import export_bundle
    from facegan.jobs.export import make_spec
    from facegan.jobs.run import load_config, make_recipe

    config = load_config(preset)
    recipe = make_recipe(config)
    serving = recipe.serving()
    export_bundle(
        folder,
        make_spec(serving, recipe.build_nets("float32")),
        model_name=config.kind,
        image_size=config.conditioning.size,
        labels=serving.labels,
    )
    write_onnx(folder)


def run_row(row: str, bundle: str) -> None:
    """What a process does; prints what it took."""
    if row.startswith("import "):
        __import__(row.removeprefix("import "))
    elif row == "plain":
        call_plainly(bundle)
    else:
        from facegan.render.engine import load_engine

        engine = load_engine(bundle, row)
        engine.generate(empty_batch(engine.manifest))
        if row != "tensorflow" and "tensorflow" in sys.modules:
            sys.exit(f"the engine {row} imports TensorFlow")
    print(json.dumps({"processor_s": time.process_time()}), flush=True)


def empty_batch(manifest: Any) -> dict[str, Any]:
    """One example of zeros."""
    import numpy as np

    return {
        spec.name: np.zeros(
            (1, *(size or manifest.image_size for size in spec.shape[1:])),
            "uint8" if spec.is_image else spec.dtype,
        )
        for spec in manifest.inputs
    }


def call_plainly(bundle: str) -> None:
    """The bundle without this library."""
    import tensorflow as tf

    manifest = json.loads((pathlib.Path(bundle) / "assets.extra/facegan.json").read_text())
    loaded = tf.saved_model.load(bundle)
    signature = loaded.signatures["uint8"]
    zeros = {
        name: tf.zeros(
            [1, *(size or manifest["image_size"] for size in spec.shape[1:])], spec.dtype
        )
        for name, spec in signature.structured_input_signature[1].items()
    }
    for value in signature(**zeros).values():
        value.numpy()


def time_row(row: str, bundle: pathlib.Path | str) -> tuple[float, float]:
    """(wall, processor) seconds of a new process."""
    command = [sys.executable, "-m", "benchmarks.cold_start", "--row", row, "--bundle", str(bundle)]
    start = time.perf_counter()
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        line = child.stdout.readline()
        wall_s = time.perf_counter() - start
        _, errors = child.communicate()
    if child.returncode:
        raise RuntimeError(f"{row} of {bundle} failed: {errors.strip().splitlines()[-1]}")
    return wall_s, json.loads(line)["processor_s"]


def measure(presets: list[str], rounds: int, scratch: pathlib.Path) -> list[dict[str, Any]]:
    rows: list[tuple[str, str]] = [(f"import {name}", "") for name in IMPORTS]
    for preset in presets:
        if not (scratch / preset).exists():
            print(f"exporting {preset}", file=sys.stderr, flush=True)
            # In a process of its own, so that its memory is free again.
            command = [sys.executable, "-m", "benchmarks.cold_start", "--export", preset]
            subprocess.run([*command, "--bundle", str(scratch / preset)], cwd=ROOT, check=True)
        has_onnx = (scratch / preset / "model.onnx").exists()
        rows += [(engine, preset) for engine in (ENGINES if has_onnx else ENGINES[:2])]
    times: dict[tuple[str, str], list[tuple[float, float]]] = {row: [] for row in rows}
    for number in range(rounds + 1):
        print(f"round {number} of {rounds}", file=sys.stderr, flush=True)
        for row, preset in rows:
            taken = time_row(row, scratch / preset)
            if number:
                times[row, preset].append(taken)
    medians = {
        row: [statistics.median(column) for column in zip(*taken, strict=True)]
        for row, taken in times.items()
    }
    base = medians["import tensorflow", ""]
    report = []
    for (row, preset), (wall_s, processor_s) in medians.items():
        report.append(
            {
                "row": row,
                "preset": preset or None,
                "megabytes": round(size_of(scratch / preset) / 1e6, 1) if preset else None,
                "wall_s": round(wall_s, 3),
                "processor_s": round(processor_s, 3),
                "wall_ratio": round(wall_s / base[0], 2),
                "processor_ratio": round(processor_s / base[1], 2),
            }
        )
    return report


def size_of(folder: pathlib.Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def show_table(report: list[dict[str, Any]]) -> None:
    heading = ("wall s", "processor s", "wall ratio", "processor ratio")
    lines = [f"{'':46}" + "".join(f"{name:>17}" for name in heading)]
    for entry in report:
        name = f"{entry['preset'] or ''} {entry['row']}".strip()
        values = (entry[column.replace(" ", "_")] for column in heading)
        lines.append(f"{name:46}" + "".join(f"{value:17.2f}" for value in values))
    print("\n".join(lines), file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--presets", default=",".join(PRESETS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=pathlib.Path)
    parser.add_argument("--bundles", type=pathlib.Path, help="where bundles are kept and reused")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    parser.add_argument("--export", help=argparse.SUPPRESS)
    parser.add_argument("--bundle", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.row:
        return run_row(args.row, args.bundle)
    if args.export:
        return export_untrained(args.export, pathlib.Path(args.bundle))
    with tempfile.TemporaryDirectory() as scratch:
        folder = (args.bundles or pathlib.Path(scratch)).resolve()
        report = measure(args.presets.split(","), args.rounds, folder)
    show_table(report)
    text = json.dumps(report, indent=2)
    print(text)
    if args.output:
        args.output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
