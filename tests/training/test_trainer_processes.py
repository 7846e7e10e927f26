"""Two processes that talk by gloo train as one process with twice the batch."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import torch
from gradients import SETTINGS
from safetensors import safe_open
from safetensors.torch import load_file
from toy_run import toy_trainer, write_clips

from vots_hqtrack.training.batch import part_stream

SCRIPT = Path(__file__).with_name("gradients.py")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_two_processes_have_the_gradients_of_one_with_twice_the_batch(tmp_path: Path) -> None:
    cache, found_path = write_clips(tmp_path / "cache"), tmp_path / "found.safetensors"
    common = {
        **os.environ,
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    processes = [
        subprocess.Popen(
            [sys.executable, SCRIPT, cache, tmp_path / "two", found_path],
            env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    trainer = toy_trainer(cache, tmp_path / "one", SETTINGS)
    trainer.accumulate_gradients(part_stream(trainer.parts, 0, 0))
    outputs = [process.communicate(timeout=180)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(outputs)
    with safe_open(found_path, framework="pt") as file:
        assert file.metadata() == {"processes": "2"}
    found = load_file(found_path)
    wanted = {name: value.grad for name, value in trainer.network.named_parameters()}
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        assert gradient is not None
        assert gradient.abs().sum() > 0 or "refine" in name
        assert torch.allclose(found[name], gradient, rtol=1e-4, atol=1e-6), name
