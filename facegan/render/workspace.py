"""Where a render keeps what it has done, and how it knows that this is still good.

Landmarks and finished segments are kept under names that carry a hash of everything they follow
from: clip, settings, model. So whatever is found under the right name can be continued, and
nothing else ever is.
"""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import shutil
from typing import Any

from facegan.errors import VideoError

_SAMPLE_BYTES = 1 << 20


class WorkFolder:
    """The folder of one render.

    Args:
        output: The video to be written; absolute.
        work_dir: The folder, None for a hidden one beside the output that ``clean`` removes.
        analysis: Everything that the landmarks follow from, JSON values.
        render: Everything else that the pictures follow from, JSON values.

    Raises:
        VideoError: The folder cannot be made.
    """

    def __init__(
        self,
        output: pathlib.Path,
        work_dir: str | os.PathLike[str] | None,
        analysis: dict[str, Any],
        render: dict[str, Any],
    ) -> None:
        self.analysis_id = _hash(analysis)
        self.render_id = _hash({"analysis": self.analysis_id, "render": render})
        self._is_own = work_dir is None
        self.path = (
            output.with_name(f".{output.name}.render")
            if work_dir is None
            else pathlib.Path(work_dir)
        )
        name = _hash({"render": self.render_id, "output": str(output)})[:16]
        self.segments_dir = self.path / f"segments-{name}"
        self.landmarks_dir = self.path / f"landmarks-{self.analysis_id[:16]}"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise VideoError(
                f"The work folder {self.path} cannot be made: {error.strerror or error}."
            ) from error

    def clean(self) -> None:
        """Removes what is of no more use once the output stands: all of it in a folder of ours."""
        shutil.rmtree(self.path if self._is_own else self.segments_dir, ignore_errors=True)

    def discard(self) -> None:
        """Removes a folder of ours in which no finished segment waits to be continued."""
        if self._is_own and not any(self.path.glob("segments-*/segments.json")):
            shutil.rmtree(self.path, ignore_errors=True)


def identify_file(path: str | os.PathLike[str]) -> str:
    """A hash of a file's size, beginning and end: the same after a move, another for other bytes.

    Raises:
        VideoError: The file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            digest.update(str(size).encode())
            for start in {0, max(0, size - _SAMPLE_BYTES)}:
                file.seek(start)
                digest.update(file.read(_SAMPLE_BYTES))
    except OSError as error:
        raise VideoError(f"Cannot read {path}: {error.strerror or error}.") from error
    return digest.hexdigest()


def _hash(data: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
