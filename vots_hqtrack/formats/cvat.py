"""CVAT for video 1.1: one XML file a task, a track for each object, its shape on each frame.

Tracks are numbered from 0 by CVAT itself, so the object's id is in an attribute, ``object_id``,
which CVAT keeps where the label has it. Masks are run lengths in row order inside their box.
"""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from vots_hqtrack.errors import InputError
from vots_hqtrack.formats.files import whole_number
from vots_hqtrack.formats.polygons import mask_polygon
from vots_hqtrack.formats.stream import (
    DEFAULT_NAME,
    FrameMasks,
    FrameName,
    MaskVideo,
    Overlaps,
    check_length,
    check_size,
)
from vots_hqtrack.types import MaskArray, Size
from vots_hqtrack.vot.region_text import encode_region, fill_polygon, fill_rectangle, place_runs

ATTRIBUTE = "object_id"
_SHAPES = ("mask", "polygon", "box")
_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")

ShapeWriter = Callable[[MaskArray], str]
"""Writes the tag and the attributes of a shape."""


def write_cvat(videos: Sequence[MaskVideo], out: Path, overlaps: Overlaps) -> None:
    """Write the masks of a video as tracks of masks."""
    del overlaps  # tracks may overlap
    _write(videos, out, _mask_shape)


def write_cvat_polygons(videos: Sequence[MaskVideo], out: Path, overlaps: Overlaps) -> None:
    """Write the masks of a video as tracks of polygons."""
    del overlaps
    _write(videos, out, _polygon_shape)


def is_cvat(path: Path) -> bool:
    """Whether a file is of CVAT's kind."""
    if path.suffix.lower() != ".xml" or not path.is_file():
        return False
    with path.open("rb") as file:
        return b"<annotations" in file.read(4096)


def read_cvat(path: Path) -> list[MaskVideo]:
    """Read the video of a file: tracks of masks, polygons and boxes on the frames of its task.

    "CVAT for images 1.1" is read where shapes have a group, which becomes the object.

    Raises:
        InputError: It is not such a file, or it has a shape of another kind.
    """
    root = _parse(path)
    found = _Objects(path)
    for track in root.iter("track"):
        number = _object_id(track, path)
        for shape in track:
            found.add(number, _whole(shape, "frame", path), shape, track.get("label"))
    images = {_whole(image, "id", path): image for image in root.iter("image")}
    for index, image in images.items():
        for shape in image:
            found.add(_whole(shape, "group_id", path), index, shape, shape.get("label"))
    indices = _frame_indices(root, images, found, path)
    stems = {index: Path(image.get("name", "")).stem for index, image in images.items()}
    size = _read_size(root, images, path)
    video = MaskVideo(
        root.findtext("meta/task/name") or root.findtext("meta/job/name") or path.stem,
        size,
        tuple(FrameName(index, stems.get(index) or f"{index:06d}") for index in indices),
        dict(sorted(found.names.items())),
        partial(_read_frame, found.shapes, size, indices, path),
    )
    return [video]


