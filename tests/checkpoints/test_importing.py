"""Other projects' checkpoints become weights of ours, or are refused by name."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
import torch
from checkpoints import constant_tensors, save
from safetensors import safe_open

from vots_hqtrack.checkpoints.convert import LIVE_RULES, invert, rename, shapes_of
from vots_hqtrack.checkpoints.importing import import_weights, read_as, sam_shapes
from vots_hqtrack.checkpoints.load import (
    DIGEST_KEY,
    digest_of,
    load_into,
    load_tensors,
    load_weights,
    save_tensors,
)
from vots_hqtrack.checkpoints.manifest import locate, resolve, sha256_of
from vots_hqtrack.checkpoints.registry import KNOWN, SAM2
from vots_hqtrack.config import released_vmos
from vots_hqtrack.encoder.internimage import build_internimage_t
from vots_hqtrack.errors import ConfigError, WeightsError
from vots_hqtrack.presets import load_preset
from vots_hqtrack.sam.models import build_sam
from vots_hqtrack.vmos import build_vmos

SIZES = ("tiny", "b", "l", "h")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VOTS_HQTRACK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A file like the published ``sam_hq_vit_tiny.pth``, ImageNet classifier included."""
    tensors = constant_tensors(sam_shapes("vit_tiny", hq=True))
    tensors["image_encoder.head.weight"] = torch.zeros(())
    tensors["image_encoder.norm_head.bias"] = torch.zeros(())
    return save(tmp_path / "sam_hq_vit_tiny.pth", tensors)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("hq", [False, True])
def test_every_size_of_sam_is_told_from_the_others(tmp_path: Path, size: str, hq: bool) -> None:
    name = "vit_tiny" if size == "tiny" else f"vit_{size}"
    tensors = constant_tensors(sam_shapes(name, hq=hq))  # type: ignore[arg-type]
    path = save(tmp_path / "sam.pth", tensors)
    kind = f"sam-{'hq-' if hq else ''}vit-{size}"
    content = read_as(kind, path)
    assert content.tensors.keys() == tensors.keys()
    assert content.unused == ()
    other = f"sam-{'' if hq else 'hq-'}vit-{size}"
    wrong = "unexpected: mask_decoder.hf_token" if hq else "missing: mask_decoder.hf_token"
    with pytest.raises(WeightsError, match=rf"do not fit {other}; {wrong}"):
        read_as(other, path)


def test_import_into_the_cache_is_found_by_name(tiny: Path, cache: Path) -> None:
    done = import_weights(tiny, "sam-hq-vit-tiny")
    assert done.path == cache / "sam-hq-vit-tiny.safetensors" == resolve("sam-hq-vit-tiny")
    assert set(done.unused) == {"image_encoder.head.weight", "image_encoder.norm_head.bias"}
    located = locate("sam-hq-vit-tiny")
    assert located.path == done.path
    assert located.entry.sha256 == done.sha256 == sha256_of(done.path)
    assert located.entry.licence == "Apache-2.0"
    assert located.entry.origin == f"sam_hq_vit_tiny.pth (sha256 {sha256_of(tiny)})"
    network = build_sam("vit_tiny", hq=True)
    tensors = load_weights("sam-hq-vit-tiny")
    load_into(network, tensors, source="cache")
    assert all(value.dtype != torch.float16 for value in tensors.values())
    done.path.unlink()
    with pytest.raises(WeightsError, match=r"not here: .* is gone; get them with: hqtrack weights"):
        locate("sam-hq-vit-tiny")


def test_the_header_names_origin_and_hash(tiny: Path, tmp_path: Path, cache: Path) -> None:
    out = tmp_path / "új" / "w.safetensors"
    done = import_weights(tiny, "sam-hq-vit-tiny", out, half=True)
    with safe_open(str(out), "pt") as file:
        header = file.metadata()
    assert header["kind"] == "sam-hq-vit-tiny"
    assert header["origin"] == f"sam_hq_vit_tiny.pth (sha256 {sha256_of(tiny)})"
    assert header["licence"] == "Apache-2.0"
    tensors = load_tensors(out, expected_sha256=done.sha256)
    assert header[DIGEST_KEY] == digest_of(tensors)
    floats = {value.dtype for value in tensors.values() if value.is_floating_point()}
    assert floats == {torch.float16}
    assert done.num_tensors == len(tensors)
    assert not cache.exists()
    # What we wrote can be read as the same kind once more.
    assert read_as("sam-hq-vit-tiny", out).tensors.keys() == tensors.keys()


