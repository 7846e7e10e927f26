"""A compact state is small, and going on from it stays close to never having stopped."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from toy_run import Losses, toy_trainer

from vots_hqtrack.build import build_networks
from vots_hqtrack.errors import WeightsError
from vots_hqtrack.presets import load_preset
from vots_hqtrack.training.session import Counters
from vots_hqtrack.training.state_file import find_average, load_state, restore_state, save_state
from vots_hqtrack.training.trainer import Trainer

LARGEST_FILE = 14_000_000
STEADY = (
    "optimizer.warm_up=0",
    "optimizer.learning_rate=1e-3",
    "optimizer.min_learning_rate=1e-3",
    "optimizer.average_steps=10",
    "loss.auxiliary_until=0",
    "loss.hardest_until=0",
)
"""Nothing that depends on how far a session is."""


def stepped(network: nn.Module, steps: int = 3) -> torch.optim.AdamW:
    """An optimiser that has seen gradients of very different sizes."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        for value in network.parameters():
            size = torch.rand(value.shape, generator=generator) ** 4
            value.grad = 1e-3 * size * torch.randn(value.shape, generator=generator)
        optimizer.step()
    return optimizer


def step_of(optimizer: torch.optim.AdamW, parameter: nn.Parameter) -> Tensor:
    """Direction of the next step, without a new gradient."""
    state = optimizer.state[parameter]
    step: Tensor = state["exp_avg"] / (state["exp_avg_sq"].sqrt() + 1e-8)
    return step


