"""Style sources: their distributions, their determinism, their refusals."""

from __future__ import annotations

import math
import sys
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from munitaug.styles import (
    BankStyles,
    ClassBankStyles,
    MixtureStyles,
    PriorStyles,
    StyleSource,
    interpolate_styles,
    style_source,
)

BANK = torch.tensor([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0], [-6.0, 7.0]])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_prior_styles_are_standard_normal() -> None:
    codes = PriorStyles(4).sample(500, 20, seeded())
    flat = codes.flatten(0, 1)
    assert codes.shape == (500, 20, 4)
    assert codes.dtype == torch.float32
    assert flat.mean(0).abs().max() < 0.04
    assert (flat.T.cov() - torch.eye(4)).abs().max() < 0.06
    assert (flat**4).mean().item() == pytest.approx(3.0, abs=0.2)


@pytest.mark.parametrize("truncation", [0.1, 0.7, 2.0])
def test_truncated_styles_keep_to_the_bound_and_to_the_shape_of_the_normal(truncation: float) -> None:
    codes = PriorStyles(2, truncation).sample(200, 50, seeded()).flatten()
    wide = np.random.default_rng(0).normal(size=2_000_000)
    kept = wide[np.abs(wide) <= truncation]
    assert codes.abs().max() <= truncation * (1 + 1e-6)
    assert codes.std().item() == pytest.approx(kept.std(), rel=0.03)
    assert codes.mean().item() == pytest.approx(0.0, abs=0.03 * truncation)


def test_a_wide_truncation_changes_little() -> None:
    codes = PriorStyles(1, 9.0).sample(1000, 10, seeded())
    assert codes.isfinite().all()
    assert codes.std().item() == pytest.approx(1.0, abs=0.03)


def test_bank_styles_are_rows_of_the_bank_with_equal_chance() -> None:
    codes = BankStyles(BANK).sample(200, 20, seeded()).flatten(0, 1)
    rows = (codes[:, None] == BANK).all(dim=2)
    assert rows.any(dim=1).all()
    assert (rows.float().mean(0) - 0.25).abs().max() < 0.03


def test_bank_truncation_pulls_to_the_mean() -> None:
    codes = BankStyles(torch.tensor([[0.0], [4.0]]), truncation=0.5).sample(50, 1, seeded())
    assert set(codes.flatten().tolist()) == {1.0, 3.0}


def test_one_exemplar_gives_equal_styles_and_several_give_all_of_them() -> None:
    assert (BankStyles(BANK[:1]).sample(3, 4, seeded()) == BANK[0]).all()
    codes = BankStyles(BANK).sample(20, 5, seeded()).flatten(0, 1)
    assert {tuple(code) for code in codes.tolist()} == {tuple(code) for code in BANK.tolist()}


def known_mixture(count: int) -> torch.Tensor:
    rng = np.random.default_rng(1)
    factor = np.array([[0.8, 0.0], [0.5, 0.3]])
    noise = rng.normal(size=(count, 2)) @ factor.T
    centres = np.where(rng.random((count, 1)) < 0.3, [[-4.0, 1.0]], [[3.0, 0.0]])
    return torch.tensor(centres + noise, dtype=torch.float32)


def test_a_mixture_reproduces_chances_means_and_covariances() -> None:
    pytest.importorskip("sklearn")
    codes = MixtureStyles(known_mixture(3000), components=2).sample(4000, 2, seeded()).flatten(0, 1)
    left = codes[:, 0] < -0.5
    expected = torch.tensor([[0.64, 0.40], [0.40, 0.34]])
    assert left.float().mean().item() == pytest.approx(0.3, abs=0.03)
    for chosen, centre in ((left, (-4.0, 1.0)), (~left, (3.0, 0.0))):
        assert (codes[chosen].mean(0) - torch.tensor(centre)).abs().max() < 0.1
        assert (codes[chosen].T.cov() - expected).abs().max() < 0.08


def test_a_truncated_mixture_stays_near_its_centres() -> None:
    pytest.importorskip("sklearn")
    source = MixtureStyles(known_mixture(500), components=2, truncation=0.1)
    codes = source.sample(300, 1, seeded()).flatten(0, 1)
    distance = torch.cdist(codes, torch.tensor([[-4.0, 1.0], [3.0, 0.0]])).min(dim=1).values
    assert distance.max() < 0.4


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_a_mixture_can_be_fitted_to_a_small_bank(rows: int) -> None:
    pytest.importorskip("sklearn")
    if rows == 1:
        with pytest.raises(ValueError, match="2"):
            MixtureStyles(BANK[:rows])
    else:
        assert MixtureStyles(BANK[:rows]).sample(2, 2, seeded()).isfinite().all()


def all_sources() -> list[StyleSource]:
    pytest.importorskip("sklearn")
    return [PriorStyles(2), PriorStyles(2, 1.0), BankStyles(BANK), MixtureStyles(BANK)]


