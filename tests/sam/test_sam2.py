"""SAM 2 as refiner: its own prompts and masks, by a small network with random weights."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from device_runs import pooled_iou
from torch import nn
from two_discs import draw_video

from vots_hqtrack.build import build_untrained_parts
from vots_hqtrack.checkpoints.importing import import_weights
from vots_hqtrack.checkpoints.load import load_weights, save_tensors
from vots_hqtrack.config import RefinerConfig
from vots_hqtrack.encoder.frames import EncodedFrame
from vots_hqtrack.errors import ConfigError, WeightsError
from vots_hqtrack.frame import plan_frame
from vots_hqtrack.presets import load_preset
from vots_hqtrack.refiner import RefinerOptions, build_refiner
from vots_hqtrack.sam import sam2
from vots_hqtrack.sam.geometry import SamGeometry, scale_points
from vots_hqtrack.sam.prompts import Prompts
from vots_hqtrack.sam.refiner import SamRefiner
from vots_hqtrack.settings import apply_settings
from vots_hqtrack.tracker import HQTracker
from vots_hqtrack.types import FrameFeatures, LabelArray, Size

CPU = torch.device("cpu")
SIDE = 256
RANDOM_IOU = 0.97
"""IoU of all masks together: random weights bring many pixels near a tie."""
NO_FEATURES = FrameFeatures(*3 * (torch.zeros(1, 1, 1, 1),))


@pytest.fixture(scope="module")
def library() -> ModuleType:
    return pytest.importorskip("transformers", reason="needs the extra transformers")


def small_model(library: ModuleType) -> nn.Module:
    """A network of SAM 2's kind; its input has 256 pixels a side."""
    hiera = library.Sam2HieraDetConfig(
        image_size=[SIDE, SIDE], hidden_size=8, embed_dim_per_stage=[8, 16, 32, 64],
        num_attention_heads_per_stage=[1, 2, 4, 8], blocks_per_stage=[1, 1, 2, 1],
        global_attention_blocks=[3], window_size_per_stage=[8, 4, 8, 4],
    )  # fmt: skip
    vision = library.Sam2VisionConfig(
        backbone_config=hiera, backbone_channel_list=[64, 32, 16, 8], fpn_hidden_size=32,
        backbone_feature_sizes=[[SIDE // stride] * 2 for stride in (4, 8, 16)],
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = library.Sam2Model(
            library.Sam2Config(
                vision_config=vision,
                prompt_encoder_config={"hidden_size": 32, "image_size": SIDE},
                mask_decoder_config={
                    "hidden_size": 32,
                    "mlp_dim": 64,
                    "num_attention_heads": 2,
                    "iou_head_hidden_dim": 32,
                },
            )
        ).eval()
        with torch.no_grad():  # the initial weights are so small that no mask has an inside
            for parameter in model.mask_decoder.parameters():
                parameter.add_(torch.randn(parameter.shape), alpha=0.3)
    return model.requires_grad_(False)


@pytest.fixture
def model(library: ModuleType) -> nn.Module:
    return small_model(library)


def make_refiner(model: nn.Module, dtype: torch.dtype = torch.float32) -> SamRefiner:
    return sam2.sam2_refiner(model, RefinerConfig(kind="sam2"), RefinerOptions(CPU, dtype))


def encoded() -> EncodedFrame:
    frame, _ = draw_video(1)[0]
    return EncodedFrame(frame, plan_frame(Size(*frame.shape[:2])), NO_FEATURES)


def masks_of_video() -> torch.Tensor:
    return torch.from_numpy(np.stack(list(draw_video(1)[0][1].values())))


def test_boxes_equal_the_librarys_own_way(model: nn.Module) -> None:
    """Stretch and normalise by hand, then the network's own forward: the same logits."""
    frame = encoded().frame
    height, width = frame.shape[:2]
    refiner = make_refiner(model)
    with torch.inference_mode():
        embedding = refiner.embed(encoded())
        corners = torch.tensor([[20.0, 10.0], [79.0, 59.0]])
        geometry = SamGeometry(embedding.frame_size, embedding.input_size, SIDE, SIDE // 4)
        prompts = Prompts(scale_points(corners, geometry).view(1, 4))
        found = refiner.decoder(embedding, prompts, multimask=True)
        image = torch.from_numpy(frame).permute(2, 0, 1)[None].float()
        image = nn.functional.interpolate(image, (SIDE, SIDE), mode="bilinear", antialias=True)
        mean, std = torch.tensor([[123.675, 116.28, 103.53], [58.395, 57.12, 57.375]])
        image = (image - mean[:, None, None]) / std[:, None, None]
        box = torch.tensor([[[20.0, 10.0, 79.0, 59.0]]])
        box *= torch.tensor([SIDE / width, SIDE / height] * 2)
        wanted = model(pixel_values=image, input_boxes=box)
    assert found.logits.shape == (1, 3, SIDE // 4, SIDE // 4)
    # Frames are resized in 8 bits, which rounds.
    logits = wanted["pred_masks"]
    gap = (found.logits - logits[0]).std() / logits.std()
    assert gap < 0.03
    torch.testing.assert_close(found.predicted_iou, wanted.iou_scores[0], atol=0.03, rtol=0)


def test_objects_of_one_call_equal_those_of_many(model: nn.Module) -> None:
    refiner, masks = make_refiner(model), masks_of_video()
    with torch.inference_mode():
        embedding = refiner.embed(encoded())
        together = refiner.refine(embedding, masks)
        alone = torch.cat([refiner.refine(embedding, mask[None]).masks for mask in masks])
    assert together.masks.any()
    assert (together.masks != alone).sum() <= 2
    assert together.predicted_iou.shape == (len(masks),)


@pytest.mark.usefixtures("fast_16_bit")
def test_bfloat16_rounds_the_image_encoder_alone(library: ModuleType, model: nn.Module) -> None:
    exact, rounded = make_refiner(model), make_refiner(small_model(library), torch.bfloat16)
    dtypes = {parameter.dtype for parameter in rounded.decoder.model.mask_decoder.parameters()}
    assert dtypes == {torch.float32}
    with torch.inference_mode():
        wanted = exact.embed(encoded()).maps
        found = rounded.embed(encoded()).maps
        assert rounded.refine(rounded.embed(encoded()), masks_of_video()).masks.any()
    for exact_map, other in zip(wanted, found, strict=True):
        gap = (exact_map - other).std() / exact_map.std()
        assert 0 < gap < 0.05


def follow(dtype: str, device: str) -> LabelArray:
    """Label maps of the preset `hqtrack-sam2` with random weights, always the same ones."""
    settings = ["encoder.kind=resnet18", "frame.min_short_edge=0", f"runtime.dtype={dtype}"]
    config = apply_settings(load_preset("hqtrack-sam2"), settings)
    parts = build_untrained_parts(config, torch.device(device))
    tracker = HQTracker(config, *parts, torch.device(device))
    (frame, masks), *others = draw_video(3)
    state = tracker.initialize(frame, masks)
    results = [tracker.track(other, state) for other, _ in others]
    assert all(result.masks.keys() == masks.keys() for result in results)
    return np.stack([result.label_map for result in results])


@pytest.mark.usefixtures("fast_16_bit")
@pytest.mark.parametrize(
    ("dtype", "device"),
    [
        pytest.param("bfloat16", "cpu", id="bfloat16-on_cpu"),
        *(
            pytest.param(dtype, "cuda", id=f"{dtype}-on_cuda", marks=pytest.mark.gpu)
            for dtype in ("float32", "bfloat16", "float16")
        ),
    ],
)
def test_the_preset_tracks_alike_on_every_device(
    dtype: str, device: str, library: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(sam2, "build_sam2", lambda _: small_model(library))
    exact = follow("float32", "cpu")
    assert exact.any()
    assert pooled_iou(follow(dtype, device), exact) >= RANDOM_IOU


def test_weights_are_imported_under_their_own_keys(
    library: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOTS_HQTRACK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sam2, "build_sam2", lambda _: small_model(library))
    tensors = small_model(library).state_dict()
    path = tmp_path / "model.safetensors"
    video = {"memory_attention.layer.weight": torch.zeros(2)}
    save_tensors(path, {**tensors, **video}, {}, dtype=torch.float32)
    done = import_weights(path, "sam2.1-hiera-tiny")
    assert done.unused == tuple(video)
    stored = load_weights("sam2.1-hiera-tiny")
    assert all(torch.equal(stored[key], value) for key, value in tensors.items())
    save_tensors(path, {**tensors, "other.weight": torch.zeros(2)}, {}, dtype=torch.float32)
    with pytest.raises(WeightsError, match=r"unexpected: other\.weight"):
        import_weights(path, "sam2.1-hiera-tiny", force=True)


@pytest.mark.parametrize("size", sam2.SIZES)
def test_published_sizes(library: ModuleType, size: str) -> None:
    """Millions of parameters without the memory for videos, as the authors count the whole."""
    whole = {"tiny": 38.9, "small": 46.0, "base-plus": 80.8, "large": 224.4}[size]
    count = sum(value.numel() for value in sam2.sam2_shapes(size).values()) / 1e6
    assert 0 < whole - count < 9


def test_exceptions(library: ModuleType) -> None:
    with pytest.raises(ConfigError, match="one of tiny, small, base-plus, large of SAM 2, got 'b'"):
        sam2.build_sam2("b")
    with pytest.raises(ConfigError, match="got 'vit_tiny'"):
        build_refiner(RefinerConfig(kind="sam2"), RefinerOptions(CPU, has_weights=False))


def test_exception_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConfigError, match=r"pip install .*\[transformers\]"):
        sam2.build_sam2("tiny")
