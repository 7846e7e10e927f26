"""Checkpoints as other projects publish them: where the weights lie, and what is refused."""

import argparse
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from vots_hqtrack.checkpoints.reader import read_checkpoint
from vots_hqtrack.errors import WeightsError

WEIGHTS = OrderedDict(a=torch.arange(3.0), b=torch.zeros(2, 2, dtype=torch.float16))
OPTIMISER = {"state": {0: {"step": 4}}, "param_groups": [{"lr": 1e-3, "params": [0, 1]}]}


def check(path: Path) -> None:
    found = read_checkpoint(path)
    assert list(found) == ["a", "b"]
    assert torch.equal(found["a"], WEIGHTS["a"])
    assert found["b"].dtype == torch.float16


@pytest.mark.parametrize(
    "content",
    [
        dict(WEIGHTS),
        {"state_dict": WEIGHTS, "optimizer": OPTIMISER},
        {"model": WEIGHTS, "optimizer": OPTIMISER, "epoch": 3},
        {"state_dict": {f"module.{key}": value for key, value in WEIGHTS.items()}},
        {"state_dict": {"module.a": WEIGHTS["a"], "b": WEIGHTS["b"]}},
    ],
)
def test_weights_are_found(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "file.pth")
    check(tmp_path / "file.pth")


def test_files_of_old_pytorch_are_read(tmp_path: Path) -> None:
    path = tmp_path / "größe.pth"
    torch.save({"state_dict": WEIGHTS}, path, _use_new_zipfile_serialization=False)
    check(path)


@pytest.mark.skipif(
    not hasattr(torch.serialization, "get_unsafe_globals_in_checkpoint"),
    reason="this PyTorch cannot be told which types are harmless",
)
def test_numpy_numbers_beside_the_weights_do_no_harm(tmp_path: Path) -> None:
    optimiser = {"param_groups": [{"lr": np.float64(1e-3), "step": np.int64(7)}]}
    torch.save({"state_dict": WEIGHTS, "optimizer": optimiser}, tmp_path / "file.pth")
    check(tmp_path / "file.pth")


def test_parameters_come_without_gradients(tmp_path: Path) -> None:
    torch.save({"a": torch.nn.Parameter(torch.zeros(2))}, tmp_path / "file.pth")
    assert not read_checkpoint(tmp_path / "file.pth")["a"].requires_grad


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "holds no weights"),
        ([1, 2], "holds no weights.*found list"),
        ({"a": torch.zeros(1), "b": 3}, "wanted tensors only, found int at 'b'"),
        ({"a": torch.zeros(1), "module.a": torch.zeros(1)}, "a occurs with and without"),
        ({"a": argparse.Namespace(code=1)}, "holds more than plain data"),
    ],
)
def test_exception(content: object, message: str, tmp_path: Path) -> None:
    path = tmp_path / "file.pth"
    torch.save(content, path)
    with pytest.raises(WeightsError, match=message) as caught:
        read_checkpoint(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_exception_missing_file(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"cannot read the checkpoint .*none\.pth: No such file"):
        read_checkpoint(tmp_path / "none.pth")


def test_exception_folder(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="cannot read the checkpoint"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("kept", [0, 1, 100, 600])
def test_exception_cut_short(kept: int, tmp_path: Path) -> None:
    whole, path = tmp_path / "whole.pth", tmp_path / "cut.pth"
    torch.save({"state_dict": WEIGHTS}, whole)
    path.write_bytes(whole.read_bytes()[:kept])
    with pytest.raises(WeightsError, match=r"cut\.pth is damaged"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    "content", [b"<html>not found</html>", b"\x00" * 5000, b"PK\x03\x04 no zip"]
)
def test_exception_something_else(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"file\.pth is damaged"):
        read_checkpoint(path)
