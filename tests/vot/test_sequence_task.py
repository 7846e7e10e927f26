"""Tasks as a worker does them, and options of a cluster, without one."""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from vots_hqtrack.cli.main import app
from vots_hqtrack.errors import ConfigError, InputError
from vots_hqtrack.io import hold_lock
from vots_hqtrack.vot.cluster import ClusterOptions, run_on_cluster
from vots_hqtrack.vot.registry import (
    BASELINE_TRACKER,
    baseline_entry,
    hqtrack_entry,
    localise_registry,
    package_parent,
    read_registry,
    write_registry,
)
from vots_hqtrack.vot.results import result_fault
from vots_hqtrack.vot.sequence_task import (
    SequenceTask,
    fingerprint_of,
    pack_sequence,
    run_task,
    scratch_folder,
    sequence_files,
    unpack,
)
from vots_hqtrack.vot.sequences import check_sequence, write_sequence, write_sequence_list
from vots_hqtrack.vot.workspace import make_workspace


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sequence of one object, the frames of which are links."""
    mask = np.zeros((24, 32), dtype=bool)
    mask[5:15, 5:15] = True
    frames = [np.full((24, 32, 3), 9 * n, dtype=np.uint8) for n in range(4)]
    write_sequence(tmp_path / "kept" / "s", frames, {1: [mask] * 4})
    paths = sorted((tmp_path / "kept" / "s" / "color").iterdir())
    write_sequence(tmp_path / "sequences" / "s", paths, {1: [mask] * 4}, link=True)
    write_sequence_list(tmp_path / "sequences", ["s"])
    return tmp_path / "sequences" / "s"


@pytest.fixture
def task(folder: Path, tmp_path: Path) -> SequenceTask:
    registry = tmp_path / "trackers.ini"
    write_registry(registry, [baseline_entry()])
    check, text = check_sequence(folder), registry.read_text()
    return SequenceTask(BASELINE_TRACKER, check, registry, text, fingerprint_of(folder))


def test_a_sequence_travels_whole(folder: Path, tmp_path: Path) -> None:
    (folder / "color" / "up").symlink_to(folder, target_is_directory=True)
    (folder / "ir").symlink_to("color", target_is_directory=True)
    (folder / "occlusion.tag").write_text("0\n")
    chunks = list(pack_sequence(folder, chunk_bytes=1000))
    assert len(chunks) > 1
    there = tmp_path / "there" / "s"
    unpack(chunks, there)
    assert list(sequence_files(there)) == list(sequence_files(folder))
    assert {"color/00000004.jpg", "ir/00000004.jpg"} <= sequence_files(there).keys()
    assert not any(name.startswith("color/up") for name in sequence_files(there))
    assert fingerprint_of(there) == fingerprint_of(folder)
    assert not any(path.is_symlink() for path in there.rglob("*"))
    assert dataclasses.replace(check_sequence(there), folder=folder) == check_sequence(folder)


@pytest.mark.parametrize("name", ["sequence", "groundtruth_object1.txt", "color/00000002.jpg"])
def test_another_file_is_another_sequence(folder: Path, name: str) -> None:
    before = fingerprint_of(folder)
    path = folder / name
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content + b"\n")
    assert fingerprint_of(folder) != before
    path.unlink()
    assert fingerprint_of(folder) != before


@pytest.mark.vot
def test_a_worker_evaluates_or_says_why_not(task: SequenceTask, tmp_path: Path) -> None:
    elsewhere = dataclasses.replace(
        task,
        sequence=dataclasses.replace(task.sequence, folder=tmp_path / "gone" / "s"),
        registry=tmp_path / "gone.ini",
    )
    assert run_task(elsewhere).is_lacking
    result = run_task(elsewhere, pack_sequence(task.sequence.folder))
    assert (result.failure, result.is_lacking) == ("", False)
    assert set(result.files) == {"s_001.bin", "s_001_time.value"}
    for name, content in result.files.items():
        (tmp_path / name).write_bytes(content)
    assert result_fault(tmp_path, task.sequence) is None
    unknown = run_task(dataclasses.replace(task, tracker="Nobody"))
    assert "gave no reason" in unknown.failure.splitlines()[0]
    assert b"Nobody" in unknown.log


def test_a_worker_of_another_version_refuses(task: SequenceTask) -> None:
    result = run_task(dataclasses.replace(task, version="0.0.1"))
    assert result.failure.startswith("wanted vots-hqtrack 0.0.1, as the driver has; ")


def test_folders_of_killed_processes_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    dead, alive = tmp_path / "hqtrack-run-00000001", tmp_path / "hqtrack-run-00000002"
    others = tmp_path / "hqtrack-run-of-mine"
    for path in (dead, alive, others):
        path.mkdir()
    dead.with_suffix(".lock").touch()
    with hold_lock(alive.with_suffix(".lock"), busy="", remove=True), scratch_folder() as made:
        assert made.is_dir()
        assert sorted(path.name for path in tmp_path.glob("*/")) == sorted(
            path.name for path in (alive, others, made)
        )
    assert sorted(tmp_path.iterdir()) == [alive, others]


def test_trackers_move_to_another_interpreter(tmp_path: Path) -> None:
    path = tmp_path / "trackers.ini"
    write_registry(path, [hqtrack_entry("Ours"), baseline_entry()])
    there, root = "/opt/100%/bin/python", "/opt/checkout"
    text = path.read_text().replace(sys.executable, there.replace("%", "%%"))
    text = text.replace(str(package_parent()), f"lib:{root}")
    text += "\n[Other]\nprotocol = traxpython\npython = /usr/bin/other\npaths = lib\n"
    moved = localise_registry(text, there, root)
    (tmp_path / "moved.ini").write_text(moved)
    assert read_registry(tmp_path / "moved.ini") == ["Ours", BASELINE_TRACKER, "Other"]
    assert moved.count(f"python = {sys.executable}\n") == 2
    assert moved.count(f"paths = lib:{package_parent()}\n") == 2
    assert "python = /usr/bin/other\npaths = lib\n" in moved
    assert localise_registry(text, sys.executable, str(package_parent())) == text


def test_without_ray_the_extra_is_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    registry = tmp_path / "trackers.ini"
    write_registry(registry, [baseline_entry()])
    workspace = make_workspace(tmp_path / "space", folder.parent, registry)
    with pytest.raises(ConfigError, match=r"pip install .*\[cluster\]"):
        run_on_cluster(workspace, [BASELINE_TRACKER], options=ClusterOptions(2))


@pytest.mark.vot
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--address", "auto"], "--address needs --workers"),
        (["--gpus-per-worker", "1", "--cpus-per-worker", "2"], "--cpus-per-worker needs --workers"),
        (["--workers", "2", "--gpus-per-worker", "1.5"], "below 1 or a whole number, got 1.5"),
        (["--workers", "2", "--device", "cuda:1"], "the one that Ray gives it"),
        (["--workers", "2", "--address", ""], "--address must name a cluster"),
        (["Second"], "several trackers come from a file"),
    ],
)
def test_options_that_do_not_fit(
    folder: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    call = ["vot", "evaluate", "First", *words, "--sequences", str(folder.parent)]
    result = CliRunner().invoke(app, [*call, "--workspace", str(tmp_path / "space")])
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert not (tmp_path / "space" / "trackers.ini").exists()


def test_a_frame_that_cannot_be_read(folder: Path, tmp_path: Path) -> None:
    path = folder / "color" / "00000002.jpg"
    path.unlink()
    path.symlink_to("/proc/self/mem")  # a file that nobody can read from its beginning
    with pytest.raises(InputError, match="cannot read"):
        list(pack_sequence(folder))
