"""The demo's three scenes as data: what is seen, and how it and the camera move.

Places are pixels of the background, times run from 0 (first frame) to 1 (last frame).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from vots_hqtrack.types import ObjectId


@dataclass(frozen=True, slots=True)
class Pose:
    """Where something is at one time.

    Attributes:
        time: 0..1.
        x: Centre on the background in pixels, to the right.
        y: The same, downwards.
        size: Longer side of an object in pixels; for the camera, the magnification.
        angle: Turn in degrees, clockwise.
    """

    time: float
    x: float
    y: float
    size: float
    angle: float = 0.0


@dataclass(frozen=True, slots=True)
class Actor:
    """An object and its way through the scene; later actors are in front of earlier ones.

    Attributes:
        sprite: Name of its outline.
        poses: Its way.
        object_id: Id that it is tracked under, or None for a distractor.
        sway: Share of its height that it leans to and fro.
        shadow: Strength of the shadow that it throws, 0..1.
    """

    sprite: str
    poses: tuple[Pose, ...]
    object_id: ObjectId | None = None
    sway: float = 0.0
    shadow: float = 0.0


@dataclass(frozen=True, slots=True)
class Scene:
    """One sequence.

    Attributes:
        name: Its name.
        picture: Photograph of the background.
        scale: Magnification of the photograph.
        camera: The camera's way.
        actors: The objects, from back to front.
        tint: RGB of the darkest and brightest tones of a grey background, or None.
        light: How far the brightness goes up and down, 0..1.
    """

    name: str
    picture: str
    scale: float
    camera: tuple[Pose, ...]
    actors: tuple[Actor, ...]
    tint: tuple[tuple[int, int, int], tuple[int, int, int]] | None = None
    light: float = field(default=0.04)


BREAKFAST = Scene(
    name="breakfast",
    picture="brick",
    scale=1.9,
    tint=((52, 24, 18), (226, 150, 112)),
    camera=(Pose(0, 440, 460, 1.0), Pose(0.5, 520, 500, 1.06, 1.5), Pose(1, 600, 470, 1.0, -1)),
    actors=(
        Actor(
            "cat",
            (
                Pose(0, 260, 500, 190, -4),
                Pose(0.35, 400, 440, 205, 6),
                Pose(0.65, 600, 450, 200, -5),
                Pose(1, 780, 470, 225, 4),
            ),
            ObjectId(1),
            sway=0.05,
            shadow=0.4,
        ),
        Actor(
            "helmet",
            (
                Pose(0, 500, 360, 110, 0),
                Pose(0.4, 345, 560, 125, 60),
                Pose(0.7, 345, 590, 130, 130),
                Pose(1, 500, 590, 115, 200),
            ),
            ObjectId(2),
            shadow=0.4,
        ),
        Actor(
            "cup",
            (
                Pose(0, 640, 500, 185, 0),
                Pose(0.45, 500, 530, 215, -14),
                Pose(0.75, 440, 510, 190, 8),
                Pose(1, 410, 460, 165, 20),
            ),
            ObjectId(3),
            shadow=0.45,
        ),
    ),
)

ORBIT = Scene(
    name="orbit",
    picture="hubble",
    scale=1.0,
    camera=(Pose(0, 470, 560, 1.0), Pose(0.5, 510, 540, 1.05, 3), Pose(1, 560, 560, 1.0, 1)),
    actors=(
        Actor(
            "planet",
            (Pose(0, 630, 470, 150, 0), Pose(0.5, 610, 490, 170, 40), Pose(1, 580, 490, 195, 85)),
            ObjectId(1),
        ),
        Actor(
            "shuttle",
            (
                Pose(0, 730, 660, 165, -30),
                Pose(0.4, 720, 600, 165, -15),
                Pose(0.7, 730, 520, 160, -5),
                Pose(1, 790, 440, 155, 15),
            ),
        ),
        Actor(
            "astronaut",
            (
                Pose(0, 300, 540, 210, -10),
                Pose(0.4, 390, 580, 205, 12),
                Pose(0.75, 470, 600, 190, 32),
                Pose(1, 570, 610, 175, 50),
            ),
            ObjectId(2),
        ),
        Actor(
            "shuttle",
            (
                Pose(0, 250, 680, 165, 60),
                Pose(0.35, 430, 570, 190, 40),
                Pose(0.65, 570, 460, 180, 55),
                Pose(1, 700, 450, 150, 85),
            ),
            ObjectId(3),
        ),
    ),
)

MEADOW = Scene(
    name="meadow",
    picture="grass",
    scale=1.9,
    tint=((14, 30, 8), (196, 224, 120)),
    camera=(
        Pose(0, 500, 600, 1.0),
        Pose(0.3, 600, 590, 1.03, 1),
        Pose(0.6, 620, 600, 1.0, -1),
        Pose(1, 540, 600, 1.04),
    ),
    actors=(
        Actor(
            "cameraman",
            (Pose(0, 640, 660, 280, 0), Pose(0.5, 650, 650, 290, 2), Pose(1, 620, 660, 300, -2)),
            ObjectId(1),
            sway=0.03,
            shadow=0.35,
        ),
        Actor(
            "horse",
            (
                Pose(0, 360, 570, 210, 0),
                Pose(0.3, 470, 580, 225, -3),
                Pose(0.65, 670, 600, 240, 3),
                Pose(1, 760, 560, 215, -2),
            ),
            ObjectId(2),
            sway=0.06,
            shadow=0.35,
        ),
        Actor(
            "cup",
            (
                Pose(0, 300, 700, 120, 0),
                Pose(0.25, 230, 680, 120, -90),
                Pose(0.45, 130, 660, 120, -160),
                Pose(0.65, 150, 660, 120, -140),
                Pose(0.85, 340, 680, 120, -30),
                Pose(1, 500, 710, 125, 60),
            ),
            ObjectId(3),
            shadow=0.4,
        ),
    ),
)

SCENES = (BREAKFAST, ORBIT, MEADOW)
