"""Who does the work of a build: this process, several on this machine, or a cluster.

    0 processes   this process, unprotected; for a debugger
    1 process     a child that may crash without harm
    more          Apache Beam's DirectRunner, whose threads have a child each
    beam_options  any Beam runner; every machine must see the source and the work folder

Parts are idempotent, so it does not matter who makes one, or how often. A worker that dies loses
the part it was at, which Beam hands to another or a second start of the build makes again.
"""

import contextlib
import dataclasses
import importlib.util
import logging
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any, ClassVar

from facegan.errors import ConfigError
from facegan.preparation.isolation import IsolatedWorker
from facegan.preparation.items import Work
from facegan.preparation.parts import Part, PartFolder
from facegan.progress import ProgressCallback, ProgressFactory, no_progress

# Seconds between two looks at how many parts are done.
_LOOK_S = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class WorkersConfig:
    """Who works.

    Attributes:
        processes: Processes on this machine; 0 works inside this one.
        beam_options: Flags of a Beam pipeline, as ``("--runner=FlinkRunner",)``; when there are
            any, they alone decide who works.
        time_limit_s: An item that takes longer is set aside.
    """

    KIND: ClassVar[str] = "workers"

    processes: int = 1
    beam_options: tuple[str, ...] = ()
    time_limit_s: float = 600.0

    def __post_init__(self) -> None:
        if not 0 <= self.processes <= 1024:
            raise ConfigError(f"processes must be from 0 to 1024, got {self.processes}.")
        if self.time_limit_s <= 0:
            raise ConfigError(f"time_limit_s must be positive, got {self.time_limit_s}.")


def beam_is_installed() -> bool:
    """Whether Apache Beam can be imported."""
    return importlib.util.find_spec("apache_beam") is not None


def import_beam_pipeline() -> ModuleType:
    """The module that holds everything about Beam, imported when it is first wanted.

    Raises:
        ConfigError: Apache Beam is not installed.
    """
    if not beam_is_installed():
        raise ConfigError(
            "Apache Beam is not installed. Install it with pip install 'facegan[beam]', or use one "
            "process."
        )
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # it warns about clients of services that nobody asked for
    try:
        from facegan.preparation import beam_pipeline
    finally:
        logging.disable(before)
    return beam_pipeline


def default_processes() -> int:
    """As many as there are cores, or one where Apache Beam is not installed."""
    return len(os.sched_getaffinity(0)) if beam_is_installed() else 1


def run_parts(
    parts: Sequence[Part],
    folder: PartFolder,
    work: Work,
    config: WorkersConfig,
    progress: ProgressFactory = no_progress,
    *,
    beam: Mapping[str, Any] | None = None,
    label: str = "Prepare",
) -> None:
    """Makes every part that is not made yet.

    Args:
        parts: All parts of the build.
        folder: Where they are made.
        work: What is done with each item.
        config: Who works.
        progress: Told the items whose parts are done.
        beam: Runner and options of a Beam pipeline, in place of those that ``config`` names.
        label: Name of the stage.

    Raises:
        DataError: The folder cannot be written.
        ConfigError: Beam refuses its options.
    """
    if beam is None and (config.beam_options or config.processes > 1):
        beam = {
            "options": import_beam_pipeline().pipeline_options(
                config.beam_options or _direct_runner(config)
            )
        }
    folder.plan(parts)
    done = folder.done()
    waiting = [part for part in parts if part.name not in done]
    total = sum(len(part.items) for part in parts)
    with progress(label) as callback:
        callback(total - sum(len(part.items) for part in waiting), total, "item")
        if not waiting:
            return
        if beam is not None:
            names = [part.name for part in waiting]
            with _watch(folder, parts, callback):
                import_beam_pipeline().make_parts(names, folder, work, config.time_limit_s, beam)
        else:
            _run_here(waiting, folder, work, config, callback, total)


def _direct_runner(config: WorkersConfig) -> tuple[str, ...]:
    return (
        "--runner=DirectRunner",
        # Threads, because each has a child process for the work itself: a crash then costs one
        # item, while it would end DirectRunner's own processes and the pipeline with them.
        "--direct_running_mode=multi_threading",
        f"--direct_num_workers={config.processes}",
    )


def _run_here(
    waiting: Sequence[Part],
    folder: PartFolder,
    work: Work,
    config: WorkersConfig,
    callback: ProgressCallback,
    total: int,
) -> None:
    done = total - sum(len(part.items) for part in waiting)

    def counted(item: Any) -> Any:
        nonlocal done
        try:
            return call(item)
        finally:
            done += 1
            callback(done, total, "item")

    with contextlib.ExitStack() as stack:
        call: Any = work
        if config.processes:
            call = stack.enter_context(IsolatedWorker(work, time_limit_s=config.time_limit_s))
        for part in waiting:
            folder.make(part.name, counted)


@contextlib.contextmanager
def _watch(folder: PartFolder, parts: Sequence[Part], callback: ProgressCallback) -> Iterator[None]:
    """Reports what appears in the folder, whoever puts it there."""
    sizes = {part.name: len(part.items) for part in parts}
    total = sum(sizes.values())
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(_LOOK_S):
            callback(sum(sizes.get(name, 0) for name in folder.done()), total, "item")

    thread = threading.Thread(target=look, name="facegan-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    callback(total, total, "item")
