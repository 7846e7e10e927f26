"""Fitting scores: the clips that they are fitted on, the fit, and its check."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from layouts import write_picture
from PIL import Image
from typer.testing import CliRunner

from vots_hqtrack.cli.main import app
from vots_hqtrack.errors import ConfigError, InputError, OutputError
from vots_hqtrack.scoring import calibrated_score
from vots_hqtrack.training import calibrate
from vots_hqtrack.training.calibrate import Observation
from vots_hqtrack.training.datasets import DEV_SPLIT
from vots_hqtrack.training.dev import DEV_SETS, ONE_OBJECT
from vots_hqtrack.training.recipe_files import load_recipe
from vots_hqtrack.training.reliability_diagram import draw_reliability
from vots_hqtrack.training.stress_clips import (
    FOLDS,
    KINDS,
    OBJECTS,
    StressData,
    composed_clips,
    open_stress_data,
    real_clips,
    stress_clips,
)
from vots_hqtrack.types import ConfidenceFeatures, Size
from vots_hqtrack.vot.composites import open_videos

SIZE = Size(60, 100)
COLOURS = np.array(
    [(250, 10, 10), (10, 250, 10), (10, 10, 250), (250, 250, 10), (10, 250, 250), (250, 10, 250)],
    np.uint8,
)


def write_videos(root: Path, count: int, num_frames: int) -> Path:
    """Write videos in each of which a square of its own colour wanders to the right."""
    for video in range(count):
        for place in range(num_frames):
            mask = np.zeros(SIZE, np.uint8)
            mask[20:40, 8 + 3 * place : 28 + 3 * place] = 1
            frame = np.where(mask[..., None] > 0, COLOURS[video], COLOURS[video] // 10)
            name = f"480p/v{video}/{place:05d}.png"
            write_picture(root / "JPEGImages" / name, frame)
            write_picture(root / "Annotations" / name, mask)
    return root


def make_observations(count: int, seed: int = 0, videos: int = 6) -> list[Observation]:
    """Sample masks that are good with a logistic probability of margin and weak part."""
    generator = np.random.default_rng(seed)
    found = []
    for index in range(count):
        margin, weak = generator.uniform(0, 6), generator.uniform(0, 1)
        probability = 1 / (1 + np.exp(-(-1.0 + 1.0 * margin - 3.0 * weak)))
        is_good = bool(generator.random() < probability)
        noise = 0.1 * np.abs(generator.normal(size=2))
        evidence = ConfidenceFeatures(margin, weak, *noise.tolist())
        found.append(
            Observation(
                clip=f"v{index % videos}:0/1",
                kind="plain",
                frame_index=1,
                object_id=1,
                evidence=evidence,
                probability=0.95,
                iou=0.8 if is_good else 0.2,
                initial_iou=0.7 if is_good else 0.2,
                is_visible=True,
                is_reported=True,
            )
        )
    return found


class TestStressClips:
    def test_one_of_every_kind_of_every_video(self, tmp_path: Path) -> None:
        videos = open_videos(write_videos(tmp_path, count=6, num_frames=24), ())
        clips = list(stress_clips(videos, 6, SIZE, seed=1))
        names = [(clip.kind, clip.origin.split(":")[0]) for clip in clips]
        assert sorted(names) == sorted((kind, f"v{n}") for kind in KINDS for n in range(6))
        for clip in clips:
            assert 3 <= len(clip.frames) <= 6
            assert all(frame.shape == (*SIZE, 3) for frame in clip.frames)
            assert all(len(track) == len(clip.frames) for track in clip.masks)
            assert all(track[0].any() for track in clip.masks)
            least, most = OBJECTS[clip.kind]
            assert least <= len(clip.masks) < most
        again = list(stress_clips(videos, 6, SIZE, seed=1))
        for clip, other in zip(clips, again, strict=True):
            assert np.array_equal(clip.frames, other.frames)

    def test_absences_are_true(self, tmp_path: Path) -> None:
        videos = open_videos(write_videos(tmp_path, count=6, num_frames=24), ())
        num_hidden = 0
        for clip in stress_clips(videos, 6, SIZE, seed=3):
            hidden = [not mask.any() for mask in clip.masks[0]]
            if clip.kind in ("occlusion", "shot-change"):
                assert True in hidden[1:]
                assert hidden[-1] is False
            elif clip.kind == "fast":
                assert True not in hidden
            # Of an object that is not there no pixel is left: its colour is nowhere in the frame.
            for index, frame in enumerate(clip.frames):
                for video, track in zip(clip.origin.split(), clip.masks, strict=True):
                    shown = (frame == COLOURS[int(video[1])]).all(-1).sum()
                    if clip.kind in ("fast", "shot-change"):
                        assert shown == track[index].sum()
                    elif clip.kind == "occlusion" and not track[index].any():
                        assert shown == 0
                        num_hidden += 1
        assert num_hidden > 6

    def test_exception_too_few_videos(self, tmp_path: Path) -> None:
        videos = open_videos(write_videos(tmp_path, count=5, num_frames=3), ())
        with pytest.raises(InputError, match="need 6 videos, got 5"):
            next(stress_clips(videos, 3, SIZE, seed=1))


def write_pairs(root: Path, count: int, num_frames: int) -> Path:
    """Write videos of two squares: object 2 wanders to the right, object 5 leaves after frame 2."""
    for video in range(count):
        for place in range(num_frames):
            label_map = np.zeros(SIZE, np.uint8)
            label_map[4:28, 2 + 3 * place : 26 + 3 * place] = 2
            label_map[30:56, 60:90] = 5 * (place < 3)
            frame = np.where(label_map[..., None] > 0, COLOURS[video], COLOURS[video] // 10)
            frame[label_map == 5] //= 2
            name = f"480p/p{video}/{place:05d}.png"
            write_picture(root / "JPEGImages" / name, frame)
            write_picture(root / "Annotations" / name, label_map)
    return root


def write_recipe(path: Path, *, held_out: str = "") -> Path:
    tables = [f'[[data]]\nkind = "davis"\nroot = "{root}"\n' for root in ("pairs", "singles")]
    path.write_text("\n".join([f"[composer]\nheld_out = [{held_out}]", *tables]))
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder: three videos of two objects, two of one."""
    write_pairs(tmp_path / "pairs", count=3, num_frames=8)
    write_videos(tmp_path / "singles", count=2, num_frames=4)
    return tmp_path


