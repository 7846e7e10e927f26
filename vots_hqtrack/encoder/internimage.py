"""InternImage-T as VMOS's encoder (paper section 2.2), built of deformable convolutions.

The released model keeps the last of the four stages at stride 16 and at the third one's width,
where InternImage itself halves the map and doubles the width once more. Maps are channels-last
inside.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vots_hqtrack.encoder import register_encoder
from vots_hqtrack.encoder.dcnv3 import NORM_EPS, DeformableConv
from vots_hqtrack.errors import ShapeError
from vots_hqtrack.types import FrameFeatures

MLP_RATIO = 4


class ChannelNorm(nn.LayerNorm):
    """Normalises a channels-first map over its channels, and makes it channels-last."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, H', W')`` to ``(B, H', W', C)``."""
        return super().forward(x.permute(0, 2, 3, 1))


class Stem(nn.Module):
    """Image to stride 4 by two convolutions.

    Args:
        width: Channels of the result; there are half as many between the convolutions.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, width // 2, 3, stride=2, padding=1)
        self.first_norm = ChannelNorm(width // 2)
        self.act = nn.GELU()
        self.second = nn.Conv2d(width // 2, width, 3, stride=2, padding=1)
        self.second_norm = ChannelNorm(width)

    def forward(self, image: Tensor) -> Tensor:
        """Map ``(B, 3, H, W)`` to ``(B, H/4, W/4, width)``, sizes rounded up."""
        half = self.act(self.first_norm(self.first(image)))
        s4: Tensor = self.second_norm(self.second(half.permute(0, 3, 1, 2)))
        return s4


class Downsample(nn.Module):
    """From one stage to the next: half the size, another width.

    Args:
        dim_in: Channels of the finer stage.
        dim_out: Channels of the coarser one.
    """

    def __init__(self, dim_in: int, dim_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim_in, dim_out, 3, stride=2, padding=1, bias=False)
        self.norm = ChannelNorm(dim_out)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, H', W', dim_in)`` to ``(B, H'/2, W'/2, dim_out)``, sizes rounded up."""
        halved: Tensor = self.norm(self.conv(x.permute(0, 3, 1, 2)))
        return halved


class Block(nn.Module):
    """A deformable convolution and an MLP, each with pre-norm and residual.

    Args:
        width: Channels.
        groups: Groups of the deformable convolution.
    """

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.conv_norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.conv = DeformableConv(width, groups)
        self.conv_scale = nn.Parameter(torch.ones(width))
        self.mlp_norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.mlp = nn.Sequential(
            nn.Linear(width, MLP_RATIO * width), nn.GELU(), nn.Linear(MLP_RATIO * width, width)
        )
        self.mlp_scale = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, H', W', width)`` to the same shape."""
        x = torch.addcmul(x, self.conv_scale, self.conv(self.conv_norm(x)))
        return torch.addcmul(x, self.mlp_scale, self.mlp(self.mlp_norm(x)))


class Stage(nn.Module):
    """One InternImage stage: blocks followed by LayerNorm.

    Args:
        width: Channels.
        depth: Number of blocks.
        groups: Groups of the deformable convolutions.
    """

    def __init__(self, width: int, depth: int, groups: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(Block(width, groups) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, H', W', width)`` to the same shape."""
        normed: Tensor = self.norm(self.blocks(x))
        return normed


class InternImage(nn.Module):
    """Four stages at strides 4, 8, 16 and again 16.

    Args:
        widths: Channels of the first three stages; the fourth has the third's.
        depths: Blocks of the four stages.
        groups: Groups of their deformable convolutions.
    """

    def __init__(
        self, widths: tuple[int, int, int], depths: Sequence[int], groups: Sequence[int]
    ) -> None:
        super().__init__()
        self.dims = widths
        self.stem = Stem(widths[0])
        stage_widths = (*widths, widths[-1])
        self.levels = nn.ModuleList(
            Stage(*sizes) for sizes in zip(stage_widths, depths, groups, strict=True)
        )
        self.merges = nn.ModuleList([Downsample(*widths[:2]), Downsample(*widths[1:])])

    def stages_s16(self) -> list[Stage]:
        """Return the two stages at stride 16."""
        return [stage for stage in list(self.levels)[2:] if isinstance(stage, Stage)]

    def forward(self, image: Tensor) -> FrameFeatures:
        """Encode images.

        Args:
            image: ``(B, 3, H, W)`` float, normalised RGB of any size.

        Returns:
            Maps at strides 4, 8 and 16, each size rounded up; normalised over their channels.

        Raises:
            ShapeError: The tensor is another one.
        """
        if image.ndim != 4 or image.shape[1] != 3 or not image.is_floating_point():
            got = f"{str(image.dtype).removeprefix('torch.')} {tuple(image.shape)}"
            raise ShapeError(f"InternImage wants a float image (B, 3, H, W), got {got}")
        s4 = self.levels[0](self.stem(image))
        s8 = self.levels[1](self.merges[0](s4))
        s16 = self.levels[3](self.levels[2](self.merges[1](s8)))
        return FrameFeatures(*(maps.permute(0, 3, 1, 2) for maps in (s4, s8, s16)))


@register_encoder("internimage-t", channels=(64, 128, 256))
def build_internimage_t() -> InternImage:
    """Build the released model's encoder, with fresh weights."""
    return InternImage(widths=(64, 128, 256), depths=(4, 4, 18, 4), groups=(4, 8, 16, 32))
