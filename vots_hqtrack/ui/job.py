"""A run of the tracker in a thread, with its progress and a way to cancel it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

from vots_hqtrack.errors import HQTrackError
from vots_hqtrack.session import FrameMasks

Start = Callable[[], Iterable[FrameMasks]]


class Job:
    """Runs in a thread of its own from the moment it is made.

    Args:
        name: Description for the user.
        starts: Runs, one after the other; each is started when its turn comes.
        total: Number of frames of all of them.

    Attributes:
        done: Frames so far.
        frame_index: The newest frame; None before the first.
        error: Reason why it ended early; empty if it did not.
        is_running: Whether it goes on.
    """

    def __init__(self, name: str, starts: Iterable[Start], total: int) -> None:
        self.name, self.total = name, max(total, 1)
        self.done = 0
        self.frame_index: int | None = None
        self.error = ""
        self.is_running = True
        self._is_cancelled = False
        self._starts = starts
        self._began = time.monotonic()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def cancel(self) -> None:
        """End it after the frame at work."""
        self._is_cancelled = True

    def wait(self) -> None:
        """Wait for its end."""
        self._thread.join()

    @property
    def time_left(self) -> str:
        """Estimated time to its end as minutes and seconds; empty before the first frame."""
        if not self.done:
            return ""
        elapsed = time.monotonic() - self._began
        seconds = elapsed / self.done * max(self.total - self.done, 0)
        return f"{seconds // 60:.0f}:{seconds % 60:02.0f} left"

    def _run(self) -> None:
        try:
            for start in self._starts:
                for found in start():
                    self.done += 1
                    self.frame_index = found.frame_idx
                    if self._is_cancelled:
                        return
        except (HQTrackError, OSError) as error:
            self.error = str(error)
        except BaseException as error:  # for the page; the log has the rest
            self.error = f"{type(error).__name__}: {error}"
            raise
        finally:
            self.is_running = False
