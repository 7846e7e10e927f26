"""Several tabs on one project: what they do at once is all on disk, and nothing is torn."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from pathlib import Path

import cv2
import numpy as np
import pytest
from shipped import shipped_tracker
from two_discs import draw_video

from vots_hqtrack.encoder.frames import EncodedFrame
from vots_hqtrack.errors import InputError
from vots_hqtrack.session import InteractivePredictor
from vots_hqtrack.tracker import HQTracker
from vots_hqtrack.types import FrameArray, MaskArray, ObjectId
from vots_hqtrack.ui.workspace import Workspace

pytestmark = pytest.mark.weights
VIDEO = draw_video(6)
SMALL = ["frame.long_edge=512", "refiner.enabled=false"]


def test_tabs_that_edit_undo_and_export_during_a_run_leave_a_whole_project(tmp_path: Path) -> None:
    (tmp_path / "clip").mkdir()
    for index, (frame, _) in enumerate(VIDEO):
        cv2.imwrite(str(tmp_path / "clip" / f"{index:05d}.png"), frame[:, :, ::-1])
    predictor = InteractivePredictor(HQTracker.from_preset("lite", device="cpu", settings=SMALL))
    workspace = Workspace(predictor, tmp_path)
    state = workspace.open(tmp_path / "clip")
    with pytest.raises(InputError, match="give an object first"):
        workspace.track("forward", 0)
    predictor.add_new_mask(state, 0, 1, VIDEO[0][1][1])
    job = workspace.track("both", 0)
    with pytest.raises(InputError, match="a run is in work"):
        workspace.track("forward", 0)

    def edit(number: int) -> None:  # an error in a thread is a warning, and so fails the test
        for index in (5, 3, 1):
            predictor.paint(state, index, number, [(20 * number, 9)], 4)
            workspace.export("masks")
            workspace.image(index, 0.5)

    tabs = [threading.Thread(target=edit, args=(number,)) for number in (2, 3, 4)]
    for tab in tabs:
        tab.start()
    for tab in tabs:
        tab.join()
    undone = predictor.undo(state)
    job.wait()
    assert (job.error, job.done) == ("", 7)
    before = {index: state.label_map(index) for index in range(6)}
    records = dict(state.records)
    workspace.close()
    again = workspace.open(tmp_path / "clip")
    assert dict(again.records).keys() == records.keys() == set(range(6))
    for index, record in again.records.items():
        assert record.given == records[index].given
        label_map = again.label_map(index)
        assert np.array_equal(label_map, before[index])
        assert set(np.unique(label_map)) - {0} <= set(record.objects)
    given = [number for index in (5, 3, 1) for number in again.records[index].given]
    assert undone in (5, 3, 1)
    assert len(given) == 8  # nine edits but one
    workspace.close()


def test_a_frame_is_encoded_ahead_by_one_tab_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "clip").mkdir()
    cv2.imwrite(str(tmp_path / "clip" / "0.png"), VIDEO[0][0][:, :, ::-1])
    cv2.imwrite(str(tmp_path / "clip" / "1.png"), VIDEO[1][0][:, :, ::-1])
    predictor = InteractivePredictor(shipped_tracker("lite"))
    workspace = Workspace(predictor, tmp_path)
    assert workspace.encode_ahead(0), "nothing is open, and nothing to wait for"
    state = workspace.open(tmp_path / "clip")
    encode, begun, go_on = predictor.tracker.encode, threading.Event(), threading.Event()

    def wait_and_encode(frame: FrameArray) -> EncodedFrame:
        begun.set()
        go_on.wait()
        return encode(frame)

    monkeypatch.setattr(predictor.tracker, "encode", wait_and_encode)
    first = threading.Thread(target=workspace.encode_ahead, args=(0,))
    first.start()
    begun.wait()
    assert not workspace.encode_ahead(1)
    go_on.set()
    first.join()
    assert state.is_encoded(0)
    assert not state.is_encoded(1)
    assert workspace.encode_ahead(0)
    assert workspace.encode_ahead(2), "there is no such frame"
    workspace.close()


@pytest.mark.parametrize("is_found", [True, False])
def test_a_preview_is_shown_until_its_edit_ends_and_is_never_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_found: bool
) -> None:
    (tmp_path / "clip").mkdir()
    for index in (0, 1):
        cv2.imwrite(str(tmp_path / "clip" / f"{index}.png"), VIDEO[index][0][:, :, ::-1])
    predictor = InteractivePredictor(shipped_tracker("lite", ["frame.long_edge=768"]))
    workspace = Workspace(predictor, tmp_path)
    state = workspace.open(tmp_path / "clip")
    before = [workspace.image(index, 0.5) for index in (0, 1)]
    assert not workspace.encode_ahead(0), "what a preview needs comes first, then all the rest"
    assert (state.has_preview(0), state.is_encoded(0)) == (True, False)
    if not is_found:  # the preview finds a mask, the whole encoding none
        segment = predictor.tracker.segment
        monkeypatch.setattr(
            predictor.tracker,
            "segment",
            lambda encoded, prompt: (
                segment(encoded, prompt) & (encoded.geometry.input_size.width == 384)
            ),
        )

    def show(mask: MaskArray) -> None:
        workspace.show_preview(0, ObjectId(1), mask)
        workspace.wait_for_edit(revision)
        assert (workspace.has_preview(0), workspace.has_preview(1)) == (True, False)
        previews.append(workspace.image(0, 0.5))
        assert workspace.image(1, 0.5) == before[1]
        assert not state.records

    previews: list[bytes] = []
    assert workspace.answers_soon(0)
    revision = workspace.begin_edit()
    assert not workspace.answers_soon(1), "the edit in work may take long"
    with nullcontext() if is_found else pytest.raises(InputError, match="found no object"):
        workspace.edit(
            lambda: predictor.add_new_points_or_box(state, 0, 1, [[60, 40]], [1], preview=show)
        )
    after = workspace.image(0, 0.5)
    assert not workspace.has_preview(0)
    assert len({before[0], *previews, after}) == (3 if is_found else 2)
    assert (after == before[0]) != is_found
    assert bool(state.records) == is_found
    assert workspace.revision == revision + 1
    workspace.close()
