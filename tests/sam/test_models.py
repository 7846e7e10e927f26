"""Building SAM: which parts it has, and that nothing warns."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from vots_hqtrack.checkpoints.load import load_weights
from vots_hqtrack.errors import ConfigError
from vots_hqtrack.sam.models import Sam, build_empty_sam, build_sam

HQ_PARTS = {"hf_token", "hf_mlp", "compress_vit_feat", "embedding_encoder", "embedding_maskfeature"}


def _decoder_parts(sam: Sam) -> set[str]:
    return {name.split(".")[0] for name in sam.mask_decoder.state_dict()}


def test_plain_sam_has_no_hq_head_and_hq_sam_has() -> None:
    plain, hq = build_sam("vit_tiny"), build_sam("vit_tiny", hq=True)
    assert not plain.training
    assert not hq.training
    assert _decoder_parts(hq) - _decoder_parts(plain) == HQ_PARTS
    assert not _decoder_parts(plain) & HQ_PARTS
    only_hq = set(hq.state_dict()) - set(plain.state_dict())
    assert len(only_hq) == 25
    assert set(plain.state_dict()) < set(hq.state_dict())


@pytest.mark.parametrize("hq", [False, True])
def test_the_classifier_is_left_out(hq: bool) -> None:
    names = set(build_sam("vit_tiny", hq=hq).state_dict())
    assert not [name for name in names if name.startswith("image_encoder.norm_head")]
    assert not [name for name in names if name.startswith("image_encoder.head")]


@pytest.mark.parametrize("hq", [False, True])
@pytest.mark.parametrize("model", ["vit_b", "vit_tiny"])
def test_empty_network_lacks_only_what_weights_bring(model: str, hq: bool) -> None:
    sam = build_empty_sam(model, hq=hq)
    brought = sam.state_dict()
    assert all(value.is_meta for value in brought.values()) == (model != "vit_tiny")
    assert not sam.training
    others = {name: value for name, value in sam.named_buffers() if name not in brought}
    whole = build_sam("vit_tiny", hq=hq)
    for name in ("pixel_mean", "pixel_std"):
        assert torch.equal(others[name], whole.get_buffer(name))
    assert not any(value.is_meta for value in others.values())


def test_unknown_network() -> None:
    with pytest.raises(ConfigError, match=r"unknown SAM 'vit_giant'; wanted one of: .*vit_tiny"):
        build_sam("vit_giant")


@pytest.mark.weights
def test_shipped_weights_have_exactly_the_tensors_of_the_plain_network() -> None:
    state = build_sam("vit_tiny").state_dict()
    shipped = load_weights("sam-vit-tiny")
    assert {name: tensor.shape for name, tensor in shipped.items()} == {
        name: tensor.shape for name, tensor in state.items()
    }


def test_import_and_build_warn_and_print_nothing() -> None:
    code = "from vots_hqtrack.sam.models import build_sam; build_sam('vit_tiny')"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
