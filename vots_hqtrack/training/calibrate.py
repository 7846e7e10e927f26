"""Fits the scores: what a tracker knew of its masks, and whether they were good (decision 0019).

A run of the tracker over stress-test clips gives observations, which a file keeps; the fit, its
check by videos left out, and the reliability curve are made of that file.
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
from vots_hqtrack.errors import ConfigError, InputError
from vots_hqtrack.measures import jaccard
from vots_hqtrack.scoring import GOOD_IOU, calibrated_score
from vots_hqtrack.tracker import HQTracker
from vots_hqtrack.training.stress_clips import StressClip
from vots_hqtrack.types import ConfidenceFeatures, ObjectId

FloatArray = npt.NDArray[np.float64]

NAMES = ConfidenceFeatures._fields
SIGNS = {"mean_margin": 1, "weak_fraction": -1, "ambiguity": -1, "shrinkage": -1}
"""Which way each part of the evidence may speak: 1 for a good mask, -1 against."""
RIDGE = 0.01
BINS = 10
SURE = 0.9
"""Of masks with a higher score, users expect that nearly all are good."""


@dataclass(frozen=True, slots=True)
class Observation:
    """One mask that a tracker reported, and what came of it.

    Attributes:
        clip: Which clip; its first word is the video that is left out together in checks.
        kind: What made the clip hard.
        frame_index: Place in the clip.
        object_id: Which object.
        evidence: What the tracker knew.
        probability: VMOS's mean probability inside the mask.
        iou: IoU of the reported mask with the truth; 0 if the object is not there.
        coarse_iou: The same of VMOS's mask.
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
    coarse_iou: float
    is_visible: bool
    is_reported: bool

    @property
    def is_good(self) -> bool:
        """Whether the mask overlaps with the truth by half."""
        return self.is_visible and self.iou >= GOOD_IOU


def observe(tracker: HQTracker, clip: StressClip) -> Iterator[Observation]:
    """Track a clip and yield an observation for every frame but the first and every object.

    Args:
        tracker: One that scores by ``probability``.
        clip: The clip; object ``i`` of it gets the id ``i + 1``.
    """
    first = {number: track[0] for number, track in enumerate(clip.masks, start=1)}
    state = tracker.initialize(clip.frames[0], first)
    for index, frame in enumerate(clip.frames[1:], start=1):
        result = tracker.track(frame, state)
        for number, track in enumerate(clip.masks, start=1):
            one, truth = ObjectId(number), track[index]
            yield Observation(
                clip=clip.origin,
                kind=clip.kind,
                frame_index=index,
                object_id=number,
                evidence=result.confidence_features[one],
                probability=result.scores[one],
                iou=jaccard(result.masks[one], truth),
                coarse_iou=jaccard(result.initial_masks[one], truth),
                is_visible=bool(truth.any()),
                is_reported=bool(result.masks[one].any()),
            )


def write_observations(path: Path, observations: Iterable[Observation]) -> None:
    """Add observations to a file, a line of JSON each."""
    with path.open("a", encoding="utf-8") as file:
        for one in observations:
            file.write(json.dumps({**asdict(one), "evidence": one.evidence._asdict()}) + "\n")


