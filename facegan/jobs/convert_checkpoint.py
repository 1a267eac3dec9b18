"""From a public checkpoint to nets, a run folder, a bundle."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from facegan import config as config_lib
from facegan.config import unknown_name
from facegan.convert.public_files import describe_file
from facegan.convert.public_nets import PublicNets
from facegan.errors import ConfigError
from facegan.face.conditioning import DomainConditioningConfig
from facegan.jobs import run as run_lib
from facegan.jobs.provenance import write_provenance

# A network in a checkpoint of StarGAN v2 that is no net of the run; and the run folder's file of
# its weights.
FAN, _FAN_FILE = "fan", "fan.npz"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """Whose nets a checkpoint holds.

    Attributes:
        reader: Module and function that read it, under ``facegan.convert``.
        files: What may be given beside ``checkpoint``.
    """

    reader: tuple[str, str]
    files: tuple[str, ...] = ()


SOURCES = {
    "stargan_v2": Source(reader=("stargan_v2", "read_stargan_v2"), files=("discriminator",)),
    "spade": Source(reader=("spade", "read_spade"), files=("discriminator", "encoder")),
    "pix2pix": Source(reader=("pix2pix", "read_pix2pix"), files=("discriminator",)),
    "bisenet": Source(reader=("face_parser", "read_bisenet")),
    "parser_unet": Source(reader=("face_parser", "read_parser_unet")),
    "stylegan2": Source(reader=("stylegan2", "read_stylegan2")),
}


def from_checkpoint(
    source: str,
    checkpoint: str | os.PathLike[str],
    *,
    preset: str | None = None,
    overrides: Sequence[str] = (),
    **files: str | os.PathLike[str],
) -> dict[str, Any]:
    """Makes the nets of a public checkpoint, in float32.

    Args:
        source: Whose: a key of ``SOURCES``.
        checkpoint: The public file; nothing in it is executed.
        preset: The run that the nets are of, where it is not the usual one of the source. Sizes are
            taken from the file.
        overrides: Values of the run's document that the file does not tell, as
            ``"recipe.generator.upsampling=more"``.
        **files: Further files of the source: ``discriminator``, ``encoder``.

    Returns:
        Built Keras models by name, such as ``"generator"``. One whose weights are in no file is
        left out.

    Raises:
        CheckpointError: A file cannot be read, is of another net, or wants to run something.
        ConfigError: The source is unknown, or does not have such files.
    """
    from facegan.convert.fan import make_fan

    found = _read(source, checkpoint, files)
    config = _settle(found, preset, overrides)
    nets = dict(run_lib.make_recipe(config).build_nets("float32"))
    if FAN in found.weights:
        nets[FAN] = make_fan()
    found.fill(nets)
    return {name: nets[name] for name in found.weights}


def convert_checkpoint(
    source: str,
    checkpoint: str | os.PathLike[str],
    run_dir: str | os.PathLike[str],
    *,
    preset: str | None = None,
    overrides: Sequence[str] = (),
    overwrite: bool = False,
    **files: str | os.PathLike[str],
) -> dict[str, Any]:
    """Writes a public checkpoint as a run folder, which can be exported, and trained on.

    Args:
        source: As ``from_checkpoint`` has it, and so are ``checkpoint``, ``preset``,
            ``overrides`` and ``files``.
        run_dir: The folder to write.
        overwrite: Empty a folder that exists.

    Returns:
        ``run_dir``, ``kind``, ``parameters`` by net, ``left_over`` (names in the files that are
        not needed), ``untrained`` (nets whose weights are in no file), ``licence`` of the weights,
        which the folder and its bundles keep, and ``notes``: what else is known of the files.

    Raises:
        CheckpointError: As ``from_checkpoint``; no run folder is left then.
        ConfigError: Likewise; or the folder is not empty.
    """
    from facegan.convert.fan import make_fan, save_fan
    from facegan.export.saved_model import building
    from facegan.training.trainer import Trainer, count_parameters, settle

    run_dir = pathlib.Path(run_dir)
    run_lib.require_free(run_dir, False, overwrite)
    found = _read(source, checkpoint, files)
    config = _settle(found, preset, overrides)
    if FAN in found.weights:
        path = pathlib.Path(os.path.abspath(run_dir)) / _FAN_FILE
        recipe = dataclasses.replace(config.recipe, fan=str(path))
        config = _settle_landmarks(dataclasses.replace(config, recipe=recipe))
    config = dataclasses.replace(config, train=settle(config.train))
    with building(run_dir, overwrite=True) as folder:
        session = Trainer(run_lib.make_recipe(config), config.train, run_dir=folder)
        nets = dict(session.state.nets)
        if FAN in found.weights:
            nets[FAN] = make_fan()
        left_over = found.fill(nets)
        for name, average in session.state.ema_nets.items():
            for target, value in zip(average.variables, nets[name].variables, strict=True):
                target.assign(value)
        config_lib.write_json(folder / "config.json", run_lib.encode_run(config))
        told = tell_files(source, [checkpoint, *files.values()])
        write_provenance(folder, preset=preset or found.preset, licence=told["licence"])
        run_lib.write_conditioning(folder, config.conditioning, None)
        if FAN in found.weights:
            save_fan(nets[FAN], folder / _FAN_FILE)
        session.save()
    return {
        "run_dir": str(run_dir),
        "kind": config.kind,
        "parameters": count_parameters(session.state.nets),
        "left_over": left_over,
        "untrained": [name for name in session.state.nets if name not in found.weights],
        **told,
    }


def tell_files(source: str, paths: Sequence[str | os.PathLike[str]]) -> dict[str, Any]:
    """What is known of public files: ``licence``, a text, and ``notes``, a list of sentences."""
    told = [describe_file(path, source=source) for path in paths]
    licences = dict.fromkeys(licence for licence, _ in told)
    return {"licence": " ".join(licences), "notes": [note for _, note in told if note]}


def plan_conversion(
    source: str,
    checkpoint: str | os.PathLike[str],
    *,
    preset: str | None = None,
    overrides: Sequence[str] = (),
    **files: str | os.PathLike[str],
) -> dict[str, Any]:
    """What ``convert_checkpoint`` would write: the run's document, the nets that are filled."""
    found = _read(source, checkpoint, files)
    config = _settle(found, preset, overrides)
    return {"config": run_lib.encode_run(config), "nets": list(found.weights)}


