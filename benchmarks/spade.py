"""Times exported SPADE generators and a SPADE training step against a PyTorch twin.

    python -m benchmarks.spade --torch_python /path/to/python/with/torch --output result.json \
        --label_map ../shared/media/celebamask_hq_sample/0.png

Every engine is a process of its own with two threads, and the engines of a group take turns, so
that a busy moment of the machine meets them all; ratios hold within a group. Batch 1. All have the
same weights and label map, and the table says how far each one's picture (of a training step: its
losses, relatively) is from that of our plain float32 net. glibc's allocator is tuned to keep large
blocks, which matters to PyTorch by up to 1.7 times and is no merit of either library; names that
end in "/default" run without. TensorFlow is left to choose between oneDNN and its own convolutions:
on a CPU with AVX2 only, oneDNN takes 1.3 to 3.6 times as long. Our fast path depends on how few
windows of the label map differ, so their share is printed: a photographed face has some 4 per cent
at 256 px.

On a busy machine compare the processor time, with `--threads 1`: what else runs does not count
there, though it slows memory. `--smoke` runs a tiny net, twice each.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

from benchmarks.pix2pix_generator import Worker

ROOT = pathlib.Path(__file__).resolve().parent.parent
NUM_LABELS = 19
# group -> our engines and PyTorch's variants
GROUPS = {
    "generator_float32": (
        ("windows", "windows/default", "dense", "openvino"),
        ("eager", "eager/default", "cl", "compile", "cl_compile"),
    ),
    "generator_bfloat16": (
        ("windows_bf16", "dense_bf16"),
        ("cl_bf16", "cl_autocast_bf16", "cl_compile_bf16"),
    ),
    "training_float32": (
        ("windows", "windows/default", "dense"),
        ("eager", "eager/default", "cl"),
    ),
}


def synthetic_map(size: int) -> np.ndarray:
    """A map of nested ellipses with about as many different windows as a parsed face."""
    rows, columns = (np.mgrid[0:size, 0:size] + 0.5) / size
    label_map = np.zeros((size, size), np.uint8)
    parts = (  # label, centre and half axes of ellipses, the lower ones first
        (16, 0.97, 0.5, 0.2, 0.46),
        (13, 0.42, 0.5, 0.4, 0.36),
        (17, 0.84, 0.5, 0.16, 0.15),
        (1, 0.52, 0.5, 0.33, 0.25),
        (6, 0.41, 0.38, 0.018, 0.08),
        (7, 0.41, 0.62, 0.018, 0.08),
        (4, 0.47, 0.39, 0.02, 0.045),
        (5, 0.47, 0.61, 0.02, 0.045),
        (2, 0.56, 0.5, 0.09, 0.05),
        (11, 0.7, 0.5, 0.025, 0.09),
        (12, 0.725, 0.5, 0.025, 0.08),
        (10, 0.71, 0.5, 0.012, 0.06),
        (8, 0.52, 0.235, 0.07, 0.025),
        (9, 0.52, 0.765, 0.07, 0.025),
    )
    for label, y, x, half_y, half_x in parts:
        label_map[((rows - y) / half_y) ** 2 + ((columns - x) / half_x) ** 2 < 1] = label
    return label_map


def read_map(path: str | None, size: int) -> np.ndarray:
    """Label ids [size, size] uint8, from a PNG of ids or made up."""
    if path is None:
        return synthetic_map(size)
    import PIL.Image

    picture = PIL.Image.open(path)
    return np.asarray(picture.resize((size, size), PIL.Image.Resampling.NEAREST), np.uint8)


def window_shares(label_map: np.ndarray) -> dict[int, float]:
    """Share of different 5x5 windows on each grid that the generator looks them up on."""
    shares = {}
    for factor in (1, 2, 4, 8, 16):
        grid = np.pad(label_map[::factor, ::factor], 2, constant_values=255)
        if len(grid) >= 12:
            windows = np.lib.stride_tricks.sliding_window_view(grid, (5, 5)).reshape(-1, 25)
            shares[len(grid) - 4] = round(len(np.unique(windows, axis=0)) / len(windows), 4)
    return shares


def make_nets(size: int, width: int):
    """Generator and discriminator with weights that keep the maps' spread."""
    from facegan.models.spade import (
        SpadeConfig,
        SPADEDiscriminator,
        SpadeDiscriminatorConfig,
        SPADEGenerator,
    )

    rng = np.random.default_rng(0)
    hidden = 2 * width
    config = SpadeConfig(
        image_size=size, num_labels=NUM_LABELS, base_width=width, hidden_width=hidden
    )
    judge = SpadeDiscriminatorConfig(image_size=size, num_labels=NUM_LABELS, base_width=width)
    nets = SPADEGenerator(config), SPADEDiscriminator(judge)
    for net in nets:
        net.build({name: (None, *shape) for name, shape in net.input_shapes().items()})
        for variable in net.variables:
            shape = tuple(variable.shape)
            if len(shape) == 4:
                kernel = rng.standard_normal(shape, np.float32) / np.sqrt(np.prod(shape[:3]))
                variable.assign(kernel)
            elif "singular" in variable.path:
                matrix = kernel.reshape(-1, kernel.shape[3])
                vector = rng.standard_normal(len(matrix), np.float32)
                for _ in range(5):
                    vector = matrix @ (vector @ matrix)
                    vector /= np.linalg.norm(vector)
                variable.assign(vector)
            elif "variance" in variable.path:
                variable.assign(rng.uniform(0.5, 1.5, shape))
            else:
                variable.assign(0.1 * rng.standard_normal(shape, np.float32))
    return nets


