"""Progress of long runs where no terminal shows a bar, and lists on terminals of any width."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from vots_hqtrack.cli import console
from vots_hqtrack.cli import progress as module


def written_in_70_seconds(monkeypatch, *, is_terminal):
    """What the progress of 70 frames, one a second, writes."""
    written = io.StringIO()
    monkeypatch.setattr(module, "err", Console(file=written, force_terminal=is_terminal, width=80))
    progress = module.frame_progress()
    seconds = 0.0
    progress.get_time = lambda: seconds
    task = progress.add_task("tracking", total=100)
    for _ in range(70):
        progress.advance(task)
        seconds += 1.0
    return written.getvalue()


def test_a_log_gets_a_line_every_half_minute(monkeypatch):
    lines = written_in_70_seconds(monkeypatch, is_terminal=False).splitlines()
    assert [line.split(",")[0] for line in lines] == [
        "tracking: 31 of 100 frames",
        "tracking: 61 of 100 frames",
    ]


def test_a_terminal_gets_no_lines(monkeypatch):
    assert written_in_70_seconds(monkeypatch, is_terminal=True) == ""


ROWS = [("some-name", "here", "a/path/of/forty/characters/in/all/to/copy and words"), ("b", "", "")]


@pytest.mark.parametrize(
    ("width", "lines"),
    [
        (80, ["some-name  here  a/path/of/forty/characters/in/all/to/copy and words", "b"]),
        (
            40,
            [
                "some-name  here  a/path/of/forty/characters/in/all/to/copy",
                " " * 17 + "and words",
                "b",
            ],
        ),
        (
            20,
            [
                "some-name  here",
                "    a/path/of/forty/characters/in/all/to/copy",
                "    and words",
                "b",
            ],
        ),
        (
            1,
            [
                "some-name  here",
                "    a/path/of/forty/characters/in/all/to/copy",
                "    and words",
                "b",
            ],
        ),
    ],
)
def test_rows_lose_nothing_on_a_narrow_terminal(monkeypatch, width, lines):
    written = io.StringIO()
    monkeypatch.setattr(console, "out", Console(file=written, width=width))
    console.print_rows(ROWS)
    assert written.getvalue().splitlines() == lines
