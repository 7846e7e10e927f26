"""Fixtures that several tests of reports share."""

from __future__ import annotations

import pytest
from evaluated_results import TRACKERS, TRUTH, make_evaluated

from vots_hqtrack.vot.report.collect import ReportData, collect
from vots_hqtrack.vot.workspace import Workspace


@pytest.fixture(scope="session")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Two sequences with truth and one without, and results of a good and two bad trackers."""
    return make_evaluated(tmp_path_factory.mktemp("evaluated"), TRUTH)


@pytest.fixture(scope="session")
def report_data(evaluated: Workspace) -> ReportData:
    """All numbers of a report of them; needs the toolkit."""
    return collect(evaluated, TRACKERS)
