"""Losses of the training recipe (paper section 3): bootstrapped cross-entropy and soft Jaccard.

Both take logits of the background and of every object, in the order of the labels. Channels without
an object are the caller's business: a very negative logit there leaves values and gradients alone.
Half precision is computed in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor

from vots_hqtrack.errors import ShapeError

IGNORE_INDEX = 255
EPSILON = 1e-6


def bootstrap_fraction(
    step: int, total_steps: int, *, share: float = 0.15, until: float = 0.5
) -> float:
    """Share of the hardest pixels: falls from 1 over the first part of the training.

    Args:
        step: Number of the step.
        total_steps: Of the whole training.
        share: Where it falls to.
        until: Share of the steps over which it falls.

    Example:
        >>> [bootstrap_fraction(step, 100) for step in (0, 25, 50, 100)]
        [1.0, 0.575, 0.15, 0.15]
    """
    progress = min(1.0, step / (until * total_steps)) if until else 1.0
    return progress * share + (1.0 - progress)


@dataclass(frozen=True, slots=True)
class LossWeights:
    """What the loss of one step counts.

    Attributes:
        cross_entropy: Weight of the bootstrapped cross-entropy.
        jaccard: Weight of the soft Jaccard loss.
        fraction: Share of the pixels that the cross-entropy counts, the hardest.
        auxiliary: Weight of the reference frame.
    """

    cross_entropy: float = 0.5
    jaccard: float = 0.5
    fraction: float = 1.0
    auxiliary: float = 0.0


@dataclass(frozen=True, slots=True)
class ClipLoss:
    """Loss of a batch of clips, each value ``()`` float32.

    Attributes:
        total: To be minimised.
        cross_entropy: Mean over the tracked frames, without gradient.
        jaccard: The same of the soft Jaccard loss.
    """

    total: Tensor
    cross_entropy: Tensor
    jaccard: Tensor


def clip_loss(
    predicted: Sequence[Tensor], labels: Tensor, weights: LossWeights, *, align_corners: bool
) -> ClipLoss:
    """Mean loss of the tracked frames, and the fading one of the reference frame.

    Args:
        predicted: For each frame ``(B, N + 1, H'/4, W'/4)`` float logits, the reference frame
            first.
        labels: ``(B, T, H', W')`` uint8 at network size.
        weights: Of the parts.
        align_corners: How logits are resized to the labels.
    """
    size = (int(labels.shape[-2]), int(labels.shape[-1]))
    frames: list[Tensor] = []
    parts: list[Tensor] = []
    for index, logits in enumerate(predicted):
        if index == 0 and not weights.auxiliary:
            continue
        fine = F.interpolate(logits, size, mode="bilinear", align_corners=align_corners)
        target = labels[:, index].long()
        cross_entropy = bootstrapped_cross_entropy(fine, target, fraction=weights.fraction)
        jaccard = soft_jaccard(fine, target)
        loss = weights.cross_entropy * cross_entropy + weights.jaccard * jaccard
        if index == 0:
            frames.append(weights.auxiliary * (len(predicted) - 1) * loss)
        else:
            frames.append(loss)
            parts.append(torch.stack([cross_entropy.detach(), jaccard.detach()]))
    means = torch.stack(parts).mean(0)
    return ClipLoss(torch.stack(frames).sum() / (len(predicted) - 1), means[0], means[1])


def bootstrapped_cross_entropy(
    logits: Tensor, labels: Tensor, *, fraction: float, ignore_index: int = IGNORE_INDEX
) -> Tensor:
    """Cross-entropy of the hardest pixels of each sample.

    Args:
        logits: ``(B, N, H, W)`` float, channel = label.
        labels: ``(B, H, W)`` int64 in ``0..N-1``, or ``ignore_index``.
        fraction: Share of each sample's counted pixels that makes the loss, in ``(0, 1]``; at least
            one pixel does.
        ignore_index: Label of pixels that never count.

    Returns:
        ``()`` mean over the samples; a sample without a counted pixel gives 0.

    Raises:
        ShapeError: The shapes or dtypes are others, or ``fraction`` is out of range.

    Example:
        >>> logits = torch.tensor([[[[9.0, 0.0]], [[0.0, 0.0]]]])
        >>> labels = torch.tensor([[[0, 1]]])
        >>> bootstrapped_cross_entropy(logits, labels, fraction=0.5)
        tensor(0.6931)
    """
    _check(logits, labels)
    if not 0.0 < fraction <= 1.0:
        raise ShapeError(f"the fraction of hard pixels must be in (0, 1], got {fraction}")
    losses = F.cross_entropy(_widen(logits), labels, ignore_index=ignore_index, reduction="none")
    counted = (labels != ignore_index).flatten(1).sum(1).tolist()
    # Ignored pixels have loss 0 and sort last, so the first `count` values are all counted ones.
    samples = [
        sample.flatten().topk(max(1, int(fraction * count))).values.mean()
        for sample, count in zip(losses, counted, strict=True)
    ]
    return torch.stack(samples).mean()


def soft_jaccard(logits: Tensor, labels: Tensor, *, ignore_index: int = IGNORE_INDEX) -> Tensor:
    """One minus the soft intersection over union of the classes that a sample's labels hold.

    Args:
        logits: ``(B, N, H, W)`` float, channel = label.
        labels: ``(B, H, W)`` int64 in ``0..N-1``, or ``ignore_index``.
        ignore_index: Label of pixels that never count.

    Returns:
        ``()`` in ``[0, 1]``: mean over the classes present (the background is one), then over the
        samples. A sample without a counted pixel gives 0.

    Raises:
        ShapeError: The shapes or dtypes are others.

    Example:
        >>> logits = torch.tensor([[[[9.0, 0.0]], [[0.0, 0.0]]]])
        >>> soft_jaccard(logits, torch.tensor([[[0, 1]]]))
        tensor(0.4167)
    """
    _check(logits, labels)
    wide = _widen(logits)
    is_counted = (labels != ignore_index)[:, None]
    target = F.one_hot(labels.masked_fill(labels == ignore_index, 0), logits.shape[1])
    truth = (target.movedim(-1, 1) * is_counted).to(wide.dtype).flatten(2)
    prob = (wide.softmax(1) * is_counted).flatten(2)
    intersection = (prob * truth).sum(2)
    union = prob.sum(2) + truth.sum(2) - intersection
    is_present = truth.amax(2) > 0
    misses = (1.0 - intersection / (union + EPSILON)) * is_present
    return (misses.sum(1) / is_present.sum(1).clamp(min=1)).mean()


def _widen(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _check(logits: Tensor, labels: Tensor) -> None:
    wanted = (logits.shape[0], *logits.shape[2:])
    if logits.ndim != 4 or labels.shape != wanted or logits.numel() == 0:
        got = f"{tuple(logits.shape)} and {tuple(labels.shape)}"
        raise ShapeError(f"logits must be (B, N, H, W) and labels (B, H, W), got {got}")
    if labels.dtype != torch.int64 or not logits.is_floating_point():
        got = f"{logits.dtype} and {labels.dtype}"
        raise ShapeError(f"logits must be floating point and labels int64, got {got}")
