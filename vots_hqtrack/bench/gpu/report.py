"""The results of a GPU run as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vots_hqtrack.bench.gpu.results import ResultFile, ResultRow, latest_rows

_CARD = "card"
_SPEED_HEAD = (
    "case",
    "ms a frame",
    "slowest",
    "device busy, ms",
    "kernels",
    "waits of the host",
    "peak MiB",
    "GFLOP",
    "of the card's rate",
    "objects seen",
    "weights",
    "dtype",
)


def write_report(results: ResultFile, path: Path) -> None:
    """Write all that the results say so far, in place of what was there."""
    path.write_text(render_report(results.rows()), encoding="utf-8")


def render_report(rows: Sequence[ResultRow]) -> str:
    """Return the report on rows as Markdown."""
    speed = latest_rows(rows, "speed")
    card = speed.get(_CARD)
    parts = [
        ["# GPU report"],
        _steps(latest_rows(rows, "kit")),
        _card(card) if card is not None else [],
        _proof(list(latest_rows(rows, "proof").values())),
        _speed([row for row in speed.values() if "model" in row.values], card),
        _attention([row for name, row in speed.items() if name.startswith("attention: ")]),
        _failures(speed.values()),
        _train(latest_rows(rows, "train").values()),
    ]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def _steps(steps: Mapping[str, ResultRow]) -> list[str]:
    cells = [
        (name, row.status, _number(row.values.get("seconds")), str(row.values.get("reason", "")))
        for name, row in steps.items()
    ]
    return _table(("step", "result", "seconds", ""), cells) if cells else []


def _card(row: ResultRow) -> list[str]:
    values: dict[str, Any] = dict(row.values)
    if row.status != "ok":
        return ["## Machine", "", f"Not measured: {row.status}."]
    versions = ", ".join(f"{name} {x}" for name, x in values["versions"].items() if x)
    rates = {
        "bfloat16 matrix product, TFLOP/s": values["matmul_bfloat16_tflops"],
        "float32 matrix product, TFLOP/s": values["matmul_float32_tflops"],
        "copy, TB/s": values["copy_tb_s"],
        "launch, µs": values["launch_us"],
        "upload of a 720p frame, ms": values["upload_ms"],
        "the same from page-locked memory, ms": values.get("upload_pinned_ms"),
    }
    cells = [(name, _number(x)) for name, x in rates.items() if x is not None]
    head = f"{values['device']}, {values['cores']} processor cores; {versions}."
    return ["## Machine", "", head, "", *_table(("", ""), cells)]


def _proof(rows: Sequence[ResultRow]) -> list[str]:
    if not rows:
        return []
    by_status = {status: [r for r in rows if r.status == status] for status in _statuses(rows)}
    counts = ", ".join(f"{len(some)} {status}" for status, some in by_status.items())
    lines = ["## Proof", "", f"{len(rows)} tests: {counts}."]
    if failed := by_status.get("failed", []):
        lines.append("")
        lines += [f"- `{row.name}`: {_first_line(row.values.get('error'))}" for row in failed]
    reasons = sorted({str(row.values.get("reason", "")) for row in by_status.get("skipped", [])})
    if reasons:
        lines += ["", f"Skipped because: {'; '.join(reasons)}."]
    return lines


def _statuses(rows: Iterable[ResultRow]) -> list[str]:
    return sorted({row.status for row in rows})


def _speed(rows: Sequence[ResultRow], card: ResultRow | None) -> list[str]:
    if not rows:
        return []
    rate = float(str(card.values.get("matmul_bfloat16_tflops", 0))) if card is not None else 0.0
    cells = [(row.name, *_speed_cells(dict(row.values), rate)) for row in rows]
    return ["## Speed", "", *_table(_SPEED_HEAD, cells)]


def _speed_cells(values: Mapping[str, Any], rate: float) -> list[str]:
    gflop = values.get("gflop")
    share = "" if not gflop or not rate else f"{gflop / values['ms'] / rate:.1%}"
    return [
        *(_number(values.get(name)) for name in ("ms", "ms_slowest", "busy_ms", "num_kernels")),
        *(_number(x) for x in (values.get("num_syncs"), values.get("peak_mib"), gflop)),
        share,
        f"{values['seen']:.0%}",
        str(values.get("weights", "")),
        str(values.get("dtype", "")),
    ]


def _attention(rows: Sequence[ResultRow]) -> list[str]:
    ways = list(dict.fromkeys(k for row in rows for k, x in row.values.items() if _is_way(x)))
    if not ways:
        return []
    cells = []
    for row in rows:
        found = [_attention_cell(row.values.get(way)) for way in ways]
        cells.append((row.name.removeprefix("attention: "), *found, str(row.values["fastest"])))
    head = ("size", *(f"{way}, ms" for way in ways), "fastest")
    return ["## Attention", "", *_table(head, cells)]


def _is_way(value: object) -> bool:
    return isinstance(value, dict) and ("ms" in value or "failed" in value)


def _attention_cell(value: object) -> str:
    if not isinstance(value, dict) or "ms" not in value:
        return "-"
    return _number(value["ms"])


def _failures(rows: Iterable[ResultRow]) -> list[str]:
    bad = [row for row in rows if row.status not in ("ok", "started")]
    lines = [f"- {row.name}: {row.status}. {_first_line(row.values.get('error'))}" for row in bad]
    errors = [(row.name, row.values["cost_error"]) for row in rows if "cost_error" in row.values]
    lines += [f"- {name}: not profiled. {_first_line(error)}" for name, error in errors]
    return ["Not measured:", "", *lines] if lines else []


def _train(rows: Iterable[ResultRow]) -> list[str]:
    lines: list[str] = []
    for row in rows:
        said, log = row.values.get("said", []), row.values.get("log")
        lines += [
            "",
            f"{row.name}: {row.status}, {_number(row.values.get('seconds'))} s",
            "",
            "```",
        ]
        lines += [str(line) for line in said] if isinstance(said, list) else []
        lines.append("```")
        if isinstance(log, dict) and log:
            lines += ["", *(f"- {name}: {_entry(value)}" for name, value in log.items())]
    return ["## Training", *lines] if lines else []


def _entry(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_entry(x)}" for name, x in value.items())
    return _number(value) or str(value)


def _first_line(text: object) -> str:
    lines = str(text or "").strip().splitlines()
    return lines[0][:300].replace("|", "/") if lines else ""


def _number(value: object) -> str:
    if not isinstance(value, int | float):
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]
