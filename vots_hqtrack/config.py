"""Configuration: frozen dataclasses, presets, TOML files and ``section.option=value`` settings.

A configuration holds plain values only. ``build_*`` functions of ``vmos``, ``encoder`` and
``refiner`` turn it into modules; nothing else reads it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from vots_hqtrack.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True, slots=True)
class FrameConfig:
    """How a video frame becomes the network's input.

    Attributes:
        long_edge: Long side in pixels that the frame is resized to before the SAM encoder (SAM's
            own is 1024).
    """

    long_edge: int = 1024

    def __post_init__(self) -> None:
        """Check the values."""
        _require(
            self.long_edge == 1024, "frame.long_edge", "1024, SAM's input size", self.long_edge
        )


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """Which encoder gives the features.

    Attributes:
        kind: The encoder.
        dims: Channels of its features at strides 4, 8 and 16.
    """

    kind: Literal["sam"] = "sam"
    dims: tuple[int, int, int] = (128, 576, 256)


@dataclass(frozen=True, slots=True)
class VMOSConfig:
    """Sizes of the video multi-object segmenter (paper section 2.1).

    Attributes:
        width_s16: Token width of the propagation blocks at stride 16.
        width_s8: The same at stride 8.
        width_s4: Channels of each branch at stride 4.
        num_blocks_s16: Propagation blocks at stride 16.
        window_radius: Reach of the short-term attention in cells.
        identity_kernel: Kernel of the identity bank at stride 16.
        identity_kernel_s8: Kernel of the identity bank of the stride-8 block.
        identity_stride_s8: Its stride: 8, or 16 with nearest up-sampling as in the released model.
        align_corners: How maps are resized between strides; True wants network sides of 16k + 1.
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

    def __post_init__(self) -> None:
        """Check the values."""
        for name in ("width_s16", "width_s8", "width_s4"):
            value = getattr(self, name)
            _require(
                value > 0 and value % 8 == 0, f"vmos.{name}", "a positive multiple of 8", value
            )
        _require(self.num_blocks_s16 >= 1, "vmos.num_blocks_s16", "at least 1", self.num_blocks_s16)
        _require(self.window_radius >= 0, "vmos.window_radius", "0 or more", self.window_radius)


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


@dataclass(frozen=True, slots=True)
class MemoryConfig:
    """What the tracker remembers of a video (paper section 2.1; its appendix values for VOTS2023).

    Attributes:
        capacity: Long-term frames, the reference frame counted.
        gap: Frames between two commits to the long-term memory.
        short_term_delay: How many frames back the short-term memory lies.
    """

    capacity: int = 9
    gap: int = 50
    short_term_delay: int = 4

    def __post_init__(self) -> None:
        """Check the values."""
        _require(
            self.capacity >= 1, "memory.capacity", "at least 1 (the reference frame)", self.capacity
        )
        _require(self.gap >= 1, "memory.gap", "at least 1", self.gap)
        _require(
            self.short_term_delay >= 1,
            "memory.short_term_delay",
            "at least 1",
            self.short_term_delay,
        )


PromptKind = Literal["box", "box+mask", "box+mask+point"]
CandidateChoice = Literal["predicted_iou", "coarse_iou", "single"]


@dataclass(frozen=True, slots=True)
class RefinerConfig:
    """The mask refiner (paper section 2.2).

    Attributes:
        enabled: False reports VMOS's masks as they are.
        model: SAM size by ``segment-anything-hq``'s name.
        weights: Name of its shipped weights, the image encoder included.
        prompt: What the refiner is given of VMOS's mask; the paper gives the box.
        choice: Which of SAM's masks is taken: of its three, the one with the best predicted IoU (as
            in the paper) or the one most like VMOS's mask; or the single one that it makes for
            clear prompts.
    """

    enabled: bool = True
    model: Literal["vit_tiny"] = "vit_tiny"
    weights: str = "sam-vit-tiny"
    prompt: PromptKind = "box+mask+point"
    choice: CandidateChoice = "single"


@dataclass(frozen=True, slots=True)
class SelectorConfig:
    """The selector (paper section 2.2, Table 4).

    Attributes:
        iou_threshold: The refined mask is taken where its IoU with the coarse one is at least this.
    """

    iou_threshold: float = 0.1

    def __post_init__(self) -> None:
        """Check the values."""
        ok = 0.0 <= self.iou_threshold <= 1.0
        _require(ok, "selector.iou_threshold", "a number from 0 to 1", self.iou_threshold)


@dataclass(frozen=True, slots=True)
class RuntimeConfig:
    """How the computation runs, without changing what is computed beyond rounding.

    Attributes:
        dtype: Number format of the heavy products; ``auto`` takes bfloat16 where the processor
            multiplies it natively and float32 elsewhere.
        threads: CPU threads; 0 leaves PyTorch's choice.
    """

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    threads: int = 0

    def __post_init__(self) -> None:
        """Check the values."""
        _require(self.threads >= 0, "runtime.threads", "0 or more", self.threads)


