"""UNIT's networks of 2017 against plain torch layers, the later ones against MUNIT's, known counts."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from munitaug.methods import UnitConfig
from munitaug.networks.initialise import initialise_weights
from munitaug.networks.resampling import SmoothHalving
from munitaug.networks.unit import (
    SharedFormDiscriminator,
    UnitGenerators,
    UnitShape,
)

SMALL = UnitShape("shared", channels=3, width=4, n_downsample=2, n_residual=2, n_shared=1)
LATER = replace(SMALL, form="later", n_shared=0)


class Skip(nn.Module):
    """A residual block of torch's own layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        norms = [nn.InstanceNorm2d(width) for _ in range(2)]
        convolutions = [nn.Conv2d(width, width, 3, padding=1) for _ in range(2)]
        self.inner = nn.Sequential(convolutions[0], norms[0], nn.ReLU(), convolutions[1], norms[1])

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.inner(x)
        return out


def plain_encoder(channels: int, width: int, blocks: int) -> nn.Sequential:
    """Gives one way from an image to the latent, as the code of 2017 stacks it: own layers, then shared ones."""
    return nn.Sequential(
        *(nn.Conv2d(channels, width, 7, padding=3), nn.LeakyReLU()),
        *(nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), nn.InstanceNorm2d(2 * width), nn.ReLU()),
        *(nn.Conv2d(2 * width, 4 * width, 3, stride=2, padding=1), nn.InstanceNorm2d(4 * width), nn.ReLU()),
        *(Skip(4 * width) for _ in range(blocks)),
    )


def plain_decoder(channels: int, width: int, blocks: int) -> nn.Sequential:
    """Gives one way from a latent to the image: shared layers, then own ones."""
    return nn.Sequential(
        *(Skip(4 * width) for _ in range(blocks)),
        *(nn.ConvTranspose2d(4 * width, 2 * width, 3, 2, 1, output_padding=1), nn.InstanceNorm2d(2 * width), nn.ReLU()),
        *(nn.ConvTranspose2d(2 * width, width, 3, 2, 1, output_padding=1), nn.InstanceNorm2d(width), nn.ReLU()),
        *(nn.ConvTranspose2d(width, channels, 1), nn.Tanh()),
    )


@torch.no_grad()
def with_weights_of(plain: nn.Module, *parts: nn.Module) -> nn.Module:
    """Gives the plain network with the weights of ours, in order."""
    ours = [parameter for part in parts for parameter in part.parameters()]
    theirs = list(plain.parameters())
    assert [parameter.shape for parameter in ours] == [parameter.shape for parameter in theirs]
    for parameter, value in zip(theirs, ours, strict=True):
        parameter.copy_(value)
    return plain


