"""Prefetch and background writing keep the order, lose nothing, and end in time."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from vots_hqtrack.video.background import BackgroundWriter, prefetch


def has_thread(name: str) -> bool:
    return any(thread.name.startswith(name) for thread in threading.enumerate())


def test_reading_is_ahead_and_bounded() -> None:
    taken: list[int] = []

    def source() -> Iterator[int]:
        for number in range(20):
            taken.append(number)
            yield number

    items = prefetch(source(), depth=3)
    assert next(items) == 0
    deadline = time.monotonic() + 5
    while len(taken) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    # One was given out, three wait, and one more is in the thread's hand.
    assert taken == [0, 1, 2, 3, 4]
    assert list(items) == list(range(1, 20))
    assert not has_thread("prefetch")


def test_a_reader_that_is_closed_lets_go_of_its_source() -> None:
    closed = threading.Event()

    def source() -> Iterator[int]:
        try:
            yield from range(1000)
        finally:
            closed.set()

    numbers = source()
    items = prefetch(numbers)
    next(items)
    items.close()
    assert not has_thread("prefetch")
    numbers.close()  # nobody else uses it any more
    assert closed.is_set()


def test_an_error_of_the_source_comes_after_the_items_before_it() -> None:
    def source() -> Iterator[int]:
        yield 1
        yield 2
        raise ValueError("the third is damaged")

    found = []
    with pytest.raises(ValueError, match="the third is damaged"):
        found.extend(prefetch(source()))
    items = prefetch(source())
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(ValueError, match="third"):
        next(items)


def test_everything_is_written_in_order() -> None:
    written: list[int] = []
    with BackgroundWriter(written.append) as behind:
        for number in range(50):
            behind.put(number)
    assert written == list(range(50))
    assert not has_thread("background writer")


def write_all(write: Callable[[int], None], count: int, error: BaseException | None) -> None:
    with BackgroundWriter(write) as behind:
        for number in range(count):
            behind.put(number)
        if error is not None:
            raise error


@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt()])
def test_an_error_of_the_tracker_loses_nothing_that_was_given(error: BaseException) -> None:
    written: list[int] = []

    def write(number: int) -> None:
        time.sleep(0.02)
        written.append(number)

    with pytest.raises(type(error)):
        write_all(write, 3, error)
    assert written == [0, 1, 2]


def test_the_queue_is_bounded() -> None:
    gate = threading.Event()
    with BackgroundWriter(lambda _: gate.wait(5), depth=2) as behind:
        giver = threading.Thread(target=lambda: [behind.put(number) for number in range(4)])
        giver.start()
        time.sleep(0.1)
        assert giver.is_alive()  # one is being written, two wait, the fourth has no room
        gate.set()
        giver.join(5)
        assert not giver.is_alive()


@pytest.mark.parametrize("count", [3, 100])
def test_an_error_of_the_writer_is_raised_and_nothing_is_written_after_it(count: int) -> None:
    written: list[int] = []

    def write(number: int) -> None:
        if number == 2:
            raise OSError("disk full")
        written.append(number)

    with pytest.raises(OSError, match="disk full"):
        write_all(write, count, None)
    assert written == [0, 1]


@pytest.fixture
def _interruptible() -> Iterator[None]:
    """Listen to Ctrl-C even where the process was started to ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(os.name == "nt", reason="signals are sent in another way there")
@pytest.mark.usefixtures("_interruptible")
def test_a_second_interruption_gives_up_what_waits() -> None:
    written: list[int] = []

    def write(number: int) -> None:
        time.sleep(0.3)  # by then everything has been given, and the end is waited for
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.2)
        written.append(number)

    behind = BackgroundWriter(write)
    behind.put(0)
    behind.put(1)
    with pytest.raises(KeyboardInterrupt):
        behind.__enter__().__exit__(None, None, None)
    assert written == [0]
    assert not has_thread("background writer")
