"""Public entries under arguments that nobody expects: a right answer, or an error that says what was expected.

Types are those of the signatures; what they hold is anything: numbers that are none, empty and odd shapes, other
dtypes, names of nothing. What may come is in ``FRIENDLY``; a bare KeyError or a RuntimeError out of torch is a fault.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

import munitaug
from munitaug.data import ArrayDomain
from munitaug.kernel import translate_images
from tests.runs import TINY_GREY, TINY_TRAINING, toy_domain
from tests.tiny import TINY, tiny_classifier

FRIENDLY = (ValueError, TypeError, OSError, ImportError, munitaug.DivergenceError, munitaug.Interrupted)
MANY = settings(
    derandomize=True, max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
FEW = settings(MANY, max_examples=12)

DTYPES = (torch.uint8, torch.float32, torch.float16, torch.float64, torch.bool, torch.int64, torch.complex64)
SIDES = st.sampled_from((0, 1, 2, 3, 4, 15, 16, 17, 33))
SHAPES = st.lists(SIDES, max_size=5).map(tuple) | st.tuples(
    st.integers(0, 3), st.sampled_from((1, 3)), *[st.integers(14, 34)] * 2
)
FLOATS = st.sampled_from((math.nan, math.inf, -math.inf, -1.0, 0.0, 1e-30, 0.1, 0.5, 1.0, 1.5, 1e30))
WHOLE = st.sampled_from((-(2**70), -1, 0, 1, 2, 3, 7, 2**31, 2**70))
SMALL = st.integers(-2, 4)
NAMES = st.text(max_size=12) | st.sampled_from(
    ("prior", "bank", "mixture", "exemplar", "a2b", "b2a", "a:a", "~x", "\0", "mnist:test:0", "x" * 5000)
)


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    shape, dtype = draw(SHAPES), draw(st.sampled_from(DTYPES))
    content = torch.rand(shape, generator=torch.Generator().manual_seed(0)) * draw(st.sampled_from((1.0, 255.0, 1e30)))
    if content.numel() and draw(st.booleans()):
        content.view(-1)[0] = draw(FLOATS)
    return (
        content.nan_to_num(0.0, 0.0, 0.0).clamp(0, 255).to(dtype) if not dtype.is_floating_point else content.to(dtype)
    )


def says(call: Callable[[], Any]) -> Any:
    """Gives the answer, or None for an error that a person can do something with."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return call()
        except FRIENDLY as error:
            assert len(str(error)) > 8, repr(error)  # noqa: PT017
    return None


@pytest.fixture(scope="module")
def translator(tiny_run: Path) -> munitaug.Translator:
    return munitaug.shared_translator(tiny_run)


CONFIGS: dict[str, Any] = {
    "optimiser": munitaug.OptimiserSettings(),
    "training": munitaug.TrainConfig(device="cpu"),
    "fit": munitaug.FitSettings(),
    "semantic": munitaug.SemanticOptions(),
    "demo": munitaug.DemoSettings(),
    **{name: method.config_class.preset("small", channels=1) for name, method in munitaug.METHODS.items()},
}


@pytest.mark.parametrize("name", CONFIGS)
@given(data=st.data())
@FEW
def test_settings(name: str, data: st.DataObject) -> None:
    config = CONFIGS[name]
    fields = [field.name for field in dataclasses.fields(config) if type(getattr(config, field.name)) in (int, float)]
    field = data.draw(st.sampled_from(fields))
    value = data.draw(WHOLE if type(getattr(config, field)) is int else FLOATS)
    changed = says(lambda: dataclasses.replace(config, **{field: value}))
    if isinstance(value, float) and math.isnan(value):
        assert changed is None, f"{name} takes {field}=nan"


@given(images=tensors(), batch_size=SMALL)
@MANY
def test_images_to_styles(translator: munitaug.Translator, images: Tensor, batch_size: int) -> None:
    codes = says(lambda: munitaug.images_to_styles(translator, images, batch_size))
    if codes is not None:
        assert codes.shape == (len(images), translator.style_dim)


@given(image=tensors(), variants=st.integers(1, 3), seed=WHOLE)
@MANY
def test_transform_of_a_tensor(translator: munitaug.Translator, image: Tensor, variants: int, seed: int) -> None:
    out = says(lambda: munitaug.MUNITTransform(translator, num_variants=variants, seed=seed)(image))
    if out is not None:
        assert out.dtype == image.dtype
        assert out.shape == (image.shape if variants == 1 else (*image.shape[:-3], variants, *image.shape[-3:]))


@given(mode=st.sampled_from(("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I", "F", "I;16")), width=SIDES, height=SIDES)
@MANY
def test_transform_of_a_picture(translator: munitaug.Translator, mode: str, width: int, height: int) -> None:
    out = says(lambda: munitaug.MUNITTransform(translator)(PIL.Image.new(mode, (width, height))))
    if out is not None:
        assert (out.mode, out.size) == (mode, (width, height))


