"""Footage that the tests of the composer share."""

import pytest
import torch
from invented_footage import open_footage

from vots_hqtrack.training.synthetic.footage import Footage


@pytest.fixture(scope="session")
def stored() -> tuple[list[Footage], torch.Tensor]:
    """Three photographs and a video of two objects each, and their pixels."""
    return open_footage()
