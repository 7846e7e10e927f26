"""The HQ head's training: from pictures through the cache to weights that the package loads."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner
from vots_hqtrack.training.hq.compare import compare_head
from vots_hqtrack.training.hq.forward import MARGIN, UPSCALE, decode_windows
from vots_hqtrack.training.hq.head import (
    HQHeadConfig,
    HQHeadTrainer,
    HQTrainConfig,
    hq_sam_from_plain,
    learning_rate,
    train_hq_head,
)

from vots_hqtrack.checkpoints.load import load_tensors, load_weights
from vots_hqtrack.cli.main import app
from vots_hqtrack.config import HQOutput
from vots_hqtrack.errors import ConfigError, InputError, WeightsError
from vots_hqtrack.sam.candidates import ReferenceDecoder
from vots_hqtrack.sam.models import build_sam
from vots_hqtrack.sam.refiner import SamRefiner
from vots_hqtrack.training.datasets import DEV_SPLIT, Photo
from vots_hqtrack.training.hq.cache import HQCacheConfig, crop_photo, fill_cache, read_picture
from vots_hqtrack.training.hq.degrade import DegradeConfig
from vots_hqtrack.training.hq.samples import HQSampleConfig, HQSampler, HQSource

pytestmark = pytest.mark.weights
SAMPLES = HQSampleConfig(batch_size=2, window=10)
TRAIN = HQTrainConfig(steps=4, points=512, save_every=2)
CACHE = HQCacheConfig(photos="photos", videos="videos", frame_step=1, video_crops=1, crop_share=0.0)
SOURCES = (HQSource("videos", 1.0), HQSource("photos", 0.5, joined=0.3))


def _write_picture(folder: Path, image: np.ndarray, labels: np.ndarray, name: str) -> None:
    for part in ("JPEGImages", "Annotations"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / "JPEGImages" / f"{name}.jpg"), image[:, :, ::-1])
    Image.fromarray(labels).save(folder / "Annotations" / f"{name}.png")


def _write_video(root: Path, name: str, photo: Photo) -> None:
    for number in range(2):
        for part, array in (
            ("JPEGImages", photo.image[:, :, ::-1]),
            ("Annotations", (photo.label_map == 1) * np.uint8(255)),
        ):
            folder = root / part / "480p" / name
            folder.mkdir(parents=True, exist_ok=True)
            suffix = "jpg" if part == "JPEGImages" else "png"
            moved = np.roll(array, 6 * number, axis=1)
            cv2.imwrite(str(folder / f"{number:05d}.{suffix}"), moved)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory, paint_photo: Callable[[int], Photo]) -> Path:
    """A cache of a photograph, and of a video of two frames; a dev sequence lies beside it."""
    root = tmp_path_factory.mktemp("hq")
    photo = paint_photo(0)
    _write_picture(root / "photos", photo.image, photo.label_map, "coco_1")
    (root / "photos" / "index.csv").write_text("name,source\ncoco_1,coco\n", encoding="utf-8")
    for name in ("circle", DEV_SPLIT[0]):
        _write_video(root / "videos", name, photo)
    done: list[str] = []
    fill_cache(CACHE, root, root / "cache", done.append)
    fill_cache(CACHE, root, root / "cache", done.append)
    assert done == ["circle", "coco_1"], "finished files are kept, the dev split is left out"
    return root / "cache"


def _config(cache: Path, **train: Any) -> HQHeadConfig:
    return HQHeadConfig(
        SOURCES,
        dataclasses.replace(TRAIN, **train),
        SAMPLES,
        cache=dataclasses.replace(CACHE, folder=str(cache)),
    )


def _sampler(cache: Path, encoder: torch.nn.Module, **samples: Any) -> HQSampler:
    config = dataclasses.replace(SAMPLES, **samples)
    return HQSampler(cache, SOURCES, config, DegradeConfig(), encoder, 3)


def test_the_cache_holds_what_the_refiner_reads(cache: Path) -> None:
    names = sorted(path.name for path in (cache / "videos").glob("*.safetensors"))
    assert len(names) == 2
    assert "circle-00001.safetensors" in names
    tracked = read_picture(cache / "videos" / "circle-00001.safetensors")
    assert tracked.coarse is not None
    overlap = (tracked.coarse > 0) & (tracked.labels > 0)
    assert overlap.sum() > 0.5 * (tracked.labels > 0).sum(), "VMOS follows a drawn circle"
    assert tracked.embedding.embedding.shape == (1, 256, 64, 64)
    assert tracked.embedding.early.shape == (1, 64, 64, 160)
    assert tracked.embedding.input_size == (768, 1024)
    photo = read_picture(cache / "photos" / "coco_1.safetensors")
    assert photo.coarse is None


def test_crops_show_an_object(photos: list[Photo]) -> None:
    for seed in range(10):
        part = crop_photo(photos[0], np.random.default_rng(seed), 0.2)
        assert part.image.shape[:2] == part.label_map.shape
        assert np.count_nonzero(part.label_map) >= 64


def test_batches_depend_on_the_step_alone(cache: Path) -> None:
    sam = build_sam("vit_tiny", hq=True)
    first, second = (_sampler(cache, sam.prompt_encoder) for _ in range(2))
    first.draw(0)
    one, other = first.draw(5), second.draw(5)
    assert one.inputs.corners == other.inputs.corners
    assert torch.equal(one.target, other.target)
    assert torch.equal(one.inputs.sparse, other.inputs.sparse)
    assert one.target.shape == one.counted.shape == (2, 1, 64, 64)
    assert not torch.equal(one.target, first.draw(6).target)


@pytest.mark.parametrize("kind", ["box", "box+mask", "box+mask+point", "points"])
def test_every_kind_of_prompt(cache: Path, kind: str) -> None:
    sam = build_sam("vit_tiny", hq=True)
    batch = _sampler(cache, sam.prompt_encoder, prompts=(kind,), prompt_weights=(1.0,)).draw(0)
    tokens = {"box": 2, "box+mask": 2, "box+mask+point": 3}
    assert batch.inputs.sparse.shape[:2] == (2, tokens.get(kind, batch.inputs.sparse.shape[1]))


def test_windows_equal_the_whole_decoder(cache: Path) -> None:
    """Masks inside a window are those of the package's own pass over the whole picture."""
    sam = hq_sam_from_plain("sam-vit-tiny", seed=1)
    decoder = sam.mask_decoder
    with torch.no_grad():  # a head that adds something of the fused features
        for branch in (decoder.compress_vit_feat, decoder.embedding_encoder):
            torch.nn.init.normal_(branch[-1].weight, std=0.05)
    batch = _sampler(cache, sam.prompt_encoder).draw(1)
    inputs = batch.inputs
    with torch.no_grad():
        found = decode_windows(decoder, inputs, SAMPLES.window)
        for row, (top, left) in enumerate(inputs.corners):
            masks, _ = decoder.predict_masks(
                inputs.embedding[row, None],
                inputs.image_pe,
                inputs.sparse[row, None],
                inputs.dense[row, None],
                decoder.embedding_encoder(inputs.embedding[row, None])
                + decoder.compress_vit_feat(inputs.early[row, None]),
            )
            low, high = MARGIN * UPSCALE, (SAMPLES.window - MARGIN) * UPSCALE
            cut = (
                slice(top * UPSCALE + low, top * UPSCALE + high),
                slice(left * UPSCALE + low, left * UPSCALE + high),
            )
            whole = masks[0][:, cut[0], cut[1]]
            torch.testing.assert_close(found.sam[row, 0], whole[0], atol=1e-3, rtol=1e-4)
            torch.testing.assert_close(found.hq[row, 0], whole[4], atol=1e-3, rtol=1e-4)


