"""What ``trackers.ini`` starts: ``python -m vots_hqtrack.vot``, a tracker that talks TraX.

Options come from the environment (``env_*`` keys of ``trackers.ini``) or, with ``protocol = trax``,
from the command line, which wins.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from vots_hqtrack.allocation import keep_freed_memory
from vots_hqtrack.config import StartOptions, options_from_environment
from vots_hqtrack.errors import ConfigError
from vots_hqtrack.vot.server import run
from vots_hqtrack.vot.warm_up import warm_up

if TYPE_CHECKING:
    from vots_hqtrack.tracker import HQTracker


class _Parser(argparse.ArgumentParser):
    """A parser whose errors can be told to the toolkit."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of ending the process, which the toolkit could not explain to the user."""
        raise ConfigError(message)


def read_options(arguments: Sequence[str]) -> StartOptions:
    """Join what the environment and the command line ask for.

    Args:
        arguments: Command line without the program's name.

    Returns:
        The options; settings of the command line come after, and so win over, the environment's.

    Raises:
        ConfigError: An option is unknown, or the weights' path is relative.
    """
    chosen = options_from_environment()
    given = _make_parser().parse_args(arguments)
    weights: Path | None = given.weights or chosen.weights
    if weights is not None and not weights.is_absolute():
        raise ConfigError(
            f"the path of the weights must be absolute, because the toolkit starts the tracker "
            f"in a temporary folder; got {weights}"
        )
    return StartOptions(
        preset=given.preset or chosen.preset,
        device=given.device or chosen.device,
        weights=weights,
        settings=(*chosen.settings, *given.set),
    )


def load_tracker(arguments: Sequence[str]) -> HQTracker:
    """Build the tracker that the environment and the command line ask for.

    Args:
        arguments: Command line without the program's name.

    Raises:
        ConfigError: An option is unknown or wrong.
        WeightsError: The weights are missing or damaged.
    """
    options = read_options(arguments)
    # Wrong options are known before the seconds that this import takes.
    from vots_hqtrack.tracker import HQTracker

    return HQTracker.from_preset(
        options.preset,
        device=options.device,
        weights=options.weights,
        settings=options.settings,
    )


def _make_parser() -> _Parser:
    parser = _Parser(
        prog="python -m vots_hqtrack.vot",
        description="Track for the VOT toolkit, over TraX on standard input and output. Started by "
        "the toolkit through trackers.ini; to track a video yourself, run 'hqtrack track'.",
    )
    parser.add_argument("--preset", help="preset (environment: VOTS_HQTRACK_PRESET)")
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="FILE",
        help="weights to use instead of the preset's, as an absolute path (VOTS_HQTRACK_WEIGHTS)",
    )
    parser.add_argument("--device", help="auto, cpu, cuda, ... (VOTS_HQTRACK_DEVICE)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.OPTION=VALUE",
        help="change an option; may be repeated (VOTS_HQTRACK_SETTINGS, separated by blanks)",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve the toolkit, or explain itself at a terminal; return the process's exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if {"-h", "--help"} & set(words):
        _make_parser().print_help()
        return 0
    if sys.stdin.isatty():
        _make_parser().print_help(sys.stderr)
        return ConfigError.exit_code
    keep_freed_memory()
    return run(lambda: warm_up(load_tracker(words)))


if __name__ == "__main__":
    raise SystemExit(main())
