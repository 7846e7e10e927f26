"""The composer: what is planned, what is rendered, and that both depend on the seed alone."""

from __future__ import annotations

import dataclasses
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from invented_footage import make_shot, open_footage

from vots_hqtrack.errors import ConfigError, InputError
from vots_hqtrack.synthetic.choice import FootageChooser
from vots_hqtrack.synthetic.effects import apply_effects
from vots_hqtrack.synthetic.footage import Footage, Source
from vots_hqtrack.synthetic.kinds import DEFAULT_WEIGHTS, KINDS
from vots_hqtrack.synthetic.layers import Layer, no_waves
from vots_hqtrack.synthetic.plan import ClipPlan
from vots_hqtrack.synthetic.planner import plan_clips
from vots_hqtrack.synthetic.render import render, render_reference
from vots_hqtrack.synthetic.scene import Scene
from vots_hqtrack.synthetic.statistics import count_clips
from vots_hqtrack.training.composer import (
    MIN_CLIP_PIXELS,
    ComposedClips,
    compose_clip,
    number_labels,
)
from vots_hqtrack.training.datasets import keep_visible
from vots_hqtrack.training.recipe_data import PhaseOptions

Stored = tuple[list[Footage], torch.Tensor]
PHASE = PhaseOptions(batch_size=4, num_frames=5, crop=(32, 48))
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def stored() -> Stored:
    """Three still images and a video of two objects each, and their pixels."""
    return open_footage()


def compose(stored: Stored, seed: int = 1, **weights: float) -> ComposedClips:
    return ComposedClips(*stored, seed=seed, stride=2, weights=weights or None)


def still(footage: Footage, labels: dict[int, int], centre: tuple[float, float], **more) -> Layer:
    """One frame of an image's object, or of the whole image as background, at its own size."""
    box = footage.boxes[0, 0] if len(labels) == 1 else (0, 0, footage.width, footage.height)
    middle = (0.5 * (box[0] + box[2]), 0.5 * (box[1] + box[3]))
    half = (0.5 * (box[2] - box[0]), 0.5 * (box[3] - box[1]))
    layer = Layer(
        footage=footage,
        frames=np.zeros(1, np.int64),
        labels=labels,
        centre=np.array([centre], float),
        source_centre=np.array([middle], float),
        scale=np.ones(1),
        angle=np.zeros(1),
        mirror=1.0,
        half=np.array([half], float),
        is_visible=np.ones(1, bool),
        waves=no_waves(1),
    )
    return dataclasses.replace(layer, **more)


def plan_of(layers: list[Layer], size: tuple[int, int]) -> ClipPlan:
    plan = plan_clips([(layers, np.random.default_rng(0))], 1, size, 1, shuffle_slots=False)
    plan.tones.zero_()
    plan.tones[..., :3] = torch.eye(3)
    return plan


def test_background_at_its_own_size_is_the_image(stored: Stored) -> None:
    footage, pixels = stored
    photo = footage[0]
    base = still(photo, {0: 3, 1: 7}, (photo.width / 2, photo.height / 2))
    frames, labels = render_reference(pixels, plan_of([base], (photo.height, photo.width)))
    image = pixels[: photo.height * photo.width].view(photo.height, photo.width)
    for channel in range(3):
        assert torch.equal(frames[0, 0, channel].int(), image >> 8 * channel & 255)
    numbers = image >> 24 & 255
    assert torch.equal(labels[0, 0] == 3, numbers == 1)
    assert torch.equal(labels[0, 0] == 7, numbers == 2)


