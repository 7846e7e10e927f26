"""Checkpoints as other projects publish them: where the weights lie, and what is refused."""

import argparse
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from vots_hqtrack.checkpoints.load import digest_of, require_fit
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


def test_exception_a_changed_byte_in_the_archive(tmp_path: Path) -> None:
    """PyTorch itself reads such a file."""
    path = tmp_path / "file.pth"
    torch.save({"a": torch.full((64,), 0.5)}, path)
    content = bytearray(path.read_bytes())
    content[content.index(torch.full((64,), 0.5).numpy().tobytes()) + 9] ^= 1
    path.write_bytes(content)
    assert not torch.equal(torch.load(path)["a"], torch.full((64,), 0.5))
    with pytest.raises(WeightsError, match=r"file\.pth is damaged: bad checksum of .*data/0"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        (torch.eye(3).to_sparse(), "layout torch.sparse_coo at 'b'"),
        (torch.empty(3, device="meta"), "a meta tensor, which has no values at 'b'"),
        (torch.zeros(3, dtype=torch.complex64), "a tensor of torch.complex64 at 'b'"),
        (torch.zeros(3, dtype=torch.float8_e5m2), "a tensor of torch.float8_e5m2 at 'b'"),
    ],
)
def test_exception_tensors_that_no_network_has(odd: Tensor, said: str, tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1), "b": odd}, tmp_path / "file.pth")
    with pytest.raises(WeightsError, match=said):
        read_checkpoint(tmp_path / "file.pth")


def test_a_negated_view_is_read_as_its_numbers(tmp_path: Path) -> None:
    view = torch.complex(torch.ones(2), torch.ones(2)).conj().imag
    assert view.is_neg()
    torch.save({"a": view}, tmp_path / "file.pth")
    found = read_checkpoint(tmp_path / "file.pth")["a"]
    assert found.numpy().tolist() == [-1.0, -1.0]


def _mutate(content: bytes, seed: int) -> bytes:
    """Change, delete or insert a few bytes, most of them near the beginning."""
    rng, changed = np.random.default_rng(seed), bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        index = rng.integers(rng.choice((len(changed), min(len(changed), 300))) + 1)
        num_bytes, new = rng.integers(9), rng.bytes(rng.integers(9))
        changed[index : index + num_bytes] = new
    return bytes(changed)


@pytest.mark.parametrize("form", ["old", "zip"])
def test_damaged_pickles_give_only_the_package_s_errors(form: str, tmp_path: Path) -> None:
    """Within a zip file the pickle is damaged and the checksums fit."""
    path, whole = tmp_path / "file.pth", tmp_path / "whole.pth"
    torch.save({"state_dict": WEIGHTS}, whole, _use_new_zipfile_serialization=form == "zip")
    num_refused = 0
    for seed in range(150):
        if form == "old":
            path.write_bytes(_mutate(whole.read_bytes(), seed))
        else:
            with zipfile.ZipFile(whole) as source, zipfile.ZipFile(path, "w") as target:
                for entry in source.infolist():
                    is_pickle = entry.filename.endswith("data.pkl")
                    content = source.read(entry)
                    target.writestr(
                        entry.filename, _mutate(content, seed) if is_pickle else content
                    )
        try:
            found = read_checkpoint(path)
            require_fit(WEIGHTS, found, source="file", model="the test's network")
            digest_of(found)
        except WeightsError as error:
            assert "\n" not in str(error)  # noqa: PT017 - most are refused, not all
            num_refused += 1
    assert num_refused > 75
