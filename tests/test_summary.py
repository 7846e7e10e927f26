"""Summary of each object of a run: lost, absent for a while, doubtful."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vots_hqtrack.errors import ConfigError
from vots_hqtrack.result import FrameResult
from vots_hqtrack.summary import KEPT_RANGES, FrameRanges, TrackSummary, summarise
from vots_hqtrack.types import ObjectId

ONE, TWO = ObjectId(1), ObjectId(2)


def make_result(index: int, **scores: float) -> FrameResult:
    """Make a frame's result; a score of 0 stands for an object without a mask."""
    objects = {ObjectId(int(name[1:])): score for name, score in scores.items()}
    return FrameResult(
        frame_index=index,
        masks={i: np.full((2, 2), score > 0) for i, score in objects.items()},
        scores=objects,
        sources={i: "initial" if score else "absent" for i, score in objects.items()},
    )


def summarise_one(*scores: float) -> TrackSummary:
    """Sum up one object that has these scores frame by frame."""
    return summarise(make_result(index, o1=score) for index, score in enumerate(scores))


def as_ranges(frames: list[int]) -> FrameRanges:
    ranges = FrameRanges()
    for frame in frames:
        ranges.add(frame)
    return ranges


class TestRanges:
    @pytest.mark.parametrize(
        ("frames", "text"),
        [
            ([], ""),
            ([7], "7"),
            ([12, 13, 14, 77], "12-14, 77"),
            ([0, 2, 4, 6, 8], "0, 2, 4, 6, 8"),
            ([0, 2, 4, 6, 8, 10, 12, 13, 20], "0, 2, 4, 6, 8 and 3 more"),
        ],
    )
    def test_values(self, frames: list[int], text: str) -> None:
        ranges = as_ranges(frames)
        assert str(ranges) == text
        assert ranges.num_frames == len(frames)

    def test_before_last(self) -> None:
        assert str(as_ranges([1, 2, 5, 6]).before_last()) == "1-2"
        many = as_ranges([0, 2, 4, 6, 8, 10, 12]).before_last()
        assert (str(many), many.num_frames) == ("0, 2, 4, 6, 8 and 1 more", 6)
        assert as_ranges([]).before_last() == FrameRanges()

    @given(st.sets(st.integers(0, 60)))
    def test_the_kept_ranges_are_the_first_ones(self, chosen: set[int]) -> None:
        frames = sorted(chosen)
        ranges = as_ranges(frames)
        starts = [i for i in frames if i - 1 not in chosen]
        ends = [i for i in frames if i + 1 not in chosen]
        assert ranges.kept == list(zip(starts, ends, strict=True))[:KEPT_RANGES]
        assert ranges.num_more == max(len(starts) - KEPT_RANGES, 0)
        rest = ranges.before_last()
        assert rest.kept == list(zip(starts, ends, strict=True))[:-1][:KEPT_RANGES]
        assert rest.num_frames == len([i for i in frames if i < starts[-1]] if starts else [])


class TestLines:
    def test_values(self) -> None:
        found = summarise(
            [
                make_result(0, o1=1.0, o2=1.0, o3=1.0, o4=1.0, o7=1.0, o8=1.0),
                make_result(1, o1=0.9, o2=0.0, o3=0.9, o4=0.4, o7=0.9, o8=0.9),
                make_result(2, o1=0.9, o2=0.8, o3=0.9, o4=0.2, o7=0.9, o8=0.0),
                make_result(3, o1=0.9, o2=0.0, o3=0.5, o4=0.9, o7=0.9, o8=0.3),
                make_result(4, o1=0.9, o2=0.0, o3=0.9, o4=0.45, o7=0.9, o8=0.9),
            ]
        )
        assert found.lines() == [
            "object 2: lost from frame 3 on; absent in 1",
            "object 4: doubtful in 1-2, 4 (score below 0.5, lowest 0.20 in frame 2)",
            "object 8: absent in 2; doubtful in 3 (score below 0.5, lowest 0.30 in frame 3)",
            "objects 1, 3, 7: a mask in every frame, no score below 0.5",
        ]

    def test_no_trouble_is_one_line(self) -> None:
        assert summarise_one(1.0, 0.9).lines() == [
            "object 1: a mask in every frame, no score below 0.5"
        ]
        results = [make_result(index, o1=1.0, o2=0.9, o3=0.7) for index in range(3)]
        assert summarise(results, doubtful_below=0.7).lines() == [
            "objects 1-3: a mask in every frame, no score below 0.7"
        ]
        assert summarise([]).lines() == []

    def test_an_object_that_was_never_there(self) -> None:
        summary = summarise_one(0.0, 0.0)
        assert summary.lines() == ["object 1: never seen"]
        assert summary.lost_line() == "not there at the end: object 1 (never seen in 2 frames)"

    def test_the_last_line_names_what_is_lost_with_its_fraction(self) -> None:
        lost = summarise_one(0.9, 0.0, 0.9, 0.0)
        assert lost.lost_line() == (
            "not there at the end: object 1 (no mask in 2 of 4 frames, 50%)"
        )
        assert summarise_one(0.9, 0.0, 0.9).lost_line() == ""

    def test_an_object_that_joins_later(self) -> None:
        found = summarise([make_result(0, o1=1.0), make_result(1, o1=1.0, o2=0.9)])
        assert found.objects[TWO].absent.num_frames == 0
        assert found.lines() == ["objects 1-2: a mask in every frame, no score below 0.5"]

    def test_lost_is_told_from_absent_when_the_object_comes_back(self) -> None:
        summary = TrackSummary()
        for index, score in enumerate([1.0, 0.0, 0.0]):
            summary.add(make_result(index, o1=score))
        assert summary.objects[ONE].lost_from == 1
        summary.add(make_result(3, o1=0.8))
        assert summary.objects[ONE].lost_from is None
        assert str(summary.objects[ONE].absent) == "1-2"


def test_values_of_json() -> None:
    found = summarise_one(1.0, 0.0, 0.44444444, 0.9, 0.0, 0.0).to_dict()
    assert found == {
        "doubtful_below": 0.5,
        "objects": {
            "1": {
                "lost_from": 4,
                "absent": {"frames": 1, "ranges": [[1, 1]], "more_ranges": 0},
                "doubtful": {"frames": 1, "ranges": [[2, 2]], "more_ranges": 0},
                "lowest_score": 0.4444,
                "lowest_score_frame": 2,
            }
        },
    }
    never = summarise_one(0.0).to_dict()["objects"]["1"]  # type: ignore[index]
    assert (never["lowest_score"], never["lowest_score_frame"]) == (None, None)


def test_ten_thousand_frames_take_the_memory_of_a_hundred() -> None:
    def size(num_frames: int) -> int:
        i = summarise_one(*([1.0, 0.0, 0.3] * (num_frames // 3))).objects[ONE]
        ranges = (i.absences, i.doubtful)
        assert i.absences.num_frames == num_frames // 3
        return sum(sys.getsizeof(each.kept) + len(each.kept) for each in ranges)

    assert size(9_999) == size(99)


def test_exception_threshold() -> None:
    with pytest.raises(ConfigError, match=r"from 0 to 1, got 1\.5"):
        summarise([], doubtful_below=1.5)
