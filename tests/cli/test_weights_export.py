"""``hqtrack weights export``: SAM weights as the checkpoint that others read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from vots_hqtrack.cli.main import app
from vots_hqtrack.sam.models import build_sam


@pytest.mark.weights
def test_the_shipped_sam_is_written_whole(runner: CliRunner, tmp_path: Path) -> None:
    path = tmp_path / "sam_vit_tiny.pth"
    result = runner.invoke(app, ["weights", "export", "sam-vit-tiny", "--out", str(path)])
    assert result.exit_code == 0, result.output
    assert str(path) in result.stdout.replace("\n", "")
    assert set(torch.load(path, weights_only=True)) == set(build_sam("vit_tiny").state_dict())
    again = runner.invoke(app, ["weights", "export", "sam-vit-tiny", "--out", str(path)])
    assert (again.exit_code, "--force" in again.stderr) == (3, True)


def test_exception_not_a_sam(runner: CliRunner, tmp_path: Path) -> None:
    path = tmp_path / "vmos.pth"
    result = runner.invoke(app, ["weights", "export", "vmos-lite", "--out", str(path)])
    assert (result.exit_code, "only SAM weights" in result.stderr) == (2, True)
    assert not path.exists()
