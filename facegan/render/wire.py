"""What goes over the wire to a server of models, whichever protocol carries it.

A wire makes one request at a time for each caller, and any number of callers may ask at once. It
neither repeats nor explains anything: ``facegan.render.remote`` does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Protocol

import numpy as np

Arrays = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True, slots=True)
class WireTensor:
    """An input or output of a signature: its NumPy type ("object" for bytes) and its sizes."""

    dtype: str
    shape: tuple[int | None, ...] | None


@dataclasses.dataclass(frozen=True, slots=True)
class Signature:
    """Inputs and outputs of a signature, by name."""

    inputs: Mapping[str, WireTensor]
    outputs: Mapping[str, WireTensor]


@dataclasses.dataclass(frozen=True, slots=True)
class ServedModel:
    """What a server says of a model: its version and its signatures."""

    version: int | None
    signatures: Mapping[str, Signature]


class TransientError(Exception):
    """A request failed for a reason that may pass: it can be made again."""


class NotServedError(Exception):
    """The server knows no such model or version, at least not yet."""


class RefusedError(Exception):
    """The server will not do this, however often it is asked."""


class MalformedError(Exception):
    """The server's answer makes no sense."""


class Wire(Protocol):
    """A way to one model of one server.

    Each method raises one of the four errors above, with the reason as its text.
    """

    def describe(self, version: int | None, timeout_s: float) -> ServedModel:
        """Asks what the model is."""

    def is_coming(self, version: int | None, timeout_s: float) -> bool:
        """Asks whether a model that is not served yet is being loaded, or served by now."""

    def predict(
        self, signature: str, inputs: Arrays, version: int | None, timeout_s: float
    ) -> tuple[dict[str, np.ndarray], int | None]:
        """Runs a signature; gives its outputs and the version that ran, None if that is not told.

        Args:
            signature: Its name.
            inputs: By name; bytes as arrays of objects.
            version: Which version is to run.
            timeout_s: When to give up.
        """

    def interrupt(self) -> None:
        """Ends the requests that are under way, which raise ``TransientError``.

        One that is only just beginning may be missed; whoever waits for the end asks again.
        """

    def close(self) -> None:
        """Closes all connections."""
