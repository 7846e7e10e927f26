"""The tracker that ``trackers.ini`` starts: ``python -m vots_hqtrack.vot``, a TraX server.

Options come from the environment (``env_*`` keys of ``trackers.ini``) or, with ``protocol = trax``,
from the command line, which wins.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

import numpy as np

from vots_hqtrack.allocation import keep_freed_memory, let_idle_threads_sleep
from vots_hqtrack.config import StartOptions, options_from_environment
from vots_hqtrack.errors import ConfigError
from vots_hqtrack.presets import load_preset
from vots_hqtrack.settings import apply_settings
from vots_hqtrack.types import Size

if TYPE_CHECKING:
    from vots_hqtrack.tracker import HQTracker
    from vots_hqtrack.vot.server import VideoTracker

WARM_UP_SIZE = Size(720, 1280)
"""Most videos of VOTS have this shape, and the network's input depends on the shape alone."""

STEP_LIMIT_S = 5.0
"""Seconds after which the second frame of the warm-up is left out: it would cost as much again."""

Tracker = TypeVar("Tracker", bound="VideoTracker")

_logger = logging.getLogger(__name__)


class _Parser(argparse.ArgumentParser):
    """Parser with errors that can be sent to the toolkit."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of ending the process, which the toolkit could not explain to the user."""
        raise ConfigError(message)


def read_options(arguments: Sequence[str]) -> StartOptions:
    """Join the options of the environment and the command line.

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
    """Build the tracker by the options of the environment and the command line.

    Args:
        arguments: Command line without the program's name.

    Raises:
        ConfigError: An option is unknown or wrong.
        WeightsError: The weights are missing or damaged.
    """
    options = read_options(arguments)
    config = apply_settings(load_preset(options.preset), options.settings)
    # Wrong options are known before the seconds that this import takes.
    from vots_hqtrack.tracker import HQTracker

    return HQTracker.from_config(config, device=options.device, weights=options.weights)


def warm_up(tracker: Tracker, *, size: Size = WARM_UP_SIZE) -> Tracker:
    """Track a synthetic object through two frames, and return the same tracker.

    The first frame of a process starts threads, allocates memory and, on a GPU, compiles kernels.
    The toolkit's time limit counts for replies only; it waits for the greeting as long as it takes.
    """
    frame = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    mask = np.zeros(size, np.bool_)
    mask[size.height // 4 : size.height // 2, size.width // 4 : size.width // 2] = True
    started = time.perf_counter()
    state = tracker.initialize(frame, {1: mask})
    if time.perf_counter() - started < STEP_LIMIT_S:
        tracker.track(frame, state)
    _logger.info("warmed up in %.1f s", time.perf_counter() - started)
    return tracker


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


def run(load: Callable[[], VideoTracker]) -> int:
    """Serve the toolkit: :func:`vots_hqtrack.vot.server.run`, which imports PyTorch."""
    from vots_hqtrack.vot import server

    return server.run(load)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve the toolkit, or print the help at a terminal; return the process's exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if {"-h", "--help"} & set(words):
        _make_parser().print_help()
        return 0
    if sys.stdin.isatty():
        _make_parser().print_help(sys.stderr)
        return ConfigError.exit_code
    keep_freed_memory()
    let_idle_threads_sleep()
    return run(lambda: warm_up(load_tracker(words)))


if __name__ == "__main__":
    raise SystemExit(main())
