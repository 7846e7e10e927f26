"""Mask prompts -> what SAM adds to the cells of the image, prepared for inference."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - PyTorch's own spelling
from torch import Tensor, nn

from vots_hqtrack.sam.channels_last import centred, gelu_


class DensePrompts(nn.Module):
    """The mask part of the package's ``PromptEncoder``, and the sum with the image's cells.

    Two strided convolutions with a norm each make 16 channels of a mask, in float32: they are few.
    The norms' means are taken out of the convolutions' weights. The last product, which widens to
    the cells' channels, adds the cells in the same pass.

    Args:
        prompt_encoder: The package's, in evaluation mode; it is not changed.
        dtype: Format of the cells.
    """

    def __init__(self, prompt_encoder: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        source: Any = prompt_encoder
        layers = source.mask_downscaling
        self.steps = nn.ModuleList(_Step(layers[place], layers[place + 1]) for place in (0, 3))
        self.widen = _constant(layers[6].weight.flatten(1).t().to(dtype))
        self.bias = _constant(layers[6].bias.to(dtype))
        self.without = _constant(source.no_mask_embed.weight.to(dtype))

    def forward(self, cells: Tensor, masks: Tensor | None, num_objects: int) -> Tensor:
        """Add each object's mask prompt to the cells of the image.

        Args:
            cells: ``(L, C)`` float, row by row.
            masks: ``(N, 1, mask_side, mask_side)`` float32 logits; None adds what SAM adds without
                a mask.
            num_objects: N.

        Returns:
            ``(N, L, C)`` of the cells' dtype.
        """
        if masks is None:
            return (cells + self.without).expand(num_objects, -1, -1)
        maps = masks
        for step in self.steps:
            maps = step(maps)
        hidden = maps.flatten(2).transpose(1, 2).to(cells.dtype)
        shape = num_objects, -1, -1
        return torch.baddbmm((cells + self.bias).expand(shape), hidden, self.widen.expand(shape))


class _Step(nn.Module):
    """A strided convolution, the norm of its channels, GELU.

    Args:
        conv: Its means over the output channels are taken out, so the norm need not.
        norm: The package's ``LayerNorm2d``.
    """

    def __init__(self, conv: nn.Module, norm: nn.Module) -> None:
        super().__init__()
        parts: Any = centred(conv)
        layer: Any = norm
        self.weight, self.bias = parts.weight, parts.bias
        self.factor = _constant(layer.weight[:, None, None])
        self.shift = _constant(layer.bias[:, None, None])
        self.stride = parts.stride
        self.eps = float(layer.eps)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, C, H', W')`` to ``(N, C', H'/2, W'/2)``, float32."""
        x = F.conv2d(x, self.weight, self.bias, self.stride)
        scale = torch.rsqrt((x * x).sum(1, keepdim=True) / x.shape[1] + self.eps)
        return gelu_(torch.addcmul(self.shift, x.mul_(scale), self.factor))


def _constant(values: Tensor) -> nn.Parameter:
    return nn.Parameter(values.detach().clone(), requires_grad=False)