def test_layer_covers_what_is_below_and_only_there(stored: Stored) -> None:
    footage, pixels = stored
    photo = footage[0]
    size = (photo.height, photo.width)
    base = still(photo, {0: 3, 1: 7}, (photo.width / 2, photo.height / 2))
    disc = still(footage[1], {0: 5}, (84.0, 60.0))
    below, _ = render_reference(pixels, plan_of([base], size))
    frames, labels = render_reference(pixels, plan_of([base, disc], size))
    is_disc = labels[0, 0] == 5
    assert is_disc.sum() == pytest.approx(footage[1].areas[0, 0], rel=0.03)
    rows, columns = torch.nonzero(is_disc, as_tuple=True)
    assert float(columns.float().mean()) == pytest.approx(83.5, abs=0.6)
    assert float(rows.float().mean()) == pytest.approx(59.5, abs=0.6)
    y, x = np.mgrid[: size[0], : size[1]]
    far = torch.from_numpy((x - 83.5) ** 2 + (y - 59.5) ** 2 > 21**2)
    assert torch.equal(frames[0, 0][:, far], below[0, 0][:, far])
    # No colour of the disc's own background comes with it.
    assert (frames[0, 0, 0][is_disc] > 200).float().mean() > 0.97


@pytest.mark.parametrize(("label", "wanted"), [(0, 0), (5, 5)])
def test_unlabelled_layer_hides_labels(stored: Stored, label: int, wanted: int) -> None:
    footage, pixels = stored
    base = still(footage[0], {0: 3, 1: 7}, (60.0, 48.0))
    cover = still(footage[1], {0: label}, (40.0, 45.0))
    _, labels = render_reference(pixels, plan_of([base, cover], (96, 120)))
    assert labels[0, 0, 45, 40] == wanted
    assert (labels == 3).sum() < 120  # the disc of the base lies below the other disc


def test_split_layer_has_two_labels(stored: Stored) -> None:
    footage, pixels = stored
    base = still(footage[0], {}, (60.0, 48.0))
    base.half[:] = 60.0
    disc = still(footage[1], {0: 4}, (60.0, 48.0), split=(1.0, 0.0, 0.0), second_label=9)
    _, labels = render_reference(pixels, plan_of([base, disc], (96, 120)))
    columns = {value: torch.nonzero(labels[0, 0] == value)[:, 1] for value in (4, 9)}
    assert columns[4].max() < columns[9].min()
    assert len(columns[4]) == pytest.approx(len(columns[9]), rel=0.15)


@pytest.mark.parametrize("scale", [0.5, 0.25])
def test_shrunk_layer_reads_halved_images(stored: Stored, scale: float) -> None:
    footage, pixels = stored
    base = still(footage[0], {}, (60.0, 48.0))
    small = still(footage[1], {0: 4}, (60.0, 48.0), scale=np.full(1, scale))
    plan = plan_of([base, small], (96, 120))
    assert plan.sizes[0, 1, 0].tolist() == [round(96 * scale), round(120 * scale)]
    _, labels = render_reference(pixels, plan)
    wanted = footage[1].areas[0, 0] * scale**2
    assert (labels == 4).sum() == pytest.approx(wanted, rel=0.12)


def test_clip_depends_on_seed_step_and_index_alone(stored: Stored) -> None:
    clips = compose(stored)
    whole = clips.draw(7, range(4), PHASE)
    part = clips.draw(7, [2, 3], PHASE)
    assert torch.equal(whole.matrices[2:], part.matrices)
    assert torch.equal(whole.slots[2:], part.slots)
    assert not torch.equal(whole.matrices, clips.draw(8, range(4), PHASE).matrices)
    assert not torch.equal(
        whole.matrices, compose(stored, seed=2).draw(7, range(4), PHASE).matrices
    )
    first, second = (clips.finish(clips.draw(7, range(4), PHASE), CPU) for _ in range(2))
    assert first.frames is not None
    assert torch.equal(first.frames, second.frames)
    assert torch.equal(first.labels, second.labels)


def test_workers_get_no_pixels(stored: Stored) -> None:
    clips = compose(stored)
    copy = pickle.loads(pickle.dumps(clips))  # noqa: S301 - made one line above
    assert copy.pixels is None
    assert torch.equal(copy.draw(0, [1], PHASE).boxes, clips.draw(0, [1], PHASE).boxes)
    with pytest.raises(RuntimeError, match="holds the pixels"):
        copy.finish(copy.draw(0, [1], PHASE), CPU)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_gives_clips(stored: Stored, kind: str) -> None:
    clips = compose(stored, **{kind: 1.0})
    batch = clips.finish(clips.draw(0, range(12), PHASE), CPU)
    assert batch.frames is not None
    assert batch.frames.shape == (12, 5, 3, 64, 96)
    assert batch.frames.dtype == torch.uint8
    assert batch.labels.shape == (12, 5, 32, 48)
    assert batch.labels.dtype == torch.uint8
    assert batch.num_objects == 10
    assert int(batch.labels.max()) <= 10
    assert (batch.labels[:, 0].flatten(1).amax(1) > 0).float().mean() >= 0.75
    later = torch.cat([batch.labels[:, 0].unique(), batch.labels.unique()]).unique()
    assert torch.equal(later, batch.labels[:, 0].unique())  # nothing new after the first frame
    assert sorted(batch.slots[0, 1:].tolist()) == list(range(1, 11))


