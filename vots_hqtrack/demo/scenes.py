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
                Pose(0.35, 400, 460, 205, 6),
                Pose(0.65, 600, 500, 200, -5),
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
                Pose(0.4, 400, 540, 125, 60),
                Pose(0.7, 480, 580, 130, 130),
                Pose(1, 520, 390, 105, 200),
            ),
            ObjectId(2),
            shadow=0.4,
        ),
        Actor(
            "cup",
            (
                Pose(0, 640, 500, 185, 0),
                Pose(0.45, 500, 500, 215, -14),
                Pose(0.75, 440, 440, 190, 8),
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
            (Pose(0, 600, 580, 170, 0), Pose(0.5, 550, 550, 200, 40), Pose(1, 470, 520, 235, 85)),
            ObjectId(1),
        ),
        Actor(
            "shuttle",
            (
                Pose(0, 700, 460, 165, -30),
                Pose(0.4, 650, 600, 165, -20),
                Pose(0.7, 570, 660, 165, -40),
                Pose(1, 670, 680, 170, -60),
            ),
        ),
        Actor(
            "astronaut",
            (
                Pose(0, 290, 550, 210, -10),
                Pose(0.4, 410, 580, 200, 18),
                Pose(0.75, 530, 540, 180, 50),
                Pose(1, 630, 500, 160, 80),
            ),
            ObjectId(2),
        ),
        Actor(
            "shuttle",
            (
                Pose(0, 330, 680, 170, 60),
                Pose(0.35, 470, 600, 190, 35),
                Pose(0.65, 550, 500, 180, 15),
                Pose(1, 410, 460, 150, -25),
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
