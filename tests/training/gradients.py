"""Writes the gradients of the toy task's first step; one of several processes may run it.

Usage: gradients.py CACHE RUN FILE
"""

from __future__ import annotations

import sys
from pathlib import Path

from safetensors.torch import save_file
from toy_run import toy_trainer

from vots_hqtrack.training.batch import part_stream

SETTINGS = ("regularisation.dropout=0", "regularisation.drop_path=0", "phases.batch_size=4")


def main() -> None:
    cache, run, path = (Path(text) for text in sys.argv[1:])
    trainer = toy_trainer(cache, run, SETTINGS)
    trainer.accumulate_gradients(part_stream(trainer.parts, 0, 0))
    if trainer.accelerator.is_main_process:
        named = trainer.network.named_parameters()
        found = {name: value.grad.contiguous() for name, value in named if value.grad is not None}
        save_file(found, path, {"processes": str(trainer.accelerator.num_processes)})
    trainer.accelerator.end_training()


if __name__ == "__main__":
    main()