def inner_path(variable) -> str:
    return variable.path.partition("/")[2]


def prepare(folder: pathlib.Path, size: int, width: int, map_path: str | None) -> None:
    """Writes weights, inputs, what comes of them, and the exported generators."""
    import tensorflow as tf

    from facegan.bundle import TensorSpec
    from facegan.export.saved_model import ServingSpec, export_bundle
    from facegan.models.configured import fold_spectral_norm

    generator, discriminator = make_nets(size, width)
    label_map = read_map(map_path, size)[None]
    arrays = {f"G/{inner_path(v)}": np.asarray(v) for v in generator.variables}
    arrays |= {f"D/{inner_path(v)}": np.asarray(v) for v in discriminator.variables}
    rng = np.random.default_rng(1)
    np.savez(
        folder / "weights.npz",
        label_map=label_map,
        image=rng.uniform(-1, 1, (1, size, size, 3)).astype(np.float32),
        generated=np.asarray(generator({"label_map": label_map})),
        num_labels=NUM_LABELS,
        width=width,
        hidden=generator.config.hidden_width,
        parameters=[
            sum(int(np.prod(v.shape)) for v in net.trainable_variables)
            for net in (generator, discriminator)
        ],
        **arrays,
    )
    for dtype in ("float32", "bfloat16"):
        spec = ServingSpec(
            model=fold_spectral_norm(generator, dtype),
            inputs=(
                TensorSpec(
                    name="label_map",
                    shape=(None, size, size),
                    dtype="uint8",
                    value_range=(0, NUM_LABELS - 1),
                ),
            ),
            outputs=(TensorSpec(name="image", shape=(None, size, size, 3)),),
            fast_paths=True,
        )
        export_bundle(folder / dtype, spec, model_name="spade", image_size=size)
        tf.keras.backend.clear_session()


def load_generator(name: str, folder: pathlib.Path, label_map: np.ndarray):
    """A function without arguments that gives the picture of the label map."""
    bundle = folder / ("bfloat16" if name.endswith("bf16") else "float32")
    if name == "openvino":
        import openvino

        # Its reader takes the signature serving_default alone, which is the plain one here.
        import tensorflow as tf

        loaded = tf.saved_model.load(str(bundle))
        plain = loaded.signatures["portable"]
        shape = [1, *label_map.shape[1:]]
        model = openvino.convert_model(plain, input=[(shape, openvino.Type.u8)])
        settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 2}
        compiled = openvino.Core().compile_model(model, "CPU", settings)
        return lambda: compiled(label_map)[0]
    import tensorflow as tf

    loaded = tf.saved_model.load(str(bundle))
    signature = "serving_default" if name.startswith("windows") else "portable"
    function = loaded.signatures[signature]
    ids = tf.constant(label_map)
    return lambda _keep=loaded: function(label_map=ids)["image"].numpy()