@pytest.mark.parametrize("channels", [1, 3])
def test_the_form_of_2017_is_what_plain_layers_are(channels: int) -> None:
    networks = UnitGenerators(replace(SMALL, channels=channels))
    initialise_weights(networks, "kaiming", torch.Generator().manual_seed(0))
    x = torch.rand(2, channels, 20, 24, generator=torch.Generator().manual_seed(1)) * 2 - 1
    for source, target in (("a", "b"), ("b", "a"), ("a", "a")):
        encoder = with_weights_of(plain_encoder(channels, 4, 3), networks.encoders[source], networks.shared_encoder)
        order = (networks.shared_decoder, networks.decoders[target])
        decoder = with_weights_of(plain_decoder(channels, 4, 3), *order)
        generator = networks.between(source, target)
        latent = encoder(x)
        assert latent.shape == (2, 16, 5, 6)
        torch.testing.assert_close(generator.encode(x), latent, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(generator.decode(latent), decoder(latent), atol=1e-5, rtol=1e-5)


def test_both_domains_pass_the_same_shared_layers_and_their_own_others() -> None:
    networks = UnitGenerators(SMALL)
    forth, back = networks.between("a", "b"), networks.between("b", "a")
    one_way, other_way = ({id(p) for p in generator.parameters()} for generator in (forth, back))
    shared = [*networks.shared_encoder.parameters(), *networks.shared_decoder.parameters()]
    assert one_way & other_way == {id(parameter) for parameter in shared}
    assert len(shared) == 2 * 4  # a block on either side: two convolutions with bias


def test_the_later_form_shares_nothing() -> None:
    networks = UnitGenerators(LATER)
    one_way, other_way = (
        {id(p) for p in networks.between(source, target).parameters()} for source, target in ("ab", "ba")
    )
    assert not one_way & other_way
    assert one_way
    assert one_way | other_way == {id(parameter) for parameter in networks.parameters()}


@pytest.mark.parametrize("shape", [SMALL, LATER], ids=["shared", "later"])
@pytest.mark.parametrize("halvings", [1, 3])
def test_images_come_back_in_their_size_and_range(shape: UnitShape, halvings: int) -> None:
    networks = UnitGenerators(replace(shape, n_downsample=halvings))
    x = torch.rand(2, 3, 16, 32) * 2 - 1
    latent = networks.encode("a", x)
    assert latent.shape == (2, 4 * 2**halvings, 16 // 2**halvings, 32 // 2**halvings)
    image = networks.decode("b", latent)
    assert image.shape == x.shape
    assert image.abs().max() <= 1


def convolution(wide: int, narrow: int, kernel: int) -> int:
    return wide * (narrow * kernel * kernel + 1)


def test_the_published_generators_of_2017_have_as_many_parameters_as_counted_by_hand() -> None:
    with torch.device("meta"):
        networks = UnitGenerators(UnitConfig.preset("paper").shape)
    block = 2 * convolution(256, 256, 3)
    encoder = convolution(64, 3, 7) + convolution(128, 64, 3) + convolution(256, 128, 3) + 3 * block
    decoder = 3 * block + convolution(128, 256, 3) + convolution(64, 128, 3) + convolution(3, 64, 1)
    assert sum(p.numel() for p in networks.parameters()) == 2 * (encoder + decoder) + 2 * block == 18_017_286


def test_the_published_later_generators_are_munits_without_style() -> None:
    with torch.device("meta"):
        networks = UnitGenerators(UnitConfig.preset("later").shape)
    assert sum(p.numel() for p in networks.parameters()) == 2 * (5_385_856 + 5_754_627)


def test_the_published_discriminator_of_2017_has_as_many_parameters_as_counted_by_hand() -> None:
    with torch.device("meta"):
        discriminator = UnitConfig.preset("paper").discriminator()
    widths = [3, 64, 128, 256, 512, 1024, 2048]
    strided = sum(convolution(wide, narrow, 3) for narrow, wide in pairwise(widths))
    assert sum(p.numel() for p in discriminator.parameters()) == strided + 2048 + 1 == 25_149_057


def test_the_discriminator_is_what_plain_layers_are() -> None:
    ours = SharedFormDiscriminator(2, 4, 2, 1)
    strided = [nn.Conv2d(2, 4, 3, stride=2, padding=1), nn.Conv2d(4, 8, 3, stride=2, padding=1)]
    plain = with_weights_of(
        nn.Sequential(strided[0], nn.LeakyReLU(), strided[1], nn.LeakyReLU(), nn.Conv2d(8, 1, 1)), ours
    )
    x = torch.randn(2, 2, 17, 30)
    (found,) = ours(x)
    torch.testing.assert_close(found, plain(x))


def test_each_scale_sees_half_the_image_with_weights_of_its_own() -> None:
    discriminator = SharedFormDiscriminator(1, 4, 2, 3)
    x = torch.randn(1, 1, 32, 32)
    maps = discriminator(x)
    assert [tuple(scores.shape[2:]) for scores in maps] == [(8, 8), (4, 4), (2, 2)]
    alone = SharedFormDiscriminator(1, 4, 2, 1)
    alone.scales[0].load_state_dict(discriminator.scales[1].state_dict())
    torch.testing.assert_close(alone(SmoothHalving("replicate")(x))[0], maps[1])


@pytest.mark.parametrize("side", [16, 17])
def test_deep_discriminators_judge_small_images(side: int) -> None:
    (scores,) = SharedFormDiscriminator(1, 2, 6, 1)(torch.randn(2, 1, side, side))
    assert scores.shape == (2, 1, 1, 1)
