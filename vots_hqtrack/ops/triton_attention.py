"""Attention to all tokens of several frames as a Triton kernel; ``ops.attention`` says what of.

A program owns some queries and a part of the value's channels, and walks along the tokens of one
frame with running sums, so that no score is ever written. The next frame's launch goes on from the
sums that this one leaves: frames need not be joined, and there may be any number. Wide values are
split, because their sums must fit the registers; each part computes the scores again, which are
narrow. Imported by ``ops`` alone, and only where Triton is installed.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from vots_hqtrack.ops.triton_window import add_values, load_rows

QUERIES = 64
KEYS = 32
VALUE_PART = 256
"""Most channels of the value that a program sums. In float32 a program has half as much of each,
or it would not fit the memory that small devices give it."""
WARPS = 8


def global_attention_triton(
    query: Tensor, keys: Sequence[Tensor], values: Sequence[Tensor]
) -> Tensor:
    """Attend without gradients.

    Arguments are those of ``global_attention_reference``, already checked.

    Returns:
        ``(B, L, D)`` float32.
    """
    batch, length, key_width = query.shape
    value_width = values[0].shape[-1]
    scaled = (query * key_width**-0.5).to(keys[0].dtype).contiguous()
    share = 2 if torch.float32 in (keys[0].dtype, values[0].dtype) else 1
    part = max(min(triton.next_power_of_2(value_width), VALUE_PART // share), 16)
    parts = triton.cdiv(value_width, part)
    sums = query.new_empty(batch, length, value_width, dtype=torch.float32)
    # Each part keeps its own, or one might read what another has already brought further.
    peak = query.new_empty(parts, batch, length, dtype=torch.float32)
    total = torch.empty_like(peak)
    rows = QUERIES // share
    grid = (triton.cdiv(length, rows), parts, batch)
    for number, (key, value) in enumerate(zip(keys, values, strict=True)):
        _attend[grid](
            scaled,
            key.contiguous(),
            value.contiguous(),
            peak,
            total,
            sums,
            length,
            key.shape[1],
            is_first=number == 0,
            is_last=number == len(keys) - 1,
            key_width=key_width,
            key_width_padded=max(triton.next_power_of_2(key_width), 16),
            value_width=value_width,
            part=part,
            num_queries=rows,
            num_keys=KEYS // share,
            num_warps=WARPS,
            enable_fp_fusion=True,
        )
    return sums


@triton.jit  # type: ignore[untyped-decorator] # Triton has no annotations
def _attend(
    query: tl.tensor,
    key: tl.tensor,
    value: tl.tensor,
    peaks: tl.tensor,
    totals: tl.tensor,
    readout: tl.tensor,
    length: int,
    key_length: int,
    is_first: tl.constexpr,
    is_last: tl.constexpr,
    key_width: tl.constexpr,
    key_width_padded: tl.constexpr,
    value_width: tl.constexpr,
    part: tl.constexpr,
    num_queries: tl.constexpr,
    num_keys: tl.constexpr,
) -> None:
    sample = tl.program_id(2).to(tl.int64)
    row = tl.program_id(0) * num_queries + tl.arange(0, num_queries)
    is_row = row < length
    token = sample * length + row
    a = tl.arange(0, key_width_padded)
    d = tl.program_id(1) * part + tl.arange(0, part)
    rows = load_rows(query, token, is_row, a, key_width)
    kept = (tl.program_id(1) * tl.num_programs(2) + sample) * length + row
    place = readout + token[:, None] * value_width + d[None, :]
    is_place = is_row[:, None] & (d < value_width)[None, :]
    if is_first:
        peak = tl.full((num_queries,), -1e30, dtype=tl.float32)
        total = tl.zeros((num_queries,), dtype=tl.float32)
        sums = tl.zeros((num_queries, part), dtype=tl.float32)
    else:
        peak = tl.load(peaks + kept, mask=is_row, other=0.0)
        total = tl.load(totals + kept, mask=is_row, other=1.0)
        sums = tl.load(place, mask=is_place, other=0.0)
    for start in range(0, key_length, num_keys):
        column = start + tl.arange(0, num_keys)
        is_key = column < key_length
        key_token = sample * key_length + column
        keys = tl.trans(load_rows(key, key_token, is_key, a, key_width))
        scores = tl.dot(rows, keys, input_precision="ieee")
        scores = tl.where(is_key[None, :], scores, -1e30)
        values = load_rows(value, key_token, is_key, d, value_width)
        peak, total, sums = add_values(scores, is_key[None, :], values, peak, total, sums)
    if is_last:
        tl.store(place, sums / total[:, None], mask=is_place)
    else:
        tl.store(peaks + kept, peak, mask=is_row)
        tl.store(totals + kept, total, mask=is_row)
        tl.store(place, sums, mask=is_place)