def test_training_begins_at_sams_own_mask(cache: Path) -> None:
    sam = hq_sam_from_plain("sam-vit-tiny", seed=1)
    picture = read_picture(cache / "photos" / "coco_1.safetensors")
    masks = torch.from_numpy(np.stack([picture.labels == label for label in (1, 2)]))
    found = []
    outputs: tuple[HQOutput, ...] = ("sum", "hq")
    for output in outputs:
        decoder = ReferenceDecoder(sam.mask_decoder, sam.prompt_encoder, hq_output=output)
        refiner = SamRefiner(decoder)
        found.append(refiner.refine(picture.embedding, masks).masks)
    different = (found[0] != found[1]).sum() / found[0].sum()
    assert found[0].any()
    assert different < 0.02


def test_loss_falls_and_nothing_frozen_moves(cache: Path) -> None:
    trainer = HQHeadTrainer(_config(cache, steps=16, learning_rate=3e-3, warm_up=0.0), cache)
    before = {name: value.clone() for name, value in trainer.sam.state_dict().items()}
    batch = trainer.sampler.draw(0)
    losses = [trainer.train_step(batch) for _ in range(12)]
    assert min(losses[8:]) < 0.9 * losses[0]
    learnt = {f"mask_decoder.{name}" for name in trainer.head}
    for name, value in trainer.sam.state_dict().items():
        assert torch.equal(value, before[name]) != (name in learnt), name


