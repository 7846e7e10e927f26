"""Local gated attention: the short-term memory (paper section 2.1)."""

from __future__ import annotations

from torch import Tensor, nn

from vots_hqtrack.ops import local_attention
from vots_hqtrack.types import Size


class WindowAttention(nn.Module):
    """Attention to a window of an earlier frame, with a learnt bias for each displacement.

    The bias comes from the unscaled query, as in the released model.

    Args:
        dim_key: Channels ``A`` of queries and keys.
        radius: Reach of the window in cells; 7 gives 15 x 15.
    """

    def __init__(self, dim_key: int, radius: int) -> None:
        super().__init__()
        self.radius = radius
        self.relative_bias = nn.Linear(dim_key, (2 * radius + 1) ** 2)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, size: Size) -> Tensor:
        """Read the window around every token.

        Args:
            query: ``(B, L, A)`` float.
            key: ``(B, L, A)`` float, of the earlier frame.
            value: ``(B, L, D)`` float, of the earlier frame.
            size: ``(H', W')`` with ``L = H' * W'``.

        Returns:
            ``(B, L, D)`` float.
        """
        readout = local_attention(
            query.unflatten(1, size),
            key.unflatten(1, size),
            value.unflatten(1, size),
            self.relative_bias(query).unflatten(1, size),
            radius=self.radius,
            scale=query.shape[-1] ** -0.5,
        )
        return readout.flatten(1, 2)
