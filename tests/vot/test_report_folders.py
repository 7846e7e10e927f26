"""A report of the toolkit stays when other trackers are evaluated in its workspace."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from vots_hqtrack.vot import run
from vots_hqtrack.vot.workspace import Workspace


def test_reports_of_other_trackers_have_a_folder_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(tmp_path, tmp_path / "sequences", tmp_path / "trackers.ini")
    (tmp_path / "sequences").mkdir()
    (tmp_path / "sequences" / "list.txt").write_text("one\n")

    def toolkit(arguments: list[str], *_: object) -> SimpleNamespace:
        """Leave what ``vot report`` leaves under the name that it was given."""
        name, trackers = arguments[arguments.index("--name") + 1], arguments[5:]
        folder = workspace.measures / "reports" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.html").write_text(" ".join(trackers))
        return SimpleNamespace()

    monkeypatch.setattr(run, "run_toolkit", toolkit)
    first = run.write_report(workspace, ["HQTrack"])
    second = run.write_report(workspace, ["HQTrackLite", "copy"])
    assert first != second
    assert first.read_text() == "HQTrack"
    assert second.read_text() == "HQTrackLite copy"
