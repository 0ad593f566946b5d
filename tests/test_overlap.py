import threading
import time

import pytest

from faceinpaint_cli.pipeline.overlap import ordered_map


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
