from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from vots_hqtrack.build import build_networks, load_segmenter
from vots_hqtrack.checkpoints.load import (
    DIGEST_KEY,
    digest_of,
    load_into,
    load_tensors,
    load_weights,
    save_tensors,
)
from vots_hqtrack.checkpoints.manifest import sha256_of, shipped_weights
from vots_hqtrack.errors import WeightsError
from vots_hqtrack.presets import load_preset


class Small(nn.Module):
    """Two layers and an integer buffer."""

    steps: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 2)
        self.second = nn.Linear(2, 4)
        self.register_buffer("steps", torch.tensor([5, 6]))


def _tensors() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {
        key: torch.randn(value.shape, generator=generator)
        if value.is_floating_point()
        else value + 1
        for key, value in Small().state_dict().items()
    }


def test_smoke_shipped_encoder() -> None:
    tensors = load_weights("sam-vit-tiny")
    assert len(tensors) == 435
    assert sum(value.numel() for value in tensors.values() if value.is_floating_point()) > 9.7e6


def test_round_trip_keeps_float16_values_and_integers(tmp_path: Path) -> None:
    tensors = {
        **_tensors(),
        "turned": torch.randn(3, 2, generator=torch.Generator().manual_seed(0)).T,
    }
    path = tmp_path / "á.safetensors"
    save_tensors(path, tensors, {"origin": "a test", "licence": "MIT"})
    loaded = load_tensors(path, expected_sha256=sha256_of(path))
    assert loaded.keys() == tensors.keys()
    for key, value in tensors.items():
        wanted = value.half() if value.is_floating_point() else value
        assert loaded[key].dtype == wanted.dtype
        assert torch.equal(loaded[key], wanted)
    with safe_open(str(path), "pt") as file:
        assert file.metadata() == {"format": "pt", "origin": "a test", "licence": "MIT"}


def test_what_was_read_outlives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    save_tensors(path, {"first": torch.ones(1000)}, {})
    loaded = load_tensors(path, expected_sha256=None)
    save_tensors(path, {"first": torch.zeros(1000)}, {})
    assert torch.equal(loaded["first"], torch.ones(1000).half())
    path.unlink()
    assert torch.equal(loaded["first"], torch.ones(1000).half())


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory as Linux tells it")
def test_reading_takes_no_memory_of_its_own(tmp_path: Path) -> None:
    megabytes = 64
    tensors = {str(index): torch.full((2**18,), float(index)) for index in range(megabytes)}
    save_tensors(tmp_path / "a", tensors, {}, dtype=torch.float32)
    del tensors
    before = _private_kilobytes()
    loaded = load_tensors(tmp_path / "a", expected_sha256=sha256_of(tmp_path / "a"))
    grown = _private_kilobytes() - before
    assert grown < megabytes * 1024 / 4
    assert float(loaded["63"].sum()) == 63 * 2**18


def _private_kilobytes() -> int:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    found = re.search(r"^RssAnon:\s+(\d+) kB$", status, re.MULTILINE)
    assert found is not None
    return int(found[1])


def test_a_module_without_numbers_takes_the_tensors_themselves() -> None:
    tensors = _tensors()
    with torch.device("meta"):
        module = Small()
    with pytest.raises(WeightsError, match="missing: steps"):
        load_into(
            module,
            {key: value for key, value in tensors.items() if key != "steps"},
            source="a test",
            allow_missing=("steps",),
        )
    load_into(module, tensors, source="a test")
    assert module.first.weight.data_ptr() == tensors["first.weight"].data_ptr()
    assert module.first.weight.requires_grad
    assert all(torch.equal(value, tensors[key]) for key, value in module.state_dict().items())
    with torch.device("meta"):
        module = Small()
    load_into(module, {**tensors, "first.bias": tensors["first.bias"].half()}, source="a test")
    assert module.first.bias.dtype == torch.float32


def test_tied_tensors_can_be_saved(tmp_path: Path) -> None:
    value = torch.ones(4)
    save_tensors(tmp_path / "a", {"left": value, "right": value[:2]}, {}, dtype=torch.float32)
    loaded = load_tensors(tmp_path / "a", expected_sha256=None)
    assert loaded["left"].dtype == torch.float32
    assert loaded["right"].tolist() == [1.0, 1.0]


