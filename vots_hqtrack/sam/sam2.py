"""SAM 2 as refiner, by the image part of ``transformers``' ``Sam2Model`` (extra ``transformers``).

SAM 2 takes the same prompts as SAM and gives masks of the same resolution. Its input is the frame
stretched to a square, without padding. Its memory for videos is not used.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from vots_hqtrack.checkpoints.load import load_into, load_weights
from vots_hqtrack.checkpoints.manifest import resolve
from vots_hqtrack.config import CompileBackend, RefinerConfig
from vots_hqtrack.encoder.frames import EncodedFrame
from vots_hqtrack.errors import ConfigError
from vots_hqtrack.extras import missing_extra
from vots_hqtrack.frame import NETWORK_STRIDE, FrameGeometry, frame_to_image
from vots_hqtrack.precision import MATMUL_LAYERS, cast_layers
from vots_hqtrack.refiner import RefinerOptions, register_refiner
from vots_hqtrack.replay import launched_once
from vots_hqtrack.sam.geometry import SamGeometry, Window
from vots_hqtrack.sam.mask_decoder import Candidates
from vots_hqtrack.sam.prompts import Prompts
from vots_hqtrack.sam.refiner import SamRefiner, sam_refiner
from vots_hqtrack.types import Size


def _hiera(
    width: int,
    heads: int,
    blocks: list[int],
    global_blocks: list[int],
    *,
    late_windows: tuple[int, int] = (14, 7),
    background: int = 7,
) -> dict[str, Any]:
    """Options of a Hiera encoder; width and heads double from stage to stage."""
    return {
        "hidden_size": width,
        "embed_dim_per_stage": [width * 2**stage for stage in range(4)],
        "num_attention_heads_per_stage": [heads * 2**stage for stage in range(4)],
        "blocks_per_stage": blocks,
        "global_attention_blocks": global_blocks,
        "window_size_per_stage": [8, 4, *late_windows],
        "window_positional_embedding_background_size": [background, background],
    }


SIZES = {
    "tiny": _hiera(96, 1, [1, 2, 7, 2], [5, 7, 9]),
    "small": _hiera(96, 1, [1, 2, 11, 2], [7, 10, 13]),
    "base-plus": _hiera(112, 2, [2, 3, 16, 3], [12, 16, 20], background=14),
    "large": _hiera(144, 2, [2, 6, 36, 4], [23, 33, 43], late_windows=(16, 8)),
}
"""The published Hiera encoders, in the words of ``transformers``' ``Sam2HieraDetConfig``."""

VIDEO_PARTS = (
    "memory_*",
    "mask_downsample*",
    "object_pointer_proj*",
    "temporal_positional_encoding_projection_layer*",
    "no_memory_positional_encoding",
    "no_object_pointer",
    "occlusion_spatial_embedding_parameter",
)
"""Keys of the published checkpoints that belong to SAM 2's memory for videos."""


@dataclass(frozen=True, slots=True)
class Sam2Embedding:
    """SAM 2's image embedding of one frame.

    Attributes:
        maps: ``(1, C, H', W')`` float32 at strides 4, 8 and 16, the last one with 256 channels.
        input_size: Size of the frame inside SAM 2's input: all of it.
        frame_size: Size of the video frame.
    """

    maps: tuple[Tensor, ...]
    input_size: Size
    frame_size: Size


