"""Measurement of one tracker on one video: time, memory and operations of every stage."""

from __future__ import annotations

import dataclasses
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import torch
from torch.utils.flop_counter import FlopCounterMode

from vots_hqtrack.bench.machine import copy_rate, matrix_throughput, peak_memory, reset_peak
from vots_hqtrack.bench.meter import STAGES, OperatorCounter, StageMeter, metered
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


@dataclass(frozen=True, slots=True)
class Case:
    """One measurement.

    Attributes:
        config: Tracker configuration; the memory is filled to its capacity beforehand.
        device: Compute device in PyTorch's words, or ``auto``.
        num_frames: Frames to measure.
        frame_index: Index of the first measured frame; None continues after the memory is full.
        square: Side of the matrices that give the throughput; 0 chooses by the device.
        uses_processor_time: Count the processor time of all threads instead of wall-clock time.
        for_toolkit: Make the VOT toolkit's regions from the masks instead of a file.
        num_videos: Number of videos with frames in one batch, measured against one after another;
            1 measures neither.
    """

    config: TrackerConfig
    device: str = "auto"
    num_frames: int = 8
    frame_index: int | None = None
    square: int = 0
    uses_processor_time: bool = False
    for_toolkit: bool = False
    num_videos: int = 1

    def clock(self, device: torch.device) -> Callable[[], float]:
        """Return the clock, in seconds."""
        return time.process_time if self.uses_processor_time else device_clock(device)

    def name(self, size: Size, num_objects: int) -> str:
        """Return a name that distinguishes this case from others."""
        at = "" if self.frame_index is None else f", frame {self.frame_index}"
        return (
            f"{self.config.preset} {self.config.runtime.dtype} {size.width}x{size.height}, "
            f"objects {num_objects}, memory {self.config.memory.capacity}{at}"
        )


@dataclass(frozen=True, slots=True)
class StageResult:
    """Cost of one stage of a frame.

    Attributes:
        median: Seconds.
        fastest: Seconds.
        slowest: Seconds.
        gflop: Operations, in 1e9; 0 where none is counted.
        fraction: Fraction of the machine's matrix throughput, by the median: 0 to 1.
        gbyte: Bytes that its operators read and write, in 1e9, as if none shared a cache.
        floor: Seconds that it takes at least: the operations at the machine's matrix throughput, or
            the bytes at its rate of copying, whichever is more. Caches can be faster.
    """

    median: float
    fastest: float
    slowest: float
    gflop: float
    fraction: float = 0.0
    gbyte: float = 0.0
    floor: float = 0.0


@dataclass(frozen=True, slots=True)
class CaseResult:
    """Result of a case.

    Attributes:
        name: Name of the case.
        config: Tracker configuration, ready for JSON.
        weights: ``preset`` or ``random``; with random ones only the speed is meaningful.
        clock: ``wall`` or ``processor`` time.
        dtype: Data type of the matrix products.
        throughput: GFLOP/s of a large matrix product in that type, in the same run.
        copy_rate: GB/s of a large copy, read and written, in the same run.
        num_frames: Frames measured.
        seen: Mean fraction of the objects with a mask; the others need no refinement.
        stages: Results by name, in the order of a frame's way; ``total`` is the last.
        peak: Peak bytes, ``resident`` and on a GPU ``device``.
        memory_bytes: Bytes of the video's memories.
        operators: PyTorch operators that the host launches for a frame, views included.
        together: Seconds of a frame in a batch of ``Case.num_videos`` videos, relative to one after
            another; 0 where it was not measured.
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
    peak: Mapping[str, int]
    memory_bytes: int = 0
    operators: int = 0
    copy_rate: float = 0.0
    together: float = 0.0


def run_case(
    case: Case, frames: Sequence[FrameArray], masks: Mapping[int, MaskArray]
) -> CaseResult:
    """Measure a tracker.

    Args:
        case: Settings of the measurement.
        frames: At least two, uint8 ``(H, W, 3)`` RGB; they are played in ping-pong order.
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
    if case.config.runtime.threads:  # the throughput depends on them too
        torch.set_num_threads(case.config.runtime.threads)
    reset_peak(device)
    parts, weights = build_any(case.config, device)
    order = ping_pong(frames)
    clock = case.clock(device)
    before = matrix_throughput(dtype, device, side=case.square, clock=clock)
    state = fill_memory(case, parts, device, order, masks)
    with tempfile.TemporaryDirectory() as folder:
        player = _Player(case, parts, device, order, Path(folder))
        gflops = player.count_operations(state)
        gbytes, operators = player.count_operators(state)
        times, seen = player.time(state)
    after = matrix_throughput(dtype, device, side=case.square, clock=clock)
    throughput, bandwidth = max(before, after), copy_rate(device, clock=clock)
    return CaseResult(
        name=case.name(size, len(masks)),
        config=dataclasses.asdict(case.config),
        weights=weights,
        clock="processor" if case.uses_processor_time else "wall",
        dtype=str(dtype).removeprefix("torch."),
        throughput=throughput,
        num_frames=len(times),
        seen=seen,
        stages=_summarise(times, gflops, gbytes, throughput, bandwidth),
        peak=peak_memory(device),
        memory_bytes=state.nbytes,
        operators=operators,
        copy_rate=bandwidth,
        together=_measure_together(case, parts, device, frames, masks),
    )


