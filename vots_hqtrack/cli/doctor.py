"""``hqtrack doctor``: what is installed, which devices there are, which presets have weights."""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Mapping
from typing import Any

import typer

from vots_hqtrack.cli.console import print_json, print_rows
from vots_hqtrack.cli.options import JsonOption
from vots_hqtrack.errors import OpsError, WeightsError
from vots_hqtrack.presets import PRESETS
from vots_hqtrack.versions import installed_versions

_IMPORTS = ("torch", "torchvision", "cv2", "segment_anything_hq", "timm", "trax")
"""Modules that tracking needs; packages that are installed need not fit together."""
_WHOLE, _ABSENT = "ok", "not here"
"""How verdicts on weights begin."""


def doctor(as_json: JsonOption = False) -> None:
    """Show versions, devices, weights and presets; exit with 3 if weights are damaged or lost."""
    versions, weights = installed_versions(), check_weights()
    imports = {name: _try_import(name) for name in _IMPORTS}
    presets = check_presets(weights)
    found: dict[str, Any] = {
        "versions": versions,
        "imports": imports,
        "devices": find_devices(),
        "operations": find_backends(),
        "weights": weights,
        "presets": presets,
        "to do": advise(imports, weights, presets),
    }
    if as_json:
        print_json(found)
    else:
        print_rows(_rows(found))
    if any(not verdict.startswith((_WHOLE, _ABSENT)) for verdict in weights.values()):
        raise typer.Exit(WeightsError.exit_code)


def advise(
    imports: Mapping[str, str], weights: Mapping[str, str], presets: Mapping[str, str]
) -> list[str]:
    """Say what to do next: mend what is broken, or begin.

    Args:
        imports: Result of each import by module.
        weights: Verdicts by name, from :func:`check_weights`.
        presets: Verdicts by preset, from :func:`check_presets`.
    """
    lines = [_how_to_mend(name, result) for name, result in imports.items() if result != "ok"]
    lines += [
        f"restore the weights {name}: install the package again, git checkout -- weights, or "
        f"hqtrack weights fetch {name} --force"
        for name, verdict in weights.items()
        if not verdict.startswith((_WHOLE, _ABSENT))
    ]
    if any(verdict != "ready" for verdict in presets.values()):
        lines.append(
            "for a preset that lacks weights: hqtrack weights list NAME says how to get them"
        )
    if presets.get("lite") == "ready":
        lines.append("to begin: hqtrack track VIDEO --box X,Y,WIDTH,HEIGHT --out DIR")
    return lines


def _how_to_mend(name: str, result: str) -> str:
    """Say how a module can be imported again.

    opencv-python and opencv-python-headless write the same folder: who takes one away takes both.
    """
    if name != "cv2":
        return f"install the packages again, so that {name} can be imported"
    why = ", which needs no libGL" if "libGL" in result else ""
    return f"for cv2: pip install --force-reinstall --no-deps opencv-python-headless{why}"


def _rows(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the lines of a screen: what is alike in one line, faults in lines of their own."""
    versions: Mapping[str, str | None] = found["versions"]
    rows = [("versions", ", ".join(f"{key} {text}" for key, text in versions.items() if text))]
    if absent := [name for name, text in versions.items() if not text]:
        rows.append(("", f"not installed: {', '.join(absent)}"))
    rows += _grouped("imports", found["imports"], {"ok": "ok"})
    for title in ("devices", "operations"):
        rows += [(title, f"{name}: {text}") for name, text in found[title].items()]
    rows += _grouped("weights", found["weights"], {_WHOLE: "whole", _ABSENT: "not here"})
    rows += _grouped("presets", found["presets"], {"ready": "ready"})
    rows += [("to do", line) for line in found["to do"]]
    return [
        ("" if index and rows[index - 1][0] == title else title, text)
        for index, (title, text) in enumerate(rows)
    ]


def _grouped(
    title: str, verdicts: Mapping[str, str], groups: Mapping[str, str]
) -> list[tuple[str, str]]:
    """Put names whose verdicts begin alike into one row, and each of the others into its own."""
    rows = []
    for start, words in groups.items():
        if names := [name for name, verdict in verdicts.items() if verdict.startswith(start)]:
            rows.append((title, f"{words}: {', '.join(names)}"))
    others = {name: text for name, text in verdicts.items() if not text.startswith(tuple(groups))}
    return [*rows, *((title, f"{name}: {text}") for name, text in others.items())]


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
    return {name: f"{text}, {_describe_format(name)}" for name, text in found.items()}


def find_backends() -> dict[str, str]:
    """Return what computes the heavy operations by kind of device; empty without PyTorch."""
    try:
        from vots_hqtrack.ops import resolve_backend
    except (ImportError, OSError):
        return {}
    names = {"torch": "PyTorch", "triton": "Triton's kernels"}
    try:
        return {"cpu": names["torch"], "cuda": names[resolve_backend()]}
    except OpsError as error:
        return {"cpu": names["torch"], "cuda": str(error)}


def check_weights() -> dict[str, str]:
    """Return a verdict on all weights that presets read.

    It begins with ``ok`` for those that are whole, and with ``not here`` for those that the package
    does not carry and nobody has fetched or imported.
    """
    names = [name for make in PRESETS.values() for name in make().weights_needed()]
    return {name: _check_weights(name) for name in dict.fromkeys(names)}


def check_presets(weights: Mapping[str, str]) -> dict[str, str]:
    """Tell of each preset whether it can be used, and what it lacks.

    Args:
        weights: State by name, from :func:`check_weights`.
    """
    verdicts = {}
    for preset, make in PRESETS.items():
        names = make().weights_needed()
        absent = [name for name in names if weights[name].startswith(_ABSENT)]
        broken = [name for name in names if not weights[name].startswith((_WHOLE, _ABSENT))]
        faults = [f"lacks {name}" for name in absent] + [f"{name} is unusable" for name in broken]
        verdicts[preset] = "; ".join(faults) or "ready"
    return verdicts


def _check_weights(name: str) -> str:
    from vots_hqtrack.checkpoints.manifest import cached_weights, locate, verify
    from vots_hqtrack.checkpoints.registry import KNOWN

    try:
        if name in KNOWN and name not in cached_weights():
            return f"{_ABSENT}; {KNOWN[name].how_to_get()}"
        weights, verdict = locate(name), verify(name)
    except WeightsError as error:
        return str(error)
    if verdict.state != "ok":
        return f"damaged: {weights.path}: {verdict.reason}"
    entry, size = weights.entry, f"{weights.path.stat().st_size / 1e6:.1f} MB"
    return f"{_WHOLE}, sha256 {entry.sha256[:12]}, {size}, {weights.path}\n{entry.licence}"


def _describe_format(device: str) -> str:
    import torch

    from vots_hqtrack.devices import pick_dtype
    from vots_hqtrack.processor import bfloat16_ratio, names_bfloat16

    dtype = str(pick_dtype("auto", torch.device(device))).removeprefix("torch.")
    read = getattr(torch.backends.cpu, "get_cpu_capability", lambda: "unknown instructions")
    if device != "cpu":
        return f"{dtype} by default"
    reason = "no instructions for bfloat16"
    if names_bfloat16():
        reason = f"bfloat16 takes {bfloat16_ratio():.2f} of float32's time, measured"
    return f"{read()}, {dtype} by default: {reason}"


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
