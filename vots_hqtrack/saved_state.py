"""State of a video as tensors and plain values, so that a run that was cut can go on.

`save_state` and `fill_state` are the only places that know how a ``TrackState`` is stored. A state
that was written and read again gives the same masks, bit by bit, on the same device.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vots_hqtrack.errors import InputError
from vots_hqtrack.io import write_tensors
from vots_hqtrack.memory import GroupMemory, TrackState
from vots_hqtrack.motion_gate import LastSeen
from vots_hqtrack.types import LayerMemory, MemoryEntry, ObjectId, Size

_FORMAT = 1
_CROP_PLACE = ("object_id", "row", "column", "length", "stretch")


@dataclass(frozen=True, slots=True)
class SavedState:
    """Copy of a state, which stays as it is while the video goes on.

    Attributes:
        tensors: By name, on the CPU.
        values: Geometry, objects, and the index of each memory entry, as JSON has them.
    """

    tensors: Mapping[str, Tensor]
    values: Mapping[str, object]

    @property
    def num_frames(self) -> int:
        """Number of frames that the state has seen."""
        return int(str(self.values["frame_index"])) + 1

    @property
    def object_ids(self) -> list[ObjectId]:
        """All objects in the order in which they were added."""
        return [ObjectId(number) for number in _integers(self.values["object_ids"])]

    @property
    def frame_size(self) -> Size:
        """Size of the video's frames."""
        height, width = self.tensors["slot_map"].shape
        return Size(height, width)

    def crops(self) -> Iterator[tuple[dict[str, Any], SavedState]]:
        """Return what is saved of each crop: its place, and its state."""
        for number, values in enumerate(_dicts(self.values.get("crops"))):
            place: dict[str, Any] = dict(values)
            inner = place.pop("values")
            yield place, SavedState(_below(f"crops.{number}", self.tensors), inner)

    @property
    def digest(self) -> str:
        """SHA-256 of all content."""
        found = hashlib.sha256(json.dumps(self.values, sort_keys=True).encode())
        for name, tensor in sorted(self.tensors.items()):
            found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            found.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
        return found.hexdigest()

    def write(self, path: Path) -> None:
        """Write a safetensors file, whole or not at all, which survives a power failure.

        Raises:
            OSError: It cannot be written.
        """
        header = {"values": json.dumps(self.values), "sha256": self.digest}
        write_tensors(path, self.tensors, header, durable=True)


