"""Errors that the package raises on purpose, each with the exit code of the command line.

Every public entry point raises one of these, and its text says what was wanted and what came.
"""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Iterable, Iterator

_NO_MEMORY = re.compile(
    r"out of memory|can't allocate memory|not enough memory|unable to allocate|bad_alloc"
    r"|storage size calculation overflowed|invalid buffer size",
    re.IGNORECASE,
)
_AMOUNT = re.compile(r"allocate (\d[\d.]* ?(?:bytes|[KMGTPE]?i?B))", re.IGNORECASE)


def printable(text: str, *, keep_breaks: bool = False) -> str:
    r"""Escape what terminals would obey or cannot show, such as a name that is not UTF-8.

    Args:
        text: String that may come from a file or a server.
        keep_breaks: Leave line breaks as they are.

    Example:
        >>> printable("404 ü\x1b[2J\udcff")
        '404 ü\\x1b[2J\\udcff'
    """
    return "".join(
        char if char.isprintable() or (keep_breaks and char == "\n") else ascii(char)[1:-1]
        for char in text
    )


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the nearest of the known names as a question in brackets; empty if none is near.

    Example:
        >>> did_you_mean("memory.gpa", ["memory.gap", "memory.capacity"])
        ' (did you mean memory.gap?)'
    """
    found = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {found[0]}?)" if found else ""


class HQTrackError(Exception):
    """Base of every error that the package raises on purpose."""

    exit_code = 1

    def __str__(self) -> str:
        """Return the message without control characters."""
        return printable(super().__str__(), keep_breaks=True)


class ConfigError(HQTrackError):
    """An option, preset or configuration file is not usable."""

    exit_code = 2


class InputError(HQTrackError):
    """A frame, mask, box or data folder that the user gave is not usable."""

    exit_code = 2


class OutputError(HQTrackError):
    """Results could not be written: the disk is full, or their folder changed meanwhile."""


class ShapeError(InputError):
    """An array or tensor has another shape, dtype or size than the one wanted."""


class WeightsError(HQTrackError):
    """A weights file is missing, damaged, or does not fit the model."""

    exit_code = 3


class MemoryLimitError(HQTrackError):
    """The computation needs more memory than there is."""


class ProtocolError(HQTrackError):
    """The talk with the VOT toolkit (TraX) broke, or one of its commands left no result."""

    exit_code = 4


class PartialError(HQTrackError):
    """The work is done and its files are whole, but part of the source was lost or damaged."""

    exit_code = 5


class OpsError(HQTrackError):
    """A compute backend that was asked for is not available."""

    exit_code = 2


@contextlib.contextmanager
def explain_memory() -> Iterator[None]:
    """Raise the errors of all libraries that ran out of memory as one of the package's.

    Raises:
        MemoryLimitError: An allocation failed.

    Example:
        >>> with explain_memory():  # doctest: +ELLIPSIS
        ...     raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        Traceback (most recent call last):
        vots_hqtrack.errors.MemoryLimitError: out of memory: wanted 20.00 GiB more; less is ...
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not _NO_MEMORY.search(str(error)):
            raise
        found = _AMOUNT.search(str(error))
        amount = f"wanted {found[1]} more" if found else "an allocation failed"
        raise MemoryLimitError(
            f"out of memory: {amount}; less is needed for smaller frames, fewer objects, "
            "memory.capacity=4, a preset without refiner (lite-vmos), or on another device"
        ) from error
