"""The multi-scale discriminator."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from munitaug.methods import MunitConfig
from munitaug.networks.discriminator import DiscriminatorShape, MultiScaleDiscriminator
from tests.oracles import halved

SMALL = DiscriminatorShape(channels=3, width=4, n_layers=2, n_scales=3)


def test_the_published_sizes_have_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        discriminator = MultiScaleDiscriminator(MunitConfig.preset("paper").discriminator_shape)
    assert sum(parameter.numel() for parameter in discriminator.parameters()) == 3 * 2_757_057 == 8_271_171


def test_each_scale_gives_a_map_of_patches_largest_first() -> None:
    maps = MultiScaleDiscriminator(SMALL)(torch.randn(2, 3, 32, 48))
    assert [tuple(scores.shape) for scores in maps] == [(2, 1, 8, 12), (2, 1, 4, 6), (2, 1, 2, 3)]


def test_each_scale_has_weights_of_its_own_and_sees_the_image_halved() -> None:
    discriminator, image = MultiScaleDiscriminator(SMALL), torch.randn(3, 17, 16)
    maps = discriminator(image[None])
    for scores, scale in zip(maps, discriminator.scales, strict=True):
        torch.testing.assert_close(scores, scale(image[None]), atol=1e-5, rtol=1e-4)
        image = halved(image)
    first, second = (dict(scale.named_parameters()) for scale in list(discriminator.scales)[:2])
    assert not torch.equal(first["layers.0.conv.weight"], second["layers.0.conv.weight"])


def test_there_is_no_norm_so_a_patch_does_not_see_the_rest_of_the_image() -> None:
    discriminator = MultiScaleDiscriminator(DiscriminatorShape(3, 4, n_layers=2, n_scales=1))
    image = torch.randn(1, 3, 32, 32)
    changed = image.clone()
    changed[..., 16:] += 5.0
    before, after = discriminator(image)[0], discriminator(changed)[0]
    torch.testing.assert_close(before[..., :3], after[..., :3])
    assert not torch.allclose(before[..., 4:], after[..., 4:])


@pytest.mark.parametrize("side", [16, 17, 31])
@pytest.mark.parametrize(("layers", "scales"), [(4, 3), (5, 4), (1, 1)])
def test_deep_discriminators_judge_small_images(side: int, layers: int, scales: int) -> None:
    maps = MultiScaleDiscriminator(DiscriminatorShape(1, 2, layers, scales))(torch.randn(2, 1, side, side))
    assert len(maps) == scales
    assert all(scores.isfinite().all() and min(scores.shape[-2:]) >= 1 for scores in maps)


def test_spectral_norm_leaves_every_weight_with_singular_value_one() -> None:
    discriminator = MultiScaleDiscriminator(DiscriminatorShape(3, 4, 2, 2, spectral_norm=True))
    for _ in range(60):
        discriminator(torch.randn(1, 3, 16, 16))
    discriminator.eval()
    convolutions = [module for module in discriminator.modules() if isinstance(module, nn.Conv2d)]
    assert len(convolutions) == 6
    for module in convolutions:
        largest = torch.linalg.matrix_norm(module.weight.flatten(1), ord=2)
        assert largest.item() == pytest.approx(1.0, abs=0.02)
