"""Masks for McByte, in its own tracker and mask manager."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from two_discs import draw_video

from vots_hqtrack.errors import ConfigError, InputError, ShapeError
from vots_hqtrack.integrations import mcbyte
from vots_hqtrack.tracker import HQTracker

trackers = pytest.importorskip("trackers")
supervision = pytest.importorskip("supervision")
masks_of_mcbyte = pytest.importorskip("trackers.core.mcbyte.masks")

pytestmark = pytest.mark.weights


def output(masks: dict[int, np.ndarray]):
    rows = {track: row for row, track in enumerate(masks)}
    return masks_of_mcbyte.MaskOutput(np.stack(list(masks.values())), rows)


def box_of(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero(mask)
    return (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


def iou(left: np.ndarray, right: np.ndarray) -> float:
    return float((left & right).sum() / (left | right).sum())


def square(row: int, column: int, side: int = 12) -> np.ndarray:
    mask = np.zeros((96, 256), np.bool_)
    mask[row : row + side, column : column + side] = True
    return mask


def test_mcbyte_links_boxes_by_masks_of_the_tracker():
    tracker = HQTracker.from_preset("lite", device="cpu", settings=["frame.long_edge=256"])
    manager = mcbyte.mask_manager(tracker)
    found: list = []
    keep, manager.get_updated_masks = (
        manager.get_updated_masks,
        lambda **given: found.append(keep(**given)) or found[-1],
    )
    tracked = trackers.McByteTracker(mask_manager=manager, minimum_mask_creation_frames=1)
    video = draw_video(4)
    for frame, masks in video:
        boxes = np.array([box_of(mask) for mask in masks.values()], np.float32)
        detections = supervision.Detections(boxes, confidence=np.full(2, 0.9, np.float32))
        ids = tracked.update(detections, frame).tracker_id.tolist()
        assert len(set(ids)) == 2
    assert min(ids) >= 0
    assert found[0] is None
    for given, (_, masks) in zip(found[1:], video[1:], strict=True):
        assert set(given.tracklet_mask_dict) == set(ids)
        assert min(given.mask_avg_prob_dict.values()) > 0.6
        for mask in masks.values():
            assert max(iou(mask, own) for own in given.masks) > 0.8
    outside = masks_of_mcbyte.TrackletSnapshot(5, np.array([-20.0, -20.0, -5.0, -5.0]))
    assert manager.mask_generator.generate(video[0][0], [outside]).masks.shape == (0, 96, 256)
    tracked.reset()
    assert manager.mask_propagator.propagate(video[0][0]) is None


def test_tracks_come_and_go(quick_tracker):
    video = draw_video(4)
    propagator = mcbyte.McByteMaskPropagator(quick_tracker)
    assert propagator.propagate(video[0][0]) is None
    propagator.initialize(video[0][0], output({0: video[0][1][1]}))
    first = propagator.propagate(video[1][0])
    assert first.tracklet_mask_dict == {0: 0}
    assert iou(first.masks[0], video[1][1][1]) > 0.6
    # Frame 2 was passed over by McByte, which adds a track on it all the same.
    propagator.add_masks(video[2][0], output({7: video[2][1][2]}))
    second = propagator.propagate(video[3][0])
    assert second.tracklet_mask_dict == {0: 0, 7: 1}
    assert iou(second.masks[1], video[3][1][2]) > 0.6
    propagator.remove_masks([0, 99])
    assert propagator.propagate(video[3][0]).tracklet_mask_dict == {7: 0}
    propagator.remove_masks([7])
    assert propagator.propagate(video[3][0]) is None


@pytest.mark.parametrize("change", [np.add, np.subtract], ids=["wider", "narrower"])
def test_the_object_of_an_ended_track_belongs_to_the_new_one(quick_tracker, change):
    video = draw_video(6)
    propagator = mcbyte.McByteMaskPropagator(quick_tracker)
    propagator.initialize(video[0][0], output({0: video[0][1][1], 1: video[0][1][2]}))
    propagator.propagate(video[1][0])
    propagator.remove_masks([1])
    propagator.propagate(video[2][0])
    left, top, right, bottom = map(int, box_of(video[2][1][2]))
    given = np.zeros_like(video[2][1][2])
    given[change(top, -3) : change(bottom, 3), change(left, -3) : change(right, 3)] = True
    propagator.add_masks(video[2][0], output({9: given}))
    for frame, masks in video[3:]:
        found = propagator.propagate(frame)
        assert found.tracklet_mask_dict == {0: 0, 9: 1}
        assert iou(found.masks[0], masks[1]) > 0.6
        assert iou(found.masks[1], masks[2]) > 0.4


def test_masks_without_a_pixel_of_their_own_are_left_out(quick_tracker):
    frame = draw_video(1)[0][0]
    propagator = mcbyte.McByteMaskPropagator(quick_tracker)
    large, small = square(8, 8, 30), square(12, 12, 9)
    propagator.initialize(frame, output({1: large, 2: small, 3: small.copy(), 4: square(0, 0, 0)}))
    assert set(propagator.propagate(frame).tracklet_mask_dict) == {1, 2}
    propagator.initialize(frame, output({4: square(0, 0, 0)}))
    assert propagator.propagate(frame) is None


def test_slots_of_ended_tracks_do_not_add_up(quick_tracker):
    frame = draw_video(1)[0][0]
    propagator = mcbyte.McByteMaskPropagator(quick_tracker)
    propagator.initialize(frame, output({0: square(40, 200)}))
    for track in range(1, 40):
        propagator.add_masks(frame, output({track: square(10, 5 * track)}))
        propagator.remove_masks([track])
        assert len(propagator._state.slots.object_ids) <= 14
    assert list(propagator.propagate(frame).tracklet_mask_dict) == [0]


def test_exception_too_many_tracks_other_sizes_and_no_refiner(quick_tracker, monkeypatch):
    frame = draw_video(1)[0][0]
    propagator = mcbyte.McByteMaskPropagator(quick_tracker)
    many = {track: square(track // 64, track % 64, 1) for track in range(2000)}
    with pytest.raises(InputError, match="object ids must be whole numbers"):
        propagator.initialize(frame, output(many))
    with pytest.raises(ShapeError, match="of the frame size 256x96"):
        propagator.initialize(frame, output({1: np.ones((96, 255), np.bool_)}))
    with pytest.raises(ConfigError, match="preset with a refiner, got 'lite-vmos'"):
        mcbyte.mask_manager(quick_tracker)
    monkeypatch.setitem(sys.modules, "trackers.core.mcbyte.masks", None)
    with pytest.raises(ConfigError, match="needs the extra trackers: pip install"):
        mcbyte.McByteMaskPropagator(quick_tracker)
