"""A process that keeps freed memory takes no new pages for the next frame."""

from __future__ import annotations

import subprocess
import sys

import pytest

from vots_hqtrack.allocation import keep_freed_memory

CODE = """
import resource, sys, torch
from vots_hqtrack.allocation import keep_freed_memory

def count_faults(times):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        torch.ones(10 * 2**20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

count_faults(15)
usual = count_faults(5)
keep_freed_memory()
count_faults(15)
sys.stdout.write(f"{usual} {count_faults(5)}")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc only")
def test_large_blocks_are_used_again() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, timeout=120, check=True
    )
    usual, kept = map(int, ended.stdout.split())
    # Five blocks of 40 MiB; a system with huge pages or another C library shows nothing here.
    if usual < 1000:
        pytest.skip(f"only {usual} page faults without it")
    assert kept < usual / 20


def test_elsewhere_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vots_hqtrack.allocation.sys.platform", "win32")
    assert keep_freed_memory() is False
