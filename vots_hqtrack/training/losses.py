"""Losses of the training recipe (paper section 3): bootstrapped cross-entropy and soft Jaccard.

Both take logits of the background and of every object, in the order of the labels. Channels without
an object get a very negative logit from the caller, which leaves values and gradients alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor

EPSILON = 1e-6


@dataclass(frozen=True, slots=True)
class StepOptions:
    """Variable options of a step: weights of the loss, and the masks in the memory.

    Attributes:
        cross_entropy: Weight of the bootstrapped cross-entropy.
        jaccard: Weight of the soft Jaccard loss.
        fraction: Fraction of the pixels, the hardest ones, in the cross-entropy; a ``()`` tensor
            where one CUDA graph serves all fractions.
        auxiliary: Weight of the reference frame, likewise.
        with_reference: Count the reference frame at all.
        predicted_masks: Predicted masks go to the memory instead of the true ones.
    """

    cross_entropy: float = 0.5
    jaccard: float = 0.5
    fraction: float | Tensor = 1.0
    auxiliary: float | Tensor = 0.0
    with_reference: bool = False
    predicted_masks: bool = False


@dataclass(frozen=True, slots=True)
class Loss:
    """Loss of a batch, each value ``()`` float32.

    Attributes:
        total: The minimised loss.
        cross_entropy: Mean over the tracked frames, without gradient.
        jaccard: The same of the soft Jaccard loss.
    """

    total: Tensor
    cross_entropy: Tensor
    jaccard: Tensor


def clip_loss(
    predicted: Sequence[Tensor],
    labels: Tensor,
    options: StepOptions,
    *,
    align_corners: bool,
) -> Loss:
    """Mean loss of the tracked frames, and the fading one of the reference frame.

    Args:
        predicted: For each frame ``(B, N + 1, H'/4, W'/4)`` float logits, the reference frame
            first.
        labels: ``(B, T, H', W')`` uint8 at network size.
        options: Weights of the parts.
        align_corners: Convention of resizing logits to the labels.
    """
    first = 0 if options.with_reference else 1
    logits = torch.stack(list(predicted[first:]), dim=1).flatten(0, 1)
    size = (int(labels.shape[-2]), int(labels.shape[-1]))
    fine = F.interpolate(logits, size, mode="bilinear", align_corners=align_corners)
    target = labels[:, first:].flatten(0, 1).long()
    samples = sample_losses(fine, target, fraction=options.fraction)
    cross_entropy, jaccard = (loss.unflatten(0, (len(labels), -1)).mean(0) for loss in samples)
    frames = options.cross_entropy * cross_entropy + options.jaccard * jaccard
    total = frames[1 - first :].mean()
    if options.with_reference:
        total = total + options.auxiliary * frames[0]
    means = [loss.detach()[1 - first :].mean() for loss in (cross_entropy, jaccard)]
    return Loss(total, means[0], means[1])


def sample_losses(
    logits: Tensor, labels: Tensor, *, fraction: float | Tensor
) -> tuple[Tensor, Tensor]:
    """Bootstrapped cross-entropy and soft Jaccard loss of each sample.

    The former is the mean over the hardest pixels. The latter is one minus the soft intersection
    over union, the mean over the classes that the labels hold, the background included.

    Args:
        logits: ``(B, N, H, W)`` float, channel = label.
        labels: ``(B, H, W)`` int64 in ``0..N-1``.
        fraction: Fraction of each sample's pixels in the cross-entropy, in ``(0, 1]``; at least one
            pixel. As a ``()`` float tensor it may change without any shape changing.

    Returns:
        Two times ``(B,)``.

    Example:
        >>> logits = torch.tensor([[[[9.0, 0.0]], [[0.0, 0.0]]]])
        >>> sample_losses(logits, torch.tensor([[[0, 1]]]), fraction=0.5)
        (tensor([0.6931]), tensor([0.4167]))
    """
    # Half precision is computed in float32.
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    log_prob = wide.log_softmax(1)
    return _cross_entropies(log_prob, labels, fraction), _jaccards(log_prob.exp(), labels)


def hardest_mean(losses: Tensor, count: Tensor) -> Tensor:
    """Mean of the largest values of each row; only the device knows their number.

    The smallest value that counts is found by halving the range of its bits, which for numbers of 0
    and more are in the order of the numbers. Values equal to it share the rest of the count.

    Args:
        losses: ``(S, P)`` float32 or float64, 0 or more.
        count: ``(S,)`` int64, 1..P.

    Returns:
        ``(S,)`` of the losses' dtype.

    Example:
        >>> hardest_mean(torch.tensor([[1.0, 4.0, 2.0, 2.0]]), torch.tensor([2]))
        tensor([3.])
    """
    integer, num_bits = (torch.int64, 63) if losses.dtype == torch.float64 else (torch.int32, 31)
    wanted = count[:, None]
    with torch.no_grad():
        bits = (losses.detach() + 0.0).view(integer)  # the sum turns -0 into 0
        threshold = torch.zeros_like(wanted, dtype=integer)
        for bit in reversed(range(num_bits)):
            trial = threshold | (1 << bit)
            is_enough = (bits >= trial).sum(1, keepdim=True) >= wanted
            threshold = torch.where(is_enough, trial, threshold)
        is_above, is_equal = bits > threshold, bits == threshold
        rest = wanted - is_above.sum(1, keepdim=True)
        weights = is_above + is_equal * (rest / is_equal.sum(1, keepdim=True))
    return (losses * weights.to(losses.dtype)).sum(1) / count


def _cross_entropies(log_prob: Tensor, labels: Tensor, fraction: float | Tensor) -> Tensor:
    """Return the mean loss of each sample's hardest pixels, ``(B,)``."""
    losses = F.nll_loss(log_prob, labels, reduction="none").flatten(1)
    num_pixels = losses.shape[1]
    if isinstance(fraction, Tensor):
        counts = torch.full_like(losses[:, 0], num_pixels, dtype=torch.int64)
        return hardest_mean(losses, (fraction * counts).long().clamp(min=1))
    count = max(1, int(fraction * num_pixels))
    if count == num_pixels:
        return losses.mean(1)
    return losses.topk(count, dim=-1, sorted=False).values.mean(1)


def _jaccards(prob: Tensor, labels: Tensor) -> Tensor:
    """Return the loss of each sample, ``(B,)``."""
    classes = torch.arange(prob.shape[1], device=labels.device).view(1, -1, 1, 1)
    truth = labels[:, None] == classes
    intersection = (prob * truth).flatten(2).sum(2)
    pixels = truth.flatten(2).sum(2)
    union = prob.flatten(2).sum(2) + pixels - intersection
    is_present = pixels > 0
    misses = (1.0 - intersection / (union + EPSILON)) * is_present
    return misses.sum(1) / is_present.sum(1).clamp(min=1)
