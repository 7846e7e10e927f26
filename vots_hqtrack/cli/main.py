"""The command ``hqtrack``: its verbs, logging, and how errors become one line and an exit code."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import vots_hqtrack
from vots_hqtrack.allocation import let_idle_threads_sleep
from vots_hqtrack.cli import signals
from vots_hqtrack.cli.console import err, out, print_error, set_up_logging
from vots_hqtrack.cli.verbs import VerbGroup
from vots_hqtrack.errors import HQTrackError, InputError, explain_memory

EXIT_CLOSED_PIPE = signals.SIGNAL_EXIT + 13
"""What shells report of a program that SIGPIPE ended."""


class ErrorLineGroup(TyperGroup):
    """Turns the package's errors into one line on stderr and the exit code of their class."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - Click's class, which newer Typers carry inside
        """Run the command that was asked for."""
        try:
            with signals.on_signal("raise"), explain_memory():
                return super().invoke(ctx)
        except typer.BadParameter as error:
            if not error.message.endswith("is not readable."):
                raise
            print_error(error.format_message())  # of the file, not of how the command is typed
            raise typer.Exit(InputError.exit_code) from None
        except KeyboardInterrupt as error:
            print_error("stopped")
            number = getattr(error, "number", signal.SIGINT)
            raise typer.Exit(signals.SIGNAL_EXIT + number) from None
        except BrokenPipeError:
            print_error("the reader of the output went away before its end")
            _end_stdout()
            raise typer.Exit(EXIT_CLOSED_PIPE) from None
        except ImportError as error:
            if ctx.params.get("debug"):
                err.print_exception()
            print_error(f"a package that this needs fails: {error}; look at: hqtrack doctor")
            raise typer.Exit(HQTrackError.exit_code) from None
        except (HQTrackError, OSError) as error:
            if ctx.params.get("debug"):
                err.print_exception()
            print_error(str(error))
            _end_stdout()
            code = error.exit_code if isinstance(error, HQTrackError) else HQTrackError.exit_code
            raise typer.Exit(code) from None


def _end_stdout() -> None:
    """Send to nowhere what standard output cannot take, or Python complains of it at its end."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class MainGroup(VerbGroup, ErrorLineGroup):
    """The verbs of ``hqtrack``, with errors as one line."""


app = typer.Typer(
    name="hqtrack",
    cls=MainGroup,
    help="Tracks several objects through a video, with masks of high quality.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        out.print(f"hqtrack {vots_hqtrack.__version__}")
        raise typer.Exit


@app.callback()
def set_up(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Say more of what is going on.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Say everything; show where an error comes from.")
    ] = False,
) -> None:
    """Set up logging before any command."""
    chosen = logging.DEBUG if debug else logging.INFO if verbose else logging.WARNING
    set_up_logging(chosen)


def main() -> None:
    """Run the command line."""
    signals.listen("leave")
    let_idle_threads_sleep()
    app()
