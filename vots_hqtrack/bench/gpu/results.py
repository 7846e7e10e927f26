"""The results of a GPU run: a file of JSON lines to which several processes append."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from vots_hqtrack.errors import InputError

Status = Literal["started", "ok", "failed", "hung", "stopped", "skipped"]
"""``hung`` took longer than a case may; ``stopped`` ran when the time of its step was over."""
FINISHED: tuple[Status, ...] = ("ok", "failed", "hung", "skipped")


@dataclass(frozen=True, slots=True)
class ResultRow:
    """One line of the file.

    Attributes:
        step: ``proof``, ``speed``, ``train`` or ``kit``.
        name: Of the case; unique within its step.
        status: What became of it.
        values: Its numbers and facts, ready for JSON.
    """

    step: str
    name: str
    status: Status
    values: Mapping[str, object] = field(default_factory=dict)


class ResultFile:
    """A file of rows. Each is written at once, so that a process that is killed loses none.

    Args:
        path: The file; made at the first row.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, row: ResultRow) -> None:
        """Write a row to the end of the file, and wait until it is on the disk."""
        content = {"step": row.step, "name": row.name, "status": row.status, **row.values}
        line = json.dumps(content, default=str) + "\n"
        if self._ends_within_a_line():
            line = "\n" + line
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def rows(self) -> list[ResultRow]:
        """Return all rows in the order in which they were written.

        A line that was cut off is left out.

        Raises:
            InputError: A complete line has no step, name or status.
        """
        if not self.path.exists():
            return []
        rows = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                content = json.loads(line)
            except ValueError:
                continue
            rows.append(self._parse(content))
        return rows

    def latest(self, step: str) -> dict[str, ResultRow]:
        """Return the newest row of each case of a step, in the order in which they began."""
        return latest_rows(self.rows(), step)

    def finished(self, step: str) -> set[str]:
        """Return the names of the cases that need not run again."""
        latest = self.latest(step)
        return {name for name, row in latest.items() if row.status in FINISHED}

    def _ends_within_a_line(self) -> bool:
        if not self.path.exists() or not self.path.stat().st_size:
            return False
        with self.path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read() != b"\n"

    def _parse(self, content: object) -> ResultRow:
        if not isinstance(content, dict) or not {"step", "name", "status"} <= content.keys():
            raise InputError(
                f"wanted rows with step, name and status in {self.path}, got {content!r}"
            )
        values = {key: x for key, x in content.items() if key not in ("step", "name", "status")}
        return ResultRow(content["step"], content["name"], content["status"], values)


def latest_rows(rows: Sequence[ResultRow], step: str) -> dict[str, ResultRow]:
    """Return the newest row of each case of a step, in the order in which they began."""
    found: dict[str, ResultRow] = {}
    for row in rows:
        if row.step == step:
            found[row.name] = row
    return found
