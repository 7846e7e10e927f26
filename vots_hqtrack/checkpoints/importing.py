"""Import other projects' checkpoints: read as data, checked, written as our weights files.

A kind says which network a checkpoint is of. Every key must belong to that network, or be
named here as one that the package never uses.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

import vots_hqtrack
from vots_hqtrack.checkpoints.convert import DEAD_PREFIX, ENCODER_RULES, import_vmos, shapes_of
from vots_hqtrack.checkpoints.load import (
    DIGEST_KEY,
    digest_of,
    load_tensors,
    require_fit,
    save_tensors,
)
from vots_hqtrack.checkpoints.manifest import WeightsEntry, record, sha256_of
from vots_hqtrack.checkpoints.reader import read_checkpoint
from vots_hqtrack.checkpoints.registry import KNOWN, SAM2
from vots_hqtrack.checkpoints.rename import Rule, invert, rename
from vots_hqtrack.config import TrackerConfig
from vots_hqtrack.encoder.internimage import build_internimage_t
from vots_hqtrack.encoder.timm import build_timm_encoder
from vots_hqtrack.environment import downloads_from_environment
from vots_hqtrack.errors import ConfigError, WeightsError
from vots_hqtrack.io import hold_lock
from vots_hqtrack.presets import deaot_r50, vmos, vmos_r50
from vots_hqtrack.sam.models import UNUSED_ENCODER_PARTS, build_empty_sam
from vots_hqtrack.sam.weights import SAM_NAME

_SAM_UNUSED = tuple(f"image_encoder.{part}.*" for part in UNUSED_ENCODER_PARTS)
_RESNET_RULES = (Rule("**", "encoder.backbone.**"),)
_RESNET_UNUSED = ("layer4.*", "fc.*")
_COUNTERS = "*.num_batches_tracked"
"""Counters of batch normalisation; older files lack them, and frozen layers never read them."""
_INTERNIMAGE_UNUSED = (
    "levels.2.downsample.*",
    "conv_head.*",
    "head.*",
    "cls.*",
    "clip_projector.*",
    "avgpool.*",
)
"""The downsampling that VMOS does without, and the parts of the classifiers."""
_HALVED_AXES: tuple[tuple[str, tuple[int, ...]], ...] = (
    ("levels.3.blocks.*.dcn.offset.bias", ()),
    ("levels.3.blocks.*.dcn.mask.bias", ()),
    ("levels.3.blocks.*.dcn.offset.weight", (1,)),
    ("levels.3.blocks.*.dcn.mask.weight", (1,)),
    ("levels.3.blocks.*.dcn.*_proj.weight", (0, 1)),
    ("levels.3.blocks.*.mlp.fc?.weight", (0, 1)),
    ("levels.3.*", (0,)),
)
"""Axes of which every second element is kept, by key; the first pattern that fits counts.

The last stage has twice the width in ImageNet's network, and as many groups: parameters by group
and point stay whole.
"""
_TRAINED: Mapping[str, Callable[[], TrackerConfig]] = {
    "vmos-internimage-t": vmos,
    "vmos-r50": vmos_r50,
    "deaot-r50": deaot_r50,
}
"""Kinds that a training of ours may leave, each with a preset that uses it."""


@dataclass(frozen=True, slots=True)
class Content:
    """The tensors of a checkpoint that the package uses.

    Attributes:
        tensors: On the CPU, under the keys that the package's networks have.
        unused: Keys of the checkpoint that were left out.
    """

    tensors: Mapping[str, Tensor]
    unused: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Imported:
    """A weights file that was made of a checkpoint.

    Attributes:
        path: The file.
        sha256: Its hash.
        num_tensors: Number of its tensors.
        unused: Keys of the checkpoint that were left out, because the package never uses them.
    """

    path: Path
    sha256: str
    num_tensors: int
    unused: tuple[str, ...]


def import_weights(
    path: Path, kind: str, out: Path | None = None, *, half: bool = False, force: bool = False
) -> Imported:
    """Read another project's checkpoint and write it as a safetensors file of ours.

    Args:
        path: The checkpoint (a pickle, of which only data is read), or a safetensors file.
        kind: Name of its network in the registry.
        out: The file to write, or None for the user's cache, where presets find it by its kind.
        half: True stores float16, False float32.
        force: True replaces a file that is there.

    Returns:
        The new file.

    Raises:
        ConfigError: There is no such kind, or an extra that it needs is not installed.
        WeightsError: The checkpoint cannot be read, a key of it is missing, unknown or of another
            shape, or the new file is there already or cannot be written.
    """
    if kind not in KNOWN:
        raise ConfigError(f"unknown kind {kind!r}; wanted one of: {', '.join(KNOWN)}")
    target = out or cache_file(kind)
    if target.exists() and not force:
        raise WeightsError(f"{target} is there already; give --force to replace it")
    if target.exists() and path.exists() and target.samefile(path):
        raise WeightsError(f"{path} would be written over itself; give another --out")
    if out is not None:
        return write_imported(path, kind, out, half=half)
    if not path.is_file():
        read_checkpoint(path)  # raises before anything is made
    with exclusive_import(kind):
        return write_imported(path, kind, half=half)


def cache_file(kind: str) -> Path:
    """Return the file of a kind in the user's cache folder."""
    return downloads_from_environment().cache_path / f"{kind}.safetensors"


