"""Single-scale and multi-scale propagation: the first blocks are the same, and their numbers."""

import pytest
import torch

from vots_hqtrack.errors import ShapeError
from vots_hqtrack.identity import IdentityBank
from vots_hqtrack.masks import one_hot_slots
from vots_hqtrack.propagation.multi_scale import MultiScalePropagation
from vots_hqtrack.propagation.single_scale import SingleScalePropagation
from vots_hqtrack.types import FrameFeatures, IdentityEmbedding, MemoryEntry, MemoryFrames

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


def draw_embedding(rows: int, columns: int) -> torch.Tensor:
    return torch.randn(2, rows, columns, WIDTH, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 4), (7, 2)])
def test_shapes(rows: int, columns: int) -> None:
    torch.manual_seed(0)
    network = SingleScalePropagation(DIMS[2], width=WIDTH, num_blocks=3, window_radius=2)
    own = IdentityEmbedding(draw_embedding(rows, columns), None)
    output = network(draw_features(rows, columns), own)
    assert output.embedding.shape == (2, 2 * WIDTH, rows, columns)
    assert len(output.proposals) == 3
    layers = zip(network.blocks, output.proposals, strict=True)
    entry = MemoryEntry(0, tuple(block.write_memory(proposal, own) for block, proposal in layers))
    again = network(draw_features(rows, columns, seed=2), MemoryFrames([entry], entry))
    assert again.embedding.shape == output.embedding.shape
    assert torch.isfinite(again.embedding).all()


def test_blocks_at_stride_16_compute_the_same_in_both() -> None:
    torch.manual_seed(0)
    alone = SingleScalePropagation(DIMS[2], width=WIDTH, num_blocks=2, window_radius=1)
    multi_scale = MultiScalePropagation(
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
    assert shared.keys() <= multi_scale.state_dict().keys()
    multi_scale.load_state_dict(multi_scale.state_dict() | shared)
    features, s16 = draw_features(3, 4), draw_embedding(3, 4)
    s8 = torch.randn(2, 5, 7, 8, generator=torch.Generator().manual_seed(4))
    with torch.inference_mode():
        left = alone(features, IdentityEmbedding(s16, None))
        right = multi_scale(features, IdentityEmbedding(s16, s8))
    assert left.features is features, "its decoder reads them"
    assert right.features is None
    for proposal, other in zip(left.proposals, right.proposals[:-1], strict=True):
        assert torch.equal(proposal.key, other.key)
        assert torch.equal(proposal.value, other.value)


def test_values_each_stream_is_normalised_by_itself() -> None:
    torch.manual_seed(0)
    network = SingleScalePropagation(DIMS[2], width=WIDTH, num_blocks=1, window_radius=1)
    own = IdentityEmbedding(draw_embedding(5, 6), None)
    embedding = network(draw_features(5, 6), own).embedding
    for stream in embedding.chunk(2, dim=1):
        torch.testing.assert_close(stream.mean((1, 2, 3)), torch.zeros(2), atol=1e-5, rtol=0)
        torch.testing.assert_close(stream.std((1, 2, 3)), torch.ones(2), atol=1e-2, rtol=0)


def test_identity_bank_without_the_finer_scale() -> None:
    torch.manual_seed(0)
    bank = IdentityBank(WIDTH, None, kernel=17, kernel_s8=17, stride_s8=16)
    assert not [name for name in bank.state_dict() if "s8" in name]
    embedding = bank(one_hot_slots(torch.zeros(1, 33, 49, dtype=torch.int64)))
    assert embedding.s16.shape == (1, 3, 4, WIDTH)
    assert embedding.s8 is None


def test_exception_multi_scale_wants_embeddings_at_both_strides() -> None:
    multi_scale = MultiScalePropagation(
        DIMS,
        width_s16=WIDTH,
        width_s8=8,
        width_s4=8,
        num_blocks_s16=1,
        window_radius=1,
        align_corners=True,
    )
    own = IdentityEmbedding(draw_embedding(3, 4), None)
    with pytest.raises(ShapeError, match="identity embedding at stride 8, which is missing"):
        multi_scale(draw_features(3, 4), own)
