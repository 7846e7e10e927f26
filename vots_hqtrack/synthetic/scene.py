"""Sampling of a clip's layers: footage, paths, meetings, occlusions, parts and wholes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vots_hqtrack.synthetic.choice import (
    FootageChooser,
    Indices,
    choose_frames,
    fill_boxes,
    touching_objects,
    union_boxes,
)
from vots_hqtrack.synthetic.footage import Footage
from vots_hqtrack.synthetic.kinds import ClipKind
from vots_hqtrack.synthetic.layers import Array, Layer, no_waves, sample_waves
from vots_hqtrack.synthetic.motion import (
    Track,
    approach,
    camera_path,
    crossing_path,
    drift,
    free_path,
    meeting_point,
)
from vots_hqtrack.synthetic.plan import MAX_PLANES
from vots_hqtrack.types import SLOTS_PER_GROUP

SMALLEST_VIEW = 0.5
"""Smallest part of the largest possible view that a background shows."""
FILLING, NEAREST = (0.7, 1.6), 0.15
"""View filled by an object, relative to the object; minimum, relative to the largest view."""
WHOLE = 0.3
"""Probability that an object is cut out together with those that touch it."""
MAX_GROUP = 4
MAX_AREA, GROWN_AREA = 0.8, 1.4
"""Maximum area of a layer, relative to the frame, in the first frame and after an approach."""
FRONT = 10.0
"""Depth of occluders."""


class Scene:
    """One clip in the making.

    Args:
        chooser: Chooses footage.
        generator: Random generator; nothing else decides.
        num_frames: ``T``, at least 2.
        size: Height and width of the frames.
        kind: Probabilities of the events.
    """

    def __init__(
        self,
        chooser: FootageChooser,
        generator: np.random.Generator,
        num_frames: int,
        size: tuple[int, int],
        kind: ClipKind,
    ) -> None:
        self.chooser, self.generator, self.kind = chooser, generator, kind
        self.num_frames, self.size = num_frames, size
        self.next_label = 1
        self.known: list[Track] = []
        self.foreground: list[Layer] = []

    def layers(self) -> list[Layer]:
        """Sample the background, then the foreground layers in the order of pasting."""
        kind, generator = self.kind, self.generator
        odds = np.asarray(kind.layers) / np.sum(kind.layers)
        count = int(generator.choice(len(odds), p=odds))
        base = self._base(label_budget=SLOTS_PER_GROUP - count)
        for _ in range(count):
            self._add_layer()
        for layer in list(self.foreground):
            is_labelled = any(layer.labels.values())
            if is_labelled and generator.random() < kind.hide:
                self._hide(layer)
        ordered = sorted(self.foreground, key=lambda layer: layer.depth)
        return [base, *ordered[: MAX_PLANES - 1]]

    def _happens(self, probability: float) -> bool:
        return bool(self.generator.random() < probability)

    def _take_label(self) -> int:
        if self.next_label > SLOTS_PER_GROUP:
            return 0
        self.next_label += 1
        return self.next_label - 1

    # ---- background

    def _base(self, label_budget: int) -> Layer:
        generator, kind = self.generator, self.kind
        footage = self.chooser.choose(generator, video=self._happens(kind.video_base), cut=False)
        frames = self._frames(footage, range(len(footage.ids)))
        speed = kind.camera * (0.15 if footage.is_video else 1.0)
        height, width = self.size
        boxes = footage.boxes[frames]
        shown = footage.present(int(frames[0]))
        extent = np.array([footage.width, footage.height], np.float64)
        position = int(generator.choice(shown)) if len(shown) else None
        largest = min(footage.width, footage.height * width / height)
        view = largest * generator.uniform(SMALLEST_VIEW, 1.0)
        focus = generator.uniform(0, 1, 2) * extent
        spread = 0.25
        if position is not None and self._happens(kind.fill):
            sides = boxes[0, position, 2:] - boxes[0, position, :2]
            near = max(float(sides[0]), float(sides[1]) * width / height)
            view = float(np.clip(near * generator.uniform(*FILLING), NEAREST * largest, largest))
            spread = 0.12
        half = 0.5 * np.array([view, view * height / width])
        if position is not None and self._happens(0.9):
            box = boxes[0, position]
            focus = 0.5 * (box[:2] + box[2:]) + generator.normal(0, spread, 2) * half
        focus = np.clip(focus, np.minimum(half, extent / 2), np.maximum(extent - half, extent / 2))
        scale = width / view * np.exp(-drift(generator, self.num_frames, 0.02 * speed))
        if self._happens(0.5 * kind.grow):
            scale = scale * approach(generator, self.num_frames, generator.uniform(1.2, 3))
        layer = Layer(
            footage=footage,
            frames=frames,
            labels=self._base_labels(footage, frames, shown, label_budget),
            centre=np.tile([width / 2, height / 2], (self.num_frames, 1)),
            source_centre=focus + camera_path(generator, self.num_frames, 0.042 * speed) * half,
            scale=scale,
            angle=drift(generator, self.num_frames, 0.02 * speed),
            mirror=self._mirror(),
            half=np.tile(extent, (self.num_frames, 1)),
            is_visible=np.ones(self.num_frames, bool),
            waves=no_waves(self.num_frames),
        )
        if not footage.is_video and self._happens(0.3):
            amplitude = generator.uniform(0, 0.006)
            layer.waves = sample_waves(generator, layer.centre, min(self.size), amplitude)
        for position in shown:
            points = 0.5 * (boxes[:, position, :2] + boxes[:, position, 2:])
            path = layer.to_output(points.astype(np.float64))
            inside = (path[0] >= 0).all() and (path[0] < [width, height]).all()
            if inside and not np.isnan(path).any():
                self.known.append(path)
        return layer

    def _base_labels(
        self,
        footage: Footage,
        frames: Indices,
        shown: Indices,
        budget: int,
    ) -> dict[int, int]:
        generator, kind = self.generator, self.kind
        labels: dict[int, int] = {}
        order = [int(position) for position in generator.permutation(shown)]
        if order and self._happens(kind.base_join):
            group = [order[0], *touching_objects(footage, int(frames[0]), order[0], MAX_GROUP - 1)]
            label = self._take_label()
            labels = dict.fromkeys(group, label)
        elif kind.unlabelled >= 1 and order:  # a single object among unlabelled ones
            labels = {order[0]: self._take_label()}
        if kind.unlabelled >= 1:
            return labels
        for position in order:
            if position not in labels and len(set(labels.values())) < budget:
                if self._happens(kind.base_labels):
                    labels[position] = self._take_label()
        return labels

    # ---- foreground

    def _add_layer(self) -> None:
        generator, kind = self.generator, self.kind
        earlier = self.foreground
        parent = None
        if earlier and self._happens(kind.join + kind.attach):
            parent = earlier[int(generator.integers(len(earlier)))]
        is_copy = bool(earlier) and self._happens(kind.copy)
        if is_copy:
            model = earlier[int(generator.integers(len(earlier)))]
            footage, positions = model.footage, list(model.labels)
        else:
            footage, positions = self._choose_object()
        area = self._area(kind, is_copy=is_copy)
        frames = self._frames(footage, positions)
        layer = self._place(footage, positions, frames, area, parent)
        strength = 1.0 if not is_copy else float(generator.choice([0.2, 1.2]))
        layer.colour = self._colours(strength)
        self._label(layer, positions, parent)
        if parent is None and self._happens(kind.leave):
            self._leave(layer)
        self.foreground.append(layer)
        self.known.append(layer.centre)

    def _choose_object(self) -> tuple[Footage, list[int]]:
        generator, kind = self.generator, self.kind
        if self.foreground and self._happens(kind.same_footage):
            footage = self.foreground[0].footage
        else:
            footage = self.chooser.choose(
                generator, video=self._happens(kind.video_layer), cut=True
            )
        candidates = np.flatnonzero(footage.can_cut)
        if not len(candidates):
            candidates = np.arange(len(footage.ids))
        first = int(generator.choice(candidates))
        whole = max(WHOLE, min(kind.join + kind.attach, 0.8)) if len(footage.ids) > 1 else 0.0
        if not self._happens(whole):
            return footage, [first]
        present = np.flatnonzero(~np.isnan(footage.boxes[:, first, 0]))
        frame = int(generator.choice(present))
        return footage, [first, *touching_objects(footage, frame, first, MAX_GROUP - 1)]

    def _area(self, kind: ClipKind, *, is_copy: bool) -> float:
        low, high = np.log(kind.area)
        area = float(np.exp(self.generator.uniform(low, high)))
        if self.foreground and (is_copy or self._happens(0.35)):
            area = self.foreground[0].area * float(np.exp(self.generator.normal(0, 0.25)))
        return min(area, MAX_AREA)

    def _place(
        self,
        footage: Footage,
        positions: list[int],
        frames: Indices,
        area: float,
        parent: Layer | None,
    ) -> Layer:
        generator, num_frames = self.generator, self.num_frames
        boxes = union_boxes(footage.boxes[frames][:, positions])
        present = ~np.isnan(boxes[:, 0])
        filled = fill_boxes(boxes)
        pixels = np.nansum(footage.areas[frames][:, positions], axis=1)
        pixels = float(np.median(pixels[present])) if present.any() else 1.0
        if parent is not None:
            area = parent.area * generator.uniform(0.12, 0.9)
        height, width = self.size
        scale = np.sqrt(area * height * width / max(pixels, 1.0))
        half = 0.5 * (filled[:, 2:] - filled[:, :2])
        scale = min(scale, 1.6 * min(self.size) / max(2 * float(half.max()), 1.0))
        layer = Layer(
            footage=footage,
            frames=frames,
            labels={},
            centre=np.zeros((num_frames, 2)),
            source_centre=0.5 * (filled[:, :2] + filled[:, 2:]),
            scale=scale * np.exp(drift(generator, num_frames, 0.03)),
            angle=generator.normal(0, 0.15) + drift(generator, num_frames, 0.04),
            mirror=self._mirror(),
            half=half,
            is_visible=present,
            waves=no_waves(num_frames),
            depth=generator.random(),
            area=area,
        )
        if parent is not None:
            self._attach(layer, parent)
        else:
            if self._happens(self.kind.grow):
                self._grow(layer)
            layer.centre = self._path(layer)
        amplitude = generator.uniform(0.0, 0.035)
        layer.waves = sample_waves(generator, layer.centre, layer.side, amplitude)
        return layer

    def _path(self, layer: Layer) -> Track:
        anchor = None
        if self.known and self._happens(self.kind.meet):
            anchor = meeting_point(self.generator, self.known, 0.35 * layer.side)
        return free_path(self.generator, self.num_frames, self.size, anchor=anchor)

    def _grow(self, layer: Layer) -> None:
        """Let a layer approach until it fills much of the frame, or the reverse."""
        generator = self.generator
        factor = min(generator.uniform(2, 6), np.sqrt(GROWN_AREA / layer.area))
        growth = approach(generator, self.num_frames, factor)
        layer.area = min(layer.area * growth[0] ** 2, GROWN_AREA)
        layer.scale = layer.scale * growth

    def _attach(self, layer: Layer, parent: Layer) -> None:
        """Let a layer move with its parent and a little against it."""
        generator = self.generator
        heading = generator.uniform(0, 2 * np.pi)
        direction = np.array([np.cos(heading), np.sin(heading)])
        grown = parent.scale / parent.scale[0]
        layer.scale = layer.scale[0] * grown * np.exp(drift(generator, self.num_frames, 0.01))
        reach = parent.half[0] * parent.scale[0] + layer.half[0] * layer.scale[0]
        distance = float(np.abs(reach * direction).sum()) * generator.uniform(0.45, 0.85)
        turn = parent.angle - parent.angle[0]
        rotated = np.stack(
            [
                np.cos(turn) * direction[0] - np.sin(turn) * direction[1],
                np.sin(turn) * direction[0] + np.cos(turn) * direction[1],
            ],
            -1,
        )
        wobble = np.cumsum(generator.normal(0, 0.02 * layer.side, (self.num_frames, 2)), axis=0)
        layer.centre = parent.centre + distance * grown[:, None] * rotated + wobble - wobble[0]
        layer.angle = layer.angle[0] + turn + drift(generator, self.num_frames, 0.03)
        layer.depth = parent.depth + generator.uniform(-1e-3, 1e-3)
        layer.is_visible = layer.is_visible & parent.is_visible

    def _label(self, layer: Layer, positions: list[int], parent: Layer | None) -> None:
        kind = self.kind
        if self.kind.unlabelled >= 1 or (self.foreground and self._happens(kind.unlabelled)):
            layer.labels = dict.fromkeys(positions, 0)
            return
        joins = self._happens(kind.join / max(kind.join + kind.attach, 1e-6))
        if parent is not None and joins:
            label = next(iter(parent.labels.values()))
            layer.labels = dict.fromkeys(positions, label)
        elif len(positions) > 1 and not joins:
            layer.labels = {position: self._take_label() for position in positions}
        else:
            layer.labels = dict.fromkeys(positions, self._take_label())
            if self._happens(kind.split):
                heading = self.generator.uniform(0, 2 * np.pi)
                offset = self.generator.uniform(-0.3, 0.3) * float(layer.half[0].min())
                layer.split = (float(np.cos(heading)), float(np.sin(heading)), offset)
                layer.second_label = self._take_label() or -1  # none is left

    def _colours(self, strength: float) -> Array:
        generator = self.generator
        gains = np.exp(generator.normal(0, 0.12) + generator.normal(0, 0.06 * strength, 3))
        shifts = generator.normal(0, 12) + generator.normal(0, 10 * strength, 3)
        return np.concatenate([gains, shifts])

    # ---- absence

    def _leave(self, layer: Layer) -> None:
        """Let a layer go out of sight and stay away to the end."""
        frame = int(self.generator.integers(1, self.num_frames))
        if self._happens(0.3):
            layer.is_visible = layer.is_visible & (np.arange(self.num_frames) < frame)
            return
        outward = layer.centre[frame] - 0.5 * np.array([self.size[1], self.size[0]])
        outward = outward / max(float(np.linalg.norm(outward)), 1.0)
        speed = self.generator.uniform(0.3, 0.8) * min(self.size)
        times = np.maximum(np.arange(self.num_frames) - frame, 0)[:, None]
        layer.centre = layer.centre + speed * times * outward
        layer.waves = sample_waves(self.generator, layer.centre, layer.side, 0.02)

    def _hide(self, layer: Layer) -> None:
        """Cover a layer for some frames, or let it vanish for as long; it returns in time."""
        generator, num_frames = self.generator, self.num_frames
        duration = int(generator.integers(1, min(5, max(num_frames - 2, 1)) + 1))
        frame = int(generator.integers(1, max(num_frames - duration, 2)))
        if self._happens(0.3):
            hidden = np.arange(num_frames)
            layer.is_visible = layer.is_visible & ((hidden < frame) | (hidden >= frame + duration))
            return
        footage, positions = self._choose_object()
        frames = self._frames(footage, positions)
        area = min(layer.area * float(generator.uniform(1.2, 3.5)), 0.5)
        cover = self._place(footage, positions, frames, area, None)
        cover.labels = dict.fromkeys(positions, 0)
        cover.colour = self._colours(1.0)
        distance = 0.5 * (layer.side + cover.side)
        middle = frame + 0.5 * (duration - 1)
        nearest = min(round(middle), num_frames - 1)
        cover.centre = crossing_path(generator, layer.centre, nearest, distance, duration)
        cover.waves = sample_waves(generator, cover.centre, cover.side, 0.02)
        cover.depth = FRONT + generator.random()
        self.foreground.append(cover)

    def _frames(self, footage: Footage, positions: Sequence[int]) -> Indices:
        return choose_frames(self.generator, footage, positions, self.num_frames)

    def _mirror(self) -> float:
        return 1.0 if self._happens(0.5) else -1.0