def open_all(data: Path, *, held_out: str = "", **chosen: list[str]) -> StressData:
    recipe = load_recipe(str(write_recipe(data / "recipe.toml", held_out=held_out)))
    return open_stress_data(recipe, data, **chosen)


class TestSeveralObjects:
    def test_real_clips_begin_and_end_a_video(self, data: Path) -> None:
        opened = open_all(data, sequences=["p1"])
        first, last = real_clips(opened.parts(2), 2)
        assert (first.origin, last.origin) == ("p1:0/2", "p1:4/2")
        assert (first.kind, len(first.masks), len(last.masks)) == ("real", 2, 1)
        for clip, start in ((first, 0), (last, 4)):
            video = opened.parts(1)[0].video
            for place, frame in enumerate(clip.frames):
                photo = video.load(start + 2 * place)
                assert np.array_equal(frame, photo.image)
                assert np.array_equal(clip.masks[0][place], photo.label_map == 2)
        (whole,) = real_clips(opened.parts(1), 0)
        assert len(whole.frames) == 8
        assert [mask.any() for mask in whole.masks[1]] == [True] * 3 + [False] * 5
        (most,) = real_clips(opened.parts(1), 6)
        assert most.origin == "p1:0/1"

    def test_what_is_held_out_is_left_out(self, data: Path) -> None:
        held_out = '"p0", "p2:5", "v1"'
        parts = open_all(data, held_out=held_out).parts(2)
        assert [(part.name, part.places) for part in parts] == [
            ("p1", range(0, 8, 2)),
            ("p2", range(0, 5, 2)),
            ("v0", range(0, 4, 2)),
        ]
        singles = open_all(data, held_out=held_out).single_objects()
        assert [clip.name for clip in singles] == ["p1", "v0"]
        sources = open_all(data, held_out=held_out).sources()
        frames = {source.name.split()[-1]: len(source.read()[0]) for source in sources}
        assert frames == {"p1": 8, "p2": 5, "v0": 4}
        only = open_all(data, held_out=held_out, sets=["pairs"]).sources()
        assert [source.name.split()[-1] for source in only] == ["p1", "p2"]

    def test_held_out_videos_are_tracked_when_they_are_named(self, data: Path) -> None:
        opened = open_all(data, held_out='"p2:5", "v1"', sequences=["p2:5", "v1"])
        assert [(part.name, part.places) for part in opened.parts(1)] == [
            ("p2", range(5, 8)),
            ("v1", range(4)),
        ]

    def test_the_shipped_recipe_holds_out_the_dev_sequences(self) -> None:
        held_out = {entry.split(":")[0] for entry in load_recipe("lite-gpu").composer.held_out}
        parts = [
            part for parts in DEV_SETS.values() for part in parts if part.root != "davis2016-train"
        ]
        names = {entry.split(":")[0] for part in parts for entry in part.sequences}
        assert held_out == names
        assert set(DEV_SETS[ONE_OBJECT][0].sequences) == set(DEV_SPLIT)

    def test_composed_clips_have_true_masks_and_parts_of_the_footage(self, data: Path) -> None:
        opened = open_all(data, sets=["pairs"])
        clips = list(composed_clips(opened.sources(), 5, 4, Size(96, 128), seed=3))
        assert [clip.origin.split(":")[0] for clip in clips] == [
            "composed-0",
            "composed-0",
            "composed-1",
            "composed-1",
            "composed-2",
        ]
        assert FOLDS == 3
        for clip in clips:
            assert clip.kind == "composed"
            assert [frame.shape for frame in clip.frames] == [(96, 128, 3)] * 4
            assert all(track[0].any() for track in clip.masks)
            assert np.stack([track[0] for track in clip.masks]).sum(0).max() == 1
        assert max(len(clip.masks) for clip in clips) > 1

    def test_exception_names(self, data: Path) -> None:
        with pytest.raises(ConfigError, match="data sets are pairs, singles, got 'other'"):
            open_all(data, sets=["pairs", "other"])
        with pytest.raises(InputError, match="no video 'p9'; there are p0, p1"):
            open_all(data, sequences=["p9"]).parts(1)


