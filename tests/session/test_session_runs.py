"""Runs of an interactive session with the shipped weights, on a small video of two discs.

Runs decide by records which mask stays, refined or not: `lite-vmos` tracks, in which the refiner
makes masks of clicks and boxes alone.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from shipped import SMALL, shipped_tracker
from two_discs import SIZE, draw_video

from vots_hqtrack.encoder.frames import EncodedFrame
from vots_hqtrack.errors import ConfigError, InputError, ShapeError
from vots_hqtrack.session import InteractivePredictor, SessionState
from vots_hqtrack.session.project import ObjectRecord
from vots_hqtrack.session.run import is_better
from vots_hqtrack.tracker import HQTracker
from vots_hqtrack.types import FrameArray, MaskArray, ObjectId

pytestmark = pytest.mark.weights
VIDEO = draw_video(7)
FRAMES = [frame for frame, _ in VIDEO]
TRUTH = [masks for _, masks in VIDEO]


def iou(left: MaskArray, right: MaskArray) -> float:
    return float((left & right).sum() / max((left | right).sum(), 1))


@pytest.fixture(scope="module")
def predictor() -> InteractivePredictor:
    # Of a click's candidates two may be as good as each other: bfloat16 may take another one.
    return InteractivePredictor(shipped_tracker("lite-vmos", (*SMALL, "runtime.dtype=float32")))


@pytest.fixture
def state(predictor: InteractivePredictor) -> Iterator[SessionState]:
    with predictor.init_state(FRAMES) as state:
        yield state


def give(predictor: InteractivePredictor, state: SessionState, frame: int, *ids: int) -> None:
    for number in ids:
        predictor.add_new_mask(state, frame, number, TRUTH[frame][number])


def origins(state: SessionState, number: int) -> list[int | None]:
    """Frame with the given mask that each frame's mask comes from."""
    found = [state.records[i].objects if i in state.records else {} for i in range(len(FRAMES))]
    return [record[number].from_frame if number in record else None for record in found]


def test_a_run_from_the_first_frame_equals_the_trackers(state: SessionState) -> None:
    predictor = InteractivePredictor(shipped_tracker("lite"))
    give(predictor, state, 0, 2, 1)
    run = predictor.propagate_in_video(state, max_frame_num_to_track=4)
    found = {index: masks for index, _, masks in run}
    assert list(found) == list(range(5))
    tracked = predictor.tracker.initialize(FRAMES[0], TRUTH[0])
    for index, frame in enumerate(FRAMES[1:5], start=1):
        result = predictor.tracker.track(frame, tracked)
        assert np.array_equal(state.label_map(index), result.label_map)
        for row, number in enumerate((1, 2)):
            assert np.array_equal(found[index][row], result.masks[number])
            record = state.records[index].objects[number]
            assert record.score == pytest.approx(result.scores[number])
            assert record.source == result.sources[number]


