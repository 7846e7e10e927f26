"""The dev split is tracked by the tracker of inference, and training does not notice."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from toy_run import Losses, write_clips

from vots_hqtrack.errors import ConfigError, InputError
from vots_hqtrack.measures import mean_measures, measure_mask
from vots_hqtrack.tracker import HQTracker
from vots_hqtrack.training.datasets import DEV_SPLIT
from vots_hqtrack.training.dev import DEV_SETS, DevSplit, dev_tracker, measure_video
from vots_hqtrack.training.feature_cache import ClipSampler, Source
from vots_hqtrack.training.network import build_network, frame_encoder, tracker_config
from vots_hqtrack.training.recipe import ClipOptions, ModelOptions
from vots_hqtrack.training.recipe_data import DevOptions
from vots_hqtrack.training.recipe_files import load_recipe
from vots_hqtrack.training.trainer import Trainer

DEVICE = torch.device("cpu")
SMALL = ("frame.long_edge=384",)


def write_video(root: Path, num_frames: int = 3) -> None:
    """Two discs that stand still on noise."""
    frames, labels = (root / kind / "480p" / "discs" for kind in ("JPEGImages", "Annotations"))
    frames.mkdir(parents=True)
    labels.mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 60, (96, 128, 3), dtype=np.uint8)
    mask = np.zeros((96, 128), np.uint8)
    cv2.circle(mask, (40, 48), 24, 1, -1)
    cv2.circle(mask, (95, 48), 18, 2, -1)
    colours = np.array([(0, 0, 0), (190, 30, 30), (20, 60, 190)], np.uint8)
    for index in range(num_frames):
        cv2.imwrite(str(frames / f"{index}.jpg"), noise + colours[mask])
        cv2.imwrite(str(labels / f"{index}.png"), mask)


@pytest.fixture(scope="module")
def tracker() -> HQTracker:
    return HQTracker.from_preset("lite-vmos", device="cpu", settings=SMALL)


@pytest.mark.weights
def test_shipped_weights_track_and_stay_as_they_are(tmp_path: Path) -> None:
    write_video(tmp_path / "davis")
    model = ModelOptions("lite", SMALL, weights="vmos-lite", train_encoder=False, features="cached")
    network = build_network(model, ClipOptions())
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    config = tracker_config(model)
    split = DevSplit(DevOptions(root="davis", sequences=("discs",)), tmp_path)
    trained = dev_tracker(
        config, frame_encoder(network.encoder, config, DEVICE), network.vmos, DEVICE
    )
    scores = dict(split.measure(trained, split.videos))
    assert scores.keys() == {"discs"}
    assert scores["discs"].objects.keys() == {1, 2}
    assert scores["discs"].num_frames == 2
    for measured in scores["discs"].objects.values():
        assert 0.8 < measured.region <= 1
        assert 0.8 < measured.boundary <= 1
    assert scores["discs"].mean == mean_measures(scores["discs"].objects.values())
    after = network.state_dict()
    assert after.keys() == before.keys()
    for key, tensor in before.items():
        assert after[key].dtype == tensor.dtype
        assert torch.equal(after[key], tensor), key
    assert all(parameter.requires_grad for parameter in network.vmos.parameters())


class Scalars:
    """A logger that keeps the numbers."""

    def __init__(self) -> None:
        self.found: dict[str, float] = {}

    def scalars(self, step: int, values: dict[str, float]) -> None:
        self.found.update(values)


@pytest.mark.weights
def test_the_trainer_reports_the_dev_split_and_keeps_the_best(tmp_path: Path) -> None:
    write_video(tmp_path / "davis")
    settings = ["dev.root=davis", "dev.sequences=discs,discs:1", "dev.frame_step=1"]
    settings += [f"model.settings={SMALL[0]}", "model.weights=vmos-lite", "train.precision=float32"]
    recipe = load_recipe("lite", settings)
    callback, scalars = Losses(), Scalars()
    source = ClipSampler([Source(write_clips(tmp_path / "clips"), 1.0, 1)], 0)
    trainer = Trainer(recipe, tmp_path / "run", data=tmp_path, callback=callback, source=source)
    trainer.evaluate(scalars)  # type: ignore[arg-type]
    ((step, mean, best),) = callback.evaluations
    assert (step, mean) == (0, best)
    assert 0.8 < mean <= 1
    assert mean == pytest.approx((scalars.found["dev/discs"] + scalars.found["dev/discs:1"]) / 2)
    assert scalars.found["dev/mean"] == mean
    assert 0.8 < scalars.found["dev/mean J&F"] <= 1
    assert (tmp_path / "run" / "best.safetensors").is_file()


def test_exception_sequence_is_missing(tmp_path: Path) -> None:
    write_video(tmp_path / "davis")
    with pytest.raises(InputError, match="the dev split needs bear in"):
        DevSplit(DevOptions(root="davis", sequences=("discs", "bear")), tmp_path)


def test_frames_may_be_in_another_data_set(tmp_path: Path) -> None:
    write_video(tmp_path / "davis")
    labels = tmp_path / "other" / "Annotations"
    labels.mkdir(parents=True)
    (tmp_path / "davis" / "Annotations" / "480p" / "discs").rename(labels / "discs")
    options = DevOptions(root="other", options=("frames=../davis",), sequences=("discs",))
    video = DevSplit(options, tmp_path).videos[0].video
    assert [len(video), *video.load(1).image.shape] == [3, 96, 128, 3]
    with pytest.raises(ConfigError, match="got 'frame'"):
        DevSplit(DevOptions(root="other", options=("frame=x",)), tmp_path)


@pytest.mark.parametrize(
    ("name", "step", "limit", "expected"),
    [
        ("discs", 1, 0, range(9)),
        ("discs:3", 1, 0, range(3, 9)),
        ("discs:3", 2, 0, range(3, 9, 2)),
        ("discs:3", 2, 2, range(3, 7, 2)),
    ],
)
def test_frames_that_are_tracked(
    tmp_path: Path, name: str, step: int, limit: int, expected: range
) -> None:
    write_video(tmp_path / "davis", 9)
    options = DevOptions("davis", (), (name,), frame_step=step, max_frames=limit)
    video = DevSplit(options, tmp_path).videos[0]
    assert (video.name, list(video.places)) == (name, list(expected))


@pytest.mark.parametrize(
    ("name", "error", "text"),
    [
        ("discs:8", InputError, "discs:8 needs two frames, got 1"),
        ("discs:12", InputError, "got 0"),
        ("discs:x", ConfigError, "names or name:first_frame, got 'discs:x'"),
        (":3", ConfigError, "names or name:first_frame"),
    ],
)
def test_exception_frames(tmp_path: Path, name: str, error: type[Exception], text: str) -> None:
    write_video(tmp_path / "davis", 9)
    with pytest.raises(error, match=text):
        DevSplit(DevOptions("davis", (), (name,)), tmp_path)


@pytest.mark.weights
def test_objects_are_measured_each_on_every_later_frame(tmp_path: Path, tracker: HQTracker) -> None:
    """One disc is gone in the last frame; the same tracker, run by hand, gives the same means."""
    write_video(tmp_path / "davis", 4)
    last = tmp_path / "davis" / "Annotations" / "480p" / "discs" / "3.png"
    labels = cv2.imread(str(last), cv2.IMREAD_GRAYSCALE)
    assert labels is not None
    cv2.imwrite(str(last), np.where(labels == 2, 0, labels))
    video = DevSplit(DevOptions("davis", (), ("discs:1",)), tmp_path).videos[0]
    score = measure_video(tracker, video)
    assert score.num_frames == 2
    assert score.seconds > 0
    photos = [video.video.load(place) for place in (1, 2, 3)]
    state = tracker.initialize(photos[0].image, {n: photos[0].label_map == n for n in (1, 2)})
    masks = [tracker.track(photo.image, state).masks for photo in photos[1:]]
    for number, measured in score.objects.items():
        wanted = mean_measures(
            measure_mask(found[number], photo.label_map == number)
            for found, photo in zip(masks, photos[1:], strict=True)
        )
        assert measured == wanted
    assert score.objects[2].region < 0.6 < 0.8 < score.objects[1].region


def test_exception_no_object_in_the_first_frame(tmp_path: Path, tracker: HQTracker) -> None:
    write_video(tmp_path / "davis")
    first = tmp_path / "davis" / "Annotations" / "480p" / "discs" / "0.png"
    cv2.imwrite(str(first), np.zeros((96, 128), np.uint8))
    video = DevSplit(DevOptions("davis", (), ("discs",)), tmp_path).videos[0]
    with pytest.raises(InputError, match="discs shows no object"):
        measure_video(tracker, video)


def test_dev_sets_are_left_out_of_training() -> None:
    """Whatever the GPU recipe trains on, it holds out what the dev sets track."""
    recipe = load_recipe("lite-gpu")
    held_out = {*DEV_SPLIT, *recipe.composer.held_out}
    for parts in DEV_SETS.values():
        for part in parts:
            assert held_out.issuperset(part.sequences)
