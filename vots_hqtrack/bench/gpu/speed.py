"""The step ``speed``: our presets beside other trackers, one row a case, each written at once."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

import torch

from vots_hqtrack.allocation import keep_freed_memory
from vots_hqtrack.bench.gpu.attention import (
    QUICK_SHAPES,
    SHAPES,
    AttentionShape,
    compare_attention,
)
from vots_hqtrack.bench.gpu.card import measure_card, synchronize
from vots_hqtrack.bench.gpu.frame_cost import count_operations, profile_frames
from vots_hqtrack.bench.gpu.models import BenchClip, BenchModel, OwnModel, make_clip
from vots_hqtrack.bench.gpu.others import CutieModel, CutieSize, Sam2Kind, Sam2Model
from vots_hqtrack.bench.gpu.results import ResultFile, ResultRow
from vots_hqtrack.devices import pick_device
from vots_hqtrack.errors import HQTrackError
from vots_hqtrack.ops import resolve_backend
from vots_hqtrack.presets import load_preset
from vots_hqtrack.settings import apply_settings
from vots_hqtrack.types import Size

STEP = "speed"
CARD = "card"
OWN = ("lite", "hqtrack", "lite-vmos", "vmos")
OTHERS = ("cutie-base", "cutie-small", "sam2.1-tiny", "edgetam")
SIZES: Mapping[str, tuple[Size, int]] = {
    "854x480, 3 objects": (Size(480, 854), 3),
    "1280x720, 4 objects": (Size(720, 1280), 4),
    "1280x720, 10 objects": (Size(720, 1280), 10),
}
"""Size of the frames and number of objects, by name."""
QUICK_SIZES: Mapping[str, tuple[Size, int]] = {"160x96, 2 objects": (Size(96, 160), 2)}
QUICK_SETTINGS = ("memory.capacity=2", "frame.long_edge=256", "frame.min_short_edge=0")
NUM_FRAMES = 20
MOST_SECONDS = 1.5
"""Frames of a case are no longer measured after that; at least three are."""
NUM_PROFILED = 5
"""So that a frame that Cutie remembers is among them."""

CASE_ERRORS = (
    HQTrackError,
    RuntimeError,
    OSError,
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
)
"""What a case may fail with, in our code or in other packages', and the next one still begin."""

_WARM_UP = 3
_MIB = 2**20


@dataclass(frozen=True, slots=True)
class SpeedCase:
    """One thing to measure.

    Attributes:
        name: Unique.
        model: Name of the preset or of the other tracker; empty where none is measured.
        size: Name in ``SIZES``; empty where no frame is tracked.
        shape: Of the attention that is measured, or None.
    """

    name: str
    model: str = ""
    size: str = ""
    shape: AttentionShape | None = None


def plan_speed(*, is_quick: bool, models: tuple[str, ...] = ()) -> list[SpeedCase]:
    """Return all cases, what matters most first.

    Args:
        is_quick: Toy sizes, and two of our presets.
        models: Only these; empty for all.
    """
    wanted = models or (("lite-vmos", "vmos") if is_quick else (*OWN, *OTHERS))
    cases = [SpeedCase(CARD)]
    for size in QUICK_SIZES if is_quick else SIZES:
        cases += [SpeedCase(f"{model}, {size}", model, size) for model in wanted]
    shapes = [
        SpeedCase(f"attention: {shape.name}", shape=shape)
        for shape in (QUICK_SHAPES if is_quick else SHAPES)
    ]
    at = 1 + (len(cases) - 1) // (1 if is_quick else len(SIZES))
    return [*cases[:at], *shapes, *cases[at:]]


def run_speed(
    results: ResultFile,
    device_name: str,
    *,
    is_quick: bool,
    models: tuple[str, ...] = (),
    report: Callable[[ResultRow], None] = lambda _: None,
) -> None:
    """Measure all cases that the file has no result of, and write each result at once.

    A case that fails is written as such, with the reason, and the next one begins.

    Args:
        results: The file; a row ``started`` precedes each case.
        device_name: As PyTorch calls it, or ``auto``.
        is_quick: Toy sizes.
        models: Only these; empty for all.
        report: Called with each row.

    Raises:
        ConfigError: There is no such device.
    """
    device = pick_device(device_name)
    keep_freed_memory()
    done = results.finished(STEP)
    bench = _SpeedBench(device, is_quick=is_quick)
    for case in plan_speed(is_quick=is_quick, models=models):
        if case.name in done:
            continue
        results.append(ResultRow(STEP, case.name, "started"))
        started = time.perf_counter()
        try:
            values = bench.measure(case)
            row = ResultRow(STEP, case.name, "ok", values)
        except CASE_ERRORS as error:
            bench.forget(case.model)
            row = ResultRow(STEP, case.name, "failed", {"error": _describe(error)})
        taken = time.perf_counter() - started
        row = dataclasses.replace(row, values={**row.values, "seconds": round(taken, 2)})
        results.append(row)
        report(row)


