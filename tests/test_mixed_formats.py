"""No operation is given two dtypes that CUDA refuses, in any preset, in bfloat16 and float16.

On the CPU such a pair often passes unseen; `pretend_cuda` checks by CUDA's rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from pretend_cuda import CudaRefusesError, PretendCuda, cuda_dtypes, pretend_cuda
from reference_sam import narrow_sam
from torch import Tensor, nn
from two_discs import draw_video

from vots_hqtrack import build
from vots_hqtrack.build import TrackerParts, build_networks, build_untrained_parts
from vots_hqtrack.checkpoints.load import load_tensors, save_tensors
from vots_hqtrack.config import MemoryConfig, TrackerConfig, VMOSConfig
from vots_hqtrack.encoder.internimage import InternImage
from vots_hqtrack.merge import initial_masks
from vots_hqtrack.ops import use_backend
from vots_hqtrack.precision import cast_to_low_precision
from vots_hqtrack.presets import PRESETS, load_preset
from vots_hqtrack.result import FrameResult
from vots_hqtrack.sam import refiner
from vots_hqtrack.scoring import mean_probabilities
from vots_hqtrack.settings import apply_settings
from vots_hqtrack.tracker import HQTracker
from vots_hqtrack.training.batch import ClipBatch
from vots_hqtrack.training.clip import shuffle_table
from vots_hqtrack.training.losses import StepOptions
from vots_hqtrack.training.network import ClipNetwork
from vots_hqtrack.types import FrameArray, MaskArray
from vots_hqtrack.vmos import build_vmos

DTYPES = [torch.bfloat16, torch.float16]
SMALL = (
    "frame.min_short_edge=0",
    "frame.long_edge=256",
    "memory.gap=1",
    "memory.capacity=2",
)


@pytest.fixture(autouse=True)
def _torch_ops() -> Iterator[None]:
    """Triton's kernels cannot read tensors that only pretend."""
    with use_backend("torch"):
        yield


def small_config(name: str, dtype: torch.dtype) -> TrackerConfig:
    """Make a preset small; the refiner's ViT is narrow."""
    config = apply_settings(load_preset(name), [*SMALL, f"runtime.dtype={str(dtype)[6:]}"])
    if config.refiner.kind == "sam2":
        pytest.importorskip("transformers", reason="needs the extra transformers")
        return apply_settings(config, ["refiner.model=tiny"])
    return apply_settings(
        config, ["refiner.model=vit_b"] if config.refiner.model == "vit_h" else []
    )


def small_video(num_frames: int) -> list[tuple[FrameArray, dict[int, MaskArray]]]:
    return [
        (
            np.ascontiguousarray(frame[::2, ::2]),
            {item: mask[::2, ::2] for item, mask in masks.items()},
        )
        for frame, masks in draw_video(num_frames)
    ]


@cache
def build_small(config: TrackerConfig) -> TrackerParts:
    with pytest.MonkeyPatch.context() as patch, pretend_cuda() as device:
        if config.refiner.model == "vit_b":
            patch.setattr(refiner, "build_sam", lambda _, *, hq: narrow_sam(hq=hq))
        return build_untrained_parts(config, device)


def make_tracker(config: TrackerConfig, device: torch.device) -> HQTracker:
    """Make a tracker; presets that differ in rules alone share their parts."""
    dtype: torch.dtype = getattr(torch, config.runtime.dtype)
    name = {"lite-vmos": "lite", "lite-realtime": "lite"}.get(
        config.preset, config.preset.removesuffix("-released")
    )
    parts = build_small(small_config(name, dtype))
    if not config.refiner.enabled:
        parts = parts._replace(refiner=None)
    return HQTracker(config, *parts, device)


def check_result(result: FrameResult) -> None:
    for item, mask in result.masks.items():
        assert mask.dtype == np.bool_
        assert np.isfinite(result.scores[item])
        assert np.isfinite(result.confidence_features[item]).all()


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        *((name, torch.bfloat16) for name in PRESETS),
        # The rules are the same: every encoder and refiner once more.
        *((name, torch.float16) for name in ("lite", "hqtrack", "vmos-r50")),
    ],
    ids=str,
)
def test_every_preset_tracks(name: str, dtype: torch.dtype) -> None:
    config = small_config(name, dtype)
    video = small_video(3 if name in ("lite", "vmos") else 2)
    with pretend_cuda() as device:
        tracker = make_tracker(config, device)
        state = tracker.initialize(*video[0])
        for frame, _ in video[1:]:
            check_result(tracker.track(frame, state))
    layers = state.groups[0].read().long_term[0].layers
    assert {type(item) for layer in layers for item in (layer.key, layer.value)} == {PretendCuda}
    assert {item.dtype for layer in layers for item in (layer.key, layer.value)} == {dtype}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_objects_added_later_separate_tracking_and_boxes(dtype: torch.dtype) -> None:
    config = small_config("lite", dtype)
    parts = build_small(config)
    config = apply_settings(
        config,
        ["tracking.mode=separate", "tracking.memory_masks=refined", "confidence.kind=probability"],
    )
    video = small_video(2)
    (first, masks), (second, _) = video
    with pretend_cuda() as device:
        tracker = HQTracker(config, *parts, device)
        state = tracker.initialize(first, {1: masks[1]})
        tracker.add_objects(first, {2: masks[2]}, state)
        check_result(tracker.track(second, state))
        assert tracker.mask_from_box(first, (20.0, 10.0, 30.0, 30.0)).dtype == np.bool_


