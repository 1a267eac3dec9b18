"""From a run folder to a verified bundle."""

from __future__ import annotations

import os
import pathlib
from typing import Any

from facegan import config as config_lib
from facegan.errors import CheckpointError, ConfigError
from facegan.jobs.run import make_recipe, read_run


def export_run(
    run_dir: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    onnx: bool = False,
    overwrite: bool = False,
    step: int | None = None,
) -> dict[str, Any]:
    """Exports what a run trained: the averaged weights, where the run keeps an average.

    Args:
        run_dir: A run folder.
        output: Folder of the bundle to write.
        onnx: Also write ``model.onnx``.
        overwrite: Replace a bundle that exists.
        step: The checkpoint to take; by default the newest.

    Returns:
        ``bundle``, ``step``, ``signatures``, ``max_difference`` (of the bundle from the model) and
        ``onnx``.

    Raises:
        CheckpointError: The run has no usable checkpoint.
        BundleError: The bundle exists, cannot be written, or differs from the model.
    """
    from facegan.export.onnx import write_onnx
    from facegan.export.saved_model import ServingSpec, export_bundle

    plan = plan_export(run_dir, step)
    run_dir, config = pathlib.Path(run_dir), read_run(run_dir)
    session = _restore(run_dir, config, plan["step"])
    serving = session.recipe.serving()
    # The net is made anew in float32: which type serves best is the serving engine's decision.
    net = session.recipe.build_nets("float32")[serving.net]
    source = session.state.ema_nets.get(serving.net) or session.state.nets[serving.net]
    for target, value in zip(net.variables, source.variables, strict=True):
        target.assign(value)
    if serving.simplify is not None:
        net = serving.simplify(net)
    record = config_lib.read_json(run_dir / "conditioning.json")
    manifest = export_bundle(
        output,
        ServingSpec(model=net, inputs=serving.inputs, outputs=serving.outputs),
        model_name=config.kind,
        image_size=config.conditioning.size,
        conditioning=record["conditioning"],
        geometry=record["geometry"],
        training_info={"steps": plan["step"], "averaged": serving.net in session.state.ema_nets},
        overwrite=overwrite,
    )
    if onnx:
        manifest = write_onnx(output)
    return {
        "bundle": str(output),
        "step": plan["step"],
        "signatures": list(manifest.signatures),
        "max_difference": manifest.training["export_max_difference"],
        "onnx": onnx,
    }


def plan_export(run_dir: str | os.PathLike[str], step: int | None = None) -> dict[str, Any]:
    """What ``export_run`` would take, checked without loading it."""
    from facegan.training.checkpoint import list_checkpoints

    config = read_run(run_dir)
    steps = [info.step for info in list_checkpoints(pathlib.Path(run_dir) / "checkpoints")]
    if not steps:
        raise CheckpointError(f"{run_dir} has no checkpoint yet; train it first.")
    if step is not None and step not in steps:
        raise ConfigError(f"{run_dir} has no checkpoint of step {step}; it has {steps}.")
    return {
        "run_dir": str(run_dir),
        "kind": config.kind,
        "step": steps[-1] if step is None else step,
    }


def _restore(run_dir: pathlib.Path, config: Any, step: int) -> Any:
    from facegan.training.checkpoint import restore_step
    from facegan.training.trainer import Trainer

    session = Trainer(make_recipe(config), config.train)
    restore_step(run_dir / "checkpoints", session.state, config.kind, step)
    return session
