"""Measures one tracker on one video: what every stage takes, holds and computes."""

from __future__ import annotations

import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import torch
from torch.utils.flop_counter import FlopCounterMode

from vots_hqtrack.bench.machine import matrix_throughput, peak_memory, reset_peak
from vots_hqtrack.bench.meter import STAGES, StageMeter, metered
from vots_hqtrack.build import TrackerParts, build_parts, build_untrained_parts, make_tracker
from vots_hqtrack.checkpoints.manifest import resolve
from vots_hqtrack.config import TrackerConfig
from vots_hqtrack.devices import device_clock, pick_device, pick_dtype
from vots_hqtrack.errors import InputError, WeightsError
from vots_hqtrack.memory import TrackState
from vots_hqtrack.result import FrameResult
from vots_hqtrack.tracker import HQTracker
from vots_hqtrack.types import FrameArray, MaskArray, Size, check_frame
from vots_hqtrack.video.label_maps import write_label_map
from vots_hqtrack.video.reader import read_frame
from vots_hqtrack.vot.regions import mask_to_region

FLOPS_BY = "torch.utils.flop_counter: matrix products, convolutions and attention"

_WARM_UP = 2
_GIGA = 1e9
_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 1]


@dataclass(frozen=True, slots=True)
class Case:
    """What to measure.

    Attributes:
        config: How to track; ``memory.capacity`` frames are remembered before the measurement.
        device: Where to compute, in PyTorch's words or ``auto``.
        num_frames: Frames to measure.
        frame_index: Number that the first measured frame gets.
        square: Side of the matrices whose product gives the throughput; 0 goes by the device.
        uses_processor_time: Count the time that this process had, on all threads together, instead
            of the time that passed.
        for_toolkit: Make the VOT toolkit's regions of the masks, as its tracker does, and no file.
    """

    config: TrackerConfig
    device: str = "auto"
    num_frames: int = 8
    frame_index: int | None = None
    square: int = 0
    uses_processor_time: bool = False
    for_toolkit: bool = False

    def clock(self, device: torch.device) -> Callable[[], float]:
        """Return what the seconds are read from."""
        return time.process_time if self.uses_processor_time else device_clock(device)

    def name(self, size: Size, num_objects: int) -> str:
        """Return what tells this case from others."""
        at = "" if self.frame_index is None else f", frame {self.frame_index}"
        return (
            f"{self.config.preset} {self.config.runtime.dtype} {size.width}x{size.height}, "
            f"objects {num_objects}, memory {self.config.memory.capacity}{at}"
        )


@dataclass(frozen=True, slots=True)
class StageResult:
    """What one stage takes of a frame.

    Attributes:
        median: Seconds.
        fastest: Seconds.
        slowest: Seconds.
        gflop: Operations, in 1e9; 0 where none is counted.
        share: Of the machine's matrix throughput, by the median: 0 to 1.
    """

    median: float
    fastest: float
    slowest: float
    gflop: float
    share: float


@dataclass(frozen=True, slots=True)
class CaseResult:
    """What was measured.

    Attributes:
        name: Of the case.
        config: How it was tracked, ready for JSON.
        weights: ``preset`` or ``random``; of random ones only the speed means anything.
        clock: ``wall`` or ``processor``: which time the seconds are.
        dtype: Number format of the heavy products.
        throughput: GFLOP/s of a large matrix product in that format, in the same run.
        num_frames: Frames measured.
        seen: Mean share of the objects that were seen; those that are not need no refinement.
        stages: By name, in the order of a frame's way; ``total`` comes last.
        remembered: Bytes of the video's memories.
        peak: Peak bytes, ``resident`` and on a GPU ``device``.
    """

    name: str
    config: Mapping[str, object]
    weights: str
    clock: str
    dtype: str
    throughput: float
    num_frames: int
    seen: float
    stages: Mapping[str, StageResult]
    remembered: int
    peak: Mapping[str, int]


def run_case(
    case: Case, frames: Sequence[FrameArray], masks: Mapping[int, MaskArray]
) -> CaseResult:
    """Measure a tracker.

    Args:
        case: What to measure.
        frames: At least two, uint8 ``(H, W, 3)`` RGB; they are played forth and back.
        masks: Objects of the first one, bool ``(H, W)`` by object id.

    Raises:
        ConfigError: The device or an option is not usable.
        InputError: There are too few frames or no object.
        WeightsError: Weights are damaged or do not fit. Missing ones are random.
    """
    if len(frames) < 2:
        raise InputError(f"wanted at least two frames to measure, got {len(frames)}")
    size = check_frame(frames[0])
    device = pick_device(case.device)
    dtype = pick_dtype(case.config.runtime.dtype, device)
    if case.config.runtime.threads:  # the throughput goes by them too
        torch.set_num_threads(case.config.runtime.threads)
    reset_peak(device)
    parts, weights = build_any(case.config, device)
    order = ping_pong(frames)
    throughput = matrix_throughput(dtype, device, side=case.square, clock=case.clock(device))
    state = fill_memory(case, parts, device, order, masks)
    with tempfile.TemporaryDirectory() as folder:
        play = _Play(case, parts, device, order, Path(folder))
        gflops = play.count_operations(state)
        times, seen = play.time(state)
    throughput = max(
        throughput, matrix_throughput(dtype, device, side=case.square, clock=case.clock(device))
    )
    return CaseResult(
        name=case.name(size, len(masks)),
        config=dataclasses.asdict(case.config),
        weights=weights,
        clock="processor" if case.uses_processor_time else "wall",
        dtype=str(dtype).removeprefix("torch."),
        throughput=throughput,
        num_frames=len(times),
        seen=seen,
        stages=_summarise(times, gflops, throughput),
        remembered=state.nbytes,
        peak=peak_memory(device),
    )