@dataclass(frozen=True, slots=True)
class TrackerConfig:
    """Everything that makes a tracker, and the name of the weights it starts with."""

    preset: str = "lite"
    weights: str = "vmos-lite"
    frame: FrameConfig = field(default_factory=FrameConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    vmos: VMOSConfig = field(default_factory=VMOSConfig)
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    refiner: RefinerConfig = field(default_factory=RefinerConfig)
    selector: SelectorConfig = field(default_factory=SelectorConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)

    def options(self) -> dict[str, object]:
        """Return every settable option as ``section.option`` with its value."""
        found: dict[str, object] = {}
        for section in dataclasses.fields(self):
            value = getattr(self, section.name)
            if dataclasses.is_dataclass(value):
                for option in dataclasses.fields(value):
                    found[f"{section.name}.{option.name}"] = getattr(value, option.name)
        return found

    def to_json(self) -> str:
        """Write the configuration as JSON, to be saved beside each result."""
        return json.dumps(dataclasses.asdict(self), indent=2)


def lite() -> TrackerConfig:
    """SAM's TinyViT encoder shared by both stages, small VMOS, refined masks: the default."""
    return TrackerConfig(memory=MemoryConfig(capacity=6, gap=10, short_term_delay=1))


def lite_vmos() -> TrackerConfig:
    """The lite preset without the refiner."""
    return dataclasses.replace(lite(), preset="lite-vmos", refiner=RefinerConfig(enabled=False))


PRESETS: Mapping[str, Callable[[], TrackerConfig]] = {"lite": lite, "lite-vmos": lite_vmos}


def load_preset(name: str) -> TrackerConfig:
    """Return a preset by its name.

    Raises:
        ConfigError: No preset has that name.
    """
    if name not in PRESETS:
        raise ConfigError(f"unknown preset {name!r}; wanted one of: {', '.join(PRESETS)}")
    return PRESETS[name]()


def apply_settings(config: TrackerConfig, settings: Iterable[str]) -> TrackerConfig:
    """Return the configuration with ``section.option=value`` settings applied in order.

    Raises:
        ConfigError: A setting is malformed, names no option, or its value does not fit.

    Example:
        >>> apply_settings(lite(), ["memory.gap=5"]).memory.gap
        5
    """
    for setting in settings:
        name, separator, text = setting.partition("=")
        if not separator:
            raise ConfigError(f"a setting reads section.option=value, got {setting!r}")
        config = _set_option(config, name.strip(), text.strip())
    return config


def load_toml(config: TrackerConfig, path: Path) -> TrackerConfig:
    """Return the configuration with the tables of a TOML file applied; a table is a section.

    Raises:
        ConfigError: The file cannot be read, or names an unknown option or value.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"cannot read the configuration file {path}: {error}") from error
    for section, options in tables.items():
        if not isinstance(options, dict):
            raise ConfigError(
                f"{path}: wanted tables such as [memory], got a bare value {section!r}"
            )
        for option, value in options.items():
            config = _set_option(config, f"{section}.{option}", value)
    return config


@dataclass(frozen=True, slots=True)
class StartOptions:
    """What a tracker is to be started with when its caller can only set environment variables.

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


def _set_option(config: TrackerConfig, name: str, value: object) -> TrackerConfig:
    options = config.options()
    if name not in options:
        raise ConfigError(f"unknown option {name!r}; wanted one of: {', '.join(sorted(options))}")
    section_name, option_name = name.split(".")
    section = getattr(config, section_name)
    wanted = typing.get_type_hints(type(section))[option_name]
    parsed = _parse(name, value, wanted)
    return dataclasses.replace(
        config, **{section_name: dataclasses.replace(section, **{option_name: parsed})}
    )


def _parse(name: str, value: object, wanted: Any) -> object:  # noqa: ANN401 - a type hint
    origin = typing.get_origin(wanted)
    if origin is Literal:
        choices = {str(choice): choice for choice in typing.get_args(wanted)}
        if str(value) not in choices:
            raise ConfigError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
        return choices[str(value)]
    if origin is tuple:
        parts = value.split(",") if isinstance(value, str) else value
        kinds = typing.get_args(wanted)
        if not isinstance(parts, (list, tuple)) or len(parts) != len(kinds):
            raise ConfigError(f"{name} must be {len(kinds)} values, got {value!r}")
        return tuple(_parse(name, part, kind) for part, kind in zip(parts, kinds, strict=True))
    if origin in (typing.Union, types.UnionType):
        raise ConfigError(f"{name} cannot be set")
    return _parse_scalar(name, value, wanted)


def _parse_scalar(name: str, value: object, wanted: type) -> object:
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if wanted is bool:
        if str(value).lower() not in words:
            raise ConfigError(f"{name} must be true or false, got {value!r}")
        return words[str(value).lower()]
    if isinstance(value, bool):
        raise ConfigError(f"{name} must be of type {wanted.__name__}, got {value!r}")
    try:
        return wanted(value)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{name} must be of type {wanted.__name__}, got {value!r}") from error


def _require(ok: bool, name: str, wanted: str, got: object) -> None:
    if not ok:
        raise ConfigError(f"{name} must be {wanted}, got {got!r}")
