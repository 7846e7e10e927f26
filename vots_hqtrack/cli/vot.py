"""``hqtrack vot``: the official toolkit's measures on your own sequences."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vots_hqtrack.cli.console import err, out
from vots_hqtrack.cli.options import DeviceOption, SettingsOption, WeightsOption, build_config
from vots_hqtrack.cli.steps import measures_table, show_steps, show_tool_errors
from vots_hqtrack.errors import ConfigError, ProtocolError

if TYPE_CHECKING:
    from vots_hqtrack.vot.registry import TrackerEntry
    from vots_hqtrack.vot.run import EvaluationResult

DEFAULT_PRESETS = {"HQTrackLite": "lite-vmos"}
"""Presets of the identifiers in the checkout's ``trackers.ini``; any other one starts with lite."""

vot_app = typer.Typer(
    name="vot", help="Work with the VOT toolkit and its sequences.", no_args_is_help=True
)

OutOption = Annotated[
    Path, typer.Option("--out", metavar="DIR", help="Folder for the VOTS sequences.")
]
PartOption = Annotated[
    str | None,
    typer.Option("--part", metavar="NAME", help="Split or resolution: train, valid, 480p, ..."),
]
NamesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--sequences",
        metavar="NAME ...",
        help="Sequences to take, with blanks or commas between; all if it is left out.",
    ),
]
SequencesOption = Annotated[
    Path, typer.Option("--sequences", metavar="DIR", help="VOTS sequences with a list.txt.")
]
WorkspaceOption = Annotated[
    Path, typer.Option("--workspace", metavar="DIR", help="The toolkit's workspace.")
]
SEQUENCES, WORKSPACE = Path("vots-sequences"), Path("vot-workspace")


@vot_app.command("import-vos")
def import_vos(
    root: Annotated[
        Path,
        typer.Argument(
            metavar="ROOT", help="Folder with JPEGImages and Annotations, or its parent."
        ),
    ],
    more: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help="Sequences to take, as with --sequences."),
    ] = None,
    sequences: NamesOption = None,
    folder: OutOption = SEQUENCES,
    part: PartOption = None,
    fps: Annotated[
        float,
        typer.Option("--fps", min=0.1, help="Frames per second; the data set has none."),
    ] = 24.0,
    link: Annotated[
        bool, typer.Option("--link", help="Link to the frames instead of copying them.")
    ] = False,
) -> None:
    """Turn DAVIS or YouTube-VOS sequences into VOTS sequences with a list.txt."""
    from vots_hqtrack.vot.import_vos import ImportedSequence, import_sequences

    def report(done: ImportedSequence) -> None:
        line = f"{done.name}: {done.num_frames} frames, {len(done.object_ids)} objects"
        if done.num_skipped:
            line += f", {done.num_skipped} frames before the first object left out"
        err.print(line, markup=False)

    names = _split_names([*(sequences or []), *(more or [])])
    done = import_sequences(root, names, folder, part=part, fps=fps, link=link, on_sequence=report)
    out.print(f"{len(done)} sequences in {folder.absolute()}", markup=False, soft_wrap=True)


@vot_app.command("composites")
def composites(
    root: Annotated[
        Path,
        typer.Argument(metavar="ROOT", help="Videos of one object each, as for import-vos."),
    ],
    folder: OutOption = Path("composites"),
    count: Annotated[
        int, typer.Option("--count", min=1, max=10**9, metavar="N", help="Sequences to make.")
    ] = 8,
    seed: Annotated[
        int,
        typer.Option("--seed", min=0, max=10**9, metavar="S", help="Seed of the random generator."),
    ] = 0,
    num_frames: Annotated[
        int,
        typer.Option(
            "--frames", min=2, max=10**9, metavar="N", help="Frames of each sequence at most."
        ),
    ] = 40,
    sequences: NamesOption = None,
    part: PartOption = None,
) -> None:
    """Make VOTS sequences of two to five objects: videos side by side, and objects that cross."""
    from vots_hqtrack.vot.composites import CompositeInfo, write_composites

    def report(done: CompositeInfo) -> None:
        shown = ", ".join(done.videos)
        err.print(f"{done.name}: {done.num_frames} frames of {shown}", markup=False)

    done = write_composites(
        root,
        folder,
        count=count,
        seed=seed,
        names=_split_names(sequences or []),
        part=part,
        num_frames=num_frames,
        on_sequence=report,
    )
    out.print(f"{len(done)} sequences in {folder.absolute()}", markup=False, soft_wrap=True)