@given(
    variants=SMALL, style=NAMES, direction=NAMES, p=FLOATS, seed=WHOLE, device=NAMES, truncation=FLOATS, strength=FLOATS
)
@MANY
def test_arguments_of_transforms(tiny_run: Path, **arguments: Any) -> None:
    arguments["num_variants"] = arguments.pop("variants")
    arguments["device"] = "cpu"
    for kind in (munitaug.MUNITTransform, munitaug.MUNITBatchTransform):
        says(lambda kind=kind: kind(tiny_run, **arguments))  # type: ignore[misc]


@given(images=tensors(), labels=tensors(), variants=st.integers(1, 2))
@MANY
def test_batch_transform(translator: munitaug.Translator, images: Tensor, labels: Tensor, variants: int) -> None:
    transform = munitaug.MUNITBatchTransform(translator, num_variants=variants)
    out = says(lambda: transform(images, labels))
    if out is not None:
        assert out[0].shape == (len(images) * variants, *images.shape[1:])
        assert len(out[1]) == len(images) * variants


@given(images=st.lists(tensors(), max_size=3), variants=st.integers(1, 2), number=SMALL)
@MANY
def test_variant_data_set(translator: munitaug.Translator, images: list[Tensor], variants: int, number: int) -> None:
    source = [(image, 0) for image in images]
    dataset = munitaug.VariantDataset(source, translator, variants=variants)
    if not -len(source) <= number < len(source):
        with pytest.raises(IndexError, match=f"item {number} was asked for, but there are {len(source)}"):
            dataset[number]
        return
    item = says(lambda: dataset[number])
    if item is not None:
        assert item[0].shape == (variants, *images[number].shape)
        assert munitaug.variant_collate([item, item])[0].shape == (2 * variants, *images[number].shape)


@given(samples=st.lists(tensors() | st.integers() | st.none() | st.text(), max_size=1))
@MANY
def test_variant_collate(samples: list[Any]) -> None:
    says(lambda: munitaug.variant_collate(samples))


@given(tries=SMALL, fallback=NAMES, channels=st.none() | SMALL, image=tensors())
@FEW
def test_guard(translator: munitaug.Translator, tries: int, fallback: Any, channels: int | None, image: Tensor) -> None:
    guard = says(
        lambda: munitaug.LabelGuard(tiny_classifier(1), tries=tries, fallback=fallback or "last", channels=channels)
    )
    if guard is not None:
        says(lambda: munitaug.MUNITTransform(translator, guard=guard)(image))


@given(start=tensors(), end=tensors(), weight=tensors() | FLOATS, kind=st.sampled_from(("spherical", "linear", "x")))
@MANY
def test_interpolation(start: Tensor, end: Tensor, weight: Any, kind: Any) -> None:
    says(lambda: munitaug.interpolate_styles(start, end, weight, kind))


@given(name=NAMES, bank=st.none() | tensors(), truncation=st.none() | FLOATS)
@MANY
def test_style_source(name: str, bank: Tensor | None, truncation: float | None) -> None:
    source = says(lambda: munitaug.style_source(name, 3, bank, truncation))
    if source is not None and (bank is None or bank.ndim < 2 or bank.shape[1] == 3):
        codes = source.sample(2, 2, torch.Generator().manual_seed(0))
        assert codes.shape == (2, 2, 3)
        assert bool(codes.isfinite().all())


@given(codes=tensors(), labels=tensors(), truncation=st.none() | FLOATS, wanted=tensors())
@MANY
def test_class_bank(codes: Tensor, labels: Tensor, truncation: float | None, wanted: Tensor) -> None:
    source = says(lambda: munitaug.ClassBankStyles(codes, labels, truncation))
    if source is not None:
        says(lambda: source.sample_for(wanted, 2, torch.Generator().manual_seed(0)))


@given(fake=tensors(), real=tensors(), neighbours=SMALL, subsets=SMALL)
@MANY
def test_metrics_are_finite_or_refused(fake: Tensor, real: Tensor, neighbours: int, subsets: int) -> None:
    features = says(lambda: munitaug.Features(fake, real, "none"))
    if features is None:
        return
    for call in (
        lambda: [munitaug.frechet_distance(features)],
        lambda: [munitaug.kernel_distance(features, subsets=subsets, subset_size=3)],
        lambda: munitaug.coverage_and_density(features, neighbours),
    ):
        for metric in says(call) or ():
            assert math.isfinite(metric.value), metric


@given(variants=tensors(), size=st.none() | SMALL)
@MANY
def test_metrics_of_variants(variants: Tensor, size: int | None) -> None:
    network = tiny_classifier(3)
    metric = says(lambda: munitaug.style_diversity(network, variants, size=size))
    assert metric is None or math.isfinite(metric.value)
    scores = says(lambda: munitaug.inception_scores(network, variants, size=size))
    assert scores is None or all(math.isfinite(score.value) for score in scores)


