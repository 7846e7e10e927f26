"""The tracker, where encoder, VMOS, memory, refiner and selector meet (paper, Figure 2).

One frame's way: encode once, propagate every group's memory, decode, decide on the labels, remember
them, refine the masks with the same encoding, select, report.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vots_hqtrack.checkpoints.convert import part_of
from vots_hqtrack.checkpoints.load import load_into, load_weights
from vots_hqtrack.checkpoints.manifest import resolve
from vots_hqtrack.config import RefinerConfig, TrackerConfig, load_preset
from vots_hqtrack.devices import pick_device, pick_dtype
from vots_hqtrack.encoder.frames import (
    EncodedFrame,
    FrameEncoder,
    SeparateFrameEncoder,
    SharedFrameEncoder,
)
from vots_hqtrack.encoder.internimage import build_internimage_t
from vots_hqtrack.encoder.sam import SamEncoder
from vots_hqtrack.errors import ConfigError, InputError, ShapeError
from vots_hqtrack.frame import labels_to_network, logits_to_frame
from vots_hqtrack.masks import combine_masks, one_hot_slots
from vots_hqtrack.memory.state import TrackState, new_group
from vots_hqtrack.refiner.models import Sam, build_sam
from vots_hqtrack.refiner.refiner import MaskRefiner, build_refiner
from vots_hqtrack.selector import resolve_overlaps, select
from vots_hqtrack.settings import apply_settings
from vots_hqtrack.types import (
    SLOTS_PER_GROUP,
    FrameArray,
    FrameFeatures,
    FrameResult,
    LabelArray,
    MaskArray,
    ObjectId,
    Source,
    check_frame,
    check_masks,
)
from vots_hqtrack.vmos import VMOS, build_vmos


class HQTracker:
    """Tracks any number of objects through a video, frame by frame.

    The tracker holds weights only; a video's data lies in the ``TrackState`` that
    :meth:`initialize` returns, so one tracker serves several videos in turn.

    Args:
        config: How to track.
        encoder: Lays frames out and encodes them for both stages.
        vmos: Segmenter.
        refiner: Mask refiner, which also turns boxes into masks; None if there is none.
        device: Where to compute.

    Example:
        >>> tracker = HQTracker.from_preset("lite", device="cpu")  # doctest: +SKIP
        >>> state = tracker.initialize(frame, {1: mask_a, 2: mask_b})  # doctest: +SKIP
        >>> result = tracker.track(next_frame, state)  # doctest: +SKIP
    """

    def __init__(
        self,
        config: TrackerConfig,
        encoder: FrameEncoder,
        vmos: VMOS,
        refiner: MaskRefiner | None,
        device: torch.device,
    ) -> None:
        self.config = config
        self.device = device
        self.dtype = pick_dtype(config.runtime.dtype, device)
        self._encoder = encoder
        self._vmos = vmos.to(device).eval()
        self._refiner = None if refiner is None else refiner.to(device).eval()
        if config.runtime.threads:
            torch.set_num_threads(config.runtime.threads)

    @classmethod
    def from_preset(
        cls,
        name: str = "lite",
        *,
        device: str = "auto",
        weights: Path | None = None,
        settings: Iterable[str] = (),
    ) -> HQTracker:
        """Build a tracker from a preset.

        Args:
            name: A key of ``PRESETS``.
            device: ``auto``, ``cpu``, ``cuda`` or any name that PyTorch knows.
            weights: VMOS weights (safetensors) in place of the shipped ones.
            settings: ``section.option=value`` texts, applied in order.

        Raises:
            ConfigError: The preset, the device, an option or a value is unknown.
            WeightsError: Weights are missing, damaged, or do not fit.
        """
        config = apply_settings(load_preset(name), settings)
        return cls.from_config(config, device=device, weights=weights)

    @classmethod
    def from_config(
        cls, config: TrackerConfig, *, device: str = "auto", weights: Path | None = None
    ) -> HQTracker:
        """Build a tracker from a configuration; arguments and errors as :meth:`from_preset`."""
        place = pick_device(device)
        if config.encoder.kind == "sam":
            encoder, vmos, refiner = _build_shared(config, place, weights)
        else:
            encoder, vmos, refiner = _build_released(config, place, weights)
        return cls(config, encoder, vmos, refiner, place)

    def initialize(self, frame: FrameArray, masks: Mapping[int, MaskArray]) -> TrackState:
        """Start a video.

        Args:
            frame: Reference frame, uint8 ``(H, W, 3)`` RGB.
            masks: Bool ``(H, W)`` by object id, 1..255. Where several claim a pixel, the lowest id
                gets it.

        Returns:
            The video's state, to be given to :meth:`track`.

        Raises:
            InputError: There is no object, an id is out of range, or a mask is empty.
            ShapeError: The frame or a mask is of another shape or dtype.
        """
        size = check_frame(frame)
        given = check_masks(masks, size)
        state = TrackState(self._encoder.plan(size))
        with self._computing():
            features = self._encoder.encode(frame, state.geometry).features
            self._start_objects(features, given, np.zeros(size, np.uint8), state)
        return state

    def add_objects(
        self, frame: FrameArray, masks: Mapping[int, MaskArray], state: TrackState
    ) -> None:
        """Add objects on the frame that :meth:`track` or :meth:`initialize` saw last.

        The given masks win over what was predicted there. The frame becomes a reference frame of
        the groups that the new objects join, together with the predicted masks of the objects that
        they join.

        Args:
            frame: That frame again, uint8 ``(H, W, 3)`` RGB.
            masks: Bool ``(H, W)`` by object id; ids that are not tracked yet.
            state: The video.

        Raises:
            InputError: An object is tracked already, or a mask is empty.
            ShapeError: The frame or a mask has another size than the video.
        """
        size = check_frame(frame, expected=state.geometry.frame_size)
        given = check_masks(masks, size)
        with self._computing():
            features = self._encoder.encode(frame, state.geometry).features
            self._start_objects(features, given, state.label_map, state)

    def track(self, frame: FrameArray, state: TrackState) -> FrameResult:
        """Find the objects in the next frame and remember it.

        Args:
            frame: uint8 ``(H, W, 3)`` RGB, of the size of the video's first frame.
            state: The video; it is changed.

        Returns:
            A mask for every object; all False for one that is not seen, which stays known and can
            come back.

        Raises:
            ShapeError: The frame has another size than the video, or is no such array. The state is
                unchanged.
        """
        check_frame(frame, expected=state.geometry.frame_size)
        if not state.groups:
            raise InputError("this video has no object yet: call initialize first")
        with self._computing():
            encoded = self._encoder.encode(frame, state.geometry)
            probabilities, places = self._propagate(encoded.features, state)
            coarse, scores = _masks_and_scores(probabilities, places)
            return self._report(coarse, scores, encoded, state)

    def mask_from_box(self, frame: FrameArray, box: tuple[float, float, float, float]) -> MaskArray:
        """Segment what a box encloses, by the refiner.

        Args:
            frame: uint8 ``(H, W, 3)`` RGB.
            box: ``(x, y, width, height)`` in frame pixels.

        Returns:
            Bool ``(H, W)``.

        Raises:
            InputError: The box encloses no pixel of the frame, or nothing was found in it.
            ShapeError: The frame is no such array.
        """
        size = check_frame(frame)
        if self._refiner is None:
            raise ConfigError(f"the preset {self.config.preset!r} has no refiner to read boxes")
        with self._computing():
            encoded = self._encoder.encode(frame, self._encoder.plan(size))
            mask: MaskArray = self._refiner.segment_box(encoded.embed(), box).cpu().numpy()
        if not mask.any():
            raise InputError(f"the refiner found no object in the box {box}")
        return mask

    def _start_objects(
        self,
        features: FrameFeatures,
        given: Mapping[ObjectId, MaskArray],
        label_map: LabelArray,
        state: TrackState,
    ) -> None:
        first_group = len(state.slots.object_ids) // SLOTS_PER_GROUP
        state.slots.add(given)
        added = combine_masks(given)
        state.label_map = np.where(added > 0, added, label_map)
        while len(state.groups) < state.slots.num_groups:
            state.groups.append(new_group(self.config.memory))
        for number in range(first_group, state.slots.num_groups):
            embedding = self._vmos.identify(self._slot_maps(state, number))
            output = self._vmos.propagate_reference(features, embedding)
            entry = self._vmos.remember(state.frame_index, output.proposals, embedding)
            state.groups[number].start(entry)

    def _propagate(self, features: FrameFeatures, state: TrackState) -> tuple[Tensor, Tensor]:
        """Track all groups and commit the frame to their memories.

        Returns:
            ``(1 + N, H, W)`` float probabilities: the background, then the objects in the order of
            their places; and ``(H, W)`` int64, which of them is the most probable.
        """
        logits, outputs = [], []
        for number, group in enumerate(state.groups):
            output = self._vmos.propagate(features, group.long_term.entries, group.short_term[0])
            live = len(state.slots.members(number)) + 1
            decoded = self._vmos.decode(output.embedding)[0, :live].float()
            logits.append(logits_to_frame(decoded, state.geometry))
            outputs.append(output)
        probabilities = merge_groups(logits)
        state.frame_index += 1
        places = probabilities.argmax(0)
        state.label_map = self._label_map(places, state)
        for number, (group, output) in enumerate(zip(state.groups, outputs, strict=True)):
            embedding = self._vmos.identify(self._slot_maps(state, number))
            entry = self._vmos.remember(state.frame_index, output.proposals, embedding)
            group.commit(entry, self.config.memory.gap)
        return probabilities, places

    def _label_map(self, places: Tensor, state: TrackState) -> LabelArray:
        table = np.array([0, *state.slots.object_ids], np.uint8)
        label_map: LabelArray = table[places.cpu().numpy()]
        return label_map

    def _slot_maps(self, state: TrackState, group: int) -> Tensor:
        """One-hot slots ``(1, 11, H', W')`` float of one group, at network size."""
        table = np.zeros(256, np.uint8)
        for slot, object_id in enumerate(state.slots.members(group), start=1):
            table[object_id] = slot
        slots = torch.from_numpy(table[state.label_map]).to(self.device)
        return one_hot_slots(labels_to_network(slots, state.geometry)[None])

    def _report(
        self, coarse: Tensor, scores: Tensor, encoded: EncodedFrame, state: TrackState
    ) -> FrameResult:
        order = state.slots.object_ids
        refined: Sequence[bool] = [False] * len(order)
        masks = coarse
        if self.config.refiner.enabled and self._refiner is not None:
            refinement = self._refiner.refine(encoded.embed(), coarse)
            selection = select(
                coarse, refinement.masks, iou_threshold=self.config.selector.iou_threshold
            )
            masks = resolve_overlaps(selection.masks, order, coarse=coarse)
            refined = selection.is_refined.tolist()
        mask_arrays: npt.NDArray[np.bool_] = masks.cpu().numpy()
        coarse_arrays: npt.NDArray[np.bool_] = coarse.cpu().numpy()
        sources: dict[ObjectId, Source] = {}
        for index, object_id in enumerate(order):
            present = bool(mask_arrays[index].any())
            sources[object_id] = (
                ("refined" if refined[index] else "coarse") if present else "absent"
            )
        return FrameResult(
            frame_index=state.frame_index,
            masks=dict(zip(order, mask_arrays, strict=True)),
            scores={
                object_id: score if sources[object_id] != "absent" else 0.0
                for object_id, score in zip(order, scores.tolist(), strict=True)
            },
            sources=sources,
            coarse_masks=dict(zip(order, coarse_arrays, strict=True)),
        )

    @contextlib.contextmanager
    def _computing(self) -> Iterator[None]:
        lower = self.dtype != torch.float32
        with torch.inference_mode(), torch.autocast(self.device.type, self.dtype, enabled=lower):
            yield


def _masks_and_scores(probabilities: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``(N, H, W)`` bool masks and ``(N,)`` mean probabilities inside them."""
    wanted = torch.arange(1, len(probabilities), device=probabilities.device)
    coarse = places == wanted[:, None, None]
    area = coarse.flatten(1).sum(1)
    inside = (probabilities[1:] * coarse).flatten(1).sum(1)
    return coarse, inside / area.clamp(min=1)


