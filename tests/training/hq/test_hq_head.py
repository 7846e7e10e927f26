"""Training of the HQ head: from images through the cache to weights that the package loads."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from pretend_cuda import cuda_dtypes
from reference_sam import ReferenceDecoder
from typer.testing import CliRunner

from vots_hqtrack.checkpoints.load import load_tensors, load_weights
from vots_hqtrack.cli.main import app
from vots_hqtrack.config import HQOutput
from vots_hqtrack.errors import InputError, WeightsError
from vots_hqtrack.sam.models import build_sam
from vots_hqtrack.sam.refiner import SamRefiner
from vots_hqtrack.training.batch import part_stream
from vots_hqtrack.training.callback import Callback
from vots_hqtrack.training.datasets import DEV_SPLIT, Photo
from vots_hqtrack.training.hq.cache import crop_photo, fill_cache, read_image
from vots_hqtrack.training.hq.network import UPSCALE, HQHeadNetwork, hq_sam_from_plain
from vots_hqtrack.training.hq.recipe import (
    HQCacheOptions,
    HQLossOptions,
    HQRecipe,
    HQSampleOptions,
    HQSource,
)
from vots_hqtrack.training.hq.samples import MARGIN, HQBatch, HQSampler
from vots_hqtrack.training.losses import StepOptions
from vots_hqtrack.training.recipe import RunOptions
from vots_hqtrack.training.trainer import Trainer

pytestmark = pytest.mark.weights
SAMPLES = HQSampleOptions(batch_size=2, window=10)
RUN = RunOptions(steps=4, checkpoint_every=2, log_every=1)
CACHE = HQCacheOptions(
    photos="photos", videos="videos", frame_step=1, video_crops=1, crop_probability=0.0
)
SOURCES = (HQSource("videos", 1.0), HQSource("photos", 0.5, joined=0.3))


def _write_image(folder: Path, image: np.ndarray, labels: np.ndarray, name: str) -> None:
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
    """A cache of an image, and of a video of two frames; a dev sequence is beside it."""
    root = tmp_path_factory.mktemp("hq")
    photo = paint_photo(0)
    _write_image(root / "photos", photo.image, photo.label_map, "coco_1")
    (root / "photos" / "index.csv").write_text("name,source\ncoco_1,coco\n", encoding="utf-8")
    for name in ("circle", DEV_SPLIT[0]):
        _write_video(root / "videos", name, photo)
    done: list[tuple[str, int, int]] = []
    for _ in range(2):
        fill_cache(CACHE, root, root / "cache", lambda *item: done.append(item))
    assert done == [("videos", 1, 1), ("photos", 1, 1)], "files are kept, the dev split is left out"
    return root / "cache"


@pytest.fixture(scope="module")
def network() -> HQHeadNetwork:
    """A network at the start of its training; tests leave it as it is."""
    torch.manual_seed(1)
    return HQHeadNetwork(hq_sam_from_plain("sam-vit-tiny"), HQLossOptions())


def _recipe(cache: Path, steps: int = 4, **optimizer: Any) -> HQRecipe:
    plain = HQRecipe(
        train=dataclasses.replace(RUN, steps=steps),
        loss=HQLossOptions(points=512),
        samples=SAMPLES,
        cache=dataclasses.replace(CACHE, folder=str(cache)),
        sources=SOURCES,
    )
    return dataclasses.replace(plain, optimizer=dataclasses.replace(plain.optimizer, **optimizer))


def _batch(cache: Path, step: int, **samples: Any) -> HQBatch:
    recipe = dataclasses.replace(_recipe(cache), samples=dataclasses.replace(SAMPLES, **samples))
    return HQSampler(cache, recipe).draw(step, (0, 1), recipe.phases[0])


def test_the_cache_holds_what_the_refiner_reads(cache: Path) -> None:
    names = sorted(path.name for path in (cache / "videos").glob("*.safetensors"))
    assert len(names) == 2
    assert "circle-00001.safetensors" in names
    tracked = read_image(cache / "videos" / "circle-00001.safetensors")
    assert tracked.initial is not None
    overlap = (tracked.initial > 0) & (tracked.labels > 0)
    assert overlap.sum() > 0.5 * (tracked.labels > 0).sum(), "VMOS follows a drawn circle"
    assert tracked.embedding.embedding.shape == (1, 256, 64, 64)
    assert tracked.embedding.early.shape == (1, 64, 64, 160)
    assert tracked.embedding.input_size == (768, 1024)
    photo = read_image(cache / "photos" / "coco_1.safetensors")
    assert photo.initial is None


def test_crops_show_an_object(photos: list[Photo]) -> None:
    for seed in range(10):
        part = crop_photo(photos[0], np.random.default_rng(seed), 0.2)
        assert part.image.shape[:2] == part.label_map.shape
        assert np.count_nonzero(part.label_map) >= 64


def test_batches_depend_on_the_step_alone(cache: Path) -> None:
    recipe = _recipe(cache)
    phase = recipe.phases[0]
    first, second = HQSampler(cache, recipe), HQSampler(cache, recipe)
    first.draw(0, (0, 1), phase)
    left, right = first.draw(5, (0, 1), phase), second.draw(5, (0, 1), phase)
    assert left.corners == right.corners
    for name in ("target", "boxes", "points", "embedding"):
        values = getattr(left, name), getattr(right, name)
        assert values == (None, None) or torch.equal(*values), name
    assert left.target.shape == left.counted.shape == (2, 1, 64, 64)
    assert not torch.equal(left.target, first.draw(6, (0, 1), phase).target)
    # Another process computes the second image alone.
    assert torch.equal(second.draw(5, (1,), phase).target[0], left.target[1])


@pytest.mark.parametrize("kind", ["box", "box+mask", "box+mask+point", "points"])
def test_every_kind_of_prompt(cache: Path, network: HQHeadNetwork, kind: str) -> None:
    batch = _batch(cache, 0, prompts=(kind,), prompt_weights=(1.0,))
    sparse, dense = network.encode_prompts(batch)
    tokens = {"box": 2, "box+mask": 2, "box+mask+point": 3}
    assert sparse.shape[:2] == (2, tokens.get(kind, sparse.shape[1]))
    assert dense.shape == (2, 256, 64, 64)
    assert (batch.boxes is None) == (kind == "points")
    assert (batch.masks is None) == ("mask" not in kind)


def test_windows_equal_the_whole_decoder(cache: Path) -> None:
    """Masks inside a window are those of the package's own pass over the whole image."""
    network = HQHeadNetwork(hq_sam_from_plain("sam-vit-tiny"), HQLossOptions())
    decoder: Any = network.mask_decoder
    encoder: Any = network.prompt_encoder
    batch = _batch(cache, 1)
    embedding, early = batch.embedding.float(), batch.early.float()
    with torch.no_grad():
        # A head that adds something of the fused features.
        for branch in (decoder.compress_vit_feat, decoder.embedding_encoder):
            torch.nn.init.normal_(branch[-1].weight, std=0.05)
        hq, sam = network(batch, StepOptions())
        sparse, dense = network.encode_prompts(batch)
        for row, (top, left) in enumerate(batch.corners):
            masks, _ = decoder.predict_masks(
                embedding[row, None],
                encoder.get_dense_pe(),
                sparse[row, None],
                dense[row, None],
                decoder.embedding_encoder(embedding[row, None])
                + decoder.compress_vit_feat(early[row, None]),
            )
            low, high = MARGIN * UPSCALE, (SAMPLES.window - MARGIN) * UPSCALE
            cut = (
                slice(top * UPSCALE + low, top * UPSCALE + high),
                slice(left * UPSCALE + low, left * UPSCALE + high),
            )
            whole = masks[0][:, cut[0], cut[1]]
            torch.testing.assert_close(sam[row, 0], whole[0], atol=1e-3, rtol=1e-4)
            torch.testing.assert_close(hq[row, 0], whole[4], atol=1e-3, rtol=1e-4)