def test_a_generator_decides_every_draw_and_the_global_one_none() -> None:
    for source in all_sources():
        torch.manual_seed(1)
        first = source.sample(5, 3, seeded(7))
        torch.manual_seed(2)
        state = torch.get_rng_state()
        assert torch.equal(first, source.sample(5, 3, seeded(7)))
        assert not torch.equal(first, source.sample(5, 3, seeded(8)))
        assert torch.equal(torch.get_rng_state(), state)


def test_fitting_a_mixture_repeats() -> None:
    pytest.importorskip("sklearn")
    bank = known_mixture(100)
    first, second = (MixtureStyles(bank).sample(3, 2, seeded()) for _ in range(2))
    assert torch.equal(first, second)


def test_methods_without_styles_get_empty_codes() -> None:
    assert PriorStyles(0).sample(3, 2, seeded()).shape == (3, 2, 0)


def test_sources_are_found_by_name() -> None:
    pytest.importorskip("sklearn")
    assert isinstance(style_source("prior", 2), PriorStyles)
    assert isinstance(style_source("bank", 2, BANK), BankStyles)
    assert isinstance(style_source("mixture", 2, BANK), MixtureStyles)


@pytest.mark.parametrize("name", ["bank", "mixture"])
@pytest.mark.parametrize("bank", [None, torch.zeros(0, 2)])
def test_an_empty_bank_is_refused(name: str, bank: torch.Tensor | None) -> None:
    pytest.importorskip("sklearn")
    with pytest.raises(ValueError, match='saved without a style bank; use style="prior"'):
        style_source(name, 2, bank)


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (torch.zeros(0, 2), "no style codes to draw from; give at least one"),
        (torch.zeros(2), r"must be M x style_dim, got shape \(2,\)"),
        (torch.full((3, 2), float("nan")), "must be finite numbers"),
    ],
)
def test_codes_that_are_none_are_refused(codes: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BankStyles(codes)


@pytest.mark.parametrize("truncation", ["0.5", True, [0.5]])
@pytest.mark.parametrize("name", ["prior", "bank", "mixture"])
def test_a_truncation_that_is_no_number_is_refused(name: str, truncation: Any) -> None:
    pytest.importorskip("sklearn")
    with pytest.raises(TypeError, match="truncation must be a number or None"):
        style_source(name, 2, BANK, truncation)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_codes_do_not_depend_on_the_default_dtype(dtype: torch.dtype) -> None:
    expected = [source.sample(3, 2, seeded()) for source in all_sources()]
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        found = [source.sample(3, 2, seeded()) for source in all_sources()]
        nothing = MixtureStyles(BANK).sample(0, 2, seeded())
    finally:
        torch.set_default_dtype(before)
    assert nothing.dtype == torch.float32
    for first, second in zip(expected, found, strict=True):
        assert second.dtype == torch.float32
        assert torch.equal(first, second)


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match=r"style must be one of prior, bank, mixture .* got 'random'"):
        style_source("random", 2)


@pytest.mark.parametrize("truncation", [0.0, 0.05, -1.0, float("nan")])
def test_a_prior_truncation_below_a_tenth_is_refused(truncation: float) -> None:
    with pytest.raises(ValueError, match=r"truncation must be at least 0.1"):
        PriorStyles(2, truncation)


@pytest.mark.parametrize("truncation", [0.0, 1.5, -1.0, float("nan")])
def test_a_bank_truncation_outside_its_range_is_refused(truncation: float) -> None:
    with pytest.raises(ValueError, match=r'truncation of style="bank" must be in \(0, 1\]'):
        BankStyles(BANK, truncation)


def test_a_missing_scikit_learn_is_said_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.mixture", None)
    with pytest.raises(ImportError, match=r'pip install "munitaug\[benchmarks\]"'):
        MixtureStyles(BANK)


@pytest.mark.parametrize("size", [(0, 3), (3, 0)])
@pytest.mark.parametrize("name", ["prior", "bank", "mixture"])
def test_no_image_or_no_variant_gives_no_code(name: str, size: tuple[int, int]) -> None:
    source = style_source(name, 2, torch.randn(8, 2))
    assert source.sample(*size, torch.Generator()).shape == (*size, 2)


