"""Background stages: order, overlap, bounded memory, errors, and a clean end."""

import threading
import time

import pytest

from facegan.render.stages import Background, StageClock, batches, ordered_map


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


def test_a_thread_that_waits_elsewhere_is_interrupted_until_it_ends():
    ended, calls = threading.Event(), []

    def source():
        yield 1
        ended.wait(30.0)
        yield 2

    def interrupt():
        calls.append(1)
        if len(calls) == 3:  # the first ones came too early
            ended.set()

    with Background(source(), interrupt=interrupt) as items:
        assert next(items) == 1
    assert len(calls) >= 3


@pytest.mark.parametrize("in_flight", [1, 3])
def test_a_map_keeps_the_order_however_long_each_takes(in_flight):
    def slow(x):
        time.sleep(0.002 * (x % 4))
        return x * x

    before = threading.active_count()
    assert list(ordered_map(slow, range(30), in_flight=in_flight)) == [x * x for x in range(30)]
    assert list(ordered_map(slow, [], in_flight=in_flight)) == []
    assert threading.active_count() == before


def test_a_map_has_as_many_under_way_as_it_may_and_no_more():
    lock, running, most, taken = threading.Lock(), set(), [0], []
    full = threading.Barrier(3, timeout=5.0)

    def source():
        for x in range(12):
            taken.append(x)
            yield x

    def watched(x):
        with lock:
            running.add(x)
            most[0] = max(most[0], len(running))
        if x < 3:
            full.wait()  # none of the first three ends before all have begun
        with lock:
            running.discard(x)
        return x

    results = ordered_map(watched, source(), in_flight=3)
    assert next(results) == 0
    for given in range(1, 9):
        time.sleep(0.002)
        # Whoever takes no results has no more made, however long it lasts.
        assert len(taken) <= given + 2
        assert next(results) == given
    assert most[0] <= 3
    results.close()


def test_errors_of_a_map_come_in_their_place_and_the_first_one_counts():
    begun = []

    def odd(x):
        begun.append(x)
        if x == 2:
            time.sleep(0.05)
            raise KeyError("two")
        if x == 3:
            raise ValueError("three")
        return x

    before = threading.active_count()
    results = ordered_map(odd, range(100), in_flight=4)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(KeyError, match="two"):
        next(results)
    assert max(begun) <= 5 and threading.active_count() == before
    with pytest.raises(StopIteration):
        next(results)


def test_an_error_of_a_map_s_source_comes_after_the_results_before_it():
    def source():
        yield from range(2)
        raise OSError("no more")

    results = ordered_map(lambda x: x, source(), in_flight=4)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(OSError, match="no more"):
        next(results)


def test_closing_a_map_waits_for_what_is_under_way_and_begins_nothing_more():
    begun, done = [], []

    def work(x):
        begun.append(x)
        time.sleep(0.05)
        done.append(x)

    before = threading.active_count()
    results = ordered_map(work, range(100), in_flight=3)
    next(results)
    results.close()
    assert sorted(begun) == sorted(done) and len(begun) <= 3
    assert threading.active_count() == before


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
