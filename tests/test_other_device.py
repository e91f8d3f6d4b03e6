"""The library on a device that is no CPU: nothing mixes the two up, and the numbers are those of the CPU.

Without a GPU the device is a pretended one (tests/elsewhere.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.testing import assert_close
from torch.utils.data import DataLoader

import munitaug
from munitaug.adaptation import (
    VALIDATORS,
    Bench,
    ClassicAugmentation,
    Condition,
    SmallClassifier,
    build_classifier,
    collect_evidence,
    fit,
    in_fresh_styles,
    make_oracle_task,
    make_task,
    self_train,
    source_batches,
)
from munitaug.adaptation.conditions import CHAINS, run_chain
from munitaug.images import match_channels
from munitaug.kernel import translate_images
from munitaug.methods import Munit
from munitaug.networks.norms import instance_norm
from munitaug.networks.upsampling import doubled_conv
from tests.elsewhere import ELSEWHERE, PRETENDED, traffic
from tests.methods.cases import CASES, Case
from tests.runs import SIDE, TINY_FIT, TINY_GREY, TINY_TRAINING, toy_domain
from tests.tiny import TINY_TRAINING as TWO_STEPS
from tests.tiny import counted_decodes, tiny_trainer

DEVICE = str(ELSEWHERE)
BOTH = ("cpu", DEVICE)


@pytest.fixture
def checkpoint(tiny_run: Path) -> Path:
    return tiny_run / "checkpoint"


def trained(case: Case, device: str, folder: Path) -> list[dict[str, float]]:
    """Gives the terms of two steps."""
    config = replace(TWO_STEPS, max_steps=2, device=device, precision="float32", sample_every_steps=2)
    seen: list[dict[str, float]] = []
    tiny_trainer(folder, config, case.make(0, 3)).run(on_step=lambda _, terms: seen.append(terms), progress=False)
    return seen


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_every_method_trains_as_on_the_cpu(case: Case, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if not PRETENDED and request.node.callspec.id.startswith(("unit", "dritpp")):
        pytest.skip("a GPU draws their noise itself, and other numbers than a CPU")
    here, there = (trained(case, device, tmp_path / device[:3]) for device in BOTH)
    for mine, theirs in zip(there, here, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-3, abs=1e-5)


@pytest.mark.skipif(not PRETENDED, reason="a GPU does not tell what passes between it and the CPU")
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_step_waits_for_the_device_once(case: Case, tmp_path: Path) -> None:
    config = replace(TWO_STEPS, max_steps=1, device=DEVICE, precision="float32")
    trainer = tiny_trainer(tmp_path, config, case.make(0, 3))
    turns = trainer._turns(trainer.loader.pair_at(0))
    trainer._step(0, turns, 0)
    with traffic() as seen:
        trainer._step(1, turns, 0)
    waits = [each for each in seen if each.endswith("waiting")]
    counted = ["aten._local_scalar_dense.default, waiting"] * 2 * (trainer.method.name == "transgaga")  # its steps
    assert waits == [*counted, "tolist, waiting"]
    assert len(seen) > len(waits)  # images, labels and draws are brought there


def test_bfloat16_and_accumulated_gradients_train(tmp_path: Path) -> None:
    config = replace(TWO_STEPS, max_steps=2, device=DEVICE, precision="bfloat16", accumulate=2, channels_last=True)
    method = tiny_trainer(tmp_path, config).run(progress=False)
    assert {parameter.device for parameter in method.parameters()} == {ELSEWHERE}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_every_method_trains_in_bfloat16(case: Case, tmp_path: Path) -> None:
    config = replace(TWO_STEPS, max_steps=2, device=DEVICE, precision="bfloat16")
    method = tiny_trainer(tmp_path, config, case.make(0, 3)).run(progress=False)
    assert {parameter.device for parameter in method.parameters()} == {ELSEWHERE}


def test_doubled_maps_under_wide_kernels_are_those_of_the_cpu_in_bfloat16() -> None:
    weight, bias = torch.randn(4, 3, 5, 5), torch.randn(4)
    made = []
    for device in BOTH:
        maps = torch.linspace(-1.0, 1.0, 2 * 3 * 8 * 8).view(2, 3, 8, 8).to(device)
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            made.append(doubled_conv(maps, weight.to(device), bias.to(device)).float().cpu())
    assert_close(made[1], made[0], rtol=0.02, atol=0.02)


def test_norms_leave_maps_in_bfloat16() -> None:
    maps = torch.randn(2, 3, 8, 8)
    with torch.autocast(ELSEWHERE.type, torch.bfloat16):
        found = instance_norm(maps.bfloat16().to(DEVICE))
    assert found.dtype == torch.bfloat16
    assert_close(found.float().cpu(), instance_norm(maps), rtol=0.02, atol=0.02)


def test_a_run_goes_on_from_its_state(tmp_path: Path) -> None:
    config = replace(TWO_STEPS, max_steps=4, device=DEVICE, precision="float32")
    whole = tiny_trainer(tmp_path / "whole", config).run(progress=False).state_dict()
    tiny_trainer(tmp_path / "parts", replace(config, max_steps=2)).run(progress=False)
    resumed = tiny_trainer(tmp_path / "parts", config).run(resume=True, progress=False).state_dict()
    near = 0.0 if PRETENDED else 1e-4  # a GPU adds some gradients in any order
    for key, value in whole.items():
        assert_close(resumed[key].cpu(), value.cpu(), rtol=near, atol=near)


def test_a_classifier_is_trained_there_and_comes_back() -> None:
    found = [munitaug.train_classifier(toy_domain(), settings=TINY_FIT, device=device) for device in BOTH]
    (here, _), (there, _) = ((each.state_dict(), each) for each in found)
    for key, value in here.items():
        assert_close(there[key], value, rtol=1e-3, atol=1e-4)


def test_few_images_are_decoded_at_once_there(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    translator = munitaug.shared_translator(checkpoint, "a2b", DEVICE)
    images, codes = torch.zeros(3, 1, SIDE, SIDE).to(DEVICE), torch.ones(3, 4, translator.style_dim).to(DEVICE)
    counts = counted_decodes(translator, monkeypatch)
    with torch.no_grad():
        whole = translator.translate(images, codes)
        monkeypatch.setattr("munitaug.translator.GPU_PIXELS_AT_ONCE", 3 * SIDE * SIDE)
        pieces = translator.translate(images, codes)
    assert counts == [12, *[3, 1] * 3]
    assert_close(pieces.cpu(), whole.cpu(), rtol=1e-4, atol=1e-5)


def test_a_translator_trained_there_is_used_here(tmp_path: Path) -> None:
    training = replace(TINY_TRAINING, device=DEVICE)
    options = munitaug.SemanticOptions(1.0, TINY_FIT)
    munitaug.train(
        toy_domain("a"),
        toy_domain("b", seed=1),
        tmp_path / "run",
        config=TINY_GREY,
        training=training,
        semantic=options,
        progress=False,
    )
    out = munitaug.MUNITTransform(tmp_path / "run" / "checkpoint")(torch.zeros(1, SIDE, SIDE))
    assert out.shape == (1, SIDE, SIDE)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_the_translator_of_a_method_that_went_there_works_there(case: Case, tmp_path: Path) -> None:
    """As of ``munitaug.load(path).to("cuda").translator("a", "b")``, whose style bank stays behind."""
    core = case.make(0, 3)
    images = torch.randint(0, 256, (3, 3, SIDE, SIDE), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    here = core.translator(*core.directions[0]).eval()
    styles = torch.randn(3, 2 if here.style_dim else 1, here.style_dim, generator=torch.Generator().manual_seed(2))
    wanted = translate_images(here, images, styles)
    there = core.to(DEVICE).translator(*core.directions[0]).eval()
    found = translate_images(there, images, styles)
    assert found.device == images.device
    assert (found.int() - wanted.int()).abs().max() <= 1


def test_metrics_of_a_method_that_went_there_are_those_of_the_cpu(checkpoint: Path) -> None:
    core = munitaug.load(checkpoint)
    images = torch.rand(8, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(3)) * 2.0 - 1.0
    judge = cast(SmallClassifier, build_classifier("lenet", 1, 3, 0).eval())
    found = []
    for device in BOTH:
        there, generator = core.to(device).translator("a", "b").eval(), torch.Generator().manual_seed(0)
        network = judge.to(device).features
        measured = munitaug.measure_translation(there, images, images, network, name="lenet", generator=generator)
        found.append([metric.value for metric in measured])
    assert found[1] == pytest.approx(found[0], rel=1e-2, abs=1e-4)


def test_one_image_in_one_image_out(checkpoint: Path) -> None:
    image = toy_domain()[0][0]
    here, there = (munitaug.MUNITTransform(checkpoint, device=device, seed=3)(image) for device in BOTH)
    assert there.device == image.device
    assert int((here.int() - there.int()).abs().max()) <= 1


@pytest.mark.parametrize("where", BOTH, ids=["images here", "images there"])
def test_batches_stay_where_they_are(where: str, checkpoint: Path) -> None:
    images = toy_domain().images(range(6))
    here, there = (munitaug.MUNITBatchTransform(checkpoint, device=device, num_variants=2, seed=3) for device in BOTH)
    wanted, found = here(images), there(images.to(where))
    assert found.device == torch.device(where)
    assert int((wanted.int() - found.cpu().int()).abs().max()) <= 1


def test_a_guard_judges_there(checkpoint: Path) -> None:
    domain = toy_domain()
    judge = build_classifier("lenet", 1, 3, 0).eval()
    found = []
    for device in BOTH:
        guard = munitaug.LabelGuard(judge.to(device))
        transform = munitaug.MUNITBatchTransform(checkpoint, device=device, seed=3, guard=guard)
        found.append(transform((domain.images(range(6)).to(device), domain.require_labels()[:6].to(device))))
    (here, _), (there, labels) = found
    assert labels.device == there.device == ELSEWHERE
    assert int((here.int() - there.cpu().int()).abs().max()) <= 1


def test_a_loader_augments_there(checkpoint: Path) -> None:
    domain = toy_domain()
    batches: DataLoader[Any] = DataLoader(domain, batch_size=6)
    loader = munitaug.AugmentingLoader(batches, munitaug.MUNITBatchTransform(checkpoint, device=DEVICE, seed=3))
    shown = [(images.device, tuple(images.shape), labels.device) for images, labels in loader]
    assert shown == [(ELSEWHERE, (6, 1, SIDE, SIDE), ELSEWHERE)] * 2


def test_styles_of_exemplars_and_between_them(checkpoint: Path) -> None:
    domain = toy_domain()
    core = munitaug.load(checkpoint)
    here = munitaug.images_to_styles(core.translator("a", "b").eval(), domain.images(range(4)))
    there = munitaug.images_to_styles(core.to(DEVICE).translator("a", "b").eval(), domain.images(range(4)))
    torch.testing.assert_close(there.cpu(), here.cpu(), rtol=1e-3, atol=1e-4)


def read_images(path: Path) -> Tensor:
    return torch.from_numpy(np.asarray(Image.open(path)).astype(np.int32))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_generated_file_holds_the_images_of_the_cpu(precision: Any, checkpoint: Path, tmp_path: Path) -> None:
    images = []
    for device in BOTH:
        path = tmp_path / f"{device[:3]}.h5"
        munitaug.generate(checkpoint, toy_domain(), path, device=device, precision=precision, progress=False)
        data = munitaug.AugmentedDataset(path)
        images.append(torch.stack([data[number][0] for number in range(len(data))]).int())
    assert float((images[0] - images[1]).abs().float().mean()) <= (0.1 if precision == "float32" else 2.0)


def test_a_sheet_and_a_label_report(checkpoint: Path, tmp_path: Path) -> None:
    domain, target = toy_domain(count=30), toy_domain("target", count=30, seed=1)
    sheets = []
    for device in BOTH:
        path = tmp_path / f"sheet-{device[:3]}.png"
        options: dict[str, Any] = {
            "target": target,
            "nearest": True,
            "interpolate": 3,
            "device": device,
            "progress": False,
        }
        munitaug.preview(checkpoint, domain, path, **options)
        sheets.append(read_images(path))
    assert float((sheets[0] - sheets[1]).abs().float().mean()) <= 0.1
    reports = [
        munitaug.label_preservation(
            checkpoint, domain, tmp_path / device[:3], judge=target, device=device, fit=TINY_FIT, progress=False
        )
        for device in BOTH
    ]
    assert reports[0].class_names == reports[1].class_names


@pytest.mark.parametrize("method", ["munit", "gcgan"])  # one restyles, the other translates
def test_adapt_trains_and_scores(method: str, tmp_path: Path) -> None:
    adapted = munitaug.adapt(
        toy_domain("a", count=30),
        toy_domain("b", count=30, seed=1, labelled=False),
        tmp_path,
        test=toy_domain("test", count=30, seed=2),
        method=method,
        training=replace(TINY_TRAINING, device=DEVICE),
        fit=TINY_FIT,
        progress=False,
    )
    assert 0.0 <= adapted.accuracy <= 100.0  # type: ignore[operator]


@pytest.mark.parametrize("links", CHAINS, ids=" ".join)
def test_the_chains_of_a_table_train_where_the_images_are(links: tuple[Condition, ...]) -> None:
    """Images are float32 here, so the first batches of both are alike to the last digits."""
    labelled = toy_domain("target", count=30, seed=1)
    method = Munit(TINY_GREY).eval().requires_grad_(False)
    task, oracle_task = make_task(toy_domain(count=30), labelled), make_oracle_task(labelled)
    predictions = []
    for device in BOTH:
        method.to(device)
        translators = method.translator("a", "b"), TINY_FIT, method.restyler("b")
        bench = Bench(task.to(device), oracle_task.to(device), *translators)
        *_, (_, classifier) = run_chain(bench, links, seed=1)
        assert next(classifier.parameters()).device.type == torch.device(device).type
        predictions.append(classifier(task.target_images.to(device)).detach().cpu())
    assert_close(predictions[0], predictions[1], rtol=1e-2, atol=1e-2)


def waits_of_training(updates: int) -> list[int]:
    """Gives how often the CPU waits in so many updates with labels, and in so many of self-training."""
    domain, target = toy_domain(count=30), toy_domain("target", count=30, seed=1, labelled=False)
    task = make_task(domain, target).to(ELSEWHERE)
    settings = replace(TINY_FIT, steps=updates, self_steps=updates)
    classifier = build_classifier("lenet", 1, 3, 0).to(ELSEWHERE)
    restyler = Munit(TINY_GREY).to(ELSEWHERE).eval().requires_grad_(False).restyler("b")
    counts = []
    with traffic() as seen:
        fit(classifier, source_batches(task, settings, 0, ClassicAugmentation()), settings)
        counts.append(sum(each.endswith("waiting") for each in seen))
    with traffic() as seen:
        self_train(classifier, task, settings, 0, restyle=in_fresh_styles(restyler))
        counts.append(sum(each.endswith("waiting") for each in seen))
    return counts


@pytest.mark.skipif(not PRETENDED, reason="a GPU does not tell what passes between it and the CPU")
def test_no_update_of_a_classifier_waits_for_the_device() -> None:
    assert waits_of_training(2) == waits_of_training(5)


def test_validators_score_there() -> None:
    domain = toy_domain(count=30)
    classifier = build_classifier("lenet", 1, 3, 0).eval()
    images, labels = domain.images(range(30)).float() / 127.5 - 1.0, domain.require_labels()
    scores: list[dict[str, float]] = []
    for device in BOTH:
        evidence = collect_evidence(classifier.to(device), images.to(device), labels, images.to(device))
        scores.append({name: score(evidence) for name, score in VALIDATORS.items()})
    assert scores[1] == pytest.approx(scores[0], rel=1e-3, abs=1e-4)


@pytest.mark.skipif(not PRETENDED, reason="of the pretended device")
def test_the_pretended_device_refuses_what_a_gpu_refuses() -> None:
    there = torch.ones(3, device=ELSEWHERE)
    refused: list[Callable[[], Any]] = [
        lambda: there + torch.ones(3),
        lambda: torch.randn(3, generator=torch.Generator(), device=ELSEWHERE),
        lambda: there.numpy(),
        lambda: torch.ones(3)[there.long()],
    ]
    for each in refused:
        with pytest.raises((RuntimeError, TypeError)):
            each()
    assert (there + 1).cpu().tolist() == [2.0, 2.0, 2.0]


@pytest.mark.skipif(not PRETENDED, reason="a GPU does not tell what passes between it and the CPU")
def test_colour_becomes_grey_without_anything_sent_there() -> None:
    images = torch.rand(2, 3, 16, 16)
    there = images.to(ELSEWHERE)
    with traffic() as seen:
        grey = match_channels(there, 1)
        assert seen == []
    assert_close(grey.cpu(), match_channels(images, 1))
