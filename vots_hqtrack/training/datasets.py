"""Training data on disk: photographs with instance masks, video sequences, and their clips.

Readers return arrays and know nothing of networks. ``augment`` makes clips of what they return.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import cv2
import numpy as np
from PIL import Image

from vots_hqtrack.errors import InputError, ShapeError
from vots_hqtrack.types import SLOTS_PER_GROUP, FrameArray, LabelArray

DEV_SPLIT = (
    "bmx-bumps",
    "breakdance-flare",
    "drift-turn",
    "hockey",
    "kite-walk",
    "lucia",
    "soccerball",
    "train",
)
"""DAVIS training sequences that are measured and therefore never trained on."""


@dataclass(frozen=True, slots=True)
class Clip:
    """Some frames of a video with the label maps of its objects.

    Attributes:
        frames: uint8 ``(T, H, W, 3)`` RGB.
        labels: uint8 ``(T, H, W)``; 0 is the background, 1..N are objects, N <= 10.
        origin: Data set, video and frames that it comes from, for people to read.
    """

    frames: FrameArray
    labels: LabelArray
    origin: str = ""

    def __post_init__(self) -> None:
        """Check shapes, dtypes and the range of the labels."""
        frames, labels = self.frames, self.labels
        if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8:
            got = f"{frames.dtype} {frames.shape}"
            raise ShapeError(f"clip frames must be uint8 (T, H, W, 3), got {got}")
        if labels.shape != frames.shape[:3] or labels.dtype != np.uint8:
            got = f"{labels.dtype} {labels.shape}"
            raise ShapeError(f"clip labels must be uint8 {frames.shape[:3]}, got {got}")
        if labels.size == 0:
            raise ShapeError(f"a clip must not be empty, got frames of shape {frames.shape}")
        if int(labels.max()) > SLOTS_PER_GROUP:
            raise ShapeError(f"clip labels must be 0..{SLOTS_PER_GROUP}, got {int(labels.max())}")

    @property
    def num_objects(self) -> int:
        """Highest label of the clip: objects are numbered without gaps in the first frame."""
        return int(self.labels.max())


class ClipDataset(Protocol):
    """A data set that clips are drawn from; `vots_hqtrack.training.adapters` opens them."""

    name: str
    """What captions and logs call it."""

    def __len__(self) -> int:
        """Return the number of videos or photographs."""

    def sample(
        self, index: int, num_frames: int, max_gap: int, generator: np.random.Generator
    ) -> Clip:
        """Draw a clip of one video, or the same photograph ``num_frames`` times.

        Args:
            index: Video or photograph, ``0 <= index < len(self)``.
            num_frames: ``T``, at least 1; the first frame is the reference.
            max_gap: Largest number of annotated frames from one frame of the clip to the next.
            generator: Source of chance; nothing else decides.

        Returns:
            A clip whose objects are seen in its first frame, at least one and at most 10, numbered
            from 1 without gaps.

        Raises:
            InputError: A file is missing or damaged, or no frame shows an object.
        """


class Photo(NamedTuple):
    """A photograph with its instances, or one frame of a video.

    Attributes:
        image: uint8 ``(H, W, 3)`` RGB.
        label_map: uint8 ``(H, W)``; 0 is the background, other values are instance numbers.
    """

    image: FrameArray
    label_map: LabelArray


def read_photo(image_path: Path, labels_path: Path) -> Photo:
    """Read a picture and its label map.

    Args:
        image_path: Colour picture in any format that OpenCV reads.
        labels_path: Palette or grey PNG whose values are instance numbers, or a 1-bit PNG.

    Raises:
        InputError: A file is missing or damaged, or the two sizes differ.
    """
    image = cv2.imread(str(image_path), cv2.IMREAD_COLOR) if image_path.is_file() else None
    if image is None:
        raise InputError(f"cannot read the picture {image_path}")
    try:
        # OpenCV turns palette values into colours; Pillow keeps them as numbers.
        with Image.open(labels_path) as picture:
            label_map = np.array(picture)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the label map {labels_path}: {error}") from error
    if label_map.shape != image.shape[:2]:
        raise InputError(
            f"{labels_path}: wanted one number per pixel and the picture's size "
            f"{image.shape[:2]}, got {label_map.shape}"
        )
    return Photo(
        image=np.ascontiguousarray(image[:, :, ::-1]), label_map=label_map.astype(np.uint8)
    )


class StaticInstances:
    """Photographs with instance masks: ``JPEGImages/*.jpg``, ``Annotations/*.png``, ``index.csv``.

    Args:
        root: Folder that holds the three.

    Raises:
        InputError: One of the three is missing, or the index names no photograph.
    """

    def __init__(self, root: Path) -> None:
        """Read the list of photographs."""
        self.root = root
        index_path = root / "index.csv"
        _require_folders(root, ("JPEGImages", "Annotations"))
        if not index_path.is_file():
            raise InputError(f"wanted the list of photographs at {index_path}, found none")
        with index_path.open(newline="", encoding="utf-8") as file:
            self.names = [row["name"] for row in csv.DictReader(file) if row.get("name")]
        if not self.names:
            raise InputError(f"{index_path} names no photograph (wanted a column called 'name')")

    def __len__(self) -> int:
        """Return the number of photographs."""
        return len(self.names)

    def load(self, index: int) -> Photo:
        """Read one photograph with its label map.

        Raises:
            InputError: Its files are missing or damaged.
        """
        name = self.names[index]
        return read_photo(
            self.root / "JPEGImages" / f"{name}.jpg", self.root / "Annotations" / f"{name}.png"
        )


@dataclass(frozen=True, slots=True)
class Sequence:
    """Files of one video, in order.

    Attributes:
        name: Name of its folder.
        frame_paths: Pictures.
        label_paths: Label maps, one per picture.
    """

    name: str
    frame_paths: tuple[Path, ...]
    label_paths: tuple[Path, ...]

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.frame_paths)

    def load(self, index: int) -> Photo:
        """Read one frame with its label map; a binary mask becomes object 1.

        Raises:
            InputError: Its files are missing or damaged.
        """
        frame, label_map = read_photo(self.frame_paths[index], self.label_paths[index])
        # Binary masks come as 1 (1-bit) or as 255 (grey) for the object.
        label_map[label_map == np.iinfo(np.uint8).max] = 1
        return Photo(frame, label_map)


class DavisSequences:
    """DAVIS videos at 480p: ``JPEGImages/480p/<name>/*.jpg`` and ``Annotations/480p/<name>/*.png``.

    Args:
        root: Folder that holds ``JPEGImages`` and ``Annotations``.
        exclude: Sequences that are left out.

    Raises:
        InputError: A folder is missing, no sequence is left, or frames and masks do not pair up.
    """

    def __init__(self, root: Path, exclude: Iterable[str] = DEV_SPLIT) -> None:
        """List the files of every sequence."""
        frames_folder, labels_folder = Path("JPEGImages/480p"), Path("Annotations/480p")
        _require_folders(root, (str(frames_folder), str(labels_folder)))
        excluded = frozenset(exclude)
        folders = sorted(path for path in (root / frames_folder).iterdir() if path.is_dir())
        self.sequences = tuple(
            _pair_files(folder, root / labels_folder / folder.name)
            for folder in folders
            if folder.name not in excluded
        )
        if not self.sequences:
            raise InputError(f"{root / frames_folder} holds no sequence besides those left out")

    def __len__(self) -> int:
        """Return the number of sequences."""
        return len(self.sequences)

    def load(self, index: int, frame_indices: Iterable[int]) -> Clip:
        """Read some frames of one sequence as a clip.

        Args:
            index: Sequence number.
            frame_indices: Frame numbers, in the clip's order.

        Raises:
            InputError: A file is missing or damaged.
        """
        sequence = self.sequences[index]
        photos = [sequence.load(frame_index) for frame_index in frame_indices]
        return Clip(
            frames=np.stack([photo.image for photo in photos]),
            labels=np.stack([photo.label_map for photo in photos]),
        )


def _require_folders(root: Path, names: Iterable[str]) -> None:
    for name in names:
        if not (root / name).is_dir():
            raise InputError(f"wanted a folder {name} in {root}, found none")


def _pair_files(frames_folder: Path, labels_folder: Path) -> Sequence:
    frame_paths = tuple(sorted(frames_folder.glob("*.jpg")))
    label_paths = tuple(labels_folder / f"{path.stem}.png" for path in frame_paths)
    missing = [path for path in label_paths if not path.is_file()]
    if not frame_paths or missing:
        wanted = missing[0] if missing else frames_folder / "*.jpg"
        raise InputError(f"sequence {frames_folder.name}: wanted {wanted}, found none")
    return Sequence(frames_folder.name, frame_paths, label_paths)
