"""SAM as refiner: initial masks and the frame's embedding in, sharp masks out (paper section 2.3).

The frame is encoded once; SAM's prompt encoder and mask decoder run for all objects in one batch.
The module holds no data of a frame or video.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from vots_hqtrack.checkpoints.load import load_into
from vots_hqtrack.checkpoints.manifest import resolve
from vots_hqtrack.config import CandidateChoice, PromptKind, RefinerConfig
from vots_hqtrack.devices import host_can_read
from vots_hqtrack.encoder.frames import EncodedFrame
from vots_hqtrack.errors import ConfigError, InputError, ShapeError
from vots_hqtrack.frame import FrameGeometry, frame_to_image
from vots_hqtrack.masks import check_mask_stack, has_pixels
from vots_hqtrack.refiner import (
    Box,
    Click,
    ObjectPrompt,
    Refinement,
    RefinerOptions,
    register_refiner,
)
from vots_hqtrack.sam.components import clean_logits
from vots_hqtrack.sam.corrections import (
    correct_mask,
    first_agreeing,
    is_sure_correction,
    num_contradicted,
    vicinity_of,
)
from vots_hqtrack.sam.embed import OwnEmbedder, SharedEmbedder
from vots_hqtrack.sam.geometry import SamGeometry, Window, masks_in_frame, scale_points
from vots_hqtrack.sam.layers import SamWeights
from vots_hqtrack.sam.mask_decoder import Candidates, MaskDecoder
from vots_hqtrack.sam.models import build_empty_sam, build_sam
from vots_hqtrack.sam.prompts import Prompts, make_prompts, prompt_masks
from vots_hqtrack.sam.tiny_vit import SharedFeatures, TinyViT
from vots_hqtrack.sam.vit import SamVitEncoder
from vots_hqtrack.sam.weights import load_sam_weights
from vots_hqtrack.types import FrameArray, MaskArray, Size

MASK_LOGIT = 20.0
"""Confidence of the mask prompt, in logits: on DAVIS frames 4 is clearly worse, 48 no better."""

OBJECTS_PER_CALL = 16
"""Objects that one decoder call takes: it needs about 45 MB each, and gains nothing from more."""


class PromptedDecoder(Protocol):
    """A network with prompts, as the refiner calls it.

    Attributes:
        side: Side of its square input in pixels.
        mask_side: Side of its low-resolution masks in pixels.
    """

    side: int
    mask_side: int

    def precompute(self, embedding: Any, geometry: SamGeometry) -> Any:  # noqa: ANN401
        """Compute what all objects of a frame share."""

    def __call__(
        self,
        cache: Any,  # noqa: ANN401
        prompts: Prompts,
        *,
        multimask: bool | None,
        window: Window | None = None,
    ) -> Candidates:
        """Decode N objects: 3 candidates of each, 1 for False, or for None that and the 3.

        Of the low-resolution masks only those pixels are needed that are in the window.
        """


@dataclass(frozen=True, slots=True)
class PromptedFrame:
    """A frame for :meth:`SamRefiner.segment`.

    Attributes:
        geometry: The frame's position in the decoder's input.
        cache: The decoder's cache of the frame.
    """

    geometry: SamGeometry
    cache: Any


class SamRefiner(nn.Module):
    """A network with prompts (SAM, HQ-SAM, SAM 2), prompted with initial masks."""

    def __init__(
        self,
        decoder: PromptedDecoder,
        *,
        embed: Callable[[EncodedFrame], Any] | None = None,
        shared_encoder: nn.Module | None = None,
        prompt: PromptKind = "box+mask+point",
        choice: CandidateChoice = "single",
        fill_holes: bool = False,
        drop_islands: bool = False,
        mask_logit: float = MASK_LOGIT,
        objects_per_call: int = OBJECTS_PER_CALL,
    ) -> None:
        """Take over a decoder.

        Args:
            decoder: An ``nn.Module`` on its device, in evaluation mode.
            embed: Gives the image embedding of a frame; None if embeddings come from elsewhere.
            shared_encoder: Image encoder that VMOS reads too, or None.
            prompt: Prompts derived from an initial mask.
            choice: The candidate to take: of three, the one with the best predicted IoU; or the
                ``single`` mask for clear prompts.
            fill_holes: Fill holes of the refined masks that the initial masks do not have.
            drop_islands: Drop parts of the refined masks that are far from the initial masks.
            mask_logit: Confidence of the mask prompt, in logits.
            objects_per_call: Objects in one decoder call, at most.
        """
        super().__init__()
        self.decoder = decoder
        self.shared_encoder = shared_encoder
        self._embed = embed
        self.prompt = prompt
        self.choice = choice
        self.fill_holes = fill_holes
        self.drop_islands = drop_islands
        self.mask_logit = mask_logit
        self.objects_per_call = objects_per_call

    def embed(self, encoded: EncodedFrame) -> Any:  # noqa: ANN401 - the decoder's own
        """Return the frame's image embedding, which all its objects share.

        Raises:
            ConfigError: The refiner was built without an image encoder.
        """
        if self._embed is None:
            raise ConfigError("this refiner has no image encoder: give it an embedding")
        return self._embed(encoded)

    @torch.no_grad()
    def refine(self, embedding: Any, masks: Tensor) -> Refinement:  # noqa: ANN401
        """Refine the masks of N objects.

        Args:
            embedding: Embedding of the frame.
            masks: ``(N, H, W)`` bool, frame pixels.

        Returns:
            Masks in the same order. An empty mask stays empty: it gives no prompt.

        Raises:
            ShapeError: The masks are not bool ``(N, H, W)`` of the frame's size.
        """
        check_mask_stack(masks)
        if tuple(masks.shape[1:]) != tuple(embedding.frame_size):
            got = Size(masks.shape[1], masks.shape[2])
            raise ShapeError(
                f"masks to refine must have the frame size {embedding.frame_size}, got {got}"
            )
        refined = torch.zeros_like(masks)
        predicted_iou = torch.zeros(len(masks), device=masks.device)
        is_present = has_pixels(masks)
        # Without the host nobody knows which are empty: all are decoded, and those dropped after.
        present = torch.arange(len(masks), device=masks.device)
        is_known = host_can_read(masks)
        if is_known:
            present = present[is_present]
        if not len(present):
            return Refinement(refined, predicted_iou)
        geometry = self._geometry(embedding)
        cache = self.decoder.precompute(embedding, geometry)
        for rows in torch.split(present, self.objects_per_call):
            part = masks[rows]
            prompts = make_prompts(part, geometry, kind=self.prompt, mask_logit=self.mask_logit)
            found = self.decoder(cache, prompts, multimask=self.choice != "single")
            picked = torch.arange(len(rows), device=rows.device), found.predicted_iou.argmax(dim=1)
            logits = self._clean(found.logits[picked], part, prompts.masks, geometry)
            refined[rows] = masks_in_frame(logits, geometry)
            predicted_iou[rows] = found.predicted_iou[picked].clamp(0, 1)
        if is_known:
            return Refinement(refined, predicted_iou)
        return Refinement(refined & is_present[:, None, None], predicted_iou * is_present)

    @torch.no_grad()
    def segment_boxes(self, embedding: Any, boxes: Sequence[Box]) -> Tensor:  # noqa: ANN401
        """Segment what boxes enclose; of three candidates, that with the best predicted IoU.

        Args:
            embedding: Embedding of the frame.
            boxes: ``(x, y, width, height)`` in frame pixels, pixel edges; cut to the frame.

        Returns:
            ``(N, H, W)`` bool, frame pixels.

        Raises:
            InputError: A box is not finite, or encloses no pixel of the frame.
        """
        geometry = self._geometry(embedding)
        corners = [_box_corners(box, embedding.frame_size) for box in boxes]
        points = torch.tensor(corners, dtype=torch.float64).view(-1, 2, 2)
        device = next(self.parameters()).device
        scaled = scale_points(points, geometry).view(-1, 4).to(device)
        if not len(boxes):
            return torch.zeros((0, *embedding.frame_size), dtype=torch.bool, device=device)
        cache = self.decoder.precompute(embedding, geometry)
        masks = []
        for part in torch.split(scaled, self.objects_per_call):
            found = self.decoder(cache, Prompts(part), multimask=True)
            picked = torch.arange(len(part), device=device), found.predicted_iou.argmax(dim=1)
            masks.append(masks_in_frame(found.logits[picked], geometry))
        return torch.cat(masks)

    @torch.no_grad()
    def precompute(self, embedding: Any) -> PromptedFrame:  # noqa: ANN401
        """Compute what all clicks on a frame share; the embedding is that of the frame."""
        geometry = self._geometry(embedding)
        return PromptedFrame(geometry, self.decoder.precompute(embedding, geometry))

    @property
    def saves_time_by_previews(self) -> bool:
        """Whether VMOS's encoder is the refiner's, on a CPU: a GPU encodes whole frames as fast."""
        is_cpu = next(self.parameters()).device.type == "cpu"
        return is_cpu and isinstance(self.shared_encoder, TinyViT)

    @torch.no_grad()
    def encode_preview(self, frame: FrameArray, geometry: FrameGeometry) -> SharedFeatures:
        """Encode a frame by the shared encoder, at a reduced resolution and without its padding."""
        encoder = self.shared_encoder
        if not isinstance(encoder, TinyViT):
            raise ConfigError("this refiner shares no image encoder that could give a preview")
        image = frame_to_image(frame, geometry, next(self.parameters()).device)
        features: SharedFeatures = encoder(image, is_padded=False)
        return features

    @torch.no_grad()
    def segment(self, embedding: Any, prompt: ObjectPrompt) -> Tensor:  # noqa: ANN401
        """Segment the object that clicks or a box name.

        A single click or a box may mean several things: of three candidates it takes that with the
        best predicted IoU. For several it takes the mask for clear prompts; where that contradicts
        a click, the candidate that contradicts the fewest. A mask so far is corrected near the
        newest click only, see :func:`correct_mask`.

        Args:
            embedding: Embedding of the frame, or what :meth:`precompute` made of it.
            prompt: Clicks, box and the mask so far.

        Returns:
            ``(H, W)`` bool, frame pixels.

        Raises:
            InputError: There is neither a click nor a box, or one is outside of the frame.
        """
        is_ready = isinstance(embedding, PromptedFrame)
        prompted = embedding if is_ready else self.precompute(embedding)
        if prompt.mask is not None and prompt.clicks:
            return self._correct(prompted, prompt, prompt.mask)
        is_vague = prompt.mask is None and len(prompt.clicks) + (prompt.box is not None) == 1
        logits = self._decode(prompted, prompt, multimask=True if is_vague else None)
        masks = (masks_in_frame(part[None], prompted.geometry)[0] for part in logits)
        return first_agreeing(masks, prompt.clicks)

    def _correct(self, prompted: PromptedFrame, prompt: ObjectPrompt, so_far: MaskArray) -> Tensor:
        """Correct a mask near the newest click."""
        geometry, newest = prompted.geometry, prompt.clicks[-1]
        _check_clicks(prompt.clicks, geometry.frame_size)
        mask = torch.from_numpy(so_far).to(next(self.parameters()).device)
        vicinity = vicinity_of(mask, newest)
        at_click = ObjectPrompt((newest._replace(is_inside=True),))

        def decode(wanted: ObjectPrompt, *, multimask: bool | None) -> Tensor:
            logits = self._decode(prompted, wanted, multimask=multimask, window=vicinity.window)
            return masks_in_frame(logits, geometry, vicinity.window)

        whole = decode(prompt, multimask=None)
        single = correct_mask(mask, whole[:1], prompt.clicks, vicinity)
        if is_sure_correction(mask, single, prompt.clicks):
            return single
        if not num_contradicted(prompt.clicks, mask):  # there is nothing to add or to take away
            return correct_mask(mask, whole, prompt.clicks, vicinity)
        parts = decode(at_click, multimask=True)
        edited = mask | parts if newest.is_inside else mask & ~parts
        return correct_mask(mask, torch.cat([whole, edited]), prompt.clicks, vicinity)

    def _decode(
        self,
        prompted: PromptedFrame,
        prompt: ObjectPrompt,
        *,
        multimask: bool | None,
        window: Window | None = None,
    ) -> Tensor:
        """Decode a prompt; of SAM's three masks, the one with the best predicted IoU comes first.

        Args:
            prompted: The frame.
            prompt: Clicks, box and the mask so far.
            multimask: As the decoder takes it.
            window: Rows and columns of the frame that are needed; None for all.

        Returns:
            ``(K, H', W')`` float32 low-resolution logits.
        """
        geometry = prompted.geometry
        found = self.decoder(
            prompted.cache,
            self._prompts(prompt, geometry),
            multimask=multimask,
            window=None if window is None else geometry.mask_window(window),
        )
        logits, scores = found.logits[0], found.predicted_iou[0]
        first = 1 if multimask is None else 0
        order = first + scores[first:].argsort(descending=True)
        return torch.cat([logits[:first], logits[order]])

    def _prompts(self, prompt: ObjectPrompt, geometry: SamGeometry) -> Prompts:
        """Bring the prompts of one object into SAM's input."""
        if prompt.box is None and not prompt.clicks:
            raise InputError("a prompt needs a box or a click, got neither")
        device = next(self.parameters()).device
        boxes = masks = points = labels = None
        if prompt.box is not None:
            corners = torch.tensor(
                _box_corners(prompt.box, geometry.frame_size), dtype=torch.float64
            )
            boxes = scale_points(corners.view(1, 2, 2), geometry).view(1, 4).to(device)
        if prompt.clicks:
            _check_clicks(prompt.clicks, geometry.frame_size)
            # A prompt is a pixel's index; a click half a pixel from its edge is its centre.
            indices = [[click.x - 0.5, click.y - 0.5] for click in prompt.clicks]
            points = scale_points(torch.tensor([indices], dtype=torch.float64), geometry).to(device)
            labels = torch.tensor([[click.is_inside for click in prompt.clicks]], device=device)
        if prompt.mask is not None:
            mask = torch.from_numpy(prompt.mask)[None].to(device)
            masks = prompt_masks(mask, geometry, mask_logit=self.mask_logit)
        return Prompts(boxes, masks, points, labels)

    def _geometry(self, embedding: Any) -> SamGeometry:  # noqa: ANN401
        return SamGeometry(
            frame_size=embedding.frame_size,
            input_size=embedding.input_size,
            side=self.decoder.side,
            mask_side=self.decoder.mask_side,
        )

    def _clean(
        self, logits: Tensor, initial: Tensor, given: Tensor | None, geometry: SamGeometry
    ) -> Tensor:
        """Fill holes and drop islands of the chosen masks, ``(N, H', W')`` low-resolution logits.

        ``given`` are the mask prompts, or None where there are none.
        """
        if not (self.fill_holes or self.drop_islands):
            return logits
        if given is None:
            given = prompt_masks(initial, geometry, mask_logit=1.0)
        height, width = logits.shape[1:]
        return clean_logits(
            logits,
            given[:, 0, :height, :width] > 0,
            geometry.covered,
            fill_holes=self.fill_holes,
            drop_islands=self.drop_islands,
        )


