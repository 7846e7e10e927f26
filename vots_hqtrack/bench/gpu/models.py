"""Trackers to measure: our presets, and others with random weights (the extra ``bench``).

Each of the others runs as its authors run it, on a GPU in 16 bit: Cutie with the memory of
DAVIS-2017, the SAM 2 family at 1024 x 1024 with seven memory frames. Their packages are imported
when a model is built, so that nothing else needs them.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor

from vots_hqtrack.bench.run import Case, build_any, fill_memory, ping_pong
from vots_hqtrack.build import make_tracker
from vots_hqtrack.config import TrackerConfig
from vots_hqtrack.extras import missing_extra
from vots_hqtrack.masks import combine_masks
from vots_hqtrack.synthetic.discs import SyntheticVideo
from vots_hqtrack.types import FrameArray, LabelArray, MaskArray, ObjectId, Size

CUTIE_INTERVAL = 5
"""Frames between memory frames of Cutie, as its authors set it for DAVIS-2017."""
SAM2_SIDE = 1024
SAM2_WARM_UP = 9
"""Frames after which the memory of seven frames is full and has begun to move."""

_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)
_VIDEO_LENGTH = 12


@dataclass(frozen=True, slots=True)
class BenchClip:
    """Frames in endless ping-pong order, and the objects of the first one.

    Attributes:
        frames: Endless; each uint8 ``(H, W, 3)`` RGB.
        masks: Bool ``(H, W)`` by object id, of the first frame.
        size: Frame size.
    """

    frames: Iterator[FrameArray]
    masks: dict[int, MaskArray]
    size: Size


def make_clip(size: Size, num_objects: int) -> BenchClip:
    """Make a synthetic clip; always the same for the same arguments."""
    video = SyntheticVideo(size, num_objects)
    frames = [video.frame(index) for index in range(_VIDEO_LENGTH)]
    return BenchClip(ping_pong(frames), video.masks(0), size)


class OwnModel:
    """A preset of this package. Missing weights are random.

    Args:
        config: Tracker configuration.
        device: Compute device.

    Attributes:
        facts: Weights, dtype, memory and so on, ready for JSON; complete after :meth:`start`.
    """

    def __init__(self, config: TrackerConfig, device: torch.device) -> None:
        self._case = Case(config, str(device))
        self._parts, weights = build_any(config, device)
        self._tracker = make_tracker(config, self._parts, device)
        self._device = device
        self._state: Any = None
        self._states: list[Any] = []
        self.facts: dict[str, object] = {
            "weights": "shipped" if weights == "preset" else "random",
            "dtype": str(self._tracker.dtype).removeprefix("torch."),
            "memory_frames": config.memory.capacity,
        }

    def start(self, clip: BenchClip) -> None:
        """Begin a clip and track until the memory is full. May be called again."""
        self._state = fill_memory(self._case, self._parts, self._device, clip.frames, clip.masks)
        self.facts["memory_bytes"] = self._state.nbytes

    def step(self, frame: FrameArray) -> LabelArray:
        """Track one frame, on the host; returns ``(H, W)`` uint8 object ids, on the host."""
        return self._tracker.track(frame, self._state).label_map

    def play(self, frames: Iterator[FrameArray]) -> Iterator[LabelArray]:
        """Track frames that are known ahead, as :meth:`step` does."""
        for result in self._tracker.track_video(frames, self._state):
            yield result.label_map

    def start_together(self, clips: Sequence[BenchClip]) -> None:
        """Begin several clips as :meth:`start` begins one."""
        self._states = []
        for clip in clips:
            self.start(clip)
            self._states.append(self._state)

    def step_together(self, frames: Sequence[FrameArray]) -> list[LabelArray]:
        """Track one frame of each clip, as :meth:`step` does."""
        return [result.label_map for result in self._tracker.track_together(frames, self._states)]


class CutieModel:
    """Cutie of the package ``rf-cutie``.

    Args:
        size: ``base`` or ``small``.
        device: Compute device.
    """

    def __init__(self, size: str, device: torch.device) -> None:
        self._device = device
        self._options = _cutie_options(size)
        resnet = _import("cutie.model.utils.resnet")
        # The backbones would download ImageNet's weights, which do not affect the speed.
        with (
            patch.object(resnet, "load_weights_add_extra_dim", lambda *_: None),
            patch.object(resnet.model_zoo, "load_url", lambda *_, **__: {}),
            torch.random.fork_rng(devices=[]),
        ):
            torch.manual_seed(0)
            network = _import("cutie.model.cutie").CUTIE(self._options)
        self._network = network.to(device).eval()
        self._core: Any = None
        self.facts: dict[str, object] = {
            "weights": "random",
            "dtype": _dtype_name(device),
            "memory_frames": int(self._options.max_mem_frames),
        }

    def start(self, clip: BenchClip) -> None:
        """Begin a clip; see ``OwnModel``."""
        inference = _import("cutie.inference.inference_core")
        self._core = inference.InferenceCore(self._network, cfg=self._options)
        self._core.mem_every = 1
        masks = {ObjectId(key): mask for key, mask in clip.masks.items()}
        labels = torch.from_numpy(combine_masks(masks)).to(self._device).long()
        with _authors_precision(self._device):
            self._core.step(_upload(next(clip.frames), self._device), labels, list(clip.masks))
        for _ in range(int(self._options.max_mem_frames)):
            self.step(next(clip.frames))
        self._core.mem_every = CUTIE_INTERVAL

    def step(self, frame: FrameArray) -> LabelArray:
        """Track one frame; see ``OwnModel``."""
        with _authors_precision(self._device):
            labels = self._core.output_prob_to_mask(self._core.step(_upload(frame, self._device)))
            return _download(labels)


class Sam2Model:
    """SAM 2.1 Hiera-tiny or EdgeTAM of the package ``transformers``, given masks, streaming.

    Args:
        kind: ``sam2.1-tiny`` or ``edgetam``.
        device: Compute device.
    """

    def __init__(self, kind: str, device: torch.device) -> None:
        transformers = _import("transformers")
        self._device = device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            if kind == "sam2.1-tiny":
                network = transformers.Sam2VideoModel(transformers.Sam2VideoConfig())
                self._make_session = transformers.Sam2VideoInferenceSession
            else:
                network = transformers.EdgeTamVideoModel(_edgetam_options(transformers))
                self._make_session = transformers.EdgeTamVideoInferenceSession
        self._network = network.to(device).eval()
        self._session: Any = None
        self._dtype = torch.float32
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
        """Begin a clip; see ``OwnModel``."""
        try:
            self._begin(clip)
        except RuntimeError as error:
            if self._dtype == torch.bfloat16 or self._device.type != "cuda":
                raise
            # Some versions mix dtypes under autocast; bfloat16 throughout is their other way.
            self._dtype, self._network = torch.bfloat16, self._network.to(torch.bfloat16)
            self.facts |= {"dtype": "bfloat16", "autocast_error": str(error)[:300]}
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
        for _ in range(SAM2_WARM_UP):
            self.step(next(clip.frames))

    def step(self, frame: FrameArray) -> LabelArray:
        """Track one frame; see ``OwnModel``."""
        with _authors_precision(self._device, autocast=self._dtype == torch.float32):
            pixels = F.interpolate(
                _upload(frame, self._device)[None],
                (SAM2_SIDE, SAM2_SIDE),
                mode="bilinear",
                antialias=True,
            )
            output = self._network(
                inference_session=self._session,
                frame=((pixels - self._mean) / self._std).to(self._dtype),
                frame_idx=self._frame_index,
            )
            # Frames that no memory reads are dropped, as a long video requires.
            self._session.processed_frames.pop(self._frame_index, None)
            self._frame_index += 1
            logits = output.pred_masks.float()
            logits = logits.reshape(-1, 1, *logits.shape[-2:])
            on_frame = F.interpolate(logits, tuple(self._size), mode="bilinear")[:, 0]
            best, index = on_frame.max(0)
            return _download(torch.where(best > 0, index + 1, 0))


BenchModel = OwnModel | CutieModel | Sam2Model


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise missing_extra("a tracker to compare with", "bench", error) from error


def _upload(frame: FrameArray, device: torch.device) -> Tensor:
    """Copy a frame to the device: ``(3, H, W)`` float32 in ``[0, 1]``."""
    return torch.from_numpy(frame).to(device).permute(2, 0, 1).float() / 255


def _download(labels: Tensor) -> LabelArray:
    found: LabelArray = labels.to(torch.uint8).cpu().numpy()
    return found


def _dtype_name(device: torch.device) -> str:
    return "autocast bfloat16" if device.type == "cuda" else "float32"


@contextlib.contextmanager
def _authors_precision(device: torch.device, *, autocast: bool = True) -> Iterator[None]:
    """Autocast to bfloat16 on a GPU; float32 on the CPU, where bfloat16 is slow."""
    enabled = autocast and device.type == "cuda"
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=enabled):
        yield


def _cutie_options(size: str) -> Any:  # noqa: ANN401 - a class of omegaconf
    omegaconf = _import("omegaconf").OmegaConf
    (root,) = _import("cutie").__path__[:1]
    folder = Path(root) / "config"
    options = omegaconf.load(folder / "eval_config.yaml")
    model = omegaconf.load(folder / "model" / "base.yaml")
    if size == "small":
        smaller = omegaconf.load(folder / "model" / "small.yaml")
        smaller.pop("defaults")
        model = omegaconf.merge(model, smaller)
    for hydra_only in ("defaults", "hydra", "datasets"):
        options.pop(hydra_only)
    ours = {"model": model, "use_long_term": False, "mem_every": CUTIE_INTERVAL, "amp": True}
    return omegaconf.merge(options, ours)


def _edgetam_options(transformers: ModuleType) -> Any:  # noqa: ANN401 - a class of transformers
    """Describe EdgeTAM offline; its configuration would ask the hub for the backbone's."""
    backbone = transformers.TimmWrapperConfig(
        architecture="repvit_m1",
        model_args={"in_chans": 3, "features_only": True, "out_indices": [0, 1, 2, 3]},
    )
    with patch.object(transformers.AutoConfig, "from_pretrained", lambda *_, **__: backbone):
        vision = transformers.EdgeTamVisionConfig(backbone_config=backbone)
        return transformers.EdgeTamVideoConfig(vision_config=vision)
