"""Results of a GPU run: a file of JSON lines to which several processes append."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from vots_hqtrack.errors import InputError

Status = Literal["started", "ok", "failed", "hung", "stopped", "skipped"]
"""``hung`` took longer than a case may; ``stopped`` ran at the time limit of its step."""
FINISHED: tuple[Status, ...] = ("ok", "failed", "hung", "skipped")


@dataclass(frozen=True, slots=True)
class ResultRow:
    """One line of the file.

    Attributes:
        step: ``proof``, ``speed``, ``train`` or ``kit``.
        name: Case, unique within its step.
        status: Outcome.
        values: Numbers and facts, ready for JSON.
    """

    step: str
    name: str
    status: Status
    values: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ResultFile:
    """A file of rows. Each is written at once, so that a killed process loses none.

    Attributes:
        path: The file; created by the first row.
    """

    path: Path

    def append(
        self, step: str, name: str, status: Status, values: Mapping[str, object] | None = None
    ) -> None:
        """Append a row and flush it to the disk."""
        content = {"step": step, "name": name, "status": status, **(values or {})}
        line = json.dumps(content, default=str).encode() + b"\n"
        with self.path.open("ab+") as file:
            if file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
                if file.read() != b"\n":  # a process was killed within its line
                    line = b"\n" + line
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def rows(self) -> list[ResultRow]:
        """Return all rows in the order of writing, without lines that were cut off.

        Raises:
            InputError: A complete line has no step, name or status.
        """
        rows = []
        lines = self.path.read_bytes().splitlines() if self.path.exists() else []
        for line in lines:
            try:
                content = json.loads(line)
            except ValueError:
                continue
            if not isinstance(content, dict) or not {"step", "name", "status"} <= content.keys():
                raise InputError(
                    f"wanted rows with step, name and status in {self.path}, got {content!r}"
                )
            step, name, status = (content.pop(key) for key in ("step", "name", "status"))
            rows.append(ResultRow(step, name, status, content))
        return rows

    def latest(self, step: str) -> dict[str, ResultRow]:
        """Return the newest row of each case of a step, in the order of their beginnings."""
        return latest_rows(self.rows(), step)

    def finished(self, step: str) -> set[str]:
        """Return the names of the cases that need not run again."""
        return {name for name, row in self.latest(step).items() if row.status in FINISHED}


def latest_rows(rows: Sequence[ResultRow], step: str) -> dict[str, ResultRow]:
    """Return the newest row of each case of a step, in the order of their beginnings."""
    return {row.name: row for row in rows if row.step == step}
