"""Reads the checkpoints that other projects publish, which are pickles: only data is believed."""

from __future__ import annotations

import contextlib
import pickle
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
"""Keys under which the weights may lie, the likelier first."""
_WRAPPER = "module."
"""Prefix that PyTorch's parallel wrappers put before every key."""


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Read the weights of a ``.pth`` file, wherever in it they lie.

    What lies beside them, such as the state of an optimiser, is dropped. No code of the file is
    run.

    Args:
        path: The file: a dictionary of tensors, or one that has it under ``state_dict`` or
            ``model``.

    Returns:
        Tensors on the CPU by key, without the prefix ``module.``.

    Raises:
        WeightsError: The file is missing, damaged, or holds something else.
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
        key = str(name).removeprefix(_WRAPPER)
        if key in tensors:
            raise WeightsError(f"{path}: {key} occurs with and without the prefix {_WRAPPER!r}")
        tensors[key] = value.detach()
    return tensors


def _load(path: Path) -> object:
    try:
        # Gigabytes stay in the file until they are used; PyTorch's old format does not offer that.
        mapped, name = zipfile.is_zipfile(path), str(path)
        with _numbers_allowed():
            return torch.load(name, map_location="cpu", weights_only=True, mmap=mapped)
    except OSError as error:
        raise WeightsError(
            f"cannot read the checkpoint {path}: {error.strerror or error}"
        ) from error
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0] if str(error) else "no pickle of PyTorch"
        raise WeightsError(
            f"the checkpoint {path} is damaged, or holds more than plain data: {reason}"
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"the checkpoint {path} is damaged: {reason}") from error


def _numbers_allowed() -> AbstractContextManager[None]:
    """Also let bare NumPy numbers pass, which optimisers store as their learning rates.

    PyTorch before 2.6 cannot be told so under the names that older NumPy wrote; it then refuses
    such a file.
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
