"""Attention to all tokens of several frames: reference, and blocks in a fixed workspace.

Used by the long-term memory and the self attention (paper section 2.2). There is one head; keys are
narrow and values wide, for which fused attention kernels are not made. All versions compute, over
the tokens of all frames together,

    softmax_j(q . k_j / sqrt(A)) @ v_j
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor

from vots_hqtrack.devices import host_can_read
from vots_hqtrack.errors import ShapeError

QUERY_BLOCK = 512
KEY_BLOCK = 2048
"""Rows and columns of the block of scores that exists at a time: 4 MiB, so that what one matmul
writes is still in the cache for the next one. Each key and value is copied once for each block of
queries, hence no smaller ones."""
DEVICE_BLOCK = 8192
"""Rows and columns on other devices than the CPU, where starting a matmul costs more than memory
does: 256 MiB of scores."""
TAME = 60.0
"""Scores, in bits, between which and their negative all powers of 2 and their sums have their full
precision in float32 and bfloat16. If none can be beyond, none has to be looked at."""
SLACK = 8.0
"""Bits by which a score may exceed the largest one seen before, before sums are rescaled. Weights
then stay below 256, far from what any dtype holds."""


def global_attention_reference(
    query: Tensor, keys: Sequence[Tensor], values: Sequence[Tensor]
) -> Tensor:
    """Attention by one matrix of scores; has gradients.

    Args:
        query: ``(B, L, A)`` float.
        keys: One ``(B, L_t, A)`` float for each frame, of the query's dtype.
        values: One ``(B, L_t, D)`` float for each frame.

    Returns:
        ``(B, L, D)`` in the values' dtype.

    Raises:
        ShapeError: No frame is given, or the shapes do not fit each other.
    """
    check_attention(query, keys, values)
    scaled = query * query.shape[-1] ** -0.5
    scores = torch.cat([scaled @ key.transpose(1, 2) for key in keys], dim=-1)
    weights = scores.softmax(dim=-1).to(values[0].dtype)
    lengths = [key.shape[1] for key in keys]
    readout: Tensor = sum(
        weight @ value for weight, value in zip(weights.split(lengths, dim=-1), values, strict=True)
    )
    return readout


@torch.no_grad()
def global_attention(query: Tensor, keys: Sequence[Tensor], values: Sequence[Tensor]) -> Tensor:
    """Attention in blocks of queries and keys with running sums, without gradients.

    The dtypes of keys and values decide how much is rounded: scores are computed in that of the
    keys, weights and their sums in float32, products with the values in that of the values, and
    what these give is summed in float32 from block to block.

    Arguments and errors are those of :func:`global_attention_reference`.

    Returns:
        ``(B, L, D)`` in float32, or in float64 where the keys are.
    """
    check_attention(query, keys, values)
    batch = len(query)
    if batch == 1:
        return _attend(query, keys, values)
    # One after the other, or the blocks of all of them together would leave the caches, and on
    # other devices take gigabytes.
    samples = [
        _attend(query[i : i + 1], [x[i : i + 1] for x in keys], [x[i : i + 1] for x in values])
        for i in range(batch)
    ]
    return torch.cat(samples)


def _attend(query: Tensor, keys: Sequence[Tensor], values: Sequence[Tensor]) -> Tensor:
    batch, length, _ = query.shape
    on_cpu = query.device.type == "cpu"
    # Powers of 2 cost half of those of e, and a softmax does not care which.
    to_powers = math.log2(math.e) * float(query.shape[-1] ** -0.5)
    scaled = (query * to_powers).to(keys[0].dtype)
    precise = torch.promote_types(scaled.dtype, torch.float32)
    readout = scaled.new_empty(batch, length, values[0].shape[-1], dtype=precise)
    max_rows = QUERY_BLOCK if on_cpu else DEVICE_BLOCK
    blocks = list(_blocks(keys, values, KEY_BLOCK if on_cpu else DEVICE_BLOCK))
    longest = max(value.shape[1] for _, value in blocks)
    workspace = _Workspace(scaled, values[0], min(length, max_rows), longest)
    is_tame = host_can_read(scaled) and _is_tame(scaled, keys, values[0].dtype)
    with torch.autocast(query.device.type, enabled=False):
        for start in range(0, length, max_rows):
            rows = slice(start, min(start + max_rows, length))
            readout[:, rows] = workspace.attend(scaled[:, rows], blocks, is_tame=is_tame)
    return readout


def _blocks(
    keys: Sequence[Tensor], values: Sequence[Tensor], max_columns: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Cut frames into blocks of about equal length: keys ``(B, A, c)``, values ``(B, c, D)``."""
    for key, value in zip(keys, values, strict=True):
        pieces = -(-key.shape[1] // max_columns)
        for key_block, value_block in zip(
            key.chunk(pieces, dim=1), value.chunk(pieces, dim=1), strict=True
        ):
            # A 16-bit matmul would transpose them again for each block of queries.
            yield key_block.transpose(1, 2).contiguous(), value_block


def _is_tame(query: Tensor, keys: Sequence[Tensor], dtype: torch.dtype) -> bool:
    """Return whether no score can be so large that its power of 2 gets out of range.

    A score is at most the product of the lengths of query and key. Float16 has no range to spare.
    """
    if torch.float16 in (query.dtype, dtype):
        return False
    longest = max(float(key.float().norm(dim=-1).amax()) for key in keys)
    return float(query.float().norm(dim=-1).amax()) * longest <= TAME


class _Workspace:
    """Buffers for one block of scores and for the running sums of one block of queries.

    Args:
        query: ``(B, L, A)`` float; gives shape and dtype of scores.
        value: ``(B, L_t, D)`` float; gives shape and dtype of readouts.
        rows: Maximum number of queries of a block.
        longest: Maximum number of tokens of a block.
    """

    def __init__(self, query: Tensor, value: Tensor, rows: int, longest: int) -> None:
        batch = query.shape[0]
        precise = torch.promote_types(query.dtype, torch.float32)
        self._scores = query.new_empty(batch * rows * longest, dtype=precise)
        self._narrow_scores = _narrow_twin(self._scores, query.dtype)
        self._weights = _narrow_twin(self._scores, value.dtype)
        self._sums = value.new_empty(batch * rows * value.shape[-1], dtype=precise)
        self._partial = _narrow_twin(self._sums, value.dtype)

    def attend(
        self, rows: Tensor, blocks: Sequence[tuple[Tensor, Tensor]], *, is_tame: bool
    ) -> Tensor:
        """Read all blocks of keys for a block of queries.

        Args:
            rows: ``(B, r, A)`` float, scaled for powers of 2.
            blocks: Keys ``(B, A, c)`` and values ``(B, c, D)``.
            is_tame: Scores may become powers as they are.

        Returns:
            ``(B, r, D)`` in full precision; overwritten by the next call.
        """
        sums = _view(self._sums, (*rows.shape[:2], blocks[0][1].shape[-1]))
        peak, total = None, rows.new_zeros(*rows.shape[:2], 1, dtype=sums.dtype)
        for number, (key, value) in enumerate(blocks):
            scores = self._score(rows, key)
            if not is_tame:
                risen = _raise_peak(scores, peak)
                if peak is not None and risen is not peak:
                    factor = torch.exp2(peak - risen)
                    sums.mul_(factor)
                    total.mul_(factor)
                peak = risen
                scores.sub_(peak)
            torch.exp2(scores, out=scores)
            total.add_(scores.sum(-1, keepdim=True))
            self._read(scores, value, sums, is_first=number == 0)
        return sums.div_(total)

    def _score(self, rows: Tensor, key: Tensor) -> Tensor:
        shape = (*rows.shape[:2], key.shape[2])
        scores = _view(self._scores, shape)
        if self._narrow_scores is None:
            return torch.bmm(rows, key, out=scores)
        return scores.copy_(torch.bmm(rows, key, out=_view(self._narrow_scores, shape)))

    def _read(self, weights: Tensor, value: Tensor, sums: Tensor, *, is_first: bool) -> None:
        """Add what weights read of the values to the sums."""
        if self._weights is not None:
            weights = _view(self._weights, tuple(weights.shape)).copy_(weights)
        if self._partial is None:
            torch.baddbmm(sums, weights, value, beta=0 if is_first else 1, out=sums)
            return
        partial = torch.bmm(weights, value, out=_view(self._partial, tuple(sums.shape)))
        if is_first:
            sums.copy_(partial)
        else:
            sums.add_(partial)


def _raise_peak(scores: Tensor, peak: Tensor | None) -> Tensor:
    """Return what is to be subtracted from scores: ``peak`` itself while it is high enough."""
    highest = scores.amax(-1, keepdim=True)
    if peak is None:
        return highest
    if host_can_read(scores) and not bool((highest > peak + SLACK).any()):
        return peak
    return torch.maximum(highest, peak)


def _narrow_twin(room: Tensor, dtype: torch.dtype) -> Tensor | None:
    """Return a buffer of the same size in another dtype; None if it has that dtype."""
    return None if room.dtype == dtype else room.new_empty(room.shape, dtype=dtype)


def _view(room: Tensor, shape: tuple[int, ...]) -> Tensor:
    return room[: math.prod(shape)].view(shape)


@torch.no_grad()
def fused_attention(query: Tensor, keys: Sequence[Tensor], values: Sequence[Tensor]) -> Tensor:
    """Attention by PyTorch's ``scaled_dot_product_attention``, without gradients.

    Most of its fused kernels refuse values that are wider than the keys. They take the values in
    pieces as wide as the keys, each as a head of its own; the scores are then computed once for
    each piece. Arguments, of one dtype, result and errors are those of :func:`global_attention`.
    """
    check_attention(query, keys, values)
    value_width, width = values[0].shape[-1], query.shape[-1]
    pieces = -(-value_width // width)
    padded = F.pad(torch.cat(list(values), dim=1), (0, pieces * width - value_width))
    heads = padded.unflatten(-1, (pieces, width)).transpose(1, 2)
    query, key = (x[:, None].expand(-1, pieces, -1, -1) for x in (query, torch.cat(list(keys), 1)))
    with torch.autocast(query.device.type, enabled=False):
        readout = F.scaled_dot_product_attention(query, key, heads).transpose(1, 2).flatten(2)
    return readout[..., :value_width].to(torch.promote_types(readout.dtype, torch.float32))


def check_attention(query: Tensor, keys: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    """Raise ``ShapeError`` if no frame is given, or the shapes do not fit each other."""
    fits = (
        query.ndim == 3
        and len(keys) == len(values) > 0
        and all(key.ndim == 3 and value.ndim == 3 for key, value in zip(keys, values, strict=True))
        and all(key.shape[::2] == query.shape[::2] for key in keys)
        and all(
            value.shape[:2] == key.shape[:2] and value.shape[2] == values[0].shape[2]
            for key, value in zip(keys, values, strict=True)
        )
    )
    if not fits:
        got = [(tuple(k.shape), tuple(v.shape)) for k, v in zip(keys, values, strict=False)]
        raise ShapeError(
            "attention wants a query (B, L, A) and for each frame, at least one, a key "
            f"(B, L', A) and a value (B, L', D), got {tuple(query.shape)} with {got}"
        )
