"""Label maps: what a pixel of a mask file means, and that writing keeps it."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from vots_hqtrack.errors import InputError, ShapeError
from vots_hqtrack.video.label_maps import (
    LabelMaps,
    mask_box,
    palette,
    read_label_map,
    read_written_map,
    write_label_map,
)

LABELS = np.array([[0, 1, 2], [7, 0, 254]], dtype=np.uint8)


def save(path, values, mode=None):
    Image.fromarray(np.asarray(values)).convert(mode).save(path)
    return path


def test_palette_is_that_of_davis():
    known = {1: (128, 0, 0), 3: (128, 128, 0), 4: (0, 0, 128), 8: (64, 0, 0), 255: (224, 224, 192)}
    for label, colour in known.items():
        assert tuple(palette()[label]) == colour
    assert len(np.unique(palette(), axis=0)) == 256
    with pytest.raises(ValueError, match="read-only"):
        palette()[0] = 1


def test_convention_value_is_the_object_id(tmp_path):
    path = tmp_path / "map.png"
    write_label_map(path, LABELS)
    with Image.open(path) as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.asarray(image), LABELS)
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), palette()[LABELS])
    assert [entry.name for entry in tmp_path.iterdir()] == ["map.png"]


@settings(max_examples=30, deadline=None)
@given(
    arrays.arrays(
        np.uint8,
        st.tuples(st.integers(1, 9), st.integers(1, 9)),
        elements=st.sampled_from([0, 1, 2, 3, 9, 20, 255]),
    )
)
def test_round_trip(tmp_path_factory, label_map):
    path = tmp_path_factory.mktemp("maps") / "ü.png"
    write_label_map(path, label_map)
    found = read_label_map(path)
    # Without another object 255 is white, beside others it is void.
    wanted = label_map % 255 if set(np.unique(label_map)) - {0, 255} else label_map // 255
    np.testing.assert_array_equal(found, wanted)
    assert found.dtype == np.uint8


def test_indices_count_and_not_colours(tmp_path):
    path = tmp_path / "odd.png"
    image = Image.fromarray(np.array([[0, 3]], dtype=np.uint8))
    image.putpalette([255, 255, 255] * 4)
    image.save(path)
    assert read_label_map(path).tolist() == [[0, 3]]


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA"])
def test_black_and_white_gives_object_one(tmp_path, mode):
    path = save(tmp_path / "binary.png", np.array([[0, 255], [255, 0]], dtype=np.uint8), mode)
    if mode == "P":
        path = tmp_path / "indexed.png"
        write_label_map(path, np.array([[0, 255], [255, 0]], dtype=np.uint8))
    assert read_label_map(path).tolist() == [[0, 1], [1, 0]]


def test_grey_values_are_ids(tmp_path):
    path = save(tmp_path / "grey.png", LABELS)
    np.testing.assert_array_equal(read_label_map(path), LABELS)
    path = save(tmp_path / "grey-rgb.png", np.repeat(LABELS[..., None], 3, axis=2))
    np.testing.assert_array_equal(read_label_map(path), LABELS)


def test_sixteen_bit_ids(tmp_path):
    path = save(tmp_path / "deep.png", LABELS.astype(np.uint16))
    np.testing.assert_array_equal(read_label_map(path), LABELS)
    path = save(tmp_path / "white.png", np.array([[0, 65535]], dtype=np.uint16))
    assert read_label_map(path).tolist() == [[0, 1]]


def test_davis_colours_give_their_ids(tmp_path):
    path = save(tmp_path / "colours.png", palette()[LABELS])
    np.testing.assert_array_equal(read_label_map(path), LABELS)


def test_other_colours_are_numbered_in_order(tmp_path):
    red, green, blue, black = (255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 0)
    path = save(tmp_path / "colours.png", np.array([[red, black, blue, green]], dtype=np.uint8))
    assert read_label_map(path).tolist() == [[3, 0, 1, 2]]


def test_transparent_pixels_are_background(tmp_path):
    values = np.array([[[200, 0, 0, 0], [200, 0, 0, 255], [0, 200, 0, 255]]], dtype=np.uint8)
    assert read_label_map(save(tmp_path / "alpha.png", values)).tolist() == [[0, 2, 1]]


def test_empty_map_is_read(tmp_path):
    assert not read_label_map(save(tmp_path / "empty.png", np.zeros((2, 3), np.uint8))).any()


def test_more_than_a_thousand_objects_are_an_error(tmp_path):
    path = save(tmp_path / "many.png", np.arange(1002, dtype=np.uint16).reshape(3, 334))
    with pytest.raises(
        InputError, match=r"many\.png must hold object ids from 1 to 1000, got 1001"
    ):
        read_label_map(path)


@pytest.mark.parametrize("last", [256, 300, 1000])
def test_ids_above_255_are_read_from_16_bits_as_they_were_written(tmp_path, last):
    labels = np.array([[0, 1, 254, 255], [last, last, 3, 0]], dtype=np.uint16)
    write_label_map(tmp_path / "many.png", labels)
    for read in (read_label_map, read_written_map):
        found = read(tmp_path / "many.png")
        assert found.dtype == np.uint16
        assert np.array_equal(found, labels)


def test_a_label_map_with_ids_that_no_object_has_was_not_written_by_us(tmp_path):
    path = save(tmp_path / "other.png", np.full((2, 3), 1001, np.uint16))
    with pytest.raises(InputError, match="must hold ids up to 1000, got 1001"):
        read_written_map(path)
    with pytest.raises(InputError, match="indexed PNG, or grey of 16 bits, got mode L"):
        read_written_map(save(tmp_path / "grey.png", np.zeros((2, 3), np.uint8)))


def test_255_is_an_object_where_the_sequence_has_higher_ids(tmp_path):
    shown = save(tmp_path / "a.png", np.array([[0, 1, 255]], np.uint16))
    high = save(tmp_path / "b.png", np.array([[0, 1, 300]], np.uint16))
    assert LabelMaps([shown, high]).read(shown).tolist() == [[0, 1, 255]]
    assert LabelMaps([shown]).read(shown).tolist() == [[0, 1, 0]]
    alone = save(tmp_path / "d.png", np.array([[0, 255]], np.uint16))
    white = save(tmp_path / "e.png", np.array([[0, 65535]], np.uint16))
    maps = LabelMaps([shown, high, alone, white])
    assert [maps.read(path).tolist() for path in (alone, white)] == [[[0, 255]], [[0, 1]]]
    assert LabelMaps([shown, alone]).read(alone).tolist() == [[0, 1]]
    void = save(tmp_path / "c.png", np.array([[0, 300, 65535]], np.uint16))
    assert LabelMaps([void]).read(void).tolist() == [[0, 300, 0]]


def test_photo_is_an_error(tmp_path):
    photo = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    with pytest.raises(InputError, match="at most 255 colours"):
        read_label_map(save(tmp_path / "photo.png", photo))
    with pytest.raises(InputError, match=r"must be lossless .* got JPEG"):
        read_label_map(save(tmp_path / "photo.jpg", photo))


def test_fractions_are_an_error(tmp_path):
    path = save(tmp_path / "float.tif", np.array([[0.5, 1.0]], dtype=np.float32))
    with pytest.raises(InputError, match="whole numbers, got float32"):
        read_label_map(path)


@pytest.mark.parametrize("content", [None, b"", b"no image", b"\x89PNG\r\n\x1a\n cut"])
def test_unreadable_mask_is_named(tmp_path, content):
    path = tmp_path / "mask.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"cannot read the mask .*mask\.png"):
        read_label_map(path)


def test_cut_mask_is_an_error(tmp_path):
    path = tmp_path / "mask.png"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    write_label_map(path, noise)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InputError, match=r"cannot read the mask .*mask\.png"):
        read_label_map(path)


@pytest.mark.parametrize("wrong", [np.zeros((2, 2), np.int64), np.zeros((2, 2, 1), np.uint8)])
def test_only_label_maps_are_written(tmp_path, wrong):
    with pytest.raises(ShapeError, match=r"uint8 \(H, W\)"):
        write_label_map(tmp_path / "map.png", wrong)
    assert not list(tmp_path.iterdir())


def disc(size=96, value=255, radius=30):
    image = np.zeros((8 * size, 8 * size), np.uint8)
    return cv2.circle(image, (4 * size, 4 * size), 8 * radius, value, -1)


SOFT = ("area", "gauss", "line", "rgb", "deep", "thousand", "dim", "lossy", "twice")


@pytest.mark.parametrize("kind", SOFT)
def test_soft_edges_are_one_object(tmp_path, caplog, kind):
    sharp = disc()
    soft = cv2.resize(sharp, (96, 96), interpolation=cv2.INTER_AREA)
    wanted = soft > 127
    if kind == "gauss":
        soft = cv2.GaussianBlur(soft, (0, 0), 2)
    elif kind == "line":
        soft = cv2.circle(np.zeros((96, 96), np.uint8), (48, 48), 30, 255, -1, cv2.LINE_AA)
    elif kind == "rgb":
        soft = np.repeat(soft[..., None], 3, axis=2)
    elif kind == "deep":
        soft = soft.astype(np.uint16) * 257
    elif kind == "thousand":
        soft = (cv2.GaussianBlur(soft, (0, 0), 1).astype(np.uint32) * 1000 // 255).astype(np.uint16)
    elif kind == "dim":
        soft = (soft * 0.8).astype(np.uint8)
    elif kind == "lossy":
        soft = cv2.imdecode(cv2.imencode(".jpg", 255 * wanted.astype(np.uint8))[1], 0)
    elif kind == "twice":
        soft = np.where(soft == 0, 0, np.where(soft == 255, 255, 128)).astype(np.uint8)
    found = read_label_map(save(tmp_path / "soft.png", soft))
    assert set(np.unique(found)) == {0, 1}
    assert np.count_nonzero((found == 1) != wanted) < 0.08 * np.count_nonzero(wanted)
    assert "soft edges" in caplog.text


def test_soft_edges_of_several_objects_are_refused(tmp_path):
    both = disc(value=128, radius=20) + np.roll(disc(value=255, radius=10), 300, axis=1)
    soft = cv2.resize(both, (96, 96), interpolation=cv2.INTER_AREA)
    with pytest.raises(InputError, match=r"soft\.png has soft edges: .*without smoothing"):
        read_label_map(save(tmp_path / "soft.png", soft))


@pytest.mark.parametrize("gap", [0, 1])
@pytest.mark.parametrize("side", [1, 2, 3, 4])
def test_many_real_objects_of_16_bits_stay(tmp_path, side, gap):
    labels = np.zeros((80, 120), np.uint16)
    for index, number in enumerate(np.random.default_rng(side).permutation(np.arange(1, 1000, 3))):
        top, left = ((side + gap) * place for place in divmod(index, 20))
        labels[top : top + side, left : left + side] = number
    np.testing.assert_array_equal(read_label_map(save(tmp_path / "many.png", labels)), labels)


@pytest.mark.parametrize("side", [1, 2, 3])
def test_many_real_objects_stay(tmp_path, side):
    labels = np.zeros((60, 200), np.uint8)
    for number in range(1, 139):
        top, left = 5 * (number // 35), 5 * (number % 35)
        labels[top : top + side, left : left + side] = number
    np.testing.assert_array_equal(read_label_map(save(tmp_path / "many.png", labels)), labels)
    odd = np.where(labels % 2, labels, 0)
    np.testing.assert_array_equal(read_label_map(save(tmp_path / "odd.png", odd)), odd)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_white_beside_ids_is_void(tmp_path, caplog, dtype):
    white = np.iinfo(dtype).max
    values = np.array([[0, 1, white], [2, white, 0]], dtype=dtype)
    assert read_label_map(save(tmp_path / "void.png", values)).tolist() == [[0, 1, 0], [2, 0, 0]]
    assert "void" in caplog.text


def test_colours_decide_where_the_palette_is_sorted(tmp_path, caplog):
    white_first = [255, 255, 255, 0, 0, 0, 128, 0, 0]
    for indices, wanted in (([[0, 1]], [[1, 0]]), ([[2, 1]], [[1, 0]]), ([[1, 1]], [[0, 0]])):
        image = Image.fromarray(np.array(indices, np.uint8))
        image.putpalette(white_first)
        image.save(tmp_path / "sorted.png")
        assert read_label_map(tmp_path / "sorted.png").tolist() == wanted
    assert "black is the background" in caplog.text


def test_colours_keep_their_ids_over_a_sequence(tmp_path):
    red, green, blue, black = (255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 0)
    white = (255, 255, 255)
    rows = [[red, green, blue], [red, black, white], [white, black, black], [black] * 3]
    paths = [
        save(tmp_path / f"{number}.png", np.array([row], np.uint8))
        for number, row in enumerate(rows)
    ]
    maps = LabelMaps(paths)
    assert [maps.read(path).tolist() for path in reversed(paths)] == [
        [[0, 0, 0]],
        [[4, 0, 0]],
        [[3, 0, 4]],
        [[3, 2, 1]],
    ]


def test_sequence_is_searched_for_colours_once(tmp_path, monkeypatch):
    grey = np.zeros((1, 2, 3), np.uint8)
    grey[0, 0] = 255
    paths = [save(tmp_path / f"{number}.png", grey) for number in range(4)]
    opened = []
    maps, real = LabelMaps(paths), Image.open
    monkeypatch.setattr(Image, "open", lambda path: opened.append(path) or real(path))
    assert [maps.read(path).tolist() for path in paths] == [[[1, 0]]] * 4
    assert len(opened) == 4 + 3


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_mask_that_viewers_turn_is_an_error(tmp_path, suffix):
    exif, path = Image.Exif(), tmp_path / f"turned.{suffix}"
    for orientation in (1, 3):
        exif[274] = orientation
        Image.fromarray(LABELS).save(path, exif=exif)
        if orientation == 1:
            assert read_label_map(path).tolist() == LABELS.tolist()
    with pytest.raises(InputError, match=r"stored upright, got the EXIF orientation 3"):
        read_label_map(path)


def test_animated_mask_is_an_error(tmp_path):
    images = [Image.fromarray(np.full((4, 4), value, np.uint8)) for value in (0, 1)]
    images[0].save(tmp_path / "moving.png", save_all=True, append_images=images[1:])
    with pytest.raises(InputError, match=r"moving\.png must hold one image"):
        read_label_map(tmp_path / "moving.png")


def test_mask_box():
    mask = np.zeros((5, 7), dtype=np.bool_)
    assert mask_box(mask) is None
    mask[4, 6] = True
    assert mask_box(mask) == (6, 4, 1, 1)
    mask[0, 0] = True
    assert mask_box(mask) == (0, 0, 7, 5)
