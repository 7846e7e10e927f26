"""Prompts of ``hqtrack track``: points and boxes of the command line, and files of prompts.

A file of prompts is strict JSON. Frames count from 0, boxes are ``x, y, width, height``, labels are
1 inside the object and 0 outside, and a mask's path is relative to the file's folder::

    {"format": 1, "frames": {
      "0":  {"1": {"points": [[210, 350], [80, 20]], "labels": [1, 0]},
             "2": {"box": [90, 40, 50, 70]}},
      "40": {"1": {"mask": "corrected/00040.png"}}}}
"""

from __future__ import annotations

import json
import math
import re
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from vots_hqtrack.cli.boxes import Box, parse_box
from vots_hqtrack.errors import InputError
from vots_hqtrack.types import MAX_OBJECTS, PROMPT_IDS, is_prompt_id

FORMAT_VERSION = 1
_POINT = re.compile(r"([^,@]+),([^,@]+)(?:,([+-]))?(?:@([0-9]{1,9}))?")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,8}", re.ASCII)


class Point(NamedTuple):
    """A click in frame pixels; the origin is the outer corner of the top-left pixel."""

    x: float
    y: float
    is_inside: bool = True

    def __str__(self) -> str:
        """Write the point as it is typed."""
        return f"{self.x:g},{self.y:g}" + ("" if self.is_inside else ",-")


@dataclass(frozen=True, slots=True)
class Prompt:
    """Prompt of an object on a frame: points, a box, or both; or a mask.

    Attributes:
        points: Points inside and outside of the object.
        box: Box around it, or None.
        mask_path: Image of its mask, or None.
    """

    points: tuple[Point, ...] = ()
    box: Box | None = None
    mask_path: Path | None = None

    def to_json(self) -> dict[str, object]:
        """Return what a file of prompts holds; the path of a mask stays as it is."""
        content: dict[str, object] = {}
        if self.points:
            content["points"] = [[point.x, point.y] for point in self.points]
            content["labels"] = [int(point.is_inside) for point in self.points]
        if self.box is not None:
            content["box"] = list(self.box)
        if self.mask_path is not None:
            content["mask"] = str(self.mask_path)
        return content


@dataclass(frozen=True, slots=True)
class FramePrompt:
    """Prompts of one frame.

    Attributes:
        objects: Prompts by object id.
        mask_path: Mask image of all objects instead, or None.
    """

    objects: Mapping[int, Prompt] = field(default_factory=dict)
    mask_path: Path | None = None

    @property
    def files(self) -> list[Path]:
        """Files that it names."""
        paths = [self.mask_path, *(prompt.mask_path for prompt in self.objects.values())]
        return [path for path in paths if path is not None]

    def to_json(self) -> dict[str, object]:
        """Return what a file of prompts holds."""
        return {str(number): prompt.to_json() for number, prompt in sorted(self.objects.items())}


def parse_point(text: str) -> tuple[int, Point]:
    """Read ``x,y[,+|-][@object]``; returns the object's id, by default 1, and the point.

    Raises:
        InputError: It is not of this form.

    Example:
        >>> parse_point("210,350.5,-@2")
        (2, Point(x=210.0, y=350.5, is_inside=False))
    """
    found = _POINT.fullmatch(text.strip())
    try:
        if found is None:
            raise ValueError(text)
        x, y = float(found[1]), float(found[2])
    except ValueError as error:
        raise InputError(
            f"a point reads x,y or x,y,- (not the object), then @object, in pixels; got {text!r}"
        ) from error
    if not (math.isfinite(x) and math.isfinite(y)):
        raise InputError(f"a point must have finite numbers, got {text!r}")
    number = int(found[4] or 1)
    if not is_prompt_id(number):
        raise InputError(f"the object of a point must be {PROMPT_IDS}, got {text!r}")
    return number, Point(x, y, found[3] != "-")


def frame_prompt(boxes: Sequence[str], points: Sequence[str]) -> FramePrompt:
    """Put the prompts of the command line together: box n is object n, which points may refine.

    Raises:
        InputError: One cannot be read, or an object has only points outside of it.
    """
    if len(boxes) > MAX_OBJECTS:
        raise InputError(f"at most {MAX_OBJECTS} objects fit one video, got {len(boxes)} boxes")
    boxes_by_id = dict(enumerate(map(parse_box, boxes), start=1))
    points_by_id: dict[int, list[Point]] = {}
    for number, point in map(parse_point, points):
        points_by_id.setdefault(number, []).append(point)
    objects = {
        number: Prompt(tuple(points_by_id.get(number, ())), boxes_by_id.get(number))
        for number in sorted({*boxes_by_id, *points_by_id})
    }
    for number, prompt in objects.items():
        _require_inside(prompt, f"object {number}")
    return FramePrompt(objects)