def read_observations(path: Path) -> list[Observation]:
    """Read what :func:`write_observations` wrote.

    Raises:
        InputError: The file cannot be read, or a line is no observation.
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
    """Return what the same tracker would have observed without its refiner.

    VMOS's masks and the evidence are the same where the memory holds its own labels.
    """
    return [dataclasses.replace(one, iou=one.coarse_iou) for one in observations]


def split_by_count(observations: Sequence[Observation]) -> dict[str, list[Observation]]:
    """Tell clips of one object from clips of several.

    Returns:
        The observations under ``one object`` and ``several objects``; what there is none of is left
        out.
    """
    objects = Counter(clip for clip, _ in {(one.clip, one.object_id) for one in observations})
    found: dict[str, list[Observation]] = {}
    for one in sorted(observations, key=lambda one: objects[one.clip] > 1):
        name = "several objects" if objects[one.clip] > 1 else "one object"
        found.setdefault(name, []).append(one)
    return found


def fit(observations: Sequence[Observation]) -> ConfidenceConfig:
    """Fit the logistic model to all masks that have a pixel.

    Least cross-entropy, in which every clip counts alike, with a small ridge on the standardised
    weights; no weight may have the sign that its evidence cannot have, so that a larger margin
    never lowers a score.

    Args:
        observations: Of masks; those without a pixel do not count.

    Raises:
        ConfigError: SciPy is not installed.
        InputError: There are no good masks, or no bad ones.
    """
    rows = reported(observations)
    good = np.array([one.is_good for one in rows], np.float64)
    if not len(good) or good.min() == good.max():
        raise InputError(f"a fit needs good and bad masks, got {int(good.sum())} of {len(good)}")
    sizes = Counter(one.clip for one in rows)
    counts = np.array([1.0 / sizes[one.clip] for one in rows], np.float64)
    counts /= counts.sum()
    evidence = np.array([one.evidence for one in rows], np.float64)
    centre = counts @ evidence
    spread = np.sqrt(counts @ (evidence - centre) ** 2)
    scale = np.where(spread > 0, spread, 1.0)
    weights, constant = _minimise((evidence - centre) / scale, good, counts)
    weights /= scale
    constant -= float(weights @ centre)
    values = {name: round(float(value), 4) for name, value in zip(NAMES, weights, strict=True)}
    return ConfidenceConfig(kind="calibrated", constant=round(constant, 4), **values)


def cross_score(observations: Sequence[Observation]) -> list[float]:
    """Score every observation by a model that never saw a clip about its video.

    Args:
        observations: Of masks.

    Raises:
        ConfigError: SciPy is not installed.
        InputError: Without one video there are no good masks left, or no bad ones.
    """
    videos = [_video(one) for one in observations]
    scores = [0.0] * len(observations)
    for video in sorted(set(videos)):
        rest = [one for one, name in zip(observations, videos, strict=True) if name != video]
        model = fit(rest)
        for index, one in enumerate(observations):
            if videos[index] == video:
                scores[index] = calibrated_score(one.evidence, model)
    return scores


@dataclass(frozen=True, slots=True)
class Reliability:
    """How scores compare with what came true.

    Attributes:
        mean_score: ``(BINS,)`` float64, of the masks in each bin of scores; 0 in an empty one.
        share_good: ``(BINS,)`` float64, of the same masks.
        counts: ``(BINS,)`` int64, masks in each bin.
        calibration_error: Expected calibration error: mean of the bins' differences, each weighed
            by its masks.
        brier: Mean squared difference of score and truth, mask by mask.
        sure_good: Share of good masks among those with a score above `SURE`; NaN without such.
        ranking: Probability that a good mask has a higher score than a bad one (area under the
            ROC curve); NaN if all are alike.
    """

    mean_score: FloatArray
    share_good: FloatArray
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
        InputError: There is no mask, or the numbers differ.

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
    share_good = np.bincount(bins, truth, BINS) / some
    error = float((np.abs(mean_score - share_good) * counts).sum() / len(values))
    brier = float(((values - truth) ** 2).mean())
    sure = truth[values > SURE]
    sure_good = float(sure.mean()) if len(sure) else float("nan")
    ranking = _ranking(values, truth > 0)
    return Reliability(mean_score, share_good, counts, error, brier, sure_good, ranking)


@dataclass(frozen=True, slots=True)
class AbsenceTrade:
    """What a threshold of ``tracking.absence_score`` would have done, by VOTS's measures.

    Attributes:
        absence_score: The threshold.
        quality: Mean overlap over all frames; 1 where an absent object is called absent.
        nre: Share of the frames with the object on which it would be called absent.
        adq: Share of the frames without the object on which it would be; NaN without such frames.
    """

    absence_score: float
    quality: float
    nre: float
    adq: float


def trade_absence(
    observations: Sequence[Observation], scores: Sequence[float], absence_score: float
) -> AbsenceTrade:
    """Work out what a threshold would have done; reports do not act on later frames.

    Args:
        observations: Of all frames, those without a mask too.
        scores: Theirs, in the same order.
        absence_score: The threshold.

    Raises:
        InputError: There is no observation with a visible object, or the numbers differ.
    """
    is_visible = np.array([one.is_visible for one in observations], np.bool_)
    if len(scores) != len(observations) or not is_visible.any():
        raise InputError(
            f"wanted a score for each observation and some visible objects, got {len(scores)} "
            f"scores and {int(is_visible.sum())} visible of {len(observations)} objects"
        )
    is_there = np.array([one.is_reported for one in observations], np.bool_)
    is_called = ~is_there | (np.array(scores) < absence_score)
    overlap = np.array([one.iou for one in observations], np.float64)
    overlap = np.where(is_called, np.where(is_visible, 0.0, 1.0), overlap)
    absent = is_called[~is_visible]
    return AbsenceTrade(
        absence_score=absence_score,
        quality=float(overlap.mean()),
        nre=float(is_called[is_visible].mean()),
        adq=float(absent.mean()) if len(absent) else float("nan"),
    )


def reported(observations: Iterable[Observation]) -> list[Observation]:
    """Return the observations of masks that have a pixel."""
    return [one for one in observations if one.is_reported]


def _minimise(inputs: FloatArray, good: FloatArray, counts: FloatArray) -> tuple[FloatArray, float]:
    """Minimise the penalised cross-entropy under the bounds that `SIGNS` sets.

    Args:
        inputs: ``(M, K)`` standardised evidence.
        good: ``(M,)`` 1 for a good mask, 0 for a bad one.
        counts: ``(M,)`` how much each mask counts; they sum to 1.

    Returns:
        ``(K,)`` weights, and the constant.
    """
    try:
        from scipy.optimize import minimize
    except ImportError as error:
        wanted = "fitting scores needs SciPy: pip install 'vots-hqtrack[train]'"
        raise ConfigError(wanted) from error

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


def _video(observation: Observation) -> str:
    return observation.clip.split(":")[0]
