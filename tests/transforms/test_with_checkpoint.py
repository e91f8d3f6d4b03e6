"""Both front ends on a real checkpoint: found by path, loaded once, pickled without weights, replayed."""

from __future__ import annotations

import copy
import pickle
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

import munitaug
from munitaug.methods import CycleGan, CycleGanConfig
from munitaug.styles import BankStyles
from munitaug.transforms import MUNITTransform
from tests.transforms.toys import EqualImages


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = munitaug.MunitConfig(width=8, n_residual=1, mlp_width=16, discriminator_width=8, n_scales=1)
    return munitaug.save(munitaug.Munit(config), tmp_path_factory.mktemp("run") / "checkpoint")


@pytest.mark.parametrize("size", [(16, 16), (33, 18)])
def test_variants_differ_and_keep_the_size(checkpoint: Path, size: tuple[int, int]) -> None:
    variants = MUNITTransform(checkpoint, num_variants=3, seed=0)(torch.rand(2, 3, *size))
    assert variants.shape == (2, 3, 3, *size)
    assert len({float(image.mean(dtype=torch.float64)) for image in variants.flatten(0, 1)}) == 6


def test_variants_do_not_depend_on_what_is_translated_beside_them(checkpoint: Path) -> None:
    image = torch.rand(1, 3, 16, 16)
    munit = MUNITTransform(checkpoint, style=BankStyles(torch.randn(1, 8)))
    alone, beside = munit(image), munit(torch.cat([image, torch.rand(1, 3, 16, 16)]))
    assert torch.allclose(alone[0], beside[0], atol=1e-5)


def test_transforms_of_one_checkpoint_share_their_weights(checkpoint: Path) -> None:
    first, second = MUNITTransform(checkpoint), MUNITTransform(str(checkpoint), style="prior", seed=1)
    assert first._maker.translator is second._maker.translator
    assert MUNITTransform(checkpoint, direction="b2a")._maker.translator is not first._maker.translator


def test_a_checkpoint_of_inverted_images_warns_where_it_takes_them(tmp_path: Path) -> None:
    config = munitaug.MunitConfig(width=8, n_residual=1, mlp_width=16, discriminator_width=8, n_scales=1)
    facts = {"source": {"inverted": True}, "target": {"name": "night"}}
    path = munitaug.save(munitaug.Munit(config), tmp_path / "checkpoint", facts)
    image = torch.rand(3, 16, 16)
    for direction in ("a2b", {"a2b": 0.5, "b2a": 0.5}):
        with pytest.warns(UserWarning, match=r"so a2b expects them so: put v2\.RandomInvert\(p=1\) before this"):
            MUNITTransform(path, direction=direction)(image)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        MUNITTransform(path, direction="b2a")(image)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_images_do_not_depend_on_the_default_dtype(tmp_path: Path, dtype: torch.dtype) -> None:
    config = munitaug.MunitConfig(width=8, n_residual=1, mlp_width=16, discriminator_width=8, n_scales=1)
    path, twin = (munitaug.save(munitaug.Munit(config), tmp_path / name) for name in ("first", "second"))
    image = torch.rand(3, 16, 16)
    expected = MUNITTransform(path, seed=0, strength=(0.2, 0.8))(image)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        found = MUNITTransform(twin, seed=0, strength=(0.2, 0.8))(image)
    finally:
        torch.set_default_dtype(before)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


def test_images_do_not_depend_on_the_default_device(tmp_path: Path) -> None:
    """Every front end, loading in it; "meta" stands for a GPU, for it takes no draw of the CPU's generator either."""
    config = munitaug.MunitConfig(width=8, n_residual=1, mlp_width=16, discriminator_width=8, n_scales=1)
    path, twin = (munitaug.save(munitaug.Munit(config), tmp_path / name) for name in ("first", "second"))
    images, labels = torch.rand(3, 3, 16, 16), torch.tensor([0, 1, 2])

    def made(checkpoint: Path) -> list[Tensor]:
        options: dict[str, Any] = {"seed": 0, "strength": (0.2, 0.8), "direction": {"a2b": 0.5, "b2a": 0.5}}
        pairs = [(images[item], int(labels[item])) for item in range(3)]
        several = munitaug.VariantDataset(pairs, checkpoint, variants=2, **options)
        batch, _ = munitaug.MUNITBatchTransform(checkpoint, p=0.5, **options)((images, labels))
        single = munitaug.MUNITTransform(checkpoint, p=0.5, **options)
        return [
            batch,
            *(single(image) for image in images),
            *(variants for variants, _ in several.__getitems__([2, 0])),
        ]

    expected = made(path)
    torch.set_default_device("meta")
    try:
        found = made(twin)
    finally:
        torch.set_default_device(None)
    assert all(torch.equal(one, other) for one, other in zip(expected, found, strict=True))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_images_do_not_depend_on_the_autocast_outside(checkpoint: Path, dtype: torch.dtype) -> None:
    image = torch.rand(3, 16, 16)
    expected = MUNITTransform(checkpoint, seed=0, strength=0.5)(image)
    with torch.autocast("cpu", dtype):
        found = MUNITTransform(checkpoint, seed=0, strength=0.5)(image)
    assert torch.equal(found, expected)