def test_a_part_of_a_larger_tensor_can_be_saved(tmp_path: Path) -> None:
    whole = torch.arange(6.0)
    tensors = {"part": whole[2:4], "none": whole[:0], "other": whole[5:]}
    save_tensors(tmp_path / "a", tensors, {})
    loaded = load_tensors(tmp_path / "a", expected_sha256=None)
    assert {key: value.tolist() for key, value in loaded.items()} == {
        "part": [2.0, 3.0],
        "none": [],
        "other": [5.0],
    }


def test_others_may_read_the_file_if_they_may_read_new_files(tmp_path: Path) -> None:
    save_tensors(tmp_path / "a", _tensors(), {})
    (tmp_path / "b").touch()
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_values_float16_fills_float32_parameters(tmp_path: Path) -> None:
    save_tensors(tmp_path / "a", _tensors(), {})
    module = Small()
    load_into(module, load_tensors(tmp_path / "a", expected_sha256=None), source="a")
    for key, value in _tensors().items():
        got = module.state_dict()[key]
        assert got.dtype in (torch.float32, torch.int64)
        assert torch.equal(got, value.half().float() if value.is_floating_point() else value)
    assert module.steps.tolist() == [6, 7]
    assert module.first.weight.requires_grad


def test_allow_missing_keeps_the_module_s_own_values() -> None:
    module = Small()
    before = module.second.weight.detach().clone()
    tensors = {key: value for key, value in _tensors().items() if not key.startswith("second")}
    load_into(module, tensors, source="a", allow_missing=("second.*",))
    assert torch.equal(module.second.weight, before)
    assert torch.equal(module.first.weight, tensors["first.weight"])


def test_exception_keys_that_do_not_fit_leave_the_module_alone() -> None:
    module = Small()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    tensors = _tensors()
    tensors["first.weight"] = torch.zeros(2, 5)
    tensors["steps"] = torch.zeros(2)
    del tensors["second.bias"]
    tensors["third.bias"] = torch.zeros(1)
    with pytest.raises(WeightsError) as caught:
        load_into(module, tensors, source="file.safetensors")
    said = str(caught.value)
    assert "file.safetensors do not fit Small" in said
    assert "missing: second.bias;" in said
    assert "unexpected: third.bias;" in said
    assert "first.weight (wanted shape (2, 3), got (2, 5))" in said
    assert "steps (wanted torch.int64, got torch.float32)" in said
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


def test_exception_names_five_keys_and_counts_the_rest() -> None:
    extra = {f"extra.{number}": torch.zeros(1) for number in range(8)}
    wanted = "unexpected: extra.0, extra.1, extra.2, extra.3, extra.4 and 3 more"
    with pytest.raises(WeightsError, match=re.escape(wanted)):
        load_into(Small(), {**_tensors(), **extra}, source="a")


def test_exception_missing_file(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"cannot read the weights file .*nowhere"):
        load_tensors(tmp_path / "nowhere", expected_sha256=None)