@dataclass(frozen=True, slots=True)
class _Player:
    """Plays frames through a tracker with measured parts."""

    case: Case
    parts: TrackerParts
    device: torch.device
    frames: Iterator[FrameArray]
    folder: Path

    def count_operations(self, state: TrackState) -> dict[str, float]:
        """Return the floating point operations of one frame by stage; also warms up."""
        with FlopCounterMode(display=False) as counter:
            return self._count(state, lambda: float(counter.get_total_flops()))

    def count_operators(self, state: TrackState) -> tuple[dict[str, float], int]:
        """Return the bytes that the operators of one frame move, by stage, and their number."""
        with OperatorCounter() as counter:  # type: ignore[no-untyped-call]
            return self._count(state, lambda: float(counter.num_bytes)), counter.count

    def _count(self, state: TrackState, read: Callable[[], float]) -> dict[str, float]:
        meter = StageMeter(read)
        with metered(self.parts, meter) as parts:
            tracker = make_tracker(_by_stage(self.case.config), parts, self.device)
            self._step(tracker, state, meter)
        return meter.take()

    def time(self, state: TrackState) -> tuple[list[dict[str, float]], float]:
        """Return the seconds of each frame by stage, and the mean fraction of objects seen."""
        meter = StageMeter(self.case.clock(self.device))
        times, seen = [], []
        with metered(self.parts, meter) as parts:
            tracker = make_tracker(_by_stage(self.case.config), parts, self.device)
            for _ in range(_WARM_UP + self.case.num_frames):
                result = self._step(tracker, state, meter)
                times.append(meter.take())
                seen.append(statistics.mean(float(mask.any()) for mask in result.masks.values()))
        return times[_WARM_UP:], statistics.mean(seen[_WARM_UP:])

    def _step(self, tracker: HQTracker, state: TrackState, meter: StageMeter) -> FrameResult:
        path = self.folder / "frame.jpg"
        cv2.imwrite(str(path), next(self.frames)[..., ::-1])
        with meter.stage("read file"):
            frame = read_frame(path)
        state.owner = tracker.number  # all trackers of a case have the same parts
        with meter.stage("compose"):
            result = tracker.track(frame, state)
        if self.case.for_toolkit:
            with meter.stage("write regions"):
                for mask in result.masks.values():
                    mask_to_region(mask)
            return result
        with meter.stage("write file"):
            write_label_map(self.folder / "labels.png", result.label_map)
        return result


def _measure_together(
    case: Case,
    parts: TrackerParts,
    device: torch.device,
    frames: Sequence[FrameArray],
    masks: Mapping[int, MaskArray],
) -> float:
    """Measure frames of several videos in one batch, in turn with the same one after another.

    Both ways have states of their own. They alternate, so that a busy machine slows both.
    """
    if case.num_videos < 2:
        return 0.0
    tracker, clock = make_tracker(case.config, parts, device), case.clock(device)
    order = ping_pong(frames)
    first = next(order)
    alone, batch = (
        [tracker.initialize(first, masks) for _ in range(case.num_videos)] for _ in range(2)
    )
    ratios = []
    for frame in itertools.islice(order, _WARM_UP + case.num_frames):
        started = clock()
        for state in alone:
            _ = tracker.track(frame, state).label_map
        between = clock()
        for result in tracker.track_together([frame] * case.num_videos, batch):
            _ = result.label_map
        ratios.append((clock() - between) / (between - started))
    return statistics.median(ratios[_WARM_UP:])


def _by_stage(config: TrackerConfig) -> TrackerConfig:
    """Launch every operation by itself: a recorded frame has no stages that the host could time."""
    runtime = dataclasses.replace(config.runtime, compile="off")
    return dataclasses.replace(config, runtime=runtime)


def build_any(config: TrackerConfig, device: torch.device) -> tuple[TrackerParts, str]:
    """Build a tracker's parts; returns ``preset``, or ``random`` where weights are missing."""
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
    """Track until the memory is full: write every frame to memory, refine none."""
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
    state.owner = None  # another tracker of the same networks goes on
    return state


def ping_pong(frames: Sequence[FrameArray]) -> Iterator[FrameArray]:
    """Yield frames endlessly, forwards and backwards without a cut."""
    return itertools.cycle([*frames, *frames[-2:0:-1]])


def _summarise(
    times: Sequence[Mapping[str, float]],
    gflops: Mapping[str, float],
    gbytes: Mapping[str, float],
    throughput: float,
    bandwidth: float,
) -> dict[str, StageResult]:
    found: dict[str, StageResult] = {}
    present = [stage for stage in STAGES if any(stage in taken for taken in times)]
    for name, stages in [*((stage, [stage]) for stage in present), ("total", present)]:
        seconds = [sum(taken.get(stage, 0.0) for stage in stages) for taken in times]
        gflop, gbyte = (sum(a.get(s, 0.0) for s in stages) / 1e9 for a in (gflops, gbytes))
        median = statistics.median(seconds)
        fraction = gflop / median / throughput if median > 0 else 0.0
        floor = max(gflop / throughput, gbyte / bandwidth)
        if name == "total":  # its stages follow one another
            floor = sum(found[stage].floor for stage in present)
        found[name] = StageResult(median, min(seconds), max(seconds), gflop, fraction, gbyte, floor)
    return found
