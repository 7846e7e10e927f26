"""Import other projects' checkpoints: read as data, checked, written as our weights files.

A kind says which network a checkpoint is of. Every key must belong to that network, or be
named here as one that the package never uses.
"""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

import vots_hqtrack
from vots_hqtrack.checkpoints.catalogue import KNOWN, SAM2
from vots_hqtrack.checkpoints.container import read_checkpoint
from vots_hqtrack.checkpoints.convert import import_vmos, shapes_of
from vots_hqtrack.checkpoints.imagenet import (
    ImagenetEncoder,
    internimage_from_imagenet,
    resnet_from_imagenet,
)
from vots_hqtrack.checkpoints.load import load_tensors, require_fit, save_tensors
from vots_hqtrack.checkpoints.manifest import WeightsEntry, record, sha256_of
from vots_hqtrack.config import TrackerConfig
from vots_hqtrack.environment import downloads_from_environment
from vots_hqtrack.errors import ConfigError, WeightsError
from vots_hqtrack.presets import deaot_r50, vmos, vmos_r50
from vots_hqtrack.sam.models import UNUSED_ENCODER_PARTS, build_empty_sam
from vots_hqtrack.sam.weights import SAM_NAME

DIGEST_KEY = "tensors_sha256"
"""Entry of a file's header with the hash of its tensors, so that the file can vouch for itself."""
_SAM_UNUSED = tuple(f"image_encoder.{part}.*" for part in UNUSED_ENCODER_PARTS)
_DEAD = "dead."
_TRAINED: Mapping[str, Callable[[], TrackerConfig]] = {
    "vmos-internimage-t": vmos,
    "vmos-r50": vmos_r50,
    "deaot-r50": deaot_r50,
}
"""Kinds that a training of ours may leave, with a preset that they are for."""


class _FromImagenet(Protocol):
    def __call__(self, tensors: Mapping[str, Tensor], *, source: str) -> ImagenetEncoder: ...


_FROM_IMAGENET: Mapping[str, _FromImagenet] = {
    "resnet50": resnet_from_imagenet,
    "internimage-t-imagenet": internimage_from_imagenet,
}


@dataclass(frozen=True, slots=True)
class Imported:
    """A weights file that was made of a checkpoint.

    Attributes:
        path: The file.
        sha256: Its hash.
        num_tensors: How many tensors it holds.
        unused: Keys of the checkpoint that were left out, because the package never uses them.
    """

    path: Path
    sha256: str
    num_tensors: int
    unused: tuple[str, ...]


def import_weights(
    path: Path,
    kind: str,
    out: Path | None = None,
    *,
    half: bool = False,
    force: bool = False,
    origin: str = "",
) -> Imported:
    """Read another project's checkpoint and write it as a safetensors file of ours.

    Args:
        path: The checkpoint (a pickle, of which only data is read), or a safetensors file.
        kind: What it is; a name of the catalogue.
        out: The file to write, or None for the user's cache, where presets find it by its kind.
        half: True stores float16, False float32.
        force: True replaces a file that is there.
        origin: Where the checkpoint is from; empty takes its file name.

    Returns:
        The new file.

    Raises:
        ConfigError: There is no such kind, or an extra that it needs is not installed.
        WeightsError: The checkpoint cannot be read, a key of it is missing, unknown or of another
            shape, or the new file is there already or cannot be written.
    """
    if kind not in KNOWN:
        raise ConfigError(f"unknown kind {kind!r}; wanted one of: {', '.join(KNOWN)}")
    cache = downloads_from_environment().cache_path
    target = out or cache / f"{kind}.safetensors"
    if target.exists() and not force:
        raise WeightsError(f"{target} is there already; give --force to replace it")
    if target.exists() and path.exists() and target.samefile(path):
        raise WeightsError(f"{path} would be written over itself; give another --out")
    content = read_as(kind, path)
    source = f"{origin or path.name} (sha256 {sha256_of(path)})"
    metadata = {
        "kind": kind,
        "origin": source,
        "licence": KNOWN[kind].licence,
        "written_by": f"vots_hqtrack {vots_hqtrack.__version__}",
    }
    dtype = torch.float16 if half else torch.float32
    tensors = {key: _cast(value, dtype) for key, value in content.tensors.items()}
    metadata[DIGEST_KEY] = digest_of(tensors)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WeightsError(f"cannot make the folder {target.parent}: {error}") from error
    save_tensors(target, tensors, metadata, dtype=dtype)
    sha256 = sha256_of(target)
    if out is None:
        description = KNOWN[kind].description
        entry = WeightsEntry(kind, target.name, sha256, source, metadata["licence"], description)
        record(cache, entry)
    return Imported(target, sha256, len(tensors), content.unused)


