"""``hqtrack vot``: the official toolkit's measures on your own sequences."""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vots_hqtrack.cli.console import out, say, show
from vots_hqtrack.cli.options import (
    DeviceOption,
    SettingsOption,
    WeightsOption,
    build_config,
    refuse_nan,
    refuse_needless,
)
from vots_hqtrack.cli.steps import measures_table, show_paths, show_steps, show_tool_errors
from vots_hqtrack.errors import ConfigError, ProtocolError

if TYPE_CHECKING:
    from vots_hqtrack.vot.check import Finding
    from vots_hqtrack.vot.registry import TrackerEntry
    from vots_hqtrack.vot.run import EvaluationResult, RunTrackers

DEFAULT_PRESETS = {"HQTrackLite": "lite-vmos"}
"""Presets of the identifiers in the checkout's ``trackers.ini``; any other one starts with lite."""

_WRITE = "write --preset, --weights, --device and --set into it"

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
RegistryOption = Annotated[
    Path | None,
    typer.Option("--registry", metavar="FILE.ini", help="Your own trackers for the toolkit."),
]
PresetOption = Annotated[
    str | None,
    typer.Option("--preset", metavar="NAME", help="Preset; `hqtrack presets` lists them."),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=1,
        max=10**4,
        metavar="N",
        help="Sequences at a time, on this machine or a Ray cluster; needs the extra cluster.",
    ),
]
GpusOption = Annotated[
    float | None,
    typer.Option(
        "--gpus-per-worker",
        min=0,
        max=1000,
        metavar="G",
        help="GPUs of a worker: 0.5 for two workers on one. One where there are GPUs.",
    ),
]
CpusOption = Annotated[
    int | None,
    typer.Option(
        "--cpus-per-worker",
        min=1,
        max=10**4,
        metavar="C",
        help="CPU cores of a worker; as many as there are for each if it is left out.",
    ),
]
AddressOption = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="auto|HOST:PORT|ray://...",
        help="Ray cluster that runs already; this machine alone if it is left out.",
    ),
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
        typer.Option(
            "--fps",
            min=0.1,
            max=10_000,
            callback=refuse_nan,
            help="Frames per second; the data set has none.",
        ),
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
        say(line)

    names = _split_names([*(sequences or []), *(more or [])])
    done = import_sequences(root, names, folder, part=part, fps=fps, link=link, on_sequence=report)
    show(f"{len(done)} sequences in {folder.absolute()}")


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
        say(f"{done.name}: {done.num_frames} frames of {', '.join(done.videos)}")

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
    show(f"{len(done)} sequences in {folder.absolute()}")


@vot_app.command("evaluate")
def evaluate(
    trackers: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TRACKER...", help="Name of this run, HQTrack if left out, or of --registry's."
        ),
    ] = None,
    sequences: SequencesOption = SEQUENCES,
    folder: WorkspaceOption = WORKSPACE,
    registry: RegistryOption = None,
    preset: PresetOption = None,
    weights: WeightsOption = None,
    device: DeviceOption = "auto",
    settings: SettingsOption = None,
    baseline: Annotated[
        bool, typer.Option("--baseline", help="Also measure a copy of the first masks.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace results that are there already.")
    ] = False,
    workers: WorkersOption = None,
    gpus: GpusOption = None,
    cpus: CpusOption = None,
    address: AddressOption = None,
) -> None:
    """Run trackers through the toolkit: evaluate, analyse, report, pack, and print the measures.

    Beside the toolkit's measures there are J, F and J&F, as DAVIS defines them. Sequences that have
    results already are not run again. The first tracker is packed, and checked as vot check does.
    """
    from vots_hqtrack.vot.run import check_sequences, run_evaluation
    from vots_hqtrack.vot.toolkit import find_toolkit
    from vots_hqtrack.vot.workspace import Workspace, check_toolkit_path, make_workspace

    find_toolkit()
    names = _tracker_names(trackers or ["HQTrack"], registry, baseline=baseline)
    own = registry or folder / "trackers.ini"
    run = _cluster_run(workers, gpus, cpus, address, device)
    check_sequences(sequences)
    check_toolkit_path(folder.absolute())
    entry = None
    if registry is None:
        entry = make_entry(names[0], preset, weights, device, settings or [], is_local=run is None)
    elif preset or weights or settings or device != "auto":
        raise ConfigError(f"the trackers in {registry} have their own options: {_WRITE}")
    else:
        check_registered(registry, names)
    with Workspace(folder.absolute(), sequences, own).claim(names[0]):
        workspace = make_workspace(folder, sequences, own, on_wait=say)
        if entry is not None:
            register(own, entry, force=force)
        with show_steps() as on_step, show_tool_errors():
            result = run_evaluation(
                workspace, names, run=run, force=force, on_step=on_step, on_word=say
            )
    _show_result(result, names[0])


