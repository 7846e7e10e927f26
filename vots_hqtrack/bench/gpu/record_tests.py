"""A pytest plugin that writes the outcome of each test at once, and deselects finished ones.

The step ``proof`` loads it with ``-p vots_hqtrack.bench.gpu.record_tests``.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from vots_hqtrack.bench.gpu.results import ResultFile, Status

STEP = "proof"
FILE_OPTION = "--record-tests"
FINISHED_OPTION = "--finished-tests"

_MAX_ERROR = 1500
_MAX_REASON = 300
_STATUS: dict[str, Status] = {"passed": "ok", "failed": "failed", "skipped": "skipped"}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the plugin's options."""
    group = parser.getgroup("GPU kit")
    group.addoption(FILE_OPTION, type=Path, help="JSON lines file for the outcome of each test")
    group.addoption(FINISHED_OPTION, type=Path, help="file of tests to deselect, one a line")


def pytest_configure(config: pytest.Config) -> None:
    """Start to record, in the process that receives every report."""
    path = config.getoption(FILE_OPTION)
    if path is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Recorder(ResultFile(path)), "record-tests-writer")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the tests that have a result already."""
    path = config.getoption(FINISHED_OPTION)
    if path is None:
        return
    finished = set(path.read_text(encoding="utf-8").splitlines())
    deselected = [item for item in items if item.nodeid in finished]
    if deselected:
        config.hook.pytest_deselected(items=deselected)
        items[:] = [item for item in items if item.nodeid not in finished]


class _Recorder:
    """Writes pytest's reports as rows."""

    def __init__(self, results: ResultFile) -> None:
        self._results = results

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Write a row when a test has been called, or ended earlier."""
        if report.when != "call" and report.passed:
            return
        values: dict[str, object] = {"seconds": round(report.duration, 3)}
        details = report.longrepr
        if report.failed:
            crash = getattr(details, "reprcrash", None)
            values["error"] = str(crash.message if crash is not None else details)[:_MAX_ERROR]
            values["when"] = report.when
        elif report.skipped:
            reason = details[2] if isinstance(details, tuple) else details
            values["reason"] = str(reason)[:_MAX_REASON]
        self._results.append(STEP, report.nodeid, _STATUS[report.outcome], values)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Write a row for a file that cannot be read."""
        if report.failed:
            error = str(report.longrepr)[-_MAX_ERROR:]
            self._results.append(STEP, report.nodeid, "failed", {"error": error})
