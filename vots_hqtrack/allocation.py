"""Memory and threads of a program that tracks: freed memory is kept, idle threads sleep.

Freed memory stays with the process, which is about to want as much again for the next frame.

The C library gives large blocks back to the system when they are freed, and the system then clears
every page of the next ones. At tens of megabytes a map that is a tenth of a frame's time on the
CPU. Programs that track call this at their start; the library itself leaves the process alone.
"""

from __future__ import annotations

import ctypes
import os
import sys

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_LARGEST_BLOCK = 1 << 30
_LARGEST_REST = (1 << 31) - 1


def keep_freed_memory() -> bool:
    """Tell the C library to keep what is freed, up to 2 GiB.

    Returns:
        Whether there is such a library (glibc); elsewhere nothing changes.
    """
    if sys.platform != "linux":
        return False
    adjust = getattr(ctypes.CDLL(None), "mallopt", None)
    if adjust is None:
        return False
    options = ((_M_MMAP_THRESHOLD, _LARGEST_BLOCK), (_M_TRIM_THRESHOLD, _LARGEST_REST))
    # Not every one: both have to be tried, whatever the first one says.
    return all([bool(adjust(option, value)) for option, value in options])


def let_idle_threads_sleep() -> None:
    """Tell OpenMP that threads which wait for work sleep, unless the user chose.

    By default they spin, which takes the processor from others: on a shared machine a frame took
    5.9 s instead of 2.3. OpenMP reads this when PyTorch is imported, so it has to come before.
    """
    if not {"GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & set(os.environ):
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
