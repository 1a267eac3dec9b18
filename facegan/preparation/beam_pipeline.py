"""The work of a build as an Apache Beam pipeline; the one module that needs Beam."""

import contextlib
import logging
import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from facegan.errors import ConfigError, DataError
from facegan.preparation.isolation import IsolatedWorker
from facegan.preparation.items import Item, Outcome, Work
from facegan.preparation.parts import PartFolder

# A Beam worker may run more threads than it has cores; their children take turns.
_CORES = threading.BoundedSemaphore(os.cpu_count() or 1)


class MakePart(beam.DoFn):
    """Makes parts by name; every thread that runs it has a child process for the work."""

    def __init__(self, folder: PartFolder, work: Work, time_limit_s: float) -> None:
        super().__init__()
        self._folder, self._work, self._time_limit_s = folder, work, time_limit_s
        self._call: IsolatedWorker | None = None

    def process(self, name: str) -> None:
        """Makes the part of this name."""
        self._folder.make(name, self._attempt)

    def _attempt(self, item: Item) -> Outcome:
        self._call = self._call or IsolatedWorker(self._work, time_limit_s=self._time_limit_s)
        with _CORES:
            return self._call(item)

    def teardown(self) -> None:
        """Ends the child."""
        if self._call is not None:
            self._call.close()


def make_parts(
    names: Sequence[str],
    folder: PartFolder,
    work: Work,
    time_limit_s: float,
    pipeline_args: Mapping[str, Any],
) -> None:
    """Makes planned parts in a pipeline of its own, and waits for it.

    Args:
        names: The parts.
        folder: Where they are made.
        work: What is done with each item.
        time_limit_s: An item that takes longer is set aside.
        pipeline_args: ``runner`` and ``options`` of the pipeline.

    Raises:
        DataError: The folder cannot be written.
    """
    with quiet_beam(), clear_errors(), beam.Pipeline(**pipeline_args) as pipeline:
        _ = (
            pipeline
            | "Parts" >> beam.Create(list(names))
            | "Spread" >> beam.Reshuffle()
            | "Make" >> beam.ParDo(MakePart(folder, work, time_limit_s))
        )


def read_parts(names: Sequence[str], folder: PartFolder) -> beam.PTransform:
    """A transform that gives the keys and records of parts that are done."""
    return (
        beam.Create(list(names))
        | "Spread" >> beam.Reshuffle()
        | "Read" >> beam.FlatMap(folder.read_records)
    )


def pipeline_options(flags: Sequence[str]) -> PipelineOptions:
    """The options that flags such as ``--runner=FlinkRunner`` stand for.

    Raises:
        ConfigError: One does not look like a flag.
    """
    for flag in flags:
        if not re.fullmatch(r"--\w+(=.*)?", flag, re.DOTALL):
            raise ConfigError(f"A Beam option must look like --name=value, got {flag!r}.")
    return PipelineOptions(list(flags))


@contextlib.contextmanager
def quiet_beam() -> Iterator[None]:
    """Keeps back what Beam logs while all goes well."""
    logger = logging.getLogger("apache_beam")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # what ends a pipeline is raised as well
    try:
        yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def clear_errors() -> Iterator[None]:
    """Finds the library's own sentence in the text that a runner makes of an error."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        found = re.search(r"facegan\.errors\.\w+: ([^\n]*?)(?: \[while running|\n|$)", str(error))
        if found:
            raise DataError(found.group(1)) from error
        raise
