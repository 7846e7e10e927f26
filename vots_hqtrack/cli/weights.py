"""``hqtrack weights``: list, fetch, import, export, verify and score weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from vots_hqtrack.cli.console import err, print_json, print_rows, say, show
from vots_hqtrack.cli.options import JsonOption
from vots_hqtrack.cli.weights_score import score
from vots_hqtrack.errors import WeightsError, did_you_mean, printable
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
def list_weights(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="Weights of which everything is said that is known."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the weights that come with the package, yours, and those that can be had elsewhere."""
    found = _describe_all()
    if name is not None and name not in found:
        meant = did_you_mean(name, found)
        raise WeightsError(f"no weights named {name!r}; known: {', '.join(found)}{meant}")
    if as_json:
        print_json({name: found[name]} if name else found)
    elif name is None:
        rows = [
            (key, facts["state"], _size(facts["bytes"]), ", ".join(facts["presets"]))
            for key, facts in found.items()
        ]
        print_rows(rows, head=("name", "state", "size", "presets"))
        show("\nhqtrack weights list NAME says what weights are, their terms, and how to get them.")
    else:
        facts = dict(found[name])
        state, size = facts.pop("state"), _size(facts.pop("bytes"))
        presets = ", ".join(facts.pop("presets"))
        shown = {"state": state, "size": size, **facts, "presets": presets}
        print_rows((key, text) for key, text in shown.items() if text)


def _describe_all() -> dict[str, dict[str, Any]]:
    """Describe all weights that are known, by name: shipped ones, the user's, and the others."""
    from vots_hqtrack.checkpoints.manifest import cached_weights, shipped_weights, weights_folder
    from vots_hqtrack.checkpoints.registry import KNOWN
    from vots_hqtrack.environment import downloads_from_environment

    found: dict[str, dict[str, Any]] = {}
    cache = downloads_from_environment().cache_path
    for state, folder, entries in (
        ("shipped", weights_folder(), shipped_weights()),
        ("here", cache, cached_weights()),
    ):
        for name, entry in entries.items():
            path = folder / entry.file_name
            found.setdefault(
                name,
                {
                    "state": state if path.is_file() else "missing",
                    "bytes": path.stat().st_size if path.is_file() else 0,
                    "what": entry.description,
                    "terms": entry.licence,
                    "origin": entry.origin,
                    "file": str(path),
                    "sha256": entry.sha256,
                },
            )
    for name, known in KNOWN.items():
        how = f"hqtrack weights fetch {name}\nfrom {known.url}" if known.url else known.manual
        found.setdefault(
            name,
            {
                "state": "not here",
                "bytes": known.num_bytes,
                "what": known.description,
                "terms": known.licence,
                "get it": how,
            },
        )
    needed = {preset: make().weights_needed() for preset, make in PRESETS.items()}
    for name, facts in found.items():
        facts["presets"] = [preset for preset, names in needed.items() if name in names]
    return found


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:.0f} MB" if num_bytes > 1e6 else "1 MB" if num_bytes else ""


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
    for verdict in verdicts:
        line = printable(f"{verdict.name}: {verdict.state}, {verdict.reason}", keep_breaks=True)
        show(line)
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


def _report(imported: Imported) -> None:
    if imported.unused:
        more = ", ..." if len(imported.unused) > 4 else ""
        shown = printable(", ".join(imported.unused[:4]), keep_breaks=True) + more
        say(f"left out, because nothing here uses them: {len(imported.unused)} entries ({shown})")
    show(f"{imported.path}\n{imported.num_tensors} tensors, sha256 {imported.sha256}")
