"""Normalisations against loops and numpy."""

from __future__ import annotations

import pytest
import torch

from munitaug.networks.norms import MunitLayerNorm, adaptive_instance_norm, instance_norm
from munitaug.networks.pixels_first import pixels_first
from tests.oracles import adain_by_loops, munit_layer_norm_by_numpy


def test_adain_equals_loops_over_samples_and_channels() -> None:
    x = torch.randn(2, 3, 4, 5) * 3 + 1
    shift, scale = torch.randn(2, 3), torch.randn(2, 3)
    torch.testing.assert_close(adaptive_instance_norm(x, shift, scale), adain_by_loops(x, shift, scale))


def test_adain_with_scale_zero_gives_the_shift_so_nothing_is_added_to_the_scale() -> None:
    x, shift = torch.randn(2, 3, 4, 5), torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    out = adaptive_instance_norm(x, shift, torch.zeros(2, 3))
    assert torch.equal(out, shift[:, :, None, None].expand_as(out))


def test_instance_norm_divides_by_the_biased_deviation() -> None:
    x = torch.tensor([1.0, 3.0]).view(1, 1, 1, 2)
    torch.testing.assert_close(instance_norm(x).flatten(), torch.tensor([-1.0, 1.0]))


def test_layer_norm_equals_numpy() -> None:
    norm = MunitLayerNorm(3)
    with torch.no_grad():
        norm.shift.copy_(torch.tensor([0.5, -1.0, 2.0]))
    x = torch.randn(2, 3, 4, 5) * 3 + 1
    torch.testing.assert_close(norm(x), munit_layer_norm_by_numpy(x, norm.gain, norm.shift))


def test_layer_norm_divides_by_the_unbiased_deviation() -> None:
    norm = MunitLayerNorm(1)
    with torch.no_grad():
        norm.gain.fill_(1.0)
    # mean 2, squared deviations 1 + 1 over (2 - 1): the deviation is the root of 2
    out = norm(torch.tensor([1.0, 3.0]).view(1, 1, 1, 2)).flatten()
    torch.testing.assert_close(out, torch.tensor([-1.0, 1.0]) / 2**0.5, atol=1e-5, rtol=0)


def test_layer_norm_adds_eps_outside_the_root() -> None:
    norm = MunitLayerNorm(1)
    with torch.no_grad():
        norm.gain.fill_(1.0)
    x = torch.tensor([-1e-5, 1e-5]).view(1, 1, 1, 2)
    # the deviation is sqrt(2) 1e-5; inside the root, eps would leave 1e-5 / sqrt(1e-5) = 0.003
    expected = 1e-5 / (2**0.5 * 1e-5 + 1e-5)
    assert norm(x).flatten()[1].item() == pytest.approx(expected, rel=1e-3)


def test_layer_norm_keeps_samples_apart() -> None:
    norm, x = MunitLayerNorm(3), torch.randn(2, 3, 4, 4)
    alone = norm(x[:1])
    x[1] *= 100
    torch.testing.assert_close(norm(x)[:1], alone)


def test_layer_norm_starts_with_gain_in_zero_to_one_and_no_shift() -> None:
    norm = MunitLayerNorm(1000)
    assert 0 <= norm.gain.min() < 0.1
    assert 0.9 < norm.gain.max() <= 1
    assert not norm.shift.any()


def test_layer_norm_of_half_precision_counts_in_float32() -> None:
    norm, x = MunitLayerNorm(2), torch.randn(1, 2, 8, 8).bfloat16()
    out = norm(x)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), norm(x.float()), atol=0.02, rtol=0.02)


