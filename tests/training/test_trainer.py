"""The trainer on a toy task: it learns, resumes exactly, stops cleanly, keeps its folder tidy."""

from __future__ import annotations

import importlib.util
import os
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from toy_run import Losses, toy_trainer

from vots_hqtrack.errors import ConfigError, HQTrackError, WeightsError
from vots_hqtrack.training.batch import PartDataset, part_stream
from vots_hqtrack.training.run_folder import read_checkpoint


class Killed(Exception):  # noqa: N818 - what happens to a process
    """Stands for a process that ends without a word."""


def die() -> None:
    raise Killed


def test_learns_a_toy_task(cache: Path, tmp_path: Path) -> None:
    callback = Losses()
    settings = ["train.steps=40", "train.checkpoint_every=100", "clip.predicted_masks_from=0.5"]
    result = toy_trainer(cache, tmp_path / "run", settings, callback).run()
    assert (result.step, result.signal_number, result.best) == (40, None, None)
    assert len(callback.losses) == 40
    assert sum(callback.losses[-5:]) < 0.7 * sum(callback.losses[:5])


def test_killed_and_resumed_run_equals_an_uninterrupted_one(cache: Path, tmp_path: Path) -> None:
    """Dropout, shuffled slots, predicted masks and the moving average included."""
    settings = ["clip.predicted_masks_from=0.6"]
    whole = Losses()
    toy_trainer(cache, tmp_path / "whole", settings, whole).run()

    broken = Losses(step_5=die)
    with pytest.raises(Killed):
        toy_trainer(cache, tmp_path / "parts", settings, broken).run()
    assert broken.losses == whole.losses[:5]
    resumed = Losses()
    trainer = toy_trainer(cache, tmp_path / "parts", settings, resumed)
    assert trainer.step == 3
    trainer.run()
    assert resumed.losses == whole.losses[3:]
    ends = [
        read_checkpoint(tmp_path / name / "checkpoints" / "step-00000006.pt")
        for name in ("whole", "parts")
    ]
    for part in ("network", "average"):
        for key, tensor in ends[0][part].items():
            assert torch.equal(tensor, ends[1][part][key]), (part, key)
    moments = [end["optimizer"]["state"] for end in ends]
    assert all(torch.equal(moments[0][i]["exp_avg"], moments[1][i]["exp_avg"]) for i in moments[0])


def test_dropout_is_part_of_the_loss(cache: Path, tmp_path: Path) -> None:
    """Else the test above would prove less than it says."""
    runs = []
    for share in ("0.0", "0.5"):
        callback = Losses()
        settings = ["train.steps=1", f"regularisation.dropout={share}"]
        toy_trainer(cache, tmp_path / share, settings, callback).run()
        runs += callback.losses
    assert runs[0] != runs[1]


