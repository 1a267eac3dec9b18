"""Times exported StyleGAN2 generators and a training step against a PyTorch twin.

    python -m benchmarks.stylegan2 --torch_python /path/to/python/with/torch --output result.json

Every engine is a process of its own with two threads, and the engines of a group take turns, so
that a busy moment of the machine meets them all; ratios hold within a group. The nets are those of
the preset stylegan2_paper256. The generator paints one picture of its styles, with the stored
noise; the training step runs all four phases on a batch of four, without augmentation. All have the
same weights, inputs and random numbers, and the table says how far each one's picture is from that
of our plain float32 net, as a share of its spread (of a training step: its losses, relatively).
glibc's allocator is tuned to keep large blocks, which is no merit of either library; names that end
in "/default" run without. OpenVINO reads the SavedModel or, as "openvino_onnx", the ONNX file.
PyTorch's variants begin with the form of the modulated convolution; see stylegan2_torch.py.

On a busy machine compare the processor time, with `--threads 1`: what else runs does not count
there, though it slows memory, and PyTorch's threads wait for one another in busy loops. An engine
of the training step takes several GiB; `--engines` names a few where memory is short. `--smoke`
runs tiny nets, twice each.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np

from benchmarks.spade import ROOT, inner_path, measure_group

# group -> our engines and PyTorch's variants
GROUPS = {
    "generator_float32": (
        ("openvino", "openvino_onnx", "onnxruntime", "tensorflow", "tensorflow/default"),
        (
            *("grouped_eager", "grouped_eager/default", "grouped_cl"),
            *("grouped_compile", "grouped_cl_compile"),
            *("scaled_eager", "scaled_cl", "scaled_compile", "scaled_cl_compile"),
            *("scaled_freeze", "scaled_cl_freeze"),
        ),
    ),
    "generator_bfloat16": (
        ("openvino_bf16", "openvino_onnx_bf16", "tensorflow_bf16"),
        (
            *("grouped_cl_bf16", "grouped_cl_autocast_bf16", "grouped_cl_compile_bf16"),
            *("scaled_cl_bf16", "scaled_cl_autocast_bf16", "scaled_cl_compile_bf16"),
            "scaled_cl_freeze_bf16",
        ),
    ),
    # Without "grouped_cl": joined with the batch, channels do not stay last, and PyTorch 2.13 gave
    # wrong gradients of the colours' kernels.
    "training_float32": (
        ("facegan", "facegan/default"),
        ("grouped_eager", "grouped_eager/default", "scaled_eager", "scaled_cl"),
    ),
}
NETS = ("generator", "mapping", "discriminator")


def make_recipe(size: int, width: int):
    """The recipe of the preset without augmentation, for pictures of a size."""
    from facegan.models.stylegan2 import (
        StyleGAN2DiscriminatorConfig,
        StyleGAN2SynthesisConfig,
        StyleMappingConfig,
    )
    from facegan.training.ema import EmaConfig
    from facegan.training.optimizers import AdamConfig
    from facegan.training.recipes.stylegan2 import Recipe, StyleGAN2RecipeConfig

    shared = {"image_size": size, "base_width": width}
    config = StyleGAN2RecipeConfig(
        generator=StyleGAN2SynthesisConfig(**shared),
        mapping=StyleMappingConfig(),
        discriminator=StyleGAN2DiscriminatorConfig(**shared, group_size=8),
        r1_weight=1.0,
        augment=None,
        optimizer=AdamConfig(learning_rate=0.0025, beta_1=0.0, beta_2=0.99),
        ema=EmaConfig(decay=0.5 ** (32 / 10_000), ramp=False),
    )
    return Recipe(config)


def describe(recipe) -> dict[str, dict[str, Any]]:
    """What the twin has to know of the nets and of the step."""
    config = recipe.config
    generator, mapping, adam = config.generator, config.mapping, config.optimizer
    judge = config.discriminator
    names = ("r1_weight", "r1_every", "path_weight", "path_every", "path_decay")
    return {
        "generator": {
            "widths": [generator.width_at(size) for size in generator.sizes],
            "style_size": generator.style_size,
        },
        "mapping": {
            "latent_size": mapping.latent_size,
            "style_size": mapping.style_size,
            "num_layers": mapping.num_layers,
            "rate": mapping.lr_multiplier,
        },
        "discriminator": {"widths": judge.widths, "group_size": judge.group_size},
        "recipe": {
            **{name: getattr(config, name) for name in names},
            "num_styles": generator.num_styles,
            "num_layers": 3 * len(generator.sizes) - 1,
            "average_decay": mapping.average_decay,
            "learning_rate": adam.learning_rate,
            "beta_1": adam.beta_1,
            "beta_2": adam.beta_2,
            "ema_decay": config.ema.decay,
        },
    }


def fill_net(net, rng) -> None:
    """Gives a net weights of their usual spread, and of the rest something that is seen."""
    for variable in net.variables:
        noise = rng.standard_normal(tuple(variable.shape), np.float32)
        if "rgb_" in variable.path and variable.path.endswith("conv/kernel"):
            variable.assign(0.2 * noise)  # most of the picture in [-1, 1]
        elif variable.path.endswith(("kernel", "const")):
            variable.assign(noise / (0.01 if "mapping" in variable.path else 1))
        else:
            start = "style_" in variable.path and variable.path.endswith("bias")
            variable.assign(0.1 * noise + float(start))


def draw(recipe, count: int) -> dict[str, np.ndarray]:
    """All that the recipe draws at its first step; the trainer's seed is 0."""
    import keras

    from facegan.layers.randomness import GivenSeed, fold_in

    config, drawn = recipe.config, {}
    generator, net_layers = config.generator, recipe.build_nets("float32")["generator"].painters
    for index, phase in enumerate(("generator", "path", "discriminator")):
        seed = np.array([0, index], np.int32)
        number = max(count // config.path_shrink, 1) if phase == "path" else count

        def normal(stream, *shape, number=number, seed=seed):
            given = GivenSeed(fold_in(seed, stream))
            return np.asarray(keras.random.normal((number, *shape), seed=given))

        def uniform(stream, number=number, seed=seed):
            given = GivenSeed(fold_in(seed, stream))
            return np.asarray(keras.random.uniform((number,), seed=given))

        for i in range(2):
            drawn[f"{phase}/latent_{i}"] = normal(i, config.mapping.latent_size)
        last = generator.num_styles - 1
        crossover = 1 + (uniform(3) * np.float32(last)).astype(np.int32)
        mixed = uniform(2) < config.style_mixing
        drawn[f"{phase}/crossover"] = np.where(mixed, crossover, last + 1)
        if phase == "path":
            drawn["path/y"] = normal(4, generator.image_size, generator.image_size, 3)
        seed = np.asarray(fold_in(seed, 6))
        for i, layer in enumerate(net_layers):
            if not layer.name.startswith("rgb"):
                size = int(layer.name.rpartition("_")[2])
                drawn[f"{phase}/noise_{i}"] = normal(i, size, size, 1, seed=seed)
    return drawn


def export(folder: pathlib.Path, recipe, nets, dtype: str) -> None:
    """Writes the recipe's bundle of a generator that computes in a type, without its methods."""
    import tensorflow as tf

    from facegan.export.onnx import write_onnx
    from facegan.export.saved_model import ServingSpec, export_bundle

    serving = recipe.serving()
    spec = ServingSpec(
        model=serving.simplify(nets["generator"], nets["mapping"], dtype=dtype),
        inputs=serving.inputs,
        outputs=serving.outputs,
        fast_paths=serving.fast_paths,
    )
    # With random weights bfloat16 strays further than in a trained net.
    tolerance = 1.0 if dtype == "bfloat16" else None
    size = recipe.config.generator.image_size
    export_bundle(folder, spec, model_name="stylegan2", image_size=size, tolerance=tolerance)
    if dtype == "float32":
        write_onnx(folder)
    tf.keras.backend.clear_session()


def prepare(folder: pathlib.Path, size: int, width: int, batch: int) -> None:
    """Writes weights, inputs, what comes of them, and the exported generators."""
    recipe, rng = make_recipe(size, width), np.random.default_rng(0)
    nets = recipe.build_nets("float32")
    for net in nets.values():
        fill_net(net, rng)
    arrays: dict[str, Any] = {
        f"{name}/{inner_path(v)}": np.asarray(v)
        for name, net in nets.items()
        for v in net.variables
    }
    generator, rng = recipe.config.generator, np.random.default_rng(1)
    arrays["w"] = rng.standard_normal((1, generator.num_styles, generator.style_size), np.float32)
    arrays["image"] = rng.uniform(-1, 1, (batch, size, size, 3)).astype(np.float32)
    arrays["output"] = np.asarray(nets["generator"]({"w": arrays["w"]}, noise="const"))
    for dtype in ("float32", "bfloat16"):
        export(folder / dtype, recipe, nets, dtype)
    np.savez(folder / "drawn.npz", **draw(recipe, batch))
    facts = json.dumps({**describe(recipe), "size": size, "width": width})
    np.savez(folder / "weights.npz", facts=facts, **arrays)


def load_generator(name: str, folder: pathlib.Path, w: np.ndarray, threads: int):
    """A function without arguments that gives the picture, of the float32 signature."""
    half = name.endswith("bf16")
    onnx = folder / "float32" / "model.onnx"
    if name.startswith("openvino"):
        import openvino
        import tensorflow as tf

        core = openvino.Core()
        if "onnx" in name:
            model = core.read_model(onnx)
            model.reshape(list(w.shape))
        else:
            loaded = tf.saved_model.load(str(folder / "float32"))
            name = "portable" if "portable" in loaded.signatures else "serving_default"
            model = openvino.convert_model(loaded.signatures[name], input=[list(w.shape)])
        settings = {
            # It converts the weights itself.
            "INFERENCE_PRECISION_HINT": "bf16" if half else "f32",
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
        }
        compiled = core.compile_model(model, "CPU", settings)
        return lambda: compiled(w)[0]
    if name == "onnxruntime":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
        return lambda: session.run(None, {"w": w})[0]
    import tensorflow as tf

    loaded = tf.saved_model.load(str(folder / ("bfloat16" if half else "float32")))
    function, given = loaded.signatures["serving_default"], tf.constant(w)
    return lambda _keep=loaded: function(w=given)["image"].numpy()


def make_training(stored):
    """A function that runs the recipe's first step, whose seed stays, on the newest weights."""
    import tensorflow as tf

    from facegan.training.trainer import TrainConfig, Trainer

    facts = json.loads(str(stored["facts"]))
    recipe = make_recipe(facts["size"], facts["width"])
    trainer = Trainer(recipe, TrainConfig(precision="float32", xla="off"))
    for name, net in trainer.state.nets.items():
        for variable in net.variables:
            variable.assign(stored[f"{name}/{inner_path(variable)}"])
    batch = {"image": tf.constant(stored["image"])}

    def run():
        trainer.state.step.assign(0)  # the regularizers' turn
        terms = trainer.train_step(batch)
        return {name: float(term) for name, term in terms.items() if not name.startswith("loss/")}

    return run


def work(job: str, name: str, folder: pathlib.Path, threads: int, warm: int) -> None:
    """The worker's loop; benchmarks/stylegan2_torch.py has the same protocol."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    stored = np.load(folder / "weights.npz")
    buffers = ("noise_const", "w_avg")
    facts: dict[str, Any] = {
        "parameters": [
            sum(
                stored[key].size
                for key in stored.files
                if key.startswith(f"{net}/") and not key.endswith(buffers)
            )
            for net in (NETS if job == "training" else NETS[:1])
        ]
    }
    if job == "training":
        run = make_training(stored)
        facts["losses"] = run()
        known = folder / "losses.json"
        if not known.exists():
            known.write_text(json.dumps(facts["losses"]))
        facts["max_difference"] = max(
            abs(facts["losses"][term] / value - 1)
            for term, value in json.loads(known.read_text()).items()
        )
    else:
        run = load_generator(name, folder, stored["w"], threads)
        expected = stored["output"]
        facts["max_difference"] = float(np.abs(run() - expected).max() / expected.std())
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=pathlib.Path)
    parser.add_argument("--torch_python", default=None, help="a Python with torch; none: ours only")
    parser.add_argument("--groups", nargs="*", default=list(GROUPS), choices=list(GROUPS))
    parser.add_argument("--engines", nargs="*", default=None, help="only these, such as torch/cl")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--width", type=int, default=16384, help="channels times pixels of a row")
    parser.add_argument("--batch", type=int, default=4, help="pictures of a training step")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=3, help="calls of each engine in a round")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--warm", type=int, default=2, help="calls before the first timed one")
    parser.add_argument(
        "--prepared", type=pathlib.Path, help="folder that keeps weights and bundles"
    )
    parser.add_argument("--smoke", action="store_true", help="tiny nets and hardly any calls")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--prepare", type=pathlib.Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        job, name, text = args.worker
        return work(job, name, pathlib.Path(text), args.threads, args.warm)
    if args.prepare:
        return prepare(args.prepare, args.size, args.width, args.batch)
    if args.smoke:
        args.size, args.width, args.rounds, args.calls, args.warm = 32, 512, 2, 1, 0

    result = {"size": args.size, "width": args.width, "threads": args.threads}
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.prepared or pathlib.Path(temporary)
        common = ["--threads", str(args.threads), "--warm", str(args.warm)]
        this = [sys.executable, "-m", "benchmarks.stylegan2", *common]
        if not (folder / "weights.npz").exists():
            folder.mkdir(parents=True, exist_ok=True)
            made = [*this, "--prepare", str(folder), "--batch", str(args.batch)]
            made += ["--size", str(args.size), "--width", str(args.width)]
            # In a process of its own, so that its memory is free again while the engines run.
            quiet = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
            subprocess.run(made, env=quiet, check=True)
        for group in args.groups:
            job = group.partition("_")[0]
            ours, theirs = GROUPS[group]
            commands = {name: [*this, "--worker", job, name, str(folder)] for name in ours}
            if args.torch_python:
                twin = [args.torch_python, str(ROOT / "benchmarks" / "stylegan2_torch.py")]
                twin += ["--weights", str(folder / "weights.npz"), *common, "--job", job]
                commands |= {
                    f"torch/{name}": [*twin, "--variant", name.removesuffix("/default")]
                    for name in theirs
                }
            calls = 1 if job == "training" else args.calls
            result[group] = measure_group(group, commands, args, calls)
    if args.output:
        args.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
