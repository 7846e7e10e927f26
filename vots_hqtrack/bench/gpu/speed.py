"""The step ``speed``: our presets beside other trackers, one row per case, each written at once."""

from __future__ import annotations

import itertools
import math
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from vots_hqtrack.allocation import keep_freed_memory
from vots_hqtrack.bench.gpu.attention import (
    QUICK_SHAPES,
    SHAPES,
    AttentionShape,
    attention_timing,
    compare_attention,
)
from vots_hqtrack.bench.gpu.measure import (
    count_operations,
    measure_card,
    profile_frames,
)
from vots_hqtrack.bench.gpu.models import (
    BenchClip,
    BenchModel,
    CutieModel,
    OwnModel,
    Sam2Model,
    make_clip,
)
from vots_hqtrack.bench.gpu.results import ResultFile, Status
from vots_hqtrack.devices import device_clock, pick_device
from vots_hqtrack.errors import ConfigError, HQTrackError
from vots_hqtrack.ops import resolve_backend
from vots_hqtrack.ops.attention_table import TABLE_PATH, update_timings
from vots_hqtrack.presets import load_preset
from vots_hqtrack.settings import apply_settings
from vots_hqtrack.types import Size

STEP = "speed"
OWN = ("lite", "hqtrack", "lite-vmos", "vmos")
OTHERS = ("cutie-base", "cutie-small", "sam2.1-tiny", "edgetam")
SIZES: Mapping[str, tuple[Size, int]] = {
    "854x480, 3 objects": (Size(480, 854), 3),
    "1280x720, 4 objects": (Size(720, 1280), 4),
    "1280x720, 10 objects": (Size(720, 1280), 10),
}
"""Frame size and number of objects, by name."""
QUICK_SIZES: Mapping[str, tuple[Size, int]] = {"160x96, 2 objects": (Size(96, 160), 2)}
TOGETHER = ("lite", "lite-vmos")
"""Presets that track several videos at once."""
NUM_VIDEOS = (1, 4, 8)
QUICK_VIDEOS = (1, 2)
QUICK_SETTINGS = ("memory.capacity=2", "frame.long_edge=256", "frame.min_short_edge=0")
NUM_FRAMES = 20
MAX_SECONDS = 1.5
"""Time limit of a case's frames; at least three are measured."""
NUM_PROFILED = 5
"""Includes one of Cutie's memory frames."""

CASE_ERRORS = (
    HQTrackError,
    RuntimeError,
    OSError,
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
)
"""Errors of a case, in our code or in other packages', after which the next one begins."""

_WARM_UP = 3
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class SpeedCase:
    """One measurement.

    Attributes:
        name: Unique.
        model: Name of the preset or of the other tracker; empty where none is measured.
        size: Name in ``SIZES``; empty where no frame is tracked.
        shape: Attention to measure, or None.
        num_videos: Videos of that size to track at once; 0 measures frames of one video.
    """

    name: str
    model: str = ""
    size: str = ""
    shape: AttentionShape | None = None
    num_videos: int = 0


def plan_speed(*, is_quick: bool, models: tuple[str, ...] = ()) -> list[SpeedCase]:
    """Return all cases, the most important first.

    These are the card, the first size, several videos at once, attention, and other sizes.

    Args:
        is_quick: Toy sizes, and two of our presets.
        models: Only these; empty for all.
    """
    wanted = models or (("lite-vmos", "vmos") if is_quick else (*OWN, *OTHERS))
    first, *others = (
        [SpeedCase(f"{model}, {size}", model, size) for model in wanted]
        for size in (QUICK_SIZES if is_quick else SIZES)
    )
    shapes = QUICK_SHAPES if is_quick else SHAPES
    size = next(iter(QUICK_SIZES if is_quick else SIZES))
    together = [
        SpeedCase(f"{model}, {size}, {count} videos", model, size, num_videos=count)
        for model in wanted
        if model in TOGETHER
        for count in (QUICK_VIDEOS if is_quick else NUM_VIDEOS)
    ]
    attention = [SpeedCase(f"attention: {shape.name}", shape=shape) for shape in shapes]
    rest = (case for cases in others for case in cases)
    return [SpeedCase("card"), *first, *together, *attention, *rest]


def run_speed(
    results: ResultFile,
    device_name: str,
    *,
    is_quick: bool,
    models: tuple[str, ...] = (),
    callback: Callable[[str, Status, Mapping[str, object]], None] = lambda *_: None,
) -> None:
    """Measure all cases without a result in the file, and write each result at once.

    A case that fails is written with its error, and the next one begins. On a CUDA device the times
    of attention also go to the package's table, by which ``ops`` chooses from the next process on,
    and to a copy of it beside the results.

    Args:
        results: The file; a row ``started`` precedes each case.
        device_name: Compute device in PyTorch's words, or ``auto``.
        is_quick: Toy sizes.
        models: Only these; empty for all.
        callback: Called with the name, status and values of each finished case.

    Raises:
        ConfigError: The device does not exist.
    """
    device = pick_device(device_name)
    keep_freed_memory()
    done = results.finished(STEP)
    bench = _SpeedBench(device, is_quick=is_quick)
    tables = [results.path.with_name(TABLE_PATH.name)]
    if os.access(TABLE_PATH.parent, os.W_OK):
        tables.append(TABLE_PATH)
    for case in plan_speed(is_quick=is_quick, models=models):
        if case.name in done:
            continue
        results.append(STEP, case.name, "started")
        started = time.perf_counter()
        status: Status = "ok"
        try:
            values = bench.measure(case)
        except CASE_ERRORS as error:
            bench.drop(case.model)
            status, values = "failed", {"error": _describe(error)}
        values["seconds"] = round(time.perf_counter() - started, 2)
        results.append(STEP, case.name, status, values)
        if case.shape is not None and device.type == "cuda" and not is_quick:
            timing = attention_timing(case.shape, device, _attention_dtype(device), values)
            if timing is not None:
                for table in tables:
                    update_timings(table, timing)
        callback(case.name, status, values)