def exclusive_import(kind: str) -> AbstractContextManager[None]:
    """Lock a kind of weights in the user's cache folder.

    Raises:
        WeightsError: Another process fetches or imports them.
    """
    path = cache_file(kind)
    busy = f"another process is fetching or importing {path}; try again when it has finished"
    lock = path.with_name(f".{kind}.lock")
    return hold_lock(lock, busy=busy, remove=True, error=WeightsError)


def write_imported(
    path: Path, kind: str, out: Path | None = None, *, half: bool, origin: str = ""
) -> Imported:
    """Convert a checkpoint, in place of a file that is there.

    Args:
        path: The checkpoint.
        kind: Name of its network in the registry.
        out: The file to write, or None for the user's cache, which the caller has locked.
        half: True stores float16, False float32.
        origin: Address of the checkpoint; empty takes its file name.

    Raises:
        WeightsError: As for `import_weights`.
    """
    content = read_as(kind, path)
    source = f"{origin or path.name} (sha256 {sha256_of(path)})"
    dtype = torch.float16 if half else torch.float32
    tensors = {
        key: value.to(dtype) if value.is_floating_point() else value
        for key, value in content.tensors.items()
    }
    metadata = {
        "kind": kind,
        "origin": source,
        "licence": KNOWN[kind].licence,
        "written_by": f"vots_hqtrack {vots_hqtrack.__version__}",
        DIGEST_KEY: digest_of(tensors),
    }
    target = out or cache_file(kind)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WeightsError(f"cannot make the folder {target.parent}: {error}") from error
    save_tensors(target, tensors, metadata, dtype=dtype)
    sha256 = sha256_of(target)
    if out is None:
        description = KNOWN[kind].description
        entry = WeightsEntry(kind, target.name, sha256, source, metadata["licence"], description)
        record(target.parent, entry)
    return Imported(target, sha256, len(tensors), content.unused)


def read_as(kind: str, path: Path) -> Content:
    """Read a checkpoint and require that it is of a kind.

    Args:
        kind: Name in the registry.
        path: The file.

    Raises:
        WeightsError: The file cannot be read, or a key is missing, unknown or of another shape.
    """
    is_ours = path.suffix == ".safetensors"
    if kind == "vmos-internimage-t" and not is_ours:
        return Content(import_vmos(path))
    read = load_tensors(path, expected_sha256=None) if is_ours else read_checkpoint(path)
    if kind in _TRAINED:
        config = _TRAINED[kind]()
        live = {key: value for key, value in read.items() if not key.startswith(DEAD_PREFIX)}
        wanted = shapes_of(config.encoder, config.vmos)
        require_fit(wanted, live, source=str(path), model=f"the preset {config.preset}")
        return Content(read)
    if kind == "resnet50":
        return resnet_from_imagenet(read, source=str(path))
    if kind == "internimage-t-imagenet":
        return internimage_from_imagenet(read, source=str(path))
    if kind.startswith(SAM2):
        from vots_hqtrack.sam.sam2 import VIDEO_PARTS, sam2_shapes

        wanted, unused = sam2_shapes(kind.removeprefix(SAM2)), tuple(VIDEO_PARTS)
    elif found := SAM_NAME.fullmatch(kind):
        model = found["model"].replace("-", "_")
        wanted, unused = sam_shapes(model, hq=bool(found["hq"])), _SAM_UNUSED
    else:
        raise ConfigError(f"no checkpoint can be read as {kind!r}")
    content = leave_out(read, unused)
    require_fit(wanted, content.tensors, source=str(path), model=kind)
    return content