def make_training(name: str, stored):
    """A function that runs one step of the recipe, and its nets."""
    import tensorflow as tf

    from facegan.models.spade import SpadeConfig, SpadeDiscriminatorConfig
    from facegan.training.recipes.spade import Recipe, SpadeRecipeConfig
    from facegan.training.trainer import TrainConfig, Trainer

    size, width = stored["image"].shape[1], int(stored["width"])
    config = SpadeRecipeConfig(
        generator=SpadeConfig(
            image_size=size, base_width=width, hidden_width=int(stored["hidden"])
        ),
        discriminator=SpadeDiscriminatorConfig(image_size=size, base_width=width),
        perceptual_weight=0.0,
    )
    if name == "dense":
        import facegan.models.spade

        facegan.models.spade.LEAST_WINDOW_GRID = 2**30
    trainer = Trainer(Recipe(config), TrainConfig(precision="float32", xla="off"))
    for prefix, net in (("G", "generator"), ("D", "discriminator")):
        for variable in trainer.state.nets[net].variables:
            variable.assign(stored[f"{prefix}/{inner_path(variable)}"])
    batch = {key: tf.constant(stored[key]) for key in ("label_map", "image")}

    def run():
        terms = trainer.train_step(batch)
        return [float(terms[term]) for term in ("G/adv", "G/feat", "D/adv")]

    return run


def work(job: str, name: str, folder: pathlib.Path, threads: int, warm: int) -> None:
    """The worker's loop; benchmarks/spade_torch.py has the same protocol."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    stored = np.load(folder / "weights.npz")
    facts = {"parameters": stored["parameters"].tolist()}
    if job == "generator":
        run = load_generator(name, folder, stored["label_map"])
        facts["max_difference"] = float(np.abs(run() - stored["generated"]).max())
    else:
        run = make_training(name, stored)
        facts["losses"] = run()
        known = folder / "losses.json"
        if not known.exists():
            known.write_text(json.dumps(facts["losses"]))
        expected = np.array(json.loads(known.read_text()))
        facts["max_difference"] = float(np.abs(facts["losses"] / expected - 1).max())
    for _ in range(warm):
        run()
    print(json.dumps(facts), flush=True)
    for line in sys.stdin:
        seconds = []
        for _ in range(int(line)):
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            seconds.append([time.perf_counter() - wall, time.process_time() - cpu])
        print(json.dumps(seconds), flush=True)


class Engine(Worker):
    """A worker that keeps what it said of itself."""

    def _answer(self):
        answer = super()._answer()
        if isinstance(answer, dict):
            self.facts = answer
        return answer


def run_group(commands: dict[str, list[str]], args: argparse.Namespace, calls: int) -> dict:
    """Runs the engines in turns; rows by engine."""
    engines = {}
    for name, command in commands.items():
        print(f"starting {name}", file=sys.stderr, flush=True)
        allocator = "default" if name.endswith("/default") else "tuned"
        engines[name] = Engine(command, allocator, args.threads)
    for i in range(args.rounds):
        load = os.getloadavg()[0]
        print(f"round {i + 1} of {args.rounds}, load {load:.1f}", file=sys.stderr, flush=True)
        for engine in engines.values():
            engine.run(calls)
    rows = {}
    for name, engine in engines.items():
        engine.close()
        ms, cpu_ms = 1000 * np.array(engine.seconds).T
        rows[name] = {
            "median_ms": round(float(np.median(ms)), 1),
            "min_ms": round(float(ms.min()), 1),
            "cpu_ms": round(float(np.median(cpu_ms)), 1),
            "min_cpu_ms": round(float(cpu_ms.min()), 1),
            **engine.facts,
            "all_ms": np.round(ms, 1).tolist(),
        }
    return rows


def best_ratios(rows: dict) -> dict:
    """Our quickest engine against PyTorch's, by the clock and by processor time."""
    ratios = {}
    for measure in ("median_ms", "min_ms", "cpu_ms", "min_cpu_ms"):
        torch = [name for name in rows if name.startswith("torch/")]
        ours = [name for name in rows if name not in torch]
        if torch and ours:
            best, mine = (
                min(group, key=lambda name, m=measure: rows[name][m]) for group in (torch, ours)
            )
            faster = rows[best][measure] / rows[mine][measure]
            ratios[measure] = {"ours": mine, "torch": best, "times_faster": round(faster, 2)}
    return ratios