class TestFit:
    def test_values_a_known_model_is_found_again(self) -> None:
        model = calibrate.fit(make_observations(4000))
        for margin, weak in ((1.0, 0.7), (3.0, 0.5), (5.0, 0.1)):
            truth = 1 / (1 + np.exp(-(-1.0 + margin - 3.0 * weak)))
            score = calibrated_score(ConfidenceFeatures(margin, weak, 0.08, 0.08), model)
            assert score == pytest.approx(truth, abs=0.06)

    def test_no_weight_has_the_wrong_sign(self) -> None:
        # Turned round: large margins and small weak parts are bad.
        wrong = [
            dataclasses.replace(each, iou=0.8 if each.iou < 0.5 else 0.2)
            for each in make_observations(500)
        ]
        model = calibrate.fit(wrong)
        for name, sign in calibrate.SIGNS.items():
            assert getattr(model, name) * sign >= 0
        assert model.mean_margin == model.weak_fraction == 0

    def test_scores_of_videos_left_out_are_calibrated(self) -> None:
        found = make_observations(3000)
        truth = [each.is_good for each in found]
        raw = calibrate.measure_reliability([each.probability for each in found], truth)
        fitted = calibrate.measure_reliability(calibrate.cross_score(found), truth)
        assert fitted.calibration_error < 0.03 < raw.calibration_error
        assert fitted.brier < raw.brier
        assert fitted.ranking > 0.75

    def test_videos_left_out_are_not_learned_from(self) -> None:
        found = make_observations(300, videos=3)
        flipped = [
            dataclasses.replace(each, iou=0.0) if each.clip.startswith("v1:") else each
            for each in found
        ]
        before, after = calibrate.cross_score(found), calibrate.cross_score(flipped)
        held = [each.clip.startswith("v1:") for each in found]
        assert all(a == b for a, b, out in zip(before, after, held, strict=True) if out)
        assert any(a != b for a, b, out in zip(before, after, held, strict=True) if not out)

    def test_masks_without_a_pixel_do_not_count(self) -> None:
        found = make_observations(200)
        empty = [dataclasses.replace(each, is_reported=False, iou=0.0) for each in found]
        assert calibrate.fit(found) == calibrate.fit([*found, *empty])

    def test_every_clip_counts_alike(self) -> None:
        found = make_observations(300)
        extra = dataclasses.replace(found[0], clip="v9:0/1", iou=0.1)
        for copies in (1, 50):
            crowded = [*found, *[dataclasses.replace(extra, object_id=n) for n in range(copies)]]
            if copies == 1:
                once = calibrate.fit(crowded)
        for name in calibrate.NAMES:
            assert getattr(calibrate.fit(crowded), name) == pytest.approx(
                getattr(once, name), abs=1e-3
            )

    def test_exception_all_alike(self) -> None:
        good = [each for each in make_observations(50) if each.is_good]
        with pytest.raises(InputError, match="needs good and bad masks"):
            calibrate.fit(good)

    def test_a_mask_where_no_object_is_cannot_be_good(self) -> None:
        each = dataclasses.replace(make_observations(1)[0], iou=1.0, is_visible=False)
        assert not each.is_good
        assert dataclasses.replace(each, is_visible=True, iou=0.5).is_good