def sample_layers(stored: Stored, seed: int, num_frames: int, kind: str) -> list[Layer]:
    chooser, generator = FootageChooser(stored[0]), np.random.default_rng(seed)
    return Scene(chooser, generator, num_frames, (64, 96), KINDS[kind]).layers()


def count(stored: Stored, kind: str, measure) -> float:
    scenes = [sample_layers(stored, seed, 5, kind) for seed in range(60)]
    return float(np.mean([measure(layers) for layers in scenes]))


def labels_of(layers: list[Layer]) -> list[int]:
    return [label for layer in layers[1:] for label in set(layer.labels.values()) if label]


def test_joined_objects_share_a_label(stored: Stored) -> None:
    def share(layers: list[Layer]) -> bool:
        return len(labels_of(layers)) > len(set(labels_of(layers)))

    assert count(stored, "joined", share) > 0.4
    assert count(stored, "meetings", share) < 0.2


def test_growing_layers_come_near(stored: Stored) -> None:
    def growth(layers: list[Layer]) -> float:
        return max(float(layer.scale.max() / layer.scale.min()) for layer in layers[1:])

    assert count(stored, "growing", growth) > 2
    assert count(stored, "meetings", growth) < 1.8


def test_counts_of_clips(stored: Stored) -> None:
    clips = compose(stored).only("meetings")
    labels = [clips.render(clips.draw(0, [index], PHASE))[1][0] for index in range(8)]
    counts = count_clips(labels)
    assert counts.objects == [int(label_maps.max()) for label_maps in labels]
    assert max(counts.meetings) >= 1
    assert len(counts.areas) == sum(counts.objects)
    by_hand = torch.zeros(4, 10, 20, dtype=torch.uint8)
    by_hand[0, :, :4], by_hand[0, :, 4:8] = 1, 2  # they touch
    by_hand[1, :, :4], by_hand[1, :, 12:16] = 1, 2
    by_hand[3, :, 2:6] = 1
    counts = count_clips([by_hand])
    assert (counts.objects, counts.meetings) == ([2], [1])
    assert (counts.absent, counts.returned, counts.gone) == (2, 1, 1)
    assert counts.areas == [0.2, 0.2]
    assert counts.speeds == pytest.approx([0.05, 0.8])  # 2 pixels in 3 frames once, 8 in one
    assert [name for name, _ in counts.rows()][:2] == ["clips", "objects a clip"]


def test_large_objects_fill_the_view(stored: Stored) -> None:
    def fraction(layers: list[Layer]) -> float:
        base = layers[0]
        areas = base.footage.areas[base.frames[0]]
        return float(areas.max() * base.scale[0] ** 2 / (64 * 96))

    assert count(stored, "large", fraction) > 1.5 * count(stored, "plain", fraction)
    assert count(stored, "large", fraction) > 0.3


def test_hidden_objects_come_back(stored: Stored) -> None:
    """An unlabelled layer lies over a labelled one for a while, but not in the first frame."""
    clips = compose(stored, hiding=1.0)
    found = 0
    for step in range(12):
        batch = clips.finish(clips.draw(step, range(2), PHASE), CPU)
        areas = torch.stack([(batch.labels == label).sum((2, 3)) for label in range(1, 11)], -1)
        gone = areas[:, 1:-1].amin(1) < 0.25 * areas[:, 0]
        found += int((gone & (areas[:, -1] > 0.6 * areas[:, 0]) & (areas[:, 0] > 0)).sum())
    assert found >= 3


