"""Predictors with seeded random weights and with the shipped ones."""

from __future__ import annotations

import pytest
import torch
from predictors import make_predictor, shake

from vots_hqtrack.checkpoints.load import load_into, load_weights
from vots_hqtrack.sam.models import SamPredictor, build_sam


@pytest.fixture(scope="session")
def random_predictor() -> SamPredictor:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return make_predictor(shake(build_sam("vit_tiny")))


@pytest.fixture(scope="session")
def hq_predictor(random_predictor: SamPredictor) -> SamPredictor:
    with torch.random.fork_rng():
        torch.manual_seed(8)
        return make_predictor(shake(build_sam("vit_tiny", hq=True)), random_predictor)


@pytest.fixture(scope="session")
def trained_predictor() -> SamPredictor:
    sam = build_sam("vit_tiny")
    load_into(sam, load_weights("sam-vit-tiny"), source="sam-vit-tiny")
    return make_predictor(sam)
