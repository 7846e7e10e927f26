"""Results of the package as videos of masks, and the command ``hqtrack export``."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mask_videos import content, make_video
from PIL import Image
from typer.testing import CliRunner

from vots_hqtrack.cli.main import app
from vots_hqtrack.cli.prompts import read_prompts
from vots_hqtrack.errors import InputError, OutputError
from vots_hqtrack.formats.convert import plan_export
from vots_hqtrack.formats.registry import FORMATS, READABLE, WRITABLE, detect_format, read_masks
from vots_hqtrack.formats.stream import DEFAULT_NAME, FrameName
from vots_hqtrack.io import write_json
from vots_hqtrack.types import Size
from vots_hqtrack.video.label_maps import write_label_map

SIZE = Size(12, 16)


def square(left: int) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[3:8, left : left + 5] = True
    return mask


def invoke(*arguments, code: int = 0) -> str:
    ended = CliRunner().invoke(app, ["export", *map(str, arguments)])
    assert ended.exit_code == code, ended.output
    return " ".join(ended.output.split())


@pytest.fixture
def tracked(tmp_path) -> Path:
    """Write results of ``track``: frames 4 and 5 of a video, object 2 gone on the second."""
    folder = tmp_path / "results"
    (folder / "masks").mkdir(parents=True)
    frames = []
    for index, ids in ((4, (1, 2)), (5, (1,))):
        label_map = sum(square(2 + 7 * (number - 1)).astype(np.uint8) * number for number in ids)
        write_label_map(folder / "masks" / f"{index:05d}.png", label_map)
        objects = {str(n): {"score": 0.5 if n in ids else 0.0, "area": 25} for n in (1, 2)}
        frames.append({"index": index, "name": f"{index:05d}", "objects": objects})
    source = {"location": "videos/cat.mp4", "fps": 25.0, "height": 12, "width": 16}
    head = {"format": 1, "status": "complete", "reason": None, "files": [], "source": source}
    write_json(folder / "tracks.json", {**head, "frames": frames})
    return folder


@pytest.fixture
def frames(tmp_path) -> Path:
    folder = tmp_path / "frames"
    folder.mkdir()
    for index in range(7):
        image = Image.fromarray(np.full((*SIZE, 3), 30 * index, np.uint8))
        image.save(folder / f"{index:05d}.png")
    return folder


def test_results_of_track_keep_frame_numbers_scores_and_absence(tracked):
    (video,) = read_masks(tracked)
    assert (video.name, video.size, video.fps) == ("cat", SIZE, 25.0)
    assert content(video) == {
        4: {1: square(2).tolist(), 2: square(9).tolist()},
        5: {1: square(2).tolist()},
    }
    assert [found.scores for _, found in video] == [{1: 0.5, 2: 0.5}, {1: 0.5}]


def test_export_says_what_was_written(tracked, tmp_path):
    out = tmp_path / "new" / "masks.json"
    said = invoke(tracked, "--to", "youtube-vis", "--out", out)
    assert "2 frames, 2 objects, 1 video; youtube-vis in" in said
    assert json.loads(out.read_text())["videos"][0]["frame_indices"] == [4, 5]


def test_export_says_beforehand_what_a_format_does_not_hold(tracked, tmp_path):
    said = invoke(tracked, "--to", "davis", "--out", tmp_path / "davis")
    assert "davis holds no scores: left out" in said


def test_results_of_a_run_that_was_cut_are_exported_as_partial(tracked, tmp_path):
    head = json.loads((tracked / "tracks.json").read_text())
    write_json(tracked / "tracks.json", {**head, "status": "interrupted", "reason": "by Ctrl-C"})
    said = invoke(tracked, "--to", "mots", "--out", tmp_path / "mots", code=5)
    assert "partial" in said
    assert "interrupted (by Ctrl-C)" in said
    assert (tmp_path / "mots" / "cat" / "gt" / "gt.txt").is_file()


def test_nothing_that_is_there_is_replaced(tracked, tmp_path):
    taken = tmp_path / "taken.json"
    taken.write_text("mine")
    assert "is there already" in invoke(tracked, "--to", "coco", "--out", taken, code=2)
    assert "is not empty" in invoke(tracked, "--to", "davis", "--out", tmp_path, code=2)
    assert "ends in .xml" in invoke(tracked, "--to", "cvat", "--out", tmp_path / "x.txt", code=2)
    link = tmp_path / "link.json"
    link.symlink_to(taken)
    assert "is there already" in invoke(tracked, "--to", "coco", "--out", link, code=2)
    assert taken.read_text() == "mine"


def test_a_damaged_label_map_leaves_nothing_behind(tracked, tmp_path):
    (tracked / "masks" / "00005.png").write_bytes(b"no image")
    before = sorted(path.name for path in tmp_path.iterdir())
    for to in ("coco", "davis", "cvat", "mots"):
        out = tmp_path / "deep" / f"out{FORMATS[to].suffix}"
        assert "00005.png" in invoke(tracked, "--to", to, "--out", out, code=2)
        assert not out.exists()
        if (tmp_path / "deep").exists():
            assert list((tmp_path / "deep").iterdir()) == []
            (tmp_path / "deep").rmdir()
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_export_names_what_is_missing_or_unknown(tracked, tmp_path):
    out = tmp_path / "out"
    assert "wanted --to and --out" in invoke(tracked, code=2)
    assert "must be one of" in invoke(tracked, "--to", "dvais", "--out", out, code=2)
    assert "no such file" in invoke(tmp_path / "no", "--to", "davis", "--out", out, code=2)
    (tmp_path / "empty").mkdir()
    said = invoke(tmp_path / "empty", "--to", "davis", "--out", out, code=2)
    assert "has none of the formats" in said
    assert "found no video dog; wanted one of: cat" in invoke(
        tracked, "--to", "davis", "--out", out, "--video", "dog", code=2
    )


def test_the_list_names_every_format():
    said = invoke("--list")
    assert all(name in said for name in FORMATS)
    assert set(READABLE) | set(WRITABLE) == set(FORMATS)


def test_vot_sequences_take_the_frames_of_the_video(tracked, frames, tmp_path):
    out = tmp_path / "vot"
    assert "--frames" in invoke(tracked, "--to", "vot", "--out", out, code=2)
    invoke(tracked, "--to", "vot", "--out", out, "--frames", frames)
    (video,) = read_masks(out)
    assert len(video.images) == 3  # from the first mask on
    assert content(video) == {
        0: {1: square(2).tolist(), 2: square(9).tolist()},
        1: {1: square(2).tolist()},
    }
    assert (np.asarray(Image.open(video.images[0])) == 4 * 30).all()


def test_frames_that_do_not_fit_the_masks_are_refused(tracked, frames, tmp_path):
    out = tmp_path / "davis"
    (frames / "00006.png").rename(frames / "00003a.png")
    said = invoke(tracked, "--to", "davis", "--out", out, "--frames", frames, code=2)
    assert "frame 4 of the masks is named 00004, which is frame 5" in said
    for path in frames.iterdir():
        Image.fromarray(np.zeros((16, 12, 3), np.uint8)).save(path)
    (frames / "00003a.png").rename(frames / "00006.png")
    said = invoke(tracked, "--to", "davis", "--out", out, "--frames", frames, code=2)
    assert "the masks of cat have the size" in said
    said = invoke(tracked, "--to", "coco", "--out", tmp_path / "o.json", "--frames", frames, code=2)
    assert "holds no frames" in said


def test_prompts_have_the_first_mask_of_each_object(tmp_path):
    video = make_video({2: {1: square(1)}, 3: {1: square(2), 5: square(9)}}, SIZE)
    plan_export([video], tmp_path / "given", to="prompts").run()
    prompts = read_prompts(tmp_path / "given" / "prompts.json")
    assert {index: list(prompt.objects) for index, prompt in prompts.items()} == {2: [1], 3: [5]}
    from vots_hqtrack.cli.given import check_prompt

    masks = check_prompt(prompts[3], SIZE).masks
    assert np.array_equal(masks[5], square(9))


def test_ids_beyond_a_format_are_refused_or_renumbered(tmp_path):
    video = make_video({0: {300: square(1), 7: square(9)}}, SIZE)
    with pytest.raises(InputError, match=r"up to 254, got 300 in clip; --renumber"):
        plan_export([video], tmp_path / "out", to="davis")
    plan_export([video], tmp_path / "out", to="davis", use_new_ids=True).run()
    (found,) = read_masks(tmp_path / "out")
    assert content(found) == {0: {1: square(9).tolist(), 2: square(1).tolist()}}


def test_names_of_videos_stay_inside_the_output(tmp_path):
    for name in ("../out", "..", "", "two\nlines", "a\\b"):
        video = make_video({0: {1: square(1)}}, SIZE, name=name)
        with pytest.raises(InputError, match="named like a file"):
            plan_export([video], tmp_path / "out", to="davis")


def test_a_session_keeps_names_scores_and_what_is_not_known(tmp_path):
    from vots_hqtrack.session.project import (
        FrameRecord,
        ObjectInfo,
        ObjectRecord,
        Project,
        VideoFacts,
    )

    project = Project(tmp_path / "cat.hqtrack", VideoFacts("cat.mp4", 9, SIZE))
    project.objects = {1: ObjectInfo("left paw"), 2: ObjectInfo("tail")}
    project.save()
    label_map = square(2).astype(np.uint8)
    record = FrameRecord({1: ObjectRecord(0.75, "refined", 3, 1)})
    project.write_frame(4, label_map, record)
    with pytest.raises(InputError, match="open in another process"):
        read_masks(tmp_path / "cat.hqtrack")
    project.close()
    (video,) = read_masks(tmp_path / "cat.hqtrack")
    assert (video.name, dict(video.objects)) == ("cat", {1: "left paw", 2: "tail"})
    ((frame, found),) = video
    assert (frame.index, found.scores, found.unknown) == (4, {1: 0.75}, {2})
    assert "names of objects" in plan_export([video], tmp_path / "o", to="davis").notes
    plan_export([video], tmp_path / "o.xml", to="cvat").run()
    assert dict(read_masks(tmp_path / "o.xml")[0].objects) == {1: "left paw"}


@pytest.mark.parametrize("first", ["00001", "img_7"])
@pytest.mark.parametrize("to", ["davis", "youtube-vos"])
def test_masks_are_named_as_the_frames_beside_them(tmp_path, to, first):
    """Also where the frames count from 1, or the masks had no such names."""
    from vots_hqtrack.session.project import (
        FrameRecord,
        ObjectInfo,
        ObjectRecord,
        Project,
        VideoFacts,
    )

    folder = tmp_path / "images"
    folder.mkdir()
    names = [first, f"{first}b", f"{first}c"]
    for name in names:
        Image.new("RGB", SIZE[::-1]).save(folder / f"{name}.jpg")
    project = Project(tmp_path / "p", VideoFacts(str(folder), 3, SIZE))
    project.objects = {1: ObjectInfo("cat")}
    project.save()
    record = FrameRecord({1: ObjectRecord(1, "given", 1)})
    project.write_frame(1, square(2).astype(np.uint8), record)
    project.close()
    plan_export(tmp_path / "p", tmp_path / "from-session", to=to, frames=folder).run()
    unnamed = make_video({1: {1: square(2)}}, SIZE, name="images")
    unnamed = replace(unnamed, frames=(FrameName(1, "second"),))
    plan_export([unnamed], tmp_path / "from-others", to=to, frames=folder).run()
    for made in ("from-session", "from-others"):
        (video,) = read_masks(tmp_path / made)
        assert [frame for frame, _ in video] == [FrameName(1, names[1])]
        assert content(video) == {1: {1: square(2).tolist()}}


def test_vot_results_of_a_workspace_are_read_with_the_given_mask(tmp_path, monkeypatch):
    from vots_hqtrack.vot.region_text import encode_region
    from vots_hqtrack.vot.sequences import write_sequence, write_sequence_list

    sequences, workspace = tmp_path / "sequences", tmp_path / "workspace"
    pixels = [np.full((*SIZE, 3), 9, np.uint8)] * 3
    masks = [square(1), square(2), square(3)]
    write_sequence(sequences / "cat", pixels, {1: masks})
    write_sequence_list(sequences, ["cat"])
    folder = workspace / "results" / "Mine" / "baseline" / "cat"
    folder.mkdir(parents=True)
    write_json(workspace / "config.yaml", {"stack": "vots2023", "sequences": str(sequences)})
    lines = ["1", encode_region(square(4)), encode_region(np.zeros(SIZE, bool))]
    (folder / "cat_001.txt").write_text("\n".join(lines) + "\n")
    monkeypatch.chdir(workspace / "results")
    for path in (workspace, workspace / "results" / "Mine", Path("Mine"), Path("..")):
        assert detect_format(path) == "vot-results"
        (video,) = read_masks(path)
        assert content(video) == {0: {1: square(1).tolist()}, 1: {1: square(4).tolist()}}
    (folder / "cat_001.txt").write_text("\n".join(lines[:2]) + "\n")
    (video,) = read_masks(workspace)
    assert "end at frame 2" in video.fault
    (workspace / "results" / "Other").mkdir()
    with pytest.raises(InputError, match="got those of Mine, Other"):
        read_masks(workspace)


def test_a_full_disk_is_an_error_of_the_output(tracked, tmp_path, monkeypatch):
    (tmp_path / "locked").mkdir()
    plan = plan_export(tracked, tmp_path / "locked" / "out.json", to="coco")
    (tmp_path / "locked").rmdir()
    (tmp_path / "locked").write_text("a file where the folder was")
    with pytest.raises(OutputError, match="cannot write"):
        plan.run()


def test_objects_without_a_name_have_the_default_name(tracked):
    assert set(read_masks(tracked)[0].objects.values()) == {DEFAULT_NAME}


def test_masks_of_others_as_prompts_say_how_they_become_prompts(tracked, tmp_path):
    from vots_hqtrack.cli.track_job import GivenPrompts

    invoke(tracked, "--to", "coco", "--out", tmp_path / "x.json")
    with pytest.raises(InputError, match=r"of the format coco: hqtrack export .* --to prompts"):
        GivenPrompts.read(tmp_path / "x.json")
    (tmp_path / "bad.json").write_text('{"format": 2, "frames": {}}')
    with pytest.raises(InputError, match="wanted 1, got 2"):
        GivenPrompts.read(tmp_path / "bad.json")


@pytest.mark.parametrize("to", [name for name in WRITABLE if FORMATS[name].frames != "always"])
@pytest.mark.parametrize("name", ["Straße 1", "a\udcffb", "<&\"'>", "%08d"])
def test_videos_of_any_name_are_written_and_read(tmp_path, to, name):
    video = make_video({0: {1: square(2)}}, SIZE, name=name)
    out = tmp_path / f"out{FORMATS[to].suffix}"
    plan_export([video], out, to=to).run()
    if FORMATS[to].read is not None:
        assert content(read_masks(out)[0]) == content(video)
