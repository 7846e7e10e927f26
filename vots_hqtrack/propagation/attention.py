"""Global gated attention: the long-term memory and the self attention (paper section 2.1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor, nn

from vots_hqtrack.ops import global_attention
from vots_hqtrack.ops.attention import global_attention_reference
from vots_hqtrack.types import Size


def memory_attention(query: Tensor, keys: Sequence[Tensor], values: Sequence[Tensor]) -> Tensor:
    """Read several memory frames at once: softmax over all their tokens together.

    Args:
        query: ``(B, L, A)`` float.
        keys: One ``(B, L_t, A)`` for each memory frame.
        values: One ``(B, L_t, D)`` for each memory frame.

    Returns:
        ``(B, L, D)`` float.
    """
    attend = global_attention_reference if torch.is_grad_enabled() else global_attention
    return attend(query, keys, values)


class GatedOutput(nn.Module):
    """What follows each of the three attentions: a depth-wise 5 x 5 convolution, then a projection.

    Args:
        dim_in: Channels of the gated readout.
        dim_out: Channels of the result.
    """

    def __init__(self, dim_in: int, dim_out: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(dim_in, dim_in, 5, padding=2, groups=dim_in, bias=False)
        self.projection = nn.Linear(dim_in, dim_out)

    def forward(self, readout: Tensor, size: Size) -> Tensor:
        """Mix neighbours and project.

        Args:
            readout: ``(B, L, dim_in)`` float, gated, ``L = H' * W'``.
            size: ``(H', W')``.

        Returns:
            ``(B, L, dim_out)`` float.
        """
        cells = readout.unflatten(1, size).permute(0, 3, 1, 2)
        mixed = self.depthwise(cells).permute(0, 2, 3, 1).flatten(1, 2)
        projected: Tensor = self.projection(mixed)
        return projected


class GatedSelfAttention(nn.Module):
    """Self attention of one frame over its visual and identity tokens together.

    Args:
        width: Channels ``C`` of each of the two token streams.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query_key = nn.Linear(2 * width, width // 2)
        self.visual_value = nn.Linear(width, 2 * width)
        self.identity_value = nn.Linear(width, 2 * width)
        self.visual_gate = nn.Linear(width, 2 * width)
        self.identity_gate = nn.Linear(width, 2 * width)
        self.output = GatedOutput(4 * width, 2 * width)

    def forward(self, visual: Tensor, identity: Tensor, size: Size) -> Tensor:
        """Attend within the frame.

        Args:
            visual: ``(B, L, C)`` float, normalised.
            identity: ``(B, L, C)`` float, normalised.
            size: ``(H', W')`` with ``L = H' * W'``.

        Returns:
            ``(B, L, 2C)`` float: the visual half, then the identity half.
        """
        query = self.query_key(torch.cat([visual, identity], dim=-1))
        value = torch.cat([self.visual_value(visual), self.identity_value(identity)], dim=-1)
        gate = torch.cat([self.visual_gate(visual), self.identity_gate(identity)], dim=-1)
        readout = memory_attention(query, [query], [F.silu(value)])
        attended: Tensor = self.output(readout * F.silu(gate), size)
        return attended
