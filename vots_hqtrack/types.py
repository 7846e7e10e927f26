"""Values that cross function borders: identifiers, sizes, features and results.

Layouts are batch-first: ``(B, C, H', W')`` for encoder features, ``(B, H', W', C)`` in propagation
and memory. Frames are uint8 ``(H, W, 3)`` RGB; masks are bool ``(H, W)``; pixel coordinates are
``(x, y)`` with the origin at the outer corner of the top-left pixel.
"""

from __future__ import annotations

import dataclasses
import math
import operator
import os
import reprlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, NewType

import numpy as np
import numpy.typing as npt

from vots_hqtrack.errors import InputError, ShapeError

if TYPE_CHECKING:
    from torch import Tensor

ObjectId = NewType("ObjectId", int)
"""The caller's name of an object, 1..1000, for ever."""

Slot = NewType("Slot", int)
"""An object's index in a tensor, 1..10 inside its group; 0 is the background."""

MaskArray = npt.NDArray[np.bool_]
FrameArray = npt.NDArray[np.uint8]
LabelArray = npt.NDArray[np.unsignedinteger[Any]]
"""Object ids ``(H, W)``, 0 = background: uint8, or uint16 for ids above 255."""

Source = Literal["given", "initial", "refined", "absent"]
"""Origin of a reported mask: the caller, VMOS, the refiner, or none (the object is not seen)."""

SLOTS_PER_GROUP = 10
MAX_OBJECTS = 1000
"""Objects of a video at most, and the highest object id."""
VOID_LABEL = 255
"""Value of pixels without a label in 8-bit masks."""
PROMPT_IDS = f"1 to {MAX_OBJECTS} without {VOID_LABEL}"
"""Ids of objects that prompts name, in words; see `is_prompt_id`."""


class Size(NamedTuple):
    """Height and width in pixels or tokens, always in this order."""

    height: int
    width: int

    def __str__(self) -> str:
        """Write ``width x height``, as options and players have it."""
        return f"{self.width}x{self.height}"


@dataclass(frozen=True, slots=True)
class FrameFeatures:
    """Encoder features of one network image.

    Attributes:
        s4: ``(B, C4, H/4, W/4)`` float, ``H, W`` being the network size.
        s8: ``(B, C8, H/8, W/8)`` float.
        s16: ``(B, C16, H/16, W/16)`` float.
    """

    s4: Tensor
    s8: Tensor
    s16: Tensor

    def sample(self, index: int) -> FrameFeatures:
        """Return the features of one image of the batch, as a batch of one.

        An encoder's own class may have more fields; they are batches too.
        """
        names = [part.name for part in dataclasses.fields(self)]
        return dataclasses.replace(
            self, **{name: getattr(self, name)[index : index + 1] for name in names}
        )


@dataclass(frozen=True, slots=True)
class IdentityEmbedding:
    """Output of the identity bank for one frame's labels.

    Attributes:
        s16: ``(B, H', W', C16)`` float at stride 16.
        s8: ``(B, H', W', C8)`` float at stride 8; None where no block has that stride.
    """

    s16: Tensor
    s8: Tensor | None

    def at_stride(self, stride: int) -> Tensor:
        """Return the embedding ``(B, H', W', C)`` at a stride, 16 or 8.

        Raises:
            ShapeError: The identity bank has no such stride.
        """
        found = {16: self.s16, 8: self.s8}.get(stride)
        if found is None:
            raise ShapeError(f"wanted an identity embedding at stride {stride}, which is missing")
        return found

    def detach(self) -> IdentityEmbedding:
        """Return the same numbers, through which no gradient flows."""
        return IdentityEmbedding(self.s16.detach(), None if self.s8 is None else self.s8.detach())


@dataclass(frozen=True, slots=True)
class LayerProposal:
    """Proposal of one propagation block for a frame's memory, before its labels are decided.

    Attributes:
        key: ``(B, H', W', C / 2)`` float; the query is the same.
        value: ``(B, H', W', 2C)`` float visual value.
        identity: ``(B, H', W', C)`` float, the normalised identity stream; None in the first block.
    """

    key: Tensor
    value: Tensor
    identity: Tensor | None

    def sample(self, index: int) -> LayerProposal:
        """Return the proposal of one frame of the batch, as a batch of one."""
        part = slice(index, index + 1)
        identity = None if self.identity is None else self.identity[part]
        return LayerProposal(self.key[part], self.value[part], identity)


@dataclass(frozen=True, slots=True)
class LayerMemory:
    """One propagation block's part of a memory entry, at the block's stride.

    Attributes:
        key: ``(B, H', W', C / 2)`` float.
        value: ``(B, H', W', 4C)`` float: visual value, then identity value.
    """

    key: Tensor
    value: Tensor


