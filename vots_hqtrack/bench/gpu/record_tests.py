"""A plugin of pytest that writes the outcome of each test at once, and leaves out finished ones.

Loaded by the step ``proof`` with ``-p vots_hqtrack.bench.gpu.record_tests``.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from vots_hqtrack.bench.gpu.results import ResultFile, ResultRow, Status

STEP = "proof"
FILE_OPTION = "--record-tests"
FINISHED_OPTION = "--finished-tests"

_LONGEST_ERROR = 1500
_LONGEST_REASON = 300


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the plugin's options."""
    group = parser.getgroup("GPU kit")
    group.addoption(FILE_OPTION, type=Path, help="file of JSON lines for each test's outcome")
    group.addoption(FINISHED_OPTION, type=Path, help="file of tests to leave out, one a line")


def pytest_configure(config: pytest.Config) -> None:
    """Start to record, in the process that gets every report."""
    path = config.getoption(FILE_OPTION)
    if path is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Recorder(ResultFile(path)), "record-tests-writer")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests that have a result already."""
    path = config.getoption(FINISHED_OPTION)
    if path is None:
        return
    finished = set(path.read_text(encoding="utf-8").splitlines())
    left_out = [item for item in items if item.nodeid in finished]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item.nodeid not in finished]


class _Recorder:
    """Turns pytest's reports into rows."""

    def __init__(self, results: ResultFile) -> None:
        self._results = results

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Write a row when a test has been called, or ended earlier."""
        if report.when == "call" or report.outcome != "passed":
            status = _status_of(report)
            values: dict[str, object] = {"seconds": round(report.duration, 3)}
            if status == "failed":
                values["error"] = _error_of(report)
                values["when"] = report.when
            elif status == "skipped":
                values["reason"] = _reason_of(report)
            self._results.append(ResultRow(STEP, report.nodeid, status, values))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Write a row for a file that cannot be read."""
        if report.failed:
            text = str(report.longrepr)[-_LONGEST_ERROR:]
            self._results.append(ResultRow(STEP, report.nodeid, "failed", {"error": text}))


def _status_of(report: pytest.TestReport) -> Status:
    outcomes: dict[str, Status] = {"passed": "ok", "failed": "failed", "skipped": "skipped"}
    return outcomes[report.outcome]


def _error_of(report: pytest.TestReport) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    return str(crash.message if crash is not None else report.longrepr)[:_LONGEST_ERROR]


def _reason_of(report: pytest.TestReport) -> str:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
    return str(reason)[:_LONGEST_REASON]
