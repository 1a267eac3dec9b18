"""Progress of long work on stderr: how much is done, how fast, how much time is left.

Library code takes a ``ProgressCallback`` and calls it with absolute numbers; it never prints.
``Progress`` is such a callback: a bar on a terminal, and one plain line now and then where stderr
is a file or a pipe, so that a log stays readable.

Example:
    >>> import io
    >>> log = io.StringIO()
    >>> with Progress("Render", stream=log, line_every_s=0.0) as progress:
    ...     progress(0, 2, "frame")
    ...     progress(2, 2, "frame")
    >>> log.getvalue().splitlines()[-1].split(",")[0]
    'Render: 2/2 frame'
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Literal, Protocol, TextIO


class ProgressCallback(Protocol):
    """Anything that wants to know how far a piece of work has come."""

    def __call__(self, done: int, total: int | None, unit: str) -> None:
        """Takes the units done so far (absolute), how many there will be, and their name.

        Work that picks up where it stopped reports what it found done before it starts: the first
        call sets the zero of the rate.
        """


# Opens the progress of one named stage: ``with factory("Render") as callback: ...``.
ProgressFactory = Callable[[str], contextlib.AbstractContextManager[ProgressCallback]]


class Progress:
    """Shows the progress of one stage on stderr.

    Calling it with ``(done, total, unit)`` moves it to that point; ``advance`` moves it on. Calls
    may come from any one thread at a time.

    Args:
        label: What is being done, e.g. ``"Render"``.
        total: Number of units, where it is known beforehand.
        unit: Name of one unit, e.g. ``"frame"``.
        style: ``"bar"`` and ``"lines"`` force the form, ``"none"`` shows nothing, ``"auto"`` takes
            the bar on a terminal and lines elsewhere.
        line_every_s: Least time between two plain lines, in seconds.
        stream: Where to write instead of stderr.
    """

    def __init__(
        self,
        label: str,
        total: int | None = None,
        unit: str = "frame",
        *,
        style: Literal["auto", "bar", "lines", "none"] = "auto",
        line_every_s: float = 15.0,
        stream: TextIO | None = None,
    ) -> None:
        self.label, self.total, self.unit = label, total, unit
        self.done = 0
        self._stream = stream if stream is not None else sys.stderr
        if style == "auto":
            style = "bar" if _is_terminal(self._stream) else "lines"
        self._style = style
        self._line_every_s = line_every_s
        self._start_done: int | None = None
        self._start_s = time.monotonic()
        self._last_line_s = self._start_s
        self._last_line_done: int | None = None
        self._bar: Any = None

    def __call__(self, done: int, total: int | None = None, unit: str | None = None) -> None:
        self.done = int(done)
        self.total = self.total if total is None else int(total)
        self.unit = unit or self.unit
        if self._start_done is None:
            self._start_done, self._start_s = self.done, time.monotonic()
            self._last_line_s = self._start_s
        if self._style == "bar":
            self._show_bar()
        elif self._style == "lines":
            self._show_line(last=False)

    def advance(self, count: int = 1) -> None:
        """Moves on by ``count`` units."""
        if self._start_done is None:
            self(0, self.total, self.unit)
        self(self.done + count, self.total, self.unit)

    def close(self) -> None:
        """Ends the display; the last state stays readable."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        elif self._style == "lines" and self._start_done is not None:
            self._show_line(last=True)
        self._style = "none"

    def rate(self) -> float | None:
        """Units a second since the first call, None before there is anything to measure."""
        elapsed_s = time.monotonic() - self._start_s
        if self._start_done is None or elapsed_s <= 0 or self.done <= self._start_done:
            return None
        return (self.done - self._start_done) / elapsed_s

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _show_bar(self) -> None:
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(
                desc=self.label,
                total=self.total,
                initial=self.done,
                unit=f" {self.unit}",
                file=self._stream,
                dynamic_ncols=True,
                mininterval=0.2,
            )
            return
        self._bar.total = self.total
        self._bar.update(self.done - self._bar.n)

    def _show_line(self, *, last: bool) -> None:
        now_s = time.monotonic()
        if self.done == self._last_line_done:
            return
        if not last and now_s - self._last_line_s < self._line_every_s:
            return
        self._last_line_s, self._last_line_done = now_s, self.done
        self._stream.write(f"{self.label}: {self._summary()}\n")
        self._stream.flush()

    def _summary(self) -> str:
        total = "?" if self.total is None else str(self.total)
        text = f"{self.done}/{total} {self.unit}"
        rate = self.rate()
        if rate is None:
            return text
        text += f", {rate:.1f} {self.unit}/s"
        if self.total is not None and self.total > self.done:
            text += f", {format_duration((self.total - self.done) / rate)} left"
        return text


@contextlib.contextmanager
def no_progress(label: str) -> Iterator[ProgressCallback]:
    """A ``ProgressFactory`` that shows nothing."""

    def ignore(done: int, total: int | None, unit: str) -> None:
        del done, total, unit

    del label
    yield ignore


def format_duration(seconds: float) -> str:
    """Seconds as ``m:ss`` or ``h:mm:ss``."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, secs = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{secs:02d}" if hours else f"{minutes}:{secs:02d}"


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except (AttributeError, ValueError):
        return False