@register_refiner("sam")
def build_sam_refiner(config: RefinerConfig, options: RefinerOptions) -> SamRefiner:
    """Build SAM or HQ-SAM, fused for inference.

    Args:
        config: Network, prompts and choice of the candidate.
        options: Device, dtype and the like.

    Raises:
        ConfigError: The network is unknown, or VMOS is to read an encoder other than vit_tiny.
        WeightsError: Weights are missing, damaged, or do not fit.
    """
    device = options.device
    if options.shares_encoder and config.model != "vit_tiny":
        raise ConfigError(
            f"encoder.kind=sam needs refiner.model=vit_tiny, got {config.model!r}: VMOS reads no "
            "other encoder of SAM's"
        )
    encoder, decoder = _build_networks(config, options)
    encoder = encoder.to(device).eval()
    embed: Callable[[EncodedFrame], Any]
    if options.shares_encoder:
        embed = shared = SharedEmbedder(cast(TinyViT, encoder))  # by its name, above
        if config.enabled:  # else the first box or click computes it, if there ever is one
            _ = shared.background
    else:
        embed = OwnEmbedder(encoder, compile_with=options.compile_with)
    refiner = sam_refiner(
        decoder, config, embed=embed, shared_encoder=encoder if options.shares_encoder else None
    )
    return refiner.to(device).eval()