def test_values_are_those_of_the_cpu() -> None:
    """The device that only pretends computes: float32 gives the CPU's masks."""
    config = small_config("deaot-r50", torch.float32)
    video = small_video(3)
    results = []
    with pretend_cuda() as device:
        tracker = HQTracker(config, *build_small(config), device)
        state = tracker.initialize(*video[0])
        results.append([tracker.track(frame, state) for frame, _ in video[1:]])
    cpu = torch.device("cpu")
    tracker = HQTracker(config, *build_untrained_parts(config, cpu), cpu)
    state = tracker.initialize(*video[0])
    results.append([tracker.track(frame, state) for frame, _ in video[1:]])
    for left, right in zip(*results, strict=True):
        assert sum(mask.sum() for mask in right.masks.values()) > 0
        for item, mask in left.masks.items():
            assert (mask == right.masks[item]).all()


@pytest.mark.slow
@pytest.mark.weights
def test_float16_finds_the_masks_of_float32() -> None:
    """The shipped weights have room in float16, which ends at 65,504."""
    video, results = draw_video(2), {}
    with pretend_cuda() as device:
        for dtype in (torch.float32, torch.float16):
            config = small_config("lite", dtype)
            tracker = HQTracker(config, *build.build_parts(config, device, None), device)
            results[dtype] = tracker.track(video[1][0], tracker.initialize(*video[0]))
    for item, exact in results[torch.float32].masks.items():
        found = results[torch.float16].masks[item]
        assert exact.any()
        # Measured: 0.9986 and more.
        assert (found & exact).sum() / (found | exact).sum() >= 0.99


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_mean_probability_of_a_mask_larger_than_float16(dtype: torch.dtype) -> None:
    """Autocast would sum 160,000 probabilities in 16 bits: infinity in float16."""
    probabilities = torch.tensor([0.3, 0.7]).view(2, 1, 1).expand(2, 400, 400).contiguous()
    with pretend_cuda() as device, torch.autocast("cuda", dtype):
        initial = initial_masks(probabilities.to(device))
        assert bool(initial.masks.all())
        mean = mean_probabilities(initial.probability, initial.masks)
        assert mean.tolist() == pytest.approx([0.7], abs=1e-4)


def test_weights_of_float16_files_are_cast(tmp_path: Path) -> None:
    """Weights lie in float16 in their file; the network computes in its own dtypes."""
    config = small_config("deaot-r50", torch.bfloat16)
    parts = dict(zip(("encoder", "vmos"), build_networks(config), strict=True))
    with pretend_cuda() as device:
        tensors = {
            f"{name}.{key}": value
            for name, part in parts.items()
            for key, value in part.to(device).state_dict().items()
        }
        path = tmp_path / "weights.safetensors"
        save_tensors(path, tensors, {})
        stored = load_tensors(path, expected_sha256=None)
        assert {item.dtype for item in stored.values() if item.is_floating_point()} == {
            torch.float16
        }
        tracker = HQTracker(config, *build.build_parts(config, device, path), device)
        video = small_video(2)
        state = tracker.initialize(*video[0])
        check_result(tracker.track(video[1][0], state))


VMOS_SMALL = VMOSConfig(
    width_s16=32, width_s8=16, width_s4=16, num_blocks_s16=2, window_radius=2, align_corners=True,
    identity_kernel=17, identity_kernel_s8=17, identity_stride_s8=16,
)  # fmt: skip


def draw_batch() -> ClipBatch:
    generator = torch.Generator().manual_seed(0)
    labels = torch.zeros(2, 3, 33, 49, dtype=torch.uint8)
    labels[:, :, 5:20, 8:25] = 1
    labels[:, :, 15:30, 30:45] = 2
    frames = torch.randint(0, 256, (2, 3, 3, 33, 49), generator=generator, dtype=torch.uint8)
    return ClipBatch(labels, shuffle_table(2, generator), frames)


def small_network() -> ClipNetwork:
    torch.manual_seed(0)
    encoder = InternImage(widths=(16, 32, 64), depths=(1, 1, 1, 1), groups=(1, 2, 4, 4))
    vmos = build_vmos(VMOS_SMALL, encoder.dims)
    memory = MemoryConfig(capacity=2, gap=1, short_term_delay=1)
    return ClipNetwork(encoder, vmos, memory, align_corners=True, train_encoder=True)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("predicted_masks", [False, True])
