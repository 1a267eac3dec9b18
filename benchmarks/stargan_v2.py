"""Times exported StarGAN v2 generators and a training step against a PyTorch twin.

    python -m benchmarks.stargan_v2 --torch_python /path/to/python/with/torch --output result.json

Every engine is a process of its own with two threads, and the engines of a group take turns, so
that a busy moment of the machine meets them all; ratios hold within a group. The generators run at
batch 1, without the high-pass skip and (groups "high_pass_*") with it and both masks; the training
step runs all four phases on two triples of pictures. All have the same weights and inputs, and the
table says how far each one's picture is from that of our plain float32 net, as a share of its
spread (of a training step: its losses, relatively). glibc's allocator is tuned to keep large
blocks, which matters to PyTorch by up to 1.7 times and is no merit of either library; names that
end in "/default" run without.

On a busy machine compare the processor time, with `--threads 1`: what else runs does not count
there, though it slows memory, and PyTorch's threads wait for one another in busy loops. An engine
of the training step takes 6 GiB; `--engines` names a few where memory is short. `--smoke` runs
tiny nets, twice each.
"""

import argparse
import dataclasses
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
        ("openvino", "tensorflow", "tensorflow/default"),
        ("eager", "eager/default", "cl", "compile", "cl_compile"),
    ),
    "generator_bfloat16": (
        ("openvino_bf16", "tensorflow_bf16"),
        ("cl_bf16", "cl_autocast_bf16", "cl_compile_bf16"),
    ),
    "high_pass_float32": (
        ("openvino", "tensorflow"),
        ("eager", "cl", "compile", "cl_compile"),
    ),
    "high_pass_bfloat16": (
        ("openvino_bf16", "tensorflow_bf16"),
        ("cl_bf16", "cl_compile_bf16"),
    ),
    "training_float32": (
        ("facegan", "facegan/default"),
        ("eager", "eager/default", "cl"),
    ),
}
NETS = ("generator", "mapping", "style_encoder", "discriminator")
MASKS = ("coarse_mask", "fine_mask")


def make_net(net, rng):
    """Builds a net and gives it weights that keep the maps' spread."""
    net.build({name: (None, *shape) for name, shape in net.input_shapes().items()})
    for variable in net.variables:
        shape = tuple(variable.shape)
        noise = rng.standard_normal(shape, np.float32)
        if variable.path.endswith("to_rgb/kernel"):
            variable.assign(0.05 * noise)  # most of the picture in [-1, 1]
        elif variable.path.endswith("kernel"):
            fan_in = shape[-2] if len(shape) < 4 else np.prod(shape[:3])
            variable.assign(noise * np.sqrt(2 / fan_in))
        else:
            variable.assign(0.1 * noise + (1 if variable.path.endswith("gamma") else 0))
    return net


def make_configs(size: int, width: int) -> dict:
    """The recipe's configs by net."""
    from facegan.models.stargan_v2 import (
        MappingConfig,
        StarDiscriminatorConfig,
        StarGeneratorConfig,
        StarStyleEncoderConfig,
    )

    sizes = {"image_size": size, "base_width": width, "max_width": 8 * width}
    return {
        "generator": StarGeneratorConfig(**sizes),
        "mapping": MappingConfig(width=8 * width),
        "style_encoder": StarStyleEncoderConfig(**sizes),
        "discriminator": StarDiscriminatorConfig(**sizes),
    }


def make_nets(size: int, width: int) -> dict:
    """The four nets, and the generator with the high-pass skip."""
    from facegan.models.stargan_v2 import (
        MappingNetwork,
        StarDiscriminator,
        StarGenerator,
        StarStyleEncoder,
    )

    configs = make_configs(size, width)
    nets = {
        "generator": StarGenerator(configs["generator"]),
        "high_pass": StarGenerator(dataclasses.replace(configs["generator"], high_pass=1.0)),
        "mapping": MappingNetwork(configs["mapping"]),
        "style_encoder": StarStyleEncoder(configs["style_encoder"]),
        "discriminator": StarDiscriminator(configs["discriminator"]),
    }
    rng = np.random.default_rng(0)
    return {name: make_net(net, rng) for name, net in nets.items()}


