"""Recorded functions: one recording for each kind of arguments, results of the caller's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from vots_hqtrack import replay
from vots_hqtrack.replay import Recorded, launched_once
from vots_hqtrack.types import LayerMemory, MemoryEntry, Size


@dataclass(frozen=True, slots=True)
class Sums:
    """A structured result."""

    total: Tensor
    parts: tuple[Tensor, ...]
    size: Size


def add_up(entries: list[MemoryEntry], factor: int) -> Sums:
    parts = tuple(layer.key * factor + layer.value for e in entries for layer in e.layers)
    return Sums(torch.stack(parts).sum(0), parts, Size(*parts[0].shape))


class HostGraph:
    """A CUDA graph by the host: a replay reads the recorded inputs, writes in place."""

    def __init__(self, function: Callable[..., Any], arguments: Any) -> None:
        self._again: Callable[[], Any] = lambda: function(*arguments)
        self.result = function(*arguments)

    def replay(self) -> None:
        fresh = self._again()
        pairs = zip(self.result.parts, fresh.parts, strict=True)
        for old, new in ((self.result.total, fresh.total), *pairs):
            old.copy_(new)


def entry(value: float, shape: tuple[int, int] = (2, 3)) -> MemoryEntry:
    layer = LayerMemory(torch.full(shape, value), torch.full(shape, 10 * value))
    return MemoryEntry(0, (layer, layer))


@pytest.fixture
def recordings() -> list[Any]:
    return []


@pytest.fixture
def recorded(recordings: list[Any]) -> Recorded:
    def record(arguments: Any) -> HostGraph:
        recordings.append(arguments)
        return HostGraph(add_up, arguments)

    return Recorded(add_up, record)


def assert_equal(found: Sums, wanted: Sums) -> None:
    assert found.size == wanted.size
    torch.testing.assert_close(found.total, wanted.total, rtol=0, atol=0)
    for left, right in zip(found.parts, wanted.parts, strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=0)


def test_values_of_every_call_and_one_recording_a_kind(
    recorded: Recorded, recordings: list[Any]
) -> None:
    first, second = entry(1.0), entry(2.0)
    # Videos in turn, entries that change their position, and the same objects once more.
    for entries in ([first, second], [second, first], [entry(3.0), second], [entry(3.0), first]):
        for factor in (2, 3):
            assert_equal(recorded(entries, factor), add_up(entries, factor))
    assert len(recordings) == 2
    for entries in ([first], [entry(1.0, (4, 5))], [first], [entry(5.0, (4, 5))]):
        assert_equal(recorded(entries, 2), add_up(entries, 2))
    assert len(recordings) == 4


def test_results_outlive_the_next_call(recorded: Recorded) -> None:
    results = [recorded([entry(float(number))], 1) for number in range(5)]
    for number, result in enumerate(results):
        assert result.total.eq(22 * number).all()


def test_what_is_recorded_does_not_hold_the_callers_tensors(
    recorded: Recorded, recordings: list[Any]
) -> None:
    given = entry(1.0)
    for _ in range(3):
        recorded([given], 1)
    (entries, _), *_ = recordings
    assert entries[0].layers[0].key.data_ptr() != given.layers[0].key.data_ptr()


def test_a_kind_that_cannot_be_recorded_is_computed(caplog: pytest.LogCaptureFixture) -> None:
    def fail(arguments: Any) -> HostGraph:
        raise RuntimeError("operation not permitted when stream is capturing")

    recorded = Recorded(add_up, fail)
    for number in range(4):
        given = [entry(float(number))]
        assert_equal(recorded(given, 1), add_up(given, 1))
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_the_number_of_kinds_is_bounded(
    recorded: Recorded, recordings: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "MAX_GRAPHS", 3)
    for width in range(1, 8):
        for _ in range(2):
            recorded([entry(1.0, (1, width))], 1)
    assert len(recorded._known) == 3
    assert len(recordings) == 7


@pytest.mark.parametrize("backend", ["auto", "off", "cudagraphs"])
def test_on_the_cpu_functions_stay_as_they_are(backend: Any) -> None:
    assert launched_once(add_up, backend, torch.device("cpu")) is add_up


@pytest.mark.gpu
def test_a_cuda_graph_computes_the_same() -> None:
    recorded = launched_once(add_up, "auto", torch.device("cuda"))
    assert isinstance(recorded, Recorded)
    for number in range(6):
        layer = LayerMemory(*(torch.full((64, 64), float(number + i)).cuda() for i in range(2)))
        given = [MemoryEntry(0, (layer,))] * (1 + number % 2)
        assert_equal(recorded(given, 2), add_up(given, 2))
    assert all(recording is not None for recording in recorded._known.values())
