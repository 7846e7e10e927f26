"""Masks that are written and read again are the same, in each format."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mask_videos import content, make_video, mask_videos

from vots_hqtrack.formats.convert import plan_export
from vots_hqtrack.formats.polygons import mask_polygon
from vots_hqtrack.formats.registry import FORMATS, detect_format, read_masks
from vots_hqtrack.formats.rle import decode_rle, encode_mask
from vots_hqtrack.types import Size
from vots_hqtrack.vot.region_text import fill_polygon

OVERLAPPING = ("youtube-vis", "sa-co", "coco", "cvat", "cvat-polygons")
FLAT = ("davis", "youtube-vos", "mots-png", "mots")
READ_AS = {"sa-co": "youtube-vis", "youtube-vos": "davis", "cvat-polygons": "cvat"}


def export(video, to: str, folder: Path, **options):
    """Write a video, and read it again by the format that is recognised."""
    out = folder / f"out{FORMATS[to].suffix}"
    faults = plan_export([video], out, to=to, **options).run()
    assert detect_format(out) == READ_AS.get(to, to)
    (found,) = read_masks(out)
    return found, faults


@pytest.mark.parametrize("to", OVERLAPPING)
@settings(max_examples=25)
@given(data=st.data())
def test_formats_with_overlaps_keep_masks_ids_and_scores(to, data):
    video = data.draw(mask_videos(gaps=not to.startswith("cvat")))
    with tempfile.TemporaryDirectory() as folder:
        found, faults = export(video, to, Path(folder))
        assert (content(found), faults) == (content(video), ())
        assert found.size == video.size
        if FORMATS[to].has_scores:
            pairs = zip(video, found, strict=True)
            for (_, before), (_, after) in pairs:
                assert after.scores == {i: round(s, 4) for i, s in before.scores.items()}
            assert [frame.index for frame in found.frames] == [f.index for f in video.frames]


@pytest.mark.parametrize("to", FLAT)
@settings(max_examples=25)
@given(data=st.data())
def test_formats_without_overlaps_keep_masks_and_ids(to, data):
    video = data.draw(mask_videos(last_id=FORMATS[to].last_id, overlaps=False))
    with tempfile.TemporaryDirectory() as folder:
        found, faults = export(video, to, Path(folder))
        assert (content(found), faults) == (content(video), ())


@pytest.mark.parametrize("to", FLAT)
def test_overlaps_are_reported_where_a_format_cannot_hold_them(to, tmp_path):
    large, small = np.ones((4, 5), bool), np.zeros((4, 5), bool)
    small[1, 1:3] = True
    found, faults = export(make_video({0: {1: large, 2: small}}, Size(4, 5)), to, tmp_path)
    assert content(found) == {0: {1: (large & ~small).tolist(), 2: small.tolist()}}
    assert faults == ("masks overlap on 1 frames, where the smaller one is on top",)
    hidden = make_video({0: {1: small, 2: small.copy()}}, Size(4, 5))
    _, faults = export(hidden, to, tmp_path / "hidden")
    assert faults[0].endswith("wholly covered: object 2")


@settings(max_examples=60)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_a_mask_comes_back_from_its_polygon_and_its_run_lengths(height, width, seed, density):
    mask = np.random.default_rng(seed).random((height, width)) < density
    size = Size(height, width)
    polygon = mask_polygon(mask)
    assert np.array_equal(fill_polygon(np.reshape(polygon, (-1, 2)), size), mask)
    assert np.array_equal(decode_rle(encode_mask(mask)["counts"], size), mask)


def test_two_parts_and_a_hole_are_one_polygon():
    mask = np.zeros((6, 9), bool)
    mask[1:5, 1:5] = True
    mask[2, 2] = False
    mask[0, 8] = True
    assert np.array_equal(fill_polygon(mask_polygon(mask), Size(6, 9)), mask)


def test_ids_above_255_are_kept_where_the_format_can(tmp_path):
    masks = {0: {300: np.eye(5, dtype=bool), 999: ~np.eye(5, dtype=bool)}}
    for to in ("mots-png", "mots", "coco", "youtube-vis", "cvat"):
        found, _ = export(make_video(masks, Size(5, 5)), to, tmp_path / to)
        assert list(found.objects) == [300, 999]
