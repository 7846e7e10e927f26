from __future__ import annotations

import math

import pytest
import torch

from vots_hqtrack.training.losses import (
    StepOptions,
    clip_loss,
    hardest_mean,
    sample_losses,
)


def bootstrapped_cross_entropy(logits, labels, **options):
    return sample_losses(logits, labels, **options)[0].mean()


def soft_jaccard(logits, labels):
    return sample_losses(logits, labels, fraction=1.0)[1].mean()


def example(batch: int = 2, classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(batch, classes, 4, 5, generator=generator, dtype=torch.float64)
    return logits, torch.randint(0, classes, (batch, 4, 5), generator=generator)


def of_probs(*probs: float) -> torch.Tensor:
    """Logits ``(1, 2, 1, n)`` with these probabilities of the second class."""
    share = torch.tensor(probs)
    return torch.stack([(1 - share).log(), share.log()])[None, :, None]


def test_cross_entropy_values():
    logits, labels = of_probs(0.5, 0.25, 0.9, 0.9), torch.ones(1, 1, 4, dtype=torch.int64)
    hardest, second = -math.log(0.25), -math.log(0.5)
    for fraction, wanted in ((0.25, hardest), (0.5, (hardest + second) / 2), (0.01, hardest)):
        loss = bootstrapped_cross_entropy(logits, labels, fraction=fraction)
        assert loss.item() == pytest.approx(wanted, rel=1e-5)
    plain = torch.nn.functional.cross_entropy(logits, labels)
    assert bootstrapped_cross_entropy(logits, labels, fraction=1.0).item() == pytest.approx(
        plain.item()
    )


def test_cross_entropy_takes_the_share_of_each_sample():
    easy, hard = of_probs(0.9, 0.8), of_probs(0.1, 0.2)
    labels = torch.ones(2, 1, 2, dtype=torch.int64)
    loss = bootstrapped_cross_entropy(torch.cat([easy, hard]), labels, fraction=0.5)
    assert loss.item() == pytest.approx((-math.log(0.8) - math.log(0.1)) / 2, rel=1e-5)


def test_jaccard_values():
    # Object: intersection 0.8, union 0.8 + 0.2 (missed) + 0.4 (too much); background likewise.
    logits, labels = of_probs(0.8, 0.4), torch.tensor([[[1, 0]]])
    wanted = 1 - (0.8 / 1.4 + 0.6 / 1.2) / 2
    assert soft_jaccard(logits, labels).item() == pytest.approx(wanted, rel=1e-4)


def test_jaccard_averages_classes_of_a_sample_first():
    logits = torch.cat([of_probs(0.8, 0.4), of_probs(0.3, 0.5)])
    labels = torch.tensor([[[1, 0]], [[0, 0]]])
    first = 1 - (0.8 / 1.4 + 0.6 / 1.2) / 2
    second = 1 - 1.2 / 2.0
    assert soft_jaccard(logits, labels).item() == pytest.approx((first + second) / 2, rel=1e-4)


def test_jaccard_of_a_perfect_answer():
    _, labels = example()
    logits = 50.0 * torch.nn.functional.one_hot(labels, 3).movedim(-1, 1).float()
    assert soft_jaccard(logits, labels).item() == pytest.approx(0.0, abs=1e-5)


def both_losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    cross_entropy = bootstrapped_cross_entropy(logits, labels, fraction=0.4)
    return torch.stack([cross_entropy, soft_jaccard(logits, labels)])


def test_a_dead_channel_changes_nothing():
    logits, labels = example()
    dead = torch.full_like(logits[:, :1], -1e4)
    with_dead = torch.cat([logits, dead], dim=1).requires_grad_()
    losses = both_losses(with_dead, labels)
    assert torch.allclose(losses, both_losses(logits, labels))
    losses.sum().backward()
    assert with_dead.grad is not None
    assert torch.all(with_dead.grad[:, 3] == 0)
    assert torch.isfinite(with_dead.grad).all()


def test_gradients():
    logits, labels = example()
    logits, labels = logits[:, :, :2, :3].clone(), labels[:, :2, :3].clone()
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: both_losses(x, labels), (logits,))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    logits, labels = example()
    half = logits.to(dtype)
    losses = both_losses(half, labels)
    assert losses.dtype == torch.float32
    assert torch.equal(losses, both_losses(half.float(), labels))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_hardest_mean_equals_that_of_sorted_values(dtype):
    generator = torch.Generator().manual_seed(0)
    losses = torch.rand(5, 301, generator=generator, dtype=dtype) ** 8
    losses[1, ::2] = 0.0
    losses[2] = losses[2].round(decimals=1)  # many equal values
    losses[3] = -torch.zeros(301, dtype=dtype)
    counts = torch.tensor([1, 200, 77, 40, 301])
    for rows in (losses, losses.flip(1)):
        sorted_rows = rows.sort(1, descending=True).values
        wanted = torch.stack(
            [row[:count].mean() for row, count in zip(sorted_rows, counts, strict=True)]
        )
        torch.testing.assert_close(hardest_mean(rows, counts), wanted)