class _Objects:
    """Shapes of a file, by object and frame."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.names: dict[int, str] = {}
        self.shapes: dict[int, dict[int, ET.Element]] = {}

    def add(self, number: int, frame: int, shape: ET.Element, label: str | None) -> None:
        where = f"{self._path}, object {number}, frame {frame}"
        if shape.tag not in _SHAPES or shape.get("rotation", "0").strip("0.") != "":
            got = f"a rotated {shape.tag}" if shape.tag in _SHAPES else f"a {shape.tag}"
            raise InputError(f"{where}: wanted masks, polygons and boxes, got {got}")
        if frame in self.shapes.setdefault(number, {}):
            raise InputError(f"{where}: there are two shapes")
        self.shapes[number][frame] = shape
        self.names[number] = label or DEFAULT_NAME


def _parse(path: Path) -> ET.Element:
    try:
        text = path.read_bytes().decode("utf-8-sig")
        if "<!DOCTYPE" in text:  # entities could blow up, and CVAT writes none
            raise InputError(f"{path}: wanted XML as CVAT writes it, got a DOCTYPE")
        root = ET.fromstring(text)  # noqa: S314 - no DOCTYPE, no entities
    except (OSError, UnicodeDecodeError, ET.ParseError) as error:
        raise InputError(f"cannot read {path} as XML: {error}") from error
    if root.tag != "annotations":
        raise InputError(f"{path}: wanted CVAT's <annotations>, got <{root.tag}>")
    return root


def _object_id(track: ET.Element, path: Path) -> int:
    """Return the id of a track's object: its attribute, or the track's number counted from 1."""
    for attribute in track.iter("attribute"):
        number = whole_number((attribute.text or "").strip())
        if attribute.get("name") == ATTRIBUTE and number:
            return number
    return _whole(track, "id", path) + 1


def _frame_indices(
    root: ET.Element, images: Mapping[int, ET.Element], found: _Objects, path: Path
) -> Sequence[int]:
    """Return the frames of a task, all of which count as annotated."""
    if images:
        return sorted(images)
    shown = [frame for shapes in found.shapes.values() for frame in shapes]
    sizes = [node.findtext("size") for node in root.iterfind("meta/*")]
    text = next((size for size in sizes if size), None)
    length = max(shown, default=-1) + 1
    stated = whole_number(text or "0")
    if stated is None:
        raise InputError(f"{path}: wanted the number of frames as <size>, got {text!r:.40}")
    return range(check_length(max(length, stated), path))


def _read_size(root: ET.Element, images: Mapping[int, ET.Element], path: Path) -> Size:
    node = root.find("meta/*/original_size")
    if node is None:
        node = root.find("meta/original_size")
    if node is not None:
        texts = {(node.findtext("height", ""), node.findtext("width", ""))}
    else:
        texts = {(image.get("height", ""), image.get("width", "")) for image in images.values()}
    pair = next(iter(texts), ("", ""))
    height, width = map(whole_number, pair)
    if len(texts) != 1 or not height or not width:
        raise InputError(f"{path}: wanted the size of the frames, the same for all")
    return check_size(height, width, path)


def _read_frame(
    tracks: Mapping[int, Mapping[int, ET.Element]],
    size: Size,
    indices: Sequence[int],
    path: Path,
    position: int,
) -> FrameMasks:
    masks = {}
    for number, shapes in tracks.items():
        shape = shapes.get(indices[position])
        if shape is None or shape.get("outside") == "1":
            continue
        try:
            mask = _fill(shape, size)
        except (ValueError, OverflowError, InputError) as error:
            where = f"{path}, object {number}, frame {indices[position]}"
            raise InputError(f"{where}: cannot read the {shape.tag}: {error}") from error
        if mask.any():
            masks[number] = mask
    return FrameMasks(masks)


def _fill(shape: ET.Element, size: Size) -> MaskArray:
    """Fill a shape on a frame; ValueError, OverflowError or InputError if it is damaged."""
    if shape.tag == "mask":
        left, top, width, height = (
            int(float(shape.get(key, ""))) for key in ("left", "top", "width", "height")
        )
        runs = [int(part) for part in shape.get("rle", "").split(",")]
        return place_runs((left, top), Size(height, width), runs, size)
    if shape.tag == "box":
        x0, y0, x1, y1 = _numbers([shape.get(key, "") for key in ("xtl", "ytl", "xbr", "ybr")])
        return fill_rectangle((x0, y0, x1 - x0, y1 - y0), size)
    corners = [_numbers(point.split(",")) for point in shape.get("points", "").split(";")]
    if any(len(corner) != 2 for corner in corners):
        raise ValueError("wanted points x,y;x,y;...")
    return fill_polygon(corners, size)


def _numbers(texts: Sequence[str]) -> list[float]:
    numbers = [float(text) for text in texts]
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"wanted finite numbers, got {texts}")
    return numbers


def _whole(node: ET.Element, key: str, path: Path) -> int:
    number = whole_number(node.get(key, ""))
    if number is None:
        got = f"{node.get(key)!r:.40}" if key in node.attrib else "none"
        raise InputError(f"{path}: wanted a whole number as {key} of each {node.tag}, got {got}")
    return number


def _write(videos: Sequence[MaskVideo], out: Path, write_shape: ShapeWriter) -> None:
    (video,) = videos
    tracks: dict[int, list[str]] = {number: [] for number in video.objects}
    open_tracks: dict[int, str] = {}  # attributes of the newest shape
    following = [frame.index for frame in video.frames[1:]]
    for (frame, found), after in zip(video, [*following, video.num_frames], strict=True):
        for number in [number for number in open_tracks if number not in found.masks]:
            tracks[number].append(_shape_line(frame.index, open_tracks.pop(number), outside=True))
        for number, mask in found.masks.items():
            shape = f"{write_shape(mask)}>{_attribute(number)}"
            tracks[number].append(_shape_line(frame.index, shape))
            open_tracks[number] = shape
        if after > frame.index + 1:  # nothing is known of the next frame
            for number in list(open_tracks):
                closing = _shape_line(frame.index + 1, open_tracks.pop(number), outside=True)
                tracks[number].append(closing)
    with out.open("w", encoding="utf-8", newline="\n") as file:
        file.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n')
        file.write("  <version>1.1</version>\n")
        file.write(_meta(video))
        shown = {number: lines for number, lines in tracks.items() if lines}
        for track_id, (number, lines) in enumerate(shown.items()):
            label = quoteattr(_text(video.objects[number]))
            file.write(f'  <track id="{track_id}" label={label} source="auto">\n')
            file.writelines(lines)
            file.write("  </track>\n")
        file.write("</annotations>\n")


def _shape_line(frame: int, shape: str, *, outside: bool = False) -> str:
    tag, _, rest = shape.partition(" ")
    flags = f'frame="{frame}" keyframe="1" outside="{int(outside)}" occluded="0" z_order="0"'
    return f"    <{tag} {flags} {rest}</{tag}>\n"


def _attribute(number: int) -> str:
    return f'<attribute name="{ATTRIBUTE}">{number}</attribute>'


def _mask_shape(mask: MaskArray) -> str:
    left, top, width, height, *runs = encode_region(mask)[1:].split(",")
    box = f'left="{left}" top="{top}" width="{width}" height="{height}"'
    return f'mask rle="{", ".join(runs)}" {box}'


def _polygon_shape(mask: MaskArray) -> str:
    points = ";".join(f"{x:.2f},{y:.2f}" for x, y in mask_polygon(mask))
    return f'polygon points="{points}"'


def _meta(video: MaskVideo) -> str:
    """Describe the task: its frames, and a label for each name with the attribute of the ids."""
    attribute = (
        f"<attribute><name>{ATTRIBUTE}</name><mutable>False</mutable>"
        "<input_type>number</input_type><default_value>0</default_value>"
        "<values>0\n1000000\n1</values></attribute>"
    )
    labels = "".join(
        f"<label><name>{escape(_text(name))}</name><type>any</type>"
        f"<attributes>{attribute}</attributes></label>"
        for name in dict.fromkeys(video.objects.values())
    )
    size = f"<width>{video.size.width}</width><height>{video.size.height}</height>"
    return (
        f"  <meta><task><name>{escape(_text(video.name))}</name><size>{video.num_frames}</size>"
        f"<mode>interpolation</mode><start_frame>0</start_frame>"
        f"<stop_frame>{max(video.num_frames - 1, 0)}</stop_frame><labels>{labels}</labels>"
        f"<original_size>{size}</original_size></task></meta>\n"
    )


def _text(name: str) -> str:
    """Replace what XML cannot hold."""
    return _NOT_XML.sub("?", name)
