from __future__ import annotations

import os
import re
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from vots_hqtrack.errors import InputError, PartialError, ShapeError
from vots_hqtrack.video.label_maps import write_label_map
from vots_hqtrack.vot.import_vos import find_sequences, import_sequences
from vots_hqtrack.vot.sequences import read_groundtruth, read_sequence_info, read_sequence_list

HEIGHT, WIDTH = 12, 16


def labels(*boxes: tuple[int, int]) -> np.ndarray:
    """Draw squares of three pixels: object id and left edge."""
    label_map = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    for object_id, left in boxes:
        label_map[2:5, left : left + 3] = object_id
    return label_map


def make_sequence(
    base: Path, name: str, maps: list[np.ndarray | None], *, between: str = "", suffix: str = ".jpg"
) -> None:
    frames = base / "JPEGImages" / between / name
    annotations = base / "Annotations" / between / name
    frames.mkdir(parents=True)
    annotations.mkdir(parents=True)
    for place, label_map in enumerate(maps):
        picture = np.full((HEIGHT, WIDTH, 3), place, dtype=np.uint8)
        cv2.imwrite(str(frames / f"{place * 5:05d}{suffix}"), picture)
        if label_map is not None:
            write_label_map(annotations / f"{place * 5:05d}.png", label_map)


def test_youtube_vos_layout(tmp_path: Path) -> None:
    root = tmp_path / "set"
    maps = [None, labels((3, 1)), None, labels((3, 2), (1, 9)), labels((1, 8))]
    make_sequence(root / "train", "0a7", maps)
    (done,) = import_sequences(root, [], tmp_path / "out")
    assert (done.name, done.num_frames, done.object_ids, done.num_skipped) == ("0a7", 4, (1, 3), 1)
    (folder,) = read_sequence_list(tmp_path / "out")
    info = read_sequence_info(folder)
    source = root / "train" / "JPEGImages" / "0a7" / "00005.jpg"
    assert info.frame_paths[0].read_bytes() == source.read_bytes()
    truth = {number: list(masks) for number, masks in read_groundtruth(folder, info.size).items()}
    assert [None if mask is None else int(mask.sum()) for mask in truth[3]] == [9, None, 9, 0]
    assert [None if mask is None else int(mask.sum()) for mask in truth[1]] == [None, None, 9, 9]
    np.testing.assert_array_equal(truth[1][3], labels((1, 8)) == 1)


def test_validation_layout_leaves_unknown_what_it_does_not_show(tmp_path: Path) -> None:
    maps = [labels((2, 1)), None, labels((5, 9)), None]
    make_sequence(tmp_path / "set" / "valid", "a", maps)
    import_sequences(tmp_path / "set", [], tmp_path / "out")
    (folder,) = read_sequence_list(tmp_path / "out")
    truth = read_groundtruth(folder, read_sequence_info(folder).size)
    seen = {int(i): [None if m is None else int(m.sum()) for m in truth[i]] for i in truth}
    assert seen == {2: [9, None, None, None], 5: [None, None, 9, None]}


def test_void_and_colours_of_annotations(tmp_path: Path) -> None:
    void = labels((1, 2))
    void[:2] = 255
    make_sequence(tmp_path / "set", "void", [void, labels((1, 3)), labels()])
    make_sequence(tmp_path / "set", "colours", [labels((1, 2), (2, 9)), labels((2, 9))])
    red, blue = (250, 0, 0), (0, 0, 250)
    for path in (tmp_path / "set" / "Annotations" / "colours").iterdir():
        grey = np.asarray(Image.open(path))
        Image.fromarray(np.array([(0, 0, 0), blue, red], np.uint8)[grey]).save(path)
    done = import_sequences(tmp_path / "set", [], tmp_path / "out")
    assert {sequence.name: sequence.object_ids for sequence in done} == {
        "colours": (1, 2),
        "void": (1,),
    }
    folder = tmp_path / "out" / "colours"
    size = read_sequence_info(folder).size
    truth = {number: list(masks) for number, masks in read_groundtruth(folder, size).items()}
    np.testing.assert_array_equal(truth[2][1], labels((2, 9)) == 2)
    assert truth[1][1] is not None
    assert not truth[1][1].any()