def test_training_begins_at_sams_own_mask(cache: Path, network: HQHeadNetwork) -> None:
    image = read_image(cache / "photos" / "coco_1.safetensors")
    masks = torch.from_numpy(np.stack([image.labels == label for label in (1, 2)]))
    found = []
    outputs: tuple[HQOutput, ...] = ("sum", "hq")
    for output in outputs:
        decoder = ReferenceDecoder(network, hq_output=output)
        with torch.inference_mode():
            found.append(SamRefiner(decoder).refine(image.embedding, masks).masks)
    different = (found[0] != found[1]).sum() / found[0].sum()
    assert found[0].any()
    assert different < 0.02


def test_loss_falls_and_nothing_frozen_moves(cache: Path, tmp_path: Path) -> None:
    recipe = _recipe(cache, steps=16, learning_rate=3e-3, min_learning_rate=2e-3, warm_up=0.0)
    trainer = Trainer(recipe, tmp_path, data=cache.parent)
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    drawn = next(part_stream(trainer.parts, 0, 0))
    losses = [float(trainer.train_step(iter([drawn])).last.loss.total) for _ in range(12)]
    assert min(losses[8:]) < 0.9 * losses[0]
    learnt = {f"mask_decoder.{name}" for name in trainer.learning.state_dict()}
    for name, value in trainer.network.state_dict().items():
        assert torch.equal(value, before[name]) != (name in learnt), name