class TestAbsence:
    def test_values(self) -> None:
        each = dataclasses.replace(make_observations(1)[0], iou=0.6)
        gone = dataclasses.replace(each, iou=0.0, is_visible=False)
        missed = dataclasses.replace(each, iou=0.0, is_reported=False)
        told = dataclasses.replace(gone, iou=1.0, is_reported=False)
        found, scores = [each, each, missed, gone, told], [0.9, 0.2, 0.0, 0.1, 0.0]
        off = calibrate.trade_absence(found, scores, 0.0)
        assert (off.quality, off.nre, off.adq) == pytest.approx((2.2 / 5, 1 / 3, 1 / 2))
        low = calibrate.trade_absence(found, scores, 0.15)
        assert (low.quality, low.nre, low.adq) == pytest.approx((3.2 / 5, 1 / 3, 1))
        high = calibrate.trade_absence(found, scores, 0.2 + 1e-9)
        assert (high.quality, high.nre, high.adq) == pytest.approx((2.6 / 5, 2 / 3, 1))

    def test_exception_nothing_visible(self) -> None:
        gone = dataclasses.replace(make_observations(1)[0], is_visible=False)
        with pytest.raises(InputError, match="0 visible of 1"):
            calibrate.trade_absence([gone], [0.5], 0.1)


class TestReliability:
    def test_values(self) -> None:
        found = calibrate.measure_reliability(
            [0.05, 0.05, 0.95, 0.95, 1.0], [False, True, True, True, False]
        )
        assert found.counts.tolist() == [2, 0, 0, 0, 0, 0, 0, 0, 0, 3]
        assert found.fraction_good[[0, 9]] == pytest.approx([0.5, 2 / 3])
        assert found.mean_score[[0, 9]] == pytest.approx([0.05, 2.9 / 3])
        assert found.calibration_error == pytest.approx((2 * 0.45 + 3 * 0.3) / 5)
        assert found.ranking == pytest.approx(2.5 / 6)
        assert found.sure_good == pytest.approx(2 / 3)

    def test_exception_numbers_differ(self) -> None:
        with pytest.raises(InputError, match="got 1 and 0"):
            calibrate.measure_reliability([0.5], [])

    def test_the_picture_shows_the_bars(self, tmp_path: Path) -> None:
        def drawn(*panels: tuple[str, calibrate.Reliability]) -> np.ndarray:
            draw_reliability(tmp_path / "curve.png", panels)
            return np.asarray(Image.open(tmp_path / "curve.png").convert("RGB"))

        low = calibrate.measure_reliability([0.25, 0.25], [False, False])
        high = calibrate.measure_reliability([0.25, 0.25], [True, True])
        blue = [(drawn(("", each)) == (31, 119, 180)).all(-1).sum() for each in (low, high)]
        assert blue[1] > 4000 > 200 > blue[0]
        assert drawn(("a", low), ("b", high)).shape[1] == 2 * drawn(("a", low)).shape[1]

    @pytest.mark.parametrize(
        ("name", "is_written"), [("curve", True), ("a.b", False), ("folder", False)]
    )
    def test_the_picture_is_written_where_it_was_wanted_or_not_at_all(
        self, tmp_path: Path, name: str, is_written: bool
    ) -> None:
        (tmp_path / "folder").mkdir()
        (tmp_path / "curve.png").write_text("somebody's")
        panels = [("", calibrate.measure_reliability([0.25], [True]))]
        if is_written:
            draw_reliability(tmp_path / name, panels)
            assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
        else:
            with pytest.raises(OutputError, match="cannot write the diagram"):
                draw_reliability(tmp_path / name, panels)
        left = {path.name for path in tmp_path.iterdir()} - {name}
        assert left == {"curve.png", "folder"} - {name}
        assert (tmp_path / "curve.png").read_text() == "somebody's"