def test_a_resumed_run_equals_an_uninterrupted_one(cache: Path, tmp_path: Path) -> None:
    losses: dict[str, list[float]] = {"whole": [], "parts": []}
    whole = train_hq_head(
        _config(cache), tmp_path / "whole", lambda _, loss: losses["whole"].append(loss)
    )

    class KilledError(Exception):
        """Stands for a kill."""

    def die_at_three(step: int, loss: float) -> None:
        if step == 3:
            raise KilledError
        losses["parts"].append(loss)

    with pytest.raises(KilledError):
        train_hq_head(_config(cache), tmp_path / "parts", die_at_three)
    parts = train_hq_head(
        _config(cache), tmp_path / "parts", lambda _, loss: losses["parts"].append(loss)
    )
    assert losses["parts"] == losses["whole"]
    assert len(losses["whole"]) == 4
    first, second = (load_tensors(path, expected_sha256=None) for path in (whole, parts))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_result_is_the_head_and_nothing_else(cache: Path, tmp_path: Path) -> None:
    # So small a step leaves the head where it begins: at SAM's own single mask.
    path = train_hq_head(_config(cache, steps=1, learning_rate=1e-5), tmp_path)
    head = load_tensors(path, expected_sha256=None)
    wanted = set(build_sam("vit_tiny", hq=True).state_dict()) - set(load_weights("sam-vit-tiny"))
    assert set(head) == wanted
    assert path.stat().st_size < 1_000_000
    paths = sorted((cache / "videos").glob("*.safetensors"))
    result = compare_head(head, paths, sam_weights="sam-vit-tiny")
    assert result.num_objects == len(paths)
    assert 0.8 < min(result.coarse, result.plain, result.both) <= 1


def test_by_command(cache: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        f"""kind = "hq-head"
        [train]
        steps = 5
        [samples]
        batch_size = 1
        window = 10
        [cache]
        folder = "{cache}"
        photos = "photos"
        videos = "videos"
        frame_step = 1
        video_crops = 1
        [[sources]]
        folder = "videos"
        weight = 1.0
        """,
        encoding="utf-8",
    )
    command = ["train", str(recipe), "--data", str(cache.parent), "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(app, [*command, "--set", "train.steps=1"])
    assert result.exit_code == 0, result.output
    assert "trained 1 steps" in result.stdout
    assert (tmp_path / "run" / "hq-head.safetensors").is_file()
    looked = CliRunner().invoke(app, [*command, "--inspect", str(tmp_path)])
    assert looked.exit_code == 2


def test_a_damaged_checkpoint(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(b"no checkpoint")
    with pytest.raises(WeightsError, match="cannot go on from the checkpoint"):
        train_hq_head(_config(cache), tmp_path)


def test_exceptions(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"wanted at least one table \[\[sources\]\]"):
        HQHeadConfig(sources=())
    with pytest.raises(ConfigError, match=r"train\.sum_weight must be from 0 to 1"):
        HQTrainConfig(sum_weight=2.0)
    with pytest.raises(ConfigError, match="as many prompt_weights as prompts, got 4 and 1"):
        HQSampleConfig(prompt_weights=(1.0,))
    config = dataclasses.replace(_config(cache), sources=(HQSource("nothing", 1.0),))
    with pytest.raises(InputError, match="found none"):
        train_hq_head(config, tmp_path)


def test_learning_rate() -> None:
    config = HQTrainConfig(steps=100, warm_up=0.1)
    rates = [learning_rate(config, step) for step in range(100)]
    assert rates.index(max(rates)) == 10
    assert rates[10] == pytest.approx(config.learning_rate)
    assert rates[99] < 1.1e-3 * config.learning_rate + config.min_learning_rate
