"""HQ-SAM's extra parameters as a task of the trainer (HQ-SAM, arXiv 2306.01567, section 3).

They learn on a frozen SAM. They begin so that the HQ token's mask is SAM's own single mask, and
learn where that mask is wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from vots_hqtrack.training.hq.cache import fill_cache
from vots_hqtrack.training.hq.network import HQHeadNetwork, hq_sam_from_plain
from vots_hqtrack.training.hq.recipe import HQRecipe
from vots_hqtrack.training.hq.samples import HQSampler
from vots_hqtrack.training.task import Task


class HQHeadTask(Task):
    """Training of the HQ head on cached images.

    Args:
        recipe: Recipe of the run.
        data: Folder that the cache is filled from.
    """

    def __init__(self, recipe: HQRecipe, data: Path) -> None:
        self._recipe = recipe
        self._data = data

    def build_network(self, dtype: torch.dtype) -> HQHeadNetwork:
        """Build the decoder on the weights of the recipe's SAM."""
        sam = hq_sam_from_plain(self._recipe.cache.sam_weights)
        return HQHeadNetwork(sam, self._recipe.loss)

    def open_source(
        self,
        cache: Path,
        accelerator: Any,  # noqa: ANN401 - Accelerate is not annotated
        report: Callable[[str, int, int], None],
    ) -> HQSampler:
        """Fill the cache and open it."""
        options = self._recipe.cache
        folder = Path(options.folder).expanduser() if options.folder else cache
        with accelerator.main_process_first():
            fill_cache(options, self._data, folder, report)
        return HQSampler(folder, self._recipe)
