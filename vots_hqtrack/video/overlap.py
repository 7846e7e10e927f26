"""Reading ahead and writing behind: files are decoded and encoded while the tracker computes.

Both ends have one thread and a short queue, so the order stays, memory is bounded, and the results
are the same as without.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Generator, Iterator
from types import TracebackType
from typing import Generic, TypeVar

Item = TypeVar("Item")

DEPTH = 3
"""Items that wait at each end, at most. More would only hide longer hiccups of a disk."""

_POLL_S = 0.1


class _End:
    """Says that nothing comes after; carries why, if that was an error."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


def read_ahead(items: Iterator[Item], *, depth: int = DEPTH) -> Generator[Item, None, None]:
    """Take items from an iterator in another thread, some time before they are wanted.

    The thread starts with the first item that is asked for and has ended when the generator is
    exhausted or closed; until then nobody else may use the iterator.

    Args:
        items: Where they come from. Its errors come out here, after the items before them.
        depth: Items that may wait.

    Yields:
        The items, in their order.

    Example:
        >>> list(read_ahead(iter([1, 2, 3])))
        [1, 2, 3]
    """
    waiting: queue.Queue[Item | _End] = queue.Queue(depth)
    is_closed = threading.Event()

    def offer(item: Item | _End) -> None:
        while not is_closed.is_set():
            with contextlib.suppress(queue.Full):
                waiting.put(item, timeout=_POLL_S)
                return

    def fetch() -> None:
        try:
            for item in items:
                offer(item)
                if is_closed.is_set():
                    return
            offer(_End())
        except BaseException as error:  # noqa: BLE001 - raised again where the items are wanted
            offer(_End(error))

    thread = threading.Thread(target=fetch, name="read ahead", daemon=True)
    thread.start()
    try:
        while not isinstance(item := waiting.get(), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        is_closed.set()
        thread.join()


class WriteBehind(Generic[Item]):
    """Hands items to a function in another thread, in their order.

    It is a context manager: at its end, by an error or Ctrl-C too, all items that were given are
    written before it returns. Only a second Ctrl-C gives up those that wait.

    Args:
        write: Takes one item. After an error of it nothing more is written, and the error is raised
            by the next :meth:`put` or at the end.
        depth: Items that may wait; :meth:`put` waits when there are more.
    """

    def __init__(self, write: Callable[[Item], None], *, depth: int = DEPTH) -> None:
        self._write = write
        self._waiting: queue.Queue[Item | _End] = queue.Queue(depth)
        self._error: BaseException | None = None
        self._is_given_up = threading.Event()
        # Python 3.11 takes a thread for ended when its join was interrupted, hence an event.
        self._has_ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="write behind", daemon=True)

    def __enter__(self) -> WriteBehind[Item]:
        """Start the thread."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Wait until everything is written."""
        try:
            self._waiting.put(_End())
            self._has_ended.wait()
        except KeyboardInterrupt:
            self._is_given_up.set()
            self._has_ended.wait()
            raise
        finally:
            self._thread.join()
        if error is None:
            self._raise_error()

    def put(self, item: Item) -> None:
        """Give an item; waits while too many others wait."""
        self._raise_error()
        self._waiting.put(item)

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while not isinstance(item := self._waiting.get(), _End):
            # After an error items are still taken, so that nobody waits for room for ever.
            if self._error is None and not self._is_given_up.is_set():
                try:
                    self._write(item)
                except BaseException as error:  # noqa: BLE001 - raised again by put or at the end
                    self._error = error
        self._has_ended.set()
