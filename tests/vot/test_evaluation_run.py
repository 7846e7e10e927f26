from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from vots_hqtrack.errors import ConfigError, InputError, ProtocolError
from vots_hqtrack.measures import SegmentationMeasures, mean_measures, measure_mask
from vots_hqtrack.types import Size
from vots_hqtrack.vot.measures import (
    TrackerMeasures,
    mean_of,
    mean_seconds,
    read_measures,
    sequence_measures,
)
from vots_hqtrack.vot.registry import (
    BASELINE_TRACKER,
    TrackerEntry,
    baseline_entry,
    hqtrack_entry,
    read_registry,
    write_registry,
)
from vots_hqtrack.vot.run import Step, analyse, evaluate, pack, run_evaluation
from vots_hqtrack.vot.sequences import write_sequence, write_sequence_list
from vots_hqtrack.vot.toolkit import find_toolkit, run_toolkit
from vots_hqtrack.vot.workspace import Workspace, check_toolkit_path, make_workspace

SIZE = Size(48, 64)
NUM_FRAMES = 15


def disc(frame: int, start: tuple[int, int], speed: float) -> np.ndarray:
    rows, columns = np.mgrid[: SIZE.height, : SIZE.width]
    return (rows - start[0]) ** 2 + (columns - start[1] - speed * frame) ** 2 < 49


def frames() -> list[np.ndarray]:
    return [np.full((*SIZE, 3), 9 * place, dtype=np.uint8) for place in range(NUM_FRAMES)]