class Sam2Decoder(nn.Module):
    """Prompt encoder and mask decoder of a ``Sam2Model``.

    Args:
        model: In evaluation mode, on its device.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        parts: Any = model
        self.side = int(parts.prompt_encoder.input_image_size)
        self.mask_side = int(parts.prompt_encoder.mask_input_size[0])

    def precompute(self, embedding: Sam2Embedding, geometry: SamGeometry) -> Sam2Embedding:
        """Return the embedding: nothing else is shared by the objects of a frame."""
        return embedding

    def forward(
        self,
        cache: Sam2Embedding,
        prompts: Prompts,
        *,
        multimask: bool | None,
        window: Window | None = None,
    ) -> Candidates:
        """Decode the prompts of N objects, N at least 1.

        Args:
            cache: Image embedding of the frame.
            prompts: Boxes or points or both, and masks if there are any.
            multimask: True for SAM 2's three masks, False for its single one (or the best of the
                three where that one is unstable, as the network decides), None for that and then
                the three.
            window: Not read: the masks come whole.

        Returns:
            3 candidates of each object, 1 or 4.
        """
        if multimask is None:  # the model has no call for all of its masks
            parts = [self(cache, prompts, multimask=several) for several in (False, True)]
            return Candidates(
                torch.cat([part.logits for part in parts], dim=1),
                torch.cat([part.predicted_iou for part in parts], dim=1),
            )
        count, labels = prompts.num_objects, None
        points = None if prompts.points is None else prompts.points[:, None]
        if points is not None and prompts.labels is not None:
            labels = prompts.labels[:, None].int()
        output: Any = self.model(
            image_embeddings=[scale.expand(count, -1, -1, -1) for scale in cache.maps],
            input_boxes=None if prompts.boxes is None else prompts.boxes[:, None],
            input_points=points,
            input_labels=labels,
            input_masks=prompts.masks,
            multimask_output=multimask,
        )
        return Candidates(output["pred_masks"][:, 0].float(), output["iou_scores"][:, 0].float())


class Sam2Embedder:
    """Encodes the frame with SAM 2's image encoder.

    Args:
        model: ``Sam2Model`` in evaluation mode, on its device.
        side: Side of its input in pixels.
        compile_with: Option ``runtime.compile``.
    """

    def __init__(
        self, model: nn.Module, side: int, *, compile_with: CompileBackend = "off"
    ) -> None:
        parts: Any = model
        self._side = side
        self._device = next(model.parameters()).device
        self._encode = launched_once(parts.get_image_embeddings, compile_with, self._device)

    def __call__(self, encoded: EncodedFrame) -> Sam2Embedding:
        """Stretch the frame to SAM 2's input, and encode it."""
        size = Size(*encoded.frame.shape[:2])
        square = Size(self._side, self._side)
        network = Size(*(side // NETWORK_STRIDE for side in square))
        image = frame_to_image(
            encoded.frame, FrameGeometry(size, square, square, network), self._device
        )
        maps: list[Tensor] = self._encode(image)
        return Sam2Embedding(tuple(scale.float() for scale in maps), square, size)


@register_refiner("sam2")
def build_sam2_refiner(config: RefinerConfig, options: RefinerOptions) -> SamRefiner:
    """Build SAM 2 as refiner.

    Args:
        config: Network, prompts and choice of the candidate.
        options: Device, dtype and the like.

    Raises:
        ConfigError: ``transformers`` is not installed, or the size is unknown.
        WeightsError: Weights are missing, damaged, or do not fit.
    """
    if options.has_weights:
        with torch.device("meta"):
            model = build_sam2(config.model)
        source = str(resolve(config.weights, options.published))
        load_into(model, load_weights(config.weights, options.published), source=source)
    else:
        model = build_sam2(config.model)
    return sam2_refiner(model, config, options)


def sam2_refiner(model: nn.Module, config: RefinerConfig, options: RefinerOptions) -> SamRefiner:
    """Wrap a ``Sam2Model`` as refiner; arguments as for :func:`build_sam2_refiner`."""
    parts: Any = model
    layers = [part for part in parts.vision_encoder.modules() if isinstance(part, MATMUL_LAYERS)]
    cast_layers(model, layers, options.dtype)
    model = model.to(options.device).eval()
    decoder = Sam2Decoder(model)
    embed = Sam2Embedder(model, decoder.side, compile_with=options.compile_with)
    return sam_refiner(decoder, config, embed=embed).eval()


def build_sam2(size: str) -> nn.Module:
    """Build a ``Sam2Model`` with random weights, in evaluation mode; nothing is downloaded.

    Args:
        size: ``tiny``, ``small``, ``base-plus`` or ``large``.

    Raises:
        ConfigError: The size is unknown, or ``transformers`` is not installed.
    """
    if size not in SIZES:
        raise ConfigError(f"refiner.model must be one of {', '.join(SIZES)} of SAM 2, got {size!r}")
    library = import_transformers()
    hiera = library.Sam2HieraDetConfig(**SIZES[size])
    channels = list(reversed(SIZES[size]["embed_dim_per_stage"]))
    vision = library.Sam2VisionConfig(backbone_config=hiera, backbone_channel_list=channels)
    model: nn.Module = library.Sam2Model(library.Sam2Config(vision_config=vision))
    return model.eval()


def import_transformers() -> ModuleType:
    """Import ``transformers``.

    Raises:
        ConfigError: It is not installed, or has no SAM 2.
    """
    try:
        library = importlib.import_module("transformers")
        _ = library.Sam2Model
    except (ImportError, AttributeError) as error:
        cause = error if isinstance(error, ImportError) else ImportError(error)
        raise missing_extra("refiner.kind=sam2", "transformers", cause) from error
    return library


def sam2_shapes(size: str) -> dict[str, Tensor]:
    """Return empty tensors under the keys and with the shapes of a ``Sam2Model``.

    Raises:
        ConfigError: The size is unknown, or ``transformers`` is not installed.
    """
    with torch.device("meta"):
        return dict(build_sam2(size).state_dict())