@pytest.mark.parametrize("kept", [0, 4, 60, -1])
def test_exception_truncated_file(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "a.safetensors"
    save_tensors(path, _tensors(), {})
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(WeightsError, match="is damaged or not in the format"):
        load_tensors(path, expected_sha256=None)


def test_exception_pickle_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save(_tensors(), path)
    with pytest.raises(WeightsError, match="is damaged or not in the format"):
        load_tensors(path, expected_sha256=None)


def test_exception_one_changed_byte(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_tensors(path, _tensors(), {})
    expected = sha256_of(path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert load_tensors(path, expected_sha256=None)
    with pytest.raises(WeightsError, match=f"damaged or another one: wanted sha256 {expected}"):
        load_tensors(path, expected_sha256=expected)


def test_exception_own_file_is_read_without_the_shipped_hash(tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    save_tensors(path, _tensors(), {})
    assert sha256_of(path) != shipped_weights()["sam-vit-tiny"].sha256
    assert load_weights("sam-vit-tiny", path).keys() == _tensors().keys()


def test_exception_numbers_that_do_not_fit_float16(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with pytest.raises(WeightsError, match=r"as float16 hold numbers that are not finite: big"):
        save_tensors(path, {"big": torch.tensor([7e4]), "small": torch.ones(1)}, {})
    assert list(tmp_path.iterdir()) == []


def test_exception_not_finite_in_a_file(tmp_path: Path) -> None:
    import safetensors.torch

    path = tmp_path / "a.safetensors"
    path.write_bytes(safetensors.torch.save({"first": torch.tensor([float("nan")])}))
    with pytest.raises(WeightsError, match="not finite: first"):
        load_tensors(path, expected_sha256=None)


def test_exception_folder_is_missing(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="cannot write"):
        save_tensors(tmp_path / "none" / "a", _tensors(), {})


def test_an_older_file_is_replaced_and_nothing_is_left_over(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_text("old", encoding="utf-8")
    save_tensors(path, _tensors(), {})
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.safetensors"]
    assert load_tensors(path, expected_sha256=None).keys() == _tensors().keys()


def test_the_same_content_makes_the_same_file(tmp_path: Path) -> None:
    texts = {f"key{number}": f"wört {number} \u001f\n" for number in range(12)}
    files = []
    for number in range(4):
        path = tmp_path / f"{number}.safetensors"
        save_tensors(path, {"b": torch.ones(3), "a": torch.zeros(2, 2)}, texts)
        files.append(path.read_bytes())
        with safe_open(path, framework="pt") as file:
            assert file.metadata() == {"format": "pt", **texts}
    assert len(set(files)) == 1


def test_exception_tensors_do_not_fit_the_file_s_own_digest(tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    tensors = {"a": torch.arange(4.0), "b": torch.ones(2)}
    save_tensors(path, tensors, {DIGEST_KEY: digest_of(tensors)}, dtype=torch.float32)
    load_weights("any", path)
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="tensors are not those that were written"):
        load_weights("any", path)


@pytest.mark.parametrize("seed", range(40))
def test_damaged_safetensors_give_only_the_package_s_errors(tmp_path: Path, seed: int) -> None:
    path, rng = tmp_path / "file.safetensors", np.random.default_rng(seed)
    save_tensors(path, {"a": torch.arange(4.0), "b": torch.ones(2, 3)}, {"key": "value"})
    content = bytearray(path.read_bytes())
    for _ in range(rng.integers(1, 9)):
        index = rng.integers(len(content))
        content[index : index + rng.integers(4)] = rng.bytes(rng.integers(4))
    path.write_bytes(content)
    try:
        found = load_tensors(path, expected_sha256=None)
        digest_of(found)
    except WeightsError as error:
        assert "\n" not in str(error)  # noqa: PT017 - some changes do no harm


@pytest.mark.parametrize("preset", ["lite-vmos", "deaot-r50"])
def test_exception_a_network_s_tensor_of_another_shape(preset: str) -> None:
    """With and without an encoder of its own; nothing is broadcast, cut or left out."""
    config = load_preset(preset)
    network, vmos = build_networks(config)
    tensors = {
        f"{prefix}{key}": value
        for prefix, part in (("encoder.", network), ("vmos." if network else "", vmos))
        if part is not None
        for key, value in part.state_dict().items()
    }
    load_segmenter(network, vmos, tensors, source="file")
    for key in list(tensors)[::25]:
        value = tensors[key]
        for other in (
            value[None],
            value.reshape(*value.shape, 1),
            value.sum(),
            value.reshape(-1)[:1],
        ):
            if other.shape != value.shape:
                with pytest.raises(WeightsError, match=r"file do not fit .*wanted shape"):
                    load_segmenter(network, vmos, {**tensors, key: other}, source="file")
    for key in ("other.weight", "encoder", "vmos_head.weight"):
        with pytest.raises(WeightsError, match=f"unexpected: {key}"):
            load_segmenter(network, vmos, {**tensors, key: torch.zeros(1)}, source="file")
