"""Times the exported pix2pix U-Net on every local engine against a PyTorch twin.

    python benchmarks/pix2pix_generator.py --output result.json \
        --torch_python /path/to/python/with/torch

Every engine is a process of its own with two threads; the engines take turns, so that a busy moment
of the machine meets them all. Batch 1; all get the same weights and input, and the table says how
far each one's image is from ours in float32. PyTorch and TensorFlow run with glibc's allocator
tuned to keep large blocks (`--allocator=default` for the plain one): that matters to PyTorch by up
to 1.7 times and is no merit of either library.
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

HERE = pathlib.Path(__file__).resolve().parent
TUNED = (
    "glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:"
    "glibc.malloc.trim_threshold=8589934592:glibc.malloc.top_pad=268435456"
)
TORCH = ("eager", "cl", "cl_compile", "cl_bf16", "cl_compile_bf16")
# engine -> the number type its convolutions compute in
OURS = {
    "savedmodel": "float32",
    "savedmodel_folded": "float32",
    "onnxruntime": "float32",
    "openvino": "float32",
    "frozen_bf16": "bfloat16",
    "openvino_bf16": "bfloat16",
}


def prepare(folder: pathlib.Path, size: int, width: int) -> None:
    """Writes the weights, an input with its output, and the exported model in each form."""
    import keras
    import tensorflow as tf
    import tf2onnx

    from facegan.models.pix2pix import UNetConfig, UNetGenerator, fold_batch_norm

    rng = np.random.default_rng(0)
    generator = UNetGenerator(UNetConfig(image_size=size, base_width=width))
    generator.build({"condition": (None, size, size, 3)})
    for variable in generator.variables:
        shape = tuple(variable.shape)
        if len(shape) == 4:
            fan_in = np.prod(shape) / shape[2 if "up" in variable.path else 3]
            variable.assign(rng.standard_normal(shape) * np.sqrt(1 / fan_in))
        elif "gamma" in variable.path or "variance" in variable.path:
            variable.assign(rng.uniform(0.5, 1.5, shape))
    x = rng.uniform(-1, 1, (1, size, size, 3)).astype(np.float32)
    arrays = {"/".join(v.path.split("/")[-2:]): np.asarray(v) for v in generator.variables}
    np.savez(folder / "weights.npz", x=x, y=np.asarray(generator({"condition": x})), **arrays)

    signature = [{"condition": keras.InputSpec(shape=(None, size, size, 3), dtype="float32")}]
    generator.export(str(folder / "savedmodel"), input_signature=signature, verbose=False)
    folded = fold_batch_norm(generator)
    folded.export(str(folder / "folded"), input_signature=signature, verbose=False)
    half = fold_batch_norm(generator, dtype="bfloat16")
    half.export(str(folder / "folded_bf16"), input_signature=signature, verbose=False)

    function = tf.function(lambda condition: folded({"condition": condition}))
    spec = [tf.TensorSpec((None, size, size, 3), tf.float32, name="condition")]
    tf2onnx.convert.from_function(function, spec, opset=18, output_path=str(folder / "folded.onnx"))


def load_engine(name: str, folder: pathlib.Path, threads: int):
    """A function from the input image to the output image."""
    if name == "onnxruntime":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(
            str(folder / "folded.onnx"), options, providers=["CPUExecutionProvider"]
        )
        return lambda x: session.run(None, {session.get_inputs()[0].name: x})[0]
    if name.startswith("openvino"):
        import openvino

        core = openvino.Core()
        model = core.read_model(folder / "folded.onnx")
        model.reshape([1, *np.load(folder / "weights.npz")["x"].shape[1:]])
        kind = "bf16" if name.endswith("bf16") else "f32"
        compiled = core.compile_model(
            model,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": kind,
                "INFERENCE_NUM_THREADS": threads,
                "PERFORMANCE_HINT": "LATENCY",
            },
        )
        return lambda x: compiled(x)[0]

    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    form = {"savedmodel": "savedmodel", "savedmodel_folded": "folded"}.get(name, "folded_bf16")
    loaded = tf.saved_model.load(str(folder / form))
    function = loaded.signatures["serving_default"]
    if name.startswith("frozen"):
        function = convert_variables_to_constants_v2(function)
        return lambda x, _keep=loaded: np.asarray(function(tf.constant(x))[0])
    entry = next(iter(function.structured_input_signature[1]))
    return lambda x, _keep=loaded: next(iter(function(**{entry: tf.constant(x)}).values())).numpy()


def work(name: str, folder: pathlib.Path, threads: int) -> None:
    """The worker's loop; benchmarks/pix2pix_torch.py has the same protocol."""
    stored = np.load(folder / "weights.npz")
    x = stored["x"]
    engine = load_engine(name, folder, threads)
    difference = float(np.abs(engine(x) - stored["y"]).max())
    for _ in range(3):
        engine(x)
    print(json.dumps({"max_difference": difference}), flush=True)
    for line in sys.stdin:
        seconds = []
        for _ in range(int(line)):
            start = time.perf_counter()
            engine(x)
            seconds.append(time.perf_counter() - start)
        print(json.dumps(seconds), flush=True)


