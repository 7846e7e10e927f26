"""Prefetch and background writing: files are decoded and encoded while the tracker computes.

Both have one thread and a short queue, so the order stays, memory is bounded, and the results are
the same as without.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Generic, ParamSpec, TypeVar

Item = TypeVar("Item")
Arguments = ParamSpec("Arguments")

DEPTH = 3
"""Items that wait in each queue, at most. More would only hide longer hiccups of a disk."""

_END = object()


def prefetch(items: Iterator[Item], *, depth: int = DEPTH) -> Generator[Item, None, None]:
    """Take items from an iterator in another thread, some time before they are wanted.

    The thread starts with the first item that is asked for and has ended when the generator is
    exhausted or closed; until then nobody else may use the iterator.

    Args:
        items: Source of the items. Its errors come out here, after the items before them.
        depth: Items that may wait.

    Yields:
        The items, in their order.

    Example:
        >>> list(prefetch(iter([1, 2, 3])))
        [1, 2, 3]
    """
    pool = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
    try:
        waiting = deque(pool.submit(next, items, _END) for _ in range(depth + 1))
        while (item := waiting.popleft().result()) is not _END:
            waiting.append(pool.submit(next, items, _END))
            yield item  # type: ignore[misc]  # next() gives an item or _END
    finally:
        pool.shutdown(cancel_futures=True)


def call(function: Callable[[], None]) -> None:
    """Call a function: the writer of a :class:`BackgroundWriter` for calls of several kinds."""
    function()


class BackgroundWriter(Generic[Arguments]):
    """Calls a function in another thread, in the order of the calls.

    It is a context manager: at its end, by an error or Ctrl-C too, all calls are done before it
    returns. Only a second Ctrl-C drops those that wait.

    Args:
        write: The function. After an error of it it is not called again, and the error is raised by
            the next :meth:`put` or at the end.
        depth: Calls that may wait; :meth:`put` waits when there are more.
    """

    def __init__(self, write: Callable[Arguments, None], *, depth: int = DEPTH) -> None:
        self._write = write
        self._depth = depth
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="background writer")
        self._waiting: deque[Future[None]] = deque()
        self._has_failed = False

    def __enter__(self) -> BackgroundWriter[Arguments]:
        """Return the writer."""
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Wait until everything is written."""
        try:
            wait(self._waiting)
        finally:
            self._pool.shutdown(cancel_futures=True)
        for written in self._waiting if error is None else ():
            written.result()

    def put(self, *args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        """Call the function with these arguments; waits while too many other calls wait."""
        while self._waiting and (self._waiting[0].done() or len(self._waiting) > self._depth):
            self._waiting.popleft().result()
        self._waiting.append(self._pool.submit(self._run, *args, **kwargs))

    def _run(self, *args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        if self._has_failed:
            return
        try:
            self._write(*args, **kwargs)
        except BaseException:
            self._has_failed = True
            raise
