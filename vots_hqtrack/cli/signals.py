"""Signals that end the program, and the times at which they may do so.

Ctrl-C, SIGTERM of ``timeout``, SIGHUP of a closed terminal, and those by which batch systems
announce the end of a job act alike. A signal that comes while results are being finished is only
noted, so that they are always whole.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Literal

NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGXCPU", "SIGUSR1", "SIGUSR2", "SIGALRM")
SIGNAL_EXIT = 128
"""Shells add the signal's number to it."""

Action = Literal["leave", "raise", "once", "note"]
"""End the process at once; raise `Stopped`; raise it and note all later ones; note it only."""


class Stopped(KeyboardInterrupt):
    """A signal asked the program to end.

    Args:
        number: The signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@dataclass(slots=True)
class _Listener:
    action: Action = "raise"
    number: int | None = None

    def handle(self, number: int, _frame: FrameType | None) -> None:
        self.number = number
        if self.action == "leave":
            # Nothing was begun. An exception in the midst of imports may be lost or show itself.
            with contextlib.suppress(OSError):
                os.write(2, b"error: stopped\n")
            os._exit(SIGNAL_EXIT + number)
        if self.action == "note":
            return
        if self.action == "once":
            self.action = "note"
        raise Stopped(number)


_listener = _Listener()


def listen(action: Action) -> None:
    """Handle the signals that end the program, except those that its caller had it ignore."""
    _listener.action, _listener.number = action, None
    for name in NAMES:
        number = getattr(signal, name, None)  # Windows lacks most
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _listener.handle)


@contextlib.contextmanager
def on_signal(action: Action) -> Iterator[None]:
    """Change what a signal does while the body runs."""
    former, _listener.action = _listener.action, action
    try:
        yield
    finally:
        _listener.action = former


def check() -> None:
    """Raise a signal again that Python could not raise, because it came inside a finaliser.

    Raises:
        Stopped: There was one.
    """
    if _listener.number is not None:
        raise Stopped(_listener.number)
