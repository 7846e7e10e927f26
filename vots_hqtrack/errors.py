"""Errors that the package raises on purpose, each with the exit code of the command line.

Every public entry point raises one of these, and its text says what was wanted and what came.
"""


def printable(text: str) -> str:
    r"""Escape all control characters but line breaks, so that a terminal does not obey them.

    Args:
        text: String that may come from a file or a server.

    Example:
        >>> printable("404 \x1b[2Jgone")
        '404 \\x1b[2Jgone'
    """
    return "".join(
        char if char.isprintable() or char == "\n" else ascii(char)[1:-1] for char in text
    )


class HQTrackError(Exception):
    """Base of every error that the package raises on purpose."""

    exit_code = 1

    def __str__(self) -> str:
        """Return the message without control characters."""
        return printable(super().__str__())


class ConfigError(HQTrackError):
    """An option, preset or configuration file is not usable."""

    exit_code = 2


class InputError(HQTrackError):
    """A frame, mask, box or data folder that the user gave is not usable."""

    exit_code = 2


class ShapeError(InputError):
    """An array or tensor has another shape, dtype or size than the one wanted."""


class WeightsError(HQTrackError):
    """A weights file is missing, damaged, or does not fit the model."""

    exit_code = 3


class ProtocolError(HQTrackError):
    """The talk with the VOT toolkit (TraX) broke, or one of its commands left no result."""

    exit_code = 4


class OpsError(HQTrackError):
    """A compute backend that was asked for is not available."""

    exit_code = 2