def sam_shapes(model: str, *, hq: bool) -> dict[str, Tensor]:
    """Return empty tensors with the keys and shapes of a SAM network.

    Args:
        model: The package's name of the network.
        hq: True for HQ-SAM's mask decoder.
    """
    return dict(build_empty_sam(model, hq=hq).state_dict())


def leave_out(tensors: Mapping[str, Tensor], unused: tuple[str, ...]) -> Content:
    """Leave out the tensors that fit one of some shell-style patterns."""
    left_out = dict.fromkeys(
        key for key in tensors if any(fnmatch.fnmatchcase(key, pattern) for pattern in unused)
    )
    kept = {key: value for key, value in tensors.items() if key not in left_out}
    return Content(kept, tuple(left_out))


def internimage_from_imagenet(tensors: Mapping[str, Tensor], *, source: str) -> Content:
    """Convert the classifier InternImage-T to VMOS's encoder.

    Args:
        tensors: The classifier's, by its own keys.
        source: Name of the tensors in errors, such as the file's path.

    Raises:
        WeightsError: A key is missing, unknown or of another shape.
    """
    with torch.device("meta"):
        shapes = build_internimage_t().state_dict()
    ours = {f"encoder.{key}": value for key, value in shapes.items()}
    theirs = rename(ours, invert(ENCODER_RULES), source="the encoder")
    wanted = {}
    for name, value in theirs.items():
        key = name.removeprefix("encoder.")
        axes = axes_to_halve(key)
        sides = [2 * side if axis in axes else side for axis, side in enumerate(value.shape)]
        wanted[key] = value.new_empty(sides)
    content = leave_out(tensors, _INTERNIMAGE_UNUSED)
    require_fit(wanted, content.tensors, source=source, model="InternImage-T of ImageNet")
    halved = {}
    for key, value in content.tensors.items():
        axes = axes_to_halve(key)
        steps = (slice(None, None, 2 if axis in axes else 1) for axis in range(value.ndim))
        halved[f"encoder.{key}"] = value[tuple(steps)]
    return Content(rename(halved, ENCODER_RULES, source=source), content.unused)


def resnet_from_imagenet(tensors: Mapping[str, Tensor], *, source: str) -> Content:
    """Convert the classifier ResNet-50 of torchvision or timm to VMOS's encoder.

    Args:
        tensors: The classifier's, by its own keys.
        source: Name of the tensors in errors, such as the file's path.

    Raises:
        WeightsError: A key is missing, unknown or of another shape.
    """
    with torch.device("meta"):
        wanted = build_timm_encoder("resnet50").backbone.state_dict()
    content = leave_out(tensors, _RESNET_UNUSED)
    used = content.tensors
    require_fit(wanted, used, source=source, model="ResNet-50", allow_missing=(_COUNTERS,))
    counters = {key: torch.zeros((), dtype=torch.int64) for key in wanted if key not in used}
    renamed = rename({**used, **counters}, _RESNET_RULES, source=source)
    return Content(renamed, content.unused)


def axes_to_halve(key: str) -> tuple[int, ...]:
    """Return the axes of an ImageNet tensor of which VMOS keeps every second element.

    Example:
        >>> axes_to_halve("levels.3.blocks.0.dcn.offset.weight")
        (1,)
        >>> axes_to_halve("levels.2.blocks.0.dcn.offset.weight")
        ()
    """
    return next((axes for pattern, axes in _HALVED_AXES if fnmatch.fnmatchcase(key, pattern)), ())