@dataclass(frozen=True, slots=True)
class MemoryEntry:
    """All that is stored of one frame.

    Attributes:
        frame_index: The frame.
        layers: One for each propagation block, in their order.
    """

    frame_index: int
    layers: tuple[LayerMemory, ...]

    @property
    def nbytes(self) -> int:
        """Bytes that the entry's tensors hold."""
        tensors = [tensor for layer in self.layers for tensor in (layer.key, layer.value)]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@dataclass(frozen=True, slots=True)
class MemoryFrames:
    """Memory frames that a frame reads.

    Attributes:
        long_term: At least one entry.
        short_term: Entry of a recent frame.
    """

    long_term: Sequence[MemoryEntry]
    short_term: MemoryEntry


Memory = MemoryFrames | tuple[MemoryFrames, ...] | IdentityEmbedding
"""Memory that a batch of frames reads: the same number of entries for all of them, in batches too;
those of each frame's own video, in batches of one; or the identity embedding of the frames' own
masks: a reference frame is its own memory."""


@dataclass(frozen=True, slots=True)
class PropagationOutput:
    """Output of propagation for one frame.

    Attributes:
        embedding: ``(B, 2C, H', W')`` float, visual half first, for the decoder: at stride 4 after
            multi-scale propagation, at 16 after single-scale propagation.
        proposals: One for each block, in their order.
        features: Encoder features that the decoder of single-scale propagation reads too; None
            after multi-scale propagation, which has read them already.
    """

    embedding: Tensor
    proposals: tuple[LayerProposal, ...]
    features: FrameFeatures | None = None


@dataclass(frozen=True, slots=True)
class ImageEmbedding:
    """Image embedding of one frame for SAM's mask decoder.

    Attributes:
        embedding: ``(1, 256, 64, 64)`` float, output of SAM's image encoder.
        early: ``(1, 64, 64, C)`` float, early encoder features that the HQ head reads.
        input_size: Size of the resized frame inside SAM's 1024 x 1024 input.
        frame_size: Size of the video frame.
    """

    embedding: Tensor
    early: Tensor
    input_size: Size
    frame_size: Size


class ConfidenceFeatures(NamedTuple):
    """Inputs of one mask's calibrated score.

    Margins are differences of log-probabilities between the object and the strongest other class,
    at the stride of VMOS's logits.

    Attributes:
        mean_margin: Mean margin inside the initial mask, 0..10; 0 if the mask is empty.
        weak_fraction: Fraction of the initial mask with a margin below 1; 0 if the mask is empty.
        ambiguity: ``log(1 + x)``, x being the number of locations outside with a margin above -2
            for each location inside.
        shrinkage: Logarithm of the given mask's area over that of the initial mask, 0..3.
    """

    mean_margin: float
    weak_fraction: float
    ambiguity: float
    shrinkage: float


@dataclass(frozen=True, slots=True)
class FramePace:
    """Steps that a latency budget left out of one frame.

    Attributes:
        scale: Resolution as a fraction of the preset's own.
        memory_frames: Long-term frames that were read at most; the reference frame counts.
        is_refinement_skipped: The masks were not refined, for want of time.
        mean_seconds: Seconds per frame, mean of the newest frames.
        is_in_budget: Whether that keeps the budget.
        restart_seconds: Seconds of building the memory at another resolution before this frame; 0
            where the resolution stayed.
    """

    scale: float
    memory_frames: int
    is_refinement_skipped: bool
    mean_seconds: float
    is_in_budget: bool
    restart_seconds: float = 0.0


def check_frame(frame: object, *, expected: Size | None = None) -> Size:
    """Check a video frame and return its size.

    Args:
        frame: Wanted: uint8 ``(H, W, 3)`` RGB array.
        expected: Size that the video had so far, or None.

    Returns:
        The frame's size.

    Raises:
        ShapeError: It is not such an array, or its size differs from ``expected``.
    """
    if not isinstance(frame, np.ndarray) or frame.ndim != 3 or frame.shape[2] != 3:
        got = getattr(frame, "shape", type(frame).__name__)
        raise ShapeError(f"a frame must be a uint8 array (H, W, 3) in RGB, got {got}")
    if frame.dtype != np.uint8:
        raise ShapeError(f"a frame must be uint8, got {frame.dtype}")
    size = Size(int(frame.shape[0]), int(frame.shape[1]))
    if size.height < 1 or size.width < 1:
        raise ShapeError(f"a frame must not be empty, got {size}")
    if expected is not None and size != expected:
        raise ShapeError(
            f"the frame size changed midway: the video began with {expected}, got {size}"
        )
    return size


def check_object_id(object_id: object) -> ObjectId:
    """Check an object id: a whole number of Python or NumPy, 1..1000.

    Raises:
        InputError: It is another object or number.
    """
    is_whole = isinstance(object_id, (int, np.integer)) and not isinstance(object_id, bool)
    if not is_whole or not 1 <= object_id <= MAX_OBJECTS:  # type: ignore[operator]
        got = reprlib.repr(object_id)
        raise InputError(f"object ids must be whole numbers 1..{MAX_OBJECTS}, got {got}")
    return ObjectId(int(object_id))  # type: ignore[call-overload]


