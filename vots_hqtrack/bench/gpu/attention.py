"""Memory attention at the presets' sizes: in blocks, by Triton, and by PyTorch's fused kernels.

What is measured becomes a row of the table by which ``ops`` chooses.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from vots_hqtrack.bench.gpu.measure import median_seconds
from vots_hqtrack.ops import TORCH_ATTENTIONS, Attention
from vots_hqtrack.ops.attention import global_attention_reference
from vots_hqtrack.ops.attention_table import AttentionTiming

MAX_ERROR = 0.05
"""Largest difference to the reference of a version that may be chosen."""
_REPEATS = 12
_WARM_UP = 3
_COMPARED = 256  # queries


@dataclass(frozen=True, slots=True)
class AttentionShape:
    """Sizes of one attention.

    Attributes:
        name: Preset, frame size and block with this attention.
        batch: Samples, or heads.
        length: Queries, and tokens of each frame.
        num_frames: Memory frames.
        key_width: Channels of queries and keys.
        value_width: Channels of the values.
    """

    name: str
    batch: int
    length: int
    num_frames: int
    key_width: int
    value_width: int

    @property
    def num_scores(self) -> int:
        """Samples times queries times keys."""
        return self.batch * self.length * self.length * self.num_frames

    @property
    def flops(self) -> int:
        """Operations of both products; a multiplication and an addition count as two."""
        return 2 * self.num_scores * (self.key_width + self.value_width)


SHAPES = (
    AttentionShape("lite, 720p, stride 16, memory", 1, 576, 6, 64, 512),
    AttentionShape("lite, 720p, stride 16, self", 1, 576, 1, 64, 512),
    AttentionShape("lite, 720p, stride 8, memory", 1, 2304, 6, 48, 384),
    AttentionShape("lite, 720p, stride 8, self", 1, 2304, 1, 48, 384),
    AttentionShape("vmos, 720p, stride 16, memory", 1, 2442, 9, 128, 1024),
    AttentionShape("vmos, 720p, stride 16, self", 1, 2442, 1, 128, 1024),
    AttentionShape("vmos, 720p, stride 8, memory", 1, 9563, 9, 64, 512),
    AttentionShape("vmos, 720p, stride 8, self", 1, 9563, 1, 64, 512),
    AttentionShape("SAM ViT-H, global block", 16, 4096, 1, 208, 80),
)
QUICK_SHAPES = (AttentionShape("toy", 1, 70, 2, 16, 32),)


def attentions(device: torch.device) -> Mapping[str, Attention]:
    """Return the versions that a device can compute, by name."""
    found = dict(TORCH_ATTENTIONS)
    if device.type == "cuda" and importlib.util.find_spec("triton"):
        from vots_hqtrack.ops.triton_attention import global_attention_triton

        found["triton"] = global_attention_triton
    return found


@torch.inference_mode()
def compare_attention(
    shape: AttentionShape, device: torch.device, dtype: torch.dtype
) -> dict[str, object]:
    """Time all implementations at one size.

    Args:
        shape: Sizes.
        device: Compute device.
        dtype: Type of queries, keys and values.

    Returns:
        For each implementation ``{"ms": ..., "tflops": ..., "error": ...}``, the error being the
        largest difference to the reference in float32, or ``{"failed": reason}``. And ``fastest``,
        its name. Ready for JSON.
    """
    generator = torch.Generator().manual_seed(0)

    def sample(width: int) -> Tensor:
        size = (shape.batch, shape.length, width)
        return torch.randn(size, generator=generator).to(device)

    keys = [sample(shape.key_width) for _ in range(shape.num_frames)]
    query = sample(shape.key_width)
    values = [sample(shape.value_width) for _ in keys]
    exact = global_attention_reference(query[:, :_COMPARED], keys, values)
    rounded = (query.to(dtype), [x.to(dtype) for x in keys], [x.to(dtype) for x in values])
    found: dict[str, object] = {}
    times: dict[str, float] = {}
    repeats = _REPEATS if device.type == "cuda" else 2
    for name, attend in attentions(device).items():
        try:
            work = partial(attend, *rounded)
            readout = work()
            seconds = median_seconds(work, device, repeats=repeats, warm_up=_WARM_UP - 1)
        except (RuntimeError, torch.OutOfMemoryError) as error:
            found[name] = {"failed": str(error).splitlines()[0][:200]}
            continue
        times[name] = seconds
        difference = float((readout[:, :_COMPARED].float() - exact).abs().max())
        tflops = shape.flops / seconds / 1e12
        found[name] = {"ms": 1000 * seconds, "tflops": tflops, "error": difference}
    return {**found, "fastest": min(times, key=times.__getitem__) if times else None}


def attention_timing(
    shape: AttentionShape, device: torch.device, dtype: torch.dtype, found: Mapping[str, object]
) -> AttentionTiming | None:
    """Return the table's row for what :func:`compare_attention` found.

    None if no version was both computed and within `MAX_ERROR` of the reference.
    """
    milliseconds = {
        name: round(values["ms"], 5)
        for name, values in found.items()
        if isinstance(values, dict) and values.get("error", math.inf) <= MAX_ERROR
    }
    if not milliseconds:
        return None
    return AttentionTiming(
        card=torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        torch=str(torch.__version__),
        dtype=str(dtype).removeprefix("torch."),
        key_width=shape.key_width,
        value_width=shape.value_width,
        num_scores=shape.num_scores,
        milliseconds=milliseconds,
    )