class _Play:
    """Plays frames through a tracker whose parts are watched."""

    def __init__(
        self,
        case: Case,
        parts: TrackerParts,
        device: torch.device,
        frames: Iterator[FrameArray],
        folder: Path,
    ) -> None:
        self._case = case
        self._parts = parts
        self._device = device
        self._frames = frames
        self._folder = folder

    def count_operations(self, state: TrackState) -> dict[str, float]:
        """Return the floating point operations of one frame by stage; also warms up."""
        with FlopCounterMode(display=False) as counter:
            meter = StageMeter(lambda: float(counter.get_total_flops()))
            with metered(self._parts, meter) as parts:
                self._step(make_tracker(self._case.config, parts, self._device), state, meter)
        return meter.take()

    def time(self, state: TrackState) -> tuple[list[dict[str, float]], float]:
        """Return the seconds of each frame by stage, and the mean share of objects seen."""
        meter = StageMeter(self._case.clock(self._device))
        times, seen = [], []
        with metered(self._parts, meter) as parts:
            tracker = make_tracker(self._case.config, parts, self._device)
            for number in range(_WARM_UP + self._case.num_frames):
                result = self._step(tracker, state, meter)
                taken = meter.take()
                if number >= _WARM_UP:
                    times.append(taken)
                    seen.append(
                        statistics.mean(float(mask.any()) for mask in result.masks.values())
                    )
        return times, statistics.mean(seen)

    def _step(self, tracker: HQTracker, state: TrackState, meter: StageMeter) -> FrameResult:
        path = self._folder / "frame.jpg"
        cv2.imwrite(str(path), next(self._frames)[..., ::-1])
        with meter.stage("read file"):
            frame = read_frame(path)
        with meter.stage("compose"):
            result = tracker.track(frame, state)
        if self._case.for_toolkit:
            with meter.stage("write regions"):
                for mask in result.masks.values():
                    mask_to_region(mask)
            return result
        with meter.stage("write file"):
            write_label_map(self._folder / "labels.png", result.label_map)
        return result


def build_any(config: TrackerConfig, device: torch.device) -> tuple[TrackerParts, str]:
    """Build a tracker's parts; returns ``preset``, or ``random`` where weights are not here."""
    try:
        for name in config.weights_needed():
            resolve(name)
    except WeightsError:
        return build_untrained_parts(config, device), "random"
    return build_parts(config, device, None), "preset"


def fill_memory(
    case: Case,
    parts: TrackerParts,
    device: torch.device,
    frames: Iterator[FrameArray],
    masks: Mapping[int, MaskArray],
) -> TrackState:
    """Track until the memory is full, each frame remembered and none refined."""
    config = dataclasses.replace(
        case.config,
        memory=dataclasses.replace(case.config.memory, gap=1),
        refiner=dataclasses.replace(case.config.refiner, enabled=False),
    )
    tracker = make_tracker(config, parts, device)
    state = tracker.initialize(next(frames), masks)
    for _ in range(case.config.memory.capacity - 1):
        tracker.track(next(frames), state)
    if case.frame_index is not None:
        state.frame_index = case.frame_index - 1
    for group in state.groups:
        group.gap = case.config.memory.gap
        group.last_long_term = state.frame_index
    return state


def ping_pong(frames: Sequence[FrameArray]) -> Iterator[FrameArray]:
    """Yield frames for ever, without a cut."""
    last = len(frames) - 1
    number = 0
    while True:
        place = number % (2 * last)
        yield frames[min(place, 2 * last - place)]
        number += 1


def _summarise(
    times: Sequence[Mapping[str, float]], gflops: Mapping[str, float], throughput: float
) -> dict[str, StageResult]:
    present = [stage for stage in STAGES if any(stage in taken for taken in times)]
    rows = {stage: [taken.get(stage, 0.0) for taken in times] for stage in present}
    rows["total"] = [sum(taken.values()) for taken in times]
    counted = {stage: gflops.get(stage, 0.0) / _GIGA for stage in present}
    counted["total"] = sum(counted.values())
    found = {}
    for stage, seconds in rows.items():
        median = statistics.median(seconds)
        gflop = counted[stage]
        share = gflop / median / throughput if median > 0 else 0.0
        found[stage] = StageResult(median, min(seconds), max(seconds), gflop, share)
    return found