def make_inputs(size: int, style_size: int) -> dict[str, np.ndarray]:
    """Two triples of pictures and domains, and for the generator a style and soft masks."""
    rng = np.random.default_rng(1)
    rows, columns = (np.mgrid[0:size, 0:size] + 0.5) / size - 0.5
    face, mouth = (
        np.clip(8 * (1 - (rows / half_y) ** 2 - (columns / half_x) ** 2), 0, 1)
        for half_y, half_x in ((0.4, 0.3), (0.1, 0.2))
    )
    return {
        "image": rng.uniform(-1, 1, (6, size, size, 3)).astype(np.float32),
        "domain": np.array([0, 1, 1, 1, 0, 0]),
        "style": rng.standard_normal((1, style_size), np.float32),
        "coarse_mask": mouth[None, :, :, None].astype(np.float32),
        "fine_mask": face[None, :, :, None].astype(np.float32),
    }


def generator_inputs(name: str, stored) -> dict[str, np.ndarray]:
    wanted = ("style", *MASKS) if name == "high_pass" else ("style",)
    return {"image": stored["image"][:1], **{key: stored[key] for key in wanted}}


def export(folder: pathlib.Path, generator, dtype: str) -> None:
    """Writes the bundle of a generator that computes, and keeps its weights, in a type."""
    import tensorflow as tf

    from facegan.bundle import TensorSpec
    from facegan.export.saved_model import ServingSpec, export_bundle
    from facegan.models.configured import copy_net

    served = copy_net(generator, dtype)
    shapes = {name: (None, *shape) for name, shape in served.input_shapes().items()}
    spec = ServingSpec(
        model=served,
        inputs=tuple(
            TensorSpec(name=name, shape=shape, value_range=(0, 1) if name in MASKS else (-1, 1))
            for name, shape in shapes.items()
        ),
        outputs=(TensorSpec(name="painted", shape=shapes["image"]),),
    )
    # Twenty convolutions of random weights: bfloat16 strays further than in a trained net.
    tolerance = 1.0 if dtype == "bfloat16" else None
    size = generator.config.image_size
    export_bundle(folder, spec, model_name="stargan_v2", image_size=size, tolerance=tolerance)
    tf.keras.backend.clear_session()


def prepare(folder: pathlib.Path, size: int, width: int) -> None:
    """Writes weights, inputs, what comes of them, and the exported generators."""
    nets = make_nets(size, width)
    style_size = nets["generator"].config.style_size
    inputs = make_inputs(size, style_size)
    facts = {"style_size": style_size, "width": width}
    facts |= {
        f"{name}_widths": net.config.widths for name, net in nets.items() if name != "mapping"
    }
    arrays: dict[str, Any] = {
        f"{name}/{inner_path(v)}": np.asarray(v)
        for name, net in nets.items()
        for v in net.variables
    }
    for name in ("generator", "high_pass"):
        arrays[f"{name}_output"] = np.asarray(nets[name](generator_inputs(name, inputs)))
        for dtype in ("float32", "bfloat16"):
            export(folder / f"{name}_{dtype}", nets[name], dtype)
    arrays |= inputs
    np.savez(folder / "weights.npz", facts=json.dumps(facts), **arrays)


def load_generator(job: str, name: str, folder: pathlib.Path, inputs: dict, threads: int):
    """A function without arguments that gives the picture, of the float32 signature."""
    dtype = "bfloat16" if name.endswith("bf16") else "float32"
    if name.startswith("openvino"):
        import openvino

        core = openvino.Core()
        model = core.read_model(folder / f"{job}_float32")
        ports = {
            key: next(p for p in model.inputs if any(key in name for name in p.names))
            for key in inputs
        }
        model.reshape({ports[key]: list(value.shape) for key, value in inputs.items()})
        settings = {
            # It converts the weights itself.
            "INFERENCE_PRECISION_HINT": "bf16" if dtype == "bfloat16" else "f32",
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
        }
        compiled = core.compile_model(model, "CPU", settings)
        given = {port.any_name: inputs[key] for key, port in ports.items()}
        return lambda: compiled(given)[0]
    import tensorflow as tf

    loaded = tf.saved_model.load(str(folder / f"{job}_{dtype}"))
    function = loaded.signatures["serving_default"]
    tensors = {key: tf.constant(value) for key, value in inputs.items()}
    return lambda _keep=loaded: function(**tensors)["painted"].numpy()


