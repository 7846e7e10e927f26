"""Device and dtype of a tracker."""

from __future__ import annotations

import pytest
import torch

from vots_hqtrack.devices import device_table, lower_precision, pick_device, pick_dtype
from vots_hqtrack.errors import ConfigError

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float16"])
def test_values_cuda_takes_every_dtype(name: str) -> None:
    assert pick_dtype(name, CUDA) == getattr(torch, name)


@pytest.mark.parametrize(
    ("capability", "dtype"),
    [((7, 5), torch.float32), ((8, 0), torch.bfloat16), ((9, 0), torch.bfloat16)],
)
def test_values_auto_on_cuda(
    capability: tuple[int, int], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GPUs before Ampere emulate bfloat16, which PyTorch calls supported."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_: True)
    assert pick_dtype("auto", CUDA) == dtype


def test_values_auto_elsewhere() -> None:
    assert pick_dtype("auto", CPU) in (torch.float32, torch.bfloat16)
    assert pick_dtype("auto", torch.device("meta")) == torch.float32


def test_values_products_are_rounded_only_where_that_is_fast() -> None:
    ones = torch.ones(2, 2)
    with lower_precision(CPU):
        assert (ones @ ones).dtype == pick_dtype("auto", CPU)
    assert (ones @ ones).dtype == torch.float32


def test_tables_have_the_compilers_mark_of_constants() -> None:
    """Set without importing the compiler, under the name that the compiler reads."""
    marked = torch.compiler.assume_constant_result(lambda: None)
    assert vars(marked).items() <= vars(device_table(lambda: torch.zeros(1))).items()
    assert vars(marked)


def test_exception_float16_on_the_cpu() -> None:
    with pytest.raises(ConfigError, match="float16 needs a GPU"):
        pick_dtype("float16", CPU)


@pytest.mark.parametrize("name", ["no-such-device", "cuda:77"])
def test_exception_no_such_device(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot compute on the device"):
        pick_device(name)
