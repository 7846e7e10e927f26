"""Other trackers to be measured beside ours, with random weights: the extra ``bench``.

Each runs as its authors run it, on a GPU in 16 bit: Cutie with the memory of DAVIS-2017, the SAM 2
family at 1024 x 1024 with seven memory frames. The packages are imported by name when a model is
built, so that nothing else needs them.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor

from vots_hqtrack.bench.gpu.models import BenchClip
from vots_hqtrack.errors import ConfigError
from vots_hqtrack.masks import combine_masks
from vots_hqtrack.types import FrameArray, LabelArray, ObjectId, Size

CutieSize = Literal["base", "small"]
Sam2Kind = Literal["sam2.1-tiny", "edgetam"]

CUTIE_INTERVAL = 5
"""Frames from one that Cutie remembers to the next, as its authors set it for DAVIS-2017."""
SAM2_SIDE = 1024
SAM2_WARM_UP = 9
"""Frames after which the memory of seven frames is full and has begun to move."""

_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"cannot import {name} ({error}); install with: pip install 'vots-hqtrack[bench]'"
        ) from error


def _to_device(frame: FrameArray, device: torch.device) -> Tensor:
    """Bring a frame to the device: ``(3, H, W)`` float32 in ``[0, 1]``."""
    return torch.from_numpy(frame).to(device).permute(2, 0, 1).float() / 255


def _dtype_name(device: torch.device) -> str:
    return "autocast bfloat16" if device.type == "cuda" else "float32"


@contextlib.contextmanager
def _computing(device: torch.device, *, is_pure: bool = False) -> Iterator[None]:
    """Compute as the authors do on a GPU; in float32 on the CPU, whose bfloat16 is slow."""
    lower = device.type == "cuda" and not is_pure
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=lower):
        yield


@contextlib.contextmanager
def _replaced(owner: Any, name: str, value: object) -> Iterator[None]:  # noqa: ANN401 - a module or class
    """Put something in place of an attribute as long as the body runs."""
    before = owner.__dict__[name]
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


class CutieModel:
    """Cutie of the package ``rf-cutie``.

    Args:
        size: Which of its two models.
        device: Where to compute.
        interval: Frames from one that is remembered to the next.
    """

    def __init__(
        self, size: CutieSize, device: torch.device, *, interval: int = CUTIE_INTERVAL
    ) -> None:
        self._size = size
        self._device = device
        self._interval = interval
        self._network: Any = None
        self._options: Any = None
        self._core: Any = None
        self.facts: dict[str, object] = {"weights": "random", "dtype": _dtype_name(device)}

    def start(self, clip: BenchClip) -> None:
        """Begin a clip and track until the memory is full. May be called again."""
        if self._network is None:
            self._build()
        self._core = _import("cutie.inference.inference_core").InferenceCore(
            self._network, cfg=self._options
        )
        capacity = int(self._options.max_mem_frames)
        self._core.mem_every = 1
        image = _to_device(next(clip.frames), self._device)
        labels = (
            torch.from_numpy(
                combine_masks({ObjectId(key): mask for key, mask in clip.masks.items()})
            )
            .to(self._device)
            .long()
        )
        with _computing(self._device):
            self._core.step(image, labels, list(clip.masks))
        for _ in range(capacity):
            self.step(next(clip.frames))
        self._core.mem_every = self._interval
        self.facts["memory_frames"] = capacity

    def step(self, frame: FrameArray) -> LabelArray:
        """Track one frame; see ``BenchModel``."""
        with _computing(self._device):
            probabilities = self._core.step(_to_device(frame, self._device))
            labels = self._core.output_prob_to_mask(probabilities)
            found: LabelArray = labels.to(torch.uint8).cpu().numpy()
        return found

    def _build(self) -> None:
        self._options = self._read_options()
        resnet = _import("cutie.model.utils.resnet")
        # The backbones would download ImageNet's weights, which a speed does not depend on.
        with (
            _replaced(resnet, "load_weights_add_extra_dim", lambda *_: None),
            _replaced(resnet.model_zoo, "load_url", lambda *_, **__: {}),
            torch.random.fork_rng(devices=[]),
        ):
            torch.manual_seed(0)
            network = _import("cutie.model.cutie").CUTIE(self._options)
        self._network = network.to(self._device).eval()

    def _read_options(self) -> Any:  # noqa: ANN401 - a class of omegaconf
        omegaconf = _import("omegaconf").OmegaConf
        (root,) = _import("cutie").__path__[:1]
        folder = Path(root) / "config"
        options = omegaconf.load(folder / "eval_config.yaml")
        model = omegaconf.load(folder / "model" / "base.yaml")
        if self._size == "small":
            smaller = omegaconf.load(folder / "model" / "small.yaml")
            smaller.pop("defaults")
            model = omegaconf.merge(model, smaller)
        for hydra_only in ("defaults", "hydra", "datasets"):
            options.pop(hydra_only)
        ours = {
            "model": model,
            "use_long_term": False,
            "mem_every": self._interval,
            "amp": True,
        }
        return omegaconf.merge(options, ours)


class Sam2Model:
    """SAM 2.1 Hiera-tiny or EdgeTAM of the package ``transformers``, given masks, streaming.

    Args:
        kind: Which of the two.
        device: Where to compute.
        warm_up: Frames that are tracked before the measurement.
    """

    def __init__(
        self, kind: Sam2Kind, device: torch.device, *, warm_up: int = SAM2_WARM_UP
    ) -> None:
        self._kind = kind
        self._device = device
        self._warm_up = warm_up
        self._network: Any = None
        self._make_session: Any = None
        self._session: Any = None
        self._is_pure = False
        self._frame_index = 0
        self._size = Size(1, 1)
        self._mean, self._std = (
            torch.tensor(x, device=device).view(1, 3, 1, 1) for x in (_MEAN, _STD)
        )
        self.facts: dict[str, object] = {
            "weights": "random",
            "dtype": _dtype_name(device),
            "memory_frames": 7,
            "network": f"{SAM2_SIDE}x{SAM2_SIDE}",
        }

    def start(self, clip: BenchClip) -> None:
        """Begin a clip and track until the memory is full. May be called again."""
        if self._network is None:
            self._build()
        try:
            self._begin(clip)
        except RuntimeError as error:
            if self._is_pure or self._device.type != "cuda":
                raise
            # Some versions mix dtypes under autocast; bfloat16 throughout is their other way.
            self._is_pure, self._network = True, self._network.to(torch.bfloat16)
            self.facts["dtype"] = "bfloat16"
            self.facts["autocast_error"] = str(error)[:300]
            self._begin(clip)

    def _begin(self, clip: BenchClip) -> None:
        self._size, self._frame_index = clip.size, 0
        self._session = self._make_session(
            None,
            *clip.size,
            inference_device=self._device,
            inference_state_device=self._device,
            video_storage_device=self._device,
            dtype=self._dtype,
        )
        for object_id, mask in clip.masks.items():
            index = self._session.obj_id_to_idx(object_id)
            prompt = torch.from_numpy(mask).to(self._device)[None, None].float()
            prompt = F.interpolate(prompt, (SAM2_SIDE, SAM2_SIDE), mode="bilinear") >= 0.5
            self._session.add_mask_inputs(index, 0, prompt.float())
        self._session.obj_with_new_inputs = list(clip.masks)
        for _ in range(self._warm_up):
            self.step(next(clip.frames))

    def step(self, frame: FrameArray) -> LabelArray:
        """Track one frame; see ``BenchModel``."""
        with _computing(self._device, is_pure=self._is_pure):
            pixels = F.interpolate(
                _to_device(frame, self._device)[None],
                (SAM2_SIDE, SAM2_SIDE),
                mode="bilinear",
                antialias=True,
            )
            output = self._network(
                inference_session=self._session,
                frame=((pixels - self._mean) / self._std).to(self._dtype),
                frame_idx=self._frame_index,
            )
            # Frames that no memory reads are dropped, as a long video would ask for.
            self._session.processed_frames.pop(self._frame_index, None)
            self._frame_index += 1
            logits = output.pred_masks.float()
            logits = logits.reshape(-1, 1, *logits.shape[-2:])
            on_frame = F.interpolate(logits, tuple(self._size), mode="bilinear")[:, 0]
            best, index = on_frame.max(0)
            labels = torch.where(best > 0, index + 1, 0).to(torch.uint8)
        found: LabelArray = np.asarray(labels.cpu())
        return found

    @property
    def _dtype(self) -> torch.dtype:
        return torch.bfloat16 if self._is_pure else torch.float32

    def _build(self) -> None:
        transformers = _import("transformers")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            if self._kind == "sam2.1-tiny":
                network = transformers.Sam2VideoModel(transformers.Sam2VideoConfig())
                self._make_session = transformers.Sam2VideoInferenceSession
            else:
                network = transformers.EdgeTamVideoModel(_edgetam_options(transformers))
                self._make_session = transformers.EdgeTamVideoInferenceSession
        self._network = network.to(self._device).eval()


def _edgetam_options(transformers: ModuleType) -> Any:  # noqa: ANN401 - a class of transformers
    """Describe EdgeTAM without the hub, which its configuration would ask for the backbone's."""
    backbone = transformers.TimmWrapperConfig(
        architecture="repvit_m1",
        model_args={"in_chans": 3, "features_only": True, "out_indices": [0, 1, 2, 3]},
    )
    with _replaced(transformers.AutoConfig, "from_pretrained", lambda *_, **__: backbone):
        vision = transformers.EdgeTamVisionConfig(backbone_config=backbone)
        return transformers.EdgeTamVideoConfig(vision_config=vision)