def draw_latents(count: int, latent_size: int) -> dict[str, list]:
    """The latents that the recipe draws at its first step."""
    import keras

    from facegan.layers.randomness import GivenSeed, fold_in

    latents = {}
    # Phase and number of the draw; the trainer's seed is 0.
    for name, phase, number in (("D/0", 0, 0), ("G/0", 2, 0), ("G/1", 2, 1)):
        seed = GivenSeed(fold_in(np.array([0, phase], np.int32), number))
        latents[name] = np.asarray(keras.random.normal((count, latent_size), seed=seed)).tolist()
    return latents


def make_training(stored):
    """A function that runs one step of the recipe, and the latents it draws at first."""
    import tensorflow as tf

    from facegan.training.recipes.stargan_v2 import Recipe, StarganV2RecipeConfig
    from facegan.training.trainer import TrainConfig, Trainer

    width = json.loads(str(stored["facts"]))["width"]
    configs = make_configs(stored["image"].shape[1], width)
    recipe = Recipe(StarganV2RecipeConfig(**configs))
    trainer = Trainer(recipe, TrainConfig(precision="float32", xla="off"))
    for name, net in trainer.state.nets.items():
        for variable in net.variables:
            variable.assign(stored[f"{name}/{inner_path(variable)}"])
    batch = {key: tf.constant(stored[key]) for key in ("image", "domain")}

    def run():
        terms = trainer.train_step(batch)
        return {name: float(term) for name, term in terms.items() if not name.startswith("loss/")}

    count = len(stored["domain"]) // 3
    return run, draw_latents(count, configs["mapping"].latent_size)


def work(job: str, name: str, folder: pathlib.Path, threads: int, warm: int) -> None:
    """The worker's loop; benchmarks/stargan_v2_torch.py has the same protocol."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    stored = np.load(folder / "weights.npz")
    nets = NETS if job == "training" else (job,)
    facts: dict[str, Any] = {
        "parameters": [
            sum(stored[key].size for key in stored.files if key.startswith(f"{net}/"))
            for net in nets
        ]
    }
    if job == "training":
        run, latents = make_training(stored)
        facts["losses"] = run()
        known = folder / "step.json"
        if not known.exists():
            known.write_text(json.dumps({"latents": latents, "losses": facts["losses"]}))
        expected = json.loads(known.read_text())["losses"]
        facts["max_difference"] = max(
            abs(facts["losses"][term] / value - 1) for term, value in expected.items()
        )
    else:
        expected = stored[f"{job}_output"]
        run = load_generator(job, name, folder, generator_inputs(job, stored), threads)
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
    parser.add_argument("--width", type=int, default=64)
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
        return prepare(args.prepare, args.size, args.width)
    if args.smoke:
        args.size, args.width, args.rounds, args.calls, args.warm = 64, 4, 2, 1, 0

    result = {"size": args.size, "width": args.width, "threads": args.threads}
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.prepared or pathlib.Path(temporary)
        common = ["--threads", str(args.threads), "--warm", str(args.warm)]
        this = [sys.executable, "-m", "benchmarks.stargan_v2", *common]
        if not (folder / "weights.npz").exists():
            folder.mkdir(parents=True, exist_ok=True)
            made = [*this, "--prepare", str(folder)]
            made += ["--size", str(args.size), "--width", str(args.width)]
            # In a process of its own, so that its memory is free again while the engines run.
            quiet = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
            subprocess.run(made, env=quiet, check=True)
        for group in args.groups:
            job = group.rpartition("_")[0]
            ours, theirs = GROUPS[group]
            commands = {name: [*this, "--worker", job, name, str(folder)] for name in ours}
            if args.torch_python:
                twin = [args.torch_python, str(ROOT / "benchmarks" / "stargan_v2_torch.py")]
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