def test_nothing_is_replaced_without_force(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "w.safetensors"
    out.write_text("precious", encoding="utf-8")
    with pytest.raises(WeightsError, match="is there already; give --force"):
        import_weights(tiny, "sam-hq-vit-tiny", out)
    assert out.read_text(encoding="utf-8") == "precious"
    with pytest.raises(WeightsError, match="written over itself"):
        import_weights(tiny, "sam-hq-vit-tiny", tiny, force=True)
    done = import_weights(tiny, "sam-hq-vit-tiny", out, force=True)
    assert sha256_of(out) == done.sha256


def test_the_released_vmos(tmp_path: Path) -> None:
    with torch.device("meta"):
        encoder = build_internimage_t()
        vmos = build_vmos(released_vmos(), encoder.dims)
    ours = {f"encoder.{key}": value for key, value in encoder.state_dict().items()}
    ours |= {f"vmos.{key}": value for key, value in vmos.state_dict().items()}
    theirs = constant_tensors(rename(ours, invert(LIVE_RULES), source="test"))
    for key in ("decoder.a", "encoder.levels.2.downsample.a", "LSTT.decoder_norms.0.gn.a"):
        theirs[key] = torch.zeros(())
    path = save(tmp_path / "save_step_42000.pth", theirs, nest="state_dict")
    done = import_weights(path, "vmos-internimage-t", half=True)
    assert done.num_tensors == len(theirs)
    tensors = load_tensors(done.path, expected_sha256=done.sha256)
    assert ours.keys() < tensors.keys()
    assert {key.split(".")[0] for key in tensors} == {"encoder", "vmos", "dead"}


@pytest.mark.parametrize("preset", ["vmos-r50", "deaot-r50", "vmos"])
def test_what_a_training_leaves_fits_its_preset_only(tmp_path: Path, preset: str) -> None:
    config = load_preset(preset)
    tensors = constant_tensors(shapes_of(config.encoder, config.vmos))
    path = save(tmp_path / "best.pth", tensors)
    if preset != "vmos":  # a .pth is the released file there
        assert read_as(config.weights, path).tensors.keys() == tensors.keys()
    other = "deaot-r50" if preset != "deaot-r50" else "vmos-r50"
    with pytest.raises(WeightsError, match=rf"do not fit the preset {other}; missing: "):
        read_as(other, path)


def test_what_a_training_leaves_is_found_by_its_preset(tmp_path: Path) -> None:
    config = load_preset("deaot-r50")
    shapes = shapes_of(config.encoder, config.vmos)
    tensors = {key: value.contiguous() for key, value in constant_tensors(shapes).items()}
    save_tensors(tmp_path / "best.safetensors", tensors, {})
    with pytest.raises(WeightsError, match=r"not here; .*hqtrack weights import FILE --as deaot"):
        locate("deaot-r50")
    done = import_weights(tmp_path / "best.safetensors", "deaot-r50", half=True)
    assert locate("deaot-r50").path == done.path
    assert done.num_tensors == len(tensors)


def test_every_kind_of_the_registry_can_be_read(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pth", {"nothing": torch.zeros(1)})
    has_sam2 = importlib.util.find_spec("transformers") is not None
    for kind in KNOWN:
        lacks_extra = kind.startswith(SAM2) and not has_sam2
        error, why = (
            (ConfigError, "extra transformers") if lacks_extra else (WeightsError, "nothing")
        )
        with pytest.raises(error, match=why):
            read_as(kind, path)


def test_exception_unknown_kind(tiny: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown kind 'sam'; wanted one of: vmos-internimage-t"):
        import_weights(tiny, "sam")


def test_exception_missing_file(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=re.escape(f"cannot read the checkpoint {tmp_path}")):
        import_weights(tmp_path / "none.pth", "sam-hq-vit-b")


def test_digest_sees_names_shapes_dtypes_and_numbers() -> None:
    first = {"a": torch.zeros(2, 3), "b": torch.tensor(4)}
    others = [
        {"a": torch.zeros(3, 2), "b": torch.tensor(4)},
        {"a": torch.zeros(2, 3), "c": torch.tensor(4)},
        {"a": torch.zeros(2, 3), "b": torch.tensor(4, dtype=torch.int32)},
        {"a": torch.zeros(2, 3), "b": torch.tensor(5)},
    ]
    assert digest_of(first) == digest_of(dict(reversed(first.items())))
    assert len({digest_of(tensors) for tensors in [first, *others]}) == 5
    assert digest_of({"a": torch.zeros(0)}) != digest_of({})
