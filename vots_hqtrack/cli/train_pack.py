"""``hqtrack train pack``: training data in files of chosen size."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from vots_hqtrack.cli.console import err, out, show
from vots_hqtrack.cli.options import refuse_nan

if TYPE_CHECKING:
    from vots_hqtrack.training.adapters.packs.writer import PackReport

MIB, KIB = 1 << 20, 1 << 10


DataOption = Annotated[
    Path, typer.Option("--data", metavar="DIR", help="Folder with the data sets' folders.")
]
OutOption = Annotated[
    Path, typer.Option("--out", metavar="PACKS", help="Folder for part-00.zip, part-01.zip, ..")
]
NamesArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="NAME", help="Data sets to take. [default: all in DIR]"),
]
PartOption = Annotated[
    float,
    typer.Option("--max-mib", min=0.001, max=10**6, callback=refuse_nan, help="Largest part, MiB."),
]
CrfOption = Annotated[
    int, typer.Option("--crf", min=0, max=51, help="Videos: more is smaller and worse.")
]
SpeedOption = Annotated[
    str, typer.Option("--speed", metavar="PRESET", help="Videos: x265's preset.")
]
FormatOption = Annotated[Literal["webp", "avif"], typer.Option("--images", help="Images' format.")]
QualityOption = Annotated[
    int, typer.Option("--quality", min=0, max=100, help="Images: more is better.")
]
SideOption = Annotated[
    int, typer.Option("--long-side", min=0, max=10**9, help="Images: longest side; 0 keeps all.")
]
WorkOption = Annotated[
    Path | None,
    typer.Option("--work", metavar="FOLDER", help="Keep what is encoded there, for the next run."),
]


def pack(
    data: DataOption,
    to: OutOption,
    names: NamesArgument = None,
    max_mib: PartOption = 28.0,
    crf: CrfOption = 25,
    speed: SpeedOption = "medium",
    image_format: FormatOption = "webp",
    image_quality: QualityOption = 55,
    long_side: SideOption = 640,
    work: WorkOption = None,
) -> None:
    """Pack data sets into few files, which --data PACKS reads like the folders.

    Frames of videos become HEVC, images WebP or AVIF; label maps keep every pixel.

    The same command continues after an interruption.
    """
    from vots_hqtrack.training.adapters.packs.codecs import CodecOptions
    from vots_hqtrack.training.adapters.packs.writer import pack_data

    options = CodecOptions(
        crf=crf,
        speed=speed,
        image_format=image_format,
        image_quality=image_quality,
        long_side=long_side,
    )
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, console=err) as bar:
        tasks = {}

        def advance(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(name, total=total)
            bar.update(tasks[name], completed=done)

        report = pack_data(
            data, to, names or (), options=options, max_mib=max_mib, work=work, progress=advance
        )
    _show(report)


def _show(report: PackReport) -> None:
    table = Table(title="Packed", title_justify="left")
    for heading in ("data set", "items", "frames", "KiB before", "images", "labels", "PSNR", "min"):
        table.add_column(heading, justify="left" if heading == "data set" else "right")
    for row in report.sets:
        loss = [f"{row.mean_psnr:.1f}", f"{row.min_psnr:.1f}"] if row.mean_psnr else ["-", "-"]
        sizes = row.source_bytes, row.image_bytes, row.label_bytes
        kib = [f"{size / KIB:.0f}" for size in sizes]
        table.add_row(row.name, str(row.num_items), str(row.num_frames), *kib, *loss)
    out.print(table)
    for path in report.parts:
        size = f"{path.stat().st_size / MIB:.2f} MiB"
        show(f"{path.absolute()}  {size}")
