"""Training data in the layouts in which others publish it.

A new layout is a file with one class, a `ClipDataset`, and a line in `KINDS`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from vots_hqtrack.errors import ConfigError, InputError
from vots_hqtrack.training.adapters.burst import Burst
from vots_hqtrack.training.adapters.coco import CocoInstances
from vots_hqtrack.training.adapters.mots import Mots
from vots_hqtrack.training.adapters.ovis import Ovis
from vots_hqtrack.training.adapters.packs.reader import LAYOUTS
from vots_hqtrack.training.adapters.photos import StaticInstances
from vots_hqtrack.training.adapters.vipseg import VIPSeg
from vots_hqtrack.training.adapters.vos import Davis, YouTubeVOS
from vots_hqtrack.training.datasets import ClipDataset

KINDS: Mapping[str, Callable[..., ClipDataset]] = MappingProxyType(
    {
        "burst": Burst,
        "coco": CocoInstances,
        "davis": Davis,
        "folder": StaticInstances,
        "mots": Mots,
        "ovis": Ovis,
        "vipseg": VIPSeg,
        "youtube-vos": YouTubeVOS,
    }
)
"""Layouts by the names that configuration files use."""


def open_dataset(kind: str, root: Path, **options: object) -> ClipDataset:
    """Open a data set: its index is read now, its pixels when a clip is sampled.

    Args:
        kind: Its layout, one of `KINDS`.
        root: Its folder; for the layouts that are packed also ``PACKS/NAME``, where ``PACKS`` holds
            parts of a pack.
        options: Keyword arguments of the layout's class, such as ``split="train"``.

    Raises:
        ConfigError: The layout or option is unknown, or a value is of another type.
        InputError: The folder does not have that layout.
    """
    if kind not in KINDS:
        raise ConfigError(f"the kind of a data set must be one of {', '.join(KINDS)}, got {kind!r}")
    parameters = dict(list(inspect.signature(KINDS[kind]).parameters.items())[1:])
    for name, value in options.items():
        if name not in parameters:
            has = f"has the options {', '.join(parameters)}" if parameters else "has no options"
            raise ConfigError(f"a data set of kind {kind} {has}, got {name!r}")
        _check_option(kind, name, value, parameters[name].default)
    if kind not in LAYOUTS and not root.is_dir():
        hint = f"(packs hold {' and '.join(LAYOUTS)} alone)"
        raise InputError(f"a {kind} data set needs the folder {root}, found none {hint}")
    return KINDS[kind](root, **options)


def _check_option(kind: str, name: str, value: object, default: object) -> None:
    """Refuse a value of another type than the option's default has."""
    if isinstance(default, tuple):
        ok = isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)
        wanted = "a list of strings"
    elif isinstance(default, bool):
        ok, wanted = isinstance(value, bool), "true or false"
    elif isinstance(default, int):
        ok, wanted = isinstance(value, int) and not isinstance(value, bool), "a whole number"
    else:
        ok, wanted = isinstance(value, str), "a string"
    if not ok:
        raise ConfigError(f"the option {name} of a {kind} data set must be {wanted}, got {value!r}")
