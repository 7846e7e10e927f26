"""A batch's way: frozen encoder in the dtype of the products, and CUDA's rules about dtypes."""

from __future__ import annotations

import copy
import dataclasses
import functools

import pytest
import torch
from pretend_cuda import cuda_dtypes, pretend_cuda
from torch import Tensor

from vots_hqtrack.training.batch import ClipBatch
from vots_hqtrack.training.clip import shuffle_table
from vots_hqtrack.training.engine import fast_kernels
from vots_hqtrack.training.losses import StepOptions, clip_loss
from vots_hqtrack.training.network import ClipNetwork, build_network
from vots_hqtrack.training.recipe import ClipOptions, ModelOptions

DTYPES = (torch.bfloat16, torch.float16)


def draw_batch() -> ClipBatch:
    generator = torch.Generator().manual_seed(0)
    labels = torch.zeros(2, 3, 32, 48, dtype=torch.uint8)
    labels[:, :, 4:20, 4:20] = 1
    labels[1, :, 20:30, 20:40] = 2
    frames = torch.randint(0, 256, (2, 3, 3, 64, 96), generator=generator, dtype=torch.uint8)
    return ClipBatch(labels, shuffle_table(2, generator), frames=frames, num_objects=10)


def lite_network(dtype: torch.dtype = torch.float32) -> ClipNetwork:
    """A network of its own."""
    return copy.deepcopy(_built(dtype))


@functools.cache
def _built(dtype: torch.dtype) -> ClipNetwork:
    model = ModelOptions(preset="lite", train_encoder=False, weights="vmos-lite")
    clip = ClipOptions(memory_gap=2, memory_capacity=3)
    return build_network(model, clip, encoder_dtype=dtype).train()


@pytest.mark.weights
def test_features_encoded_beforehand_are_those_of_the_forward_pass() -> None:
    network, batch = lite_network(), draw_batch()
    encoded = network.encode_frozen(batch, torch.float32)
    assert encoded.features is not None
    assert len(encoded.features) == 3
    assert not encoded.features[0].s4.requires_grad
    with torch.no_grad():
        found, wanted = (
            network(given, StepOptions(with_reference=True, predicted_masks=True))
            for given in (encoded, batch)
        )
    for left, right in zip(found, wanted, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-3, atol=1e-3)
    assert network.encode_frozen(encoded, torch.float32) is encoded


@pytest.mark.weights
def test_the_encoder_is_not_among_what_training_changes() -> None:
    network = lite_network()
    learning = network.learning_modules()
    kept = {name: value.clone() for name, value in learning.state_dict().items()}
    assert kept.keys() == {f"vmos.{name}" for name in network.vmos.state_dict()}
    average = copy.deepcopy(learning)
    with torch.no_grad():
        network.vmos.decoder.classify.weight.zero_()
    learning.load_state_dict(average.state_dict())
    assert torch.equal(
        average["vmos"].decoder.classify.weight, network.vmos.decoder.classify.weight
    )


@pytest.mark.weights
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_forward_pass_and_loss_keep_to_cudas_dtypes(dtype: torch.dtype) -> None:
    with pretend_cuda() as device:
        network = lite_network(dtype).to(device)
        batch = network.encode_frozen(draw_batch().to(device), dtype)
        assert batch.features is not None
        assert {each.dtype for each in dataclasses.astuple(batch.features[0])} == {dtype}
        with torch.autocast("cuda", dtype):
            predicted = network(batch, StepOptions(predicted_masks=True))
        weights = StepOptions(fraction=torch.tensor(0.3, device=device))
        loss = clip_loss(predicted, batch.labels, weights, align_corners=False)
    total: Tensor = loss.total
    assert total.device.type == "cuda"
    assert total.requires_grad


@pytest.mark.weights
@pytest.mark.usefixtures("fast_16_bit")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_backward_pass_keeps_to_cudas_dtypes(dtype: torch.dtype) -> None:
    network = lite_network(dtype)
    with cuda_dtypes():
        batch = network.encode_frozen(draw_batch(), dtype)
        with torch.autocast("cpu", dtype):
            predicted = network(batch, StepOptions())
        weights = StepOptions(fraction=torch.tensor(0.3))
        loss = clip_loss(predicted, batch.labels, weights, align_corners=False)
        loss.total.backward()
    for name, parameter in network.vmos.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.dtype == torch.float32
        assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_settings_of_kernels_last_as_long_as_a_run(dtype: torch.dtype) -> None:
    def settings() -> tuple[object, ...]:
        cudnn = torch.backends.cudnn
        return torch.get_float32_matmul_precision(), cudnn.benchmark, cudnn.allow_tf32

    before = settings()
    with fast_kernels(torch.device("cpu"), dtype):
        assert settings() == before
    with fast_kernels(torch.device("cuda"), dtype):
        rounds = dtype != torch.float32
        assert settings() == ("high" if rounds else "highest", before[1], rounds)
    assert settings() == before