def test_alone_tracks_one_object(stored: Stored) -> None:
    clips = compose(stored, alone=1.0)
    batch = clips.finish(clips.draw(0, range(8), PHASE), CPU)
    assert int(batch.labels.max()) == 1


def test_at_most_ten_labels(stored: Stored) -> None:
    for seed in range(80):
        layers = sample_layers(stored, seed, 4, "crowds")
        used = {label for layer in layers for label in (*layer.labels.values(), layer.second_label)}
        assert max(used) <= 10


def test_number_labels() -> None:
    labels = torch.zeros(2, 2, 16, 16, dtype=torch.uint8)
    labels[0, 0, :6, :6], labels[0, 0, 8:, 8:] = 9, 4
    labels[0, 1, :8, :8], labels[0, 1, 8:, :8] = 4, 6
    labels[1, 0, 0, :3] = 2  # too small
    numbered = number_labels(labels)
    assert numbered[0, 0, 0, 0] == 2
    assert numbered[0, 0, 9, 9] == 1
    assert numbered[0, 1, 0, 0] == 1
    assert numbered[0, 1, 9, 0] == 0
    assert int(numbered[1].max()) == 0


def still_images(count: int) -> list[Source]:
    return [Source(f"i{n}", lambda n=n: make_shot(n, 1), 1.0) for n in range(count)]


@pytest.mark.parametrize("num_frames", [1, 4])
@pytest.mark.parametrize("kind", [None, "meetings"])
def test_single_clips(num_frames: int, kind: str | None) -> None:
    def compose_one(seed: int):
        generator = np.random.default_rng(seed)
        return compose_clip(
            still_images(3), generator, num_frames=num_frames, size=(64, 97), kind=kind
        )

    first, again, other = compose_one(5), compose_one(5), compose_one(6)
    assert first.frames.shape == (num_frames, 64, 97, 3)
    assert np.array_equal(first.frames, again.frames)
    assert np.array_equal(first.labels, again.labels)
    assert not np.array_equal(first.frames, other.frames)
    assert first.origin == "i0 + i1 + i2"
    for seed in range(8):
        clip = compose_one(seed)
        areas = np.bincount(clip.labels[0].ravel())
        assert 1 <= clip.num_objects == len(areas) - 1
        assert areas[1:].min() >= 100


def test_labels_are_where_the_objects_are() -> None:
    # A red disc is all that is red in a black image, and blur halves its red at its edge.
    rows, columns = np.mgrid[:240, :320]
    disc = (rows - 120) ** 2 + (columns - 160) ** 2 < 40**2
    image = np.where(disc[..., None], (255, 30, 30), 0).astype(np.uint8)
    sources = [Source("disc", lambda: (image[None], disc[None].astype(np.uint8)), 1.0)]
    overlaps = []
    for seed in range(12):
        generator = np.random.default_rng(seed)
        clip = compose_clip(sources, generator, num_frames=3, size=(160, 160), kind="real")
        channels = clip.frames.astype(int)
        redness = channels[..., 0] - channels[..., 1:].max(axis=-1)
        mask = clip.labels > 0
        is_red = redness > np.median(redness[mask]) / 2
        overlaps.append((is_red & mask).sum() / (is_red | mask).sum())
    assert np.median(overlaps) > 0.95


def test_exception_no_object_is_large_enough() -> None:
    ids = np.zeros((1, 60, 60), np.uint8)
    ids[0, :6, :6] = 1
    sources = [Source("small", lambda: (np.zeros((1, 60, 60, 3), np.uint8), ids), 1.0)]
    generator = np.random.default_rng(0)
    with pytest.raises(InputError, match=r"no object of 100 pixels in any of 20 .* of small"):
        compose_clip(sources, generator, num_frames=2, size=(32, 32), kind="real")


def test_keep_visible() -> None:
    labels = np.zeros((2, 40, 40), np.uint8)
    labels[0, :10, :10], labels[0, 20:, 20:], labels[0, 0, 20:30] = 9, 4, 6
    labels[1, :5], labels[1, 10:] = 6, 9
    kept = keep_visible(labels, MIN_CLIP_PIXELS)
    assert np.bincount(kept[0].ravel()).tolist() == [1100, 400, 100]
    assert kept[1, 0, 0] == 0
    assert kept[1, 20, 0] == 2


