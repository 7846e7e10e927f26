"""Results as detections of supervision."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from vots_hqtrack.errors import ConfigError
from vots_hqtrack.result import FrameResult

pytestmark = pytest.mark.filterwarnings("ignore")  # of supervision's own libraries


@pytest.fixture
def result() -> FrameResult:
    masks = {number: np.zeros((8, 12), bool) for number in (9, 2, 5)}
    masks[9][1:4, 2:7] = True
    masks[2][6, 11] = True
    sources = {9: "refined", 2: "initial", 5: "absent"}
    return FrameResult(3, masks, {9: 0.75, 2: 0.25, 5: 0.0}, sources)


def test_detections_are_the_objects_that_are_seen(result):
    supervision = pytest.importorskip("supervision")
    found = result.to_supervision()
    assert isinstance(found, supervision.Detections)
    assert found.tracker_id.tolist() == [2, 9]
    assert found.confidence.tolist() == [0.25, 0.75]
    assert found.xyxy.tolist() == [[11, 6, 12, 7], [2, 1, 7, 4]]
    assert found.mask.dtype == bool
    assert np.array_equal(found.mask, [result.masks[2], result.masks[9]])
    assert found.area.tolist() == [1, 15]


def test_annotators_draw_detections_by_their_ids(result):
    supervision = pytest.importorskip("supervision")
    annotator = supervision.MaskAnnotator(color_lookup=supervision.ColorLookup.TRACK)
    drawn = annotator.annotate(np.zeros((8, 12, 3), np.uint8), result.to_supervision())
    assert np.array_equal(drawn.any(axis=2), result.masks[2] | result.masks[9])


def test_a_frame_that_shows_nothing_has_no_detections(result):
    pytest.importorskip("supervision")
    empty = FrameResult(0, {5: result.masks[5]}, {5: 0.0}, {5: "absent"})
    assert len(empty.to_supervision()) == 0
    assert len(FrameResult(0, {}, {}, {}).to_supervision()) == 0


def test_without_supervision_the_error_names_the_extra(result, monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(ConfigError, match=r"needs the extra supervision: pip install"):
        result.to_supervision()
