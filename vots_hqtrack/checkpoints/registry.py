"""Model registry: the weights of other projects that presets can use, and where to get them.

The name of an entry is also the kind that ``hqtrack weights import --as`` takes, and the name under
which presets ask for the weights. Nothing here imports torch or opens a connection.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vots_hqtrack.environment import HUB

VMOS_URL = "https://drive.google.com/drive/folders/1Hh10hLtz3YL_zE3PfBCiLB0tvj3Yvv26"
SAM2 = "sam2.1-hiera-"
"""Prefix of the names of SAM 2's weights; the model size follows."""


@dataclass(frozen=True, slots=True)
class KnownWeights:
    """One file that its authors publish.

    Attributes:
        name: Name in presets and options; also the kind.
        licence: Terms of use, as far as its authors state them.
        description: The network and its authors, in a sentence.
        num_bytes: Approximate file size; 0 if unknown.
        url: Address of the file; empty if no program can fetch it.
        manual: Steps for a person where there is no ``url``.
        sha256: Hash of the file or its first digits; may be empty.
    """

    name: str
    licence: str
    description: str
    num_bytes: int = 0
    url: str = ""
    manual: str = ""
    sha256: str = ""

    def address(self, hub: str) -> str:
        """Return the file's address, with the hub replaced by the user's mirror.

        Args:
            hub: Address of the Hugging Face hub or of a mirror.

        Example:
            >>> KNOWN["sam-hq-vit-b"].address("http://mirror")
            'http://mirror/lkeab/hq-sam/resolve/main/sam_hq_vit_b.pth'
        """
        return f"{hub}{self.url.removeprefix(HUB)}" if self.url.startswith(HUB) else self.url

    def how_to_get(self) -> str:
        """Return one sentence on how a user gets these weights."""
        if not self.url:
            return self.manual
        size = f" (about {self.num_bytes / 1e6:.0f} MB)" if self.num_bytes else ""
        return f"get them with: hqtrack weights fetch {self.name}{size}"


_HQ_SAM = f"{HUB}/lkeab/hq-sam/resolve/main/sam_hq_vit"
_SAM = "https://dl.fbaipublicfiles.com/segment_anything/sam_vit"
_SAM_SIZES = (
    ("sam-hq-vit-h", "HQ-SAM", f"{_HQ_SAM}_h.pth", 2_571_000_000),
    ("sam-hq-vit-l", "HQ-SAM", f"{_HQ_SAM}_l.pth", 1_254_000_000),
    ("sam-hq-vit-b", "HQ-SAM", f"{_HQ_SAM}_b.pth", 379_000_000),
    ("sam-hq-vit-tiny", "HQ-SAM", f"{_HQ_SAM}_tiny.pth", 42_000_000),
    ("sam-vit-h", "Segment Anything", f"{_SAM}_h_4b8939.pth", 2_564_000_000),
    ("sam-vit-l", "Segment Anything", f"{_SAM}_l_0b3195.pth", 1_249_000_000),
    ("sam-vit-b", "Segment Anything", f"{_SAM}_b_01ec64.pth", 375_000_000),
)
_SAM2_SIZES = (
    ("tiny", 156_000_000),
    ("small", 184_000_000),
    ("base-plus", 323_000_000),
    ("large", 898_000_000),
)


def _trained(preset: str, description: str) -> KnownWeights:
    return KnownWeights(
        name=preset,
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
        licence="not stated beside the file; the authors' code is MIT",
        description="The released VMOS of HQTrack with InternImage-T, its encoder included.",
        manual=(
            "Google Drive gives this file to a browser only: open "
            f"{VMOS_URL} (or Baidu: https://pan.baidu.com/s/120iNn5OEVrqDz0SKjEooig, "
            "password vots), download save_step_42000.pth, then run: "
            "hqtrack weights import save_step_42000.pth --as vmos-internimage-t"
        ),
    ),
    *(
        KnownWeights(
            name=name,
            licence="Apache-2.0",
            description=f"{model} with the image encoder ViT-{name.split('-vit-')[1]}, "
            "from its authors.",
            num_bytes=num_bytes,
            url=url,
        )
        for name, model, url, num_bytes in _SAM_SIZES
    ),
    *(
        KnownWeights(
            name=f"{SAM2}{size}",
            licence="Apache-2.0",
            description=f"SAM 2.1 with the image encoder Hiera-{size}, as transformers stores it.",
            num_bytes=num_bytes,
            url=f"{HUB}/facebook/sam2.1-hiera-{size}/resolve/main/model.safetensors",
        )
        for size, num_bytes in _SAM2_SIZES
    ),
    KnownWeights(
        name="resnet50",
        licence="BSD-3-Clause (torchvision); trained on ImageNet (own terms: research)",
        description="ResNet-50 classifier under the key names that torchvision and timm share.",
        num_bytes=103_000_000,
        url="https://download.pytorch.org/models/resnet50-0676ba61.pth",
        sha256="0676ba61",  # PyTorch's file names carry the first digits of the hash
    ),
    KnownWeights(
        name="internimage-t-imagenet",
        licence="MIT (InternImage); trained on ImageNet (own terms: research)",
        description="InternImage-T classifier of ImageNet, from which the encoder is trained.",
        url=f"{HUB}/OpenGVLab/InternImage/resolve/main/internimage_t_1k_224.pth",
    ),
    _trained("vmos-r50", "VMOS with ResNet-50 as its encoder (Table 5 of the paper)."),
    _trained("deaot-r50", "DeAOT with ResNet-50, the baseline of the paper's Table 2."),
)

KNOWN: Mapping[str, KnownWeights] = {entry.name: entry for entry in _ALL}
"""Known weights by name."""