def test_a_run_that_encodes_ahead_passes_given_frames_as_another(
    predictor: InteractivePredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frame in the middle is given before the run, another one while its neighbour is tracked."""
    found = []
    for is_ahead in (False, True):
        monkeypatch.setattr(predictor.tracker, "_encodes_ahead", is_ahead)
        with predictor.init_state(FRAMES) as state:
            give(predictor, state, 0, 1)
            give(predictor, state, 2, 1)
            for index, _, _ in predictor.propagate_in_video(state, max_frame_num_to_track=5):
                if index == 3:
                    give(predictor, state, 4, 1)
            found.append([state.label_map(index) for index in range(6)])
            assert origins(state, 1)[:6] == [0, 0, 2, 2, 4, 4]
            assert not state.label_map(6).any()
    assert np.array_equal(*found)


def test_both_directions_from_a_frame_in_the_middle(
    predictor: InteractivePredictor, state: SessionState
) -> None:
    give(predictor, state, 3, 1, 2)
    forward = [masks[0] for masks in predictor.propagate_in_video(state)]
    backward = [masks[0] for masks in predictor.propagate_in_video(state, reverse=True)]
    assert (forward, backward) == ([3, 4, 5, 6], [3, 2, 1, 0])
    for index in range(7):
        for number, mask in zip((1, 2), state.masks(index).masks, strict=True):
            assert iou(mask, TRUTH[index][number]) > 0.7
    for number, mask in zip((1, 2), state.masks(3).masks, strict=True):
        assert np.array_equal(mask, TRUTH[3][number])


def test_where_runs_meet_each_given_mask_rules_its_side(
    predictor: InteractivePredictor, state: SessionState
) -> None:
    give(predictor, state, 0, 1)
    list(predictor.propagate_in_video(state))
    assert origins(state, 1) == [0] * 7
    give(predictor, state, 6, 1)
    list(predictor.propagate_in_video(state, reverse=True))
    found = origins(state, 1)
    assert (found[:3], found[4:]) == ([0, 0, 0], [6, 6, 6])  # on the third the score decides


def test_a_correction_is_tracked_from_both_of_its_sides(
    predictor: InteractivePredictor, state: SessionState
) -> None:
    give(predictor, state, 0, 1)
    list(predictor.propagate_in_video(state))
    give(predictor, state, 4, 1)
    assert state.correction_runs(4) == [(4, 6), (4, 0), (0, 4)]
    assert state.correction_runs(0) == [(0, 4), (4, 0)]
    with pytest.raises(InputError, match="nothing is given on frame 3"):
        predictor.propagate_correction(state, 3)
    before = state.label_map(1)
    shown = [index for index, _, _ in predictor.propagate_correction(state, 4)]
    assert shown == [4, 5, 6, 4, 3, 2, 1, 0, 0, 1, 2, 3, 4]
    found = origins(state, 1)
    assert (found[:2], found[3:]) == ([0, 0], [4, 4, 4, 4])
    assert not np.array_equal(state.label_map(1), before)  # from a run that read the correction
    for index in range(7):
        assert iou(state.label_map(index) == 1, TRUTH[index][1]) > 0.8


@pytest.mark.parametrize(
    ("new", "old", "is_replaced"),
    [
        ((0.9, 9, 3), (0.9, 0, 3), True),  # equally good: the newest
        ((0.9, 9, 4), (0.9, 0, 3), False),
        ((0.9, 9, 4), (0.6, 0, 3), True),
        ((0.9, 0, 5), (0.2, 0, 4), False),  # of one given mask the shorter way
        ((0.0, 9, 1), (0.9, 0, 8), True),  # a correction that says "not seen" counts nearby
        ((0.0, 9, 4), (0.9, 0, 5), False),
        ((0.0, 9, 4), (0.0, 0, 5), True),
    ],
)
def test_the_better_of_two_masks_stays(
    new: tuple[float, int, int], old: tuple[float, int, int], is_replaced: bool
) -> None:
    def record(score: float, origin: int, distance: int) -> ObjectRecord:
        return ObjectRecord(score, "initial", origin, distance)

    assert is_better(record(*new), record(*old)) == is_replaced


def test_a_run_that_turns_round_does_not_replace_what_it_comes_from(
    predictor: InteractivePredictor, state: SessionState
) -> None:
    give(predictor, state, 0, 1)
    list(predictor.propagate_in_video(state, max_frame_num_to_track=3))
    before = [state.label_map(index) for index in range(4)]
    list(predictor.propagate_in_video(state, 3, reverse=True))
    assert [state.records[i].objects[1].distance for i in range(4)] == [0, 1, 2, 3]
    for index, label_map in enumerate(before):
        assert np.array_equal(state.label_map(index), label_map)


def test_masks_from_a_given_mask_that_was_taken_back_give_way(
    predictor: InteractivePredictor, state: SessionState
) -> None:
    give(predictor, state, 0, 1)
    give(predictor, state, 6, 1)
    list(predictor.propagate_in_video(state, 6, reverse=True))
    predictor.clear_all_prompts_in_frame(state, 6, 1)
    assert not state.label_map(6).any()
    list(predictor.propagate_in_video(state))
    assert origins(state, 1) == [0] * 7


def test_a_correction_stays_as_given_and_runs_go_on_from_it(
    predictor: InteractivePredictor, state: SessionState
) -> None:
    give(predictor, state, 0, 1, 2)
    list(predictor.propagate_in_video(state, max_frame_num_to_track=2))
    predictor.add_new_mask(state, 2, 2, TRUTH[2][1])  # the wrong disc, to see it carried on
    predictor.add_new_mask(state, 2, 1, TRUTH[2][2])
    list(predictor.propagate_in_video(state, 2))
    assert np.array_equal(state.label_map(2) == 2, TRUTH[2][1])
    assert iou(state.label_map(3) == 2, TRUTH[3][1]) > 0.5
    list(predictor.propagate_in_video(state, 0))
    assert np.array_equal(state.label_map(2) == 2, TRUTH[2][1])


def test_an_object_added_late_leaves_the_others_as_they_are(
    predictor: InteractivePredictor, state: SessionState
) -> None:
    give(predictor, state, 0, 1)
    list(predictor.propagate_in_video(state))
    before = [state.label_map(index) == 1 for index in range(4)]
    give(predictor, state, 4, 2)
    list(predictor.propagate_in_video(state, 4))
    for index, mask in enumerate(before):
        assert np.array_equal(state.label_map(index) == 1, mask)
    for index in (4, 5, 6):
        for number, mask in zip((1, 2), state.masks(index).masks, strict=True):
            assert iou(mask, TRUTH[index][number]) > 0.7


def test_a_run_begins_where_nothing_is_known(
    predictor: InteractivePredictor, state: SessionState
) -> None:
    give(predictor, state, 3, 1)
    list(predictor.propagate_in_video(state, 1, 1))
    assert sorted(state.records) == [1, 2, 3]
    for index in (1, 2):
        assert iou(state.label_map(index) == 1, TRUTH[index][1]) > 0.7


def test_a_run_may_be_closed_at_any_frame(
    predictor: InteractivePredictor, state: SessionState
) -> None:
    give(predictor, state, 0, 1)
    run = predictor.propagate_in_video(state)
    for _ in range(3):
        next(run)
    run.close()
    assert sorted(state.records) == [0, 1, 2]
    run = predictor.propagate_in_video(state, 2)
    next(run)
    state.close()
    assert list(run) == []


def test_clicks_make_and_correct_a_mask(
    predictor: InteractivePredictor, state: SessionState
) -> None:
    found = predictor.add_new_points_or_box(state, 0, 1, points=[[60, 40]], labels=[1])
    assert found.obj_ids == [1]
    assert iou(found.masks[0], TRUTH[0][1]) > 0.9
    both = TRUTH[0][1] | TRUTH[0][2]
    predictor.add_new_mask(state, 0, 1, both)
    found = predictor.add_new_points_or_box(state, 0, 1, points=[[190, 60]], labels=[0])
    assert iou(found.masks[0], TRUTH[0][1]) > 0.9
    found = predictor.add_new_points_or_box(
        state, 0, 1, points=[[60, 45]], labels=[1], clear_old_points=False
    )
    prompt = state.records[0].objects[1].prompt
    assert prompt is not None
    assert [tuple(click) for click in prompt.clicks] == [(190, 60, False), (60, 45, True)]
    assert prompt.is_drawn


def test_several_clicks_at_once_correct_the_mask_near_each(
    predictor: InteractivePredictor, state: SessionState
) -> None:
    wrong = TRUTH[0][2].copy()
    wrong[:, :20] = True
    predictor.add_new_mask(state, 0, 1, wrong)
    predictor.add_new_points_or_box(
        state, 0, 1, points=[[60, 40], [190, 60], [10, 48]], labels=[1, 0, 0]
    )
    found = state.label_map(0) == 1
    assert found[40, 60]
    assert not found[60, 190]
    assert not found[48, 10]


def test_a_box_replaces_the_mask(predictor: InteractivePredictor, state: SessionState) -> None:
    predictor.add_new_mask(state, 0, 1, np.ones(SIZE, bool))
    found = predictor.add_new_points_or_box(state, 0, 1, box=[43, 23, 77, 57])
    assert iou(found.masks[0], TRUTH[0][1]) > 0.9


def test_a_frame_is_encoded_once_for_all_clicks(
    predictor: InteractivePredictor, state: SessionState, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    encode = predictor.tracker.encode
    monkeypatch.setattr(
        predictor.tracker, "encode", lambda frame: (calls.append(1), encode(frame))[1]
    )
    for y in (40, 44, 36):
        predictor.add_new_points_or_box(
            state, 0, 1, points=[[60, y]], labels=[1], clear_old_points=False
        )
    assert len(calls) == 1


def test_a_frame_that_is_encoded_ahead_by_threads_is_encoded_once(
    predictor: InteractivePredictor, state: SessionState, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode, encoded = predictor.tracker.encode, []

    def count(frame: FrameArray) -> EncodedFrame:
        encoded.append(frame)
        return encode(frame)

    monkeypatch.setattr(predictor.tracker, "encode", count)
    ahead = [threading.Thread(target=predictor.encode_ahead, args=(state, 3)) for _ in range(3)]
    for thread in ahead:
        thread.start()
    assert not state.is_encoded(2)
    found = predictor.add_new_points_or_box(state, 3, 1, points=[[75, 40]], labels=[1])
    for thread in ahead:
        thread.join()
    assert state.is_encoded(3)
    assert len(encoded) == 1
    with predictor.init_state(FRAMES) as fresh:
        alone = predictor.add_new_points_or_box(fresh, 3, 1, points=[[75, 40]], labels=[1])
    assert np.array_equal(found.masks, alone.masks)
    with pytest.raises(InputError, match="frames are 0 to 6"):
        predictor.encode_ahead(state, 7)


def test_trackers_that_share_a_session_encode_frames_for_themselves(
    predictor: InteractivePredictor, state: SessionState
) -> None:
    """One reads clicks, say, and another one tracks: each needs features of its own network."""
    other = InteractivePredictor(shipped_tracker("lite", ["frame.long_edge=256"]))
    predictor.encode_ahead(state, 3)
    found = other.add_new_points_or_box(state, 3, 1, points=[[75, 40]], labels=[1])
    with other.init_state(FRAMES) as fresh:
        alone = other.add_new_points_or_box(fresh, 3, 1, points=[[75, 40]], labels=[1])
        wanted = fresh.encode(other.tracker, 3).geometry
    assert state.encode(other.tracker, 3).geometry == wanted
    assert state.encode(predictor.tracker, 3).geometry != wanted
    assert np.array_equal(found.masks, alone.masks)


def test_few_encoded_frames_are_kept(predictor: InteractivePredictor, state: SessionState) -> None:
    for index in range(7):
        predictor.encode_ahead(state, index)
    assert [index for index in range(7) if state.is_encoded(index)] == [3, 4, 5, 6]


def test_a_closed_session_changes_nothing(predictor: InteractivePredictor, tmp_path: Path) -> None:
    """Another process may have its project open."""
    state = predictor.init_state(FRAMES, tmp_path / "p")
    give(predictor, state, 0, 1)
    state.close()
    before = {path: path.read_bytes() for path in (tmp_path / "p").rglob("*") if path.is_file()}
    changes: list[Callable[[], object]] = [
        lambda: predictor.undo(state),
        lambda: predictor.remove_object(state, 1),
        lambda: predictor.reset_state(state),
        lambda: predictor.clear_all_prompts_in_frame(state, 0, 1),
        lambda: predictor.paint(state, 0, 1, [(3, 3)], 2),
        lambda: predictor.encode_ahead(state, 0),
        lambda: state.describe(ObjectId(1), name="x"),
    ]
    for change in changes:
        with pytest.raises(InputError, match="session is closed"):
            change()
    after = {path: path.read_bytes() for path in (tmp_path / "p").rglob("*") if path.is_file()}
    assert after == before


def test_undo_takes_edits_back_one_by_one(
    predictor: InteractivePredictor, state: SessionState
) -> None:
    assert predictor.undo(state) is None
    give(predictor, state, 0, 1)
    predictor.add_new_mask(state, 0, 1, TRUTH[0][2])
    predictor.clear_all_prompts_in_frame(state, 0, 1)
    assert 0 not in state.records
    assert predictor.undo(state) == 0
    assert np.array_equal(state.label_map(0) == 1, TRUTH[0][2])
    assert predictor.undo(state) == 0
    assert np.array_equal(state.label_map(0) == 1, TRUTH[0][1])
    assert predictor.undo(state) == 0
    assert (state.object_ids, dict(state.records)) == ((), {})


def test_a_removed_object_leaves_nothing_behind(
    predictor: InteractivePredictor, state: SessionState
) -> None:
    give(predictor, state, 0, 1, 2)
    list(predictor.propagate_in_video(state, max_frame_num_to_track=2))
    assert predictor.remove_object(state, 2) == (1,)
    give(predictor, state, 5, 2)
    assert origins(state, 2) == [None] * 5 + [5, None]
    assert not (state.label_map(1) == 2).any()
    assert (state.label_map(1) == 1).any()
    predictor.reset_state(state)
    assert (state.object_ids, dict(state.records)) == ((), {})
    assert not list(state.project.folder.glob("masks/*.png"))


def test_an_object_can_be_removed_and_added_while_a_run_goes_on(
    predictor: InteractivePredictor, state: SessionState
) -> None:
    give(predictor, state, 0, 1, 2)
    run = predictor.propagate_in_video(state)
    next(run), next(run)
    predictor.remove_object(state, 1)
    give(predictor, state, 3, 1)
    list(run)
    assert origins(state, 1) == [None, None, None, 3, 3, 3, 3]


def test_a_given_mask_may_say_that_the_object_is_not_seen(
    predictor: InteractivePredictor, state: SessionState
) -> None:
    give(predictor, state, 0, 1)
    predictor.add_new_mask(state, 2, 1, np.zeros(SIZE, bool))
    list(predictor.propagate_in_video(state))
    assert state.scores(1)[2] == 0
    assert not state.label_map(2).any()
    assert state.given_frames() == [0]
    with pytest.raises(InputError, match="first mask of object 9 is empty"):
        predictor.add_new_mask(state, 2, 9, np.zeros(SIZE, bool))


def test_more_corrections_than_references_keep_the_memory_bounded(
    predictor: InteractivePredictor,
) -> None:
    few = InteractivePredictor(predictor.tracker, max_references=2)
    sizes = []
    write = HQTracker.write_given
    with few.init_state(FRAMES) as state, pytest.MonkeyPatch.context() as patch:

        def spy(self, encoded, label_map, tracked, **options):
            write(self, encoded, label_map, tracked, **options)
            sizes.append(tracked.nbytes / next(iter(tracked.groups))._references[0].nbytes)

        patch.setattr(HQTracker, "write_given", spy)
        for index in range(7):
            give(few, state, index, 1)
        list(few.propagate_in_video(state, 0))
    assert max(sizes) <= 2 + predictor.tracker.config.memory.capacity - 1


def test_threads_may_click_while_a_run_goes_on(
    predictor: InteractivePredictor, state: SessionState
) -> None:
    give(predictor, state, 0, 1)
    thread = threading.Thread(target=lambda: list(predictor.propagate_in_video(state)))
    thread.start()
    for _ in range(3):
        give(predictor, state, 6, 2)
    thread.join()
    assert sorted(state.records) == list(range(7))
    assert np.array_equal(state.label_map(6) == 2, TRUTH[6][2])


KILLED = """
import sys
sys.path.insert(0, {tests!r})
from shipped import SMALL, shipped_tracker
from test_session_runs import FRAMES, TRUTH
from vots_hqtrack.session import InteractivePredictor
settings = (*SMALL, "runtime.dtype=float32")
predictor = InteractivePredictor(shipped_tracker("lite-vmos", settings))
state = predictor.init_state(FRAMES, {project!r})
predictor.add_new_mask(state, 0, 1, TRUTH[0][1])
for found in predictor.propagate_in_video(state):
    print(found.frame_idx, flush=True)
"""


def test_a_killed_process_loses_the_frame_at_work_and_no_more(
    predictor: InteractivePredictor, tmp_path: Path
) -> None:
    tests = Path(__file__).resolve().parent
    code = KILLED.format(tests=str(tests), project=str(tmp_path / "project"))
    code = f"import sys; sys.path.insert(0, {str(tests.parent)!r})\n{code}"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == b"3":
                break
        with pytest.raises(InputError, match="open in another process"):
            predictor.init_state(FRAMES, tmp_path / "project")
        process.kill()
    left = [".hqtrack-0123456789abcdef.part", "frames/.hqtrack-0123456789abcdef.part"]
    for name in (*left, "masks/.mine.part"):
        (tmp_path / "project" / name).write_bytes(b"half a file")
    with predictor.init_state(FRAMES, tmp_path / "project") as state:
        assert set(state.records) >= {0, 1, 2, 3}
        assert [path.name for path in state.project.folder.rglob("*.part")] == [".mine.part"]
        last = max(state.records)
        list(predictor.propagate_in_video(state, last))
        assert origins(state, 1) == [0] * 7
        assert [state.records[i].objects[1].distance for i in range(7)] == list(range(7))
        assert iou(state.label_map(6) == 1, TRUTH[6][1]) > 0.7


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({}, "points or a box, got neither"),
        ({"points": [], "labels": []}, "got neither"),
        ({"points": [[1, 2]]}, "come together"),
        ({"points": [[1, 2]], "labels": [1, 0]}, "K labels"),
        ({"points": [[1, 2, 3]], "labels": [1]}, "K labels"),
        ({"points": [[1, 2]], "labels": [2]}, "labels are 1"),
        ({"points": [[1, float("nan")]], "labels": [1]}, "finite"),
        ({"points": [["a", "b"]], "labels": [1]}, "numbers"),
        ({"points": [[256, 2]], "labels": [1]}, "inside the 256x96 frame"),
        ({"points": [[-1, 2]], "labels": [1]}, "inside the 256x96 frame"),
        ({"box": [1, 2, 3]}, "x0, y0, x1, y1"),
        ({"box": [9, 2, 3, 8]}, "x0 < x1"),
        ({"box": [900, 2, 930, 8]}, "box"),
        ({"box": [1, 2, 30, 40], "clear_old_points": False}, "replaces the mask"),
        ({"frame_idx": 7, "box": [1, 2, 30, 40]}, "0 to 6, got 7"),
        ({"frame_idx": -1, "box": [1, 2, 30, 40]}, "0 to 6, got -1"),
        ({"obj_id": 0, "box": [1, 2, 30, 40]}, "1 to 1000 without 255"),
        ({"obj_id": 255, "box": [1, 2, 30, 40]}, "1 to 1000 without 255"),
        ({"obj_id": "1", "box": [1, 2, 30, 40]}, "1 to 1000 without 255"),
    ],
)
def test_exception_of_prompts(
    predictor: InteractivePredictor, state: SessionState, options: dict, error: str
) -> None:
    with pytest.raises(InputError, match=error):
        predictor.add_new_points_or_box(state, **{"frame_idx": 0, "obj_id": 1, **options})
    assert (state.object_ids, dict(state.records), state.can_undo) == ((), {}, False)


def test_an_id_above_255_is_kept_on_disk(predictor: InteractivePredictor, tmp_path: Path) -> None:
    with predictor.init_state(FRAMES, project=tmp_path / "project") as state:
        for number, object_id in ((1, 300), (2, 1000)):
            predictor.add_new_mask(state, 0, object_id, TRUTH[0][number])
        list(predictor.propagate_in_video(state, max_frame_num_to_track=2))
        maps = [state.label_map(index) for index in range(2)]
    assert [sorted(np.unique(found)) for found in maps] == [[0, 300, 1000]] * 2
    with predictor.init_state(FRAMES, project=tmp_path / "project") as again:
        assert all(np.array_equal(again.label_map(i), found) for i, found in enumerate(maps))


def test_exception_of_the_other_methods(
    predictor: InteractivePredictor, state: SessionState
) -> None:
    with pytest.raises(InputError, match="nothing to track"):
        predictor.propagate_in_video(state)
    with pytest.raises(ShapeError, match="bool array"):
        predictor.add_new_mask(state, 0, 1, np.ones(SIZE))
    with pytest.raises(ShapeError, match="frame size 256x96"):
        predictor.add_new_mask(state, 0, 1, np.ones((4, 4), bool))
    with pytest.raises(InputError, match="object 3 is not known"):
        predictor.remove_object(state, 3)
    give(predictor, state, 0, 1)
    with pytest.raises(InputError, match="0 to 6, got 70"):
        predictor.propagate_in_video(state, 70)
    with pytest.raises(InputError, match="0 or more"):
        predictor.propagate_in_video(state, max_frame_num_to_track=-1)
    with pytest.raises(InputError, match="no frame"):
        predictor.init_state([])
    with pytest.raises(ConfigError, match="at least 1"):
        InteractivePredictor(predictor.tracker, max_references=0)
    state.close()
    with pytest.raises(InputError, match="closed"):
        predictor.add_new_mask(state, 0, 1, TRUTH[0][1])


def test_a_long_video_is_read_where_it_is_tracked(predictor: InteractivePredictor) -> None:
    class LongVideo:
        """10,000 frames, the seven over and over; notes which are read."""

        def __init__(self) -> None:
            self.seen: set[int] = set()

        def __len__(self) -> int:
            return 10_000

        def __getitem__(self, index: int) -> np.ndarray:
            self.seen.add(index)
            return FRAMES[index % 7]

    video = LongVideo()
    with predictor.init_state(video) as state:
        predictor.add_new_mask(state, 5001, 1, TRUTH[5001 % 7][1])
        list(predictor.propagate_in_video(state, max_frame_num_to_track=2))
        list(predictor.propagate_in_video(state, max_frame_num_to_track=1, reverse=True))
        assert sorted(state.records) == [5000, 5001, 5002, 5003]
    assert video.seen == {0, 5000, 5001, 5002, 5003}