@given(accuracies=st.lists(st.tuples(st.sampled_from("ab"), WHOLE, FLOATS), max_size=5))
@MANY
def test_tables(tmp_path: Path, accuracies: list[tuple[str, int, float]]) -> None:
    rows = [{"condition": name, "seed": seed, "accuracy": accuracy} for name, seed, accuracy in accuracies]
    summaries = says(lambda: munitaug.summarise(rows))  # type: ignore[arg-type]
    if summaries is not None:
        assert len(munitaug.render_table(summaries).splitlines()) == 1 + len({name for name, *_ in accuracies})


@given(spec=NAMES, channels=st.none() | WHOLE, size=st.none() | SMALL)
@MANY
def test_domains(tmp_path: Path, spec: str, channels: int | None, size: int | None) -> None:
    says(lambda: munitaug.open_domain(spec, channels=channels, size=size, data_root=tmp_path))
    says(lambda: munitaug.open_domain("synthetic-digits:train:2", channels=channels, size=size))


@given(name=NAMES)
@MANY
def test_paths_of_nothing(tmp_path: Path, name: str) -> None:
    for call in (
        munitaug.load,
        munitaug.checkpoint_facts,
        munitaug.load_classifier,
        munitaug.AugmentedDataset,
        munitaug.shared_translator,
        lambda path: munitaug.convert(path, tmp_path / "out", format="munit"),
    ):
        assert says(lambda call=call: call(tmp_path / "none" / name)) is None  # type: ignore[misc]
    assert not (tmp_path / "out").exists()


@given(
    variants=SMALL, style=NAMES, truncation=st.none() | FLOATS, direction=NAMES, seed=WHOLE, batch_size=SMALL,
    compression=NAMES, which=st.integers(0, 7),
)  # fmt: skip
@MANY
def test_generate(tiny_run: Path, tmp_path: Path, which: int, **arguments: Any) -> None:
    name = sorted(arguments)[which % len(arguments)]
    out = tmp_path / "aug.h5"
    says(lambda: munitaug.generate(tiny_run, toy_domain(), out, progress=False, **{name: arguments[name]}))
    if out.exists():
        assert len(munitaug.AugmentedDataset(out)) == 12 * (arguments["variants"] if name == "variants" else 4)
        out.unlink()
    assert [entry.name for entry in tmp_path.iterdir()] == []


@given(images=tensors(), labels=st.none() | tensors(), method=st.sampled_from(["munit", "x", ""]), preset=NAMES)
@FEW
def test_train(tmp_path_factory: pytest.TempPathFactory, images: Tensor, labels: Any, method: str, preset: str) -> None:
    out = tmp_path_factory.mktemp("run") / "run"
    training = dataclasses.replace(TINY_TRAINING, max_steps=1, batch_size=1)

    def run() -> Path:
        domain = ArrayDomain("a", images, labels)
        config = TINY_GREY if domain.channels == 1 else TINY
        return munitaug.train(
            domain, domain, out, method=method, preset=preset, config=config, training=training, progress=False
        )

    checkpoint = says(run)
    assert checkpoint is None or munitaug.load(checkpoint).name == "munit"


@given(seeds=WHOLE | st.lists(WHOLE, max_size=2), conditions=st.lists(NAMES, min_size=1, max_size=2))
@FEW
def test_evaluate(tmp_path: Path, seeds: Any, conditions: Any) -> None:
    domain = toy_domain()
    out = tmp_path / "rows.json"
    assert says(lambda: munitaug.evaluate(domain, domain, out, test=domain, seeds=seeds, conditions=conditions)) is None
    assert not out.exists()


@given(variants=SMALL, columns=SMALL, strength=FLOATS, exemplar_rows=SMALL, interpolate=SMALL, style=NAMES)
@FEW
def test_preview(tiny_run: Path, tmp_path: Path, **arguments: Any) -> None:
    says(lambda: munitaug.preview(tiny_run, toy_domain(), tmp_path / "sheet.png", overwrite=True, **arguments))


def test_no_number_survives_as_a_number(translator: munitaug.Translator) -> None:
    """Front ends refuse NaN pixels; in the kernel, all there is on a GPU, they stay NaN and reach no other image."""
    images = torch.rand(3, 1, 16, 16)
    styles = torch.randn(3, 1, translator.style_dim)
    expected = translate_images(translator, images, styles)
    images[1, 0, 5, 5] = math.nan
    out = translate_images(translator, images, styles)
    assert bool(out[1].isnan().any())
    torch.testing.assert_close(out[[0, 2]], expected[[0, 2]])
    with pytest.raises(ValueError, match="got values from nan"):
        munitaug.MUNITTransform(translator)(images)


def test_training_on_no_numbers_says_so(tmp_path: Path) -> None:
    class Broken(munitaug.ImageDomain):
        labels = None

        def __init__(self) -> None:
            super().__init__("broken", 1)

        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            return torch.full((1, 16, 16), math.nan), -1

    with pytest.raises((munitaug.DivergenceError, munitaug.DomainError, TypeError), match=r"not finite|uint8"):
        munitaug.train(Broken(), Broken(), tmp_path / "run", config=TINY_GREY, training=TINY_TRAINING, progress=False)
    assert not (tmp_path / "run" / "checkpoint").exists()