def _load_sam(config: RefinerConfig) -> Sam:
    sam = build_sam(config.model, hq=config.hq)
    load_into(sam, load_weights(config.weights), source=str(resolve(config.weights)))
    return sam


def _build_shared(
    config: TrackerConfig, device: torch.device, weights: Path | None
) -> tuple[FrameEncoder, VMOS, MaskRefiner | None]:
    """Build the parts of a preset whose stages share SAM's encoder."""
    sam = _load_sam(config.refiner)
    vmos = build_vmos(config.vmos, config.encoder.dims)
    source = resolve(config.weights, weights)
    load_into(vmos, load_weights(config.weights, weights), source=str(source))
    with torch.inference_mode():
        encoder = SharedFrameEncoder(SamEncoder(sam.image_encoder).to(device).eval(), config.frame)
    return encoder, vmos, build_refiner(config.refiner, sam)


def _build_released(
    config: TrackerConfig, device: torch.device, weights: Path | None
) -> tuple[FrameEncoder, VMOS, MaskRefiner | None]:
    """Build the parts of a preset with the released model's own encoder."""
    source = resolve(config.weights, weights)
    tensors = load_weights(config.weights, weights)
    backbone, vmos = build_internimage_t(), build_vmos(config.vmos, config.encoder.dims)
    load_into(backbone, part_of(tensors, "encoder"), source=str(source))
    load_into(vmos, part_of(tensors, "vmos"), source=str(source))
    refiner, sam_encoder = None, None
    if config.refiner.enabled:
        sam = _load_sam(config.refiner)
        refiner, sam_encoder = build_refiner(config.refiner, sam), sam.image_encoder
        sam_encoder.to(device).eval()
    encoder = SeparateFrameEncoder(backbone.to(device).eval(), sam_encoder, config.frame)
    return encoder, vmos, refiner


PROBABILITY_MARGIN = 1e-5
"""How near 0 and 1 probabilities may come before groups are merged, as in the released model."""


def merge_groups(logits: Sequence[Tensor]) -> Tensor:
    """Join the groups' logits to probabilities over all objects.

    A pixel is background if it is background to every group; the released model does the same for
    more than ten objects.

    Args:
        logits: For each group ``(1 + n, H, W)`` float, channel 0 the background.

    Returns:
        ``(1 + N, H, W)`` float, the background and then all objects in the order of the groups;
        sums to 1.

    Raises:
        ShapeError: There is no group.
    """
    if not logits:
        raise ShapeError("wanted the logits of at least one group, got none")
    shares = [one.softmax(0) for one in logits]
    if len(shares) == 1:
        return shares[0]
    background = torch.stack([share[0] for share in shares]).prod(0, keepdim=True)
    joined = torch.cat([background, *(share[1:] for share in shares)])
    return torch.logit(joined.clamp(PROBABILITY_MARGIN, 1 - PROBABILITY_MARGIN)).softmax(0)
