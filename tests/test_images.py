"""Ranges, layouts and channel counts, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from munitaug.images import (
    Padding,
    array_to_tensor,
    check_pixels,
    crop_padding,
    images_to_grid,
    images_to_model,
    match_channels,
    model_to_images,
    model_to_uint8,
    model_to_unit,
    pad_to_multiple,
    resize_uint8,
    tensor_to_array,
    tensor_to_pil,
    uint8_to_model,
    unit_to_model,
)


def test_black_is_minus_one_and_white_is_one() -> None:
    assert uint8_to_model(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [-1.0, 1.0]
    assert unit_to_model(torch.tensor([0.0, 0.5, 1.0])).tolist() == [-1.0, 0.0, 1.0]


def test_every_grey_level_comes_back() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(model_to_uint8(uint8_to_model(levels)), levels)


def test_values_outside_the_range_are_clamped_and_do_not_wrap() -> None:
    values = torch.tensor([-7.0, -1.01, 1.01, 7.0])
    assert model_to_uint8(values).tolist() == [0, 0, 255, 255]
    assert model_to_unit(values).tolist() == [0.0, 0.0, 1.0, 1.0]


def test_bytes_are_rounded_to_the_nearest_level() -> None:
    assert model_to_uint8(torch.tensor([100.4, 100.6]) / 127.5 - 1).tolist() == [100, 101]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.float32, torch.float64])
def test_a_conversion_there_and_back_keeps_dtype_and_values(dtype: torch.dtype) -> None:
    images = torch.tensor([0, 51, 255]).to(dtype) if dtype == torch.uint8 else torch.tensor([0.0, 0.2, 1.0]).to(dtype)
    model = images_to_model(images)
    assert model.dtype == torch.float32
    torch.testing.assert_close(model, torch.tensor([-1.0, -0.6, 1.0]), atol=1e-3, rtol=0)
    back = model_to_images(model, dtype)
    assert back.dtype == dtype
    torch.testing.assert_close(back, images)


def test_conversions_leave_their_input_alone() -> None:
    model = torch.tensor([-0.5, 0.5])
    model_to_uint8(model)
    model_to_unit(model)
    assert model.tolist() == [-0.5, 0.5]


def test_other_dtypes_are_refused() -> None:
    with pytest.raises(TypeError, match=r"uint8 in \[0, 255\] or floating in \[0, 1\], got torch.int64"):
        images_to_model(torch.zeros(1, dtype=torch.int64))


@pytest.mark.parametrize("negative", [False, True])
def test_what_bicubic_resizing_adds_is_let_pass(negative: bool) -> None:
    """Halfway between pixels the weights of a = -0.75 are -3/32, 19/32, 19/32, -3/32; here those below 0 meet ones."""
    outer = torch.tensor([True, False, False, True])
    image = (outer[:, None] ^ outer).float().view(1, 1, 4, 4)
    resized = F.interpolate(1.0 - image if negative else image, size=(1, 1), mode="bicubic")
    overshoot = 2 * (6 / 32) * (38 / 32)
    assert float(resized) == pytest.approx(1.0 + overshoot if negative else -overshoot)
    check_pixels(resized)


def test_values_on_an_accelerator_are_not_looked_at() -> None:
    check_pixels(torch.zeros(0, 3, 16, 16))
    check_pixels(torch.empty(3, 16, 16, device="meta"))
    with pytest.raises(TypeError, match=r"the image must be uint8 .* got torch.int32"):
        check_pixels(torch.empty(3, 16, 16, device="meta", dtype=torch.int32), "the image")


def test_grey_is_repeated_to_colour() -> None:
    grey = torch.rand(2, 1, 3, 4)
    colour = match_channels(grey, 3)
    assert colour.shape == (2, 3, 3, 4)
    assert all(torch.equal(colour[:, band], grey[:, 0]) for band in range(3))
    colour[:, 0] = 7.0
    assert torch.equal(colour[:, 1], grey[:, 0])


def test_colour_is_reduced_to_luminance() -> None:
    colour = torch.tensor([1.0, 0.5, -1.0]).view(3, 1, 1)
    assert match_channels(colour, 1).item() == pytest.approx(0.299 * 1 + 0.587 * 0.5 - 0.114)


def test_grey_survives_the_way_over_colour() -> None:
    grey = torch.rand(2, 4, 1, 5, 5) * 2 - 1
    torch.testing.assert_close(match_channels(match_channels(grey, 3), 1), grey)


@pytest.mark.parametrize(("present", "wanted"), [(2, 3), (3, 4), (4, 1), (1, 2)])
def test_other_changes_of_channels_are_refused(present: int, wanted: int) -> None:
    with pytest.raises(ValueError, match=f"image has {present} channels, but {wanted} are needed"):
        match_channels(torch.zeros(1, present, 2, 2), wanted)


def test_arrays_and_tensors_are_transposes_of_one_another() -> None:
    array = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    tensor = array_to_tensor(array)
    assert tensor.shape == (3, 2, 4)
    assert tensor[1, 0, 2].item() == array[0, 2, 1]
    assert np.array_equal(tensor_to_array(tensor), array)
    assert array_to_tensor(array[:, :, 0]).shape == (1, 2, 4)
    tensor.zero_()
    assert array[1, 3, 2] == 23


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (2, "LA"), (3, "RGB"), (4, "RGBA")])
def test_a_pil_image_has_the_mode_of_its_channels(channels: int, mode: str) -> None:
    image = tensor_to_pil(torch.full((channels, 5, 7), 9, dtype=torch.uint8))
    assert (image.mode, image.size) == (mode, (7, 5))


def test_resizing_averages_and_keeps_what_has_the_size() -> None:
    checker = torch.tensor([[0, 200], [200, 0]], dtype=torch.uint8).repeat(4, 4)[None, None]
    assert resize_uint8(checker, 8) is checker
    small = resize_uint8(checker, 2)
    assert small.dtype == torch.uint8
    assert small.float().sub(100).abs().max() <= 1


@pytest.mark.parametrize(
    ("height", "width", "multiple"), [(17, 30, 4), (16, 16, 4), (16, 23, 8), (5, 4, 4), (33, 64, 16)]
)
def test_padding_reaches_the_multiple_and_is_cropped_off_again(height: int, width: int, multiple: int) -> None:
    images = torch.rand(2, 3, height, width)
    padded, padding = pad_to_multiple(images, multiple)
    assert padded.shape[2] % multiple == padded.shape[3] % multiple == 0
    assert padded.shape[2] - height < multiple
    assert padded.shape[3] - width < multiple
    assert torch.equal(crop_padding(padded, padding), images)


def test_padding_mirrors_the_image_without_its_border() -> None:
    padded, padding = pad_to_multiple(torch.arange(6.0).view(1, 1, 1, 6).expand(1, 1, 8, 6), 8)
    assert padding == Padding(left=1, right=1, top=0, bottom=0)
    assert padded[0, 0, 0].tolist() == [1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 4.0]


def test_nothing_is_copied_where_nothing_is_missing() -> None:
    images = torch.rand(1, 1, 8, 4)
    padded, padding = pad_to_multiple(images, 4)
    assert padded is images
    assert not any(padding)


def test_a_grid_puts_images_row_by_row_on_white() -> None:
    images = torch.stack([torch.full((1, 2, 3), value, dtype=torch.uint8) for value in (10, 20, 30)])
    grid = images_to_grid(images, columns=2, gap_px=1, scale=2)
    assert grid.shape == (1, 1 + 2 * (4 + 1), 1 + 2 * (6 + 1))
    assert grid[0, 1, 1] == grid[0, 4, 6] == 10
    assert grid[0, 1, 8] == 20
    assert grid[0, 6, 1] == 30
    assert grid[0, 6, 8] == grid[0, 0, 0] == grid[0, 5, 1] == grid[0, 1, 7] == 255
