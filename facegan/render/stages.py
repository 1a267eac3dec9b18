"""Stages that run at the same time, a bounded number of items apart.

Each stage is an iterator; ``Background`` runs one in a thread of its own and hands its items over
through a short queue. Decoding, the network and encoding all release Python's lock, so they
overlap; memory stays at a few items for each stage however long the clip is.
"""

from __future__ import annotations

import collections
import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, TypeVar

S = TypeVar("S")
T = TypeVar("T")

# How often a thread that is to end is told so again, if it can be told.
_INTERRUPT_EVERY_S = 0.05


class Background(Generic[T]):
    """Runs an iterable in a thread and yields its items in order.

    An exception of the iterable is raised from ``next`` at its place in the order. ``close`` (or
    leaving the ``with`` block) stops the thread after the item it is at, closes the iterable if
    it can be closed, and waits for the thread.

    Args:
        source: What to run. Its items are made in the thread.
        depth: Finished items that may wait; the thread pauses when there are more.
        name: Name of the thread, for debuggers.
        interrupt: Ends what the thread waits for outside of Python; ``close`` calls it until the
            thread has ended.
    """

    def __init__(
        self,
        source: Iterable[T],
        *,
        depth: int = 2,
        name: str = "stage",
        interrupt: Callable[[], None] | None = None,
    ) -> None:
        self._interrupt = interrupt
        self._source = source
        self._depth = max(1, depth)
        self._items: collections.deque[T] = collections.deque()
        self._changed = threading.Condition()
        self._stopped = False
        self._finished = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        error: BaseException | None = None
        try:
            for item in self._source:
                with self._changed:
                    while len(self._items) >= self._depth and not self._stopped:
                        self._changed.wait()
                    if self._stopped:
                        break
                    self._items.append(item)
                    self._changed.notify_all()
        # Whatever it is, it must reach the thread that asks for the items.
        except BaseException as caught:
            error = caught
        finally:
            try:
                if hasattr(self._source, "close"):
                    self._source.close()
            except BaseException as caught:
                error = error or caught
            with self._changed:
                self._error, self._finished = error, True
                self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        with self._changed:
            while not self._items and not self._finished and not self._stopped:
                self._changed.wait()
            if self._items and not self._stopped:
                item = self._items.popleft()
                self._changed.notify_all()
                return item
            if self._error is not None and not self._stopped:
                error, self._error = self._error, None
                raise error
            raise StopIteration

    def close(self) -> None:
        """Stops the thread and waits for it."""
        with self._changed:
            self._stopped = True
            self._items.clear()
            self._changed.notify_all()
        while self._interrupt is not None and self._thread.is_alive():
            self._interrupt()
            self._thread.join(_INTERRUPT_EVERY_S)
        self._thread.join()

    def __enter__(self) -> Background[T]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def ordered_map(
    function: Callable[[S], T], source: Iterable[S], *, in_flight: int, name: str = "request"
) -> Iterator[T]:
    """``function`` of each item in order, of at most ``in_flight`` items at a time.

    Items are taken from ``source`` as there is room for them: no more than ``in_flight`` are taken
    whose results were not given away. An exception of the function or of the source is raised at
    its place in the order. However it ends, no thread is left behind.

    Args:
        function: Called in threads of its own; with one item in flight in the caller's.
        source: The items; it is read in the caller's thread.
        in_flight: How many.
        name: Begins the names of the threads, for debuggers.
    """
    if in_flight == 1:
        yield from map(function, source)
        return
    running: collections.deque[Future[T]] = collections.deque()
    items, failure = iter(source), None
    with ThreadPoolExecutor(in_flight, thread_name_prefix=name) as threads:
        try:
            while failure is None:
                try:
                    item = next(items)
                except StopIteration:
                    break
                # Whatever it is, the results before it come first.
                except BaseException as caught:
                    failure = caught
                else:
                    running.append(threads.submit(function, item))
                    if len(running) == in_flight:
                        yield running.popleft().result()
            while running:
                yield running.popleft().result()
            if failure is not None:
                raise failure
        finally:
            for waiting in running:
                waiting.cancel()


class StageClock:
    """Adds up how long each named stage has worked, waiting left out.

    The time of calls at the same time is counted for each of them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Counts the time inside the block towards a stage."""
        start_s = time.perf_counter()
        try:
            yield
        finally:
            spent_s = time.perf_counter() - start_s
            with self._lock:
                self.seconds[stage] = self.seconds.get(stage, 0.0) + spent_s

    def timed(self, stage: str, source: Iterable[T]) -> Iterator[T]:
        """The items of ``source``; the time that making them takes counts towards the stage."""
        items = iter(source)
        try:
            while True:
                with self.measure(stage):
                    try:
                        item = next(items)
                    except StopIteration:
                        return
                yield item
        finally:
            if hasattr(items, "close"):
                items.close()


def batches(source: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of ``size`` items in order; the last may be shorter."""
    batch: list[T] = []
    for item in source:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