def test_hardest_mean_gradients():
    losses = torch.tensor([[3.0, 1.0, 2.0, 2.0, 0.0]], requires_grad=True)
    hardest_mean(losses, torch.tensor([2])).sum().backward()
    # The two values that are equal to the least that counts share its weight.
    assert losses.grad is not None
    assert losses.grad.tolist() == [[0.5, 0.0, 0.25, 0.25, 0.0]]


def test_hardest_mean_of_a_number_that_is_not_finite():
    losses = torch.tensor([[1.0, float("nan"), 2.0], [1.0, float("inf"), 2.0]])
    found = hardest_mean(losses, torch.tensor([1, 1]))
    assert not torch.isfinite(found).any()


def test_fraction_on_the_device_equals_a_number():
    logits, labels = example()
    for fraction in (0.1, 0.35, 1.0):
        found = [
            bootstrapped_cross_entropy(logits, labels, fraction=given)
            for given in (fraction, torch.tensor(fraction, dtype=torch.float64))
        ]
        torch.testing.assert_close(found[0], found[1])


def clip_example() -> tuple[list[torch.Tensor], torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    logits = [torch.randn(2, 3, 4, 5, generator=generator) for _ in range(4)]
    labels = torch.randint(0, 3, (2, 4, 16, 20), generator=generator, dtype=torch.uint8)
    labels[0, 2] = 1
    return logits, labels


@pytest.mark.parametrize("auxiliary", [0.0, 0.4])
def test_clip_loss_is_the_mean_of_its_frames(auxiliary):
    """Frame by frame from the two public losses."""
    logits, labels = clip_example()
    weights = StepOptions(0.3, 0.6, 0.25, auxiliary, with_reference=auxiliary > 0)
    found = clip_loss(logits, labels, weights, align_corners=True)
    entropies, jaccards = [], []
    for index, frame in enumerate(logits):
        fine = torch.nn.functional.interpolate(frame, (16, 20), mode="bilinear", align_corners=True)
        target = labels[:, index].long()
        entropies.append(bootstrapped_cross_entropy(fine, target, fraction=0.25))
        jaccards.append(soft_jaccard(fine, target))
    frames = 0.3 * torch.stack(entropies) + 0.6 * torch.stack(jaccards)
    torch.testing.assert_close(found.total, frames[1:].mean() + auxiliary * frames[0])
    torch.testing.assert_close(found.cross_entropy, torch.stack(entropies[1:]).mean())
    torch.testing.assert_close(found.jaccard, torch.stack(jaccards[1:]).mean())


def test_clip_loss_does_not_read_a_reference_frame_that_was_not_decoded():
    logits, labels = clip_example()
    weights = StepOptions(fraction=0.5)
    whole = clip_loss(logits, labels, weights, align_corners=False)
    without = clip_loss([torch.empty(0), *logits[1:]], labels, weights, align_corners=False)
    assert whole.total == without.total