def test_the_gradient_of_layer_norm_is_that_of_its_formula() -> None:
    norm = MunitLayerNorm(3)
    x = (torch.randn(2, 3, 4, 5) * 3 + 1).requires_grad_()
    weights = torch.randn(2, 3, 4, 5)
    variance, mean = torch.var_mean(x, dim=(1, 2, 3), keepdim=True, correction=1)
    by_formula = (x - mean) / (variance.sqrt() + 1e-5) * norm.gain[:, None, None] + norm.shift[:, None, None]
    wanted = torch.autograd.grad(by_formula, (x, norm.gain, norm.shift), weights)
    for gradient, right in zip(torch.autograd.grad(norm(x), (x, norm.gain, norm.shift), weights), wanted, strict=True):
        torch.testing.assert_close(gradient, right, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_norms_give_the_same_in_either_memory_layout(layout: torch.memory_format) -> None:
    x = torch.randn(2, 6, 4, 5)
    other = x.to(memory_format=layout)
    torch.testing.assert_close(instance_norm(other), instance_norm(x))
    norm = MunitLayerNorm(6)
    torch.testing.assert_close(norm(other), norm(x))


def test_layer_norm_of_a_constant_is_the_shift() -> None:
    norm, x = MunitLayerNorm(2), torch.full((1, 2, 3, 3), 7.0).requires_grad_()
    with torch.no_grad():
        norm.shift.copy_(torch.tensor([0.5, -1.0]))
    out = norm(x)
    assert torch.equal(out[0, :, 0, 0], torch.tensor([0.5, -1.0]))
    out.sum().backward()
    assert x.grad is not None
    assert bool(x.grad.isfinite().all())


@pytest.mark.parametrize("deviation", [3.0, 1e-3, 0.0])
def test_layer_norm_of_bfloat16_is_that_of_float32_at_any_deviation(deviation: float) -> None:
    norm = MunitLayerNorm(4)
    with torch.no_grad():
        norm.shift.copy_(torch.randn(4))
    x = (torch.randn(2, 4, 8, 8) * deviation).bfloat16().requires_grad_()
    exact = x.detach().float().requires_grad_()
    weights = torch.randn(2, 4, 8, 8).bfloat16()
    out, expected = norm(x), norm(exact)
    torch.testing.assert_close(out.float(), expected, atol=0.03, rtol=0.02)
    given = torch.autograd.grad(out, (x, norm.gain, norm.shift), weights)
    wanted = torch.autograd.grad(expected, (exact, norm.gain, norm.shift), weights.float())
    for gradient, right in zip(given, wanted, strict=True):
        scale = float(right.abs().max()) + 1e-6
        torch.testing.assert_close(gradient.float() / scale, right / scale, atol=0.03, rtol=0)


def test_layer_norm_of_bfloat16_keeps_samples_apart() -> None:
    norm, x = MunitLayerNorm(3), torch.randn(2, 3, 4, 4).bfloat16()
    alone = norm(x[:1])
    x[1] *= 1e-4  # takes another way
    assert torch.equal(norm(x)[:1], alone)


def test_an_activated_norm_is_the_activation_of_the_norm() -> None:
    x, shift, scale = torch.randn(2, 3, 4, 5), torch.randn(2, 3), torch.randn(2, 3)
    assert torch.equal(instance_norm(x, "relu"), instance_norm(x).relu())
    styled = adaptive_instance_norm(x, shift, scale)
    assert torch.equal(adaptive_instance_norm(x, shift, scale, "relu"), styled.relu())


@pytest.mark.parametrize("results", [1, 3])
def test_an_activated_norm_is_the_activation_of_the_norm_in_either_order(results: int) -> None:
    x, shift, scale = torch.randn(2, 3, 4, 5), torch.randn(2 * results, 3), torch.randn(2 * results, 3)
    for maps in (x, pixels_first(x)):
        assert torch.equal(instance_norm(maps, "relu"), instance_norm(maps).relu())
        styled = adaptive_instance_norm(maps, shift, scale)
        assert torch.equal(adaptive_instance_norm(maps, shift, scale, "relu"), styled.relu())


def test_layer_norm_of_bfloat16_adds_eps_to_deviations_near_it() -> None:
    norm, x = MunitLayerNorm(4), (torch.randn(2, 4, 8, 8) * 3e-5).bfloat16()
    torch.testing.assert_close(norm(x).float(), norm(x.float()), atol=0.03, rtol=0.02)
