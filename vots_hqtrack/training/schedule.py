"""Schedules of a run: learning rates, options of a step, the moving average's decay.

Steps or the clock drive a run; its progress is a number from 0 to 1.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from vots_hqtrack.training.losses import StepOptions
from vots_hqtrack.training.recipe import ClipOptions, LossOptions, OptimizerOptions

ENCODER, BANK, REST = "encoder", "bank", "rest"
"""Roles of parameters, by which their learning rates differ."""
IDENTITY_BANK = ("vmos.identity.bank_s16.*", "vmos.identity.bank_s8.*")


@dataclass(frozen=True, slots=True)
class RunProgress:
    """Progress of a run.

    Attributes:
        fraction: From 0 at the start to 1 at the end, of the steps or of the time.
        step: Optimiser steps made in this session.
        step_fraction: Progress that a step makes; 0 where the clock decides.
        earlier_steps: Steps of the sessions that this one goes on from.
    """

    fraction: float
    step: int
    step_fraction: float = 0.0
    earlier_steps: int = 0


def progress_of_steps(step: int, steps: int, earlier_steps: int = 0) -> RunProgress:
    """Return the progress after ``step`` steps of a run of ``steps``."""
    return RunProgress(step / steps, step, 1 / steps, earlier_steps)


def learning_rate(options: OptimizerOptions, progress: RunProgress) -> float:
    """Warm up linearly from the minimum, hold, then fall to it.

    Example:
        >>> options = OptimizerOptions(learning_rate=1.0, min_learning_rate=0.0, power=1.0)
        >>> [round(learning_rate(options, progress_of_steps(n, 100)), 3) for n in (0, 5, 100)]
        [0.0, 1.0, 0.0]
    """
    low, high = options.min_learning_rate, options.learning_rate
    if options.warm_up_steps:
        warmth, fall_from = min(progress.step / options.warm_up_steps, 1.0), options.hold
    else:
        # The first step always has the minimum rate: moments of a single step say little.
        warm_up = max(options.warm_up, progress.step_fraction)
        warmth = min(progress.fraction / warm_up, 1.0) if warm_up else 1.0
        fall_from = warm_up + options.hold
    left = 1.0
    if progress.fraction > fall_from:
        left = max(1 - (progress.fraction - fall_from) / (1 - fall_from), 0.0)
    fall = left**options.power
    if options.decay == "cosine":
        fall = 0.5 * (1 - math.cos(math.pi * left))
    return low + (high - low) * warmth * float(fall)


def role_rates(
    options: OptimizerOptions, progress: RunProgress, *, predicted_masks: bool
) -> dict[str, float]:
    """Return the learning rate of each role.

    Args:
        options: The schedule.
        progress: Progress of the run.
        predicted_masks: Predicted masks go to the memory; the identity bank then does not learn.
    """
    rate, low = learning_rate(options, progress), options.min_learning_rate
    return {
        ENCODER: low + (rate - low) * options.encoder_factor,
        BANK: 0.0 if predicted_masks else rate,
        REST: rate,
    }


def step_options(loss: LossOptions, clip: ClipOptions, progress: float) -> StepOptions:
    """Return the options of a step at a progress from 0 to 1.

    The fraction of hard pixels falls from 1, the weight of the reference frame from 1 to 0.

    Example:
        >>> done = [step_options(LossOptions(), ClipOptions(), part) for part in (0, 0.05, 0.25, 1)]
        >>> [(step.fraction, step.auxiliary) for step in done]
        [(1.0, 1.0), (0.915, 0.5), (0.575, 0.0), (0.15, 0.0)]
    """
    fallen = min(1.0, progress / loss.hardest_until) if loss.hardest_until else 1.0
    auxiliary = max(1 - progress / loss.auxiliary_until, 0.0) if loss.auxiliary_until else 0.0
    return StepOptions(
        cross_entropy=loss.cross_entropy,
        jaccard=loss.jaccard,
        fraction=fallen * loss.hardest_fraction + (1.0 - fallen),
        auxiliary=auxiliary,
        with_reference=auxiliary > 0,
        predicted_masks=clip.predicted_masks_from < 1 and progress >= clip.predicted_masks_from,
    )


def average_decay(options: OptimizerOptions, progress: RunProgress) -> float:
    """Return the decay of the moving average in a step.

    Example:
        >>> average_decay(OptimizerOptions(), progress_of_steps(0, 1000))
        0.1
        >>> average_decay(OptimizerOptions(average_steps=100), RunProgress(0.5, step=5000))
        0.99
    """
    reach = float(options.average_steps)
    if not options.average_steps:
        reach = options.average_fraction / progress.step_fraction if progress.step_fraction else 1.0
    limit = 1 - 1 / max(reach, 1)
    step = progress.earlier_steps + progress.step
    return min(limit, (1 + step) / (10 + step)) if options.average_warm_up else limit


def parameter_groups(network: nn.Module, options: OptimizerOptions) -> list[dict[str, object]]:
    """Group the learning parameters by role and weight decay.

    Args:
        network: The modules that learn; an encoder is the child ``encoder``.
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
