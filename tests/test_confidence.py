"""Scores: what they are made of, and what is done with them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from two_discs import draw_video

from vots_hqtrack.confidence import (
    gather_evidence,
    object_margins,
    read_logits,
    score_evidence,
)
from vots_hqtrack.config import ConfidenceConfig, TrackerConfig, TrackingConfig
from vots_hqtrack.errors import ConfigError, ShapeError
from vots_hqtrack.frame import plan_aligned_frame, plan_frame
from vots_hqtrack.presets import PRESETS, lite_vmos, load_preset
from vots_hqtrack.settings import apply_settings
from vots_hqtrack.tracker import HQTracker
from vots_hqtrack.types import Evidence, ObjectId, Size

ONE, TWO = ObjectId(1), ObjectId(2)
FRAME = Size(96, 256)
GEOMETRY = plan_frame(FRAME)
NUMBERS = {
    "mean_margin": st.floats(0, 10),
    "low_margin": st.floats(0, 10),
    "peak_margin": st.floats(-10, 10),
    "spill": st.floats(0, 9),
    "change": st.floats(0, 3),
    "size": st.floats(-7, 0),
    "agreement": st.floats(0, 1),
    "predicted_iou": st.floats(0, 1),
}
CALIBRATED = [name for name, make in PRESETS.items() if make().confidence.kind == "calibrated"]
evidences = st.builds(Evidence, **NUMBERS)


def logits_of(*levels: float, square: int = 10) -> torch.Tensor:
    """Make logits of objects that hold squares side by side, by as much as the levels say."""
    logits = torch.zeros(1 + len(levels), *GEOMETRY.logits_size)
    logits[1:] = -4.0
    for index, level in enumerate(levels):
        logits[1 + index, 4 : 4 + square, 20 * index : 20 * index + square] = level
    return logits


def read(logits: torch.Tensor) -> dict[str, list[float]]:
    signs = read_logits(logits.softmax(0), GEOMETRY)
    return {name: getattr(signs, name).tolist() for name in signs.__slots__}


def test_values_of_a_clear_square() -> None:
    signs = read(logits_of(3.0))
    assert signs["mean_margin"] == pytest.approx([3.0], abs=1e-4)
    assert signs["low_margin"] == pytest.approx([3.0], abs=1e-4)
    assert signs["peak_margin"] == pytest.approx([3.0], abs=1e-4)
    assert signs["spill"] == [0.0]


def test_values_of_a_square_with_a_weak_part_and_a_spill() -> None:
    logits = logits_of(3.0)
    logits[1, 4:8, :10] = 1.0  # 40 of 100 cells inside
    logits[1, 14:19, :10] = -1.0  # 50 cells that are nearly inside
    signs = read(logits)
    assert signs["mean_margin"] == pytest.approx([0.4 * 1 + 0.6 * 3], abs=1e-4)
    assert signs["low_margin"] == pytest.approx([1.0], abs=1e-4)
    assert signs["spill"] == pytest.approx([np.log(1.5)], abs=1e-6)


def test_an_empty_mask_has_a_peak_only() -> None:
    logits = logits_of(-4.0)
    logits[1, 5, 5] = -0.5
    signs = read(logits)
    assert signs["mean_margin"] == signs["low_margin"] == [0.0]
    assert signs["peak_margin"] == pytest.approx([-0.5], abs=1e-4)


def test_the_padding_is_not_looked_at() -> None:
    geometry = plan_frame(Size(60, 256))
    rows = geometry.content_cells.height
    assert rows < geometry.logits_size.height
    logits = torch.zeros(2, *geometry.logits_size)
    logits[1] = -4.0
    logits[1, rows:] = 9.0
    assert read_logits(logits.softmax(0), geometry).peak_margin.item() < 0
    aligned = plan_aligned_frame(Size(65, 97), min_short_edge=0)
    assert aligned.content_cells == aligned.logits_size


@pytest.mark.parametrize("count", [0, 1, 10, 11])
def test_shapes(count: int) -> None:
    probabilities = torch.rand(1 + count, *GEOMETRY.logits_size).softmax(0)
    signs = read_logits(probabilities, GEOMETRY)
    assert all(getattr(signs, name).shape == (count,) for name in signs.__slots__)
    assert object_margins(probabilities).shape == (count, *GEOMETRY.logits_size)


def test_exception_shapes() -> None:
    with pytest.raises(ShapeError, match="wanted probabilities of the logits' size 48x128"):
        read_logits(torch.ones(2, 5, 5), GEOMETRY)
    masks = torch.ones(1, 4, 4, dtype=torch.bool)
    signs = read_logits(logits_of(1.0).softmax(0), GEOMETRY)
    with pytest.raises(ShapeError):
        gather_evidence(signs, masks, masks.float(), [3], [0.5])
    with pytest.raises(
        ShapeError, match=r"shape \(1, 4, 4\) of the masks to report, got \(1, 4, 5\)"
    ):
        gather_evidence(signs, torch.ones(1, 4, 5, dtype=torch.bool), masks, [3], [0.5])


@given(st.integers(1, 4), st.integers(0, 999))
def test_margins_are_positive_where_the_object_wins(count: int, seed: int) -> None:
    logits = torch.randn(1 + count, 5, 6, generator=torch.Generator().manual_seed(seed))
    winners = logits.argmax(0)
    for index, margin in enumerate(object_margins(logits.softmax(0)), start=1):
        assert torch.equal(margin > 0, winners == index)


def test_evidence_of_masks() -> None:
    coarse = torch.zeros(2, 10, 10, dtype=torch.bool)
    coarse[0, :4], coarse[1, 5:] = True, True
    masks = coarse.clone()
    masks[0, 2:4] = False
    signs = read_logits(logits_of(3.0, 2.0).softmax(0), GEOMETRY)
    first, second = gather_evidence(signs, coarse, masks, [20, 50], [0.8, 0.0])
    assert (first.agreement, second.agreement) == (0.5, 1.0)
    assert first.change == pytest.approx(np.log(41 / 21))
    assert second.change == 0.0
    assert first.size == pytest.approx(np.log10(41 / 100))
    assert (first.predicted_iou, second.predicted_iou) == (0.8, 0.0)
    same = gather_evidence(signs, coarse, coarse, [20, 50], [0.0, 0.0])
    assert [one.agreement for one in same] == [1.0, 1.0]
    assert gather_evidence(signs, coarse[:0], masks[:0], [], []) == []
    nothing = torch.zeros_like(coarse)
    empty = gather_evidence(signs, nothing, nothing.clone(), [0, 0], [0.0, 0.0])
    assert [one.agreement for one in empty] == [1.0, 1.0]
    gone = gather_evidence(signs, coarse, masks, [0, 10**9], [0.0, 0.0])
    assert all(one.change == 3.0 for one in gone)


class TestScore:
    def test_values(self) -> None:
        evidence = Evidence(2.0, 1.0, 4.0, 0.5, 0.1, -1.0, 0.9, 0.8)
        config = ConfidenceConfig(constant=-1.0, mean_margin=0.5, spill=-2.0)
        assert score_evidence(evidence, config) == pytest.approx(1 / (1 + np.exp(1.0)))

    @given(evidences, st.floats(-1e3, 1e3), st.floats(-1e3, 1e3))
    def test_a_score_is_a_probability_above_zero(
        self, evidence: Evidence, constant: float, weight: float
    ) -> None:
        values = dict.fromkeys(Evidence._fields, weight)
        assert 0 < score_evidence(evidence, ConfidenceConfig(constant=constant, **values)) <= 1

    @pytest.mark.parametrize("preset", CALIBRATED)
    @given(evidence=evidences, more=st.floats(0, 10))
    def test_a_larger_margin_never_lowers_a_shipped_score(
        self, preset: str, evidence: Evidence, more: float
    ) -> None:
        config = load_preset(preset).confidence
        score = score_evidence(evidence, config)
        for name in ("mean_margin", "low_margin", "peak_margin", "agreement", "predicted_iou"):
            better = evidence._replace(**{name: getattr(evidence, name) + more})
            assert score_evidence(better, config) >= score
        for name in ("spill", "change"):
            worse = evidence._replace(**{name: getattr(evidence, name) + more})
            assert score_evidence(worse, config) <= score

    @pytest.mark.parametrize("preset", CALIBRATED)
    def test_shipped_scores_tell_a_sure_mask_from_a_doubtful_one(self, preset: str) -> None:
        config = load_preset(preset).confidence
        sure = Evidence(6.5, 4.0, 10.0, 0.05, 0.05, -1.0, 0.95, 0.95)
        doubtful = Evidence(1.0, 0.1, 2.0, 1.2, 1.5, -3.0, 0.4, 0.5)
        if config.predicted_iou == 0 and config.agreement == 0:
            sure, doubtful = (
                one._replace(agreement=1.0, predicted_iou=0.0) for one in (sure, doubtful)
            )
        assert score_evidence(sure, config) > 0.9
        assert score_evidence(doubtful, config) < 0.5

    def test_exception_options(self) -> None:
        with pytest.raises(ConfigError, match=r"confidence\.spill must be finite, got nan"):
            apply_settings(lite_vmos(), ["confidence.spill=nan"])
        with pytest.raises(ConfigError, match=r"tracking\.absence_score must be"):
            TrackingConfig(absence_score=-0.1)

    def test_presets_of_the_paper_do_as_the_paper(self) -> None:
        for name in PRESETS:
            if not name.startswith("lite"):
                config = load_preset(name)
                assert config.tracking.absence_score == config.tracking.search_reach == 0
                assert config.memory.eviction == "oldest"
                assert config.confidence == ConfidenceConfig()


def tracker_with(parts: HQTracker, **changes: object) -> HQTracker:
    """Make a tracker of the same networks with other options."""
    config: TrackerConfig = dataclasses.replace(parts.config, **changes)
    return HQTracker(config, parts._encoder, parts._vmos, parts._refiner, parts.device)


@pytest.fixture(scope="module")
def parts() -> HQTracker:
    return HQTracker.from_preset("lite-vmos", device="cpu")


@pytest.mark.weights
class TestTracker:
    def test_absence_is_reported_but_not_remembered(self, parts: HQTracker) -> None:
        # By size alone: 0.5 at a hundredth of the frame; the second object is smaller.
        config = ConfidenceConfig(kind="calibrated", constant=40.0, size=20.0)
        frame, masks = draw_video(1)[0]
        masks = {1: masks[1], 2: masks[2] & (np.arange(256) < 186)}
        assert masks[1].mean() > 0.02
        assert masks[2].mean() < 0.012
        plain = tracker_with(parts, confidence=config)
        strict = tracker_with(parts, confidence=config, tracking=TrackingConfig(absence_score=0.9))
        states = [one.initialize(frame, masks) for one in (plain, strict)]
        seen, hidden = (
            one.track(frame, to) for one, to in zip((plain, strict), states, strict=True)
        )
        assert 0 < seen.scores[TWO] < 0.9 < seen.scores[ONE]
        assert seen.masks[TWO].any()
        assert not hidden.masks[TWO].any()
        assert (hidden.sources[TWO], hidden.scores[TWO]) == ("absent", 0.0)
        assert np.array_equal(hidden.masks[ONE], seen.masks[ONE])
        assert np.array_equal(hidden.coarse_masks[TWO], seen.coarse_masks[TWO])
        assert np.array_equal(states[0].label_map, states[1].label_map)
        assert hidden.evidence == seen.evidence

    def test_an_unseen_object_has_no_score(self, parts: HQTracker) -> None:
        tracker = tracker_with(parts, tracking=TrackingConfig(slots="by_id"))
        video = draw_video(2)
        state = tracker.initialize(video[0][0], {2: video[0][1][1]})
        result = tracker.track(video[1][0], state)
        assert result.masks[ONE].any() == (result.scores[ONE] > 0)
        assert result.scores[TWO] > 0.5
