"""The PatchGAN discriminator: published size, patch side, small images."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from munitaug.networks.patchgan import PatchGan, PatchGanShape
from tests.oracles import count_parameters


@pytest.mark.parametrize("antialias", [False, True])
def test_it_has_the_published_number_of_parameters(antialias: bool) -> None:
    assert count_parameters(PatchGan(PatchGanShape(3, 64, 3, antialias))) == 2_764_737


def test_layers_grow_no_wider_than_eight_times_the_first() -> None:
    widths = [layer.out_channels for layer in PatchGan(PatchGanShape(1, 2, 5)).convolutions]
    assert widths == [2, 4, 8, 16, 16, 16]


@pytest.mark.parametrize(("layers", "side"), [(2, 34), (3, 70)])
def test_a_score_sees_the_published_patch(layers: int, side: int) -> None:
    """Without norms, which see the whole map, the gradient of one inner score covers its patch and no more."""
    discriminator = PatchGan(PatchGanShape(1, 2, layers))
    x = torch.rand(1, 1, 160, 160, dtype=torch.float64, requires_grad=True)
    y = x
    for layer in [*discriminator.double().convolutions, discriminator.score]:
        y = layer(y)
    y[0, 0, y.shape[2] // 2, y.shape[3] // 2].backward()
    assert x.grad is not None
    rows, columns = (places.unique().tolist() for places in x.grad[0, 0].nonzero().unbind(1))
    assert (rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1) == (side, side)


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize(("side", "layers", "scores"), [(256, 3, 30), (32, 3, 2), (16, 2, 2), (16, 3, 1), (16, 5, 1)])
def test_images_of_any_size_are_judged(side: int, layers: int, scores: int, antialias: bool) -> None:
    """The published code refuses the last two."""
    (out,) = PatchGan(PatchGanShape(1, 2, layers, antialias))(torch.rand(2, 1, side, side))
    assert out.shape == (2, 1, scores, scores)
    assert out.isfinite().all()


def test_its_layers_are_those_of_the_published_discriminator() -> None:
    """Instance norm in all layers but the first and the last, a stride in the first three."""
    discriminator, x = PatchGan(PatchGanShape(3, 4, 3)), torch.rand(2, 3, 32, 40)
    published = nn.Sequential(
        *(nn.Conv2d(3, 4, 4, 2, 1), nn.LeakyReLU(0.2)),
        *(nn.Conv2d(4, 8, 4, 2, 1), nn.InstanceNorm2d(8), nn.LeakyReLU(0.2)),
        *(nn.Conv2d(8, 16, 4, 2, 1), nn.InstanceNorm2d(16), nn.LeakyReLU(0.2)),
        *(nn.Conv2d(16, 32, 4, 1, 1), nn.InstanceNorm2d(32), nn.LeakyReLU(0.2)),
        nn.Conv2d(32, 1, 4, 1, 1),
    )
    weights = dict(zip(published.state_dict(), discriminator.state_dict().values(), strict=True))
    published.load_state_dict(weights)
    torch.testing.assert_close(discriminator(x)[0], published(x))


def test_images_of_a_batch_are_judged_one_by_one() -> None:
    discriminator, x = PatchGan(PatchGanShape(1, 4, 2)), torch.rand(3, 1, 16, 16)
    alone = torch.cat([discriminator(image[None])[0] for image in x])
    torch.testing.assert_close(discriminator(x)[0], alone)


@pytest.mark.parametrize(("fields", "message"), [((3, 0, 3), "discriminator_width"), ((3, 4, 0), "n_discriminator_la")])
def test_sizes_that_cannot_be_are_refused(fields: tuple[int, int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PatchGanShape(*fields)


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("layers", [3, 5])
def test_scores_of_the_smallest_images_depend_on_the_image(layers: int, antialias: bool) -> None:
    """A map of one number would be normalised to 0, whatever the image."""
    discriminator = PatchGan(PatchGanShape(1, 2, layers, antialias))
    (scores,) = discriminator(torch.rand(2, 1, 16, 16))
    assert not torch.allclose(scores[0], scores[1], atol=1e-4)
