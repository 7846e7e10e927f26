"""ImageNet checkpoints become encoders of VMOS, each number where the released code puts it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from checkpoints import constant_tensors, save
from torch import Tensor

from vots_hqtrack.checkpoints.convert import part_of
from vots_hqtrack.checkpoints.importing import import_weights, read_as
from vots_hqtrack.checkpoints.load import load_into
from vots_hqtrack.encoder.internimage import build_internimage_t
from vots_hqtrack.encoder.timm import build_timm_encoder
from vots_hqtrack.errors import WeightsError
from vots_hqtrack.training.network import build_network
from vots_hqtrack.training.recipe import ClipOptions, ModelOptions

WIDTHS, DEPTHS, GROUPS = (64, 128, 256, 512), (4, 4, 18, 4), (4, 8, 16, 32)
POINTS = 9


def _block(width: int, groups: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    def linear(name: str, out: int, into: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield f"{name}.weight", (out, into)
        yield f"{name}.bias", (out,)

    for name in ("gamma1", "gamma2"):
        yield name, (width,)
    for name in ("norm1.0", "norm2.0", "dcn.dw_conv.1.1"):
        yield f"{name}.weight", (width,)
        yield f"{name}.bias", (width,)
    yield "dcn.dw_conv.0.weight", (width, 1, 3, 3)
    yield "dcn.dw_conv.0.bias", (width,)
    yield from linear("dcn.offset", groups * POINTS * 2, width)
    yield from linear("dcn.mask", groups * POINTS, width)
    yield from linear("dcn.input_proj", width, width)
    yield from linear("dcn.output_proj", width, width)
    yield from linear("mlp.fc1", 4 * width, width)
    yield from linear("mlp.fc2", width, 4 * width)


def internimage_shapes() -> Iterator[tuple[str, tuple[int, ...]]]:
    """Keys and shapes of InternImage-T's classifier as its authors publish it."""
    yield "patch_embed.conv1.weight", (32, 3, 3, 3)
    yield "patch_embed.conv2.weight", (64, 32, 3, 3)
    for conv, norm, width in (("conv1", "norm1", 32), ("conv2", "norm2", 64)):
        yield f"patch_embed.{conv}.bias", (width,)
        yield f"patch_embed.{norm}.1.weight", (width,)
        yield f"patch_embed.{norm}.1.bias", (width,)
    for level, (width, depth, groups) in enumerate(zip(WIDTHS, DEPTHS, GROUPS, strict=True)):
        for block in range(depth):
            for name, shape in _block(width, groups):
                yield f"levels.{level}.blocks.{block}.{name}", shape
        for name in ("weight", "bias"):
            yield f"levels.{level}.norm.0.{name}", (width,)
        if level < 3:
            yield f"levels.{level}.downsample.conv.weight", (2 * width, width, 3, 3)
            for name in ("weight", "bias"):
                yield f"levels.{level}.downsample.norm.1.{name}", (2 * width,)
    yield "conv_head.0.weight", (768, 512, 1, 1)
    yield "conv_head.1.0.running_mean", (768,)
    yield "head.weight", (1000, 768)
    yield "head.bias", (1000,)


@pytest.fixture(scope="module")
def classifier() -> dict[str, Tensor]:
    """Numbers that tell every element of the halved level from its neighbours."""
    generator = torch.Generator().manual_seed(7)
    small = torch.zeros(())
    return {
        key: torch.randn(shape, generator=generator)
        if key.startswith(("levels.3.", "levels.0.", "patch_embed."))
        else small.expand(shape)
        for key, shape in internimage_shapes()
    }


