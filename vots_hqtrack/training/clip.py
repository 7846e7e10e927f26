"""Unrolling of a training clip through VMOS and the memory code of inference (paper section 3).

The first frame of a clip carries the given labels. On the others VMOS predicts, and either the
predicted masks or the true ones are written to the memory.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor

from vots_hqtrack.config import MemoryConfig
from vots_hqtrack.masks import one_hot_slots
from vots_hqtrack.memory import new_group
from vots_hqtrack.types import SLOTS_PER_GROUP, FrameFeatures, PropagationOutput
from vots_hqtrack.vmos import VMOS

DEAD_LOGIT = -1e4
"""Logit of a slot without an object: never chosen, and no gradient."""


def shuffle_table(batch: int, generator: torch.Generator) -> Tensor:
    """Sample the slot of each object, so that no slot learns a meaning of its own.

    Args:
        batch: Number of clips.
        generator: Random generator.

    Returns:
        ``(B, 11)`` int64: entry ``i`` is the slot of label ``i``; the background keeps 0.
    """
    rows = [torch.randperm(SLOTS_PER_GROUP, generator=generator) + 1 for _ in range(batch)]
    return F.pad(torch.stack(rows), (1, 0))


def unroll_clip(
    vmos: VMOS,
    features: Sequence[FrameFeatures],
    labels: Tensor,
    slots: Tensor,
    memory: MemoryConfig,
    *,
    use_predicted_masks: bool,
    align_corners: bool = False,
    with_reference: bool = True,
    num_objects: int | None = None,
) -> list[Tensor]:
    """Track through a batch of clips.

    Args:
        vmos: The network.
        features: Encoder features of each frame, ``T`` times batch ``B``.
        labels: ``(B, T, H', W')`` uint8 at network size; 0 is the background, 1..10 the objects.
        slots: From :func:`shuffle_table`.
        memory: Memory rules of the training.
        use_predicted_masks: Write the predicted masks to the memory instead of the true ones (no
            teacher forcing); no gradient flows through their identity embedding.
        align_corners: Interpolation of logits to the labels' size.
        with_reference: Decode the reference frame too; without, its logits are an empty tensor.
        num_objects: Largest label ``N``, 1..10; None finds it, for which the host waits.

    Returns:
        For each frame ``(B, N + 1, H'/4, W'/4)`` float32 logits in the order of the labels.
        Channels of labels that a clip's first frame lacks are ``DEAD_LOGIT``.
    """
    dead = _dead_channels(labels[:, 0], num_objects)
    channels = slots[:, : dead.shape[1]]

    def embed(label_map: Tensor) -> Tensor:
        taken = slots.gather(1, label_map.flatten(1).long()).view_as(label_map)
        return one_hot_slots(taken)

    def read(output: PropagationOutput) -> Tensor:
        logits = vmos.decode(output).float()
        index = channels[..., None, None].expand(-1, -1, *logits.shape[-2:])
        return logits.gather(1, index).masked_fill(dead[..., None, None], DEAD_LOGIT)

    group = new_group(memory)
    embedding = vmos.encode_masks(embed(labels[:, 0]))
    output = vmos.propagate(features[0], embedding)
    group.write_reference(vmos.write_memory(0, output.proposals, embedding))
    empty = labels.new_zeros(0).float()
    predicted = [read(output) if with_reference else empty]
    for index in range(1, len(features)):
        output = vmos.propagate(features[index], group.read())
        predicted.append(read(output))
        if index == len(features) - 1:
            break
        if use_predicted_masks:
            hard = _hard_labels(predicted[-1], labels, align_corners=align_corners)
            embedding = vmos.encode_masks(embed(hard)).detach()
        else:
            embedding = vmos.encode_masks(embed(labels[:, index]))
        group.write(vmos.write_memory(index, output.proposals, embedding))
    return predicted


def _dead_channels(labels: Tensor, num_objects: int | None) -> Tensor:
    """Labels that a clip's first frame lacks, ``(B, N + 1)`` bool; never the background."""
    if num_objects is None:
        num_objects = int(labels.max())
    dead = one_hot_slots(labels.long()).flatten(2).amax(2)[:, : num_objects + 1] == 0
    dead[:, 0] = False
    return dead


def _hard_labels(logits: Tensor, labels: Tensor, *, align_corners: bool) -> Tensor:
    """Most probable label of each pixel, ``(B, H', W')`` int64, at the labels' size."""
    size = (int(labels.shape[-2]), int(labels.shape[-1]))
    fine = F.interpolate(logits.detach(), size, mode="bilinear", align_corners=align_corners)
    return fine.argmax(1)