class TestCommands:
    def test_fit_and_check(self, tmp_path: Path) -> None:
        file, picture = tmp_path / "seen.jsonl", tmp_path / "curve.png"
        found = make_observations(400)
        calibrate.write_observations(file, found[:100])
        calibrate.write_observations(file, found[100:])
        assert calibrate.read_observations(file) == found
        result = CliRunner().invoke(app, ["calibrate", "fit", str(file)])
        assert result.exit_code == 0, result.output
        assert 'kind = "calibrated"' in result.output
        model = calibrate.fit(found)
        assert f"mean_margin = {model.mean_margin}" in result.output
        result = CliRunner().invoke(
            app, ["calibrate", "check", str(file), "--picture", str(picture)]
        )
        assert result.exit_code == 0, result.output
        assert "400 of all" in result.output
        settings = ["--set", "confidence.kind=calibrated", "--set", "confidence.mean_margin=1"]
        result = CliRunner().invoke(app, ["calibrate", "check", str(file), *settings])
        assert "400 objects on frames" in result.output
        assert picture.stat().st_size > 1000

    def test_exception_no_observations(self, tmp_path: Path) -> None:
        file = tmp_path / "bad.jsonl"
        file.write_text('{"clip": 3}\n')
        result = CliRunner().invoke(app, ["calibrate", "fit", str(file)])
        assert result.exit_code == 2
        assert "wanted lines of observations" in result.output

    @pytest.mark.parametrize(
        ("words", "wanted"),
        [
            (["--out", "new.jsonl", "--step", "2", "--composed"], "either --step or --composed"),
            (["--out", "missing/new.jsonl"], "in a folder that exists, got missing/new.jsonl"),
            (["--out", "notes.txt"], "wanted lines of observations"),
        ],
    )
    def test_observing_is_refused_before_it_begins(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], wanted: str
    ) -> None:
        monkeypatch.chdir(tmp_path)
        Path("notes.txt").write_text("somebody's\n")
        result = CliRunner().invoke(app, ["calibrate", "observe", "none", *words])
        assert result.exit_code == 2
        assert wanted in " ".join(result.stderr.split())
        assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
        assert Path("notes.txt").read_text() == "somebody's\n"

    @pytest.mark.weights
    def test_observe(self, data: Path) -> None:
        file, recipe = data / "o.jsonl", write_recipe(data / "recipe.toml", held_out='"v0"')
        where = ["observe", str(data), "--out", str(file), "--recipe", str(recipe)]
        how = ["--sets", "singles", "--step", "1", "--frames", "3", "--clips", "1"]
        arguments = [*where, *how, "--preset", "lite-vmos", "--device", "cpu"]
        result = CliRunner().invoke(app, ["calibrate", *arguments])
        assert result.exit_code == 0, result.output
        found = calibrate.read_observations(file)
        assert [(each.clip, each.frame_index) for each in found] == [("v1:0/1", 1), ("v1:0/1", 2)]
        assert all(each.is_good and each.probability > 0.5 for each in found)
        assert all(each.evidence.mean_margin > 0 for each in found)
        assert calibrate.without_refiner(found) == found