def every_second(tensor: Tensor, axis: int) -> Tensor:
    """Nearest neighbour to half the length, by PyTorch's own resizing of the axis."""
    moved = tensor.movedim(axis, -1)
    lines = moved.reshape(1, -1, moved.shape[-1])
    half = F.interpolate(lines, size=moved.shape[-1] // 2, mode="nearest")
    return half.reshape(*moved.shape[:-1], -1).movedim(-1, axis)


def expected_last_level(key: str, tensor: Tensor) -> Tensor:
    """The rule of the released code's converter, in the words of its description."""
    if key.endswith(("dcn.mask.bias", "dcn.offset.bias")):
        return tensor
    if key.endswith(("dcn.offset.weight", "dcn.mask.weight")):
        return every_second(tensor, 1)
    if key.endswith(("_proj.weight", "mlp.fc1.weight", "mlp.fc2.weight")):
        return every_second(every_second(tensor, 0), 1)
    assert tensor.ndim == 1 or key.endswith("dw_conv.0.weight"), key
    return every_second(tensor, 0)


def test_internimage_goes_where_vmos_has_it(tmp_path: Path, classifier: dict[str, Tensor]) -> None:

    path = save(tmp_path / "internimage_t_1k_224.pth", classifier, nest="model")
    done = read_as("internimage-t-imagenet", path)
    assert {key.split(".")[0] for key in done.unused} == {"levels", "conv_head", "head"}
    assert len(done.unused) == 3 + 4
    with torch.device("meta"):
        encoder = build_internimage_t()
    encoder.to_empty(device="cpu")
    load_into(encoder, part_of(done.tensors, "encoder"), source="test")

    last, first = encoder.levels[3].blocks[2], encoder.levels[0].blocks[1]
    for block, prefix in ((last, "levels.3.blocks.2"), (first, "levels.0.blocks.1")):
        for name, parameter in (
            ("gamma1", block.conv_scale),
            ("gamma2", block.mlp_scale),
            ("norm1.0.weight", block.conv_norm.weight),
            ("norm2.0.bias", block.mlp_norm.bias),
            ("dcn.dw_conv.0.weight", block.conv.depthwise.weight),
            ("dcn.dw_conv.1.1.bias", block.conv.norm.bias),
            ("dcn.offset.weight", block.conv.offsets.weight),
            ("dcn.offset.bias", block.conv.offsets.bias),
            ("dcn.mask.weight", block.conv.weights.weight),
            ("dcn.mask.bias", block.conv.weights.bias),
            ("dcn.input_proj.weight", block.conv.value.weight),
            ("dcn.output_proj.bias", block.conv.output.bias),
            ("mlp.fc1.weight", block.mlp[0].weight),
            ("mlp.fc1.bias", block.mlp[0].bias),
            ("mlp.fc2.weight", block.mlp[2].weight),
        ):
            key = f"{prefix}.{name}"
            wanted = classifier[key]
            if prefix.startswith("levels.3"):
                wanted = expected_last_level(key, wanted)
            assert torch.equal(parameter, wanted), key
    norm = classifier["levels.3.norm.0.weight"]
    assert torch.equal(encoder.levels[3].norm.weight, norm[::2])
    assert torch.equal(encoder.stem.first.weight, classifier["patch_embed.conv1.weight"])


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"levels.3.blocks.0.gamma3": (512,)}, r"unexpected: levels\.3\.blocks\.0\.gamma3"),
        ({"pos_embed": (1, 2)}, "unexpected: pos_embed"),
        (
            {"levels.3.norm.0.weight": (256,)},
            r"levels\.3\.norm\.0\.weight \(wanted shape \(512,\), got \(256,\)\)",
        ),
    ],
)
def test_exception_another_network(
    tmp_path: Path, change: dict[str, tuple[int, ...]], why: str
) -> None:
    shapes = dict(internimage_shapes()) | change
    tensors = {key: torch.zeros(()).expand(shape) for key, shape in shapes.items()}
    with pytest.raises(WeightsError, match=why):
        read_as("internimage-t-imagenet", save(tmp_path / "a.pth", tensors, nest="model"))


def test_exception_a_key_is_missing(tmp_path: Path) -> None:
    shapes = dict(internimage_shapes())
    del shapes["levels.2.blocks.17.gamma1"]
    tensors = {key: torch.zeros(()).expand(shape) for key, shape in shapes.items()}
    with pytest.raises(WeightsError, match=r"missing: levels\.2\.blocks\.17\.gamma1"):
        read_as("internimage-t-imagenet", save(tmp_path / "a.pth", tensors, nest="model"))


def test_training_begins_at_what_was_imported(tmp_path: Path) -> None:
    torch.manual_seed(0)
    classifier = timm.create_model("resnet50", pretrained=False).state_dict()
    weights = tmp_path / "resnet50.safetensors"
    import_weights(save(tmp_path / "a.pth", classifier), "resnet50", weights)
    options = ModelOptions(preset="deaot-r50", encoder_weights=str(weights))
    network = build_network(options, ClipOptions())
    trained = network.export_tensors(network.learning_modules())
    for key in ("conv1.weight", "layer3.5.bn3.running_var"):
        assert torch.equal(trained[f"encoder.backbone.{key}"], classifier[key])


def test_resnet50_with_and_without_counters(tmp_path: Path) -> None:
    torch.manual_seed(0)
    classifier = timm.create_model("resnet50", pretrained=False).eval()
    tensors = classifier.state_dict()
    done = read_as("resnet50", save(tmp_path / "a.pth", tensors))
    assert {key.split(".")[0] for key in done.unused} == {"fc", "layer4"}
    encoder = build_timm_encoder("resnet50").eval()
    load_into(encoder, part_of(done.tensors, "encoder"), source="test")
    image = torch.randn(1, 3, 33, 49)
    with torch.inference_mode():
        stem = classifier.maxpool(classifier.act1(classifier.bn1(classifier.conv1(image))))
        wanted = classifier.layer3(classifier.layer2(classifier.layer1(stem)))
        torch.testing.assert_close(encoder(image).s16, wanted)

    old = constant_tensors(
        {key: value for key, value in tensors.items() if "num_batches" not in key}
    )
    content = read_as("resnet50", save(tmp_path / "b.pth", old))
    assert content.tensors.keys() == {f"encoder.{key}" for key in encoder.state_dict()}
    assert content.tensors["encoder.backbone.bn1.num_batches_tracked"].dtype == torch.int64
    del old["layer1.0.conv1.weight"]
    with pytest.raises(WeightsError, match=r"missing: layer1\.0\.conv1\.weight"):
        read_as("resnet50", save(tmp_path / "c.pth", old))
