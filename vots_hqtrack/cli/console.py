"""Two consoles: results go to stdout; errors, logs and progress to stderr."""

from __future__ import annotations

import logging

from rich.console import Console
from rich.logging import RichHandler

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def set_up_logging(level: int) -> None:
    """Send the package's log lines to stderr, between the progress bars.

    Args:
        level: The lowest level that is shown.
    """
    logger = logging.getLogger("vots_hqtrack")
    logger.handlers = [RichHandler(console=err, show_path=False, show_time=level <= logging.DEBUG)]
    logger.setLevel(level)


def print_error(text: str) -> None:
    """Print an error as one line on stderr."""
    err.print(f"error: {' '.join(text.split())}", style="bold red", markup=False, soft_wrap=True)
