"""What depends on the step number: learning rates, loss weights, the moving average's decay."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable

from torch import nn

from vots_hqtrack.training.recipe import ClipOptions, LossOptions, OptimizerOptions

ENCODER, BANK, REST = "encoder", "bank", "rest"
"""Roles of parameters, by which their learning rates differ."""
IDENTITY_BANK = ("vmos.identity.bank_s16.*", "vmos.identity.bank_s8.*")


def learning_rate(options: OptimizerOptions, step: int, steps: int) -> float:
    """Warm up linearly from the least rate, then fall as a power of the steps left.

    Example:
        >>> options = OptimizerOptions(learning_rate=1.0, min_learning_rate=0.0, power=1.0)
        >>> [round(learning_rate(options, step, 100), 3) for step in (0, 5, 100)]
        [0.0, 1.0, 0.0]
    """
    low, high = options.min_learning_rate, options.learning_rate
    warm_up = max(options.warm_up * steps, 1)
    if step < warm_up:
        return low + (high - low) * step / warm_up
    left = 1 - (step - warm_up) / max(steps - warm_up, 1)
    return low + (high - low) * float(max(left, 0.0) ** options.power)


def role_rates(
    options: OptimizerOptions, step: int, steps: int, *, own_labels: bool
) -> dict[str, float]:
    """Return the learning rate of each role.

    Args:
        options: The schedule.
        step: Number of the step.
        steps: Of the whole run.
        own_labels: VMOS's own labels go to the memory, so that the identity bank rests.
    """
    rate, low = learning_rate(options, step, steps), options.min_learning_rate
    return {
        ENCODER: low + (rate - low) * options.encoder_factor,
        BANK: 0.0 if own_labels else rate,
        REST: rate,
    }


def uses_own_labels(options: ClipOptions, step: int, steps: int) -> bool:
    """Tell whether VMOS's own labels go to the memory in a step."""
    return options.own_labels_from < 1 and step >= options.own_labels_from * steps


def auxiliary_weight(options: LossOptions, step: int, steps: int) -> float:
    """Weight of the reference frame's loss: falls from 1 to 0.

    Example:
        >>> [auxiliary_weight(LossOptions(), step, 100) for step in (0, 5, 50)]
        [1.0, 0.5, 0.0]
    """
    if not options.auxiliary_until:
        return 0.0
    return max(1 - step / (options.auxiliary_until * steps), 0.0)


def average_decay(options: OptimizerOptions, step: int, steps: int) -> float:
    """Return how much of the moving average is kept in a step.

    Example:
        >>> average_decay(OptimizerOptions(), 0, 1000)
        0.1
        >>> average_decay(OptimizerOptions(), 999, 1000)
        0.99
    """
    limit = 1 - 1 / max(options.average_share * steps, 1)
    return min(limit, (1 + step) / (10 + step)) if options.average_warm_up else limit


def parameter_groups(network: nn.Module, options: OptimizerOptions) -> list[dict[str, object]]:
    """Sort the learning parameters by role and by whether their weights decay.

    Args:
        network: With children ``encoder`` and ``vmos``.
        options: Weight decay and its exemptions.

    Returns:
        Groups for the optimiser, each with its ``role``.
    """
    groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            role = _role(name)
            decays = not _is_exempt(name, parameter, options.no_decay)
            groups.setdefault((role, decays), []).append(parameter)
    return [
        {"params": params, "weight_decay": options.weight_decay * decays, "role": role}
        for (role, decays), params in groups.items()
    ]


def _role(name: str) -> str:
    if name.startswith("encoder."):
        return ENCODER
    return BANK if any(fnmatch.fnmatchcase(name, bank) for bank in IDENTITY_BANK) else REST


def _is_exempt(name: str, parameter: nn.Parameter, patterns: Iterable[str]) -> bool:
    is_bias = name.endswith(".bias")
    is_vector = parameter.ndim <= 1 and not name.startswith("encoder.")
    return is_bias or is_vector or any(fnmatch.fnmatchcase(name, each) for each in patterns)
