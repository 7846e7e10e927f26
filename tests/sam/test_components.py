"""Holes and islands, against a flood fill that goes from location to location."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from predictors import FRAME, embedding_of, make_initial, make_predictor
from reference_sam import reference_refiner

from vots_hqtrack.config import RefinerConfig
from vots_hqtrack.errors import ShapeError
from vots_hqtrack.masks import has_pixels
from vots_hqtrack.measures import jaccard
from vots_hqtrack.presets import hqtrack, lite
from vots_hqtrack.sam.components import clean_logits, find_holes, find_islands
from vots_hqtrack.sam.models import SamPredictor
from vots_hqtrack.types import MaskArray, Size

Locations = set[tuple[int, int]]


def disc(size: tuple[int, int], centre: tuple[int, int], radius: float) -> MaskArray:
    rows, columns = np.mgrid[: size[0], : size[1]]
    found: MaskArray = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < radius**2
    return found


def parts_of(mask: MaskArray, steps: list[tuple[int, int]]) -> list[Locations]:
    """Connected parts of a mask, by flood fill."""
    left = {(int(y), int(x)) for y, x in np.argwhere(mask)}
    parts = []
    while left:
        front = [left.pop()]
        part = set(front)
        while front:
            y, x = front.pop()
            near = {(y + dy, x + dx) for dy, dx in steps} & left
            left -= near
            part |= near
            front += near
        parts.append(part)
    return parts


STRAIGHT = [(0, 1), (1, 0), (0, -1), (-1, 0)]
DIAGONAL = [(1, 1), (1, -1), (-1, 1), (-1, -1)]


def slow_holes(mask: MaskArray, initial: MaskArray, covered: Size) -> Locations:
    found: Locations = set()
    for part in parts_of(~mask[: covered.height, : covered.width], STRAIGHT):
        at_edge = any(y in (0, covered.height - 1) or x in (0, covered.width - 1) for y, x in part)
        if not at_edge and 2 * sum(initial[place] for place in part) >= len(part):
            found |= part
    return found


def slow_islands(mask: MaskArray, initial: MaskArray) -> Locations:
    wanted = [(int(y), int(x)) for y, x in np.argwhere(initial)]
    parts = parts_of(mask, STRAIGHT + DIAGONAL)
    found: Locations = set()
    if not any(part & set(wanted) for part in parts):
        return found
    for part in parts:
        distance = min(math.hypot(y - v, x - u) for y, x in part for v, u in wanted)
        if distance > 0.2 * math.sqrt(len(wanted)):
            found |= part
    return found


def places(mask: MaskArray) -> Locations:
    return {(int(y), int(x)) for y, x in np.argwhere(mask)}


@pytest.mark.parametrize("density", [0.3, 0.5, 0.6, 0.8])
def test_both_are_those_of_the_flood_fill(density: float) -> None:
    generator = np.random.default_rng(round(10 * density))
    counts = np.zeros(2, int)
    for _ in range(12):
        size = Size(int(generator.integers(5, 18)), int(generator.integers(5, 18)))
        mask = generator.random((size.height + 1, size.width + 1)) < density
        initial = disc(mask.shape, (size.height // 2, size.width // 3), 1 + size.height / 3)
        holes, islands = find_holes(mask, initial, size), find_islands(mask, initial)
        assert places(holes) == slow_holes(mask, initial, size)
        assert places(islands) == slow_islands(mask, initial)
        counts += [holes.any(), islands.any()]
    assert counts.max() > 4


def test_a_ring_stays_a_ring() -> None:
    size = Size(40, 50)
    whole = disc(size, (20, 24), 15)
    ring = whole & ~disc(size, (20, 24), 8)
    # VMOS has the hole too, though smaller or larger than SAM's.
    for radius in (6, 8, 10):
        known = whole & ~disc(size, (20, 24), radius)
        assert not find_holes(ring, known, size).any()
    # VMOS has none: it is SAM's mistake.
    filled = find_holes(ring, whole, size)
    assert np.array_equal(ring | filled, whole)
    # A second hole, which only SAM has, is filled and the true one left.
    broken = ring & ~disc(size, (20, 35), 2)
    assert np.array_equal(broken | find_holes(broken, ring, size), ring)


def test_a_checkerboard_is_filled() -> None:
    size = Size(20, 20)
    whole = disc(size, (10, 10), 9)
    holes = disc(size, (10, 10), 6) & (np.indices(size).sum(0) % 2 == 0)
    assert np.array_equal((whole & ~holes) | find_holes(whole & ~holes, whole, size), whole)


def test_what_touches_the_edge_of_the_frame_is_no_hole() -> None:
    """The last row and column belong to the padding, where the mask may go on."""
    size = Size(8, 8)
    mask = np.ones((9, 9), dtype=bool)
    gaps = [(0, 3), (3, 0), (7, 3), (3, 7)]
    for gap in [*gaps, (4, 4)]:
        mask[gap] = False
    assert places(find_holes(mask, np.ones_like(mask), size)) == {(4, 4)}


def test_no_mask_and_full_mask() -> None:
    size = Size(5, 6)
    empty, full = np.zeros(size, bool), np.ones(size, bool)
    for mask in (empty, full):
        for initial in (empty, full):
            assert not find_holes(mask, initial, size).any()
            assert not find_islands(mask, initial).any()


def logits_of(mask: MaskArray, generator: torch.Generator) -> torch.Tensor:
    sizes = torch.rand(mask.shape, generator=generator) * 9
    return torch.where(torch.from_numpy(mask), sizes + 0.5, -sizes)


def test_signs_change_and_nothing_else() -> None:
    generator = torch.Generator().manual_seed(3)
    covered, side = Size(30, 44), 48
    known = disc((side, side), (15, 18), 12)
    broken = known & ~disc((side, side), (15, 20), 3) | disc((side, side), (5, 40), 3)
    far = disc((side, side), (42, 10), 3)  # in the padding, where nobody looks
    logits = torch.stack([logits_of(mask | far, generator) for mask in (known, broken, known)])
    logits[1, 15, 20] = 0.0
    initial = torch.from_numpy(known).expand(3, -1, -1)
    before = logits.clone()
    cleaned = clean_logits(logits, initial, covered, fill_holes=True, drop_islands=True)
    assert torch.equal(logits, before)
    assert torch.equal(cleaned[[0, 2]], logits[[0, 2]])
    assert torch.equal(cleaned[1] > 0, torch.from_numpy(known | far))
    changed = cleaned[1] != logits[1]
    assert 0 < changed.sum() < known.sum() / 3
    torch.testing.assert_close(cleaned.abs(), logits.abs(), atol=1.1e-3, rtol=0)
    only_holes = clean_logits(logits, initial, covered, fill_holes=True, drop_islands=False)
    only_islands = clean_logits(logits, initial, covered, fill_holes=False, drop_islands=True)
    assert torch.equal((only_holes != logits) | (only_islands != logits), cleaned != logits)
    assert not ((only_holes != logits) & (only_islands != logits)).any()
    whole = logits[[0]]
    same = clean_logits(whole, initial[:1], covered, fill_holes=True, drop_islands=True)
    assert same is whole
    none = clean_logits(logits[:0], initial[:0], covered, fill_holes=True, drop_islands=True)
    assert none.shape == (0, side, side)


@pytest.mark.parametrize(
    "initial", [torch.ones(1, 4, 5), torch.ones(1, 5, 4, dtype=torch.bool)], ids=["float", "size"]
)
def test_exception(initial: torch.Tensor) -> None:
    with pytest.raises(ShapeError, match=r"bool masks of the same shape, got \(1, 4, 5\)"):
        clean_logits(torch.ones(1, 4, 5), initial, Size(4, 5), fill_holes=True, drop_islands=True)


@pytest.mark.parametrize("prompt", ["box", "box+mask+point"])
def test_refined_masks_are_cleaned(random_predictor: SamPredictor, prompt: str) -> None:
    """Random weights give masks full of holes; every hole left is one of VMOS's mask's too."""
    initial, embedding = make_initial(), embedding_of(random_predictor)
    found = {}
    for flags in ((False, False), (True, False), (False, True), (True, True)):
        config = RefinerConfig(prompt=prompt, fill_holes=flags[0], drop_islands=flags[1])
        refiner = reference_refiner(config, random_predictor.model)
        found[flags] = refiner.refine(embedding, initial)
        assert torch.equal(found[flags].predicted_iou, found[False, False].predicted_iou), (
            "scores are SAM's own"
        )
    plain, filled = found[False, False].masks, found[True, False].masks
    dropped, both = found[False, True].masks, found[True, True].masks
    assert has_pixels(plain).all()
    assert (plain <= filled).all()
    assert (dropped <= plain).all()
    assert not torch.equal(plain, filled) or not torch.equal(plain, dropped)
    assert torch.equal(both, (plain | (filled & ~plain)) & ~(plain & ~dropped))


@pytest.mark.weights
def test_a_ring_in_a_picture(trained_predictor: SamPredictor) -> None:
    """SAM finds a ring in the box; it stays one unless VMOS's mask has no hole there."""
    size = FRAME.height, FRAME.width
    whole = disc(size, (45, 80), 40)
    ring = whole & ~disc(size, (45, 80), 18)
    frame = np.random.default_rng(0).integers(40, 90, (*size, 3), dtype=np.uint8)
    frame[ring] = (230, 180, 40)
    predictor = make_predictor(trained_predictor.model)
    predictor.set_image(frame)
    masks = {}
    for clean in (False, True):
        config = RefinerConfig(prompt="box", fill_holes=clean, drop_islands=clean)
        refiner = reference_refiner(config, trained_predictor.model)
        for name, initial in (("ring", ring), ("disc", whole)):
            given = torch.from_numpy(initial)[None]
            masks[clean, name] = refiner.refine(embedding_of(predictor), given).masks[0].numpy()
    for found in (masks[False, "ring"], masks[True, "ring"], masks[False, "disc"]):
        assert jaccard(found, ring) > 0.95
    assert np.array_equal(masks[True, "ring"], masks[False, "ring"])
    assert jaccard(masks[True, "disc"], whole) > 0.95


def test_presets() -> None:
    """The default preset cleans; those of the paper do what it describes."""
    assert (lite().refiner.fill_holes, lite().refiner.drop_islands) == (True, True)
    assert (hqtrack().refiner.fill_holes, hqtrack().refiner.drop_islands) == (False, False)
