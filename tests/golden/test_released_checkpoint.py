"""The import of the released checkpoint: all 957 entries, there and back, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from released_recipe import draw, released_shapes
from torch import Tensor

from vots_hqtrack.checkpoints.convert import (
    DEAD_RULES,
    LIVE_RULES,
    RULES,
    export_vmos,
    import_vmos,
    part_of,
)
from vots_hqtrack.checkpoints.load import load_into
from vots_hqtrack.config import released_vmos
from vots_hqtrack.encoder.internimage import build_internimage_t
from vots_hqtrack.errors import WeightsError
from vots_hqtrack.vmos import build_vmos


@pytest.fixture(scope="module")
def released() -> dict[str, Tensor]:
    """Half precision: small on disk, and a conversion must not touch the numbers."""
    return {key: draw(key, shape, "any").half() for key, shape in released_shapes().items()}


@pytest.fixture(scope="module")
def checkpoint(released: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "save_step_42000.pth"
    wrapped = {f"module.{key}": tensor for key, tensor in released.items()}
    torch.save({"state_dict": wrapped, "optimizer": {"param_groups": [{"lr": 2e-4}]}}, path)
    return path


@pytest.fixture(scope="module")
def imported(checkpoint: Path) -> dict[str, Tensor]:
    return import_vmos(checkpoint)


def test_every_key_is_used_or_named_as_dead(imported: dict[str, Tensor]) -> None:
    assert len(imported) == 957
    dead = part_of(imported, "dead")
    assert len(dead) == 29
    assert sum(tensor.numel() for tensor in dead.values()) == 2_455_819
    assert sum(tensor.numel() for tensor in imported.values()) == 33_820_938


def test_exactly_one_rule_covers_each_key() -> None:
    covering = {
        key: [rule.source for rule in RULES if rule.apply(key) is not None]
        for key in released_shapes()
    }
    assert {key: rules for key, rules in covering.items() if len(rules) != 1} == {}


def test_no_rule_is_written_twice() -> None:
    assert (
        len({rule.source for rule in RULES}) == len({rule.target for rule in RULES}) == len(RULES)
    )
    assert {*LIVE_RULES} & {*DEAD_RULES} == set()


def test_live_entries_fill_the_models(imported: dict[str, Tensor]) -> None:
    encoder = build_internimage_t()
    vmos = build_vmos(released_vmos(), encoder.dims)
    load_into(encoder, part_of(imported, "encoder"), source="the import")
    load_into(vmos, part_of(imported, "vmos"), source="the import")
    assert torch.equal(
        vmos.pyramid.block_s8.short_term.relative_bias.weight.half(),
        draw("LSTT.layer_s8.short_term_attn.relative_emb_k.weight", (225, 64, 1, 1), "any")
        .half()
        .flatten(1),
    )


def test_export_gives_back_keys_shapes_and_values(
    imported: dict[str, Tensor], released: dict[str, Tensor]
) -> None:
    exported = export_vmos(imported)
    assert list(exported) == list(released)
    for key, tensor in exported.items():
        assert tensor.shape == released[key].shape
        assert torch.equal(tensor, released[key])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"LSTT.layers.1.linear_U.bias": None}, r"missing: LSTT\.layers\.1\.linear_U\.bias"),
        ({"LSTT.layers.3.linear_U.bias": torch.zeros(512)}, r"unexpected: LSTT\.layers\.3\."),
        ({"new.weight": torch.zeros(1)}, r"unexpected: new\.weight"),
        ({"conv_output2.bias": torch.zeros(12)}, r"wanted shape \(11,\), got \(12,\)"),
        ({"id_norm.bias": torch.zeros(256, dtype=torch.int64)}, "wanted torch.float32, got"),
        ({"encoder.levels.2.downsample": None}, r"wanted keys .*encoder\.levels\.2\.downsample"),
    ],
)
def test_exception(
    changes: dict[str, Tensor | None],
    message: str,
    released: dict[str, Tensor],
    tmp_path: Path,
) -> None:
    gone = tuple(key for key, tensor in changes.items() if tensor is None)
    changed = {key: tensor for key, tensor in released.items() if not key.startswith(gone)}
    changed |= {key: tensor for key, tensor in changes.items() if tensor is not None}
    torch.save(changed, tmp_path / "changed.pth")
    with pytest.raises(WeightsError, match=message) as caught:
        import_vmos(tmp_path / "changed.pth")
    assert "changed.pth" in str(caught.value)


def test_exception_another_model(tmp_path: Path) -> None:
    torch.save({"state_dict": {"conv1.weight": torch.zeros(3)}}, tmp_path / "resnet.pth")
    with pytest.raises(
        WeightsError, match=r"do not fit the released VMOS; missing: .*and 923 more"
    ):
        import_vmos(tmp_path / "resnet.pth")