class TestInterpolation:
    def test_between_right_angles_goes_along_the_circle(self) -> None:
        start, end = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
        for weight in (0.0, 0.25, 0.5, 1.0):
            angle = weight * math.pi / 2
            expected = torch.tensor([math.cos(angle), math.sin(angle)])
            torch.testing.assert_close(interpolate_styles(start, end, weight), expected, atol=1e-6, rtol=0)

    def test_lengths_change_evenly(self) -> None:
        start, end = torch.tensor([2.0, 0.0]), torch.tensor([0.0, 4.0])
        middle = interpolate_styles(start, end, 0.5)
        assert middle.norm().item() == pytest.approx(3.0)
        assert (middle / middle.norm()).tolist() == pytest.approx([math.sqrt(0.5)] * 2)

    def test_the_straight_way_between_random_codes_is_too_short(self) -> None:
        start, end = torch.randn(2, 500, 64, generator=torch.Generator().manual_seed(0))
        spherical = interpolate_styles(start, end, 0.5).norm(dim=1).mean().item()
        straight = interpolate_styles(start, end, 0.5, "linear").norm(dim=1).mean().item()
        assert spherical == pytest.approx(8.0, rel=0.02)
        assert straight == pytest.approx(8.0 / math.sqrt(2), rel=0.03)

    @pytest.mark.parametrize("end", [[2.0, 0.0], [-1.0, 0.0], [0.0, 0.0]], ids=["parallel", "opposite", "zero"])
    def test_codes_without_an_arc_between_them_go_straight(self, end: list[float]) -> None:
        start, stop = torch.tensor([1.0, 0.0]), torch.tensor(end)
        middle = interpolate_styles(start, stop, 0.5)
        assert middle.isfinite().all()
        torch.testing.assert_close(middle, (start + stop) / 2)

    @pytest.mark.parametrize("kind", ["spherical", "linear"])
    def test_many_at_once_are_those_one_by_one(self, kind: Literal["spherical", "linear"]) -> None:
        start, end, weight = torch.randn(4, 3), torch.randn(4, 3), torch.rand(4)
        together = interpolate_styles(start, end, weight, kind)
        alone = [interpolate_styles(start[i], end[i], weight[i].item(), kind) for i in range(4)]
        torch.testing.assert_close(together, torch.stack(alone))
        torch.testing.assert_close(interpolate_styles(start, end, 0.0, kind), start)
        torch.testing.assert_close(interpolate_styles(start, end, 1.0, kind), end)

    def test_an_unknown_way_is_refused(self) -> None:
        with pytest.raises(ValueError, match='kind must be "spherical" or "linear"'):
            interpolate_styles(torch.ones(2), torch.ones(2), 0.5, "cubic")  # type: ignore[arg-type]


class TestClassBank:
    codes = torch.tensor([[0.0], [1.0], [10.0], [11.0], [12.0]])
    labels = torch.tensor([0, 0, 1, 1, 1])

    def test_every_image_gets_codes_of_its_class(self) -> None:
        source = ClassBankStyles(self.codes, self.labels)
        drawn = source.sample_for(torch.tensor([1, 0, 1]), 200, torch.Generator().manual_seed(0)).squeeze(2)
        assert set(drawn[0].tolist()) == set(drawn[2].tolist()) == {10.0, 11.0, 12.0}
        assert set(drawn[1].tolist()) == {0.0, 1.0}
        assert not torch.equal(drawn[0], drawn[2])
        counts = [int((drawn[0] == code).sum()) for code in (10.0, 11.0, 12.0)]
        assert min(counts) > 40  # equal chances: 67 each

    def test_unlabelled_images_get_codes_of_all(self) -> None:
        source = ClassBankStyles(self.codes, self.labels)
        drawn = source.sample_for(torch.tensor([-1]), 200, torch.Generator().manual_seed(0))
        assert set(drawn.flatten().tolist()) == set(self.codes.flatten().tolist())
        assert set(source.sample(2, 100, torch.Generator().manual_seed(0)).flatten().tolist()) == set(
            self.codes.flatten().tolist()
        )

    def test_truncation_pulls_to_the_mean_of_the_class(self) -> None:
        source = ClassBankStyles(self.codes, self.labels, truncation=0.5)
        assert source.codes.flatten().tolist() == [0.25, 0.75, 10.5, 11.0, 11.5]

    def test_a_class_without_codes_is_named(self) -> None:
        with pytest.raises(ValueError, match="no code of class 2, 7, only of 0, 1"):
            ClassBankStyles(self.codes, self.labels).sample_for(torch.tensor([0, 7, 2]), 1, torch.Generator())

    @pytest.mark.parametrize("labels", [torch.tensor([0, 1]), torch.zeros(5), torch.tensor([0, 0, 1, -1, 1])])
    def test_labels_that_do_not_fit_are_refused(self, labels: Tensor) -> None:
        with pytest.raises(ValueError, match="labels must be 5 classes"):
            ClassBankStyles(self.codes, labels)


def test_exemplars_by_name_are_asked_for() -> None:
    with pytest.raises(ValueError, match="give the exemplar images themselves"):
        style_source("exemplar", 2)


def test_a_bank_that_changes_later_changes_no_styles() -> None:
    bank = torch.zeros(2, 3)
    styles = BankStyles(bank)
    bank += 7
    assert not styles.sample(4, 1, torch.Generator()).any()


@pytest.mark.parametrize(("codes", "components"), [(1, 8), (4, 0), (4, -3)])
def test_a_mixture_of_too_little_is_refused(codes: int, components: int) -> None:
    with pytest.raises(ValueError, match=f"at least 2 codes and 1 component, got {codes} and {components}"):
        MixtureStyles(torch.randn(codes, 3), components)


@pytest.mark.parametrize("kind", ["spherical", "linear"])
def test_the_ends_of_the_way_are_exactly_the_codes(kind: Literal["spherical", "linear"]) -> None:
    start, end = torch.randn(2, 500, 8)
    assert torch.equal(interpolate_styles(start, end, 0.0, kind), start)
    assert torch.equal(interpolate_styles(start, end, 1.0, kind), end)
