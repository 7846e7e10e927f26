"""Layers of SAM's image encoder and mask decoder, for inference, and the reader of their weights.

Maps are ``(N, C, H', W')`` in channels-last memory, which makes tokens of them without a copy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor, nn

from vots_hqtrack.checkpoints.load import require_fit

_Layer = TypeVar("_Layer", bound=nn.Module)


class SamWeights:
    """Weights of a SAM network, given out layer by layer in float32.

    A tensor that is missing or has another shape is left as the layer has it; call
    :meth:`require_all` when the network is complete.

    Args:
        tensors: Tensors by the keys of a whole ``Sam``; None for random weights.
        source: Name of the tensors in errors.
    """

    def __init__(self, tensors: Mapping[str, Tensor] | None, *, source: str = "") -> None:
        self._tensors = tensors
        self._source = source
        self._prefix = ""
        self._wanted: dict[str, Tensor] = {}

    def part(self, name: str) -> SamWeights:
        """Return the weights of a part of the network."""
        part = SamWeights(self._tensors, source=self._source)
        part._prefix, part._wanted = f"{self._prefix}{name}.", self._wanted
        return part

    def load(self, name: str, layer: _Layer) -> _Layer:
        """Fill a layer, which is given back frozen and in evaluation mode."""
        state = {
            key: self.tensor(f"{name}.{key}", value) for key, value in layer.state_dict().items()
        }
        layer.load_state_dict(state)
        layer.eval().requires_grad_(False)
        return layer

    def tensor(self, name: str, start: Tensor) -> Tensor:
        """Return a tensor of the shape and dtype of ``start``, its value with random weights."""
        key = self._prefix + name
        self._wanted[key] = start
        found = None if self._tensors is None else self._tensors.get(key)
        if found is None or found.shape != start.shape:
            return start
        return found.detach().to(start.dtype)

    def require_all(self, model: str) -> None:
        """Demand that every layer found its tensors, and every tensor its layer.

        Args:
            model: Name of the network in errors.

        Raises:
            WeightsError: Keys are missing, unexpected, or of another shape.
        """
        if self._tensors is not None:
            require_fit(self._wanted, self._tensors, source=self._source, model=model)


class ChannelNorm(nn.LayerNorm):
    """Normalises maps over their channels."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, C, H', W')`` to the same shape."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Gelu(nn.Module):
    """:func:`gelu` as a layer."""

    def forward(self, x: Tensor) -> Tensor:
        """Map maps or tokens to the same shape."""
        return gelu(x)


def gelu(x: Tensor) -> Tensor:
    """Apply GELU to maps or tokens; in place where no gradient is wanted.

    New memory for a map costs as much as the operation. The vectorised GELU needs a contiguous
    tensor; on channels-last maps it is twice as slow, so it is applied to the view with the
    channels last.
    """
    if torch.is_grad_enabled():
        return F.gelu(x)
    channels_last = x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)
    torch.ops.aten.gelu_(x.permute(0, 2, 3, 1) if channels_last else x)
    return x


def frozen(values: Tensor) -> nn.Parameter:
    """Return a copy of a tensor as a parameter without gradient."""
    return nn.Parameter(values.detach().clone(), requires_grad=False)
