"""Camera effects of a clip: exposure, colour, blur, noise."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor

from vots_hqtrack.synthetic.plan import BLUR_REACH, ClipPlan

MEAN_GREY = 118.0
"""Grey level around which contrast changes."""
NOISE_TABLE = 1 << 20
"""Entries of the table that all noise is read from."""
Array = npt.NDArray[np.float64]


def sample_tones(generator: np.random.Generator, num_frames: int) -> Array:
    """Sample colour matrices ``(T, 3, 4)``: exposure, contrast, saturation, tint, flicker."""
    gain = np.exp(generator.normal(0, 0.18) + generator.normal(0, 0.04, num_frames))
    contrast = np.exp(generator.normal(0, 0.15) + generator.normal(0, 0.03, num_frames))
    saturation = 0.0 if generator.random() < 0.06 else float(np.exp(generator.normal(0, 0.3)))
    tint = np.exp(generator.normal(0, 0.08, 3) + generator.normal(0, 0.01, (num_frames, 3)))
    mixing = saturation * np.eye(3) + (1 - saturation) / 3
    tones = np.empty((num_frames, 3, 4))
    tones[..., :3] = tint[:, :, None] * contrast[:, None, None] * mixing
    tones[..., 3] = tint * (MEAN_GREY * (gain - contrast))[:, None]
    return tones


def sample_blur(generator: np.random.Generator, num_frames: int) -> tuple[list[int], Array]:
    """Sample which frames of a clip are blurred, and kernels ``(n, 2, 15)`` along x and y."""
    chosen: list[int] = []
    if generator.random() < 0.4:
        chosen = [int(frame) for frame in np.flatnonzero(generator.random(num_frames) < 0.6)]
    sigmas = generator.uniform(0.4, 3.0, (len(chosen), 2))
    is_round = generator.random(len(chosen)) < 0.5
    sigmas[:, 1] = np.where(is_round, sigmas[:, 0], 0.2 * sigmas[:, 1])
    turned = generator.random(len(chosen)) < 0.5
    sigmas = np.where(turned[:, None], sigmas[:, ::-1], sigmas)
    reach = np.arange(-BLUR_REACH, BLUR_REACH + 1)
    kernels = np.exp(-0.5 * (reach / np.maximum(sigmas, 0.05)[..., None]) ** 2)
    return chosen, kernels / kernels.sum(-1, keepdims=True)


def sample_noise(
    generator: np.random.Generator, num_frames: int
) -> tuple[float, npt.NDArray[np.int64]]:
    """Sample the noise of a clip: standard deviation, and starts in the table ``(T, 3)``."""
    sigma = float(generator.uniform(1.5, 9.0)) if generator.random() < 0.35 else 0.0
    return sigma, generator.integers(0, NOISE_TABLE, (num_frames, 3))


def apply_effects(frames: Tensor, plan: ClipPlan) -> Tensor:
    """Blur frames and add noise, in place and in a fixed number of operations.

    Args:
        frames: ``(B, T, 3, H, W)`` uint8.
        plan: Blur kernels and noise of the frames, on their device.

    Returns:
        The same tensor.
    """
    flat = frames.flatten(0, 1)
    dtype = torch.float16 if frames.is_cuda else torch.float32
    if len(plan.blurred):
        chosen = flat[plan.blurred].to(dtype)
        for axis in (0, 1):
            chosen = _blur(chosen, plan.kernels[:, axis].to(dtype), axis)
        flat[plan.blurred] = chosen.add_(0.5).clamp_(0, 255).to(torch.uint8)
    if len(plan.noisy):
        height, width = plan.size
        table = _noise_table(frames.device, dtype)
        index = torch.arange(height * width, device=frames.device)
        index = (plan.noise_starts[..., None] + index) % NOISE_TABLE
        noise = table[index].unflatten(-1, (height, width))
        noise *= plan.noise.to(dtype)[:, None, None, None]
        noise += flat[plan.noisy]
        flat[plan.noisy] = noise.add_(0.5).clamp_(0, 255).to(torch.uint8)
    return frames


def _blur(x: Tensor, kernels: Tensor, axis: int) -> Tensor:
    """Blur ``(n, 3, H, W)`` along x (0) or y (1), each image by its own kernel ``(n, 15)``."""
    pad = (BLUR_REACH, BLUR_REACH, 0, 0) if axis == 0 else (0, 0, BLUR_REACH, BLUR_REACH)
    padded = F.pad(x, pad, mode="replicate")
    dim = 3 if axis == 0 else 2
    blurred = torch.zeros_like(x)
    for tap in range(2 * BLUR_REACH + 1):
        shifted = padded.narrow(dim, tap, x.shape[dim])
        blurred.addcmul_(shifted, kernels[:, tap, None, None, None])
    return blurred


@lru_cache(maxsize=4)
def _noise_table(device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return ``(NOISE_TABLE,)`` normal numbers, the same ones everywhere."""
    generator = torch.Generator().manual_seed(20)
    return torch.randn(NOISE_TABLE, generator=generator).to(device, dtype)