@vot_app.command("check")
def check(
    ctx: typer.Context,
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
    repair: Annotated[
        bool, typer.Option("--repair", help="Run the tracker again where a sequence has errors.")
    ] = False,
    registry: RegistryOption = None,
) -> None:
    """Check results before they are submitted: files, masks, names, and what would be public.

    The exit code is 4 if there are errors, and 0 if there are only warnings. With --repair, these
    are the findings after the repair; results are replaced when new ones are whole.
    """
    from vots_hqtrack.vot.check import check_submission

    if source.is_file() and not repair:
        refuse_needless(ctx, ("--tracker",), "for an archive, which names its own")
    if registry is not None and not repair:
        raise ConfigError("--registry says which tracker --repair runs: give both")
    if repair:
        _repair(source, sequences, tracker, registry or source / "trackers.ini")
    found = check_submission(source, sequences, tracker=tracker, short_name=short_name)
    if as_json:
        out.print_json(json.dumps([dataclasses.asdict(finding) for finding in found]))
    else:
        for finding in found:
            show(finding)
    _raise_errors(found, source)
    if not found:
        say("nothing found")


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
        show(
            f"{failure.sequence:24}frame {failure.frame.index:4}  J {failure.score:.3f}  "
            f"sequence {failure.mean:.3f}"
        )
    show(image.absolute())


def _repair(source: Path, sequences: Path, tracker: str, registry: Path) -> None:
    """Run a tracker again on the sequences of a workspace that have errors."""
    from vots_hqtrack.vot.check import repair_results
    from vots_hqtrack.vot.toolkit import find_toolkit
    from vots_hqtrack.vot.workspace import make_workspace

    if not source.is_dir():
        raise ConfigError(f"--repair wants a workspace, got {source}: pack again after the repair")
    find_toolkit()
    check_registered(registry, [tracker])
    workspace = make_workspace(source, sequences, registry, on_wait=say)
    with show_steps() as on_step, show_tool_errors():
        repair_results(workspace, tracker, on_step=on_step, on_word=say)


def _tracker_names(given: list[str], registry: Path | None, *, baseline: bool) -> list[str]:
    """Names of the trackers to run, each once, the baseline last where it was asked for."""
    from vots_hqtrack.vot.registry import BASELINE_TRACKER

    names = list(dict.fromkeys(given))
    if registry is None and len(names) > 1:
        raise ConfigError("several trackers come from a file: give it with --registry")
    return list(dict.fromkeys([*names, *([BASELINE_TRACKER] if baseline else [])]))


def _cluster_run(
    workers: int | None,
    gpus: float | None,
    cpus: int | None,
    address: str | None,
    device: str,
) -> RunTrackers | None:
    """Way to run trackers by the options of a cluster, None without workers."""
    if workers is None:
        names = {"--gpus-per-worker": gpus, "--cpus-per-worker": cpus, "--address": address}
        alone = [name for name, value in names.items() if value is not None]
        if alone:
            raise ConfigError(f"{', '.join(alone)} needs --workers")
        return None
    if gpus is not None and gpus > 1 and gpus != int(gpus):
        raise ConfigError(f"--gpus-per-worker must be below 1 or a whole number, got {gpus:g}")
    if address is not None and not address.strip():
        raise ConfigError("--address must name a cluster, such as auto; got nothing")
    if ":" in device:
        wanted = "a worker's GPU is the one that Ray gives it: cuda or auto"
        raise ConfigError(f"with --workers, --device {device} names no GPU; {wanted}")
    from vots_hqtrack.vot.cluster import ClusterOptions, find_ray, run_on_cluster

    find_ray()
    options = ClusterOptions(workers, gpus, cpus, address)
    return functools.partial(run_on_cluster, options=options)


def _show_result(result: EvaluationResult, tracker: str) -> None:
    """Print measures and paths, then check the tracker that was packed."""
    from vots_hqtrack.vot.check import check_submission

    if result.measures:
        out.print(measures_table(result))
    show_paths(
        measures=result.measures_path,
        report=result.report_path,
        submission=result.archive_path,
        workspace=result.workspace.folder,
    )
    workspace = result.workspace
    found = check_submission(
        workspace.folder, workspace.sequences, tracker=tracker, archive=result.archive_path
    )
    for finding in found:
        say(finding)
    _raise_errors(found, workspace.folder)


def _raise_errors(found: list[Finding], source: Path) -> None:
    num_errors = sum(finding.level == "error" for finding in found)
    if num_errors:
        raise ProtocolError(f"{num_errors} errors in the results of {source}")


def _split_names(given: list[str]) -> list[str]:
    """Split names at commas."""
    return [name for words in given for name in words.split(",") if name]


def make_entry(
    tracker: str,
    preset: str | None,
    weights: Path | None,
    device: str,
    settings: list[str],
    *,
    is_local: bool = True,
) -> TrackerEntry:
    """Make the registry's entry of our tracker or of the baseline.

    Its weights must be here, and the device too where it runs here.
    """
    import torch

    from vots_hqtrack.checkpoints.manifest import resolve
    from vots_hqtrack.devices import pick_device
    from vots_hqtrack.vot.registry import BASELINE_TRACKER, baseline_entry, hqtrack_entry

    if tracker == BASELINE_TRACKER:
        if preset or weights or settings or device != "auto":
            unread = "--preset, --weights, --device nor --set"
            raise ConfigError(f"{tracker} repeats the first masks: it reads neither {unread}")
        return baseline_entry()
    if is_local and not torch.cuda.is_available():  # the check would hold memory of a GPU
        pick_device(device)
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

    write_registry(path, [entry, baseline_entry()], on_change=check, on_wait=say)


def check_registered(registry: Path, wanted: list[str]) -> None:
    """Refuse trackers that a registry does not have."""
    from vots_hqtrack.vot.registry import read_registry

    known = read_registry(registry)
    missing = [name for name in wanted if name not in known]
    if missing:
        raise ConfigError(
            f"{registry} has no tracker {', '.join(missing)}; it has {', '.join(known) or 'none'}"
        )