@vot_app.command("evaluate")
def evaluate(
    tracker: Annotated[
        str,
        typer.Argument(metavar="TRACKER", help="Name of this run, or of a tracker in --registry."),
    ] = "HQTrack",
    sequences: SequencesOption = SEQUENCES,
    folder: WorkspaceOption = WORKSPACE,
    registry: Annotated[
        Path | None,
        typer.Option("--registry", metavar="FILE.ini", help="Your own trackers for the toolkit."),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option("--preset", metavar="NAME", help="Preset; `hqtrack presets` lists them."),
    ] = None,
    weights: WeightsOption = None,
    device: DeviceOption = "auto",
    settings: SettingsOption = None,
    baseline: Annotated[
        bool, typer.Option("--baseline", help="Also measure a copy of the first masks.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace results that are there already.")
    ] = False,
) -> None:
    """Run a tracker through the toolkit: evaluate, analyse, report, pack, and print the measures.

    Beside the toolkit's measures there are J, F and J&F, as DAVIS defines them. Sequences that have
    results already are not run again.
    """
    from vots_hqtrack.vot.registry import BASELINE_TRACKER
    from vots_hqtrack.vot.run import check_sequences, run_evaluation
    from vots_hqtrack.vot.toolkit import find_toolkit
    from vots_hqtrack.vot.workspace import Workspace, check_toolkit_path, make_workspace

    find_toolkit()
    names = list(dict.fromkeys([tracker, *([BASELINE_TRACKER] if baseline else [])]))
    own = registry or folder / "trackers.ini"
    check_sequences(sequences)
    check_toolkit_path(folder.absolute())
    with Workspace(folder.absolute(), sequences, own).claim(tracker):
        if registry is None:
            entry = make_entry(tracker, preset, weights, device, settings or [])
            register(own, entry, force=force)
        elif preset or weights or settings or device != "auto":
            wanted = "write --preset, --weights, --device and --set into it"
            raise ConfigError(f"the trackers in {registry} have their own options: {wanted}")
        else:
            _check_registered(registry, names)
        workspace = make_workspace(folder, sequences, own, on_wait=_say)
        with show_steps() as on_step, show_tool_errors():
            result = run_evaluation(workspace, names, force=force, on_step=on_step, on_word=_say)
    if result.measures:
        out.print(measures_table(result))
    _print_paths(result)


