"""From a run folder to a verified bundle."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Mapping
from typing import Any, Literal

from facegan import config as config_lib
from facegan.bundle import MethodSpec
from facegan.errors import CheckpointError, ConfigError
from facegan.export.signatures import ServingSpec
from facegan.jobs.provenance import read_provenance
from facegan.jobs.run import make_recipe, read_run
from facegan.training.recipe import Serving


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ServingFolder:
    """A folder that TensorFlow Serving serves, and as what a bundle is put there.

    Attributes:
        path: The folder of all models.
        name: What clients call the model; by default the name of the bundle's folder, or of the
            one above where that is a number.
        version: Its number; by default the next one.
    """

    path: str | os.PathLike[str]
    name: str | None = None
    version: int | None = None


def export_run(
    run_dir: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    onnx: bool = False,
    overwrite: bool = False,
    step: int | None = None,
    precision: Literal["float32", "bfloat16"] = "float32",
    serving: ServingFolder | None = None,
) -> dict[str, Any]:
    """Exports what a run trained: the averaged weights, where the run keeps an average.

    Args:
        run_dir: A run folder.
        output: Folder of the bundle to write.
        onnx: Also write ``model.onnx``.
        overwrite: Replace a bundle that exists.
        step: The checkpoint to take; by default the newest.
        precision: Type in which the weights are kept and TensorFlow computes. OpenVINO computes
            in either from float32.
        serving: A folder of TensorFlow Serving that gets a copy.

    Returns:
        ``bundle``, ``step``, ``signatures``, ``onnx``, and how far the bundle is from the model:
        ``max_difference`` on random input, ``real_max_difference`` on portraits by way of the
        conditioning, ``max_code_difference`` of 255, ``method_difference`` as a share,
        ``onnx_max_difference`` and ``onnx_real_max_difference``; None for what was not compared.
        ``serving`` is the folder of the version in the folder of TensorFlow Serving, or None.

    Raises:
        CheckpointError: The run has no usable checkpoint.
        BundleError: The bundle exists, cannot be written, or differs from the model.
    """
    from facegan.export.onnx import write_onnx
    from facegan.export.saved_model import export_bundle
    from facegan.export.serving import publish_bundle

    plan = plan_export(run_dir, step)
    if serving is not None:
        plan_serving(output, serving, overwrite=overwrite)  # before the work is done
    run_dir, config = pathlib.Path(run_dir), read_run(run_dir)
    session = _restore(run_dir, config, plan["step"])
    served = session.recipe.serving()
    names = (served.net, *served.with_nets)
    nets = _averaged(session, names, "float32" if served.simplify else precision)
    spec = make_spec(served, nets, precision)
    record = config_lib.read_json(run_dir / "conditioning.json")
    manifest = export_bundle(
        output,
        spec,
        model_name=config.kind,
        image_size=config.conditioning.size,
        conditioning=record["conditioning"],
        geometry=record["geometry"],
        labels=served.labels,
        training_info={"steps": plan["step"], "averaged": served.net in session.state.ema_nets},
        provenance=read_provenance(run_dir),
        overwrite=overwrite,
    )
    if onnx:
        manifest = write_onnx(output, spec.reference)
    published = None
    if serving is not None:
        published = publish_bundle(
            output,
            serving.path,
            name=serving.name,
            version=serving.version,
            overwrite=overwrite,
        )
    measured = manifest.training
    return {
        "bundle": str(output),
        "step": plan["step"],
        "signatures": list(manifest.signatures),
        "max_difference": measured["export_max_difference"],
        "real_max_difference": measured["export_real_max_difference"],
        "max_code_difference": measured["export_max_code_difference"],
        "method_difference": measured["export_method_difference"],
        "onnx": onnx,
        "onnx_max_difference": measured.get("export_onnx_max_difference"),
        "onnx_real_max_difference": measured.get("export_onnx_real_max_difference"),
        "serving": None if published is None else str(published.path),
    }


def plan_serving(
    output: str | os.PathLike[str], serving: ServingFolder, *, overwrite: bool = False
) -> str:
    """The folder that the copy for TensorFlow Serving would get, checked without writing it.

    Raises:
        ConfigError: The name cannot be one, or a package is missing.
        BundleError: The version exists.
    """
    from facegan.export.serving import plan_version

    planned = plan_version(
        output, serving.path, name=serving.name, version=serving.version, overwrite=overwrite
    )
    return str(planned.path)


def make_spec(serving: Serving, nets: Mapping[str, Any], dtype: str = "float32") -> ServingSpec:
    """What is exported of a recipe's nets.

    Args:
        serving: What the recipe says of it.
        nets: At least those that ``serving`` names.
        dtype: Type to compute in and keep weights in, where the served net is made anew.
    """
    net = nets[serving.net]
    if serving.simplify is not None:
        net = serving.simplify(net, *(nets[name] for name in serving.with_nets), dtype=dtype)
    return ServingSpec(
        model=net,
        inputs=serving.inputs,
        outputs=serving.outputs,
        fast_paths=serving.fast_paths,
        methods={
            name: MethodSpec(inputs=method.inputs, outputs=method.outputs)
            for name, method in serving.methods.items()
        },
        size_multiple=serving.size_multiple,
    )


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


def load_nets(run_dir: str | os.PathLike[str], step: int | None = None) -> dict[str, Any]:
    """The nets of a run in float32, with the averaged weights where there are some.

    Raises:
        CheckpointError: The run has no usable checkpoint.
    """
    plan = plan_export(run_dir, step)
    run_dir = pathlib.Path(run_dir)
    session = _restore(run_dir, read_run(run_dir), plan["step"])
    return _averaged(session, tuple(session.state.nets), "float32")


def _averaged(session: Any, names: tuple[str, ...], precision: str) -> dict[str, Any]:
    # Made anew: training may have computed in another type.
    made = session.recipe.build_nets(precision)
    for name in names:
        source = session.state.ema_nets.get(name) or session.state.nets[name]
        for target, value in zip(made[name].variables, source.variables, strict=True):
            target.assign(value)
    return {name: made[name] for name in names}


def _restore(run_dir: pathlib.Path, config: Any, step: int) -> Any:
    from facegan.training.checkpoint import restore_step
    from facegan.training.trainer import Trainer

    session = Trainer(make_recipe(config), config.train)
    restore_step(run_dir / "checkpoints", session.state, config.kind, step)
    return session
