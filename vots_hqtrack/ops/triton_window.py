"""Attention to a square window as one Triton kernel; ``ops.window`` says what of.

A program owns some queries of one row and a part of the value's channels. For each row of the
window it multiplies them with the stretch of keys that any of them reaches, a little more than
twice what each needs, and keeps running sums, so that no score is ever written. Wide values are
split, because their sums must fit the registers. Imported by ``ops`` alone, and only where Triton
is installed.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

QUERIES = 16
"""Queries of a program: as few as a tensor core takes."""
VALUE_PART = 256
"""Most channels of the value that a program sums; half as many in float32, for which a block of
values and its sums would not fit the memory that small devices give a program."""


def local_attention_triton(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor, *, radius: int, scale: float
) -> Tensor:
    """Attend without gradients.

    Arguments and result are those of ``local_attention_reference``.
    """
    batch, height, width, key_width = query.shape
    value_width = value.shape[-1]
    query, key, value, bias = (x.contiguous() for x in (query, key, value, bias))
    readout = torch.empty_like(value)
    most = VALUE_PART // 2 if value.dtype == torch.float32 else VALUE_PART
    part = min(triton.next_power_of_2(value_width), most)
    grid = (batch * height, triton.cdiv(width, QUERIES), triton.cdiv(value_width, part))
    _attend[grid](
        query,
        key,
        value,
        bias,
        readout,
        height,
        width,
        scale,
        radius=radius,
        key_width=key_width,
        key_width_padded=max(triton.next_power_of_2(key_width), 16),
        value_width=value_width,
        part=max(part, 16),
        num_queries=QUERIES,
        reach=max(triton.next_power_of_2(QUERIES + 2 * radius), 16),
        enable_fp_fusion=True,
    )
    return readout


@triton.jit  # type: ignore[untyped-decorator] # Triton has no annotations
def _attend(
    query: tl.tensor,
    key: tl.tensor,
    value: tl.tensor,
    bias: tl.tensor,
    readout: tl.tensor,
    height: int,
    width: int,
    scale: float,
    radius: tl.constexpr,
    key_width: tl.constexpr,
    key_width_padded: tl.constexpr,
    value_width: tl.constexpr,
    part: tl.constexpr,
    num_queries: tl.constexpr,
    reach: tl.constexpr,
) -> None:
    side: tl.constexpr = 2 * radius + 1
    line = tl.program_id(0).to(tl.int64)
    row = (line % height).to(tl.int32)
    first_column = tl.program_id(1) * num_queries
    column = first_column + tl.arange(0, num_queries)
    is_query = column < width
    key_column = first_column - radius + tl.arange(0, reach)
    is_column = (key_column >= 0) & (key_column < width)
    across = tl.arange(0, reach)[None, :] - tl.arange(0, num_queries)[:, None]
    is_near = (across >= 0) & (across < side) & is_column[None, :] & is_query[:, None]
    a = tl.arange(0, key_width_padded)
    d = tl.program_id(2) * part + tl.arange(0, part)
    token = line * width + column
    rows = load_rows(query, token, is_query, a, key_width)
    peak = tl.full((num_queries,), -1e30, dtype=tl.float32)
    total = tl.zeros((num_queries,), dtype=tl.float32)
    sums = tl.zeros((num_queries, part), dtype=tl.float32)
    for step in range(side):
        key_row = tl.full((reach,), 0, dtype=tl.int32) + row + step - radius
        key_token = (line + step - radius) * width + key_column
        is_key = is_column & (key_row >= 0) & (key_row < height)
        keys = tl.trans(load_rows(key, key_token, is_key, a, key_width))
        is_read = is_near & is_key[None, :]
        bias_at = bias + token[:, None] * (side * side) + step * side + across
        more = tl.load(bias_at, mask=is_read, other=0.0)
        scores = tl.dot(rows, keys, input_precision="ieee") * scale + more.to(tl.float32)
        scores = tl.where(is_read, scores, -1e30)
        values = load_rows(value, key_token, is_key, d, value_width)
        peak, total, sums = add_values(scores, is_read, values, peak, total, sums)
    # A query beyond the row has no key; it is not stored, but must not divide by zero.
    sums = sums / tl.where(total > 0, total, 1.0)[:, None]
    place = readout + token[:, None] * value_width + d[None, :]
    tl.store(place, sums, mask=is_query[:, None] & (d < value_width)[None, :])


@triton.jit  # type: ignore[untyped-decorator] # Triton has no annotations
def load_rows(
    tokens: tl.tensor,
    token: tl.tensor,
    is_token: tl.tensor,
    channel: tl.tensor,
    width: tl.constexpr,
) -> tl.tensor:
    """Load channels of tokens of ``width`` channels each; zeros elsewhere."""
    is_here = is_token[:, None] & (channel < width)[None, :]
    place = tokens + token[:, None] * width + channel[None, :]
    return tl.load(place, mask=is_here, other=0.0)


@triton.jit  # type: ignore[untyped-decorator] # Triton has no annotations
def add_values(
    scores: tl.tensor,
    is_read: tl.tensor,
    values: tl.tensor,
    peak: tl.tensor,
    total: tl.tensor,
    sums: tl.tensor,
) -> tl.tensor:
    """Add a block of values to the running sums of a softmax; what came before fades.

    Scores are -1e30 where nothing is read. Gives the new peak, total and sums.
    """
    risen = tl.maximum(peak, tl.max(scores, 1))
    weights = tl.where(is_read, tl.exp(scores - risen[:, None]), 0.0)
    fading = tl.exp(peak - risen)
    total = total * fading + tl.sum(weights, 1)
    sums = sums * fading[:, None]
    sums += tl.dot(weights.to(values.dtype), values, input_precision="ieee")
    return risen, total, sums
