"""Weights of other projects that the package can use but does not carry: where each one is.

The name of an entry is also the kind that ``hqtrack weights import --as`` takes, and the name under
which presets ask for the weights. Nothing here imports torch, and nothing connects to anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vots_hqtrack.environment import HUB

VMOS_PLACE = "https://drive.google.com/drive/folders/1Hh10hLtz3YL_zE3PfBCiLB0tvj3Yvv26"
_SAM_HOST = "https://dl.fbaipublicfiles.com/segment_anything"
_APACHE = "Apache-2.0"
SAM2 = "sam2.1-hiera-"
"""How the names of SAM 2's weights begin; its size follows."""


@dataclass(frozen=True, slots=True)
class KnownWeights:
    """One file that its authors publish.

    Attributes:
        name: What presets and options call it; also its kind.
        file_name: What its authors call the file.
        licence: Under which terms they publish it, as far as they say.
        description: What it is, in a sentence.
        num_bytes: About how large the file is; 0 where nobody says.
        url: Where it can be fetched, or empty.
        manual: What a person has to do where no program can fetch it, or empty.
        sha256: The first digits of its hash, all of them or as many as are known; may be empty.
    """

    name: str
    file_name: str
    licence: str
    description: str
    num_bytes: int = 0
    url: str = ""
    manual: str = ""
    sha256: str = ""

    def address(self, hub: str) -> str:
        """Return the file's address, with the user's mirror in the place of the hub.

        Args:
            hub: Address of the Hugging Face hub or of a mirror.

        Example:
            >>> KNOWN["sam-hq-vit-b"].address("http://mirror")
            'http://mirror/lkeab/hq-sam/resolve/main/sam_hq_vit_b.pth'
        """
        return f"{hub}{self.url.removeprefix(HUB)}" if self.url.startswith(HUB) else self.url

    def how_to_get(self) -> str:
        """Say how a user comes by these weights, in one sentence."""
        if not self.url:
            return self.manual
        size = f" (about {self.num_bytes / 1e6:.0f} MB)" if self.num_bytes else ""
        return f"get them with: hqtrack weights fetch {self.name}{size}"


def _hq(size: str, num_bytes: int) -> KnownWeights:
    return KnownWeights(
        name=f"sam-hq-vit-{size}",
        file_name=f"sam_hq_vit_{size}.pth",
        licence=_APACHE,
        description=f"HQ-SAM with the image encoder ViT-{size}, from its authors.",
        num_bytes=num_bytes,
        url=f"{HUB}/lkeab/hq-sam/resolve/main/sam_hq_vit_{size}.pth",
    )


def _sam(size: str, digits: str, num_bytes: int) -> KnownWeights:
    return KnownWeights(
        name=f"sam-vit-{size}",
        file_name=f"sam_vit_{size}_{digits}.pth",
        licence=_APACHE,
        description=f"Segment Anything with the image encoder ViT-{size}, from its authors.",
        num_bytes=num_bytes,
        url=f"{_SAM_HOST}/sam_vit_{size}_{digits}.pth",
    )


def _sam2(size: str, num_bytes: int) -> KnownWeights:
    return KnownWeights(
        name=f"{SAM2}{size}",
        file_name="model.safetensors",
        licence=_APACHE,
        description=f"SAM 2.1 with the image encoder Hiera-{size}, as transformers stores it.",
        num_bytes=num_bytes,
        url=f"{HUB}/facebook/sam2.1-hiera-{size}/resolve/main/model.safetensors",
    )


def _trained(preset: str, description: str) -> KnownWeights:
    return KnownWeights(
        name=preset,
        file_name="what a training run leaves",
        licence="that of the data it was trained on",
        description=description,
        manual=(
            "nobody publishes these weights, so train them: "
            "hqtrack weights fetch resnet50; hqtrack train paper-stage1 --data DATA --out run "
            f"--set model.preset={preset} --set model.encoder_weights=resnet50 "
            "--set regularisation.encoder_drop_path=0; then paper-stage2 "
            "with --set model.weights=run/last.safetensors, as docs/training.md says. Give the "
            "file that it leaves with --weights, or once for all: "
            f"hqtrack weights import FILE --as {preset}"
        ),
    )


_ALL = (
    KnownWeights(
        name="vmos-internimage-t",
        file_name="save_step_42000.pth",
        licence="not stated beside the file; the authors' code is MIT",
        description="The released VMOS of HQTrack with InternImage-T, its encoder included.",
        manual=(
            "Google Drive gives this file to a browser only: open "
            f"{VMOS_PLACE} (or Baidu: https://pan.baidu.com/s/120iNn5OEVrqDz0SKjEooig, "
            "password vots), download save_step_42000.pth, then run: "
            "hqtrack weights import save_step_42000.pth --as vmos-internimage-t"
        ),
    ),
    _hq("h", 2_571_000_000),
    _hq("l", 1_254_000_000),
    _hq("b", 379_000_000),
    _hq("tiny", 42_000_000),
    _sam("h", "4b8939", 2_564_000_000),
    _sam("l", "0b3195", 1_249_000_000),
    _sam("b", "01ec64", 375_000_000),
    _sam2("tiny", 156_000_000),
    _sam2("small", 184_000_000),
    _sam2("base-plus", 323_000_000),
    _sam2("large", 898_000_000),
    KnownWeights(
        name="resnet50",
        file_name="resnet50-0676ba61.pth",
        licence="BSD-3-Clause (torchvision); trained on ImageNet, whose own terms are for research",
        description="ResNet-50 classifier under the key names that torchvision and timm share.",
        num_bytes=103_000_000,
        url="https://download.pytorch.org/models/resnet50-0676ba61.pth",
        sha256="0676ba61",  # PyTorch's file names carry the first digits of the hash
    ),
    KnownWeights(
        name="internimage-t-imagenet",
        file_name="internimage_t_1k_224.pth",
        licence="MIT (InternImage); trained on ImageNet, whose own terms are for research",
        description="InternImage-T classifier of ImageNet, where training of the encoder begins.",
        url=f"{HUB}/OpenGVLab/InternImage/resolve/main/internimage_t_1k_224.pth",
    ),
    _trained("vmos-r50", "VMOS with ResNet-50 as its encoder (Table 5 of the paper)."),
    _trained("deaot-r50", "DeAOT with ResNet-50, the baseline of the paper's Table 2."),
)

KNOWN: Mapping[str, KnownWeights] = {entry.name: entry for entry in _ALL}
"""Known weights by name."""