def test_training_forward_on_the_device(dtype: torch.dtype, predicted_masks: bool) -> None:
    with pretend_cuda() as device:
        network, batch = small_network().to(device), draw_batch().to(device)
        with torch.autocast("cuda", dtype):
            logits = network(
                batch, StepOptions(with_reference=True, predicted_masks=predicted_masks)
            )
    assert all(type(item) is PretendCuda and item.requires_grad for item in logits)
    assert all(bool(torch.isfinite(item.inner).all()) for item in logits)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_all_layers_of_an_encoder_in_16_bits(dtype: torch.dtype) -> None:
    encoder = small_network().encoder
    assert encoder is not None
    cast_to_low_precision(encoder, dtype, "all")
    with pretend_cuda() as device:
        encoder.to(device)
        with torch.inference_mode():
            features = encoder(torch.ones(1, 3, 33, 49, device=device))
    assert bool(torch.isfinite(features.s16.inner).all())
    assert {parameter.dtype for parameter in encoder.parameters()} == {dtype, torch.float32}


@pytest.mark.usefixtures("fast_16_bit")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_training_step(dtype: torch.dtype) -> None:
    network = small_network()
    with cuda_dtypes():
        with torch.autocast("cpu", dtype):
            logits = network(draw_batch(), StepOptions(with_reference=True))
        sum(item.float().logsumexp(1).mean() for item in logits).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.dtype == torch.float32
        assert torch.isfinite(parameter.grad).all(), name


class TestPretendedDevice:
    """Operations that would go unseen on the CPU are refused, and nothing else."""

    @staticmethod
    def on_device(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.ones(shape, device="cuda", dtype=dtype)

    def test_a_module_that_mixes_is_refused(self) -> None:
        class Mixing(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.conv = nn.Conv2d(3, 4, 1)
                self.norm = nn.LayerNorm(4)

            def forward(self, x: Tensor) -> Tensor:
                return self.norm(self.conv(x).permute(0, 2, 3, 1))

        network = Mixing()
        network.conv.to(torch.bfloat16)
        image = torch.ones(1, 3, 5, 5, dtype=torch.bfloat16)
        assert network(image).dtype == torch.bfloat16  # the CPU accepts it
        message = "layer_norm: dtypes must be one, got bfloat16, float32, float32"
        with pretend_cuda() as device, pytest.raises(CudaRefusesError, match=message):
            network.to(device)(image.to(device))
        network = Mixing()
        network.conv.to(torch.bfloat16)
        with cuda_dtypes(), pytest.raises(CudaRefusesError, match=message):
            network(image)

    @pytest.mark.parametrize(
        ("operation", "message"),
        [
            (lambda x, y: x @ y.half().T, "(mm|matmul): dtypes must be one"),
            (lambda x, y: F.linear(x.half(), y.half(), y[:, 0]), "dtypes must be one"),
            (lambda x, y: F.group_norm(x.half(), 2, y[0], y[0]), "group_norm"),
            (lambda x, y: F.batch_norm(x, y[0], y[0], y[0].half(), y[0].half()), "batch_norm"),
            (lambda x, y: torch.cat([x, y.bfloat16()]), "cat: dtypes must be one"),
            (lambda x, y: F.conv1d(x[None], y.half()[..., None]), "dtypes must be one"),
            (lambda x, y: x.index_put((y[0].long() - 1,), y[0].half()), "index_put"),
            (lambda x, y: x.long() @ y.long(), "no such kernel"),
            (lambda x, y: x + torch.ones(4), "on the CPU among those on CUDA"),
            (lambda x, y: torch.ones(4)[x[0].long() - 1], "on the CPU among those on CUDA"),
        ],
    )
    def test_exception(self, operation: Callable[[Tensor, Tensor], Any], message: str) -> None:
        with pretend_cuda():
            x, y = self.on_device(4, 4), self.on_device(4, 4)
            with torch.inference_mode(), pytest.raises(CudaRefusesError, match=message):
                operation(x, y)
            with pytest.raises(CudaRefusesError, match=message):
                operation(x, y)

    def test_exception_numpy(self) -> None:
        with pretend_cuda(), pytest.raises((RuntimeError, TypeError), match="numpy"):
            self.on_device(2).numpy()

    def test_what_cuda_takes_is_not_refused(self) -> None:
        with pretend_cuda():
            x, y = self.on_device(4, 4), self.on_device(4, 4, dtype=torch.float16)
            assert (x + y).dtype == torch.float32
            assert F.batch_norm(y, x[0], x[0], x[0], x[0]).dtype == torch.float16
            assert torch.addcmul(x, x, y).dtype == torch.float32
            assert (x * torch.tensor(2.0)).tolist() == (x + 1).tolist()
            assert x[torch.tensor([1, 2])].shape == (2, 4)
            x[1:2] = y[:1] * 3
            assert x.cpu().sum() == 12 + 3 * 4

    def test_autocast_is_that_of_cuda(self) -> None:
        with pretend_cuda(), torch.autocast("cuda", torch.float16):
            x = self.on_device(4, 4)
            assert (x @ x).dtype == torch.float16
            assert F.layer_norm((x @ x), (4,)).dtype == torch.float32
            assert (x @ x).softmax(-1).dtype == torch.float32