def _read(source: str, checkpoint: Any, files: Mapping[str, Any]) -> PublicNets:
    if source not in SOURCES:
        raise unknown_name("source", source, tuple(SOURCES), what="value")
    taken = SOURCES[source].files
    for name in files:
        if name not in taken:
            some = f"only {', '.join(taken)}" if taken else "none"
            raise ConfigError(
                f"{source} takes no file {name!r} beside its checkpoint ({some}); leave it out."
            )
    module, function = SOURCES[source].reader
    read = getattr(importlib.import_module(f"facegan.convert.{module}"), function)
    found: PublicNets = read({"checkpoint": checkpoint, **files})
    return found


def _settle(found: PublicNets, preset: str | None, overrides: Sequence[str]) -> run_lib.RunConfig:
    """The run of a preset with what the files tell, and what the user does."""
    told = [f"{name}={json.dumps(value)}" for name, value in found.settings.items()]
    config = run_lib.load_config(preset or found.preset)
    base = run_lib.load_config(found.preset)
    if config.kind != base.kind:
        raise ConfigError(
            f"The preset {preset!r} is of {config.kind!r}, but the checkpoint of {base.kind!r}."
        )
    return _settle_landmarks(run_lib.override(config, [*told, *overrides]))


def _settle_landmarks(config: run_lib.RunConfig) -> run_lib.RunConfig:
    """A run of domains shows its model landmarks if that asks for them."""
    if not isinstance(config.conditioning, DomainConditioningConfig):
        return config
    shown = dataclasses.replace(config.conditioning, landmarks=config.recipe.needs_landmarks)
    return dataclasses.replace(config, conditioning=shown)