def test_values_of_the_lite_preset(tmp_path: Path) -> None:
    config = load_preset("lite")
    network = build_networks(config)[1]
    optimizer = stepped(network)
    path = tmp_path / "state.safetensors"
    counters = Counters(steps=1200, clips=76_800, minutes=6.25, sessions=2)
    save_state(path, network, optimizer, counters, {"preset": "lite"})
    assert path.stat().st_size <= LARGEST_FILE

    state = load_state(path)
    assert state.counters == counters
    other = build_networks(config)[1]
    later = torch.optim.AdamW(other.parameters(), lr=1e-4)
    restore_state(state, other, later, "the state")
    for (name, value), two in zip(network.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(two, value, rtol=1e-3, atol=1e-5, msg=name)
        wanted = step_of(optimizer, value)
        # Measured: 4 % at most; the two moments are rounded by 2 % each on average.
        assert (step_of(later, two) - wanted).norm() <= 0.06 * wanted.norm(), name
        assert float(later.state[two]["step"]) == 3


def test_tiny_second_moments_are_not_lost(tmp_path: Path) -> None:
    """A root rounded to 0 would divide a step by nothing."""
    network = nn.Linear(3, 1, bias=False)
    optimizer = stepped(network)
    state = optimizer.state[network.weight]
    state["exp_avg"].copy_(torch.tensor([[1.0, 1e-9, 0.0]]))
    state["exp_avg_sq"].copy_(torch.tensor([[1.0, 1e-18, 0.0]]))
    save_state(tmp_path / "state", network, optimizer, Counters(), {})
    restore_state(load_state(tmp_path / "state"), network, optimizer, "the state")
    step = step_of(optimizer, network.weight)
    assert step[0].tolist() == pytest.approx([1.0, 0.0, 0.0], abs=1e-3)


@torch.no_grad()
def differences(left: nn.Module, right: nn.Module, start: nn.Module) -> float:
    """Distance of two networks, relative to the way from the start."""
    triples = zip(left.parameters(), right.parameters(), start.parameters(), strict=True)
    pairs = [((new - two).square().sum(), (new - old).square().sum()) for new, two, old in triples]
    apart, moved = (torch.stack(column).sum() for column in zip(*pairs, strict=True))
    return float((apart / moved).sqrt())


@pytest.fixture(scope="module")
def sessions(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trainer]:
    """12 steps at once, and 6 with 6 more that go on from the state."""
    root = tmp_path_factory.mktemp("sessions")
    found = {}
    for name, steps, state in (
        ("whole", 12, None),
        ("first", 6, None),
        ("second", 6, root / "first" / "state.safetensors"),
    ):
        settings = [*STEADY, f"train.steps={steps}"]
        found[name] = toy_trainer(cache, root / name, settings, Losses(), state)
        found[name].run()
    return found


def test_going_on_stays_close_to_never_having_stopped(sessions: dict[str, Trainer]) -> None:
    whole, first, second = (sessions[name] for name in ("whole", "first", "second"))
    losses = {name: session.callback.losses for name, session in sessions.items()}  # type: ignore[attr-defined]
    assert losses["first"] == losses["whole"][:6]
    assert losses["second"] == pytest.approx(losses["whole"][6:], rel=0.02)
    # Measured: 0.04 and 0.03.
    assert differences(whole.network, second.network, first.network) < 0.1
    assert differences(whole.learnt, second.learnt, first.learnt) < 0.1


def test_counters_add_up(sessions: dict[str, Trainer]) -> None:
    whole, second = sessions["whole"].totals, sessions["second"].totals
    assert (second.steps, second.clips, second.sessions) == (12, 24, 2)
    assert (whole.steps, whole.clips, whole.sessions) == (12, 24, 1)
    first = load_state(sessions["first"].folder.state).counters
    assert 0 < first.minutes < second.minutes
    assert load_state(sessions["second"].folder.state).counters.steps == 12


def test_without_moments_training_goes_another_way(cache: Path, tmp_path: Path) -> None:
    """Else closeness would say nothing of the moments."""
    settings = [*STEADY, "train.steps=4"]
    first = toy_trainer(cache, tmp_path / "first", settings)
    first.run()
    state, found = first.folder.state, []
    for name in ("with", "without"):
        trainer = toy_trainer(cache, tmp_path / name, settings, state=state)
        if name == "without":
            trainer._adamw.state.clear()
        trainer.run()
        found.append(trainer)
    assert differences(found[0].network, found[1].network, first.network) > 0.3


def test_a_killed_second_session_goes_on_from_its_own_checkpoint(
    cache: Path, tmp_path: Path
) -> None:
    first = toy_trainer(cache, tmp_path / "first", [*STEADY, "train.steps=2"])
    first.run()
    settings = [*STEADY, "train.steps=4", "train.checkpoint_every=2"]
    second = toy_trainer(cache, tmp_path / "second", settings, state=first.folder.state)
    stream = iter(
        second.parts.source.draw(2 + step, range(2), second.recipe.phase(0)) for step in range(2)
    )
    for _ in range(2):
        second.train_step(stream)
    second.save()
    again = toy_trainer(cache, tmp_path / "second", settings, state=first.folder.state)
    assert (again.step, again.totals.steps, again.totals.sessions) == (2, 4, 2)
    for left, right in zip(second.network.parameters(), again.network.parameters(), strict=True):
        assert torch.equal(left, right)


def test_exception_state_of_another_network(tmp_path: Path) -> None:
    network, other = nn.Linear(3, 2), nn.Linear(3, 1)
    save_state(tmp_path / "state", network, stepped(network), Counters(), {})
    kept = other.weight.clone()
    with pytest.raises(WeightsError, match=r"the state do not fit the network; unfit: .*weight"):
        restore_state(load_state(tmp_path / "state"), other, stepped(other, 0), "the state")
    assert torch.equal(other.weight, kept)


def test_exception_files(cache: Path, tmp_path: Path) -> None:
    first = toy_trainer(cache, tmp_path / "first", ["train.steps=1"])
    first.run()
    with pytest.raises(WeightsError, match="is not a training state"):
        load_state(tmp_path / "first" / "last.safetensors")
    with pytest.raises(WeightsError, match="cannot read"):
        load_state(tmp_path / "none.safetensors")
    alone = tmp_path / "alone" / "state.safetensors"
    alone.parent.mkdir()
    alone.write_bytes(first.folder.state.read_bytes())
    with pytest.raises(WeightsError, match=r"averaged weights beside .*--from-average"):
        find_average(alone)
    tensors = load_file(alone)
    del tensors["mean_exponents"]
    header = {"kind": "training state", "optimizer_steps": "1"} | Counters().to_strings()
    save_file(tensors, alone, header)
    with pytest.raises(WeightsError, match="is damaged: 'mean_exponents'"):
        load_state(alone)
    save_file(tensors, alone, {"kind": "training state"})
    with pytest.raises(WeightsError, match=r"alone.*(counters|damaged)"):
        load_state(alone)