@pytest.mark.usefixtures("fast_16_bit")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_a_step_keeps_to_cudas_dtypes(
    cache: Path, network: HQHeadNetwork, dtype: torch.dtype
) -> None:
    learner = copy.deepcopy(network)
    batch = _batch(cache, 0, prompts=("box+mask+point",), prompt_weights=(1.0,))
    with cuda_dtypes():
        with torch.autocast("cpu", dtype):
            predicted = learner(batch, StepOptions())
        learner.loss(predicted, batch, StepOptions()).total.backward()
    for name, parameter in learner.learning_modules().named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.dtype == torch.float32
        assert torch.isfinite(parameter.grad).all(), name


class _Losses(Callback):
    def __init__(self) -> None:
        self.losses: list[float] = []

    def stepped(self, step: int, loss: float) -> None:
        self.losses.append(loss)


class KilledError(Exception):
    """Stands for a kill."""


class _DiesAtThree(_Losses):
    def stepped(self, step: int, loss: float) -> None:
        if step == 3:
            raise KilledError
        super().stepped(step, loss)


def test_a_resumed_run_equals_an_uninterrupted_one(cache: Path, tmp_path: Path) -> None:
    whole, parts = _Losses(), _DiesAtThree()
    Trainer(_recipe(cache), tmp_path / "whole", data=cache.parent, callback=whole).run()
    with pytest.raises(KilledError):
        Trainer(_recipe(cache), tmp_path / "parts", data=cache.parent, callback=parts).run()
    resumed = _Losses()
    Trainer(_recipe(cache), tmp_path / "parts", data=cache.parent, callback=resumed).run()
    assert parts.losses + resumed.losses == whole.losses
    assert len(whole.losses) == 4
    first, second = (
        load_tensors(tmp_path / name / "last.safetensors", expected_sha256=None)
        for name in ("whole", "parts")
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_by_command_the_result_is_the_head_and_nothing_else(cache: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        f"""kind = "hq-head"
        [train]
        steps = 5
        workers = 0
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
    path = tmp_path / "run" / "last.safetensors"
    wanted = set(build_sam("vit_tiny", hq=True).state_dict()) - set(load_weights("sam-vit-tiny"))
    assert set(load_tensors(path, expected_sha256=None)) == wanted
    assert path.stat().st_size < 1_000_000
    looked = CliRunner().invoke(app, [*command, "--inspect", str(tmp_path)])
    assert looked.exit_code == 2


def test_a_session_goes_on_from_a_compact_state(cache: Path, tmp_path: Path) -> None:
    first = Trainer(_recipe(cache, steps=1), tmp_path / "first", data=cache.parent)
    first.run()
    state = tmp_path / "first" / "state.safetensors"
    second = Trainer(_recipe(cache), tmp_path / "second", data=cache.parent, state=state)
    assert (second.step, second.earlier.steps) == (0, 1)
    for name, value in second.learning.state_dict().items():
        torch.testing.assert_close(value, first.learning.state_dict()[name], atol=2e-3, rtol=1e-3)


def test_exceptions(cache: Path, tmp_path: Path) -> None:
    folder = tmp_path / "damaged" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "step-00000002.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(WeightsError, match="cannot read the checkpoint"):
        Trainer(_recipe(cache), tmp_path / "damaged", data=cache.parent)
    recipe = dataclasses.replace(_recipe(cache), sources=(HQSource("nothing", 1.0),))
    with pytest.raises(InputError, match="found none"):
        HQSampler(cache, recipe)