@vot_app.command("check")
def check(
    source: Annotated[
        Path, typer.Argument(metavar="WORKSPACE|ZIP", help="Workspace, or what was packed in one.")
    ],
    tracker: Annotated[
        str, typer.Option("--tracker", metavar="NAME", help="Tracker to check in a workspace.")
    ] = "HQTrack",
    sequences: SequencesOption = SEQUENCES,
    short_name: Annotated[
        str | None,
        typer.Option("--short-name", metavar="NAME", help="Name registered at the challenge."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Check results before they are submitted: files, masks, names, and what would be public.

    The exit code is 4 if there are errors, and 0 if there are only warnings.
    """
    from vots_hqtrack.vot.check import check_submission

    found = check_submission(source, sequences, tracker=tracker, short_name=short_name)
    if as_json:
        out.print_json(json.dumps([dataclasses.asdict(finding) for finding in found]))
    else:
        for finding in found:
            where = f"{finding.sequence}: " if finding.sequence else ""
            out.print(f"{finding.level}: {where}{finding.text}", markup=False, soft_wrap=True)
    num_errors = sum(finding.level == "error" for finding in found)
    if num_errors:
        raise ProtocolError(f"{num_errors} errors in the results of {source}")
    if not found:
        err.print("nothing found", markup=False)


@vot_app.command("worst")
def worst(
    tracker: Annotated[
        str, typer.Argument(metavar="TRACKER", help="Name of an evaluated tracker.")
    ] = "HQTrack",
    sequences: SequencesOption = SEQUENCES,
    folder: WorkspaceOption = WORKSPACE,
    count: Annotated[
        int,
        typer.Option(
            "--count", min=1, max=10**9, metavar="N", help="Frames to draw, one per sequence."
        ),
    ] = 4,
    image: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="Image to write: .webp, .jpg or .png.")
    ] = Path("worst.webp"),
) -> None:
    """Draw the frames on which an evaluated tracker did worst, beside the truth."""
    from vots_hqtrack.vot.failures import worst_frames, write_failures
    from vots_hqtrack.vot.workspace import Workspace

    workspace = Workspace(folder.absolute(), sequences.absolute(), folder / "trackers.ini")
    failures = worst_frames(workspace, tracker, count)
    write_failures(image, failures)
    for failure in failures:
        out.print(
            f"{failure.sequence:24}frame {failure.frame.index:4}  J {failure.score:.3f}  "
            f"sequence {failure.mean:.3f}",
            markup=False,
        )
    out.print(f"{image.absolute()}", markup=False, soft_wrap=True)


def _print_paths(result: EvaluationResult) -> None:
    for title, path in (
        ("measures", result.measures_path),
        ("report", result.report_path),
        ("submission", result.archive_path),
        ("workspace", result.workspace.folder),
    ):
        if path is not None:
            out.print(f"{title + ':':12}{path}", markup=False, soft_wrap=True)


def _split_names(given: list[str]) -> list[str]:
    """Split names at commas."""
    return [name for words in given for name in words.split(",") if name]


def make_entry(
    tracker: str, preset: str | None, weights: Path | None, device: str, settings: list[str]
) -> TrackerEntry:
    """Make the registry's entry of our tracker or of the baseline; its weights must be here."""
    from vots_hqtrack.checkpoints.manifest import resolve
    from vots_hqtrack.vot.registry import BASELINE_TRACKER, baseline_entry, hqtrack_entry

    if tracker == BASELINE_TRACKER:
        return baseline_entry()
    name = preset or DEFAULT_PRESETS.get(tracker, "lite")
    config = build_config(name, config=None, settings=settings, refine=True)
    resolve(config.weights, weights)
    return hqtrack_entry(tracker, preset=name, device=device, weights=weights, settings=settings)


def register(path: Path, entry: TrackerEntry, *, force: bool) -> None:
    """Write our tracker into the workspace's registry, and refuse to mix two runs' results."""
    from vots_hqtrack.vot.registry import baseline_entry, write_registry

    def check(identifier: str) -> None:
        has_results = (path.parent / "results" / identifier).exists()
        if identifier == entry.identifier and has_results and not force:
            raise ConfigError(
                f"the results of {identifier} in {path.parent} were made with other options: "
                "give --force to replace them, or run under another name"
            )

    write_registry(path, [entry, baseline_entry()], on_change=check, on_wait=_say)


def _say(sentence: str) -> None:
    err.print(sentence, markup=False, soft_wrap=True)


def _check_registered(registry: Path, wanted: list[str]) -> None:
    from vots_hqtrack.vot.registry import read_registry

    known = read_registry(registry)
    missing = [name for name in wanted if name not in known]
    if missing:
        raise ConfigError(
            f"{registry} has no tracker {', '.join(missing)}; it has {', '.join(known)}"
        )
