"""``hqtrack export``: masks to a format of others, or from one to another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vots_hqtrack.cli.console import err, out, show
from vots_hqtrack.cli.options import refuse_unread
from vots_hqtrack.cli.progress import frame_progress
from vots_hqtrack.errors import InputError, PartialError, printable

if TYPE_CHECKING:
    from vots_hqtrack.formats.convert import ExportPlan


def export(
    ctx: typer.Context,
    source: Annotated[
        Path | None,
        typer.Argument(
            metavar="SOURCE",
            help="Results of `hqtrack track`, a project, a VOT workspace; or a file or folder in "
            "one of the formats.",
        ),
    ] = None,
    to: Annotated[
        str | None, typer.Option("--to", metavar="FORMAT", help="Format to write; see --list.")
    ] = None,
    target: Annotated[
        Path | None,
        typer.Option("--out", metavar="PATH", help="File or folder to make; it must be new."),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option("--from", metavar="FORMAT", help="Format of SOURCE, if it is not recognised."),
    ] = None,
    video: Annotated[
        str | None,
        typer.Option("--video", metavar="NAME", help="The video to take, where there are several."),
    ] = None,
    frames: Annotated[
        str | None,
        typer.Option(
            "--frames",
            metavar="SOURCE",
            help="The video of the masks: a file or folder, for formats that hold frames.",
        ),
    ] = None,
    renumber: Annotated[
        bool, typer.Option("--renumber", help="Number the objects of each video 1, 2, ...")
    ] = False,
    list_formats: Annotated[
        bool, typer.Option("--list", help="List the formats and exit.")
    ] = False,
) -> None:
    """Write masks in the format of another tool.

    Every format that can be written is read, too. Nothing that is there is replaced. Masks that are
    lost, because the run was cut or because they overlap, give exit code 5.
    """
    if list_formats:
        _print_formats(ctx)
        return
    if source is None or to is None or target is None:
        given = {"SOURCE": source, "--to": to, "--out": target}
        missing = " and ".join(name for name, value in given.items() if value is None)
        raise InputError(f"wanted {missing}; --list shows the formats")
    from vots_hqtrack.formats.convert import plan_export

    plan = plan_export(
        source, target, to=to, kind=kind, video=video, frames=frames, use_new_ids=renumber
    )
    if plan.notes:
        err.print(f"{to} holds no {' and no '.join(plan.notes)}: left out", markup=False)
    _run(plan)


def _run(plan: ExportPlan) -> None:
    with frame_progress() as progress:
        task = progress.add_task("exporting", total=plan.num_frames)
        faults = plan.run(lambda: progress.advance(task))
    counts = ((plan.num_frames, "frame"), (plan.num_objects, "object"), (len(plan.videos), "video"))
    said = ", ".join(f"{n} {what}{'' if n == 1 else 's'}" for n, what in counts)
    show(printable(f"{said}; {plan.name} in {plan.out}"))
    if faults:
        raise PartialError(f"the export is partial: {'; '.join(faults)}")


def _print_formats(ctx: typer.Context) -> None:
    refuse_unread(ctx, "--list", ())
    from vots_hqtrack.formats.registry import FORMATS

    for name, found in FORMATS.items():
        does = "read" if found.write is None else "written" if found.read is None else "both"
        out.print(f"{name:15}{does:9}{found.title}", markup=False)
