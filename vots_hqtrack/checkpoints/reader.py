"""Checkpoint reader: tensors out of the pickles that other projects publish, without their code."""

from __future__ import annotations

import contextlib
import warnings
import zipfile
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vots_hqtrack.errors import WeightsError

_NESTS = ("state_dict", "model")
"""Keys under which the weights may be stored, the likelier first."""
_WRAPPER = "module."
"""Prefix that PyTorch's parallel wrappers put before every key."""
PLAIN_DTYPES = frozenset(
    {
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
        *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
    }
)
"""Dtypes that weights may have."""


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Read the weights of a ``.pth`` file.

    Anything beside them, such as the state of an optimiser, is dropped. No code of the file is run.

    Args:
        path: The file: a dictionary of tensors, or one that has it under ``state_dict`` or
            ``model``.

    Returns:
        Tensors on the CPU by key, without the prefix ``module.``.

    Raises:
        WeightsError: The file is missing, damaged, or has other content.
    """
    content: Any = _load(path)
    for nest in _NESTS:
        if isinstance(content, Mapping) and isinstance(content.get(nest), Mapping):
            content = content[nest]
            break
    if not isinstance(content, Mapping) or not content:
        raise WeightsError(
            f"{path} holds no weights: wanted a dictionary of tensors, also under one of "
            f"{', '.join(_NESTS)}, found {type(content).__name__}"
        )
    tensors: dict[str, Tensor] = {}
    for name, value in content.items():
        if not isinstance(value, Tensor):
            raise WeightsError(
                f"{path}: wanted tensors only, found {type(value).__name__} at {name!r}"
            )
        if kind := _oddness(value):
            raise WeightsError(f"{path}: wanted plain tensors, found {kind} at {name!r}")
        key = str(name).removeprefix(_WRAPPER)
        if key in tensors:
            raise WeightsError(f"{path}: {key} occurs with and without the prefix {_WRAPPER!r}")
        tensors[key] = value.detach().resolve_neg()
    return tensors


def _oddness(value: Tensor) -> str:
    """Say why a tensor cannot be a weight; empty if it can."""
    if value.is_meta:
        return "a meta tensor, which has no values"
    if value.layout != torch.strided or value.is_nested:
        return f"a tensor of layout {value.layout}"
    return "" if value.dtype in PLAIN_DTYPES else f"a tensor of {value.dtype}"


def _load(path: Path) -> object:
    name = str(path)  # older PyTorch maps no other
    try:
        # Gigabytes stay in the file until they are used; PyTorch's old format does not offer that.
        if mapped := zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:  # PyTorch does not check the checksums
                if (entry := archive.testzip()) is not None:
                    raise WeightsError(f"the checkpoint {path} is damaged: bad checksum of {entry}")
        with _numbers_allowed(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd protocols in damaged pickles
            return torch.load(name, map_location="cpu", weights_only=True, mmap=mapped)
    except WeightsError:
        raise
    except OSError as error:
        raise WeightsError(
            f"cannot read the checkpoint {path}: {error.strerror or error}"
        ) from error
    except Exception as error:  # damaged pickles raise errors of any kind
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise WeightsError(
            f"the checkpoint {path} is damaged, or holds more than plain data: {reason}"
        ) from error


def _numbers_allowed() -> AbstractContextManager[None]:
    """Let bare NumPy numbers pass, which optimisers store as their learning rates.

    PyTorch before 2.6 cannot allow them under the names of older NumPy; it refuses such a file.
    """
    if not hasattr(torch.serialization, "get_unsafe_globals_in_checkpoint"):
        return contextlib.nullcontext()
    number: Any = np.float64(0).__reduce__()[0]
    return torch.serialization.safe_globals(
        [
            (number, "numpy.core.multiarray.scalar"),
            (number, "numpy._core.multiarray.scalar"),
            np.dtype,
            *{type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "?")},
        ]
    )
