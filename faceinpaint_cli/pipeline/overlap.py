"""Work that overlaps: a bounded, ordered map over threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


def ordered_map(function: Callable[[A], B], items: Iterable[A], workers: int = 2, ahead: int = 4) -> Iterator[B]:
    """`map(function, items)` in order, on `workers` threads, with at most `ahead` results waiting.

    An exception of `function` reaches the caller at the item's turn. When the caller stops early, what has
    not started is cancelled and what runs is waited for, so nothing is left working in the background.
    """
    pool = ThreadPoolExecutor(workers)
    waiting: deque[Future[B]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
