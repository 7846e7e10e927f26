"""Recorded clips of the released model, and VMOS driven through them as the tracker drives it.

| clip | what |
|---|---|
| A | 161 x 193, 3 objects, gap 2, delay 4, capacity 6: a frame leaves at 12 and 14 |
| B | the same with capacity 3 |
| C | 161 x 193, 13 objects in two groups |
| D | 240 x 320 video, resized to 481 x 641 and back |
| E | 97 x 129, 1 object, gap 1, delay 1 |
| F | as A, but two of the objects have no pixel in the first mask |
| P | 129 x 161, 2 objects, capacity 9 as in the paper: a frame leaves at 18 and 20 |
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from released_recipe import released_weights
from safetensors import safe_open
from safetensors.numpy import load_file
from torch import Tensor

from vots_hqtrack.checkpoints.convert import RULES, part_of
from vots_hqtrack.checkpoints.load import load_into
from vots_hqtrack.checkpoints.rename import rename
from vots_hqtrack.config import MemoryConfig, released_vmos
from vots_hqtrack.encoder.internimage import InternImage, build_internimage_t
from vots_hqtrack.frame import (
    FrameGeometry,
    frame_to_image,
    labels_to_network,
    logits_to_frame,
    plan_aligned_frame,
)
from vots_hqtrack.masks import one_hot_slots
from vots_hqtrack.memory import new_group
from vots_hqtrack.merge import merge_groups
from vots_hqtrack.precision import cast_to_low_precision
from vots_hqtrack.types import SLOTS_PER_GROUP, FrameArray, FrameFeatures, LabelArray, Size
from vots_hqtrack.vmos import VMOS, build_vmos

RELEASED = Path(__file__).parent / "released"
CPU = torch.device("cpu")
MIN_SHORT_EDGE = {"D": 480}
"""The other clips went into the network as they are."""

CLOSED_FRAMES = {"D": 4}
"""Frames of the clips that are tracked in closed loop in float32; else all."""
LOWERED_FRAMES = {False: {"A": 8, "C": 4, "P": 8}, True: {"A": 4, "C": 4, "P": 4}}
"""Frames of the clips that are tracked with bfloat16 products, which are slow on most CPUs: in
closed loop until three frames are in the long-term memory (one of clip C), and with the recorded
labels in memory, where rounding does not add up, until one is; else all."""


@dataclass(frozen=True)
class Clip:
    """One recorded clip.

    Attributes:
        name: Its letter.
        frames: ``T`` times uint8 ``(H, W, 3)``.
        labels: ``(T, H, W)`` uint8: the given ones of frame 0, then the released model's.
        logits: For each group ``(T - 1, 1 + n, h, w)`` float32: background and live slots, every
            ``step``-th location.
        step: Locations from one recorded logit to the next, in both directions.
        num_objects: Objects that the released model counted.
        long_term_frames: Frames in the long-term memory at frames 1..T-1; empty where it was not
            recorded.
        short_term_frames: The frame that the short-term memory came from.
        memory: The memory's sizes.
        geometry: Layout of frames in the network image.
    """

    name: str
    frames: list[FrameArray]
    labels: LabelArray
    logits: list[np.ndarray]
    step: int
    num_objects: int
    long_term_frames: list[list[int]]
    short_term_frames: list[int]
    memory: MemoryConfig
    geometry: FrameGeometry

    @property
    def num_live(self) -> list[int]:
        """Channels of each group that stand for something, the background included."""
        groups = max(-(-self.num_objects // SLOTS_PER_GROUP), 1)
        return [min(self.num_objects - 10 * i, 10) + 1 for i in range(groups)]


def read_facts(path: Path) -> dict:
    with safe_open(path, "numpy") as file:
        return json.loads(file.metadata()["facts"])


@cache
def load_clip(name: str) -> Clip:
    path = RELEASED / name / "recorded.safetensors"
    facts, tensors = read_facts(path), load_file(path)
    folder = RELEASED / facts["frames_of"]
    count = facts["num_frames"]
    frames = [np.array(Image.open(folder / f"frame_{i:02}.png")) for i in range(count)]
    size = Size(*frames[0].shape[:2])
    long_term = tensors.get("long_term_frames", np.zeros((0, 0)))
    return Clip(
        name=name,
        frames=frames,
        labels=np.array(Image.open(path.with_name("labels.png"))).reshape(count, *size),
        logits=[tensors[f"logits_{i}"] for i in range(len(tensors)) if f"logits_{i}" in tensors],
        step=facts["step"],
        num_objects=facts["num_objects"],
        long_term_frames=[[int(i) for i in row if i >= 0] for row in long_term],
        short_term_frames=tensors.get("short_term_frames", np.zeros(0)).tolist(),
        memory=MemoryConfig(facts["capacity"], facts["gap"], facts["short_term_delay"]),
        geometry=plan_aligned_frame(size, min_short_edge=MIN_SHORT_EDGE.get(name, 0)),
    )


@dataclass(frozen=True)
class Step:
    """VMOS's output for one frame.

    Attributes:
        index: The frame.
        logits: For each group ``(1 + n, h, w)``.
        log_probabilities: ``(1 + N, H, W)`` at frame size.
        long_term_frames: Frames in the long-term memory.
        short_term_frame: Source of the short-term memory.
    """

    index: int
    logits: list[Tensor]
    log_probabilities: Tensor
    long_term_frames: list[int]
    short_term_frame: int

    @property
    def labels(self) -> Tensor:
        """``(H, W)`` integer."""
        return self.log_probabilities.argmax(0)

    @property
    def margin(self) -> Tensor:
        """``(H, W)``: how far the best label's logit is above the second best's."""
        best = self.log_probabilities.topk(2, dim=0).values
        return best[0] - best[1]


@cache
def recorded_weights() -> dict[str, Tensor]:
    """All tensors of the recording under our keys, with their prefixes."""
    facts = read_facts(RELEASED / "E" / "recorded.safetensors")
    drawn = released_weights(facts["salt"], facts["output_bias"])
    return rename(drawn, RULES, source="the recipe")


@cache
def load_models() -> tuple[InternImage, VMOS]:
    """Encoder and VMOS with the weights of the recording."""
    tensors = recorded_weights()
    encoder = build_internimage_t()
    load_into(encoder, part_of(tensors, "encoder"), source="the recipe")
    vmos = build_vmos(released_vmos(), encoder.dims)
    load_into(vmos, part_of(tensors, "vmos"), source="the recipe")
    return encoder.eval(), vmos.eval()


@cache
def lowered_models() -> tuple[InternImage, VMOS]:
    """The same with bfloat16 products."""
    encoder, vmos = copy.deepcopy(load_models())
    cast_to_low_precision(encoder, torch.bfloat16)
    cast_to_low_precision(vmos, torch.bfloat16)
    return encoder, vmos


@cache
def encode_frame(name: str, index: int, *, lowered: bool = False) -> FrameFeatures:
    """Features of one frame of a clip."""
    if name in "BF":  # these show the first frames of A
        return encode_frame("A", index, lowered=lowered)
    clip = load_clip(name)
    encoder, _ = lowered_models() if lowered else load_models()
    with torch.inference_mode():
        return encoder(frame_to_image(clip.frames[index], clip.geometry, CPU))


def steps_of(
    name: str, *, forced: bool, lowered: bool = False, num_frames: int | None = None
) -> list[Step]:
    """Steps of the first frames of a clip, or of all; computed once for all tests."""
    steps, rest = _run_of(name, forced, lowered)
    count = (num_frames or len(load_clip(name).frames)) - 1
    with torch.inference_mode():
        steps.extend(islice(rest, max(count - len(steps), 0)))
    return steps[:count]


@cache
def _run_of(name: str, forced: bool, lowered: bool) -> tuple[list[Step], Iterator[Step]]:
    """Steps of a clip that are there, and the run that gives the others."""
    clip = load_clip(name)
    vmos = (lowered_models() if lowered else load_models())[1]
    features = (encode_frame(name, index, lowered=lowered) for index in range(len(clip.frames)))
    return [], follow(vmos, clip, features, forced=forced)


def follow(
    vmos: VMOS, clip: Clip, features: Iterable[FrameFeatures], *, forced: bool
) -> Iterator[Step]:
    """Track through a clip.

    Args:
        vmos: With the released sizes.
        clip: The clip.
        features: Features of its frames, which are encoded one by one as a tracker does.
        forced: The recorded labels go to the memory instead of the predicted ones.
    """
    groups = [new_group(clip.memory) for _ in clip.num_live]
    later = iter(features)
    first = next(later)
    for number, group in enumerate(groups):
        embedding = vmos.encode_masks(one_hot(clip, clip.labels[0], number))
        output = vmos.propagate(first, embedding)
        group.write_reference(vmos.write_memory(0, output.proposals, embedding))
    for index, frame in enumerate(later, start=1):
        outputs = [vmos.propagate(frame, group.read()) for group in groups]
        logits = [
            vmos.decode(output)[0, :live]
            for output, live in zip(outputs, clip.num_live, strict=True)
        ]
        merged = merge_groups([logits_to_frame(some, clip.geometry) for some in logits])
        step = Step(
            index,
            logits,
            merged.log(),
            list(groups[0].frame_indices),
            groups[0].read().short_term.frame_index,
        )
        yield step
        kept = clip.labels[index] if forced else step.labels.numpy().astype(np.uint8)
        for number, (group, output) in enumerate(zip(groups, outputs, strict=True)):
            embedding = vmos.encode_masks(one_hot(clip, kept, number))
            group.write(vmos.write_memory(index, output.proposals, embedding))


def one_hot(clip: Clip, labels: LabelArray, group: int) -> Tensor:
    """One-hot slots of one group at network size: label ``10 * group + s`` is slot ``s``."""
    label_map = labels_to_network(torch.from_numpy(labels), clip.geometry).long()
    slots = label_map - SLOTS_PER_GROUP * group
    inside = (label_map > 0) & (slots >= 1) & (slots <= SLOTS_PER_GROUP)
    return one_hot_slots(torch.where(inside, slots, 0)[None])
