"""The three gated attentions of a block, and their output layers (paper section 2.2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor, nn

from vots_hqtrack.ops import global_attention, local_attention


def memory_attention(query: Tensor, keys: Sequence[Tensor], values: Sequence[Tensor]) -> Tensor:
    """Read several memory frames at once: one softmax over the tokens of all of them.

    Args:
        query: ``(B, H', W', A)`` float.
        keys: One ``(B, H', W', A)`` float for each memory frame.
        values: One ``(B, H', W', D)`` float for each memory frame.

    Returns:
        ``(B, H', W', D)`` float.

    Raises:
        ShapeError: No memory frame is given, or the shapes do not fit each other.
    """
    readout = global_attention(
        query.flatten(1, 2),
        [key.flatten(1, 2) for key in keys],
        [value.flatten(1, 2) for value in values],
    )
    return readout.reshape(*query.shape[:-1], -1)


class WindowAttention(nn.Module):
    """Attention to a window of an earlier frame, with a learnt bias for each displacement.

    The bias comes from the unscaled query, as in the released model.

    Args:
        dim_key: Channels ``A`` of queries and keys.
        radius: Reach of the window in tokens; 7 gives 15 x 15.
    """

    def __init__(self, dim_key: int, radius: int) -> None:
        super().__init__()
        self.radius = radius
        self.relative_bias = nn.Linear(dim_key, (2 * radius + 1) ** 2)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Read the window around every token.

        Args:
            query: ``(B, H', W', A)`` float.
            key: ``(B, H', W', A)`` float, of the earlier frame.
            value: ``(B, H', W', D)`` float, of the earlier frame.

        Returns:
            ``(B, H', W', D)`` float.
        """
        bias = self.relative_bias(query)
        scale = query.shape[-1] ** -0.5
        return local_attention(query, key, value, bias, radius=self.radius, scale=scale)


class GatedOutput(nn.Module):
    """Output layers of each attention: a depth-wise 5 x 5 convolution, then a projection.

    Args:
        dim_in: Channels of the gated readout.
        dim_out: Channels of the result.
    """

    def __init__(self, dim_in: int, dim_out: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(dim_in, dim_in, 5, padding=2, groups=dim_in, bias=False)
        self.projection = nn.Linear(dim_in, dim_out)

    def forward(self, readout: Tensor) -> Tensor:
        """Map a gated readout ``(B, H', W', dim_in)`` to ``(B, H', W', dim_out)``."""
        mixed = self.depthwise(readout.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        projected: Tensor = self.projection(mixed)
        return projected


class GatedSelfAttention(nn.Module):
    """Self attention of one frame over its visual and identity features together.

    Args:
        width: Channels ``C`` of each of the two streams.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query_key = nn.Linear(2 * width, width // 2)
        self.visual_value = nn.Linear(width, 2 * width)
        self.identity_value = nn.Linear(width, 2 * width)
        self.visual_gate = nn.Linear(width, 2 * width)
        self.identity_gate = nn.Linear(width, 2 * width)
        self.output = GatedOutput(4 * width, 2 * width)

    def forward(self, visual: Tensor, identity: Tensor) -> Tensor:
        """Attend within the frame.

        Args:
            visual: ``(B, H', W', C)`` float, normalised.
            identity: ``(B, H', W', C)`` float, normalised.

        Returns:
            ``(B, H', W', 2C)`` float: the visual half, then the identity half.
        """
        query = self.query_key(torch.cat([visual, identity], dim=-1))
        value = torch.cat([self.visual_value(visual), self.identity_value(identity)], dim=-1)
        gate = torch.cat([self.visual_gate(visual), self.identity_gate(identity)], dim=-1)
        readout = memory_attention(query, [query], [F.silu(value)])
        attended: Tensor = self.output(readout * F.silu(gate))
        return attended