def test_empty_sequence_leaves_the_others_whole(tmp_path: Path) -> None:
    for name, label_map in (("a", labels((1, 4))), ("b", labels()), ("c", labels((1, 4)))):
        make_sequence(tmp_path / "set", name, [label_map])
    with pytest.raises(PartialError, match=r"1 of 3 sequences left out .* sequence b shows"):
        import_sequences(tmp_path / "set", [], tmp_path / "out")
    assert [path.name for path in read_sequence_list(tmp_path / "out")] == ["a", "c"]


def test_a_sequence_with_lost_frames_is_left_out_and_named(tmp_path: Path) -> None:
    for name in ("a", "b"):
        make_sequence(tmp_path / "set", name, [labels((1, 4)), None, None])
    frames = tmp_path / "set" / "JPEGImages" / "b"
    (frames / "00005.jpg").unlink()
    (frames / "00005.jpg").symlink_to("nowhere.jpg")
    with pytest.raises(PartialError, match=r"1 of 2 sequences left out .*: 00005\.jpg"):
        import_sequences(tmp_path / "set", [], tmp_path / "out")
    assert [path.name for path in read_sequence_list(tmp_path / "out")] == ["a"]


def test_davis_layout_with_binary_masks(tmp_path: Path) -> None:
    root = tmp_path / "DAVIS"
    for name in ("bear10", "bear9", "cow"):
        make_sequence(root, name, [labels((1, 4)), labels()], between="480p", suffix=".png")
    for path in (root / "Annotations").rglob("*.png"):
        grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        cv2.imwrite(str(path), np.where(grey > 0, 255, 0).astype(np.uint8))
    assert list(find_sequences(root)) == ["bear9", "bear10", "cow"]
    done = import_sequences(root, ["cow", "bear9", "cow"], tmp_path / "out", link=True)
    assert [sequence.name for sequence in done] == ["cow", "bear9"]
    folder = read_sequence_list(tmp_path / "out")[0]
    info = read_sequence_info(folder)
    assert info.frame_paths[0].is_symlink()
    assert info.frame_paths[0].suffix == ".png"
    truth = read_groundtruth(folder, info.size)
    assert list(truth) == [1]
    assert [int(mask.sum()) for mask in truth[1] if mask is not None] == [9, 0]


