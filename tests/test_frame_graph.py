"""A frame is one function of tensors: no graph break, nothing read, nothing uploaded midway."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pretend_cuda import PretendCuda, pretend_cuda
from test_host_transfers import ReadNumbers, ReadTensors
from torch.overrides import TorchFunctionMode
from two_discs import draw_video

from vots_hqtrack.build import build_untrained_parts
from vots_hqtrack.config import TrackerConfig
from vots_hqtrack.frame import pixels_to_image, upload_frame
from vots_hqtrack.presets import PRESETS, load_preset
from vots_hqtrack.segmenter import FrameInputs, FrameOutputs
from vots_hqtrack.settings import apply_settings
from vots_hqtrack.tracker import HQTracker
from vots_hqtrack.types import FrameFeatures, Size

CPU = torch.device("cpu")
SMALL = (
    *("runtime.dtype=float32", "runtime.frame_budget=0", "runtime.threads=0"),
    "vmos.num_blocks_s16=2",  # the others are as the second
)
ONE_BLOCK = "vmos.num_blocks_s16=1"
"""For what has two of the same in another test."""
OTHER_RULES = ("tracking.mode=separate", "tracking.memory_masks=agreed", "tracking.search_reach=2")
SETTINGS = {"hqtrack": (ONE_BLOCK,), "deaot-r50": (ONE_BLOCK, *OTHER_RULES)}
"""Settings of presets that are one graph; the smallest one shows the rules that no preset has."""


def small(preset: str, *settings: str) -> TrackerConfig:
    """A preset on small frames; a refiner of hundreds of megabytes is replaced by a small one."""
    config = apply_settings(load_preset(preset), [*SMALL, *settings])
    frame = dataclasses.replace(config.frame, long_edge=256, min_short_edge=0)
    refiner = config.refiner
    if refiner.model not in ("vit_tiny", "tiny"):
        model = "tiny" if refiner.kind == "sam2" else "vit_tiny"
        refiner = dataclasses.replace(refiner, model=model)
    return dataclasses.replace(config, frame=frame, refiner=refiner)


def distinct_presets() -> list[str]:
    """Presets that have every network, refiner, score and rule between them.

    Sizes of features do not count, nor SAM without the head of HQ-SAM, which computes a part of
    what it does with the head; SAM 2's decoder is another library's.
    """
    parts: dict[str, set[object]] = {}
    for name in PRESETS:
        config = small(name)
        refiner = dataclasses.replace(config.refiner, weights="", model="", hq=True)
        if config.refiner.kind != "sam2":
            parts[name] = {
                config.vmos,
                refiner if config.refiner.enabled else "no refiner",
                config.confidence.kind,
                dataclasses.replace(config.tracking, slots="packed", absence_score=0),
            }
    for name in reversed(PRESETS):  # the first of equals stays
        others = set[object]().union(*(parts[other] for other in parts if other != name))
        if parts.get(name, set()) <= others:
            parts.pop(name, None)
    return list(parts)


def prepare(config: TrackerConfig, device: torch.device) -> tuple[HQTracker, FrameInputs]:
    """A tracker and the inputs of its third frame."""
    tracker = HQTracker(config, *build_untrained_parts(config, device), device)
    video = draw_video(3)
    with torch.inference_mode():
        state = tracker.initialize(*video[0])
        tracker.track(video[1][0], state, use_refiner=False)
        encoded = tracker._encoder.encode(video[2][0], state.geometry)
        return tracker, tracker._read(encoded, state, None, use_refiner=True)


def check(found: FrameOutputs, wanted: FrameOutputs) -> None:
    assert wanted.scored.slot_map.any()
    assert (found.scored.slot_map != wanted.scored.slot_map).float().mean() < 1e-4
    assert (found.slot_map != wanted.slot_map).float().mean() < 1e-4
    torch.testing.assert_close(found.scored.numbers, wanted.scored.numbers, atol=2e-3, rtol=1e-3)
    for left, right in zip(found.entries, wanted.entries, strict=True):
        for ours, other in zip(left.layers, right.layers, strict=True):
            torch.testing.assert_close(ours.key, other.key, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("preset", distinct_presets())
def test_segmentation_is_one_graph(preset: str) -> None:
    tracker, inputs = prepare(small(preset, *SETTINGS.get(preset, ())), CPU)
    with torch.inference_mode():
        wanted = tracker._segment(inputs)
        torch.compiler.reset()
        compiled = torch.compile(tracker._segment, fullgraph=True, dynamic=False, backend="eager")
        check(compiled(inputs), wanted)


def test_frames_of_two_videos_are_one_graph() -> None:
    tracker, inputs = prepare(small("lite-vmos", ONE_BLOCK), CPU)
    together = tracker._segmenter.segment_together
    with torch.inference_mode():
        wanted = tracker._segment(inputs)
        torch.compiler.reset()
        compiled: Any = torch.compile(together, fullgraph=True, dynamic=False, backend="eager")
        for found in compiled((inputs, inputs)):
            check(found, wanted)


@pytest.mark.parametrize("kind", ["sam", "internimage-t", "resnet50"])
def test_encoders_are_one_graph(kind: str) -> None:
    preset = {"sam": "lite-vmos", "internimage-t": "vmos", "resnet50": "vmos-r50"}[kind]
    config = small(preset)
    with torch.inference_mode():
        parts = build_untrained_parts(config, CPU)
        geometry = parts.encoder.plan(Size(96, 252))  # to be resized
        network = parts.encoder._network  # type: ignore[attr-defined]
        for stage in getattr(network, "levels", []):  # the other blocks are as these
            stage.blocks = stage.blocks[:2]
        encode = parts.encoder._encode_pixels  # type: ignore[attr-defined]
        pixels = torch.from_numpy(draw_video(1)[0][0][:, :252].copy())
        wanted: FrameFeatures = encode((pixels,), (geometry,))
        torch.compiler.reset()
        compiled: Any = torch.compile(encode, fullgraph=True, dynamic=False, backend="eager")
        found = compiled((pixels,), (geometry,))
        for name in ("s4", "s8", "s16"):
            torch.testing.assert_close(getattr(found, name), getattr(wanted, name))


class Uploads(TorchFunctionMode):
    """Collects calls that copy from the host to the device, which no graph can record."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        made = func(*args, **(kwargs or {}))
        comes_from_host = name in ("tensor", "as_tensor", "from_numpy", "new_tensor") or (
            name in ("to", "copy_", "cuda") and not isinstance(args[0], PretendCuda)
        )
        if name in ("__getitem__", "__setitem__") and isinstance(args[0], PretendCuda):
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            made_here = isinstance(made, PretendCuda) or name == "__setitem__"
            comes_from_host = made_here and any(isinstance(item, list) for item in index)
            if comes_from_host:
                self.found.append(f"{name} with a list")
        elif comes_from_host and isinstance(made, PretendCuda):
            self.found.append(name)
        return made


