"""Work that overlaps: a bounded, ordered map over threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from math import inf
from queue import Empty, Full, Queue
from threading import Event, Thread, local
from time import monotonic
from typing import Any, TypeVar

A = TypeVar("A")
B = TypeVar("B")

QUEUE = 4
"""Frames that wait between two threads."""
DECODER_PATIENCE = 300.0
"""Seconds without any frame after which a decoder is taken to hang."""


def ordered_map(function: Callable[[A], B], items: Iterable[A], workers: int = 2, ahead: int = 4,
                finish: bool = False) -> Iterator[B]:
    """`map(function, items)` in order, on `workers` threads, with at most `ahead` results waiting.

    An exception of `function` reaches the caller at the item's turn. When the caller stops early, what has
    not started is cancelled and what runs is waited for, so nothing is left working in the background. With `finish`
    a KeyboardInterrupt while items are made reaches the caller after the results of what had started.
    """
    pool = ThreadPoolExecutor(workers)
    waiting: deque[Future[B]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > ahead:
                result = waiting[0].result()
                waiting.popleft()  # now, so that an interruption of the wait does not lose it
                yield result
        while waiting:
            result = waiting[0].result()
            waiting.popleft()
            yield result
    except KeyboardInterrupt:
        started = [future for future in waiting if not future.cancel()]
        if finish:
            for future in started:
                yield future.result()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_END = object()
_POLL = 0.1
"""Seconds after which a thread that waits looks whether it was told to end."""
_thread = local()


class Abandoned(BaseException):
    """Raised in a thread of `ahead` whose caller has stopped; no Exception, so that nobody takes it for a failure."""


def heed() -> None:
    """Raise Abandoned where this thread's work is wanted no more; to be called between long pieces of it."""
    if any(event.is_set() for event in _told_to_end()):
        raise Abandoned


def _told_to_end() -> tuple[Event, ...]:
    """The events that end this thread: of the `ahead` that it works for, and of those that that one works for."""
    return getattr(_thread, "told_to_end", ())


def ahead(items: Iterator[A], size: int, patience: float | None = None) -> Generator[A]:
    """The same items, made by a thread that is at most `size` of them ahead.

    An exception of `items` reaches the caller at its turn. When the caller stops early the thread is told to end
    and waited for, and `items` is closed in it, so that chains of these end from last to first; all threads of a chain
    are told at once, by Abandoned where they wait for each other. TimeoutError if no item comes for `patience` seconds;
    the thread, which nothing can end then, is left behind.
    """
    queue: Queue[tuple[Any, BaseException | None]] = Queue(size)
    ended = Event()
    told_to_end = (*_told_to_end(), ended)

    def put(item: Any, error: BaseException | None = None) -> bool:
        while not any(event.is_set() for event in told_to_end):
            with suppress(Full):
                queue.put((item, error), timeout=_POLL)
                return True
        return False

    def get() -> tuple[Any, BaseException | None]:
        until = monotonic() + (inf if patience is None else patience)
        while True:
            heed()
            with suppress(Empty):
                return queue.get(timeout=_POLL)
            if monotonic() >= until:
                raise TimeoutError(f"nothing came for {patience:.0f} s")

    def work() -> None:
        _thread.told_to_end = told_to_end
        try:
            for item in items:
                if not put(item):
                    break
            else:
                put(_END)
        except BaseException as error:
            put(_END, error)
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                close()

    thread = Thread(target=work, daemon=True)
    thread.start()
    stuck = False
    try:
        while True:
            try:
                item, error = get()
            except TimeoutError:
                stuck = True
                raise
            if error is not None:
                raise error
            if item is _END:
                return
            yield item
    finally:
        ended.set()
        if not stuck:
            thread.join()