def test_effects_blur_and_noise_only_where_planned(stored: Stored) -> None:
    clips = compose(stored, seed=4)
    plan = clips.draw(0, range(8), PHASE)
    assert 0 < len(plan.blurred) < 40
    assert 0 < len(plan.noisy) < 40
    torch.testing.assert_close(plan.kernels.sum(-1), torch.ones(len(plan.kernels), 2))
    plain, _ = render_reference(stored[1], plan)
    changed = apply_effects(plain.clone(), plan).flatten(0, 1)
    plain = plain.flatten(0, 1)
    touched = set(plan.blurred.tolist()) | set(plan.noisy.tolist())
    for frame in range(len(plain)):
        assert torch.equal(plain[frame], changed[frame]) == (frame not in touched)
    noisy = next(frame for frame in plan.noisy.tolist() if frame not in plan.blurred.tolist())
    difference = changed[noisy].float() - plain[noisy].float()
    inside = (plain[noisy] > 30) & (plain[noisy] < 225)
    sigma = float(plan.noise[plan.noisy.tolist().index(noisy)])
    assert float(difference[inside].std()) == pytest.approx(sigma, rel=0.15)


def test_bad_kinds(stored: Stored) -> None:
    with pytest.raises(ConfigError, match="got 'crossing'"):
        compose(stored, crossing=1.0)
    with pytest.raises(ConfigError, match="weights of"):
        compose(stored, plain=0.0)
    assert set(DEFAULT_WEIGHTS) == set(KINDS)
    assert sum(DEFAULT_WEIGHTS.values()) == pytest.approx(1)


def check_kernel(stored: Stored, device: str, phase: PhaseOptions) -> None:
    """Hold the kernel against the reference: a pixel may round otherwise, hardly a label."""
    from vots_hqtrack.synthetic.triton_render import render_triton

    pixels = stored[1]
    plan = compose(stored).draw(0, range(phase.batch_size), phase)
    frames, labels = render_reference(pixels, plan)
    found, found_labels = render_triton(pixels.to(device), plan.to(torch.device(device)))
    difference = (found.cpu().int() - frames.int()).abs()
    assert float((difference > 1).float().mean()) < 2e-3
    assert float((found_labels.cpu() != labels).float().mean()) < 2e-3


INTERPRETING = os.environ.get("TRITON_INTERPRET") == "1"


def test_kernel_in_the_interpreter(stored: Stored) -> None:
    pytest.importorskip("triton", reason="the extra 'gpu' is not installed")
    if INTERPRETING:
        check_kernel(stored, "cpu", PhaseOptions(batch_size=2, num_frames=2, crop=(16, 24)))
        return
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    ended = subprocess.run(
        [*command, "-k", "interpreter"],
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "1 passed" in ended.stdout, ended.stdout


@pytest.mark.gpu
def test_kernel_on_gpu(stored: Stored) -> None:
    pytest.importorskip("triton", reason="the extra 'gpu' is not installed")
    check_kernel(stored, "cuda", PHASE)


@pytest.mark.gpu
def test_batches_on_gpu_equal_those_on_cpu(stored: Stored) -> None:
    on_cpu = compose(stored)
    device = torch.device("cuda")
    on_gpu = ComposedClips(stored[0], stored[1].to(device), seed=1, stride=2)
    wanted = on_cpu.finish(on_cpu.draw(3, range(4), PHASE), CPU)
    found = on_gpu.finish(on_gpu.draw(3, range(4), PHASE), device)
    assert wanted.frames is not None
    assert found.frames is not None
    difference = (found.frames.cpu().int() - wanted.frames.int()).abs()
    assert float((difference > 2).float().mean()) < 5e-3
    assert float((found.labels.cpu() != wanted.labels).float().mean()) < 5e-3
    assert render(on_gpu.pixels, on_gpu.draw(0, [0], PHASE).to(device))[0].is_cuda