class Worker:
    """An engine in its own process."""

    def __init__(self, command: list[str], allocator: str, threads: int):
        environment = {
            **os.environ,
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "OMP_NUM_THREADS": str(threads),
            "PYTHONPATH": str(HERE.parent),
        }
        if allocator == "tuned":
            environment["GLIBC_TUNABLES"] = TUNED
        self.process = subprocess.Popen(
            command,
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self.seconds: list[float] = []
        self.max_difference = self._answer()["max_difference"]

    def _answer(self):
        # Some libraries print to stdout while they load.
        for line in self.process.stdout:
            if line.startswith(("{", "[")):
                return json.loads(line)
        raise RuntimeError(f"the worker ended: {' '.join(self.process.args)}")

    def run(self, calls: int) -> None:
        self.process.stdin.write(f"{calls}\n")
        self.process.stdin.flush()
        self.seconds += self._answer()

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def summarise(workers: dict[str, Worker]) -> dict:
    rows = {}
    for name, worker in workers.items():
        ms = 1000 * np.array(worker.seconds)
        rows[name] = {
            "type": "bfloat16" if name.endswith("bf16") else "float32",
            "median_ms": round(float(np.median(ms)), 2),
            "min_ms": round(float(ms.min()), 2),
            "max_difference": worker.max_difference,
        }
    ratios = {}
    for kind in ("float32", "bfloat16"):
        names = [name for name, row in rows.items() if row["type"] == kind]
        torch = [name for name in names if name.startswith("torch/")]
        ours = [name for name in names if name not in torch]
        for measure in ("median_ms", "min_ms"):
            if torch and ours:
                best, mine = (
                    min(group, key=lambda name, m=measure: rows[name][m]) for group in (torch, ours)
                )
                ratios[f"{kind} {measure}"] = {
                    "ours": mine,
                    "torch": best,
                    "times_faster": round(rows[best][measure] / rows[mine][measure], 2),
                }
    return {"engines": rows, "best_against_best": ratios}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=pathlib.Path)
    parser.add_argument("--torch_python", default=None, help="a Python with torch; none: ours only")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--calls", type=int, default=10, help="calls of each engine in a round")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--allocator", choices=("tuned", "default"), default="tuned")
    parser.add_argument("--engines", nargs="*", default=None, help="only these, such as openvino")
    parser.add_argument("--worker", nargs=2, metavar=("ENGINE", "FOLDER"), help=argparse.SUPPRESS)
    parser.add_argument("--prepare", type=pathlib.Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        return work(args.worker[0], pathlib.Path(args.worker[1]), args.threads)
    if args.prepare:
        return prepare(args.prepare, args.size, args.width)

    with tempfile.TemporaryDirectory() as text:
        folder = pathlib.Path(text)
        this = [sys.executable, str(HERE / "pix2pix_generator.py"), "--threads", str(args.threads)]
        # In a process of its own, so that its memory is free again while the engines run.
        subprocess.run(
            [*this, "--prepare", text, "--size", str(args.size), "--width", str(args.width)],
            env={**os.environ, "PYTHONPATH": str(HERE.parent), "TF_CPP_MIN_LOG_LEVEL": "3"},
            check=True,
        )
        commands = {name: [*this, "--worker", name, text] for name in OURS}
        if args.torch_python:
            twin = [args.torch_python, str(HERE / "pix2pix_torch.py"), "--weights"]
            twin += [str(folder / "weights.npz"), "--threads", str(args.threads), "--variant"]
            commands |= {f"torch/{variant}": [*twin, variant] for variant in TORCH}
        workers = {}
        for name, command in commands.items():
            if args.engines is None or name in args.engines:
                print(f"starting {name}", file=sys.stderr, flush=True)
                workers[name] = Worker(command, args.allocator, args.threads)
        for i in range(args.rounds):
            print(f"round {i + 1} of {args.rounds}", file=sys.stderr, flush=True)
            for worker in workers.values():
                worker.run(args.calls)
        for worker in workers.values():
            worker.close()

    result = {
        "size": args.size,
        "width": args.width,
        "threads": args.threads,
        "allocator": args.allocator,
        **summarise(workers),
    }
    print(f"{'engine':24}{'type':10}{'median ms':>10}{'min ms':>8}{'max diff':>10}")
    for name, row in sorted(result["engines"].items(), key=lambda item: item[1]["median_ms"]):
        print(
            f"{name:24}{row['type']:10}{row['median_ms']:10.1f}{row['min_ms']:8.1f}"
            f"{row['max_difference']:10.1e}"
        )
    for what, ratio in result["best_against_best"].items():
        print(f"{what}: {ratio['ours']} {ratio['times_faster']}x {ratio['torch']}")
    if args.output:
        args.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
