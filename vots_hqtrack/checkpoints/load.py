"""Weights between files and modules: safetensors, float16 on disk, checked by hash and by key.

Nothing is dropped on the way: a key that is missing, unexpected or of another shape is an error.
"""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor, nn

from vots_hqtrack.checkpoints.manifest import locate, published_folder, resolve, sha256_of
from vots_hqtrack.checkpoints.reader import PLAIN_DTYPES
from vots_hqtrack.errors import WeightsError
from vots_hqtrack.io import write_tensors

DIGEST_KEY = "tensors_sha256"
"""Entry of a file's header with the hash of its tensors, so that a file can be verified alone."""
_MAX_NAMED = 5


def load_weights(name: str, path: Path | None = None) -> dict[str, Tensor]:
    """Read weights by name, checked by their hash, or the user's own file instead.

    Args:
        name: Name in the manifest.
        path: The user's own file instead, checked by the hash in its header, if any; the folder of
            a published tracker, with weights that come before others; or None.

    Returns:
        Tensors on the CPU by key, in the file's dtypes.

    Raises:
        WeightsError: There are no such weights, or the file is damaged.
    """
    published = published_folder(path)
    if path is not None and published is None:
        return load_tensors(resolve(name, path), expected_sha256=None)
    found = locate(name, published)
    return load_tensors(found.path, expected_sha256=found.entry.sha256)


def load_tensors(path: Path, *, expected_sha256: str | None) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file.

    They stay in the file until they are used, so a file of gigabytes takes no memory of its own;
    :func:`save_tensors` replaces a file without changing what was read of it.

    Args:
        path: The file.
        expected_sha256: Hash that the file must have; None checks the hash in its header, if any.

    Returns:
        Tensors on the CPU by key, in the file's dtypes; float tensors are finite.

    Raises:
        WeightsError: The file is missing, incomplete or has another hash or format, or holds
            numbers that are not finite.
    """
    try:
        num_bytes = path.stat().st_size
        found = sha256_of(path) if expected_sha256 is not None else None
        if found != expected_sha256:
            raise WeightsError(
                f"the weights file {path} is damaged or another one: "
                f"wanted sha256 {expected_sha256}, got {found}"
            )
        tensors = safetensors.torch.load_file(path)
        wanted = read_digest(path) if expected_sha256 is None else ""
    except OSError as error:
        raise WeightsError(
            f"cannot read the weights file {path}: {error.strerror or error}"
        ) from error
    except WeightsError:
        raise
    except Exception as error:  # also errors of PyTorch for dtypes and sizes that it lacks
        raise WeightsError(
            f"the weights file {path} ({num_bytes} bytes) is damaged or not in the format of "
            f"safetensors: {error}"
        ) from error
    if odd := [key for key, value in tensors.items() if value.dtype not in PLAIN_DTYPES]:
        raise WeightsError(
            f"the weights {path} have dtypes that are not supported: {name_some(odd)}"
        )
    if wanted and digest_of(tensors) != wanted:
        raise WeightsError(
            f"the weights file {path} is damaged: its tensors are not those that were written"
        )
    _require_finite(tensors, str(path))
    return tensors


def read_digest(path: Path) -> str:
    """Return the hash of the tensors in a safetensors file's header; empty if there is none."""
    with safe_open(str(path), "pt") as file:
        return str((file.metadata() or {}).get(DIGEST_KEY, ""))


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """Return a hash of tensors' names, shapes, dtypes and numbers, in any order.

    Args:
        tensors: On the CPU.

    Returns:
        64 lower-case hexadecimal digits.
    """
    digest = hashlib.sha256()
    for key in sorted(tensors):
        value = tensors[key].contiguous()
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load_into(
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    *,
    source: str,
    allow_missing: tuple[str, ...] = (),
) -> None:
    """Copy tensors into a module's parameters and buffers; each key must be one of the module's.

    The numbers are cast to the dtype that the module has, so float16 files fill float32 parameters.
    A module on the device ``meta``, whose tensors are empty, takes the tensors themselves.

    Args:
        module: It is changed in place, or not at all if an error is raised.
        tensors: By the keys of ``module.state_dict()``.
        source: Name of the tensors in errors, such as the file's path.
        allow_missing: Shell-style patterns of the module's keys that ``tensors`` need not have;
            such parameters keep their values.

    Raises:
        WeightsError: Keys are missing, unexpected, of another shape, or float for an integer.
    """
    target = module.state_dict()
    is_empty = any(value.is_meta for value in target.values())
    if is_empty:
        allow_missing = ()
    require_fit(
        target, tensors, source=source, model=type(module).__name__, allow_missing=allow_missing
    )
    if is_empty:
        given = {key: tensors[key].to(value.dtype) for key, value in target.items()}
        module.load_state_dict(given, assign=True)
    else:
        module.load_state_dict({key: tensors.get(key, value) for key, value in target.items()})


