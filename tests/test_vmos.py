"""VMOS: stateless, symmetric in its slots' objects only through the identity bank, and shaped as
written."""

import dataclasses

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from vots_hqtrack import ops
from vots_hqtrack.config import VMOSConfig
from vots_hqtrack.masks import one_hot_slots
from vots_hqtrack.types import FrameFeatures, MemoryEntry, MemoryFrames
from vots_hqtrack.vmos import VMOS, build_vmos

DIMS = (8, 16, 12)
SMALL = VMOSConfig(width_s16=16, width_s8=16, width_s4=8, num_blocks_s16=2, window_radius=2)


DEAOT = VMOSConfig(
    width_s16=16, num_blocks_s16=3, window_radius=2, identity_kernel=17, multi_scale=False
)


@pytest.fixture(scope="module", params=[SMALL, DEAOT], ids=["multi-scale", "single-scale"])
def vmos(request: pytest.FixtureRequest) -> VMOS:
    torch.manual_seed(0)
    return build_vmos(request.param, DIMS).eval()


def draw_features(seed: int, rows: int = 3, columns: int = 4) -> FrameFeatures:
    generator = torch.Generator().manual_seed(seed)

    def draw(channels: int, scale: int) -> torch.Tensor:
        return torch.randn(1, channels, rows * scale, columns * scale, generator=generator)

    return FrameFeatures(s4=draw(8, 4), s8=draw(16, 2), s16=draw(12, 1))


def draw_labels(seed: int, rows: int = 3, columns: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 4, (1, rows * 16, columns * 16), generator=generator)


@torch.inference_mode()
def run(vmos: VMOS, seeds: list[int], rows: int = 3, columns: int = 4) -> torch.Tensor:
    first = vmos.encode_masks(one_hot_slots(draw_labels(0, rows, columns)))
    output = vmos.propagate(draw_features(seeds[0], rows, columns), first)
    entries = [vmos.write_memory(0, output.proposals, first)]
    for index, seed in enumerate(seeds[1:], start=1):
        features = draw_features(seed, rows, columns)
        output = vmos.propagate(features, MemoryFrames(entries, entries[-1]))
        labels = vmos.encode_masks(one_hot_slots(draw_labels(index, rows, columns)))
        entries.append(vmos.write_memory(index, output.proposals, labels))
    return vmos.decode(output)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 4), (5, 2)])
def test_shapes(vmos: VMOS, rows: int, columns: int) -> None:
    logits = run(vmos, [1, 2], rows, columns)
    assert logits.shape == (1, 11, rows * 4, columns * 4)
    assert torch.isfinite(logits).all()


def test_no_video_is_kept_on_the_network(vmos: VMOS) -> None:
    before = {name: set(vars(module)) for name, module in vmos.named_modules()}
    alone = run(vmos, [1, 2, 3])
    run(vmos, [7, 8])
    assert torch.equal(run(vmos, [1, 2, 3]), alone)
    assert {name: set(vars(module)) for name, module in vmos.named_modules()} == before


