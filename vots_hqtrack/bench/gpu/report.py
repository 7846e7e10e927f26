"""The results of a GPU run as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vots_hqtrack.bench.gpu.results import ResultFile, ResultRow, latest_rows

_SPEED = {
    "ms a frame": "ms",
    "slowest": "ms_slowest",
    "known ahead, ms": "ms_ahead",
    "device busy, ms": "busy_ms",
    "kernels": "num_kernels",
    "waits of the host": "num_syncs",
    "peak MiB": "peak_mib",
    "GFLOP": "gflop",
    "of the card's rate": "fraction",
    "objects seen": "seen",
    "weights": "weights",
    "dtype": "dtype",
}
"""Columns of the table of speeds, and their values in a row."""
_CARD = {
    "bfloat16 matrix product, TFLOP/s": "matmul_bfloat16_tflops",
    "float32 matrix product, TFLOP/s": "matmul_float32_tflops",
    "copy, TB/s": "copy_tb_s",
    "launch, µs": "launch_us",
    "upload of a 720p frame, ms": "upload_ms",
    "the same from page-locked memory, ms": "upload_pinned_ms",
}


def write_report(results: ResultFile, path: Path) -> None:
    """Write the report on the results so far, in place of the file."""
    path.write_text(render_report(results.rows()), encoding="utf-8")


def render_report(rows: Sequence[ResultRow]) -> str:
    """Return the report on rows as Markdown."""
    speed = latest_rows(rows, "speed")
    parts = [
        ["# GPU report"],
        _steps(latest_rows(rows, "kit").values()),
        _card(speed["card"]) if "card" in speed else [],
        _proof(list(latest_rows(rows, "proof").values())),
        _speed([row for row in speed.values() if "model" in row.values], speed.get("card")),
        _together([row for row in speed.values() if "together" in row.values]),
        _attention([row for name, row in speed.items() if name.startswith("attention: ")]),
        _failures(list(speed.values())),
        _train(latest_rows(rows, "train").values()),
    ]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def _steps(steps: Iterable[ResultRow]) -> list[str]:
    rows = [
        (row.name, row.status, _format(row.values.get("seconds")), row.values.get("reason", ""))
        for row in steps
    ]
    return _table(("step", "result", "seconds", ""), rows) if rows else []


def _card(row: ResultRow) -> list[str]:
    values: dict[str, Any] = dict(row.values)
    if row.status != "ok":
        return ["## Machine", "", f"Not measured: {row.status}."]
    versions = ", ".join(f"{name} {x}" for name, x in values["versions"].items() if x)
    rates = [(name, _format(values[key])) for name, key in _CARD.items() if key in values]
    head = f"{values['device']}, {values['cores']} processor cores; {versions}."
    return ["## Machine", "", head, "", *_table(("", ""), rates)]


def _proof(rows: Sequence[ResultRow]) -> list[str]:
    if not rows:
        return []
    statuses = [row.status for row in rows]
    counts = ", ".join(f"{statuses.count(status)} {status}" for status in sorted(set(statuses)))
    lines = ["## Proof", "", f"{len(rows)} tests: {counts}."]
    if failed := [row for row in rows if row.status == "failed"]:
        lines.append("")
        lines += [f"- `{row.name}`: {_first_line(row.values.get('error'))}" for row in failed]
    reasons = {str(row.values.get("reason", "")) for row in rows if row.status == "skipped"}
    return [*lines, "", f"Skipped because: {'; '.join(sorted(reasons))}."] if reasons else lines


def _speed(rows: Sequence[ResultRow], card: ResultRow | None) -> list[str]:
    if not rows:
        return []
    rate: Any = card.values.get("matmul_bfloat16_tflops", 0) if card is not None else 0
    lines = []
    for row in rows:
        values: dict[str, Any] = {**row.values, "seen": f"{row.values['seen']:.0%}"}
        if rate and values.get("gflop"):
            values["fraction"] = f"{values['gflop'] / values['ms'] / rate:.1%}"
        lines.append([row.name, *(_format(values.get(key)) for key in _SPEED.values())])
    return ["## Speed", "", *_table(("case", *_SPEED), lines)]


def _together(rows: Sequence[ResultRow]) -> list[str]:
    head = {"frames a second": "frames_per_second", "ms a frame": "ms", "dtype": "dtype"}
    lines = [[row.name, *(_format(row.values.get(key)) for key in head.values())] for row in rows]
    return ["## Several videos at once", "", *_table(("case", *head), lines)] if rows else []


def _attention(rows: Sequence[ResultRow]) -> list[str]:
    columns = dict.fromkeys(
        key
        for row in rows
        for key, value in row.values.items()
        if isinstance(value, dict) and ("ms" in value or "failed" in value)
    )
    if not columns:
        return []
    lines = [
        (
            row.name.removeprefix("attention: "),
            *(_milliseconds(row.values.get(name)) for name in columns),
            row.values["fastest"],
        )
        for row in rows
    ]
    head = ("size", *(f"{name}, ms" for name in columns), "fastest")
    return ["## Attention", "", *_table(head, lines)]


def _milliseconds(value: object) -> str:
    return _format(value["ms"]) if isinstance(value, dict) and "ms" in value else "-"


def _failures(rows: Sequence[ResultRow]) -> list[str]:
    bad = [row for row in rows if row.status not in ("ok", "started")]
    lines = [f"- {row.name}: {row.status}. {_first_line(row.values.get('error'))}" for row in bad]
    errors = [(row.name, row.values["cost_error"]) for row in rows if "cost_error" in row.values]
    lines += [f"- {name}: not profiled. {_first_line(error)}" for name, error in errors]
    return ["Not measured:", "", *lines] if lines else []


def _train(rows: Iterable[ResultRow]) -> list[str]:
    lines: list[str] = []
    for row in rows:
        values: dict[str, Any] = dict(row.values)
        lines += ["", f"{row.name}: {row.status}, {_format(values.get('seconds'))} s", ""]
        lines += ["```", *values.get("said", []), "```"]
        if log := values.get("log"):
            lines += ["", *(f"- {name}: {_format(value)}" for name, value in log.items())]
    return ["## Training", *lines] if lines else []


def _format(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_format(x)}" for name, x in value.items())
    if isinstance(value, int | float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return "" if value is None else str(value)


def _first_line(text: object) -> str:
    lines = str(text or "").strip().splitlines()
    return lines[0][:300].replace("|", "/") if lines else ""


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(map(str, line))} |" for line in lines]
