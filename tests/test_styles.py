"""Style sources: their distributions, their determinism, their refusals."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from munitaug.styles import BankStyles, FixedStyles, MixtureStyles, PriorStyles, StyleSource, style_source

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
    assert (FixedStyles(BANK[:1]).sample(3, 4, seeded()) == BANK[0]).all()
    codes = FixedStyles(BANK).sample(20, 5, seeded()).flatten(0, 1)
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
    return [PriorStyles(2), PriorStyles(2, 1.0), BankStyles(BANK), FixedStyles(BANK), MixtureStyles(BANK)]


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