def measure_group(
    group: str, commands: dict[str, list[str]], args: argparse.Namespace, calls: int
) -> dict:
    """Runs the wanted engines of a group, prints a table, and returns what goes into the JSON."""
    wanted = args.engines or list(commands)
    commands = {name: command for name, command in commands.items() if name in wanted}
    rows = run_group(commands, args, calls)
    ratios = best_ratios(rows)
    heads = f"{'median ms':>10}{'min ms':>9}{'cpu ms':>9}{'max diff':>10}"
    print(f"\n{group:28}{heads}  parameters, GFLOP")
    for name, row in sorted(rows.items(), key=lambda item: item[1]["median_ms"]):
        print(
            f"{name:28}{row['median_ms']:10.1f}{row['min_ms']:9.1f}{row['cpu_ms']:9.1f}"
            f"{row['max_difference']:10.1e}  {row['parameters']} {row.get('gflop', '')}"
        )
    for measure, ratio in ratios.items():
        print(f"{measure}: {ratio['ours']} {ratio['times_faster']}x {ratio['torch']}")
    return {"engines": rows, "best_against_best": ratios}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=pathlib.Path)
    parser.add_argument("--torch_python", default=None, help="a Python with torch; none: ours only")
    parser.add_argument("--label_map", default=None, help="a PNG of ids; none: ellipses")
    parser.add_argument("--groups", nargs="*", default=list(GROUPS), choices=list(GROUPS))
    parser.add_argument("--engines", nargs="*", default=None, help="only these, such as torch/cl")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=3, help="calls of each engine in a round")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--warm", type=int, default=2, help="calls before the first timed one")
    parser.add_argument("--smoke", action="store_true", help="a tiny net and hardly any calls")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--prepare", type=pathlib.Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        job, name, text = args.worker
        return work(job, name, pathlib.Path(text), args.threads, args.warm)
    if args.prepare:
        return prepare(args.prepare, args.size, args.width, args.label_map)
    if args.smoke:
        args.size, args.width, args.rounds, args.calls, args.warm = 64, 4, 2, 1, 0

    shares = window_shares(read_map(args.label_map, args.size))
    told = ", ".join(f"{size}: {100 * share:.1f} %" for size, share in shares.items())
    print(f"different windows by grid: {told}", flush=True)
    result = {"size": args.size, "width": args.width, "threads": args.threads, "windows": shares}
    with tempfile.TemporaryDirectory() as text:
        weights = ["--weights", str(pathlib.Path(text) / "weights.npz")]
        common = ["--threads", str(args.threads), "--warm", str(args.warm)]
        this = [sys.executable, "-m", "benchmarks.spade", *common]
        made = [*this, "--prepare", text, "--size", str(args.size), "--width", str(args.width)]
        made += ["--label_map", args.label_map] if args.label_map else []
        # In a process of its own, so that its memory is free again while the engines run.
        quiet = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
        subprocess.run(made, env=quiet, check=True)
        for group in args.groups:
            job = group.partition("_")[0]
            ours, theirs = GROUPS[group]
            commands = {name: [*this, "--worker", job, name, text] for name in ours}
            if args.torch_python:
                twin = [args.torch_python, str(ROOT / "benchmarks" / "spade_torch.py"), *weights]
                twin += [*common, "--job", job, "--variant"]
                commands |= {
                    f"torch/{name}": [*twin, name.removesuffix("/default")] for name in theirs
                }
            calls = args.calls if job == "generator" else 1
            result[group] = measure_group(group, commands, args, calls)
    if args.output:
        args.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
