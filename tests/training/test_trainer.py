"""The trainer on a toy task: it learns, resumes, and unrolls clips as inference does."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from vots_hqtrack.config import MemoryConfig, VMOSConfig
from vots_hqtrack.errors import InputError, WeightsError
from vots_hqtrack.training.clip import DEAD_LOGIT, shuffle_table, unroll_clip
from vots_hqtrack.training.features import NECK_CHANNELS, CachedClip, Window
from vots_hqtrack.training.sampler import ClipSampler, Source, renumber_visible
from vots_hqtrack.training.trainer import Phase, TrainConfig, Trainer, learning_rate

CELLS = (6, 8)
DIMS = (8, NECK_CHANNELS, NECK_CHANNELS)


def write_clip(path: Path, seed: int) -> None:
    """Write a clip whose features tell the object: a square that moves one cell a frame."""
    generator = torch.Generator().manual_seed(seed)
    frames = 3
    colours = torch.randn(2, NECK_CHANNELS, generator=generator)
    inside = torch.zeros(frames, *CELLS, dtype=torch.long)
    for index in range(frames):
        inside[index, 1:4, index + 1 : index + 4] = 1
    noise = torch.randn(frames, *CELLS, NECK_CHANNELS, generator=generator)
    s8 = colours[inside] + 0.1 * noise
    fine = inside.repeat_interleave(2, 1).repeat_interleave(2, 2)
    s4 = torch.randn(2, 8, generator=generator)[fine]
    labels = fine.repeat_interleave(4, 1).repeat_interleave(4, 2).to(torch.uint8)
    content = {"s4": s4.bfloat16(), "s8": s8.bfloat16(), "labels": labels}
    save_file(content, path)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    for seed in range(6):
        write_clip(folder / f"{seed}.safetensors", seed)
    return folder


def config(cache: Path, steps: int) -> TrainConfig:
    return TrainConfig(
        sources=(Source(cache, 1.0, 1),),
        vmos=VMOSConfig(width_s16=16, width_s8=16, width_s4=8, num_blocks_s16=1, window_radius=3),
        dims=DIMS,
        phases=(Phase(1.0, 2, 3, CELLS),),
        steps=steps,
        learning_rate=4e-3,
    )


def test_learns_a_toy_task(cache: Path, tmp_path: Path) -> None:
    losses: list[float] = []
    trainer = Trainer(config(cache, 40))
    trainer.run(tmp_path / "toy.pt", report=lambda _, loss: losses.append(loss))
    assert len(losses) == 40
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])


def test_resumed_run_equals_an_uninterrupted_one(cache: Path, tmp_path: Path) -> None:
    whole: list[float] = []
    Trainer(config(cache, 6)).run(tmp_path / "a.pt", report=lambda _, loss: whole.append(loss))
    first = Trainer(config(cache, 6))
    parts = [first.train_step(first.draw(first.step)) for _ in range(3)]
    first.save(tmp_path / "b.pt")
    Trainer(config(cache, 6)).run(tmp_path / "b.pt", report=lambda _, loss: parts.append(loss))
    assert parts == pytest.approx(whole, rel=1e-4)


def test_damaged_checkpoint_is_an_error(cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "broken.pt"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(WeightsError, match=r"broken\.pt"):
        Trainer(config(cache, 2)).run(path)


def test_empty_source_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found none"):
        ClipSampler([Source(tmp_path, 1.0, 1)], 0)


def test_draws_depend_on_seed_and_step_only(cache: Path) -> None:
    sampler, again = (ClipSampler([Source(cache, 1.0, 1)], 3) for _ in range(2))
    sampler.draw(0, 2, 2, (4, 4))
    left, right = sampler.draw(5, 2, 2, (4, 4)), again.draw(5, 2, 2, (4, 4))
    assert torch.equal(left.labels, right.labels)
    assert torch.equal(left.features[1].s8, right.features[1].s8)
    assert left.labels.shape == (2, 2, 32, 32)
    assert left.features[0].s16.shape == (2, NECK_CHANNELS, 2, 2)


def test_window_reads_the_same_place_at_all_scales(cache: Path) -> None:
    clip = CachedClip(cache / "0.safetensors")
    features, labels = clip.read([0], Window(2, 2, 4, 4))
    object_cells = labels[0, 4::8, 4::8] == 1
    s8 = features.s8[0].float()
    inside, outside = s8[:, object_cells], s8[:, ~object_cells]
    assert inside.std(1).mean() < 0.2
    assert (inside.mean(1) - outside.mean(1)).abs().mean() > 0.5
    assert features.s4.shape[-2:] == (8, 8)


def test_renumbering_keeps_objects_of_the_first_frame() -> None:
    import numpy as np

    labels = np.zeros((2, 20, 20), np.uint8)
    labels[:, :10, :10], labels[:, 10:, 10:] = 7, 3
    labels[1, 0, 15] = 9
    found = renumber_visible(labels)
    assert sorted(np.unique(found)) == [0, 1, 2]
    assert (found[0, :10, :10] == 2).all()
    assert (found[0, 10:, 10:] == 1).all()
    assert found[1, 0, 15] == 0


def test_unroll_gives_logits_in_label_order_whatever_the_slots(cache: Path) -> None:
    """Before training slots differ, but dead channels and shapes must follow the labels."""
    trainer = Trainer(config(cache, 2))
    batch = trainer.draw(0)
    labels = batch.labels.clone()
    labels[1][labels[1] == 1] = 0
    labels[1, :, :8, :8] = 2
    slots = shuffle_table(2, torch.Generator().manual_seed(0))
    memory = MemoryConfig(capacity=2, gap=1, short_term_delay=1)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        logits = unroll_clip(
            trainer.vmos, batch.features, labels, slots, memory, use_own_labels=True
        )
    assert len(logits) == 3
    assert logits[0].shape == (2, 3, 12, 16)
    assert (logits[1][0, 2] == DEAD_LOGIT).all()
    assert (logits[1][1, 1] == DEAD_LOGIT).all()
    assert (logits[1][1, 2] > DEAD_LOGIT).all()


def test_shuffle_is_a_permutation_with_fixed_background() -> None:
    table = shuffle_table(5, torch.Generator().manual_seed(0))
    assert (table[:, 0] == 0).all()
    assert torch.equal(table.sort(1).values, torch.arange(11).repeat(5, 1))


def test_learning_rate_warms_up_and_falls(cache: Path) -> None:
    plan = config(cache, 100)
    rates = [learning_rate(plan, step) for step in range(101)]
    assert rates[0] == plan.min_learning_rate
    assert max(rates) == pytest.approx(plan.learning_rate)
    assert rates.index(max(rates)) == 5
    assert rates[-1] == pytest.approx(plan.min_learning_rate)
    assert rates[5:] == sorted(rates[5:], reverse=True)
