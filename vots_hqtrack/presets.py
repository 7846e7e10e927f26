"""Presets: named configurations, each row of the paper's tables one of them or one option away.

A preset is a function that returns a ``TrackerConfig``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from vots_hqtrack.config import (
    ConfidenceConfig,
    EncoderConfig,
    MemoryConfig,
    RefinerConfig,
    RuntimeConfig,
    TrackerConfig,
    TrackingConfig,
    released_vmos,
)
from vots_hqtrack.errors import ConfigError, did_you_mean

RELEASED_CAPACITY = 6
"""Long-term frames of the released code, the reference frame counted; the paper says 9."""


FRAME_BUDGET = 0.05
"""Seconds a frame of VOTS-RT, which plays 20 frames a second."""


def lite() -> TrackerConfig:
    """SAM's TinyViT encoder shared by both stages, small VMOS, refined by HQ-SAM: the default."""
    return TrackerConfig(
        refiner=RefinerConfig(hq=True, fill_holes=True, drop_islands=True),
        memory=MemoryConfig(capacity=6, gap=10, short_term_delay=1, eviction="densest"),
        # By far the most of the masks with so low a score show something else than the object.
        tracking=TrackingConfig(absence_score=0.1, max_crops=5),
        confidence=ConfidenceConfig(
            kind="calibrated",
            constant=1.2477,
            mean_margin=0.5668,
            weak_fraction=-4.0779,
            ambiguity=-0.6764,
            shrinkage=-1.2121,
        ),
    )


def lite_vmos() -> TrackerConfig:
    """The lite preset without the refiner."""
    return dataclasses.replace(lite(), preset="lite-vmos", refiner=RefinerConfig(enabled=False))


def lite_realtime() -> TrackerConfig:
    """The lite preset within 0.05 s a frame: less resolution, memory and refinement if need be."""
    runtime = RuntimeConfig(frame_budget=FRAME_BUDGET)
    return dataclasses.replace(lite(), preset="lite-realtime", runtime=runtime)


def vmos() -> TrackerConfig:
    """VMOS of the paper with InternImage-T, without refiner; its weights must be imported."""
    return TrackerConfig(
        preset="vmos",
        weights="vmos-internimage-t",
        encoder=EncoderConfig(kind="internimage-t"),
        vmos=released_vmos(),
        refiner=RefinerConfig(enabled=False),
        runtime=RuntimeConfig(dtype="float32", low_precision="robust"),
    )


def vmos_released() -> TrackerConfig:
    """The same with the released code's rules: five frames beside the reference, slots by id."""
    return _as_released(vmos(), "vmos-released")


def hqtrack() -> TrackerConfig:
    """HQTrack of the paper: VMOS, refined by HQ-SAM ViT-H from boxes; weights must be imported."""
    refiner = RefinerConfig(
        model="vit_h", hq=True, weights="sam-hq-vit-h", prompt="box", choice="predicted_iou"
    )
    return dataclasses.replace(vmos(), preset="hqtrack", refiner=refiner)


def hqtrack_released() -> TrackerConfig:
    """The same with the released code's rules: five frames beside the reference, slots by id."""
    return _as_released(hqtrack(), "hqtrack-released")


def vmos_sam_h() -> TrackerConfig:
    """VMOS of the paper, refined by plain SAM ViT-H (Table 5); weights must be imported."""
    refiner = dataclasses.replace(hqtrack().refiner, hq=False, weights="sam-vit-h")
    return dataclasses.replace(vmos(), preset="vmos-sam-h", refiner=refiner)


def hqtrack_sam2() -> TrackerConfig:
    """VMOS of the paper, refined by SAM 2.1; needs the extra transformers and imported weights."""
    refiner = RefinerConfig(
        kind="sam2", model="large", weights="sam2.1-hiera-large", choice="predicted_iou"
    )
    return dataclasses.replace(vmos(), preset="hqtrack-sam2", refiner=refiner)


def vmos_r50() -> TrackerConfig:
    """VMOS with ResNet-50 as encoder (Table 5), without refiner; its weights must be trained."""
    encoder = EncoderConfig(kind="resnet50")
    return dataclasses.replace(vmos(), preset="vmos-r50", weights="vmos-r50", encoder=encoder)


def deaot_r50() -> TrackerConfig:
    """DeAOT, the paper's baseline: ResNet-50, one scale (Table 2); its weights must be trained."""
    sizes = dataclasses.replace(released_vmos(), multi_scale=False)
    return dataclasses.replace(vmos_r50(), preset="deaot-r50", weights="deaot-r50", vmos=sizes)


def _as_released(config: TrackerConfig, name: str) -> TrackerConfig:
    return dataclasses.replace(
        config,
        preset=name,
        memory=dataclasses.replace(config.memory, capacity=RELEASED_CAPACITY),
        tracking=TrackingConfig(slots="by_id"),
    )


PRESETS: Mapping[str, Callable[[], TrackerConfig]] = {
    "lite": lite,
    "lite-vmos": lite_vmos,
    "lite-realtime": lite_realtime,
    "vmos": vmos,
    "vmos-released": vmos_released,
    "hqtrack": hqtrack,
    "hqtrack-released": hqtrack_released,
    "vmos-sam-h": vmos_sam_h,
    "hqtrack-sam2": hqtrack_sam2,
    "vmos-r50": vmos_r50,
    "deaot-r50": deaot_r50,
}


def load_preset(name: str) -> TrackerConfig:
    """Return a preset by its name.

    Raises:
        ConfigError: No preset has that name.
    """
    if not isinstance(name, str) or name not in PRESETS:
        known = ", ".join(PRESETS)
        raise ConfigError(
            f"unknown preset {name!r}; wanted one of: {known}{did_you_mean(str(name), PRESETS)}"
        )
    return PRESETS[name]()
