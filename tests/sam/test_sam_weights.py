"""SAM weights with the HQ head in a file of its own, and back as one checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from vots_hqtrack.checkpoints.importing import read_as
from vots_hqtrack.checkpoints.load import load_into, load_weights, save_tensors
from vots_hqtrack.checkpoints.manifest import WeightsEntry, record, sha256_of
from vots_hqtrack.errors import ConfigError, WeightsError
from vots_hqtrack.sam.models import build_sam
from vots_hqtrack.sam.weights import export_weights, has_hq_head, load_sam_weights

pytestmark = pytest.mark.weights


def _head(seed: int = 0) -> dict[str, Tensor]:
    plain = set(build_sam("vit_tiny").state_dict())
    generator = torch.Generator().manual_seed(seed)
    return {
        key: torch.randn(value.shape, generator=generator)
        for key, value in build_sam("vit_tiny", hq=True).state_dict().items()
        if key not in plain
    }


def _add(cache: Path, name: str, tensors: dict[str, Tensor]) -> None:
    path = cache / f"{name}.safetensors"
    save_tensors(path, tensors, {}, dtype=torch.float32)
    record(cache, WeightsEntry(name, path.name, sha256_of(path), "a test", "none", "A test."))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VOTS_HQTRACK_CACHE", str(tmp_path))
    return tmp_path


def test_head_and_plain_sam_make_an_hq_sam(cache: Path) -> None:
    _add(cache, "a-head", _head())
    tensors = load_sam_weights("sam-vit-tiny", hq=True, head="a-head")
    assert has_hq_head(tensors)
    load_into(build_sam("vit_tiny", hq=True), tensors, source="both")
    plain = load_weights("sam-vit-tiny")
    assert all(torch.equal(tensors[key], value) for key, value in plain.items())
    assert all(torch.equal(tensors[key], value) for key, value in _head().items())


def test_a_head_is_read_only_where_it_is_wanted(cache: Path) -> None:
    _add(cache, "a-head", _head())
    assert not has_hq_head(load_sam_weights("sam-vit-tiny", hq=False, head="a-head"))
    assert not has_hq_head(load_sam_weights("sam-vit-tiny", hq=True, head=""))
    whole = {**load_weights("sam-vit-tiny"), **_head(1)}
    _add(cache, "whole", whole)
    own = load_sam_weights("whole", hq=True, head="a-head")
    assert all(torch.equal(own[key], value) for key, value in _head(1).items())


def test_exception_no_head(cache: Path) -> None:
    _add(cache, "no-head", {**_head(), "image_encoder.other": torch.zeros(1)})
    with pytest.raises(WeightsError, match=r"no-head must be an HQ head alone, got image_enc"):
        load_sam_weights("sam-vit-tiny", hq=True, head="no-head")
    with pytest.raises(WeightsError, match="no weights named 'nowhere'"):
        load_sam_weights("sam-vit-tiny", hq=True, head="nowhere")


def test_the_package_reads_the_exported_checkpoint_whole(cache: Path, tmp_path: Path) -> None:
    _add(cache, "a-head", _head())
    tensors = load_sam_weights("sam-vit-tiny", hq=True, head="a-head")
    path = tmp_path / "sam_hq_vit_tiny.pth"
    export_weights("sam-vit-tiny", path, head="a-head")
    with pytest.raises(WeightsError, match="there already; give --force"):
        export_weights("sam-vit-tiny", path, head="a-head")
    stored = torch.load(path, weights_only=True)
    from segment_anything_hq import sam_model_registry  # after `sam.models`

    network = sam_model_registry["vit_tiny"]()
    report = network.load_state_dict(stored, strict=False)
    assert not report.unexpected_keys
    classifier = ("image_encoder.norm_head.", "image_encoder.head.")
    assert all(key.startswith(classifier) for key in report.missing_keys)
    assert len(report.missing_keys) == 4
    assert torch.equal(
        network.mask_decoder.hf_token.weight, _head()["mask_decoder.hf_token.weight"]
    )
    back = read_as("sam-hq-vit-tiny", path).tensors
    assert set(back) == set(tensors)


def test_exception_export(cache: Path, tmp_path: Path) -> None:
    tensors = load_weights("sam-vit-tiny")
    tensors["mask_decoder.hf_token.weight"] = torch.zeros(1, 256)
    _add(cache, "sam-hq-vit-tiny", tensors)
    with pytest.raises(WeightsError, match=r"to export do not fit vit_tiny; missing: mask_decoder"):
        export_weights("sam-hq-vit-tiny", tmp_path / "sam.pth")
    with pytest.raises(WeightsError, match="cannot write the checkpoint"):
        export_weights("sam-vit-tiny", tmp_path / "nowhere" / "sam.pth")


def test_weights_are_exported_by_name(cache: Path, tmp_path: Path) -> None:
    _add(cache, "a-head", _head())
    export_weights("sam-vit-tiny", tmp_path / "plain.pth")
    export_weights("sam-vit-tiny", tmp_path / "hq.pth", head="a-head")
    plain, hq = (
        set(torch.load(tmp_path / name, weights_only=True)) for name in ("plain.pth", "hq.pth")
    )
    assert plain == set(build_sam("vit_tiny").state_dict())
    assert hq == set(build_sam("vit_tiny", hq=True).state_dict())
    with pytest.raises(ConfigError, match="only SAM weights can be exported"):
        export_weights("vmos-lite", tmp_path / "vmos.pth")
