"""Checkpoints of a TrainState: written whole or not at all, verified before they are used.

Each checkpoint is a folder ``step-00001000`` that holds TensorFlow's tensor bundle and a
``checkpoint.json`` with the step, the recipe and each file's size. It is written under a hidden
name and renamed when it is complete, so that a kill or a full disk never leaves a half one under a
final name.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
import shutil
import warnings
from collections.abc import Collection

import tensorflow as tf

from facegan import config as config_lib
from facegan.errors import CheckpointError, FaceganError
from facegan.training.state import TrainState

_NAME = re.compile(r"step-(\d{8})")
_VERSION = 1
_UNREADABLE = (tf.errors.OpError, IndexError, ValueError, OSError, FaceganError)


@dataclasses.dataclass(frozen=True, slots=True)
class CheckpointInfo:
    """A complete checkpoint on disk."""

    path: pathlib.Path
    step: int


def list_checkpoints(folder: str | os.PathLike[str]) -> list[CheckpointInfo]:
    """The complete checkpoints in a folder, oldest first."""
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        return []
    found = []
    for entry in folder.iterdir():
        match = _NAME.fullmatch(entry.name)
        if match and (entry / "checkpoint.json").is_file():
            found.append(CheckpointInfo(entry, int(match.group(1))))
    return sorted(found, key=lambda info: info.step)


def save_checkpoint(
    folder: str | os.PathLike[str],
    state: TrainState,
    recipe: str,
    *,
    keep: int,
    keep_steps: Collection[int] = (),
) -> pathlib.Path:
    """Writes the state as ``folder/step-XXXXXXXX`` and removes superseded checkpoints.

    Args:
        folder: The run's checkpoint folder.
        state: What to write.
        recipe: The recipe's stem, so that another recipe's run refuses the file.
        keep: How many of the newest checkpoints stay.
        keep_steps: Steps whose checkpoints always stay.

    Raises:
        CheckpointError: The checkpoint could not be written; older ones are untouched.
    """
    folder = pathlib.Path(folder)
    step = int(state.step.numpy())
    final = folder / f"step-{step:08d}"
    if not (final / "checkpoint.json").is_file():
        temporary = folder / f".step-{step:08d}.{os.getpid()}.tmp"
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            _tensor_bundle(state).write(str(temporary / "state"))
            sizes = {p.name: p.stat().st_size for p in sorted(temporary.iterdir())}
            config_lib.write_json(
                temporary / "checkpoint.json",
                {"version": _VERSION, "recipe": recipe, "step": step, "files": sizes},
            )
            shutil.rmtree(final, ignore_errors=True)
            os.rename(temporary, final)
        except (tf.errors.OpError, OSError, FaceganError) as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise CheckpointError(
                f"Cannot write the checkpoint {final}: {_first_line(error)}. "
                "Free some space or choose another run folder, then go on with --resume."
            ) from error
    for info in list_checkpoints(folder)[: -max(keep, 1)]:
        if info.step not in keep_steps:
            shutil.rmtree(info.path, ignore_errors=True)
    return final


def restore_latest(
    folder: str | os.PathLike[str], state: TrainState, recipe: str
) -> CheckpointInfo | None:
    """Loads the newest usable checkpoint into the state.

    A damaged checkpoint is passed over with a warning and the one before it is taken: what comes
    out is a state the run really had.

    Returns:
        What was loaded, or None if the folder has no checkpoint.

    Raises:
        CheckpointError: A checkpoint belongs to another model, or all are damaged.
    """
    sweep_unfinished(folder)
    candidates = list_checkpoints(folder)
    for info in reversed(candidates):
        try:
            _load(info, state, recipe)
        except CheckpointMismatchError:
            raise
        except _UNREADABLE as error:
            warnings.warn(
                f"The checkpoint {info.path} is damaged ({_first_line(error)}); "
                "taking the one before it.",
                stacklevel=2,
            )
            continue
        return info
    if candidates:
        raise CheckpointError(
            f"None of the {len(candidates)} checkpoints in {folder} can be read. "
            "Start again with --overwrite, or restore the folder from a backup."
        )
    return None


def restore_step(
    folder: str | os.PathLike[str], state: TrainState, recipe: str, step: int
) -> CheckpointInfo:
    """Loads the checkpoint of one step.

    Raises:
        CheckpointError: There is none, it is damaged, or it belongs to another model.
    """
    known = {info.step: info for info in list_checkpoints(folder)}
    if step not in known:
        raise CheckpointError(
            f"{folder} has no checkpoint of step {step}; it has {sorted(known) or 'none'}."
        )
    info = known[step]
    try:
        _load(info, state, recipe)
    except CheckpointMismatchError:
        raise
    except _UNREADABLE as error:
        raise _damaged(info, error) from error
    return info


def load_weights(folder: str | os.PathLike[str], state: TrainState) -> CheckpointInfo:
    """Starts a run from another's weights: loads nets and averages, nothing else.

    Raises:
        CheckpointError: The folder has no readable checkpoint, or its nets have other shapes.
    """
    found = list_checkpoints(folder)
    if not found:
        raise CheckpointError(f"{folder} has no checkpoint to start from.")
    info = found[-1]
    names = {
        name: variable
        for name, variable in state.named_variables().items()
        if name.startswith(("nets/", "ema/"))
    }
    try:
        _check_files(info)
        reader = tf.train.load_checkpoint(str(info.path / "state"))
        stored = _stored_shapes(reader)
        _raise_differences(
            info,
            {name: tuple(variable.shape) for name, variable in names.items()},
            {name: shape for name, shape in stored.items() if name.startswith(("nets/", "ema/"))},
        )
        tf.train.Checkpoint(**names).read(str(info.path / "state")).expect_partial()
    except CheckpointMismatchError:
        raise
    except _UNREADABLE as error:
        raise _damaged(info, error) from error
    return info


class CheckpointMismatchError(CheckpointError):
    """A readable checkpoint that belongs to another model."""


def sweep_unfinished(folder: str | os.PathLike[str]) -> None:
    """Removes what a killed writer left behind."""
    for entry in pathlib.Path(folder).glob(".step-*.tmp"):
        shutil.rmtree(entry, ignore_errors=True)


def _tensor_bundle(state: TrainState) -> tf.train.Checkpoint:
    # Every variable by name: tracking the objects instead would miss seed generators and depend
    # on attribute names inside Keras.
    return tf.train.Checkpoint(**state.named_variables())


def _load(info: CheckpointInfo, state: TrainState, recipe: str) -> None:
    _check_files(info)
    _check_match(info, state, recipe)
    _tensor_bundle(state).read(str(info.path / "state")).assert_consumed()


def _damaged(info: CheckpointInfo, error: BaseException) -> CheckpointError:
    return CheckpointError(f"The checkpoint {info.path} is damaged: {_first_line(error)}.")


def _check_files(info: CheckpointInfo) -> None:
    record = config_lib.read_json(info.path / "checkpoint.json")
    if not isinstance(record, dict) or not isinstance(record.get("files"), dict):
        raise CheckpointError(f"{info.path / 'checkpoint.json'} is not a checkpoint record")
    for name, size in record["files"].items():
        path = info.path / name
        actual = path.stat().st_size if path.is_file() else -1
        if actual != size:
            raise CheckpointError(f"{name} should have {size} bytes and has {max(actual, 0)}")


def _check_match(info: CheckpointInfo, state: TrainState, recipe: str) -> None:
    record = config_lib.read_json(info.path / "checkpoint.json")
    if record.get("version") != _VERSION:
        raise CheckpointMismatchError(
            f"{info.path} has checkpoint version {record.get('version')!r}; this facegan reads "
            f"version {_VERSION}."
        )
    if record.get("recipe") != recipe:
        raise CheckpointMismatchError(
            f"{info.path} belongs to a {record.get('recipe')!r} run, not to {recipe!r}. "
            "Use its own config, or another --run_dir."
        )
    reader = tf.train.load_checkpoint(str(info.path / "state"))
    wanted = {name: tuple(v.shape) for name, v in state.named_variables().items()}
    _raise_differences(info, wanted, _stored_shapes(reader))


def _stored_shapes(reader: tf.train.CheckpointReader) -> dict[str, tuple[int, ...]]:
    suffix = "/.ATTRIBUTES/VARIABLE_VALUE"
    return {
        _unescape(key.removesuffix(suffix)): tuple(shape)
        for key, shape in reader.get_variable_to_shape_map().items()
        if key.endswith(suffix) and not key.startswith("save_counter/")
    }


def _raise_differences(
    info: CheckpointInfo,
    wanted: dict[str, tuple[int, ...]],
    stored: dict[str, tuple[int, ...]],
) -> None:
    differences = [f"- {name}" for name in sorted(wanted.keys() - stored.keys())]
    differences += [f"+ {name}" for name in sorted(stored.keys() - wanted.keys())]
    differences += [
        f"{name}: {stored[name]} in the file, {wanted[name]} in the model"
        for name in sorted(wanted.keys() & stored.keys())
        if stored[name] != wanted[name]
    ]
    if differences:
        shown = "; ".join(differences[:6])
        more = f"; and {len(differences) - 6} more" if len(differences) > 6 else ""
        raise CheckpointMismatchError(
            f"{info.path} does not fit the model of this config (- missing in the file, + not in "
            f"the model): {shown}{more}. Use the config.json of its own run folder."
        )


def _unescape(key: str) -> str:
    # TensorFlow writes "/" in a name as ".S" and "." as "..".
    return key.replace(".S", "/").replace("..", ".")


def _first_line(error: BaseException) -> str:
    text = str(getattr(error, "message", None) or error).strip()
    return text.splitlines()[0].rstrip(".")[:200] if text else type(error).__name__
