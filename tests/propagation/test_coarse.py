"""Propagation at 1/16 alone: the cascade's first scale is the same code, and the same numbers."""

import pytest
import torch

from vots_hqtrack.errors import ShapeError
from vots_hqtrack.identity import IdentityBank
from vots_hqtrack.masks import one_hot_slots
from vots_hqtrack.propagation.coarse import SingleScalePropagation
from vots_hqtrack.propagation.pyramid import PropagationPyramid
from vots_hqtrack.types import FrameFeatures, IdentityEmbedding, MemoryEntry

DIMS = (8, 12, 20)
WIDTH = 16


def draw_features(rows: int, columns: int, seed: int = 1) -> FrameFeatures:
    generator = torch.Generator().manual_seed(seed)
    sizes = [(4 * rows - 3, 4 * columns - 3), (2 * rows - 1, 2 * columns - 1), (rows, columns)]
    return FrameFeatures(
        *(
            torch.randn(2, dim, *size, generator=generator)
            for dim, size in zip(DIMS, sizes, strict=True)
        )
    )


def draw_tokens(rows: int, columns: int) -> torch.Tensor:
    return torch.randn(2, rows * columns, WIDTH, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 4), (7, 2)])
def test_shapes(rows: int, columns: int) -> None:
    torch.manual_seed(0)
    network = SingleScalePropagation(DIMS[2], width=WIDTH, num_blocks=3, window_radius=2)
    own = IdentityEmbedding(draw_tokens(rows, columns), None)
    output = network(draw_features(rows, columns), (), None, own_embedding=own)
    assert output.embedding.shape == (2, 2 * WIDTH, rows, columns)
    assert len(output.proposals) == 3
    entry = MemoryEntry(0, network.remember(output.proposals, own))
    again = network(draw_features(rows, columns, seed=2), [entry], entry)
    assert again.embedding.shape == output.embedding.shape
    assert torch.isfinite(again.embedding).all()


def test_the_first_scale_of_the_cascade_computes_the_same() -> None:
    torch.manual_seed(0)
    alone = SingleScalePropagation(DIMS[2], width=WIDTH, num_blocks=2, window_radius=1)
    cascade = PropagationPyramid(
        DIMS,
        width_s16=WIDTH,
        width_s8=8,
        width_s4=8,
        num_blocks_s16=2,
        window_radius=1,
        align_corners=True,
    )
    shared = {
        key: value for key, value in alone.state_dict().items() if not key.startswith("norm.")
    }
    assert shared.keys() <= cascade.state_dict().keys()
    cascade.load_state_dict(cascade.state_dict() | shared)
    features, tokens = draw_features(3, 4), draw_tokens(3, 4)
    fine = torch.randn(2, 5 * 7, 8, generator=torch.Generator().manual_seed(4))
    with torch.inference_mode():
        left = alone(features, (), None, own_embedding=IdentityEmbedding(tokens, None))
        right = cascade(features, (), None, own_embedding=IdentityEmbedding(tokens, fine))
    for one, other in zip(left.proposals, right.proposals[:-1], strict=True):
        assert torch.equal(one.key, other.key)
        assert torch.equal(one.value, other.value)


def test_values_each_stream_is_normalised_by_itself() -> None:
    torch.manual_seed(0)
    network = SingleScalePropagation(DIMS[2], width=WIDTH, num_blocks=1, window_radius=1)
    own = IdentityEmbedding(draw_tokens(5, 6), None)
    embedding = network(draw_features(5, 6), (), None, own_embedding=own).embedding
    for stream in embedding.chunk(2, dim=1):
        torch.testing.assert_close(stream.mean((1, 2, 3)), torch.zeros(2), atol=1e-5, rtol=0)
        torch.testing.assert_close(stream.std((1, 2, 3)), torch.ones(2), atol=1e-2, rtol=0)


def test_identity_bank_without_the_finer_scale() -> None:
    torch.manual_seed(0)
    bank = IdentityBank(WIDTH, None, kernel=17, kernel_s8=17, stride_s8=16)
    assert not [name for name in bank.state_dict() if "s8" in name]
    embedding = bank(one_hot_slots(torch.zeros(1, 33, 49, dtype=torch.int64)))
    assert embedding.s16.shape == (1, 3 * 4, WIDTH)
    assert embedding.s8 is None


def test_exception_the_cascade_wants_tokens_at_both_scales() -> None:
    cascade = PropagationPyramid(
        DIMS,
        width_s16=WIDTH,
        width_s8=8,
        width_s4=8,
        num_blocks_s16=1,
        window_radius=1,
        align_corners=True,
    )
    own = IdentityEmbedding(draw_tokens(3, 4), None)
    with pytest.raises(ShapeError, match="wants identity tokens at 1/8"):
        cascade(draw_features(3, 4), (), None, own_embedding=own)