def read_state(path: Path) -> SavedState:
    """Read what :meth:`SavedState.write` wrote.

    Raises:
        InputError: The file is missing, damaged, or something else.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        saved = SavedState(tensors, json.loads(header["values"]))
        if saved.values["format"] != _FORMAT or saved.digest != header["sha256"]:
            raise ValueError("its content is not what was written")
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"cannot read the state {path}: {error}") from error
    return saved


def save_state(state: TrackState) -> SavedState:
    """Copy a state.

    Args:
        state: A video after `HQTracker.track` or `HQTracker.initialize`. The features of its last
            frame are left out, which are computed again when they are needed.

    Raises:
        InputError: It has a latency budget: what it does depends on the clock.
    """
    if type(state) is not TrackState:
        raise InputError("the state of a video with a latency budget cannot be saved")
    tensors = {"slot_map": state.slot_map, "given_areas": state.given_areas}
    if state.last_seen is not None:
        tensors["last_seen.boxes"] = state.last_seen.boxes
        tensors["last_seen.frames_unseen"] = state.last_seen.frames_unseen
    groups = []
    for number, group in enumerate(state.groups):
        parts, values = _save_group(group)
        tensors |= {f"groups.{number}.{name}": tensor for name, tensor in parts.items()}
        groups.append(values)
    crops = []
    for number, crop in enumerate(state.crops):
        saved = save_state(crop.state)
        tensors |= {f"crops.{number}.{name}": tensor for name, tensor in saved.tensors.items()}
        place = {name: getattr(crop, name) for name in _CROP_PLACE}
        crops.append({**place, "values": saved.values})
    values = {
        "format": _FORMAT,
        "geometry": dataclasses.asdict(state.geometry),
        "frame_index": state.frame_index,
        "object_ids": [int(object_id) for object_id in state.slots.object_ids],
        "group_size": state.slots.group_size,
        "groups": groups,
        "crops": crops,
    }
    copies = {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}
    return SavedState(
        {name: copy.contiguous() for name, copy in copies.items()}, json.loads(json.dumps(values))
    )


def fill_state(state: TrackState, saved: SavedState, groups: Iterable[GroupMemory]) -> None:
    """Put a saved state into a new one.

    Args:
        state: New state of a video of that frame size, without objects.
        saved: Result of :func:`save_state`.
        groups: Empty memories, as many as are needed.

    Raises:
        InputError: It was saved by a tracker with other options.
    """
    values, device = saved.values, state.slot_map.device
    geometry = json.loads(json.dumps(dataclasses.asdict(state.geometry)))
    gate = "last_seen.boxes" in saved.tensors
    if (
        geometry != values["geometry"]
        or values["group_size"] != state.slots.group_size
        or gate != (state.last_seen is not None)
    ):
        raise InputError("the saved state was made by a tracker with other options")
    tensors = {name: tensor.to(device) for name, tensor in saved.tensors.items()}
    state.slot_map, state.given_areas = tensors["slot_map"], tensors["given_areas"]
    if gate:
        boxes, unseen = tensors["last_seen.boxes"], tensors["last_seen.frames_unseen"]
        state.last_seen = LastSeen(boxes, unseen)
    state.frame_index = saved.num_frames - 1
    state.slots.add(saved.object_ids)
    state.given = frozenset(() if state.frame_index else saved.object_ids)
    for number, (group, content) in enumerate(zip(groups, _dicts(values["groups"]), strict=False)):
        _fill_group(group, _below(f"groups.{number}", tensors), content)
        state.groups.append(group)


def _save_group(group: GroupMemory) -> tuple[dict[str, Tensor], dict[str, object]]:
    """Return a group's tensors by name, and which entry is where; a shared entry is stored once."""
    lists = {
        "references": group._references,
        "recent": group._recent,
        "short_term": list(group._short_term),
    }
    entries = {id(entry): entry for found in lists.values() for entry in found}
    numbers = {key: number for number, key in enumerate(entries)}
    tensors = {}
    for number, entry in enumerate(entries.values()):
        for index, layer in enumerate(entry.layers):
            tensors[f"{number}.{index}.key"] = layer.key
            tensors[f"{number}.{index}.value"] = layer.value
    return tensors, {
        "last_long_term": group.last_long_term,
        "frames": [entry.frame_index for entry in entries.values()],
        "num_layers": [len(entry.layers) for entry in entries.values()],
        **{name: [numbers[id(entry)] for entry in found] for name, found in lists.items()},
    }


def _fill_group(
    group: GroupMemory, tensors: Mapping[str, Tensor], values: Mapping[str, object]
) -> None:
    frames, counts = _integers(values["frames"]), _integers(values["num_layers"])
    entries = [
        MemoryEntry(
            frame,
            tuple(
                LayerMemory(tensors[f"{number}.{index}.key"], tensors[f"{number}.{index}.value"])
                for index in range(count)
            ),
        )
        for number, (frame, count) in enumerate(zip(frames, counts, strict=True))
    ]
    group.last_long_term = _integers([values["last_long_term"]])[0]
    group._references = [entries[number] for number in _integers(values["references"])]
    group._recent = [entries[number] for number in _integers(values["recent"])]
    short_term = [entries[number] for number in _integers(values["short_term"])]
    group._short_term = deque(short_term, maxlen=group._short_term.maxlen)


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    start = f"{prefix}."
    return {name.removeprefix(start): t for name, t in tensors.items() if name.startswith(start)}


def _integers(value: object) -> list[int]:
    return [int(part) for part in value] if isinstance(value, list) else []


def _dicts(value: object) -> list[dict[str, object]]:
    return value if isinstance(value, list) else []