def test_pickle_is_small_and_goes_on(checkpoint: Path) -> None:
    munit = MUNITTransform(checkpoint, seed=3)
    munit(torch.zeros(3, 16, 16))
    pickled = pickle.dumps(munit)
    assert len(pickled) < 20_000
    image = torch.rand(3, 16, 16)
    assert torch.equal(pickle.loads(pickled)(image), munit(image))


def test_a_pickle_finds_its_checkpoint_from_elsewhere(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(checkpoint.parent)
    munit = MUNITTransform("checkpoint", seed=3)
    monkeypatch.chdir("/")
    twin = pickle.loads(pickle.dumps(munit))
    image = torch.rand(3, 16, 16)
    assert torch.equal(twin(image), munit(image))
    assert "MUNITTransform('checkpoint'" in repr(copy.deepcopy(munit))


def test_a_pickle_refuses_a_checkpoint_that_was_replaced(tmp_path: Path) -> None:
    config = munitaug.MunitConfig(width=8, n_residual=1, mlp_width=16, discriminator_width=8, n_scales=1)
    method = munitaug.Munit(config)
    munitaug.save(method, tmp_path / "checkpoint")
    pickled = pickle.dumps(MUNITTransform(tmp_path / "checkpoint"))
    again = pickle.dumps(pickle.loads(pickled))  # before it has read the checkpoint
    with torch.no_grad():
        next(method.parameters()).add_(1.0)
    munitaug.save(method, tmp_path / "checkpoint")
    for old in (pickled, again):
        with pytest.raises(munitaug.CheckpointError, match=r"checkpoint was replaced after this transform was pickled"):
            pickle.loads(old)(torch.zeros(3, 16, 16))


def test_a_checkpoint_of_the_same_weights_and_another_configuration_is_read_anew(tmp_path: Path) -> None:
    config = CycleGanConfig.preset("small")
    first = CycleGan(config)
    second = CycleGan(replace(config, antialias_down=not config.antialias_down))
    second.load_state_dict(first.state_dict())
    images, outputs, pickles = torch.rand(1, 3, 16, 16), [], []
    for method in (first, second):
        munitaug.save(method, tmp_path / "checkpoint")
        transform = MUNITTransform(tmp_path / "checkpoint")
        outputs.append(transform(images[0]))
        pickles.append(pickle.dumps(transform))
    assert not torch.equal(*outputs)
    with pytest.raises(munitaug.CheckpointError, match="was replaced after this transform was pickled"):
        pickle.loads(pickles[0])(images[0])
    assert torch.equal(pickle.loads(pickles[1])(images[0]), outputs[1])


def test_exemplar_image_gives_a_fixed_style(checkpoint: Path) -> None:
    exemplar = PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8))
    munit = MUNITTransform(checkpoint, style=exemplar)
    image = torch.rand(3, 16, 16)
    assert torch.equal(munit(image), munit(image))


@pytest.mark.parametrize("start_method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_find_the_checkpoint(checkpoint: Path, start_method: str) -> None:
    data = EqualImages(MUNITTransform(checkpoint, seed=3))
    loader = DataLoader(data, batch_size=3, num_workers=2, multiprocessing_context=start_method)
    assert len({float(value) for batch in loader for value in batch}) == 6


def test_missing_checkpoint_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(munitaug.CheckpointError):
        MUNITTransform(tmp_path / "nothing")


def test_replay_of_albumentations(checkpoint: Path) -> None:
    albumentations = pytest.importorskip("albumentations")
    from munitaug.transforms.albumentations import MUNITTransform as ArrayTransform

    image = np.random.default_rng(0).integers(0, 256, (20, 16, 3), dtype=np.uint8)
    first = albumentations.ReplayCompose([ArrayTransform(checkpoint)])(image=image)
    again = albumentations.ReplayCompose.replay(first["replay"], image=image)
    assert np.array_equal(first["image"], again["image"])
