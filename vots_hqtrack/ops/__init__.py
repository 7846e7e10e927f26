"""Heavy operations: a plain PyTorch reference of each, faster ones, and the choice between them.

The choice is made once a process: Triton's kernels if Triton and a CUDA device are found, PyTorch
elsewhere. ``VOTS_HQTRACK_OPS`` may say ``torch`` or ``triton`` instead of ``auto``. With gradients,
and for tensors on another device, PyTorch's version runs in any case. Global attention has several
versions, of which a table of times measured on the card names the fastest by size
(`ops.attention_table`).
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from vots_hqtrack.errors import OpsError
from vots_hqtrack.ops import attention, attention_table, dcnv3, window

Backend = Literal["torch", "triton"]
VARIABLE = "VOTS_HQTRACK_OPS"
TRITON_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
Attention = Callable[[Tensor, Sequence[Tensor], Sequence[Tensor]], Tensor]
TORCH_ATTENTIONS: Mapping[str, Attention] = {
    "blocks": attention.global_attention,
    "fused": attention.fused_attention,
}
"""Global attention without gradients by PyTorch, by its name in the table."""

_log = logging.getLogger(__name__)
_backend: Backend | None = None
"""The choice; a plain variable, which ``torch.compile`` can trace where a cache it cannot."""
_fastest_attention: tuple[attention_table.FastestVersion, ...] = ()
"""The card's rows of the table, for this backend."""


def resolve_backend() -> Backend:
    """Return the backend of the heavy operations; the first call chooses it and logs it.

    Raises:
        OpsError: The environment asks for an unknown backend, or for one that is not installed;
            or the table of attention's times cannot be read.
    """
    global _backend, _fastest_attention
    if _backend is None:
        backend = _checked(os.environ.get(VARIABLE) or "auto")
        _fastest_attention = _read_table(backend)
        _backend = backend
        _log.info("heavy operations on CUDA devices: %s", _backend)
    return _backend


@contextlib.contextmanager
def use_backend(backend: Backend) -> Iterator[None]:
    """Compute the heavy operations with one backend while the body runs: for measurements.

    Attention is then Triton's kernel or PyTorch's blocks, whatever the table says.

    Raises:
        OpsError: It is not installed.
    """
    global _backend, _fastest_attention
    before = _backend, _fastest_attention
    _backend = _checked(backend)
    _fastest_attention = ()
    try:
        yield
    finally:
        _backend, _fastest_attention = before


def _checked(wanted: str) -> Backend:
    if wanted not in ("auto", "torch", "triton"):
        raise OpsError(f"{VARIABLE} must be auto, torch or triton, got {wanted!r}")
    is_installed = importlib.util.find_spec("triton") is not None
    if wanted == "triton" and not is_installed:
        raise OpsError(f"{VARIABLE}=triton wants the package triton, which is not installed")
    can_use = is_installed and torch.cuda.is_available()
    return "triton" if wanted == "triton" or (wanted == "auto" and can_use) else "torch"


def _read_table(backend: Backend) -> tuple[attention_table.FastestVersion, ...]:
    if not torch.cuda.is_available():
        return ()
    card = torch.cuda.get_device_name()
    timings = attention_table.read_timings()
    return attention_table.fastest_versions(timings, card, has_triton=backend == "triton")


def deformable_sampling(value: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
    """Sample for a deformable convolution, as :func:`ops.dcnv3.deformable_sampling_reference`."""
    if _takes_triton(value):
        from vots_hqtrack.ops.triton_dcnv3 import deformable_sampling_triton

        dcnv3.check_sampling(value, offsets, weights)
        return deformable_sampling_triton(value, offsets, weights)
    return dcnv3.deformable_sampling(value, offsets, weights)


def global_attention(query: Tensor, keys: Sequence[Tensor], values: Sequence[Tensor]) -> Tensor:
    """Attend to all tokens of several frames, as :func:`ops.attention.global_attention`.

    With gradients, as :func:`ops.attention.global_attention_reference`.
    """
    if torch.is_grad_enabled():
        return attention.global_attention_reference(query, keys, values)
    version = "blocks"
    if query.is_cuda:
        attention.check_attention(query, keys, values)
        in_triton = _takes_triton(query) and all(x.dtype in TRITON_DTYPES for x in (*keys, *values))
        chosen = attention_table.choose_version(_fastest_attention, query, keys, values)
        version = chosen or ("triton" if in_triton else "blocks")
    return _attention_of(version)(query, keys, values)


def _attention_of(version: str) -> Attention:
    if version == "triton":
        from vots_hqtrack.ops.triton_attention import global_attention_triton

        return global_attention_triton
    return TORCH_ATTENTIONS[version]


def local_attention(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor, *, radius: int, scale: float
) -> Tensor:
    """Attend to windows, as :func:`ops.window.local_attention_reference`."""
    if _takes_triton(value) and query.dtype == key.dtype:
        from vots_hqtrack.ops.triton_window import local_attention_triton

        return local_attention_triton(query, key, value, bias, radius=radius, scale=scale)
    return window.local_attention(query, key, value, bias, radius=radius, scale=scale)


def _takes_triton(x: Tensor) -> bool:
    fits = x.is_cuda and x.dtype in TRITON_DTYPES and not torch.is_grad_enabled()
    return fits and resolve_backend() == "triton"
