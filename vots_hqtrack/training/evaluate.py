"""Quick look at a network in training: region similarity J on cached videos, at network size."""

from __future__ import annotations

import torch

from vots_hqtrack.config import MemoryConfig
from vots_hqtrack.masks import one_hot_slots
from vots_hqtrack.memory.state import new_group
from vots_hqtrack.training.clip import resize_logits
from vots_hqtrack.training.features import CachedClip, Window
from vots_hqtrack.types import Size
from vots_hqtrack.vmos import VMOS


@torch.inference_mode()
def cached_jaccard(vmos: VMOS, clip: CachedClip, memory: MemoryConfig) -> float:
    """Track object 1 through a cached video in closed loop.

    Args:
        vmos: Network in evaluation mode.
        clip: The video.
        memory: Memory rules.

    Returns:
        Mean intersection over union over all frames but the first, in ``[0, 1]``; a frame where
        both the true and the predicted mask are empty counts 1.
    """
    length, size = clip.shape
    whole = Window(0, 0, size.height, size.width)
    group = new_group(memory)
    scores = []
    for index in range(length):
        features, labels = clip.read([index], whole)
        network = Size(int(labels.shape[1]), int(labels.shape[2]))
        with torch.autocast("cpu", torch.bfloat16):
            if index == 0:
                embedding = vmos.identify(one_hot_slots(labels.long()))
                output = vmos.propagate_reference(features, embedding)
                group.start(vmos.remember(0, output.proposals, embedding))
                continue
            output = vmos.propagate(features, group.long_term.entries, group.short_term[0])
            logits = vmos.decode(output.embedding).float()[:, :2]
            found = resize_logits(logits, network).argmax(1)
            embedding = vmos.identify(one_hot_slots(found))
            group.commit(vmos.remember(index, output.proposals, embedding), memory.gap)
        wanted = labels[0] == 1
        union = int((wanted | (found[0] == 1)).sum())
        scores.append(int((wanted & (found[0] == 1)).sum()) / union if union else 1.0)
    return sum(scores) / len(scores)
