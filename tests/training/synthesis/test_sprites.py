from __future__ import annotations

import numpy as np

from vots_hqtrack.training.datasets import Photo
from vots_hqtrack.training.synthesis.motion import ElasticMotion
from vots_hqtrack.training.synthesis.sprites import (
    Sprite,
    SpriteMotion,
    blend,
    cut_out,
    join_touching,
    paint,
    touching_groups,
)


def still(position: tuple[float, float], *, shown: bool = True) -> SpriteMotion:
    """One frame without deformation."""
    return SpriteMotion(
        positions=np.array([position]),
        scales=np.ones(1),
        angles=np.zeros(1),
        shears=np.zeros(1),
        elastic=ElasticMotion(np.zeros((2, 6, 6, 2), np.float32), np.zeros(1)),
        is_shown=np.array([shown]),
    )


def square(side: int, colour: int) -> Sprite:
    alpha = np.zeros((side + 8, side + 8), np.uint8)
    alpha[4:-4, 4:-4] = 255
    return Sprite(np.full((side + 8, side + 8, 3), colour, np.uint8), alpha)


def painted(position: tuple[float, float], **motion) -> tuple[np.ndarray, np.ndarray]:
    frame, labels = np.full((60, 80, 3), 10, np.uint8), np.full((60, 80), 3, np.uint8)
    paint(frame, labels, square(20, 200), still(position, **motion), frame_index=0, label=5)
    return frame, labels


def test_paint_values():
    # The sprite is 28 wide; its centre 13.5 comes to 39.5, so that pixel 0 comes to 26.
    frame, labels = painted((39.5, 29.5))
    wanted = np.full((60, 80), 3, np.uint8)
    wanted[20:40, 30:50] = 5
    assert np.array_equal(labels, wanted)
    assert np.all(frame[wanted == 5] == 200)
    assert np.all(frame[wanted == 3] == 10)


def test_paint_is_cut_at_the_frame():
    frame, labels = painted((0.0, 59.0))
    assert labels[59, 0] == 5
    assert (labels == 5).sum() == 10 * 10 or abs((labels == 5).sum() - 110) <= 11
    assert frame[59, 0, 0] == 200


def test_paint_out_of_sight_changes_nothing():
    for frame, labels in (painted((500.0, 30.0)), painted((30.0, 30.0), shown=False)):
        assert np.all(frame == 10)
        assert np.all(labels == 3)


def test_blend_values():
    below, above = np.full((1, 3, 3), 100, np.uint8), np.full((1, 3, 3), 200, np.uint8)
    mixed = blend(below, above, np.array([[0, 51, 255]], dtype=np.uint8))
    assert mixed[0, :, 0].tolist() == [100, 120, 200]


def test_touching_groups_are_transitive():
    label_map = np.zeros((3, 9), np.uint8)
    label_map[0, :3] = 5
    label_map[1, :3] = 2
    label_map[2, 2:4] = 7
    label_map[0, 6:] = 4
    assert touching_groups(label_map) == {2: 2, 4: 4, 5: 2, 7: 2}
    assert set(np.unique(join_touching(label_map))) == {0, 2, 4}


def test_cut_out_takes_whole_objects_only():
    image = np.zeros((100, 100, 3), np.uint8)
    label_map = np.zeros((100, 100), np.uint8)
    label_map[30:60, :25] = 1  # runs along the border
    rng = np.random.default_rng(0)
    assert cut_out(Photo(image, label_map), rng) is None
    label_map[70:90, 50:80] = 2
    image[label_map == 2] = (0, 0, 255)
    for _ in range(6):
        sprite = cut_out(Photo(image, label_map), rng)
        assert sprite is not None
        assert np.all(sprite.image[sprite.alpha > 0] == (0, 0, 255))
        assert np.count_nonzero(sprite.alpha) == 18 * 28  # one pixel is taken off all round


def test_cut_out_without_instances():
    photo = Photo(np.zeros((50, 50, 3), np.uint8), np.zeros((50, 50), np.uint8))
    assert cut_out(photo, np.random.default_rng(0)) is None


def test_resized_area():
    sprite = square(40, 90)
    for area in (400, 1600, 3600):
        found = np.count_nonzero(sprite.resized(area).alpha >= 128)
        assert abs(found - area) < 0.15 * area
    assert np.count_nonzero(sprite.resized(1e6).alpha >= 128) < 1.1 * 1600 * 2.5**2