@pytest.mark.usefixtures("fast_16_bit")
def test_precision_is_that_of_the_recipe(cache: Path, tmp_path: Path) -> None:
    runs = []
    for name in ("bfloat16", "float32"):
        callback = Losses()
        settings = ["train.steps=1", f"train.precision={name}"]
        toy_trainer(cache, tmp_path / name, settings, callback).run()
        runs += callback.losses
    assert runs[0] != runs[1]
    assert runs[0] == pytest.approx(runs[1], rel=0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_save_and_end_the_run(cache: Path, tmp_path: Path, number: int) -> None:
    steps = ["train.steps=3"]
    whole = Losses()
    toy_trainer(cache, tmp_path / "whole", steps, whole).run()
    former = signal.getsignal(number)
    first = Losses(step_2=lambda: os.kill(os.getpid(), number))
    result = toy_trainer(cache, tmp_path / "run", steps, first).run()
    assert (result.step, result.signal_number) == (2, number)
    assert signal.getsignal(number) is former
    second = Losses()
    assert toy_trainer(cache, tmp_path / "run", steps, second).run().step == 3
    assert first.losses + second.losses == whole.losses


def test_folder_keeps_the_newest_checkpoints_and_weights(cache: Path, tmp_path: Path) -> None:
    settings = ["train.checkpoint_every=1", "train.keep_checkpoints=2"]
    trainer = toy_trainer(cache, tmp_path / "run", settings)
    trainer.run()
    files = sorted(str(p.relative_to(tmp_path / "run")) for p in (tmp_path / "run").rglob("*.*"))
    events = [name for name in files if name.startswith("tensorboard")]
    assert len(events) == 1
    assert sorted(set(files) - set(events)) == [
        "checkpoints/step-00000005.pt",
        "checkpoints/step-00000006.pt",
        "config.toml",
        "last.safetensors",
        "log.jsonl",
        "state.safetensors",
    ]
    exported = load_file(tmp_path / "run" / "last.safetensors")
    wanted = trainer.learnt["vmos"].state_dict()
    assert exported.keys() == wanted.keys()
    assert {tensor.dtype for tensor in exported.values()} == {torch.float16}
    assert all(torch.allclose(exported[key].float(), wanted[key], atol=1e-2) for key in wanted)


def test_average_moves_by_one_minus_the_decay(cache: Path, tmp_path: Path) -> None:
    settings = ["optimizer.average_steps=4", "optimizer.average_warm_up=false"]
    trainer = toy_trainer(cache, tmp_path / "run", settings)
    weights = [part["vmos"].decoder.classify.weight for part in (trainer.learnt, trainer.learning)]
    start = weights[0].clone()
    with torch.no_grad():
        weights[1].add_(1.0)
    trainer._update_average()
    assert torch.allclose(weights[0], start + 0.25)
    assert torch.equal(weights[1], start + 1)


def test_tensorboard_has_scalars_and_images(cache: Path, tmp_path: Path) -> None:
    callback = Losses()
    trainer = toy_trainer(cache, tmp_path / "run", ["train.image_every=3"], callback)
    trainer.run()
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    total = events.Scalars("loss/total")
    assert [event.step for event in total] == [1, 2, 3, 4, 5, 6]
    assert [event.value for event in total] == pytest.approx(callback.losses)
    assert "optimizer/gradient_norm" in events.Tags()["scalars"]
    assert [event.step for event in events.Images("clip")] == [1, 3, 6]


def test_training_goes_without_tensorboard(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "tensorboard" else find(name)
    )
    toy_trainer(cache, tmp_path / "run", ["train.steps=1"]).run()
    assert "TensorBoard: the package is not installed" in caplog.text
    assert not (tmp_path / "run" / "tensorboard").exists()
    assert (tmp_path / "run" / "log.jsonl").exists()


def test_exception_damaged_checkpoint(cache: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "step-00000003.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(WeightsError, match=r"step-00000003\.pt"):
        toy_trainer(cache, tmp_path / "run")


def test_exception_folder_of_another_run(cache: Path, tmp_path: Path) -> None:
    toy_trainer(cache, tmp_path / "run", ["train.steps=9"])
    toy_trainer(cache, tmp_path / "run").save()
    toy_trainer(cache, tmp_path / "run", ["train.checkpoint_every=2", "data.root=moved"])
    with pytest.raises(ConfigError, match=r"optimizer\.learning_rate = 0\.004, wanted 0\.1"):
        toy_trainer(cache, tmp_path / "run", ["optimizer.learning_rate=0.1"])


def test_exception_loss_is_not_finite(cache: Path, tmp_path: Path) -> None:
    trainer = toy_trainer(cache, tmp_path / "run")
    with torch.no_grad():
        trainer.learning["vmos"].pyramid.project_s8.weight.fill_(float("nan"))
    with pytest.raises(HQTrackError, match="loss is nan in step 1"):
        trainer.run()


def test_exception_batch_cannot_be_shared_out(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="multiple of 4"):
        toy_trainer(cache, tmp_path / "run", ["train.accumulate=4"])


def gradients(cache: Path, run: Path, settings: list[str]) -> dict[str, torch.Tensor]:
    """Gradients of the first step."""
    fixed = ["regularisation.dropout=0", "regularisation.drop_path=0", "phases.batch_size=4"]
    trainer = toy_trainer(cache, run, [*fixed, *settings])
    stream = part_stream(PartDataset(trainer.parts.source, trainer.recipe), 0, 0)
    trainer.accumulate_gradients(stream)
    return {
        name: value.grad
        for name, value in trainer.network.named_parameters()
        if value.grad is not None
    }


def test_accumulated_gradients_equal_those_of_the_whole_batch(cache: Path, tmp_path: Path) -> None:
    whole = gradients(cache, tmp_path / "whole", [])
    parts = gradients(cache, tmp_path / "parts", ["train.accumulate=2"])
    assert whole.keys() == parts.keys()
    for name, gradient in whole.items():
        assert torch.allclose(gradient, parts[name], rtol=1e-4, atol=1e-6), name


def test_every_parameter_learns_and_the_bank_rests_with_predicted_masks(
    cache: Path, tmp_path: Path
) -> None:
    # Refinements that begin as identities would hide their first layers in the first step.
    settings = ["clip.predicted_masks_from=0.5", "model.similarity_start=false"]
    trainer = toy_trainer(cache, tmp_path / "run", settings)
    stream = part_stream(trainer.parts, 0, 0)

    def moved() -> set[str]:
        before = {
            name: value.detach().clone() for name, value in trainer.network.named_parameters()
        }
        trainer.train_step(stream)
        after = trainer.network.named_parameters()
        return {name for name, value in after if not torch.equal(value, before[name])}

    everything = {name for name, _ in trainer.network.named_parameters()}
    assert moved() == everything
    moved()
    moved()
    assert everything - moved() == {
        f"vmos.identity.bank_s{stride}.{part}" for stride in (8, 16) for part in ("weight", "bias")
    }
