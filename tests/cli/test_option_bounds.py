"""Every number that a command takes has bounds, and every path is checked, new options too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.main import get_command

from vots_hqtrack.cli.main import app

ABSURD = ["nan", "inf", "-inf", "1e30", "1" + 30 * "0", 5000 * "9", "-1" + 30 * "0", "1e999"]
NOT_A_NUMBER = ["", " ", "many", "0x10", "1,5", "--", "\u0663\u0664\u0665\u0666\u0667\u0668x"]


def commands() -> Iterator[tuple[str, Any]]:
    """Yield all commands with their words."""

    def walk(command: Any, words: str) -> Iterator[tuple[str, Any]]:
        for name, part in getattr(command, "commands", {}).items():
            yield from walk(part, f"{words} {name}".strip())
        if not hasattr(command, "commands"):
            yield words, command

    return walk(get_command(app), "")


def parameters(kinds: tuple[type, ...]) -> dict[str, tuple[Any, Any]]:
    """Return the parameters that hold one of some types, with their commands, by their words."""
    found = {}
    for words, command in commands():
        for parameter in command.params:
            about = parameter.type_descriptor
            annotation = about.annotation if about else bool
            parts = getattr(annotation, "__args__", (annotation,))
            if set(parts) & set(kinds):
                found[f"{words} {parameter.opts[0]}"] = (command, parameter)
    return found


NUMBERS = parameters((int, float))


def test_the_walk_finds_the_numbers() -> None:
    known = {"track --limit", "track --fps", "bench --objects", "calibrate observe --clips"}
    assert known <= set(NUMBERS)


@pytest.mark.parametrize("name", NUMBERS)
def test_absurd_numbers_are_refused_before_the_work(name: str) -> None:
    command, parameter = NUMBERS[name]
    option = parameter.opts[0]
    for value in [*ABSURD, *NOT_A_NUMBER, str(parameter.min - 1)]:
        with pytest.raises(typer.BadParameter) as caught:
            command.make_context(name, [f"{option}={value}"])
        assert caught.value.param is parameter, (value, caught.value)
