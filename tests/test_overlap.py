import threading
import time

import pytest

from faceinpaint_cli.pipeline.overlap import ahead, heed, ordered_map


def test_order_is_kept_though_later_items_are_quicker():
    def slow_first(i):
        time.sleep(0.05 if i == 0 else 0)
        return i * i

    assert list(ordered_map(slow_first, range(20), workers=4, ahead=8)) == [i * i for i in range(20)]


def test_reads_ahead_only_so_far():
    taken = []

    def source():
        for i in range(100):
            taken.append(i)
            yield i

    results = ordered_map(lambda i: i, source(), workers=2, ahead=3)
    assert next(results) == 0
    assert len(taken) == 4
    results.close()


def test_an_exception_reaches_the_caller_at_its_turn_and_nothing_keeps_running():
    before = threading.active_count()

    def fail_at_3(i):
        if i == 3:
            raise ValueError("three")
        return i

    results = ordered_map(fail_at_3, range(50), workers=2, ahead=4)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)
    assert threading.active_count() == before


@pytest.mark.parametrize("finish", [False, True])
def test_what_had_started_before_an_interruption_is_told(finish):
    done = []

    def interrupted():
        yield from range(4)
        time.sleep(0.1)
        raise KeyboardInterrupt

    def work(i):
        done.append(i)
        return i

    told = []
    with pytest.raises(KeyboardInterrupt):
        for result in ordered_map(work, interrupted(), workers=2, ahead=4, finish=finish):
            told.append(result)  # one by one: what came before the interruption is kept
    assert done == [0, 1, 2, 3]
    assert told == (done if finish else [])


def test_a_chain_that_is_stopped_ends_at_once_wherever_its_threads_are():
    before = threading.active_count()
    closed = []

    def slow():
        try:
            for i in range(1000):
                time.sleep(0.1)
                yield i
        finally:
            closed.append("slow")

    def of_twenty(items):
        yield 0
        try:
            while True:
                yield sum(next(items) for _ in range(20))
        finally:
            items.close()
            closed.append("of twenty")

    results = ahead(of_twenty(ahead(slow(), 2)), 1)
    assert next(results) == 0
    time.sleep(0.3)  # now both are at work
    start = time.monotonic()
    results.close()
    assert time.monotonic() - start < 1  # not the two seconds that twenty more take
    assert closed == ["slow", "of twenty"]
    assert threading.active_count() == before


def test_long_work_heeds_that_it_is_wanted_no_more():
    done = []

    def work():
        yield 0
        for i in range(50):
            heed()
            time.sleep(0.1)
            done.append(i)
        yield 1

    results = ahead(work(), 1)
    next(results)
    time.sleep(0.25)
    results.close()
    assert len(done) < 10
    heed()  # nobody has told this thread anything


def test_nothing_for_too_long_is_a_timeout():
    release = threading.Event()

    def hanging():
        yield 0
        release.wait(5)

    results = ahead(hanging(), 1, patience=0.3)
    assert next(results) == 0
    with pytest.raises(TimeoutError, match="nothing came"):
        next(results)
    release.set()