def _build_networks(
    config: RefinerConfig, options: RefinerOptions
) -> tuple[nn.Module, MaskDecoder]:
    """Build the image encoder and the mask decoder, in one dtype."""
    tensors, source, dtype = None, "", options.dtype
    if options.has_weights:
        published = options.published
        tensors = load_sam_weights(
            config.weights, hq=config.hq, head=config.head, published=published
        )
        source = str(resolve(config.weights, published))
    if config.model == "vit_tiny":
        weights = SamWeights(tensors, source=source)
        encoder: nn.Module = TinyViT(weights.part("image_encoder"), dtype)
        decoder = MaskDecoder(weights, dtype, hq=config.hq, hq_output=config.hq_output)
        weights.require_all("SAM")
        return encoder, decoder
    if tensors is None:
        sam = build_sam(config.model, hq=config.hq)
    else:
        sam = build_empty_sam(config.model, hq=config.hq)
        load_into(sam, tensors, source=source)
    decoder = MaskDecoder(
        SamWeights(sam.state_dict()),
        dtype,
        hq=config.hq,
        hq_output=config.hq_output,
        early_channels=sam.image_encoder.pos_embed.shape[-1],
    )
    return SamVitEncoder(sam.image_encoder, dtype), decoder


def sam_refiner(
    decoder: PromptedDecoder,
    config: RefinerConfig,
    *,
    embed: Callable[[EncodedFrame], Any] | None = None,
    shared_encoder: nn.Module | None = None,
) -> SamRefiner:
    """Wrap a decoder as the refiner that a configuration describes."""
    return SamRefiner(
        decoder,
        embed=embed,
        shared_encoder=shared_encoder,
        prompt=config.prompt,
        choice=config.choice,
        fill_holes=config.fill_holes,
        drop_islands=config.drop_islands,
    )


def _check_clicks(clicks: Sequence[Click], size: Size) -> None:
    for click in clicks:
        if not (0 <= click.x < size.width and 0 <= click.y < size.height):
            raise InputError(
                f"a click must be inside the {size} frame, got x={click.x:g}, y={click.y:g}"
            )


def _box_corners(box: Box, size: Size) -> list[float]:
    """Return a box's part in the frame as ``xyxy`` pixel indices, maxima inclusive."""
    x, y, width, height = box
    left, top = max(x, 0.0), max(y, 0.0)
    right, bottom = min(x + width, float(size.width)), min(y + height, float(size.height))
    finite = all(math.isfinite(value) for value in box)
    if not finite or right - left < 1 or bottom - top < 1:
        raise InputError(
            f"a box must be x, y, width, height in pixels and enclose a part of the {size} frame, "
            f"got {', '.join(f'{value:g}' for value in box)}"
        )
    return [left, top, right - 1, bottom - 1]