@dataclass(frozen=True, slots=True)
class Content:
    """What a checkpoint holds for us.

    Attributes:
        tensors: On the CPU, under the keys that the package's networks have.
        unused: Keys that were left out.
    """

    tensors: Mapping[str, Tensor]
    unused: tuple[str, ...] = ()


def read_as(kind: str, path: Path) -> Content:
    """Read a checkpoint and demand that it is of a kind.

    Args:
        kind: A name of the catalogue.
        path: The file.

    Raises:
        WeightsError: The file cannot be read, or a key is missing, unknown or of another shape.
    """
    is_ours = path.suffix == ".safetensors"
    if kind == "vmos-internimage-t" and not is_ours:
        return Content(import_vmos(path))
    read = load_tensors(path, expected_sha256=None) if is_ours else read_checkpoint(path)
    if kind in _TRAINED:
        return _fit_trained(_TRAINED[kind](), read, path)
    if kind in _FROM_IMAGENET:
        encoder = _FROM_IMAGENET[kind](read, source=str(path))
        return Content(encoder.tensors, encoder.unused)
    if kind.startswith(SAM2):
        from vots_hqtrack.sam.sam2 import VIDEO_PARTS, sam2_shapes

        return _fit(sam2_shapes(kind.removeprefix(SAM2)), read, path, kind, VIDEO_PARTS)
    found = SAM_NAME.fullmatch(kind)
    if found is None:
        raise ConfigError(f"no checkpoint can be read as {kind!r}")
    model = found["model"].replace("-", "_")
    return _fit(sam_shapes(model, hq=bool(found["hq"])), read, path, kind, _SAM_UNUSED)


def sam_shapes(model: str, *, hq: bool) -> dict[str, Tensor]:
    """Return tensors without meaning under the keys and with the shapes of a SAM network.

    Args:
        model: The package's name of the network.
        hq: True for HQ-SAM's mask decoder.
    """
    return dict(build_empty_sam(model, hq=hq).state_dict())


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """Return a hash of tensors' names, shapes, dtypes and numbers, whatever their order.

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


def _fit(
    wanted: Mapping[str, Tensor],
    read: Mapping[str, Tensor],
    path: Path,
    kind: str,
    unused: tuple[str, ...],
) -> Content:
    left_out = tuple(
        key for key in read if any(fnmatch.fnmatchcase(key, pattern) for pattern in unused)
    )
    tensors = {key: value for key, value in read.items() if key not in set(left_out)}
    require_fit(wanted, tensors, source=str(path), model=kind)
    return Content(tensors, left_out)


def _fit_trained(config: TrackerConfig, read: Mapping[str, Tensor], path: Path) -> Content:
    """Check what one of our own trainings left for a preset."""
    live = {key: value for key, value in read.items() if not key.startswith(_DEAD)}
    wanted = shapes_of(config.encoder, config.vmos)
    require_fit(wanted, live, source=str(path), model=f"the preset {config.preset}")
    return Content(read)


def _cast(value: Tensor, dtype: torch.dtype) -> Tensor:
    return value.to(dtype) if value.is_floating_point() else value
