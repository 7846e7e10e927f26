"""Compact state of a training: a small file from which a later session goes on.

It holds the raw weights in float16 and AdamW's two moments in eight bits each; the averaged weights
are beside it, in the file that the tracker reads. A checkpoint, which goes on exactly, has four
times the size.

Moments are stored as float8 with 3 bits of mantissa (e4m3), each tensor with a power of 2 as its
own scale. Of the second moments the square roots are stored, which is what a step divides by. Their
precision matters more than their range: e4m3 rounds by 6 % at most where the wider e5m2 rounds by
12 %, and its range of 2**18 holds all but roots so small that they are raised to the smallest
number above 0. A root that is too large only shortens steps; one rounded to 0 would make them jump.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from vots_hqtrack.checkpoints.load import load_tensors, require_fit, save_tensors
from vots_hqtrack.errors import WeightsError
from vots_hqtrack.training.session import Counters

KIND = "training state"
AVERAGES = ("last.safetensors", "last.fp16.safetensors")
"""Names under which averaged weights are beside a state."""
PARAMETER, MEAN, ROOT = "parameter.", "mean.", "root."
MEAN_EXPONENTS, ROOT_EXPONENTS = "mean_exponents", "root_exponents"
"""Exponents of the scales, in the order of the sorted names of parameters."""
FLOAT8 = torch.float8_e4m3fn
MAX, MIN = 448.0, 2.0**-9
"""Range of the float8 numbers above 0."""
TINIEST_EXPONENT = -126
"""Exponent of the smallest scale: that of the smallest normal float32."""


@dataclass(frozen=True, slots=True)
class TrainingState:
    """Content of a state file.

    Attributes:
        parameters: Raw weights by name, float16.
        means: AdamW's first moments by name, float32; empty before the first step.
        squares: Its second moments, likewise.
        optimizer_steps: Steps that the moments have been averaged for.
        counters: Totals of all sessions.
    """

    parameters: Mapping[str, Tensor]
    means: Mapping[str, Tensor]
    squares: Mapping[str, Tensor]
    optimizer_steps: int
    counters: Counters


def save_state(
    path: Path,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    counters: Counters,
    facts: Mapping[str, str],
) -> None:
    """Write the state of a training, whole or not at all.

    Args:
        path: The file; its folder must exist.
        network: Its parameters that learn are written.
        optimizer: AdamW over those parameters.
        counters: Totals of all sessions.
        facts: More for the file's header.

    Raises:
        WeightsError: A weight does not fit float16, some parameters have moments and others not, or
            the file cannot be written.
    """
    learning = {name: value for name, value in network.named_parameters() if value.requires_grad}
    names = sorted(learning)
    tensors: dict[str, Tensor] = {PARAMETER + name: learning[name] for name in names}
    states = {name: optimizer.state.get(learning[name], {}) for name in names}
    steps = 0
    lacking = [name for name, state in states.items() if not state]
    if lacking and len(lacking) < len(names):
        raise WeightsError(f"AdamW has no moments of {lacking[0]}, which never had a gradient")
    if not lacking:
        steps = int(states[names[0]]["step"])
        for start, exponents, moments in (
            (MEAN, MEAN_EXPONENTS, [states[name]["exp_avg"] for name in names]),
            (ROOT, ROOT_EXPONENTS, [states[name]["exp_avg_sq"].sqrt() for name in names]),
        ):
            packed = [_to_float8(moment.cpu(), is_root=start == ROOT) for moment in moments]
            tensors |= {start + name: bits for name, (bits, _) in zip(names, packed, strict=True)}
            scales = [exponent for _, exponent in packed]
            tensors[exponents] = torch.tensor(scales, dtype=torch.int32)
    header = {**facts, **counters.to_strings(), "kind": KIND, "optimizer_steps": str(steps)}
    save_tensors(path, tensors, header)


def load_state(path: Path) -> TrainingState:
    """Read what :func:`save_state` wrote.

    Raises:
        WeightsError: The file is missing, damaged, or not a training state.
    """
    tensors = load_tensors(path, expected_sha256=None)
    try:
        with safe_open(path, framework="pt") as file:
            header: dict[str, str] = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"cannot read the state {path}: {error}") from error
    if header.get("kind") != KIND:
        raise WeightsError(
            f"{path} is not a training state: wanted the file state.safetensors of a run, got "
            f"one of kind {header.get('kind', 'unknown')!r}"
        )
    parameters = _part(tensors, PARAMETER)
    names = sorted(parameters)
    means, squares = {}, {}
    steps = int(header.get("optimizer_steps", "0"))
    if steps:
        try:
            for index, name in enumerate(names):
                exponents = (tensors[MEAN_EXPONENTS][index], tensors[ROOT_EXPONENTS][index])
                means[name] = _from_float8(tensors[MEAN + name], int(exponents[0]))
                squares[name] = _from_float8(tensors[ROOT + name], int(exponents[1])).square()
        except (KeyError, IndexError, RuntimeError) as error:
            raise WeightsError(f"the state {path} is damaged: {error}") from error
    counters = Counters.from_strings(header, str(path))
    return TrainingState(parameters, means, squares, steps, counters)


def find_average(state: Path) -> Path:
    """Find the averaged weights beside a state file.

    Raises:
        WeightsError: There are none.
    """
    for name in AVERAGES:
        if (state.parent / name).is_file():
            return state.parent / name
    raise WeightsError(
        f"wanted the averaged weights beside {state}, {' or '.join(AVERAGES)}, found none; say "
        "where they are by --from-average"
    )


@torch.no_grad()
def restore_state(
    state: TrainingState, network: nn.Module, optimizer: torch.optim.Optimizer, source: str
) -> None:
    """Put a state into a network and its optimiser.

    Args:
        state: From :func:`load_state`.
        network: Its parameters that learn take the state's.
        optimizer: AdamW over those parameters.
        source: Name of the state in errors.

    Raises:
        WeightsError: The state is one of another network; nothing is changed then.
    """
    learning = {name: value for name, value in network.named_parameters() if value.requires_grad}
    require_fit(learning, state.parameters, source=source, model="the network")
    for moments in (state.means, state.squares):
        if moments:
            require_fit(learning, moments, source=source, model="the network")
    is_fused = any(group.get("fused") for group in optimizer.param_groups)
    for name, parameter in learning.items():
        parameter.copy_(state.parameters[name])
        if state.means:
            # The fused optimiser counts on the device, the other one on the host.
            step = torch.tensor(float(state.optimizer_steps))
            optimizer.state[parameter] = {
                "step": step.to(parameter.device) if is_fused else step,
                "exp_avg": torch.empty_like(parameter).copy_(state.means[name]),
                "exp_avg_sq": torch.empty_like(parameter).copy_(state.squares[name]),
            }


def _to_float8(moment: Tensor, *, is_root: bool) -> tuple[Tensor, int]:
    """Round to float8, seen as uint8, and the exponent of the scale that was divided out."""
    largest = float(moment.abs().max()) if moment.numel() else 0.0
    exponent = TINIEST_EXPONENT
    if largest > 0:
        exponent = max(math.frexp(largest / MAX)[1], TINIEST_EXPONENT)
    scaled = (moment.float() * 2.0**-exponent).clamp(-MAX, MAX)
    if is_root:
        scaled = torch.where(moment > 0, scaled.clamp(min=MIN), scaled)
    return scaled.to(FLOAT8).view(torch.uint8), exponent


def _from_float8(packed: Tensor, exponent: int) -> Tensor:
    return packed.view(FLOAT8).float() * 2.0**exponent


def _part(tensors: Mapping[str, Tensor], start: str) -> dict[str, Tensor]:
    return {key[len(start) :]: value for key, value in tensors.items() if key.startswith(start)}
