"""Scores: their features, their model, and their use."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from two_discs import draw_video

from vots_hqtrack.config import ConfidenceConfig, TrackerConfig, TrackingConfig
from vots_hqtrack.errors import ConfigError, ShapeError
from vots_hqtrack.frame import plan_aligned_frame, plan_frame
from vots_hqtrack.presets import PRESETS, lite_vmos, load_preset
from vots_hqtrack.scoring import calibrated_score, confidence_features, object_margins
from vots_hqtrack.settings import apply_settings
from vots_hqtrack.tracker import HQTracker
from vots_hqtrack.types import ConfidenceFeatures, ObjectId, Size

ONE, TWO = ObjectId(1), ObjectId(2)
FRAME = Size(96, 256)
GEOMETRY = plan_frame(FRAME)
NUMBERS = {
    "mean_margin": st.floats(0, 10),
    "weak_fraction": st.floats(0, 1),
    "ambiguity": st.floats(0, 9),
    "shrinkage": st.floats(0, 3),
}
CALIBRATED = [name for name, make in PRESETS.items() if make().confidence.kind == "calibrated"]
feature_tuples = st.builds(ConfidenceFeatures, **NUMBERS)


def logits_of(*levels: float, square: int = 10) -> torch.Tensor:
    """Make logits of objects that hold squares side by side, by as much as the levels say."""
    logits = torch.zeros(1 + len(levels), *GEOMETRY.logits_size)
    logits[1:] = -4.0
    for index, level in enumerate(levels):
        logits[1 + index, 4 : 4 + square, 20 * index : 20 * index + square] = level
    return logits


def features_of(logits: torch.Tensor, areas: list[int], given: list[int]) -> torch.Tensor:
    probabilities = logits.softmax(0)
    return confidence_features(probabilities, torch.tensor(areas), torch.tensor(given), GEOMETRY)


def read(logits: torch.Tensor) -> dict[str, list[float]]:
    ones = [1] * (len(logits) - 1)
    columns = features_of(logits, ones, ones).T.tolist()
    return dict(zip(ConfidenceFeatures._fields, columns, strict=True))


def test_values_of_a_clear_square() -> None:
    found = read(logits_of(3.0))
    assert found["mean_margin"] == pytest.approx([3.0], abs=1e-4)
    assert found["weak_fraction"] == [0.0]


def test_values_of_a_square_with_a_weak_part() -> None:
    logits = logits_of(3.0)
    logits[1, 4:8, :10] = 0.9  # 40 of 100 locations inside
    logits[1, 14:19, :10] = -1.0  # 50 outside that are nearly the object's
    logits[1, 19:30, :10] = -2.5
    found = read(logits)
    assert found["ambiguity"] == pytest.approx([np.log(1.5)])
    assert found["mean_margin"] == pytest.approx([0.4 * 0.9 + 0.6 * 3], abs=1e-4)
    assert found["weak_fraction"] == pytest.approx([0.4])


def test_values_of_a_part_that_another_object_nearly_has() -> None:
    logits = logits_of(3.0, 3.0)
    logits[2, 4:14, :3] = (
        2.5  # 30 of 100 locations where the rival is an object, not the background
    )
    found = read(logits)
    assert found["weak_fraction"] == pytest.approx([0.3, 0.0])
    assert found["ambiguity"] == pytest.approx([0.0, np.log(1.3)])
    assert found["mean_margin"] == pytest.approx([0.3 * 0.5 + 0.7 * 3, 3.0], abs=1e-4)


def test_an_empty_mask_has_no_margin() -> None:
    found = read(logits_of(-4.0))
    assert found["mean_margin"] == found["weak_fraction"] == found["ambiguity"] == [0.0]


def test_the_padding_is_not_looked_at() -> None:
    geometry = plan_frame(Size(60, 256))
    rows = geometry.content_size.height
    assert rows < geometry.logits_size.height
    logits = torch.zeros(2, *geometry.logits_size)
    logits[1] = -4.0
    logits[1, rows:] = 9.0
    area = torch.ones(1)
    assert confidence_features(logits.softmax(0), area, area, geometry)[0, 0] == 0
    aligned = plan_aligned_frame(Size(65, 97), min_short_edge=0)
    assert aligned.content_size == aligned.logits_size


@pytest.mark.parametrize("count", [0, 1, 10, 11])
def test_shapes(count: int) -> None:
    probabilities = torch.rand(1 + count, *GEOMETRY.logits_size).softmax(0)
    areas = torch.ones(count)
    assert confidence_features(probabilities, areas, areas, GEOMETRY).shape == (count, 4)
    assert object_margins(probabilities).shape == (count, *GEOMETRY.logits_size)


def test_exception_shapes() -> None:
    area = torch.ones(1)
    with pytest.raises(ShapeError, match="wanted probabilities of the logits' size 128x48"):
        confidence_features(torch.ones(2, 5, 5), area, area, GEOMETRY)
    with pytest.raises(ShapeError, match="wanted the given areas of 1 masks, got 2"):
        features_of(logits_of(1.0), [4], [3, 4])


@given(st.integers(1, 4), st.integers(0, 999))
def test_margins_are_positive_where_the_object_wins(count: int, seed: int) -> None:
    logits = torch.randn(1 + count, 5, 6, generator=torch.Generator().manual_seed(seed))
    winners = logits.argmax(0)
    for index, margin in enumerate(object_margins(logits.softmax(0)), start=1):
        assert torch.equal(margin > 0, winners == index)


def test_features_of_masks() -> None:
    logits = logits_of(3.0, 0.5)
    first, second = features_of(logits, [40, 50], [81, 20]).tolist()
    assert first == pytest.approx((3.0, 0.0, 0.0, np.log(82 / 41)), abs=1e-4)
    assert second == pytest.approx((0.5, 1.0, 0.0, 0.0), abs=1e-4)
    assert features_of(logits, [40, 50], [10**6, 0])[:, 3].tolist() == [3.0, 0.0]


class TestScore:
    def test_values(self) -> None:
        features = ConfidenceFeatures(
            mean_margin=2.0, weak_fraction=0.5, ambiguity=0.1, shrinkage=0.0
        )
        config = ConfidenceConfig(constant=-1.0, mean_margin=0.5, weak_fraction=-2.0)
        assert calibrated_score(features, config) == pytest.approx(1 / (1 + np.exp(1.0)))

    @given(feature_tuples, st.floats(-1e3, 1e3), st.floats(-1e3, 1e3))
    def test_a_score_is_a_probability_above_zero(
        self, features: ConfidenceFeatures, constant: float, weight: float
    ) -> None:
        values = dict.fromkeys(ConfidenceFeatures._fields, weight)
        assert 0 < calibrated_score(features, ConfidenceConfig(constant=constant, **values)) <= 1

    @pytest.mark.parametrize("preset", CALIBRATED)
    @given(features=feature_tuples, more=st.floats(0, 10))
    def test_a_larger_margin_never_lowers_a_shipped_score(
        self, preset: str, features: ConfidenceFeatures, more: float
    ) -> None:
        config = load_preset(preset).confidence
        score = calibrated_score(features, config)
        assert calibrated_score(features._replace(mean_margin=10.0 + more), config) >= score
        for name in ("weak_fraction", "ambiguity", "shrinkage"):
            worse = features._replace(**{name: getattr(features, name) + more})
            assert calibrated_score(worse, config) <= score

    @pytest.mark.parametrize("preset", CALIBRATED)
    def test_shipped_scores_tell_a_sure_mask_from_a_doubtful_one(self, preset: str) -> None:
        config = load_preset(preset).confidence
        assert calibrated_score(ConfidenceFeatures(6.5, 0.02, 0.05, 0.0), config) > 0.9
        assert calibrated_score(ConfidenceFeatures(1.0, 0.6, 1.2, 1.5), config) < 0.5

    def test_exception_options(self) -> None:
        with pytest.raises(ConfigError, match=r"confidence\.ambiguity must be a finite"):
            apply_settings(lite_vmos(), ["confidence.ambiguity=nan"])
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
    def test_absence_is_reported_but_does_not_reach_the_memory(self, parts: HQTracker) -> None:
        # By the shrinkage alone: half of the second object is hidden.
        config = ConfidenceConfig(kind="calibrated", constant=4.0, shrinkage=-10.0)
        (frame, masks), (later, _) = draw_video(2)
        later[60:, 160:] = draw_video(2, hidden=(1,))[1][0][60:, 160:]
        plain = tracker_with(parts, confidence=config, tracking=TrackingConfig())
        strict = tracker_with(parts, confidence=config, tracking=TrackingConfig(absence_score=0.9))
        states = [tracker.initialize(frame, masks) for tracker in (plain, strict)]
        seen, hidden = (
            tracker.track(later, to) for tracker, to in zip((plain, strict), states, strict=True)
        )
        assert 0 < seen.scores[TWO] < 0.9 < seen.scores[ONE]
        assert seen.masks[TWO].any()
        assert not hidden.masks[TWO].any()
        assert (hidden.sources[TWO], hidden.scores[TWO]) == ("absent", 0.0)
        assert np.array_equal(hidden.masks[ONE], seen.masks[ONE])
        assert np.array_equal(hidden.initial_masks[TWO], seen.initial_masks[TWO])
        assert np.array_equal(states[0].label_map, states[1].label_map)
        assert hidden.confidence_features == seen.confidence_features

    def test_an_unseen_object_has_no_score(self, parts: HQTracker) -> None:
        tracker = tracker_with(parts, tracking=TrackingConfig(slots="by_id"))
        video = draw_video(2)
        state = tracker.initialize(video[0][0], {2: video[0][1][1]})
        result = tracker.track(video[1][0], state)
        assert result.masks[ONE].any() == (result.scores[ONE] > 0)
        assert result.scores[TWO] > 0.5
