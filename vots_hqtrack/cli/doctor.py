"""``hqtrack doctor``: what is installed, which devices there are, are the weights whole."""

from __future__ import annotations

import importlib
import os
import warnings

import typer
from rich.markup import escape
from rich.table import Table

from vots_hqtrack.cli.console import out
from vots_hqtrack.cli.versions import installed_versions
from vots_hqtrack.errors import WeightsError
from vots_hqtrack.presets import PRESETS

_IMPORTS = ("torch", "torchvision", "cv2", "segment_anything_hq", "timm", "trax")
"""Modules that tracking needs; packages that are installed need not fit together."""


def doctor() -> None:
    """Show versions, devices and weights; exit with 3 if any are damaged or lost."""
    _print_table("versions", {name: found or "-" for name, found in installed_versions().items()})
    _print_table("imports", {name: _try_import(name) for name in _IMPORTS})
    _print_table("devices", find_devices())
    weights = check_weights()
    _print_table("weights", weights)
    if any(not verdict.startswith(("ok", "not here")) for verdict in weights.values()):
        raise typer.Exit(WeightsError.exit_code)


def find_devices() -> dict[str, str]:
    """Return the devices that PyTorch can use, with a word about each; empty without PyTorch."""
    try:
        import torch
    except (ImportError, OSError):
        return {}
    found = {"cpu": f"{torch.get_num_threads()} threads of {os.cpu_count()} cores"}
    for index in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(index)
        found[f"cuda:{index}"] = f"{facts.name}, {facts.total_memory / 2**30:.1f} GiB"
    if torch.backends.mps.is_available():
        found["mps"] = "Apple graphics processor"
    return found


def check_weights() -> dict[str, str]:
    """Return a verdict on all weights that presets name.

    It begins with ``ok`` for those that are whole, and with ``not here`` for those that the package
    does not carry and nobody has fetched or imported.
    """
    configs = [make() for make in PRESETS.values()]
    names = [name for config in configs for name in (config.weights, config.refiner.weights)]
    return {name: _check_weights(name) for name in dict.fromkeys(names)}


def _check_weights(name: str) -> str:
    from vots_hqtrack.checkpoints.catalogue import KNOWN
    from vots_hqtrack.checkpoints.manifest import cached_weights, locate, sha256_of

    try:
        if name in KNOWN and name not in cached_weights():
            return f"not here; {KNOWN[name].how_to_get()}"
        weights = locate(name)
        found = sha256_of(weights.path)
    except WeightsError as error:
        return str(error)
    if found != weights.entry.sha256:
        wanted = weights.entry.sha256
        return f"damaged: {weights.path} has the sha256 {found}, wanted {wanted}"
    size = f"{weights.path.stat().st_size / 1e6:.1f} MB"
    return f"ok, sha256 {found[:12]}, {size}, {weights.path}\n{weights.entry.licence}"


def _try_import(name: str) -> str:
    try:
        with warnings.catch_warnings():
            # Only whether they can be imported counts here; their warnings say nothing to users.
            warnings.simplefilter("ignore")
            importlib.import_module(name)
    except (ImportError, OSError, RuntimeError) as error:
        # torchvision raises RuntimeError beside a torch that it was not built for.
        return f"fails: {error}"
    return "ok"


def _print_table(title: str, rows: dict[str, str]) -> None:
    table = Table("name", "found", title=title, title_justify="left", show_header=False)
    table.columns[0].no_wrap = True
    for name, text in rows.items():
        table.add_row(escape(name), escape(text))
    out.print(table)