def require_fit(
    target: Mapping[str, Tensor],
    tensors: Mapping[str, Tensor],
    *,
    source: str,
    model: str,
    allow_missing: tuple[str, ...] = (),
) -> None:
    """Demand that tensors have a model's keys and shapes.

    Args:
        target: The model's own tensors by key; their numbers do not matter.
        tensors: The tensors that shall replace them.
        source: Name of the tensors in errors.
        model: Name of the model in errors.
        allow_missing: Shell-style patterns of keys that ``tensors`` need not have.

    Raises:
        WeightsError: Keys are missing, unexpected, of another shape, or float for an integer.
    """
    missing = [
        key
        for key in target
        if key not in tensors and not any(fnmatch.fnmatchcase(key, rule) for rule in allow_missing)
    ]
    unexpected = [key for key in tensors if key not in target]
    shared = [key for key in target if key in tensors]
    unfit = [_difference(key, target[key], tensors[key]) for key in shared]
    problems = [
        f"{title}: {name_some(keys)}"
        for title, keys in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("unfit", [reason for reason in unfit if reason]),
        )
        if keys
    ]
    if problems:
        raise WeightsError(f"the weights {source} do not fit {model}; {'; '.join(problems)}")


def save_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str],
    *,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write tensors as a safetensors file, whole or not at all.

    Args:
        path: The file; its folder must exist. An older file is replaced at the end.
        tensors: On any device. Float ones are written as ``dtype``, others as they are.
        metadata: Strings for the file's header, such as origin and licence.
        dtype: Float dtype on disk.

    Raises:
        WeightsError: A number does not fit ``dtype``, or the file cannot be written.
    """
    stored = _own_storage(
        {
            key: value.detach()
            .to("cpu", dtype if value.is_floating_point() else value.dtype)
            .contiguous()
            for key, value in tensors.items()
        }
    )
    _require_finite(stored, f"for {path.name} as {str(dtype).removeprefix('torch.')}")
    try:
        write_tensors(path, stored, {"format": "pt", **metadata}, durable=True)
    except OSError as error:
        raise WeightsError(
            f"cannot write the weights file {path}: {error.strerror or error}"
        ) from error


def _own_storage(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy only the tensors that share storage, which the format does not allow."""
    seen: set[int] = set()
    own = {}
    for key, value in tensors.items():
        pointer = value.untyped_storage().data_ptr()
        own[key] = value.clone() if pointer in seen else value
        seen.add(pointer)
    return own


def _difference(key: str, wanted: Tensor, got: Tensor) -> str:
    if wanted.shape != got.shape:
        return f"{key} (wanted shape {tuple(wanted.shape)}, got {tuple(got.shape)})"
    if wanted.is_floating_point() != got.is_floating_point():
        return f"{key} (wanted {wanted.dtype}, got {got.dtype})"
    return ""


def _require_finite(tensors: Mapping[str, Tensor], source: str) -> None:
    broken = [key for key, value in tensors.items() if not bool(torch.isfinite(value).all())]
    if broken:
        raise WeightsError(
            f"the weights {source} hold numbers that are not finite: {name_some(broken)}"
        )


def name_some(names: Iterable[str]) -> str:
    """List the first few names, and how many more there are."""
    listed = list(names)
    more = len(listed) - _MAX_NAMED
    return ", ".join(listed[:_MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
