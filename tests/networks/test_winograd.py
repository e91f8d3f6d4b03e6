"""Winograd's convolutions against plain ones: numbers, gradients, where they are taken and what they leave alone."""

from __future__ import annotations

import threading

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from munitaug.networks import blocks, upsampling, winograd
from munitaug.networks.autoencoder import AutoEncoder, AutoEncoderShape
from munitaug.networks.padding import Border
from munitaug.networks.pixels_first import is_pixels_first, pixels_first
from munitaug.networks.winograd import winograd_conv, winograd_pays
from tests.networks.alike import assert_alike

KINDS = [
    (3, 1, "reflect", (4, 6)),
    (3, 1, "reflect", (10, 4)),
    (3, 1, "replicate", (4, 6)),
    (3, 1, "replicate", (10, 4)),
    (4, 2, "reflect", (8, 12)),
    (4, 2, "reflect", (16, 8)),
]


def tensors(kernel: int, sides: tuple[int, int], dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((3, 5, *sides), (7, 5, kernel, kernel), (7,))
    return [torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes]


def plain(x: Tensor, weight: Tensor, bias: Tensor, border: Border, stride: int) -> Tensor:
    return F.conv2d(F.pad(x, (1, 1, 1, 1), mode=border), weight, bias, stride)


@pytest.mark.parametrize("lying_first", [True, False])
@pytest.mark.parametrize(("kernel", "stride", "border", "sides"), KINDS)
def test_it_equals_the_plain_one_and_so_do_its_gradients(
    kernel: int, stride: int, border: Border, sides: tuple[int, int], lying_first: bool
) -> None:
    x, weight, bias = inputs = tensors(kernel, sides)
    given = winograd_conv(pixels_first(x) if lying_first else x, weight, bias, border, stride)
    expected = plain(x, weight, bias, border, stride)
    assert is_pixels_first(given)
    assert_alike(given, expected, inputs)


@pytest.mark.parametrize("asked", [0, 1, 2])
def test_only_the_gradients_that_are_asked_for_are_made(asked: int) -> None:
    inputs = tensors(3, (4, 4))
    for at, tensor in enumerate(inputs):
        tensor.requires_grad_(at == asked)
    x, weight, bias = inputs
    (right,) = torch.autograd.grad(plain(x, weight, bias, "reflect", 1).square().sum(), inputs[asked])
    (given,) = torch.autograd.grad(winograd_conv(x, weight, bias, "reflect").square().sum(), inputs[asked])
    torch.testing.assert_close(given, right)


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (4, 2)])
def test_bfloat16_is_off_by_less_than_a_hundredth(kernel: int, stride: int) -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(4, 128, 16, 16), torch.randn(128, 128, kernel, kernel) / 34, torch.randn(128)
    with torch.autocast("cpu", torch.bfloat16):
        given = winograd_conv(x, weight, bias, "reflect", stride)
    expected = plain(x, weight, bias, "reflect", stride)
    assert given.dtype == torch.bfloat16
    assert ((given.float() - expected).norm() / expected.norm()).item() < 0.01


def test_a_gradient_of_a_gradient_is_refused() -> None:
    x, weight, bias = tensors(3, (4, 4))
    out = winograd_conv(x, weight, bias, "reflect").sum()
    with pytest.raises(RuntimeError, match="no gradient of its gradient"):
        torch.autograd.grad(out, x, create_graph=True)


def test_four_taps_know_no_repeated_border() -> None:
    x, weight, bias = tensors(4, (8, 8))
    with pytest.raises(ValueError, match='knows the border "reflect"'):
        winograd_conv(x, weight, bias, "replicate", 2)


@pytest.mark.parametrize(
    ("shape", "channels", "kernel", "stride", "dtype", "taken"),
    [
        ((4, 256, 8, 8), 256, 3, 1, torch.bfloat16, True),
        ((4, 256, 8, 8), 256, 3, 1, torch.float32, False),
        ((3, 256, 8, 8), 256, 3, 1, torch.bfloat16, False),
        ((4, 256, 9, 8), 256, 3, 1, torch.bfloat16, False),
        ((4, 128, 8, 8), 256, 3, 1, torch.bfloat16, False),
        ((4, 256, 8, 8), 128, 3, 1, torch.bfloat16, False),
        ((64, 256, 2, 8), 256, 3, 1, torch.bfloat16, False),
        ((4, 256, 8, 8), 256, 5, 1, torch.bfloat16, False),
        ((4, 256, 8, 8), 256, 3, 2, torch.bfloat16, False),
        ((4, 64, 16, 16), 128, 4, 2, torch.bfloat16, True),
        ((4, 64, 18, 16), 128, 4, 2, torch.bfloat16, False),
        ((64, 64, 4, 16), 128, 4, 2, torch.bfloat16, False),
    ],
)
def test_where_it_is_taken(
    shape: tuple[int, ...], channels: int, kernel: int, stride: int, dtype: torch.dtype, taken: bool
) -> None:
    x, weight = torch.zeros(shape, dtype=dtype), torch.zeros(channels, shape[1], kernel, kernel)
    assert winograd_pays(x, weight.shape, stride) == taken
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        assert winograd_pays(x.float(), weight.shape, stride) == taken
    assert not winograd_pays(x.to("meta"), weight.shape, stride)