def is_prompt_id(number: float) -> bool:
    """Whether prompts may name an object so: its masks must not look like pixels without a label.

    Example:
        >>> [is_prompt_id(number) for number in (1, 254, 255, 1000, 1001)]
        [True, True, False, True, False]
    """
    return 1 <= number <= MAX_OBJECTS and number != VOID_LABEL


def next_prompt_id(taken: Collection[int]) -> ObjectId | None:
    """Return an id for a new object: the next above all others, or else the lowest that is free.

    Args:
        taken: Ids of the other objects.

    Returns:
        The id; None where all are taken.

    Example:
        >>> next_prompt_id([]), next_prompt_id([2, 254]), next_prompt_id([1, 1000])
        (1, 256, 2)
    """
    highest = max(taken, default=0)
    numbers = (*range(highest + 1, MAX_OBJECTS + 1), *range(1, highest))
    free = (ObjectId(number) for number in numbers if number not in taken and is_prompt_id(number))
    return next(free, None)


def label_dtype(last: int) -> type[np.uint8] | type[np.uint16]:
    """Return the dtype of label maps with object ids up to ``last``."""
    return np.uint8 if last <= np.iinfo(np.uint8).max else np.uint16


def label_table(object_ids: Sequence[ObjectId]) -> LabelArray:
    """Return the object id of each number in a slot map; 0 is the background."""
    return np.array([0, *object_ids], label_dtype(max(object_ids, default=0)))


def check_boxes(boxes: object) -> list[tuple[float, float, float, float]]:
    """Check boxes: sequences of four finite numbers each.

    Raises:
        InputError: They are not.
    """
    wanted = "boxes must be a list of (x, y, width, height), four finite numbers each"
    if not isinstance(boxes, (Sequence, np.ndarray)) or isinstance(boxes, str):
        raise InputError(f"{wanted}; got {type(boxes).__name__}")
    checked = []
    for box in boxes:
        try:
            x, y, width, height = (float(number) for number in box)
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError(f"{wanted}; got {reprlib.repr(box)}") from error
        if isinstance(box, str) or not all(map(math.isfinite, (x, y, width, height))):
            raise InputError(f"{wanted}; got {reprlib.repr(box)}")
        checked.append((x, y, width, height))
    return checked


def check_path(path: object) -> Path:
    """Check a path: a string or a path object.

    Raises:
        InputError: It is another object, empty, or has a null character.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise InputError(f"wanted a path, got {type(path).__name__}")
    if not (text := os.fsdecode(path)) or "\0" in text:
        raise InputError(f"wanted a path, got {text!r}")
    return Path(path)


def check_track_options(memory_frames: object, use_refiner: object) -> None:
    """Check the options of ``HQTracker.track``.

    Raises:
        InputError: A number of frames below 1, or a value of another type.
    """
    is_whole = isinstance(memory_frames, (int, np.integer)) and not isinstance(memory_frames, bool)
    if memory_frames is not None and not (is_whole and memory_frames >= 1):  # type: ignore[operator]
        got = reprlib.repr(memory_frames)
        raise InputError(f"memory_frames must be a whole number of at least 1, or None, got {got}")
    if not isinstance(use_refiner, (bool, np.bool_)):
        raise InputError(f"use_refiner must be True or False, got {reprlib.repr(use_refiner)}")


def check_masks(masks: Mapping[int, MaskArray], size: Size) -> dict[ObjectId, MaskArray]:
    """Check the masks of new objects and return them in ascending order of their ids.

    Args:
        masks: Bool ``(H, W)`` by object id.
        size: Frame size that every mask must have.

    Returns:
        The same masks, C-contiguous.

    Raises:
        InputError: No object, an id outside 1..1000, or a mask without a pixel.
        ShapeError: A mask is not bool or has another size than the frame.
    """
    if not isinstance(masks, Mapping):
        got = type(masks).__name__
        raise InputError(f"masks must be a mapping from object ids, such as {{1: mask}}, got {got}")
    if not masks:
        raise InputError("no object to track: wanted at least one first-frame mask, got none")
    if len(masks) > MAX_OBJECTS:
        raise InputError(f"at most {MAX_OBJECTS} objects fit one video, got {len(masks)}")
    checked: dict[ObjectId, MaskArray] = {}
    by_id = {check_object_id(object_id): mask for object_id, mask in masks.items()}
    for object_id, mask in sorted(by_id.items(), key=operator.itemgetter(0)):
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
            got = getattr(mask, "dtype", type(mask).__name__)
            raise ShapeError(f"the mask of object {object_id} must be a bool array, got {got}")
        if mask.shape != tuple(size):
            shape = "x".join(str(side) for side in reversed(mask.shape))
            raise ShapeError(
                f"the mask of object {object_id} must have the frame size {size}, got {shape}"
            )
        if not mask.any():
            raise InputError(
                f"the mask of object {object_id} is empty: an object needs at least one pixel"
            )
        checked[object_id] = np.ascontiguousarray(mask)
    return checked