def test_long_term_memory_is_read(vmos: VMOS) -> None:
    with torch.inference_mode():
        first = vmos.encode_masks(one_hot_slots(draw_labels(0)))
        output = vmos.propagate(draw_features(1), first)
        left = vmos.write_memory(0, output.proposals, first)
        other_labels = vmos.encode_masks(one_hot_slots(draw_labels(9)))
        right = vmos.write_memory(0, output.proposals, other_labels)
        with_one = vmos.propagate(draw_features(2), MemoryFrames([left], left)).embedding
        with_two = vmos.propagate(draw_features(2), MemoryFrames([left, right], left)).embedding
        swapped = vmos.propagate(draw_features(2), MemoryFrames([right, left], left)).embedding
    assert (with_one - with_two).abs().max() > 1e-3
    torch.testing.assert_close(with_two, swapped, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("config", [SMALL, DEAOT], ids=["multi-scale", "single-scale"])
def test_no_number_is_read_from_a_gpu(config: VMOSConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors without numbers that say they are on CUDA: to read one, as ``float`` does, raises."""
    monkeypatch.setattr(ops, "resolve_backend", lambda: "torch")
    with FakeTensorMode(), torch.device("cuda"), torch.inference_mode():
        with pytest.raises(DataDependentOutputException):
            float(torch.zeros(1))
        vmos = build_vmos(config, DIMS)
        features = FrameFeatures(
            *(torch.zeros(1, dim, 64 // i, 64 // i) for dim, i in zip(DIMS, (1, 2, 4), strict=True))
        )
        embedding = vmos.encode_masks(torch.zeros(1, 11, 256, 256))
        output = vmos.propagate(features, embedding)
        entry = vmos.write_memory(0, output.proposals, embedding)
        output = vmos.propagate(features, MemoryFrames([entry, entry], entry))
        assert vmos.decode(output).shape == (1, 11, 64, 64)


@pytest.mark.slow
def test_a_frame_compiles_to_one_graph() -> None:
    torch.manual_seed(0)
    vmos = build_vmos(dataclasses.replace(SMALL, num_blocks_s16=1), DIMS).eval()

    def segment(features: FrameFeatures, entry: MemoryEntry) -> torch.Tensor:
        return vmos.decode(vmos.propagate(features, MemoryFrames([entry, entry], entry)))

    with torch.inference_mode():
        embedding = vmos.encode_masks(one_hot_slots(draw_labels(0)))
        output = vmos.propagate(draw_features(1), embedding)
        entry = vmos.write_memory(0, output.proposals, embedding)
        compiled = torch.compile(segment, fullgraph=True, backend="eager")
        found = compiled(draw_features(2), entry)
        torch.testing.assert_close(found, segment(draw_features(2), entry))


@pytest.mark.parametrize("config", [SMALL, DEAOT], ids=["multi-scale", "single-scale"])
def test_gradients_reach_every_parameter(config: VMOSConfig) -> None:
    torch.manual_seed(0)
    vmos = build_vmos(config, DIMS)
    first = vmos.encode_masks(one_hot_slots(draw_labels(0)))
    output = vmos.propagate(draw_features(1), first)
    entry = vmos.write_memory(0, output.proposals, first)
    features = draw_features(2)
    output = vmos.propagate(features, MemoryFrames([entry], entry))
    vmos.decode(output).square().mean().backward()
    without = [name for name, p in vmos.named_parameters() if p.grad is None]
    assert without == []


def test_first_block_has_no_identity_stream(vmos: VMOS) -> None:
    names = {name for name, _ in vmos.named_parameters()}
    assert "pyramid.blocks_s16.0.identity_norm.weight" not in names
    assert "pyramid.blocks_s16.1.identity_norm.weight" in names
    shape = vmos.pyramid.blocks_s16[0].identity_value.weight.shape
    assert shape == (32, 16)


def test_single_scale_keeps_nothing_at_other_strides() -> None:
    network = build_vmos(DEAOT, DIMS)
    assert not [name for name in network.state_dict() if name.startswith("identity.bank_s8")]
    embedding = network.encode_masks(one_hot_slots(draw_labels(0)))
    output = network.propagate(draw_features(1), embedding)
    entry = network.write_memory(0, output.proposals, embedding)
    assert [layer.key.shape for layer in entry.layers] == [(1, 3, 4, 8)] * 3


def test_identity_stride_16_is_repeated_at_8() -> None:
    """The released model's quirk: the bank of the 1/8 block has stride 16 and is up-sampled."""
    torch.manual_seed(0)
    quirk = VMOSConfig(
        width_s16=16,
        width_s8=16,
        width_s4=8,
        identity_kernel=17,
        identity_kernel_s8=17,
        identity_stride_s8=16,
        align_corners=True,
    )
    network = build_vmos(quirk, DIMS)
    labels = torch.randint(0, 3, (1, 33, 49), generator=torch.Generator().manual_seed(0))
    embedding = network.encode_masks(one_hot_slots(labels))
    fine = embedding.s8
    assert fine.shape == (1, 5, 7, 16)
    assert embedding.s16.shape == (1, 3, 4, 16)
    assert torch.equal(fine[:, 0, 0], fine[:, 1, 1])
    assert not torch.equal(fine[:, 1, 1], fine[:, 2, 2])
