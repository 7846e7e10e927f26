"""Previews of clicks on frames that are not encoded: sooner, alike, and nothing of them is kept."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
from shipped import shipped_tracker
from two_discs import draw_video

from vots_hqtrack.encoder.frames import EncodedFrame
from vots_hqtrack.errors import InputError
from vots_hqtrack.session import InteractivePredictor, SessionState
from vots_hqtrack.types import FrameArray, MaskArray

pytestmark = pytest.mark.weights
VIDEO = draw_video(3)
FRAMES = [frame for frame, _ in VIDEO]
LARGE = ["frame.long_edge=768"]
ON_DISC = {"points": [[60, 40]], "labels": [1]}
ROUND_DISC = {"box": [43, 23, 77, 57]}


def iou(left: MaskArray, right: MaskArray) -> float:
    return float((left & right).sum() / max((left | right).sum(), 1))


@pytest.fixture(scope="module")
def predictor() -> InteractivePredictor:
    return InteractivePredictor(shipped_tracker("lite", LARGE))


@pytest.fixture
def state(predictor: InteractivePredictor) -> Iterator[SessionState]:
    with predictor.init_state(FRAMES) as state:
        yield state


def test_a_preview_comes_first_and_changes_nothing(
    predictor: InteractivePredictor, state: SessionState
) -> None:
    assert predictor.gives_previews(state)
    shown: list[MaskArray] = []

    def show(mask: MaskArray) -> None:
        assert not state.is_encoded(0)
        assert not state.records
        shown.append(mask)

    found = predictor.add_new_points_or_box(state, 0, 1, **ROUND_DISC, preview=show)
    with predictor.init_state(FRAMES) as plain:
        wanted = predictor.add_new_points_or_box(plain, 0, 1, **ROUND_DISC)
    assert np.array_equal(found.masks, wanted.masks)
    assert len(shown) == 1
    assert iou(shown[0], VIDEO[0][1][1]) > 0.8
    assert iou(shown[0], found.masks[0]) > 0.8
    predictor.add_new_points_or_box(
        state, 0, 1, points=[[50, 40]], labels=[1], clear_old_points=False, preview=shown.append
    )
    assert len(shown) == 1, "the frame is encoded: its own mask comes as soon"


def test_a_preview_does_not_wait_for_an_encoder_at_work(
    predictor: InteractivePredictor, state: SessionState, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode, encode_preview = predictor.tracker.encode, predictor.tracker.encode_preview
    begun, go_on, previews = threading.Event(), threading.Event(), []

    def wait_and_encode(frame: FrameArray) -> EncodedFrame:
        begun.set()
        assert go_on.wait(60)
        return encode(frame)

    def count(frame: FrameArray) -> EncodedFrame | None:
        previews.append(1)
        return encode_preview(frame)

    monkeypatch.setattr(predictor.tracker, "encode", wait_and_encode)
    monkeypatch.setattr(predictor.tracker, "encode_preview", count)
    predictor.encode_ahead(state, 0, is_preview=True)
    assert not state.is_encoded(0)
    ahead = threading.Thread(target=predictor.encode_ahead, args=(state, 0))
    ahead.start()
    assert begun.wait(60)
    predictor.add_new_points_or_box(state, 0, 1, **ON_DISC, preview=lambda _: go_on.set())
    ahead.join()
    assert previews == [1]


def test_there_is_no_preview_where_it_saves_no_time() -> None:
    for settings in (["frame.long_edge=512"], [*LARGE, "refiner.enabled=false"]):
        predictor = InteractivePredictor(shipped_tracker("lite", settings))
        with predictor.init_state(FRAMES) as state:
            is_small = len(settings) == 1
            assert predictor.gives_previews(state) != is_small
            assert (predictor.tracker.encode_preview(FRAMES[0]) is None) == is_small


def test_a_click_outside_the_frame_is_refused_before_a_preview(
    predictor: InteractivePredictor, state: SessionState
) -> None:
    with pytest.raises(InputError, match="inside the 256x96 frame"):
        predictor.add_new_points_or_box(
            state, 0, 1, points=[[300, 40]], labels=[1], preview=lambda _: pytest.fail("shown")
        )
    assert not state.records