class _SpeedBench:
    """Measures cases; networks are kept from one size to the next."""

    def __init__(self, device: torch.device, *, is_quick: bool) -> None:
        self._device = device
        self._is_quick = is_quick
        self._models: dict[str, BenchModel] = {}
        self._held: dict[str, int] = {}

    def measure(self, case: SpeedCase) -> dict[str, object]:
        """Measure one case; the values are ready for JSON."""
        if case.shape is not None:
            dtype = torch.bfloat16 if self._device.type == "cuda" else torch.float32
            return compare_attention(case.shape, self._device, dtype)
        if not case.model:
            return measure_card(self._device, is_quick=self._is_quick)
        size, num_objects = (QUICK_SIZES if self._is_quick else SIZES)[case.size]
        return self._measure_model(case.model, make_clip(size, num_objects), num_objects)

    def forget(self, name: str) -> None:
        """Drop a network that failed; it may be in any state."""
        self._models.pop(name, None)
        self._held.pop(name, None)

    def _measure_model(self, name: str, clip: BenchClip, num_objects: int) -> dict[str, object]:
        # Networks stay on the device from case to case; those of others are not this one's.
        others = self._allocated() - self._held.get(name, 0)
        is_new = name not in self._models
        if is_new:
            self._models[name] = self._make(name)
        model = self._models[name]
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        model.start(clip)
        for _ in range(1 if self._is_quick else _WARM_UP):
            model.step(next(clip.frames))
        found: dict[str, object] = {"model": name, **self._time(model, clip, num_objects)}
        if self._device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(self._device) - others
            found["peak_mib"] = peak / _MIB
        if is_new:
            found |= self._cost(model, clip)
        self._held[name] = self._allocated() - others
        return {**found, **model.facts, "ops": resolve_backend()}

    def _time(self, model: BenchModel, clip: BenchClip, num_objects: int) -> dict[str, object]:
        times: list[float] = []
        seen: list[float] = []
        began = time.perf_counter()
        count = 2 if self._is_quick else NUM_FRAMES
        while len(times) < count and (len(times) < 3 or time.perf_counter() - began < MOST_SECONDS):
            frame = next(clip.frames)
            synchronize(self._device)
            started = time.perf_counter()
            labels = model.step(frame)
            times.append(time.perf_counter() - started)
            seen.append(len(set(labels[::2, ::2].flat) - {0}) / num_objects)
        ordered = sorted(1000 * taken for taken in times)
        return {
            "ms": statistics.median(ordered),
            "ms_fastest": ordered[0],
            "ms_mean": statistics.mean(ordered),
            "ms_slowest": ordered[-1],
            "num_frames": len(times),
            "seen": statistics.mean(seen),
        }

    def _cost(self, model: BenchModel, clip: BenchClip) -> dict[str, object]:
        def step() -> object:
            return model.step(next(clip.frames))

        found: dict[str, object] = {}
        try:
            count = 1 if self._is_quick else NUM_PROFILED
            found |= dataclasses.asdict(profile_frames(step, count, self._device))
            found["gflop"] = count_operations(step) / 1e9
        except CASE_ERRORS as error:  # the times that were measured stand
            found["cost_error"] = _describe(error)
        return found

    def _make(self, name: str) -> BenchModel:
        if name.startswith("cutie-"):
            return CutieModel(cast("CutieSize", name.removeprefix("cutie-")), self._device)
        if name in OTHERS:
            return Sam2Model(cast("Sam2Kind", name), self._device)
        settings = list(QUICK_SETTINGS) if self._is_quick else []
        if self._device.type == "cuda":
            settings.append("runtime.dtype=bfloat16")
        return OwnModel(apply_settings(load_preset(name), settings), self._device)

    def _allocated(self) -> int:
        on_gpu = self._device.type == "cuda"
        return int(torch.cuda.memory_allocated(self._device)) if on_gpu else 0


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:500]
