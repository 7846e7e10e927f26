"""Build a tracker's parts from a configuration, and load their weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vots_hqtrack.checkpoints.convert import DEAD_PREFIX, part_of
from vots_hqtrack.checkpoints.load import load_into, load_weights, name_some
from vots_hqtrack.checkpoints.manifest import published_folder, resolve
from vots_hqtrack.config import TrackerConfig
from vots_hqtrack.crops import CroppingTracker
from vots_hqtrack.devices import pick_dtype
from vots_hqtrack.encoder import find_encoder
from vots_hqtrack.encoder.frames import FrameEncoder, NetworkEncoder
from vots_hqtrack.errors import ConfigError, WeightsError
from vots_hqtrack.ops import resolve_backend
from vots_hqtrack.precision import cast_to_low_precision
from vots_hqtrack.realtime import RealtimeTracker
from vots_hqtrack.refiner import Refiner, RefinerOptions, build_refiner, shared_encoder_of
from vots_hqtrack.tracker import HQTracker
from vots_hqtrack.vmos import VMOS, build_vmos


class TrackerParts(NamedTuple):
    """Parts of a tracker.

    Attributes:
        encoder: Image encoder, with the layout of its input.
        vmos: Segmenter.
        refiner: Mask refiner, or None.
    """

    encoder: FrameEncoder
    vmos: VMOS
    refiner: Refiner | None


def build_parts(config: TrackerConfig, device: torch.device, weights: Path | None) -> TrackerParts:
    """Build the parts of a tracker, with their weights.

    Args:
        config: Options of tracking.
        device: Compute device.
        weights: VMOS weights (safetensors) in place of the preset's, or the folder of a published
            tracker, with all weights.

    Raises:
        ConfigError: The encoder or refiner is unknown, or they cannot be combined.
        WeightsError: Weights are missing, damaged, or do not fit.
    """
    source = str(find_weights(config, weights)[config.weights])
    network, vmos = build_networks(config)
    load_segmenter(network, vmos, load_weights(config.weights, weights), source=source)
    return _join_parts(config, device, network, vmos, published=published_folder(weights))


def make_tracker(
    config: TrackerConfig,
    parts: TrackerParts,
    device: torch.device,
    files: Mapping[str, Path] | None = None,
) -> HQTracker:
    """Make a tracker of its parts: one with a latency budget, with crops, or with neither.

    Sets the number of CPU threads of this process where the configuration names it.

    Args:
        config: Options of tracking.
        parts: Networks.
        device: Compute device.
        files: Files that the weights were read from, by name; None without files.
    """
    if config.runtime.threads:
        torch.set_num_threads(config.runtime.threads)
    kind: type[HQTracker] = HQTracker
    if config.runtime.frame_budget:
        kind = RealtimeTracker
    elif config.tracking.max_crops:
        kind = CroppingTracker
    return kind(config, *parts, device, files=files)


def build_untrained_parts(
    config: TrackerConfig, device: torch.device, *, seed: int = 0
) -> TrackerParts:
    """Build the same parts with random weights: as fast, and of no other use.

    Args:
        config: Options of tracking.
        device: Compute device.
        seed: Random seed of the weights. PyTorch's own random state is left as it was.

    Raises:
        ConfigError: The encoder or refiner is unknown, or they cannot be combined.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _join_parts(config, device, *build_networks(config), has_weights=False)


def build_networks(config: TrackerConfig) -> tuple[nn.Module | None, VMOS]:
    """Build VMOS and its encoder with fresh weights; None where VMOS reads the refiner's encoder.

    Raises:
        ConfigError: The encoder is unknown, or its geometry is not that of VMOS's sizes.
    """
    spec = find_encoder(config.encoder.kind)
    is_aligned = spec.input_scale == 1
    if config.vmos.align_corners != is_aligned:
        strides = ",".join(map(str, spec.strides))
        sizes = "those of the released model" if is_aligned else "the defaults"
        raise ConfigError(
            f"encoder.kind={spec.name} has the strides {strides}, so vmos.align_corners must be "
            f"{str(is_aligned).lower()} and the identity kernels {sizes}"
        )
    network = None if config.shares_encoder else spec.build()
    return network, build_vmos(config.vmos, spec.channels)


def load_segmenter(
    network: nn.Module | None, vmos: VMOS, tensors: Mapping[str, Tensor], *, source: str
) -> None:
    """Load the weights of VMOS and of its own encoder, if it has one.

    Args:
        network: The encoder, or None where VMOS reads the refiner's.
        vmos: The segmenter.
        tensors: With the prefixes ``encoder.`` and ``vmos.``; without them where there is no
            encoder.
        source: Name of the weights in errors.

    Raises:
        WeightsError: They do not fit.
    """
    if network is None:
        load_into(vmos, tensors, source=source)
    else:
        parts = ("encoder.", "vmos.", DEAD_PREFIX)
        if others := [key for key in tensors if not key.startswith(parts)]:
            raise WeightsError(
                f"the weights {source} do not fit {type(network).__name__} and VMOS; "
                f"unexpected: {name_some(others)}"
            )
        load_into(network, part_of(tensors, "encoder"), source=source)
        load_into(vmos, part_of(tensors, "vmos"), source=source)


def find_weights(config: TrackerConfig, weights: Path | None) -> dict[str, Path]:
    """Find the files of all weights that a tracker reads, by name.

    Args:
        config: Options of tracking.
        weights: As for :func:`build_parts`.

    Raises:
        WeightsError: Weights are missing; the error says of all that are.
    """
    found, problems = {}, []
    for name in config.weights_needed():
        try:
            path = weights if name == config.weights else published_folder(weights)
            found[name] = resolve(name, path)
        except WeightsError as error:
            problems.append(str(error))
    if problems:
        raise WeightsError("\n".join(dict.fromkeys(problems)))
    return found


def _join_parts(
    config: TrackerConfig,
    device: torch.device,
    network: nn.Module | None,
    vmos: VMOS,
    *,
    has_weights: bool = True,
    published: Path | None = None,
) -> TrackerParts:
    """Make a tracker's parts of networks that have their weights, and of the refiner."""
    runtime = config.runtime
    dtype = pick_dtype(runtime.dtype, device)
    resolve_backend()  # before anything is compiled, which could not trace it
    refiner = None
    if config.refiner.enabled or config.shares_encoder:
        options = RefinerOptions(
            device, dtype, has_weights, config.shares_encoder, runtime.compile, published
        )
        refiner = build_refiner(config.refiner, options)
    if network is not None:
        cast_to_low_precision(network, dtype, runtime.low_precision)
        network = network.to(device).eval()
    else:
        network = shared_encoder_of(refiner, config.refiner.kind)
    cast_to_low_precision(vmos, dtype, runtime.low_precision)
    encoder = NetworkEncoder(
        network,
        config.frame,
        strides=find_encoder(config.encoder.kind).strides,
        compile_with=runtime.compile,
    )
    return TrackerParts(encoder, vmos.to(device).eval(), refiner)
