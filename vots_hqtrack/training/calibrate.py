"""Calibration of scores by tracked masks of known quality (decision 0019).

A run of the tracker over stress-test clips gives observations, which a file keeps. Fit, check by
videos left out, and reliability diagram are made of that file.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vots_hqtrack.config import ConfidenceConfig
from vots_hqtrack.errors import InputError
from vots_hqtrack.extras import missing_extra
from vots_hqtrack.measures import jaccard
from vots_hqtrack.scoring import GOOD_IOU, calibrated_score
from vots_hqtrack.tracker import HQTracker
from vots_hqtrack.training.stress_clips import StressClip
from vots_hqtrack.types import ConfidenceFeatures, ObjectId

FloatArray = npt.NDArray[np.float64]

NAMES = ConfidenceFeatures._fields
SIGNS = {"mean_margin": 1, "weak_fraction": -1, "ambiguity": -1, "shrinkage": -1}
"""Sign of the weight of each part of the evidence: 1 for a good mask, -1 against."""
RIDGE = 0.01
BINS = 10
SURE = 0.9
"""Users expect that nearly all masks with a higher score are good."""


@dataclass(frozen=True, slots=True)
class Observation:
    """A mask that a tracker reported, and its quality.

    Attributes:
        clip: Origin of the clip; its first word is the video, which checks leave out as a whole.
        kind: Difficulty of the clip.
        frame_index: Index in the clip.
        object_id: Id of the object.
        evidence: Evidence of the tracker.
        probability: VMOS's mean probability inside the mask.
        iou: IoU of the reported mask with the truth; 0 if the object is not there.
        initial_iou: The same of VMOS's mask.
        is_visible: Whether the object is there.
        is_reported: Whether the mask has a pixel.
    """

    clip: str
    kind: str
    frame_index: int
    object_id: int
    evidence: ConfidenceFeatures
    probability: float
    iou: float
    initial_iou: float
    is_visible: bool
    is_reported: bool

    @property
    def is_good(self) -> bool:
        """Whether the mask overlaps with the truth by half."""
        return self.is_visible and self.iou >= GOOD_IOU


def observe(tracker: HQTracker, clip: StressClip) -> Iterator[Observation]:
    """Track a clip and yield an observation for every frame but the first and every object.

    Args:
        tracker: A tracker that scores by ``probability``.
        clip: The clip; object ``i`` of it gets the id ``i + 1``.
    """
    first = {number: track[0] for number, track in enumerate(clip.masks, start=1)}
    state = tracker.initialize(clip.frames[0], first)
    for index, frame in enumerate(clip.frames[1:], start=1):
        result = tracker.track(frame, state)
        for number, track in enumerate(clip.masks, start=1):
            object_id, truth = ObjectId(number), track[index]
            yield Observation(
                clip=clip.origin,
                kind=clip.kind,
                frame_index=index,
                object_id=number,
                evidence=result.confidence_features[object_id],
                probability=result.scores[object_id],
                iou=jaccard(result.masks[object_id], truth),
                initial_iou=jaccard(result.initial_masks[object_id], truth),
                is_visible=bool(truth.any()),
                is_reported=bool(result.masks[object_id].any()),
            )


def write_observations(path: Path, observations: Iterable[Observation]) -> None:
    """Add observations to a file, a line of JSON each."""
    with path.open("a", encoding="utf-8") as file:
        for observation in observations:
            fields = {**asdict(observation), "evidence": observation.evidence._asdict()}
            file.write(json.dumps(fields) + "\n")


def read_observations(path: Path) -> list[Observation]:
    """Read what :func:`write_observations` wrote.

    Raises:
        InputError: The file cannot be read, or a line is malformed.
    """
    found = []
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            fields = json.loads(line)
            found.append(
                Observation(**{**fields, "evidence": ConfidenceFeatures(**fields["evidence"])})
            )
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path}: wanted lines of observations, got: {error}") from error
    return found


def without_refiner(observations: Iterable[Observation]) -> list[Observation]:
    """Return the observations of the same tracker without its refiner.

    VMOS's masks and the evidence are the same where the memory holds VMOS's masks.
    """
    return [dataclasses.replace(each, iou=each.initial_iou) for each in observations]


def split_by_count(observations: Sequence[Observation]) -> dict[str, list[Observation]]:
    """Group observations into ``one object`` and ``several objects`` a clip; no group is empty."""
    counts = Counter(clip for clip, _ in {(each.clip, each.object_id) for each in observations})
    groups: dict[str, list[Observation]] = {"one object": [], "several objects": []}
    for each in observations:
        groups["several objects" if counts[each.clip] > 1 else "one object"].append(each)
    return {name: group for name, group in groups.items() if group}


def fit(observations: Sequence[Observation]) -> ConfidenceConfig:
    """Fit the logistic model to all masks that have a pixel.

    The minimum of a cross-entropy in which every clip has the same weight, with a small ridge on
    the standardised weights. Signs of weights are fixed: a larger margin never lowers a score.

    Args:
        observations: Observations; masks without a pixel do not count.

    Raises:
        ConfigError: SciPy is not installed.
        InputError: There are no good masks, or no bad ones.
    """
    rows = [each for each in observations if each.is_reported]
    good = np.array([row.is_good for row in rows], np.float64)
    if not len(good) or good.min() == good.max():
        raise InputError(f"a fit needs good and bad masks, got {int(good.sum())} of {len(good)}")
    sizes = Counter(row.clip for row in rows)
    counts = np.array([1.0 / sizes[row.clip] for row in rows], np.float64)
    counts /= counts.sum()
    evidence = np.array([row.evidence for row in rows], np.float64)
    centre = counts @ evidence
    spread = np.sqrt(counts @ (evidence - centre) ** 2)
    scale = np.where(spread > 0, spread, 1.0)
    weights, constant = _minimise((evidence - centre) / scale, good, counts)
    weights /= scale
    constant -= float(weights @ centre)
    values = {name: round(float(value), 4) for name, value in zip(NAMES, weights, strict=True)}
    return ConfidenceConfig(kind="calibrated", constant=round(constant, 4), **values)


def cross_score(observations: Sequence[Observation]) -> list[float]:
    """Score every observation by a model that was fitted without its video.

    Args:
        observations: Observations of several videos.

    Raises:
        ConfigError: SciPy is not installed.
        InputError: Without one video there are no good masks left, or no bad ones.
    """
    videos = [each.clip.split(":")[0] for each in observations]
    models = {
        video: fit([each for each, name in zip(observations, videos, strict=True) if name != video])
        for video in set(videos)
    }
    pairs = zip(observations, videos, strict=True)
    return [calibrated_score(each.evidence, models[video]) for each, video in pairs]


@dataclass(frozen=True, slots=True)
class Reliability:
    """Reliability of scores.

    Attributes:
        mean_score: ``(BINS,)`` float64, of the masks in each bin of scores; 0 in an empty bin.
        fraction_good: ``(BINS,)`` float64, of the same masks.
        counts: ``(BINS,)`` int64, masks in each bin.
        calibration_error: Expected calibration error: mean of the bins' differences, weighted
            by their masks.
        brier: Mean squared difference of score and truth, mask by mask.
        sure_good: Fraction of good masks among those with a score above `SURE`; NaN without such.
        ranking: Probability that a good mask has a higher score than a bad one (area under the
            ROC curve); NaN if all are alike.
    """

    mean_score: FloatArray
    fraction_good: FloatArray
    counts: npt.NDArray[np.int64]
    calibration_error: float
    brier: float
    sure_good: float
    ranking: float


def measure_reliability(scores: Sequence[float], is_good: Sequence[bool]) -> Reliability:
    """Compare scores with truth in ten equal bins.

    Args:
        scores: In ``[0, 1]``.
        is_good: The truth about the same masks.

    Raises:
        InputError: Masks are missing, or the numbers differ.

    Example:
        >>> round(measure_reliability([0.9, 0.9, 0.1], [True, False, False]).calibration_error, 3)
        0.3
    """
    if not scores or len(scores) != len(is_good):
        raise InputError(f"wanted a truth for each score, got {len(scores)} and {len(is_good)}")
    values, truth = np.array(scores, np.float64), np.array(is_good, np.float64)
    bins = np.minimum((values * BINS).astype(np.int64), BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    some = np.maximum(counts, 1)
    mean_score = np.bincount(bins, values, BINS) / some
    fraction_good = np.bincount(bins, truth, BINS) / some
    error = float((np.abs(mean_score - fraction_good) * counts).sum() / len(values))
    brier = float(((values - truth) ** 2).mean())
    sure = truth[values > SURE]
    sure_good = float(sure.mean()) if len(sure) else float("nan")
    ranking = _ranking(values, truth > 0)
    return Reliability(mean_score, fraction_good, counts, error, brier, sure_good, ranking)


@dataclass(frozen=True, slots=True)
class AbsenceTrade:
    """Effect of a threshold ``tracking.absence_score`` on VOTS's measures.

    Attributes:
        quality: Mean overlap over all frames; 1 where an absent object is called absent.
        nre: Fraction of the frames with the object on which it would be called absent.
        adq: The same of the frames without the object; NaN without such frames.
    """

    quality: float
    nre: float
    adq: float


def trade_absence(
    observations: Sequence[Observation], scores: Sequence[float], absence_score: float
) -> AbsenceTrade:
    """Compute the effect of a threshold; reports do not act on later frames.

    Args:
        observations: Observations of all frames, those without a mask too.
        scores: Their scores, in the same order.
        absence_score: The threshold.

    Raises:
        InputError: No object is visible, or the numbers differ.
    """
    is_visible = np.array([each.is_visible for each in observations], np.bool_)
    if len(scores) != len(observations) or not is_visible.any():
        raise InputError(
            f"wanted a score for each observation and some visible objects, got {len(scores)} "
            f"scores and {int(is_visible.sum())} visible of {len(observations)} objects"
        )
    is_there = np.array([each.is_reported for each in observations], np.bool_)
    is_called = ~is_there | (np.array(scores) < absence_score)
    overlap = np.array([each.iou for each in observations], np.float64)
    overlap = np.where(is_called, np.where(is_visible, 0.0, 1.0), overlap)
    absent = is_called[~is_visible]
    return AbsenceTrade(
        quality=float(overlap.mean()),
        nre=float(is_called[is_visible].mean()),
        adq=float(absent.mean()) if len(absent) else float("nan"),
    )


def _minimise(inputs: FloatArray, good: FloatArray, counts: FloatArray) -> tuple[FloatArray, float]:
    """Return ``(K,)`` weights and the constant of the minimum under the signs of `SIGNS`.

    Args:
        inputs: ``(M, K)`` standardised evidence.
        good: ``(M,)`` 1 for a good mask, 0 for a bad one.
        counts: ``(M,)`` weights of the masks; they sum to 1.
    """
    try:
        from scipy.optimize import minimize
    except ImportError as error:
        raise missing_extra("fitting scores", "train", error) from error

    def loss(values: FloatArray) -> tuple[float, FloatArray]:
        logits = inputs @ values[:-1] + values[-1]
        entropy = counts @ (np.logaddexp(0.0, logits) - good * logits)
        residuals = counts * (np.exp(-np.logaddexp(0.0, -logits)) - good)
        slopes = np.append(inputs.T @ residuals + RIDGE * values[:-1], residuals.sum())
        return float(entropy + RIDGE / 2 * values[:-1] @ values[:-1]), slopes

    bounds = [(0.0, None) if SIGNS[name] > 0 else (None, 0.0) for name in NAMES]
    start = np.zeros(len(NAMES) + 1)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[*bounds, (None, None)])
    return found.x[:-1], float(found.x[-1])


def _ranking(scores: FloatArray, good: npt.NDArray[np.bool_]) -> float:
    if good.all() or not good.any():
        return float("nan")
    high, low = scores[good][:, None], scores[~good][None]
    return float(((high > low) + 0.5 * (high == low)).mean())
