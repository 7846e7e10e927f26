"""Configuration: frozen dataclasses, and what the environment says. Presets are in ``presets``.

A configuration holds plain values only; ``build`` and the functions that it calls turn it into
modules.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from vots_hqtrack.encoder import is_part_of
from vots_hqtrack.errors import ConfigError
from vots_hqtrack.settings import check_types, flat_options


@dataclass(frozen=True, slots=True)
class FrameConfig:
    """Layout of a video frame in the network's input.

    Attributes:
        long_edge: Long side in pixels that the frame is resized to before the SAM encoder, a
            multiple of 32 (SAM's own is 1024; less is faster and less exact).
        min_short_edge: Released model: frames with a smaller short side are enlarged to it; 0 never
            enlarges.
        max_long_edge: Released model: frames with a larger long side, after that, are reduced.
    """

    long_edge: int = 1024
    min_short_edge: int = 480
    max_long_edge: int = 1040

    def __post_init__(self) -> None:
        """Check the values."""
        check_types(self, "frame")
        is_size = 256 <= self.long_edge <= 1024 and self.long_edge % 32 == 0
        wanted = "a multiple of 32 from 256 to 1024"
        require(is_size, "frame.long_edge", wanted, self.long_edge)
        require_within("frame.min_short_edge", self.min_short_edge, 0, 8192)
        require_within("frame.max_long_edge", self.max_long_edge, 1, 16384)


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """Image encoder of VMOS.

    Attributes:
        kind: Name of the encoder: sam (shared with the refiner sam), internimage-t, one of timm's
            feature extractors such as resnet50, or one that was registered.
    """

    kind: str = "sam"

    def __post_init__(self) -> None:
        """Check the values."""
        check_types(self, "encoder")


@dataclass(frozen=True, slots=True)
class VMOSConfig:
    """Sizes of the video multi-object segmenter (paper section 2.2).

    Attributes:
        width_s16: Token width of the propagation blocks at stride 16.
        width_s8: The same at stride 8.
        width_s4: Channels of each branch at stride 4.
        num_blocks_s16: Propagation blocks at stride 16.
        window_radius: Reach of the short-term attention in tokens.
        identity_kernel: Kernel of the identity bank at stride 16.
        identity_kernel_s8: Kernel of the identity bank of the stride-8 block.
        identity_stride_s8: Its stride: 8, or 16 with nearest up-sampling as in the released model.
        align_corners: Rule of resizing maps between strides; True wants network sides of 16k + 1.
        multi_scale: Propagate at strides 16 and 8 and decode at 4 (VMOS); False is DeAOT, with
            blocks at stride 16 only and an FPN as decoder (the paper's Table 2).
    """

    width_s16: int = 128
    width_s8: int = 96
    width_s4: int = 48
    num_blocks_s16: int = 2
    window_radius: int = 7
    identity_kernel: int = 16
    identity_kernel_s8: int = 8
    identity_stride_s8: Literal[8, 16] = 8
    align_corners: bool = False
    multi_scale: bool = True

    def __post_init__(self) -> None:
        """Check the values."""
        check_types(self, "vmos")
        for name in ("width_s16", "width_s8", "width_s4"):
            value = getattr(self, name)
            ok = 0 < value <= 1024 and value % 8 == 0
            require(ok, f"vmos.{name}", "a positive multiple of 8, 1024 at most", value)
        require_within("vmos.num_blocks_s16", self.num_blocks_s16, 1, 32)
        require_within("vmos.window_radius", self.window_radius, 0, 64)
        for name in ("identity_kernel", "identity_kernel_s8"):
            require_within(f"vmos.{name}", getattr(self, name), 1, 64)


def released_vmos() -> VMOSConfig:
    """Return the sizes of the released HQTrack model (InternImage-T, multi-scale DeAOT)."""
    return VMOSConfig(
        width_s16=256,
        width_s8=128,
        width_s4=64,
        num_blocks_s16=3,
        identity_kernel=17,
        identity_kernel_s8=17,
        identity_stride_s8=16,
        align_corners=True,
    )


Eviction = Literal["oldest", "densest"]


@dataclass(frozen=True, slots=True)
class MemoryConfig:
    """Memory of a video (paper section 2.2; the values of its appendix for VOTS2023).

    Attributes:
        capacity: Maximum number of long-term frames, the reference frame included.
        gap: Frames between two entries of the long-term memory.
        short_term_delay: Age in frames of the short-term memory.
        eviction: Entry that leaves a full long-term memory: the ``oldest``, as in the paper, or the
            ``densest``, with the nearest neighbours in time for its age; then a few old frames stay
            beside many new ones, however long the video is. The first reference frame and the
            newest ones stay.
    """

    capacity: int = 9
    gap: int = 50
    short_term_delay: int = 4
    eviction: Eviction = "oldest"

    def __post_init__(self) -> None:
        """Check the values."""
        check_types(self, "memory")
        require_within("memory.capacity", self.capacity, 1, 10_000)
        require_within("memory.gap", self.gap, 1, 1_000_000_000)
        require_within("memory.short_term_delay", self.short_term_delay, 1, 1000)


@dataclass(frozen=True, slots=True)
class TrackingConfig:
    """Rules of tracking, and of the masks that go to the memory.

    Attributes:
        mode: ``joint`` follows up to ten objects in one pass; ``separate`` follows each alone, as
            many trackers that know nothing of each other would, and merges their masks at the end
            (paper Table 1).
        slots: ``packed`` gives the objects the first slots in the order of their ids; ``by_id``
            gives object ``i`` slot ``i``, and a lower id that was not given counts as an object
            that was never seen, as in the released code.
        memory_masks: Masks that go to the memory: VMOS's own (``initial``, as in the paper), those
            that are reported (``refined``), or the reported mask of each object where it
            ``agreed`` with the initial one, and the initial masks of the others.
        agreement: Minimum IoU of masks that agree.
        absence_score: An object with a lower score is reported as not seen; the memory does not
            change by it. 0 reports every mask.
        search_reach: An object is looked for within its last box, extended by so many of the box's
            longer side, and farther with each frame in which it was not seen; 0 looks everywhere,
            as in the paper.
        max_crops: Small objects that are tracked in a crop of the frame at a higher scale, at most,
            each for about a fifth of a frame's time; 0 tracks the whole frame only, as in the
            paper. Not with a latency budget.
    """

    mode: Literal["joint", "separate"] = "joint"
    slots: Literal["packed", "by_id"] = "packed"
    memory_masks: Literal["initial", "refined", "agreed"] = "initial"
    agreement: float = 0.8
    absence_score: float = 0.0
    search_reach: float = 0.0
    max_crops: int = 0

    def __post_init__(self) -> None:
        """Check the values."""
        check_types(self, "tracking")
        _require_fraction("tracking.agreement", self.agreement)
        _require_fraction("tracking.absence_score", self.absence_score)
        require_within("tracking.search_reach", self.search_reach, 0, 1_000_000)
        require_within("tracking.max_crops", self.max_crops, 0, 255)


ConfidenceKind = Literal["probability", "calibrated"]


@dataclass(frozen=True, slots=True)
class ConfidenceConfig:
    """Scores: a logistic model of the confidence features of a mask.

    Attributes:
        kind: ``calibrated`` takes the model below, ``probability`` VMOS's mean probability inside
            the mask, which is not calibrated.
        constant: The model's constant.
        mean_margin: Weight of that field of ``ConfidenceFeatures``; so are all that follow.
        weak_fraction: See ``ConfidenceFeatures``.
        ambiguity: See ``ConfidenceFeatures``.
        shrinkage: See ``ConfidenceFeatures``.
    """

    kind: ConfidenceKind = "probability"
    constant: float = 0.0
    mean_margin: float = 0.0
    weak_fraction: float = 0.0
    ambiguity: float = 0.0
    shrinkage: float = 0.0

    def __post_init__(self) -> None:
        """Check the values."""
        check_types(self, "confidence")


CompileBackend = Literal["auto", "off", "cudagraphs", "inductor"]
PromptKind = Literal["box", "box+mask", "box+mask+point"]
LowPrecision = Literal["all", "robust"]
CandidateChoice = Literal["predicted_iou", "single"]
HQOutput = Literal["sum", "hq"]
HQ_WEIGHTS = "sam-hq-"
"""Prefix of the names of HQ-SAM's own weights, which include the HQ head."""


@dataclass(frozen=True, slots=True)
class RefinerConfig:
    """The mask refiner (paper section 2.3).

    Attributes:
        enabled: False reports VMOS's masks as they are.
        kind: Name of the refiner: sam (SAM and HQ-SAM), sam2 (needs the extra transformers), or one
            that was registered.
        model: Network size: vit_tiny, vit_b, vit_l or vit_h of SAM; tiny, small, base-plus or large
            of SAM 2.
        hq: HQ-SAM's mask decoder instead of SAM's own.
        weights: Name of its weights, the image encoder included.
        head: Name of the HQ head's weights, for HQ-SAM where ``weights`` has no head.
        prompt: Prompt derived from the initial mask; the paper's is the box.
        choice: Choice among SAM's masks: of its three, the mask with the best predicted IoU (as in
            the paper); or the single mask that it makes for clear prompts.
        hq_output: Masks of an HQ decoder: the sum of SAM's and the HQ token's, or the latter
            alone.
        fill_holes: Fill holes of the refined masks that VMOS's masks do not have.
        drop_islands: Drop parts of the refined masks that are far from VMOS's masks.
    """

    enabled: bool = True
    kind: str = "sam"
    model: str = "vit_tiny"
    hq: bool = False
    weights: str = "sam-vit-tiny"
    head: str = "hq-head-vit-tiny"
    prompt: PromptKind = "box+mask+point"
    choice: CandidateChoice = "single"
    hq_output: HQOutput = "sum"
    fill_holes: bool = False
    drop_islands: bool = False

    def __post_init__(self) -> None:
        """Check the values."""
        check_types(self, "refiner")


@dataclass(frozen=True, slots=True)
class SelectorConfig:
    """The selector (paper section 2.3, Table 4).

    Attributes:
        iou_threshold: Minimum IoU with the initial mask at which the refined mask is taken.
    """

    iou_threshold: float = 0.1

    def __post_init__(self) -> None:
        """Check the values."""
        check_types(self, "selector")
        ok = 0.0 <= self.iou_threshold <= 1.0
        require(ok, "selector.iou_threshold", "a number from 0 to 1", self.iou_threshold)


@dataclass(frozen=True, slots=True)
class RuntimeConfig:
    """Options of the computation; results change by no more than rounding.

    Attributes:
        dtype: Data type of the layers that bear it; ``auto`` takes bfloat16 where it is faster (on
            a CPU that has it, by a measurement that is kept in the cache folder) and float32
            elsewhere.
        low_precision: Layers of VMOS and of its own encoder with a 16-bit dtype: all linear layers
            and convolutions, or only those that change few masks by it (the released weights bear
            no more; an encoder of timm's then stays in float32).
        threads: CPU threads; 0 leaves PyTorch's choice.
        frame_budget: Seconds that a frame may take on average; resolution, memory and refinement
            are reduced to keep it. 0 does everything, however long it takes.
        compile: Way of launching a frame: ``cudagraphs`` records encoders and segmentation once for
            each size and number of objects, and replays them; ``inductor`` also compiles them,
            which takes a compiler and minutes; ``off`` launches every operation; ``auto`` is
            ``cudagraphs`` on CUDA devices. On the CPU nothing is recorded.
    """

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    low_precision: LowPrecision = "all"
    threads: int = 0
    frame_budget: float = 0.0
    compile: CompileBackend = "auto"

    def __post_init__(self) -> None:
        """Check the values."""
        check_types(self, "runtime")
        require_within("runtime.threads", self.threads, 0, 1024)
        require_within("runtime.frame_budget", self.frame_budget, 0, 86_400)


@dataclass(frozen=True, slots=True)
class TrackerConfig:
    """Everything that makes a tracker, and the name of the weights it starts with."""

    preset: str = "lite"
    weights: str = "vmos-lite"
    frame: FrameConfig = field(default_factory=FrameConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    vmos: VMOSConfig = field(default_factory=VMOSConfig)
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    refiner: RefinerConfig = field(default_factory=RefinerConfig)
    selector: SelectorConfig = field(default_factory=SelectorConfig)
    confidence: ConfidenceConfig = field(default_factory=ConfidenceConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)

    def options(self) -> dict[str, object]:
        """Return every settable option as ``section.option`` with its value."""
        return flat_options(self)

    @property
    def shares_encoder(self) -> bool:
        """Whether VMOS reads the refiner's own image encoder."""
        return is_part_of(self.encoder.kind, self.refiner.kind)

    def weights_needed(self) -> tuple[str, ...]:
        """Return the names of all weights that a tracker of this configuration reads.

        Example:
            >>> TrackerConfig().weights_needed()
            ('vmos-lite', 'sam-vit-tiny')
        """
        names = [self.weights]
        if self.refiner.enabled or self.shares_encoder:
            names += [self.refiner.weights] if self.refiner.weights else []
            if self.refiner.hq and not self.refiner.weights.startswith(HQ_WEIGHTS):
                names.append(self.refiner.head)
        return tuple(names)

    def to_json(self) -> str:
        """Write the configuration as JSON, to be saved beside each result."""
        return json.dumps(dataclasses.asdict(self), indent=2)


@dataclass(frozen=True, slots=True)
class StartOptions:
    """Start options of a tracker, for callers that can only set environment variables.

    Attributes:
        preset: Name of the preset (``VOTS_HQTRACK_PRESET``).
        device: Device in PyTorch's words, or ``auto`` (``VOTS_HQTRACK_DEVICE``).
        weights: The user's own weights (``VOTS_HQTRACK_WEIGHTS``), or None for the preset's.
        settings: ``section.option=value`` settings (``VOTS_HQTRACK_SETTINGS``, separated by
            blanks).
    """

    preset: str = "lite"
    device: str = "auto"
    weights: Path | None = None
    settings: tuple[str, ...] = ()


def options_from_environment(environment: Mapping[str, str] | None = None) -> StartOptions:
    """Read how to start a tracker from ``VOTS_HQTRACK_*`` variables; an empty one is not set.

    Args:
        environment: The variables; None takes those of this process.

    Example:
        >>> variables = {"VOTS_HQTRACK_SETTINGS": "memory.gap=5 memory.capacity=4"}
        >>> options_from_environment(variables).settings
        ('memory.gap=5', 'memory.capacity=4')
    """
    variables = os.environ if environment is None else environment
    default = StartOptions()
    weights = variables.get("VOTS_HQTRACK_WEIGHTS", "")
    return StartOptions(
        preset=variables.get("VOTS_HQTRACK_PRESET") or default.preset,
        device=variables.get("VOTS_HQTRACK_DEVICE") or default.device,
        weights=Path(weights).expanduser() if weights else None,
        settings=tuple(variables.get("VOTS_HQTRACK_SETTINGS", "").split()),
    )


def require_within(name: str, value: float, low: float, high: float) -> None:
    """Raise a ConfigError unless an option is within two bounds, which are allowed."""
    require(low <= value <= high, name, f"a number from {low} to {high}", value)


def _require_fraction(name: str, value: float) -> None:
    require(0.0 <= value <= 1.0, name, "a number from 0 to 1", value)


def require(ok: bool, name: str, wanted: str, got: object) -> None:
    """Raise a ConfigError about an option unless it is right."""
    if not ok:
        raise ConfigError(f"{name} must be {wanted}, got {got!r}")
