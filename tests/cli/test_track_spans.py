"""Frames that are tracked by ``--start``, ``--stop``, ``--limit``, ``--reverse`` and ``--both``."""

import pytest

from vots_hqtrack.cli.spans import Span, plan_passes
from vots_hqtrack.errors import InputError

FORWARD, REVERSE, BOTH = "forward", "reverse", "both"


@pytest.mark.parametrize(
    ("span", "given", "passes"),
    [
        (Span(), [], [(0, 9)]),
        (Span(), [0], [(0, 9)]),
        (Span(), [4, 7], [(4, 9)]),
        (Span(2), [4, 7], [(2, 9)]),
        (Span(3, 3), [], [(3, 3)]),
        (Span(3, 6), [], [(3, 6)]),
        (Span(3, 6, 2), [], [(3, 4)]),
        (Span(3, 6, 99), [], [(3, 6)]),
        (Span(direction=REVERSE), [], [(9, 0)]),
        (Span(direction=REVERSE), [4, 7], [(7, 0)]),
        (Span(5, direction=REVERSE), [], [(5, 0)]),
        (Span(5, 2, direction=REVERSE), [], [(5, 2)]),
        (Span(5, 2, 3, REVERSE), [], [(5, 3)]),
        (Span(0, direction=REVERSE), [], [(0, 0)]),
        (Span(5, direction=BOTH), [], [(5, 9), (5, 0)]),
        (Span(5, 7, direction=BOTH), [], [(5, 7), (5, 0)]),
        (Span(5, 2, direction=BOTH), [], [(5, 9), (5, 2)]),
        (Span(5, None, 3, BOTH), [], [(5, 7), (5, 3)]),
        (Span(direction=BOTH), [4, 7], [(4, 9), (7, 0)]),
        (Span(None, 8, direction=BOTH), [4, 7], [(4, 8), (7, 0)]),
        (Span(direction=BOTH), [], [(0, 9)]),
        (Span(9, direction=BOTH), [], [(9, 0)]),
    ],
)
def test_values(span, given, passes):
    assert [tuple(part) for part in plan_passes(span, given, 10)] == passes


@pytest.mark.parametrize(
    ("span", "given", "message"),
    [
        (Span(10), [], "frames 0 to 9, got --start frame 10"),
        (Span(0, 10), [], "frames 0 to 9, got --stop frame 10"),
        (Span(), [2, 10], "frames 0 to 9, got a prompt for frame 10"),
        (Span(5, 2), [], "--stop 2 comes before the frame 5 .* --reverse tracks backward"),
        (Span(2, 5, direction=REVERSE), [], "--stop 5 comes after the frame 2"),
        (Span(None, 5, direction=BOTH), [4, 7], "between frames with prompts, 4 and 7"),
    ],
)
def test_exception_frames_that_are_not_there(span, given, message):
    with pytest.raises(InputError, match=message):
        plan_passes(span, given, 10)