def _attention_dtype(device: torch.device) -> torch.dtype:
    return torch.bfloat16 if device.type == "cuda" else torch.float32


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
            return compare_attention(case.shape, self._device, _attention_dtype(self._device))
        if not case.model:
            return measure_card(self._device, is_quick=self._is_quick)
        size, num_objects = (QUICK_SIZES if self._is_quick else SIZES)[case.size]
        if case.num_videos:
            clips = [make_clip(size, num_objects) for _ in range(case.num_videos)]
            return self._measure_together(case.model, clips)
        return self._measure_model(case.model, make_clip(size, num_objects))

    def drop(self, name: str) -> None:
        """Drop a network that failed; it may be in any state."""
        self._models.pop(name, None)
        self._held.pop(name, None)

    def _measure_together(self, name: str, clips: Sequence[BenchClip]) -> dict[str, object]:
        """Measure frames a second of all clips together."""
        model = self._model(name)
        if not isinstance(model, OwnModel):
            raise ConfigError(f"only presets track several videos at once, got {name}")
        model.start_together(clips)
        steps = self._run(lambda: [next(clip.frames) for clip in clips], model.step_together)
        median = statistics.median(ms for ms, _ in steps)
        return {
            "together": name,
            "num_videos": len(clips),
            "frames_per_second": 1000 * len(clips) / median,
            "ms": median / len(clips),
            **model.facts,
        }

    def _measure_model(self, name: str, clip: BenchClip) -> dict[str, object]:
        # Networks stay on the device from case to case; the peak is without the other ones.
        others = self._allocated() - self._held.get(name, 0)
        is_new = name not in self._models
        model = self._model(name)
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        model.start(clip)
        found: dict[str, object] = {"model": name, **self._time(model, clip)}
        if isinstance(model, OwnModel):
            found["ms_ahead"] = self._time_ahead(model, clip)
        if self._device.type == "cuda":
            found["peak_mib"] = (torch.cuda.max_memory_allocated(self._device) - others) / 2**20
        if is_new:
            found |= self._cost(model, clip)
        self._held[name] = self._allocated() - others
        return {**found, **model.facts, "ops": resolve_backend()}

    def _run(self, prepare: Callable[[], T], step: Callable[[T], R]) -> list[tuple[float, R]]:
        """Run steps, and return their milliseconds and results but for the first ones.

        Results are on the host, so the device is done with a step when they come.
        """
        steps: list[tuple[float, R]] = []
        warm_up, count = (1, 2) if self._is_quick else (_WARM_UP, NUM_FRAMES)
        read, deadline = device_clock(self._device), math.inf
        while len(steps) < warm_up + count:
            if len(steps) == warm_up:
                deadline = time.perf_counter() + MAX_SECONDS
            if len(steps) >= warm_up + 3 and time.perf_counter() >= deadline:
                break
            given = prepare()
            started = read()
            result = step(given)
            steps.append((1000 * (time.perf_counter() - started), result))
        return steps[warm_up:]

    def _time(self, model: BenchModel, clip: BenchClip) -> dict[str, object]:
        steps = self._run(lambda: next(clip.frames), model.step)
        times = [ms for ms, _ in steps]
        seen = [len(set(labels[::2, ::2].flat) - {0}) / len(clip.masks) for _, labels in steps]
        return {
            "ms": statistics.median(times),
            "ms_fastest": min(times),
            "ms_mean": statistics.mean(times),
            "ms_slowest": max(times),
            "num_frames": len(times),
            "seen": statistics.mean(seen),
        }

    def _time_ahead(self, model: OwnModel, clip: BenchClip) -> float:
        """Median milliseconds from one result to the next where frames are known ahead."""
        ends: list[float] = []
        count = 2 if self._is_quick else NUM_FRAMES
        deadline = time.perf_counter() + MAX_SECONDS
        for _ in model.play(itertools.islice(clip.frames, count + 1)):
            ends.append(time.perf_counter())
            if len(ends) > 3 and ends[-1] > deadline:
                break
        return 1000 * statistics.median(end - start for start, end in itertools.pairwise(ends))

    def _cost(self, model: BenchModel, clip: BenchClip) -> dict[str, object]:
        def step() -> object:
            return model.step(next(clip.frames))

        found: dict[str, object] = {}
        try:
            count = 1 if self._is_quick else NUM_PROFILED
            found |= profile_frames(step, count, self._device)
            found["gflop"] = count_operations(step) / 1e9
        except CASE_ERRORS as error:  # the measured times remain valid
            found["cost_error"] = _describe(error)
        return found

    def _model(self, name: str) -> BenchModel:
        """Return a network, made at its first use."""
        if name not in self._models:
            self._models[name] = self._make(name)
        return self._models[name]

    def _make(self, name: str) -> BenchModel:
        if name.startswith("cutie-"):
            return CutieModel(name.removeprefix("cutie-"), self._device)
        if name in OTHERS:
            return Sam2Model(name, self._device)
        settings = list(QUICK_SETTINGS) if self._is_quick else []
        if self._device.type == "cuda":
            settings.append("runtime.dtype=bfloat16")
        return OwnModel(apply_settings(load_preset(name), settings), self._device)

    def _allocated(self) -> int:
        on_gpu = self._device.type == "cuda"
        return int(torch.cuda.memory_allocated(self._device)) if on_gpu else 0


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:500]