def test_uploads_are_seen() -> None:
    with pretend_cuda() as device, Uploads() as uploads:
        made = torch.zeros(3, 4, device=device)
        made[:, [0, 2]]
        torch.zeros(2).to(device)
        torch.tensor([1.0], device=device)
        made.new_tensor([1.0])
    assert uploads.found == ["__getitem__ with a list", "to", "tensor", "new_tensor"]


@pytest.mark.parametrize(
    ("preset", "settings"),
    [("lite", ("tracking.search_reach=2",)), ("hqtrack", ("frame.max_long_edge=129",))],
)
def test_nothing_goes_between_host_and_device(preset: str, settings: tuple[str, ...]) -> None:
    """No numbers are read and no tensors copied, which a CUDA graph would refuse."""
    config = small(preset, "runtime.compile=off", *settings)
    with pretend_cuda() as device:
        tracker, inputs = prepare(config, device)
        with torch.inference_mode():
            frame = draw_video(1)[0][0][:, :250]  # to be resized
            geometry = tracker._encoder.plan(Size(*frame.shape[:2]))
            pixels = upload_frame(frame, geometry, device)
            wanted = tracker._segment(inputs)  # makes the tables, as the call before recording
            pixels_to_image(pixels, geometry)
            with ReadTensors() as copies, ReadNumbers() as numbers, Uploads() as uploads:
                tracker._segment(inputs)
                pixels_to_image(pixels, geometry)
            assert wanted.scored.slot_map.sum().item() > 0
    assert copies.counts.total() == numbers.count == 0
    assert uploads.found == []