def read_prompts(path: Path) -> dict[int, FramePrompt]:
    """Read a file of prompts.

    Returns:
        Prompts by frame, ascending; at least one.

    Raises:
        InputError: It cannot be read, or anything in it is not of the form above.
    """
    try:
        content = json.loads(
            path.read_text(encoding="utf-8-sig"),
            object_pairs_hook=_unique_keys,
            parse_constant=_refuse_constant,
        )
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or str(error) or "nested too deeply"
        raise InputError(f"cannot read the prompts {path}: {reason}") from error
    where = str(path)
    top = _mapping(content, where, required=("format", "frames"))
    if top["format"] != FORMAT_VERSION or isinstance(top["format"], bool):
        raise _wrong(f"{where}: format", str(FORMAT_VERSION), top["format"])
    frames = _mapping(top["frames"], f"{where}: frames")
    found = {}
    for name, objects in frames.items():
        place = f"{where}: frames.{name}"
        number = _number(name, place, "a frame number from 0")
        found[number] = FramePrompt(
            {
                _object_id(key, place): _read_prompt(value, f"{place}.{key}", path.parent)
                for key, value in _mapping(objects, place).items()
            }
        )
    return dict(sorted(found.items()))


def _read_prompt(content: object, where: str, folder: Path) -> Prompt:
    known = ("points", "labels", "box", "mask")
    values = _mapping(content, where, allowed=known)
    if "mask" in values:
        mask = values["mask"]
        if len(values) > 1:
            raise _wrong(where, "a mask alone, or points and a box", sorted(values))
        if not isinstance(mask, str) or not mask or "\0" in mask:
            raise _wrong(f"{where}.mask", "the path of an image", mask)
        return Prompt(mask_path=folder / mask)
    points = _list(values.get("points", []), f"{where}.points", "points [x, y]")
    labels = _list(values.get("labels", [1] * len(points)), f"{where}.labels", "labels 0 or 1")
    if len(labels) != len(points):
        raise _wrong(f"{where}.labels", f"one label for each of {len(points)} points", labels)
    for label in labels:
        if label not in (0, 1) or not isinstance(label, int) or isinstance(label, bool):
            raise _wrong(f"{where}.labels", "labels 0 or 1", label)
    places = [_numbers(point, 2, f"{where}.points", "points [x, y]") for point in points]
    clicks = [Point(x, y, bool(label)) for (x, y), label in zip(places, labels, strict=True)]
    box = None
    if "box" in values:
        box = Box(*_numbers(values["box"], 4, f"{where}.box", "[x, y, width, height]"))
        if min(box.width, box.height) <= 0:
            raise _wrong(f"{where}.box", "a width and a height above 0", values["box"])
    prompt = Prompt(tuple(clicks), box)
    _require_inside(prompt, where)
    return prompt


def _require_inside(prompt: Prompt, where: str) -> None:
    if prompt.box is None and not any(point.is_inside for point in prompt.points):
        raise InputError(f"{where}: wanted a box or a point inside the object, got neither")


def _mapping(
    value: object, where: str, *, required: Sequence[str] = (), allowed: Sequence[str] = ()
) -> dict[str, Any]:
    """Check an object of JSON, not empty; its keys are the required ones, or some allowed ones."""
    if not isinstance(value, dict) or not value:
        raise _wrong(where, "an object {...} that is not empty", value)
    known = required or allowed
    unknown = sorted(set(value) - set(known)) if known else []
    missing = sorted(set(required) - set(value))
    if unknown or missing:
        raise _wrong(where, f"the keys {', '.join(known)}", sorted(value))
    return value


def _list(value: object, where: str, wanted: str) -> list[Any]:
    if not isinstance(value, list):
        raise _wrong(where, f"a list of {wanted}", value)
    return value


def _numbers(value: object, count: int, where: str, wanted: str) -> list[float]:
    """Check a list of so many finite numbers."""
    if not isinstance(value, list) or len(value) != count:
        raise _wrong(where, wanted, value)
    for part in value:
        if not isinstance(part, int | float) or isinstance(part, bool):
            raise _wrong(where, wanted, value)
    try:
        numbers = [float(part) for part in value]
    except OverflowError as error:
        raise _wrong(where, f"{wanted} of finite numbers", value) from error
    if not all(map(math.isfinite, numbers)):
        raise _wrong(where, f"{wanted} of finite numbers", value)
    return numbers


def _object_id(name: str, where: str) -> int:
    wanted = f"object ids from {PROMPT_IDS}"
    number = _number(name, where, wanted)
    if not is_prompt_id(number):
        raise _wrong(where, wanted, name)
    return number


def _number(name: str, where: str, wanted: str) -> int:
    if not _NUMBER.fullmatch(name):
        raise _wrong(where, wanted, name)
    return int(name)


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {reprlib.repr(twice)} is there twice")
    return content


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not a number of JSON")


def _wrong(where: str, wanted: str, got: object) -> InputError:
    return InputError(f"{where}: wanted {wanted}, got {reprlib.repr(got)}")
