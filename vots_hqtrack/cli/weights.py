"""``hqtrack weights``: list, fetch, import, export, verify and score weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from vots_hqtrack.cli.console import err, out, say, show
from vots_hqtrack.cli.weights_score import score
from vots_hqtrack.errors import WeightsError, printable
from vots_hqtrack.presets import PRESETS

if TYPE_CHECKING:
    from vots_hqtrack.checkpoints.importing import Imported

weights_app = typer.Typer(
    name="weights",
    help="List, fetch, import and check weights. Nothing is downloaded without `fetch`.",
    no_args_is_help=True,
)

weights_app.command("score")(score)

HalfOption = Annotated[
    bool, typer.Option("--half", help="Store float16: half the size, about 3 digits.")
]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace what is there already.")]


@weights_app.command("list")
def list_weights() -> None:
    """List the weights that come with the package, yours, and those that can be had elsewhere."""
    from vots_hqtrack.checkpoints.manifest import cached_weights, shipped_weights
    from vots_hqtrack.checkpoints.registry import KNOWN

    cached = cached_weights()
    table = Table("name", "state", "what it is", "terms", "presets")
    table.columns[0].no_wrap = True
    for name, entry in shipped_weights().items():
        _add_row(table, name, "shipped", entry.description, entry.licence)
    for name, entry in cached.items():
        _add_row(table, name, "here", f"{entry.description} From {entry.origin}.", entry.licence)
    absent = [known for name, known in KNOWN.items() if name not in cached]
    for known in absent:
        size = f", {known.num_bytes / 1e6:.0f} MB" if known.num_bytes else ""
        _add_row(table, known.name, f"not here{size}", known.description, known.licence)
    out.print(table)
    for known in absent:
        fetch = f"hqtrack weights fetch {known.name}\n  from {known.url}"
        show(fetch if known.url else known.manual)


@weights_app.command("fetch")
def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name in `hqtrack weights list`.")],
    source: Annotated[
        str, typer.Option("--from", metavar="URL|FILE", help="Another place of the authors' file.")
    ] = "",
    sha256: Annotated[
        str, typer.Option("--sha256", metavar="DIGITS", help="Hash that the file must have.")
    ] = "",
    half: HalfOption = False,
    force: ForceOption = False,
) -> None:
    """Download weights into the cache folder; a download that was cut goes on where it stopped.

    The folder is set by VOTS_HQTRACK_CACHE, a mirror of the hub by HF_ENDPOINT, a proxy by
    HTTPS_PROXY. VOTS_HQTRACK_OFFLINE=1 forbids every connection.
    """
    from vots_hqtrack.checkpoints.fetch import fetch_weights

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress("{task.description}", *columns, console=err) as bar:
        task = bar.add_task(name, total=None, visible=False)
        imported, check = fetch_weights(
            name,
            source=source,
            sha256=sha256,
            half=half,
            force=force,
            on_progress=lambda come, total: bar.update(
                task, completed=come, total=total, visible=True
            ),
        )
    say(f"the file that was fetched: {check}")
    _report(imported)


@weights_app.command("import")
def import_file(
    path: Annotated[
        Path, typer.Argument(metavar="FILE", help="A checkpoint as its authors publish it.")
    ],
    kind: Annotated[
        str,
        typer.Option("--as", metavar="KIND", help="What it is: a name in `hqtrack weights list`."),
    ],
    target: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="W.safetensors",
            help="The file to write; left out, it goes where presets find it by its kind.",
        ),
    ] = None,
    half: HalfOption = False,
    force: ForceOption = False,
) -> None:
    """Make a checkpoint of the authors usable here; each of its entries must be accounted for."""
    from vots_hqtrack.checkpoints.importing import import_weights

    _report(import_weights(path, kind, target, half=half, force=force))


@weights_app.command("export")
def export_file(
    name: Annotated[str, typer.Argument(metavar="NAME", help="SAM weights that are here.")],
    target: Annotated[
        Path, typer.Option("--out", metavar="FILE.pth", help="The checkpoint to write.")
    ],
    head: Annotated[
        str, typer.Option("--head", metavar="NAME", help="An HQ head to put into it.")
    ] = "",
    force: ForceOption = False,
) -> None:
    """Write SAM weights as one checkpoint that the package segment-anything-hq reads."""
    from vots_hqtrack.checkpoints.manifest import sha256_of
    from vots_hqtrack.sam.weights import export_weights

    export_weights(name, target, head=head, force=force)
    show(f"{target.absolute()}: sha256 {sha256_of(target)}")


@weights_app.command("verify")
def verify_weights(
    which: Annotated[
        str | None,
        typer.Argument(metavar="NAME|FILE", help="Left out, all that are here are checked."),
    ] = None,
) -> None:
    """Recompute the hashes of weights; exit with 3 if one is not as it should be."""
    from vots_hqtrack.checkpoints.manifest import verify, verify_all

    verdicts = verify_all() if which is None else [verify(which)]
    table = Table("name", "verdict", "why")
    table.columns[0].no_wrap = True
    table.columns[2].overflow = "fold"
    for verdict in verdicts:
        table.add_row(*map(_shown, (verdict.name, verdict.state, verdict.reason)))
    out.print(table)
    if any(verdict.state in ("damaged", "missing") for verdict in verdicts):
        raise typer.Exit(WeightsError.exit_code)


@weights_app.command("path")
def show_path(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Left out, the cache folder is shown.")
    ] = None,
) -> None:
    """Print the path of weights, or the cache folder."""
    from vots_hqtrack.checkpoints.manifest import resolve
    from vots_hqtrack.environment import downloads_from_environment

    path = downloads_from_environment().cache_path if name is None else resolve(name)
    show(path)


def _shown(text: str) -> str:
    return escape(printable(text, keep_breaks=True))


def _add_row(table: Table, name: str, state: str, text: str, licence: str) -> None:
    users = [preset for preset, make in PRESETS.items() if name in make().weights_needed()]
    table.add_row(*map(_shown, (name, state, text, licence, "\n".join(users))))
    for column in table.columns[1:]:
        column.overflow = "fold"


def _report(imported: Imported) -> None:
    if imported.unused:
        more = ", ..." if len(imported.unused) > 4 else ""
        shown = printable(", ".join(imported.unused[:4]), keep_breaks=True) + more
        say(f"left out, because nothing here uses them: {len(imported.unused)} entries ({shown})")
    show(f"{imported.path}\n{imported.num_tensors} tensors, sha256 {imported.sha256}")
