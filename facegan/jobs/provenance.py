"""What a run folder tells of where its weights come from."""

from __future__ import annotations

import dataclasses
import os
import pathlib

from facegan import config as config_lib
from facegan.bundle import Provenance, hash_file

PROVENANCE_FILE = "provenance.json"


def read_provenance(run_dir: str | os.PathLike[str]) -> Provenance:
    """What a run folder tells of where its weights come from.

    Its ``provenance.json`` may hold ``licence``, a note in words, and ``preset``, the name of the
    preset it started from: whoever writes a run folder, such as a converter of public weights, or
    edits it, puts there what they know. The hash is that of the folder's ``config.json``.

    Raises:
        ConfigError: The file holds something else.
    """
    run_dir = pathlib.Path(run_dir)
    path = run_dir / PROVENANCE_FILE
    told = config_lib.read_json(path) if path.is_file() else {}
    provenance = config_lib.decode(Provenance, told, PROVENANCE_FILE)
    return dataclasses.replace(provenance, config_sha256=hash_file(run_dir / "config.json"))


def write_provenance(
    run_dir: str | os.PathLike[str],
    *,
    preset: str | None = None,
    started_from: str | os.PathLike[str] | None = None,
    licence: str | None = None,
) -> None:
    """Writes down what is known of a run's weights; nothing where that is nothing.

    Args:
        run_dir: The run folder.
        preset: The preset that it started from.
        started_from: A run folder whose weights it starts from, and whose licence thus binds it.
        licence: Under what terms the weights may be used.
    """
    found = Provenance() if started_from is None else read_provenance(started_from)
    found = dataclasses.replace(
        found, preset=preset or found.preset, licence=licence or found.licence, config_sha256=None
    )
    if found != Provenance():
        path = pathlib.Path(run_dir) / PROVENANCE_FILE
        config_lib.write_json(path, config_lib.encode(found))
