"""Background stages: order, overlap, bounded memory, errors, and a clean end."""

import threading
import time

import pytest

from facegan.render.stages import Background, StageClock, batches


def test_items_keep_their_order_through_several_stages():
    with Background(range(100)) as first:
        with Background((x * x for x in first), depth=3) as second:
            assert list(second) == [x * x for x in range(100)]


def test_the_source_runs_ahead_by_depth_and_no_further():
    made = []

    def source():
        for i in range(50):
            made.append(i)
            yield i

    def settle(count):
        deadline = time.monotonic() + 10
        while len(made) < count and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(0.05)  # time enough to run too far
        assert len(made) == count

    with Background(source(), depth=3) as items:
        # Three wait in the queue and one is held by the thread that wants to hand it over.
        settle(4)
        assert next(items) == 0
        settle(5)


def test_stages_overlap():
    def slow(source):
        for item in source:
            time.sleep(0.04)
            yield item

    start = time.perf_counter()
    with Background(slow(range(15))) as a, Background(slow(a)) as b, Background(slow(b)) as c:
        assert len(list(c)) == 15
    assert time.perf_counter() - start < 1.5  # one after the other: 1.8 s


def test_an_error_comes_after_the_items_before_it():
    def source():
        yield 1
        yield 2
        raise KeyError("broken")

    with Background(source(), depth=8) as items:
        assert [next(items), next(items)] == [1, 2]
        with pytest.raises(KeyError, match="broken"):
            next(items)
        with pytest.raises(StopIteration):
            next(items)


def test_close_ends_the_thread_and_closes_the_source():
    closed = []

    def source():
        try:
            while True:
                yield 0
        finally:
            closed.append(threading.current_thread().name)

    before = threading.active_count()
    with Background(source(), name="inner") as inner, Background(iter(inner), name="outer"):
        next(inner)
    assert closed == ["inner"]
    assert threading.active_count() == before
    with pytest.raises(StopIteration):
        next(inner)


def test_an_error_while_closing_the_source_is_not_lost():
    def source():
        try:
            yield 1
        finally:
            raise OSError("cannot close")

    with Background(source()) as items:
        assert next(items) == 1
        with pytest.raises(OSError, match="cannot close"):
            next(items)


def test_clock_counts_work_and_not_waiting():
    clock = StageClock()

    def source():
        for _ in range(3):
            time.sleep(0.02)
            yield 0

    for _ in clock.timed("make", source()):
        time.sleep(0.2)
    with clock.measure("use"):
        time.sleep(0.01)
    assert 0.06 <= clock.seconds["make"] < 0.5
    assert clock.seconds["use"] >= 0.01


def test_batches():
    assert list(batches(range(5), 2)) == [[0, 1], [2, 3], [4]]
    assert list(batches([], 2)) == []
