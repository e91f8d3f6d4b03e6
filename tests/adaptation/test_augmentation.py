"""Classic augmentation: what it does to a dot, and that it does nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from munitaug.adaptation import ClassicAugmentation
from munitaug.random import torch_generator

NOTHING = {"rotation_deg": 0.0, "shear": 0.0, "scale": 0.0, "shift": 0.0, "contrast": 0.0, "noise": 0.0}


def only(**ranges: float) -> ClassicAugmentation:
    return ClassicAugmentation(**(NOTHING | ranges))


def draws(count: int, seed: int = 0) -> Tensor:
    """The first numbers that the generator gives: 8 an image, in [-1, 1]."""
    return torch.rand(count, 8, generator=torch_generator(seed)) * 2.0 - 1.0


def dot(row: int, column: int, side: int = 16) -> Tensor:
    image = torch.full((1, 1, side, side), -1.0)
    image[..., row, column] = 1.0
    return image


def centre(image: Tensor) -> tuple[float, float]:
    """Row and column of the centre of brightness."""
    mass = (image[0, 0] + 1.0) / 2.0
    places = torch.arange(16.0)
    return float((mass.sum(1) * places).sum() / mass.sum()), float((mass.sum(0) * places).sum() / mass.sum())


def test_no_range_changes_nothing() -> None:
    images = torch.rand(4, 3, 17, 20) * 2.0 - 1.0
    assert torch.allclose(only()(images, torch_generator(0)), images, atol=1e-5)


def test_equal_generators_give_equal_images() -> None:
    images = torch.rand(4, 1, 16, 16)
    augment = ClassicAugmentation()
    first, again = augment(images, torch_generator(3)), augment(images, torch_generator(3))
    assert torch.equal(first, again)
    assert not torch.equal(first, augment(images, torch_generator(4)))


def test_every_image_of_a_batch_is_changed_in_its_own_way() -> None:
    images = torch.rand(1, 1, 16, 16).expand(5, -1, -1, -1)
    changed = ClassicAugmentation()(images, torch_generator(0))
    assert len({float(image.double().sum()) for image in changed}) == 5


def test_images_stay_in_range_and_keep_their_shape() -> None:
    images = torch.randn(20, 3, 16, 24).sign()
    changed = ClassicAugmentation(noise=0.9, contrast=0.9)(images, torch_generator(0))
    assert changed.shape == images.shape
    assert changed.dtype == torch.float32
    assert float(changed.abs().max()) <= 1.0


@pytest.mark.parametrize("seed", range(4))
def test_a_shift_moves_a_dot_by_its_share_of_the_side(seed: int) -> None:
    right, down = (-0.1 * 16 * value for value in draws(1, seed)[0, 4:6].tolist())
    row, column = centre(only(shift=0.1)(dot(7, 8), torch_generator(seed)))
    assert row == pytest.approx(7 + down, abs=1e-3)
    assert column == pytest.approx(8 + right, abs=1e-3)
    assert max(abs(right), abs(down)) > 0.2


def test_a_quarter_turn_is_a_quarter_turn() -> None:
    image = torch.rand(1, 2, 16, 16)
    turned = only(rotation_deg=90.0 / float(draws(1)[0, 0]))(image, torch_generator(0))
    assert torch.allclose(turned, torch.rot90(image, 1, (2, 3)), atol=1e-4)


def test_scale_moves_a_dot_away_from_the_middle() -> None:
    wide = 1.0 + 0.3 * float(draws(1)[0, 1])
    _, column = centre(only(scale=0.3)(dot(8, 12), torch_generator(0)))
    assert column - 7.5 == pytest.approx((12 - 7.5) * wide, abs=0.5)


def test_shear_moves_the_top_and_the_bottom_apart() -> None:
    slope = 0.5 * float(draws(1)[0, 3])
    _, top = centre(only(shear=0.5)(dot(4, 8), torch_generator(0)))
    _, bottom = centre(only(shear=0.5)(dot(11, 8), torch_generator(0)))
    assert top - bottom == pytest.approx(7 * slope, abs=0.05)


def test_contrast_multiplies_every_pixel() -> None:
    images = torch.rand(3, 1, 16, 16) * 0.5
    factor = 1.0 + 0.2 * draws(3)[:, 6].view(-1, 1, 1, 1)
    assert torch.allclose(only(contrast=0.2)(images, torch_generator(0)), images * factor, atol=1e-5)


def test_noise_has_at_most_the_deviation_asked_for() -> None:
    changed = only(noise=0.1)(torch.zeros(50, 1, 16, 16), torch_generator(0))
    deviations = changed.flatten(1).std(dim=1)
    assert float(deviations.max()) < 0.12
    assert float(deviations.max()) > 0.07


def test_images_of_a_batch_are_not_mixed() -> None:
    values = torch.linspace(-0.9, 0.9, 10)
    images = values.view(-1, 1, 1, 1).expand(-1, 1, 16, 16)
    moved = only(rotation_deg=20.0, shear=0.3, scale=0.2, shift=0.2)(images, torch_generator(0))
    assert torch.allclose(moved, images, atol=1e-5)


def test_elastic_moves_follow_the_points_between_which_they_are_interpolated() -> None:
    """Where the corners of the drawn points are, the image shows what lay there before the move."""
    side = 31
    ramps = torch.stack(torch.meshgrid(torch.linspace(-0.5, 0.5, side), torch.linspace(-0.5, 0.5, side), indexing="ij"))
    bent = only(elastic=0.05)(ramps[None], torch_generator(3))[0]
    generator = torch_generator(3)
    torch.rand(1, 8, generator=generator), torch.randn(1, 2, side, side, generator=generator)
    right, down = 0.05 * torch.randn(1, 2, 4, 4, generator=generator)[0]
    pixels = torch.tensor([0, 10, 20, 30])  # points lie at every tenth pixel
    moved = (
        (bent - ramps)[:, pixels][:, :, pixels] * 2 * (side - 1) / side
    )  # a ramp of 1 over the centres of all pixels
    inner = slice(1, 3)  # near the border an image has no more to show
    torch.testing.assert_close(moved[0, inner, inner], down[inner, inner], atol=2e-3, rtol=0.02)
    torch.testing.assert_close(moved[1, inner, inner], right[inner, inner], atol=2e-3, rtol=0.02)


def test_without_elastic_moves_nothing_more_is_drawn() -> None:
    images, first, second = torch.rand(3, 1, 16, 16), torch_generator(0), torch_generator(0)
    only()(images, first)
    torch.rand(3, 8, generator=second), torch.randn(images.shape, generator=second)
    assert torch.equal(torch.rand(5, generator=first), torch.rand(5, generator=second))


def test_width_and_height_are_scaled_by_themselves() -> None:
    draw = torch.rand(20, 8) * 2.0 - 1.0
    matrices = ClassicAugmentation(rotation_deg=0.0, shear=0.0, scale=0.5, shift=0.0)._matrices(draw, 1.0)
    torch.testing.assert_close(matrices[:, 0, 0], 1.0 / (1.0 + 0.5 * draw[:, 1]))
    torch.testing.assert_close(matrices[:, 1, 1], 1.0 / (1.0 + 0.5 * draw[:, 2]))


@pytest.mark.parametrize(("height", "width"), [(32, 128), (100, 20), (16, 16)])
def test_a_turn_is_a_turn_on_images_that_are_not_square(height: int, width: int) -> None:
    """In pixels; the matrices are of coordinates in which either side has the length 2."""
    matrices = ClassicAugmentation(12.0, 0.0, 0.0, 0.0)._matrices(torch.rand(20, 8) * 2.0 - 1.0, height / width)
    sides = torch.tensor([width, height]) / 2.0
    of_pixels = sides[:, None] * matrices[:, :, :2] / sides
    torch.testing.assert_close(of_pixels @ of_pixels.mT, torch.eye(2).expand(20, 2, 2))
    assert float(of_pixels[:, 0, 1].abs().max()) > 0.1


def test_a_shear_is_a_share_of_the_height() -> None:
    matrices = ClassicAugmentation(0.0, 0.2, 0.0, 0.0)._matrices(torch.ones(1, 8), 32 / 128)
    assert matrices[0].tolist() == [[1.0, pytest.approx(0.2 * 32 / 128), 0.0], [0.0, 1.0, 0.0]]
