"""What depends on how far a run is: learning rates, loss weights, the moving average's decay.

Steps or the clock drive a run; both say so by a number from 0 to 1.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from vots_hqtrack.training.losses import LossWeights, bootstrap_fraction
from vots_hqtrack.training.recipe import ClipOptions, LossOptions, OptimizerOptions

ENCODER, BANK, REST = "encoder", "bank", "rest"
"""Roles of parameters, by which their learning rates differ."""
IDENTITY_BANK = ("vmos.identity.bank_s16.*", "vmos.identity.bank_s8.*")


@dataclass(frozen=True, slots=True)
class RunProgress:
    """How far a run is.

    Attributes:
        fraction: From 0 at the start to 1 at the end, of the steps or of the time.
        step: Optimiser steps made in this session.
        step_fraction: How far one step brings the run; 0 where the clock decides.
        earlier_steps: Steps of the sessions that this one goes on from.
    """

    fraction: float
    step: int
    step_fraction: float = 0.0
    earlier_steps: int = 0


def progress_of_steps(step: int, steps: int, earlier_steps: int = 0) -> RunProgress:
    """Return the progress of a run whose steps are counted.

    Args:
        step: Steps made.
        steps: Of the whole run.
        earlier_steps: Steps of the sessions that this one goes on from.
    """
    return RunProgress(step / steps, step, 1 / steps, earlier_steps)


def learning_rate(options: OptimizerOptions, progress: RunProgress) -> float:
    """Warm up linearly from the least rate, hold, then fall as a power of what is left.

    Example:
        >>> options = OptimizerOptions(learning_rate=1.0, min_learning_rate=0.0, power=1.0)
        >>> [round(learning_rate(options, progress_of_steps(n, 100)), 3) for n in (0, 5, 100)]
        [0.0, 1.0, 0.0]
    """
    low, high = options.min_learning_rate, options.learning_rate
    if options.warm_up_steps:
        warmth, fall_from = min(progress.step / options.warm_up_steps, 1.0), options.hold
    else:
        # The first step always has the least rate, or moments of one step would decide how far all
        # parameters go.
        warm_up = max(options.warm_up, progress.step_fraction)
        warmth = min(progress.fraction / warm_up, 1.0) if warm_up else 1.0
        fall_from = warm_up + options.hold
    left = 1.0
    if progress.fraction > fall_from:
        left = max(1 - (progress.fraction - fall_from) / (1 - fall_from), 0.0)
    return low + (high - low) * warmth * float(left**options.power)


def role_rates(
    options: OptimizerOptions, progress: RunProgress, *, own_labels: bool
) -> dict[str, float]:
    """Return the learning rate of each role.

    Args:
        options: The schedule.
        progress: Of the run.
        own_labels: VMOS's own labels go to the memory, so that the identity bank rests.
    """
    rate, low = learning_rate(options, progress), options.min_learning_rate
    return {
        ENCODER: low + (rate - low) * options.encoder_factor,
        BANK: 0.0 if own_labels else rate,
        REST: rate,
    }


def uses_own_labels(options: ClipOptions, progress: float) -> bool:
    """Tell whether VMOS's own labels go to the memory at a progress from 0 to 1."""
    return options.own_labels_from < 1 and progress >= options.own_labels_from


def auxiliary_weight(options: LossOptions, progress: float) -> float:
    """Weight of the reference frame's loss: falls from 1 to 0.

    Example:
        >>> [auxiliary_weight(LossOptions(), progress) for progress in (0, 0.05, 0.5)]
        [1.0, 0.5, 0.0]
    """
    if not options.auxiliary_until:
        return 0.0
    return max(1 - progress / options.auxiliary_until, 0.0)


def loss_weights(options: LossOptions, progress: float) -> LossWeights:
    """Return how the parts of the loss count at a progress from 0 to 1."""
    auxiliary = auxiliary_weight(options, progress)
    return LossWeights(
        cross_entropy=options.cross_entropy,
        jaccard=options.jaccard,
        fraction=bootstrap_fraction(
            progress, share=options.hardest_share, until=options.hardest_until
        ),
        auxiliary=auxiliary,
        with_reference=auxiliary > 0,
    )


def average_decay(options: OptimizerOptions, progress: RunProgress) -> float:
    """Return how much of the moving average is kept in a step.

    Example:
        >>> average_decay(OptimizerOptions(), progress_of_steps(0, 1000))
        0.1
        >>> average_decay(OptimizerOptions(average_steps=100), RunProgress(0.5, step=5000))
        0.99
    """
    reach = float(options.average_steps)
    if not options.average_steps:
        reach = options.average_share / progress.step_fraction if progress.step_fraction else 1.0
    limit = 1 - 1 / max(reach, 1)
    step = progress.earlier_steps + progress.step
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
