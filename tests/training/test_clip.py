"""Clips are unrolled through the network and the memory as inference does it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from vots_hqtrack.config import MemoryConfig, VMOSConfig
from vots_hqtrack.encoder.internimage import InternImage
from vots_hqtrack.training.batch import ClipBatch
from vots_hqtrack.training.clip import DEAD_LOGIT, shuffle_table, unroll_clip
from vots_hqtrack.training.losses import StepOptions
from vots_hqtrack.training.network import ClipNetwork
from vots_hqtrack.training.recipe import RegularisationOptions
from vots_hqtrack.training.regularise import regularise_encoder, regularise_vmos
from vots_hqtrack.types import FrameFeatures
from vots_hqtrack.vmos import VMOS, build_vmos

DIMS = (16, 32, 64)
MEMORY = MemoryConfig(capacity=2, gap=1, short_term_delay=1)


def small_vmos() -> VMOS:
    config = VMOSConfig(
        width_s16=16,
        width_s8=16,
        width_s4=8,
        num_blocks_s16=2,
        window_radius=1,
        identity_kernel=17,
        identity_kernel_s8=17,
        identity_stride_s8=16,
        align_corners=True,
    )
    torch.manual_seed(0)
    return build_vmos(config, DIMS)


def small_network(*, train_encoder: bool = True, recompute: bool = False) -> ClipNetwork:
    vmos = small_vmos()
    encoder = InternImage(DIMS, depths=(1, 1, 1, 1), groups=(2, 4, 8, 8))
    return ClipNetwork(
        encoder,
        vmos,
        MEMORY,
        align_corners=True,
        train_encoder=train_encoder,
        recompute_encoder=recompute,
    )


def small_batch(num_frames: int = 3) -> ClipBatch:
    generator = torch.Generator().manual_seed(1)
    labels = torch.zeros(2, num_frames, 33, 49, dtype=torch.uint8)
    labels[:, :, 4:20, 4:20] = 1
    labels[1, :, 20:30, 30:45] = 2
    frames = torch.randint(
        0, 256, (2, num_frames, 3, 33, 49), generator=generator, dtype=torch.uint8
    )
    return ClipBatch(labels, shuffle_table(2, generator), frames=frames)


def run(network: nn.Module, batch: ClipBatch, *, own: bool = True) -> list[Tensor]:
    predicted: list[Tensor] = network(batch, StepOptions(with_reference=True, predicted_masks=own))
    return predicted


@pytest.mark.usefixtures("fast_16_bit")
def test_logits_are_in_label_order_whatever_the_slots() -> None:
    """Before training slots differ, but dead channels and shapes must follow the labels."""
    batch = small_batch()
    labels = batch.labels.clone()
    labels[1][labels[1] == 1] = 0
    generator = torch.Generator().manual_seed(0)
    features = [
        FrameFeatures(
            *(
                torch.randn(2, dim, -(-33 // stride), -(-49 // stride), generator=generator)
                for dim, stride in zip(DIMS, (4, 8, 16), strict=True)
            )
        )
        for _ in range(3)
    ]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        logits = unroll_clip(
            small_vmos(), features, labels, batch.slots, MEMORY, use_predicted_masks=True
        )
    assert len(logits) == 3
    assert logits[0].shape == (2, 3, 9, 13)
    assert (logits[1][0, 2] == DEAD_LOGIT).all()
    assert (logits[1][1, 1] == DEAD_LOGIT).all()
    assert (logits[1][1, 2] > DEAD_LOGIT).all()


def test_own_labels_reach_the_memory_and_carry_no_gradient() -> None:
    network, batch = small_network(), small_batch()
    with torch.no_grad():
        own, given = (run(network.eval(), batch, own=own)[2] for own in (True, False))
    assert not torch.allclose(own, given)
    bank = network.vmos.identity.bank_s16.weight
    run(network, batch)[2][:, 0].sum().backward()
    assert bank.grad is not None
    through_own = bank.grad.clone()
    bank.grad = None
    other = small_batch()
    other.labels[:, 1:] = 0
    run(network, other)[2][:, 0].sum().backward()
    # Neither true labels of later frames nor VMOS's own send anything back to the bank.
    assert torch.equal(through_own, bank.grad)


def test_gradients_reach_every_parameter_of_the_encoder() -> None:
    network = small_network()
    # Offsets begin at 0, so that their guides would get no gradient in the first step.
    for name, parameter in network.named_parameters():
        if name.endswith(("offsets.weight", "weights.weight")):
            nn.init.normal_(parameter, std=0.1)
    loss = sum(logits[:, :2].square().mean() for logits in run(network, small_batch())[1:])
    loss.backward()  # type: ignore[union-attr]
    silent = [
        name
        for name, value in network.named_parameters()
        if value.grad is None or not value.grad.any()
    ]
    assert silent == []


def test_recomputing_the_encoder_changes_no_gradient() -> None:
    """Drop path is drawn alike both times, frame by frame."""
    options = RegularisationOptions(dropout=0, drop_path=0, encoder_drop_path=0.5)
    found = []
    for recompute in (False, True):
        network = small_network(recompute=recompute).train()
        assert network.encoder is not None
        regularise_encoder(network.encoder, options)
        batch = small_batch()
        if not recompute:  # one frame at a time, so that both draw in the same order
            network._encode = lambda frames, net=network: tuple(  # type: ignore[method-assign, misc]
                net._encode_images(frames[:, index]) for index in range(frames.shape[1])
            )
        torch.manual_seed(5)
        run(network, batch)[2][:, :2].square().sum().backward()
        found.append({name: value.grad for name, value in network.named_parameters()})
    for name, gradient in found[0].items():
        assert (gradient is None) == (found[1][name] is None)
        if gradient is not None:
            assert torch.allclose(gradient, found[1][name], rtol=1e-4, atol=1e-5), name


def test_frozen_encoder_stays_in_evaluation_and_gets_no_gradient() -> None:
    network = small_network(train_encoder=False).train()
    assert network.vmos.training
    assert network.encoder is not None
    assert not network.encoder.training
    run(network, small_batch())[1].sum().backward()
    assert all(value.grad is None for value in network.encoder.parameters())
    assert list(network.learning_modules()) == ["vmos"]


def test_reference_can_be_left_out() -> None:
    network, batch = small_network().eval(), small_batch()
    with torch.no_grad():
        without = network(batch, StepOptions(predicted_masks=True))
        whole = run(network, batch)
    assert without[0].numel() == 0
    assert torch.equal(without[2], whole[2])


@pytest.mark.parametrize("name", ["dropout", "drop_path", "encoder_drop_path"])
def test_regularisation_acts_in_training_alone(name: str) -> None:
    options = RegularisationOptions(
        **{"dropout": 0, "drop_path": 0, "encoder_drop_path": 0, name: 0.5}
    )
    batch, plain = small_batch(), small_network()
    network = small_network()
    network.load_state_dict(plain.state_dict())
    regularise_vmos(network.vmos, options)
    assert network.encoder is not None
    regularise_encoder(network.encoder, options)
    torch.manual_seed(0)
    with torch.no_grad():
        wanted = run(plain.eval(), batch)[1]
        assert torch.equal(run(network.eval(), batch)[1], wanted)
        draws = [run(network.train(), batch)[1] for _ in range(2)]
    assert not torch.equal(*draws)


def test_shuffle_is_a_permutation_with_fixed_background() -> None:
    table = shuffle_table(5, torch.Generator().manual_seed(0))
    assert (table[:, 0] == 0).all()
    assert torch.equal(table.sort(1).values, torch.arange(11).repeat(5, 1))