@pytest.fixture(scope="module")
def sequences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sequences: three objects (one late, one that goes away), and one object."""
    folder = tmp_path_factory.mktemp("data") / "my sequences"
    empty = np.zeros(SIZE, dtype=bool)
    slow = [disc(place, (10, 12), 1) for place in range(NUM_FRAMES)]
    leaving = [disc(place, (25, 40), 0) if place < 3 else empty for place in range(NUM_FRAMES)]
    late = [None if place < 5 else disc(place, (39, 10), 2) for place in range(NUM_FRAMES)]
    write_sequence(folder / "three", frames(), {1: slow, 2: leaving, 5: late})
    fast = [disc(place, (20, 12), 2.5) for place in range(NUM_FRAMES)]
    write_sequence(folder / "lone", frames(), {1: fast})
    write_sequence_list(folder, ["three", "lone"])
    return folder


def scripted_registry(path: Path, mode: str) -> Path:
    write_registry(
        path, [TrackerEntry("Scripted", "S", "scripted_tracker", {"SCRIPTED_MODE": mode})]
    )
    text = path.read_text().replace("paths = ", f"paths = {Path(__file__).parent}:")
    path.write_text(text + "\n[Spare]\nlabel = 100%%\nprotocol = traxpython\ncommand = spare\n")
    return path


@pytest.fixture(scope="module")
def forced_steps() -> list[Step]:
    """Steps reported while the baseline was evaluated with ``force``."""
    return []


@pytest.fixture(scope="module")
def workspace(
    sequences: Path, tmp_path_factory: pytest.TempPathFactory, forced_steps: list[Step]
) -> Workspace:
    """A workspace in which the baseline, over older results, and a perfect tracker have run."""
    root = tmp_path_factory.mktemp("work")
    registry = scripted_registry(root / "trackers.ini", "truth")
    write_registry(registry, [baseline_entry()])
    made = make_workspace(root / "space", sequences, registry)
    evaluate(made, "Scripted")
    older = made.results / BASELINE_TRACKER
    shutil.copytree(made.results / "Scripted", older)
    (older / "older.txt").touch()
    evaluate(made, BASELINE_TRACKER, force=True, on_step=forced_steps.append)
    return made


@pytest.fixture(scope="module")
def measures(workspace: Workspace) -> dict[str, TrackerMeasures]:
    return analyse(workspace, ["Scripted", BASELINE_TRACKER])


@pytest.mark.vot
def test_measures_of_a_perfect_tracker_and_the_baseline(
    measures: dict[str, TrackerMeasures],
) -> None:
    assert list(measures) == ["Scripted", BASELINE_TRACKER]
    perfect, baseline = measures["Scripted"], measures[BASELINE_TRACKER]
    # An object given on the first frame has a miss there; what is unknown before `late` starts
    # does not count, and on its start frame the toolkit takes the tracker's reply.
    lone = 14 / 15
    three_nre = (1 / 15 + 1 / 3 + 0) / 3
    three_quality = (14 / 15 + 14 / 15 + 1) / 3
    assert perfect.sequences["lone"].quality == pytest.approx(lone)
    assert perfect.sequences["three"].quality == pytest.approx(three_quality)
    assert perfect.overall.quality == pytest.approx((lone + three_quality) / 2)
    assert perfect.sequences["three"].nre == pytest.approx(three_nre)
    assert perfect.sequences["three"].robustness == pytest.approx(1 - three_nre)
    assert (perfect.overall.dre, perfect.overall.adq) == (0, 1)
    assert perfect.sequences["lone"].adq is None
    # The copy is right on the leaving object for two frames after the given one, of 15.
    assert baseline.overall.adq == 0
    assert baseline.overall.quality is not None
    assert 0.02 < baseline.overall.quality < 0.4
    assert baseline.sequences["lone"].dre == pytest.approx(9 / 15)


@pytest.mark.vot
def test_overall_measures_are_those_of_the_toolkits_own_stack(
    workspace: Workspace, measures: dict[str, TrackerMeasures]
) -> None:
    config = workspace.measures / "config.yaml"
    text = config.read_text()
    config.write_text(text.replace("stack.yaml", "tests/multiobject"))
    try:
        theirs = analyse(workspace, [BASELINE_TRACKER, "Scripted"])
    finally:
        config.write_text(text)
    assert list(theirs) == [BASELINE_TRACKER, "Scripted"]
    for tracker, measured in theirs.items():
        assert measured.overall == measures[tracker].overall
        assert not measured.sequences
        for field in dataclasses.fields(measured.overall):
            value = getattr(measured.overall, field.name)
            parts = [getattr(part, field.name) for part in measures[tracker].sequences.values()]
            assert mean_of(parts) == pytest.approx(value)


@pytest.mark.vot
def test_results_are_read_back(workspace: Workspace, sequences: Path) -> None:
    seconds = mean_seconds(workspace, "Scripted")
    assert seconds is not None
    assert 0 < seconds < 30
    perfect = SegmentationMeasures(1, 1)
    measured = sequence_measures(workspace, "Scripted", sequences / "three")
    assert measured == {1: perfect, 2: perfect, 5: perfect}
    assert sequence_measures(workspace, "Scripted", sequences / "lone") == {1: perfect}
    baseline = sequence_measures(workspace, BASELINE_TRACKER, sequences / "three")
    # Right on 2 of 14 frames after the given one, and never empty afterwards.
    assert baseline[2] == SegmentationMeasures(pytest.approx(2 / 14), pytest.approx(2 / 14))
    # The copy of a disc that moves by a pixel a frame, compared by hand.
    copies = [disc(0, (10, 12), 1)] * (NUM_FRAMES - 1)
    moved = [disc(place, (10, 12), 1) for place in range(1, NUM_FRAMES)]
    assert baseline[1] == mean_measures(map(measure_mask, copies, moved))


@pytest.mark.vot
def test_progress_and_force(workspace: Workspace, forced_steps: list[Step]) -> None:
    title = f"run {BASELINE_TRACKER}"
    begin, end = Step(title, 0, 2, "three"), Step(title, 2, 2)
    assert (forced_steps[0], forced_steps[-1]) == (begin, end)
    assert not (workspace.results / BASELINE_TRACKER / "older.txt").exists()
    steps: list[Step] = []
    evaluate(workspace, BASELINE_TRACKER, on_step=steps.append)
    assert steps == [end]


@pytest.mark.vot
def test_results_that_do_not_fit_run_again(workspace: Workspace) -> None:
    folder = workspace.results / "Scripted" / "baseline" / "lone"
    before = (folder / "lone_001.bin").read_bytes()
    (folder / "lone_001.bin").write_bytes(before[:100])
    (folder / "notes.txt").write_text("of the user")
    with pytest.raises(ProtocolError, match=r"cannot pack: .* on lone are not complete: .* is cut"):
        pack(workspace, "Scripted")
    steps: list[Step] = []
    words: list[str] = []
    evaluate(workspace, "Scripted", on_step=steps.append, on_word=words.append)
    assert [(step.num_done, step.detail) for step in steps] == [(1, "lone"), (2, "")]
    assert len(words) == 1
    assert words[0].startswith("Scripted runs again on lone: the result ")
    assert (folder / "lone_001.bin").read_bytes() == before
    assert (folder / "notes.txt").read_text() == "of the user"
    assert not list(workspace.hidden.glob("*/"))
    with zipfile.ZipFile(pack(workspace, "Scripted")) as archive:
        assert archive.read("baseline/lone/lone_001.bin") == before
    # What is left of a killed run is not taken for results.
    leftover = workspace.hidden / "run-Scripted" / "results" / "Scripted" / "baseline" / "lone"
    leftover.mkdir(parents=True)
    (leftover / "lone_001.bin").write_bytes(before[:50])
    (folder / "lone_001_time.value").write_text("garbage\n")
    evaluate(workspace, "Scripted", on_word=words.append)
    assert "must hold seconds" in words[-1]
    assert mean_seconds(workspace, "Scripted") is not None


@pytest.mark.vot
def test_truth_of_other_benchmarks(tmp_path: Path) -> None:
    """Polygons in one file, rectangles of 1e9 pixels, and truth of the first frame only."""
    folder = tmp_path / "sequences"
    lines = {
        "polygons": ["5,5,20,5,20,20,5,20"] * 4 + ["nan,nan,nan,nan"] + ["-5e8,-5e8,1e9,1e9"],
        "first": ["5,5,20,5,20,20,5,20"],
        "far": ["-500000000,-500000000,1000000000,1000000000"] * 6,
    }
    for name, truth in lines.items():
        write_sequence(folder / name, frames()[:6], {1: [disc(0, (9, 9), 0)]})
        (folder / name / "groundtruth_object1.txt").unlink()
        (folder / name / "groundtruth.txt").write_text("\r\n".join(truth))
    write_sequence_list(folder, list(lines))
    registry = tmp_path / "trackers.ini"
    write_registry(registry, [baseline_entry()])
    space = make_workspace(tmp_path / "space", folder, registry)
    words: list[str] = []
    result = run_evaluation(space, [BASELINE_TRACKER], on_word=words.append)
    assert words == [
        "not measured: first: the truth of an object ends with the frame where it starts"
    ]
    sequences = result.measures[BASELINE_TRACKER].sequences
    assert list(sequences) == ["polygons", "far"]
    assert sequences["far"].quality == pytest.approx(5 / 6)
    polygons = result.segmentation[BASELINE_TRACKER]["polygons"][1]
    assert polygons is not None
    assert polygons.region == pytest.approx((3 + 225 / (48 * 64)) / 4)
    with zipfile.ZipFile(result.archive_path) as archive:
        assert "baseline/first/first_001.bin" in archive.namelist()


@pytest.mark.large
@pytest.mark.vot
def test_two_whole_runs_in_one_workspace_at_once(sequences: Path, tmp_path: Path) -> None:
    """Each tracker is in the registry, measured and packed."""
    (tmp_path / "one").mkdir()
    write_sequence_list(tmp_path / "one", [str(sequences / "lone")])
    registry = scripted_registry(tmp_path / "trackers.ini", "truth")
    write_registry(registry, [baseline_entry()])
    given = ["--sequences", tmp_path / "one", "--workspace", tmp_path / "space"]
    given += ["--registry", registry]

    def start(tracker: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "vots_hqtrack", "vot", "evaluate", tracker, *given]
        return subprocess.Popen(
            list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    runs = [start("Scripted"), start(BASELINE_TRACKER)]
    for run in runs:
        output, errors = run.communicate()
        assert run.returncode == 0, (output, errors)
    space = make_workspace(tmp_path / "space", tmp_path / "one", registry)
    for tracker in ("Scripted", BASELINE_TRACKER):
        assert mean_seconds(space, tracker) is not None
        assert len(list(space.folder.glob(f"{tracker}_*.zip"))) == 1
    assert not list(space.hidden.glob("*/"))


@pytest.mark.vot
def test_the_trackers_reason_reaches_the_caller(sequences: Path, tmp_path: Path) -> None:
    registry = scripted_registry(tmp_path / "trackers.ini", "raise")
    space = make_workspace(tmp_path / "space", sequences, registry)
    with pytest.raises(ProtocolError) as caught:
        evaluate(space, "Scripted")
    first, *others = str(caught.value).splitlines()
    assert "Scripted failed on the sequence three" in first
    assert "the third frame is cursed" in first
    assert any("raise ValueError" in line for line in others)
    assert not any("@@TRAX" in line for line in others)
    with pytest.raises(ProtocolError, match=r"left no measures\.json"):
        analyse(space, ["Scripted"])
    with pytest.raises(ProtocolError, match="not complete"):
        pack(space, "Scripted")


@pytest.mark.vot
def test_a_tracker_that_does_not_start_shows_its_traceback(sequences: Path, tmp_path: Path) -> None:
    registry = scripted_registry(tmp_path / "trackers.ini", "import")
    space = make_workspace(tmp_path / "space", sequences, registry)
    with pytest.raises(ProtocolError, match="no network called scripted"):
        evaluate(space, "Scripted")
    with pytest.raises(ProtocolError, match=r"gave no reason(.|\n)*Nobody"):
        evaluate(space, "Nobody")


def test_registry_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "trackers.ini"
    entry = hqtrack_entry(
        "HQ-1", preset="lite-vmos", device="cpu", weights=Path("100%.st"), settings=["memory.gap=5"]
    )
    assert write_registry(path, [entry, baseline_entry()]) == []
    assert read_registry(path) == ["HQ-1", BASELINE_TRACKER]
    assert write_registry(path, [baseline_entry()]) == []
    assert write_registry(path, [hqtrack_entry("New"), entry]) == []
    assert read_registry(path) == ["HQ-1", BASELINE_TRACKER, "New"]
    text = path.read_text()
    assert f"env_vots_hqtrack_weights = {Path('100%%.st').resolve()}" in text
    assert "env_vots_hqtrack_settings = memory.gap=5" in text
    assert f"python = {sys.executable}" in text
    assert write_registry(path, [hqtrack_entry("HQ-1", preset="lite")]) == ["HQ-1"]


def test_registry_refuses(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="letters, digits and dashes, got 'HQ_Track'"):
        write_registry(tmp_path / "t.ini", [hqtrack_entry("HQ_Track")])
    with pytest.raises(ConfigError, match="must not hold blanks"):
        hqtrack_entry(settings=["memory.gap = 5"])
    with pytest.raises(ConfigError, match="No such file"):
        read_registry(tmp_path / "missing.ini")
    (tmp_path / "bad.ini").write_text("[A]\nlabel = 100%\n")
    with pytest.raises(ConfigError, match=r"cannot read the trackers in .*bad\.ini"):
        read_registry(tmp_path / "bad.ini")


def test_workspace_is_made_once(tmp_path: Path) -> None:
    for name in ("first", "second"):
        write_sequence(tmp_path / name / "s", frames()[:1], {1: [disc(0, (9, 9), 0)]})
        write_sequence_list(tmp_path / name, ["s"])
    registry = tmp_path / "trackers.ini"
    write_registry(registry, [baseline_entry()])
    space = make_workspace(tmp_path / "space", tmp_path / "first", registry)
    assert make_workspace(tmp_path / "space", tmp_path / "first", registry) == space
    assert (space.measures / "results").resolve() == space.results
    assert json.loads((space.folder / "config.yaml").read_text())["stack"] == "vots2023"
    with pytest.raises(ConfigError, match="another configuration"):
        make_workspace(tmp_path / "space", tmp_path / "second", registry)
    with pytest.raises(InputError, match=r"wanted a file list\.txt"):
        make_workspace(tmp_path / "other", tmp_path, registry)


@pytest.mark.parametrize(("name", "what"), [("100%", "a percent sign"), ("Café", "not ASCII")])
def test_paths_that_the_toolkit_cannot_use(name: str, what: str) -> None:
    with pytest.raises(InputError, match=what):
        check_toolkit_path(Path("/data") / name)


def test_missing_toolkit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    with pytest.raises(ConfigError, match=r"pip install .*\[toolkit\]"):
        find_toolkit()


@pytest.mark.vot
def test_an_interrupt_ends_the_command(workspace: Workspace) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_toolkit(["test", BASELINE_TRACKER], workspace, on_poll=interrupt)


@pytest.mark.parametrize("text", ["", "{}", '{"trackers": {}, "sequences": {}, "results": {}}'])
def test_other_documents_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "measures.json"
    path.write_text(text)
    with pytest.raises(ProtocolError, match="has no analysis of the VOTS measures"):
        read_measures(path)