@pytest.fixture
def generator() -> AutoEncoder:
    torch.manual_seed(0)
    shape = AutoEncoderShape(3, 64, 2, 2, n_residual=2, style_dim=8, mlp_width=16)
    network = AutoEncoder(shape)
    for parameter in network.parameters():
        if parameter.dim() > 1:
            nn.init.kaiming_normal_(parameter)
    return network


def run(network: AutoEncoder, x: Tensor, precise: bool = False) -> tuple[Tensor, Tensor]:
    network.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=not precise):
        content, style = network.encode(x)
        image = network.decode(content, style)
    image.square().mean().backward()
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    return image.detach(), torch.cat([gradient.flatten() for gradient in gradients])


def test_a_generator_takes_it_and_stays_as_near_to_float32_as_before(
    generator: AutoEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = []
    whole = winograd_conv

    def counted(*arguments: object) -> Tensor:
        called.append(arguments)
        return whole(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(blocks, "winograd_conv", counted)
    monkeypatch.setattr(upsampling, "winograd_conv", counted)
    x = torch.rand(4, 3, 32, 32) * 2 - 1
    exact_image, exact = run(generator, x, precise=True)
    assert not called
    image, gradient = run(generator, x)
    assert (
        len(called) == 2 + 2 + 4 + 4 + 1
    )  # halving in both encoders, residual blocks of both ends, the first doubling
    monkeypatch.setattr(blocks, "winograd_pays", lambda *_: False)
    monkeypatch.setattr(upsampling, "winograd_pays", lambda *_: False)
    usual_image, usual = run(generator, x)
    assert (image - exact_image).norm() < 3 * (usual_image - exact_image).norm()
    assert F.cosine_similarity(gradient, exact, dim=0) > 0.98
    assert F.cosine_similarity(usual, exact, dim=0) > 0.98


def test_variants_of_one_content_lie_as_they_should(generator: AutoEncoder) -> None:
    generator.requires_grad_(False)
    content, _ = generator.encode(torch.rand(4, 3, 32, 32) * 2 - 1)
    style = torch.randn(12, 8)
    with torch.autocast("cpu", torch.bfloat16):
        together = generator.decode(content, style)
        apart = generator.decode(content.repeat_interleave(3, 0), style)
    assert (together - apart).abs().mean() < 0.01
    torch.testing.assert_close(together, apart, atol=0.1, rtol=0)
    assert (together[0] - together[1]).abs().max() > 0.1


def test_memory_made_while_inferring_serves_training() -> None:
    def infer_then_train() -> None:
        x, weight, bias = tensors(3, (6, 6))
        with torch.inference_mode():
            before = winograd_conv(x, weight, bias, "reflect").clone()
        after = winograd_conv(x, weight, bias, "reflect")
        after.sum().backward()
        torch.testing.assert_close(after, before)
        done.append(True)

    done: list[bool] = []
    thread = threading.Thread(target=infer_then_train)  # with scratch memory of its own
    thread.start()
    thread.join()
    assert done


def test_large_sums_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(winograd, "MOST_SCRATCH", 10)
    monkeypatch.setattr(winograd, "_held", threading.local())
    x, weight, bias = tensors(3, (4, 4))
    torch.testing.assert_close(winograd_conv(x, weight, bias, "reflect"), plain(x, weight, bias, "reflect", 1))
    assert not vars(winograd._held)


def test_threads_have_scratch_memory_of_their_own() -> None:
    places = [winograd._scratch("rows", (4,), torch.zeros(1)).data_ptr()]
    other = threading.Thread(target=lambda: places.append(winograd._scratch("rows", (4,), torch.zeros(1)).data_ptr()))
    other.start()
    other.join()
    assert places[0] != places[1]
