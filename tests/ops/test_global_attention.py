"""Global attention: blocks against the reference, and the reference against loops."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from vots_hqtrack.errors import ShapeError
from vots_hqtrack.ops import attention
from vots_hqtrack.ops.attention import global_attention, global_attention_reference

TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 4e-2, torch.float16: 5e-3}
"""Measured: 4e-7 in float32, 1.6e-2 in bfloat16, 2e-3 in float16."""


def draw(
    length: int, lengths: list[int], *, batch: int = 2, spread: float = 1.0
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    generator = torch.Generator().manual_seed(length)

    def normal(tokens: int, width: int) -> Tensor:
        return torch.randn(batch, tokens, width, generator=generator, dtype=torch.float64)

    query = normal(length, 8) * spread
    return query, [normal(n, 8) for n in lengths], [normal(n, 5) for n in lengths]


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "QUERY_BLOCK", 7)
    monkeypatch.setattr(attention, "KEY_BLOCK", 6)


def test_reference_by_hand() -> None:
    query = torch.tensor([[[2.0, 0, 0, 0]]])
    keys = [torch.tensor([[[math.log(3.0), 0, 0, 0]]]), torch.zeros(1, 1, 4)]
    values = [torch.tensor([[[8.0, 4.0]]]), torch.tensor([[[0.0, 4.0]]])]
    found = global_attention_reference(query, keys, values)
    torch.testing.assert_close(found, torch.tensor([[[6.0, 4.0]]]))


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("tame", [0.0, attention.TAME])
@pytest.mark.parametrize(("length", "lengths"), [(1, [1]), (7, [6]), (20, [13, 1, 25]), (9, [3])])
def test_blocks_match_reference(
    dtype: torch.dtype,
    tame: float,
    length: int,
    lengths: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where the running peak is not needed."""
    monkeypatch.setattr(attention, "TAME", tame)
    query, keys, values = draw(length, lengths)
    exact = global_attention_reference(query, keys, values)
    found = global_attention(
        query.to(dtype), [key.to(dtype) for key in keys], [value.to(dtype) for value in values]
    )
    assert found.dtype == torch.promote_types(dtype, torch.float32)
    assert found.shape == (2, length, 5)
    assert (found.double() - exact).abs().max() < TOLERANCE[dtype]


def test_default_blocks_match_reference() -> None:
    query, keys, values = draw(attention.QUERY_BLOCK + 3, [attention.KEY_BLOCK + 5, 70], batch=1)
    exact = global_attention_reference(query, keys, values)
    torch.testing.assert_close(global_attention(query, keys, values), exact)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_scores_that_grow_from_block_to_block(dtype: torch.dtype) -> None:
    """Each block has scores far above all before: the sums are rescaled and nothing overflows."""
    query, keys, values = draw(16, [30, 30], spread=40)
    order = torch.cat(keys, 1).mean(0).mean(-1).argsort()
    keys = list(torch.cat(keys, 1)[:, order].split(30, dim=1))
    exact = global_attention_reference(
        query.to(dtype).double(), [key.to(dtype).double() for key in keys], values
    )
    found = global_attention(
        query.to(dtype).float(),
        [key.to(dtype).float() for key in keys],
        [v.float() for v in values],
    )
    assert torch.isfinite(found).all()
    # Scores of about 100 have 5 digits behind the point in float32.
    assert (found - exact).abs().max() < 1e-4


@pytest.mark.parametrize("scale", [0.999, 1.001])
def test_scores_at_the_edge_of_the_range(scale: float) -> None:
    """Opposite scores as large as they may be without a look, and larger ones."""
    length = (attention.TAME * scale / math.log2(math.e) * 2) ** 0.5
    query = torch.tensor([[[length, 0, 0, 0], [-length, 0, 0, 0]]])
    keys = [torch.tensor([[[length, 0, 0, 0], [-length, 0, 0, 0]]])]
    values = [torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])]
    found = global_attention(query, keys, values)
    torch.testing.assert_close(found, values[0])
    one_sided = global_attention(query, [keys[0][:, :1]], [values[0][:, :1]])
    torch.testing.assert_close(one_sided, values[0][:, :1].expand(1, 2, 2))


@pytest.mark.usefixtures("small_blocks")
def test_precise_keys_with_rounded_values() -> None:
    """Scores keep the precision of the keys; only values and weights are rounded."""
    query, keys, values = draw(20, [25, 25], spread=8)
    exact = global_attention_reference(query, keys, values)
    rounded_values = [value.bfloat16() for value in values]
    mixed = global_attention(query.float(), [key.float() for key in keys], rounded_values)
    assert mixed.dtype == torch.float32
    all_rounded = global_attention(
        query.bfloat16(), [key.bfloat16() for key in keys], rounded_values
    )
    error, rounded_error = ((found.double() - exact).abs().max() for found in (mixed, all_rounded))
    assert error < 1.5e-2
    assert error < rounded_error / 4


def test_autocast_changes_nothing() -> None:
    query, keys, values = draw(20, [25, 25])
    single = [query.float(), [key.float() for key in keys], [value.float() for value in values]]
    expected = global_attention(*single)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(global_attention(*single), expected)


def test_non_contiguous_input() -> None:
    query, keys, values = draw(12, [9, 9])
    strided = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in (query, *keys, *values)]
    found = global_attention(strided[0], strided[1:3], strided[3:])
    torch.testing.assert_close(found, global_attention(query, keys, values))


def test_gradients_of_reference() -> None:
    query, keys, values = draw(3, [4, 2])
    inputs = [x.requires_grad_() for x in (query, *keys, *values)]
    assert torch.autograd.gradcheck(
        lambda q, k1, k2, v1, v2: global_attention_reference(q, [k1, k2], [v1, v2]),
        inputs,
        fast_mode=True,
    )


@pytest.mark.parametrize("attend", [global_attention, global_attention_reference])
@pytest.mark.parametrize(
    ("keys", "values"),
    [
        ([], []),
        ([(1, 4, 3)], [(1, 4, 5)]),
        ([(2, 4, 8)], [(2, 4, 5)]),
        ([(1, 4, 8)], [(1, 3, 5)]),
        ([(1, 4, 8), (1, 4, 8)], [(1, 4, 5), (1, 4, 6)]),
        ([(1, 4, 8), (1, 4, 8)], [(1, 4, 5)]),
        ([(4, 8)], [(4, 5)]),
    ],
)
def test_exception(
    attend: object, keys: list[tuple[int, ...]], values: list[tuple[int, ...]]
) -> None:
    assert callable(attend)
    with pytest.raises(ShapeError, match=r"wants a query \(B, L, A\).*got \(1, 6, 8\) with"):
        attend(
            torch.zeros(1, 6, 8),
            [torch.zeros(shape) for shape in keys],
            [torch.zeros(shape) for shape in values],
        )


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_gpu_matches_cpu(dtype: torch.dtype) -> None:
    query, keys, values = draw(300, [3000, 200])
    exact = global_attention_reference(query, keys, values)
    on_gpu = [[x.to("cuda", dtype) for x in group] for group in ([query], keys, values)]
    found = global_attention(on_gpu[0][0], on_gpu[1], on_gpu[2]).cpu().double()
    assert (found - exact).abs().max() < max(TOLERANCE[dtype], 1e-3)