def test_broken_layouts(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(InputError, match="the folder is missing"):
        import_sequences(tmp_path / "gone", [], out)
    with pytest.raises(InputError, match=r"wanted JPEGImages/<sequence>/\*\.jpg"):
        import_sequences(tmp_path, [], out)
    (tmp_path / "JPEGImages").mkdir()
    with pytest.raises(InputError, match="no Annotations beside it"):
        import_sequences(tmp_path, [], out)


def test_broken_sequences(tmp_path: Path) -> None:
    root, out = tmp_path / "set", tmp_path / "out"
    make_sequence(root, "a", [labels((1, 4))])
    with pytest.raises(InputError, match=r"has no sequence b, c; it has a"):
        import_sequences(root, ["a", "b", "c"], out)
    write_label_map(root / "Annotations" / "a" / "00009.png", labels())
    with pytest.raises(InputError, match=r"00009\.png of a have no frame"):
        import_sequences(root, [], out)
    (root / "Annotations" / "a" / "00009.png").unlink()
    make_sequence(root / "valid", "a", [labels((1, 4))])
    with pytest.raises(InputError, match="two sequences are named a"):
        import_sequences(root, [], out)
    (done,) = import_sequences(root, [], tmp_path / "part", part="valid")
    assert done.name == "a"
    with pytest.raises(InputError, match="found no sequences in the part 480p of"):
        import_sequences(root, [], out, part="480p")
    for name, maps, message in (
        ("blank", [labels()], "no annotation of the sequence blank shows an object"),
        ("bare", [None], "the sequence bare has no annotations"),
    ):
        make_sequence(tmp_path / name, name, maps)
        with pytest.raises(InputError, match=message):
            import_sequences(tmp_path / name, [], out)
    make_sequence(tmp_path / "size", "s", [labels((1, 4))[:, :-1]])
    with pytest.raises(ShapeError, match="frame size 16x12, got 15x12"):
        import_sequences(tmp_path / "size", [], out)


def test_a_sequence_that_cannot_be_imported_leaves_the_others(tmp_path: Path) -> None:
    root, out = tmp_path / "set", tmp_path / "out"
    bad = {
        "blank": "no annotation of the sequence blank shows an object",
        "cut": r"cannot read the frame .*cut/00005\.png",
        "turned": r"turned/00005\.png: .*16x12, got 12x16",
        "link": "leads out of the data set, to .*secret.png",
        "link of masks": "leads out of the data set, to .*secret.png",
    }
    for name in ("a", *bad, "b"):
        maps = [labels((1, 4))] * 2 if name != "blank" else [labels()] * 2
        make_sequence(root, name, maps, suffix=".png")
    frames = root / "JPEGImages"
    data = (frames / "cut" / "00005.png").read_bytes()
    (frames / "cut" / "00005.png").write_bytes(data[:60])
    cv2.imwrite(str(frames / "turned" / "00005.png"), np.zeros((WIDTH, HEIGHT, 3), np.uint8))
    (tmp_path / "secret.png").write_bytes(data)
    for link in (frames / "link" / "00005.png", root / "Annotations/link of masks/00005.png"):
        link.unlink()
        link.symlink_to(tmp_path / "secret.png")
    seen: list[str] = []
    with pytest.raises(PartialError, match=r"5 of 7 sequences left out of .*/out: ") as caught:
        import_sequences(root, [], out, on_sequence=lambda done: seen.append(done.name))
    for reason in bad.values():
        assert re.search(reason, str(caught.value))
    assert seen == ["a", "b"]
    assert [path.name for path in read_sequence_list(out)] == ["a", "b"]
    assert sorted(path.name for path in out.iterdir()) == ["a", "b", "list.txt"]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_folders_of_a_data_set_may_be_links(tmp_path: Path) -> None:
    root = tmp_path / "set"
    make_sequence(root, "a", [labels((1, 4))])
    for name in ("JPEGImages", "Annotations"):
        (root / name).rename(tmp_path / f"disk-{name}")
        (root / name).symlink_to(tmp_path / f"disk-{name}")
    assert len(import_sequences(root, [], tmp_path / "out")) == 1


def test_a_failed_import_leaves_nothing(tmp_path: Path) -> None:
    make_sequence(tmp_path / "set", "a", [labels((1, 4))])
    (tmp_path / ".out.part").mkdir()  # of a run that was killed
    (tmp_path / ".out.part" / "half").touch()

    def stop(done: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_sequences(tmp_path / "set", [], tmp_path / "out", on_sequence=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_masks_are_not_kept_as_pixels(tmp_path: Path) -> None:
    """40 frames of two objects take less memory than ten of their masks do as pixels."""
    height, width = 600, 800
    label_map = np.zeros((height, width), dtype=np.uint8)
    label_map[100:300, 100:300], label_map[400:500, 10:90] = 1, 2
    frames, masks = tmp_path / "set" / "JPEGImages" / "a", tmp_path / "set" / "Annotations" / "a"
    frames.mkdir(parents=True)
    masks.mkdir(parents=True)
    picture = cv2.imencode(".jpg", np.zeros((height, width, 3), np.uint8))[1].tobytes()
    write_label_map(masks / "00.png", label_map)
    for index in range(40):
        (frames / f"{index:02d}.jpg").write_bytes(picture)
        (masks / f"{index:02d}.png").write_bytes((masks / "00.png").read_bytes())
    tracemalloc.start()
    import_sequences(tmp_path / "set", [], tmp_path / "out")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 * height * width


def test_out_folder(tmp_path: Path) -> None:
    make_sequence(tmp_path / "set", "a", [labels((1, 4))])
    with pytest.raises(InputError, match="not an empty folder"):
        import_sequences(tmp_path / "set", [], tmp_path)
    with pytest.raises(InputError, match="not ASCII"):
        import_sequences(tmp_path / "set", [], tmp_path / "größe")


def test_real_davis_sequence(tmp_path: Path) -> None:
    beside = Path(__file__).parents[3] / "shared" / "data"
    data = Path(os.environ.get("VOTS_HQTRACK_DATA", beside)) / "davis2016-train"
    if not data.is_dir():
        pytest.skip("needs DAVIS-2016 (set VOTS_HQTRACK_DATA to the folder with davis2016-train)")
    (done,) = import_sequences(data, ["bmx-bumps"], tmp_path / "out", link=True)
    assert (done.num_frames, done.object_ids, done.num_skipped) == (90, (1,), 0)
    (folder,) = read_sequence_list(tmp_path / "out")
    info = read_sequence_info(folder)
    assert tuple(info.size) == (480, 854)
    masks = read_groundtruth(folder, info.size)[1]
    assert sum(mask is not None and not mask.any() for mask in masks) == 14
