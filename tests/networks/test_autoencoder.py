"""The auto-encoder: known counts, layouts and slices."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from munitaug.methods import MunitConfig
from munitaug.networks.autoencoder import AutoEncoder, AutoEncoderShape, Decoder, StyleEncoder, StyleMlp
from munitaug.networks.initialise import initialise_weights

SMALL = AutoEncoderShape(
    channels=3, width=4, n_downsample=2, n_style_downsample=3, n_residual=2, style_dim=5, mlp_width=6
)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_published_sizes_have_the_published_numbers_of_parameters() -> None:
    with torch.device("meta"):
        coder = AutoEncoder(MunitConfig.preset("paper").auto_encoder_shape)
    assert count(coder.content_encoder) == 5_385_856
    assert count(coder.style_encoder) == 2_764_936
    assert count(coder.decoder) == 5_754_627
    assert count(coder.style_mlp) == 1_120_768
    assert count(coder) == 15_026_187


def test_the_published_decoder_takes_4096_adain_numbers() -> None:
    assert Decoder.adain_count(MunitConfig.preset("paper").auto_encoder_shape) == 2 * 256 * 8


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_codes_and_images_have_the_promised_shapes(channels: int) -> None:
    shape = replace(SMALL, channels=channels)
    coder, x = AutoEncoder(shape), torch.rand(2, channels, 20, 24) * 2 - 1
    content, style = coder.encode(x)
    assert content.shape == (2, shape.content_channels, 5, 6) == (2, 16, 5, 6)
    assert style.shape == (2, 5)
    image = coder.decode(content, style)
    assert image.shape == x.shape
    assert image.dtype == torch.float32
    assert image.abs().max() <= 1


def test_images_stay_in_range_for_any_style() -> None:
    coder = AutoEncoder(SMALL)
    content = coder.content_encoder(torch.rand(1, 3, 16, 16))
    assert coder.decode(content, torch.full((1, 5), 1e4)).abs().max() <= 1


def test_content_does_not_see_brightness_and_contrast() -> None:
    coder, x = AutoEncoder(SMALL), torch.randn(1, 3, 16, 16)
    torch.testing.assert_close(coder.content_encoder(2 * x + 1), coder.content_encoder(x), atol=2e-2, rtol=2e-2)


def test_style_has_no_norm_so_twice_the_contrast_is_twice_the_style() -> None:
    coder, x = AutoEncoder(SMALL), torch.randn(1, 3, 16, 16)
    initialise_weights(coder, "kaiming", torch.Generator().manual_seed(0))  # biases are 0
    torch.testing.assert_close(coder.style_encoder(2 * x), 2 * coder.style_encoder(x))


@pytest.mark.parametrize("side", [16, 17, 64])
@pytest.mark.parametrize("halvings", [1, 4, 9])
def test_the_style_encoder_takes_small_images_however_deep_it_is(side: int, halvings: int) -> None:
    code = StyleEncoder(replace(SMALL, n_style_downsample=halvings))(torch.rand(1, 3, side, side))
    assert code.shape == (1, 5)
    assert code.isfinite().all()


def test_the_style_encoder_doubles_its_width_twice_only() -> None:
    encoder = StyleEncoder(replace(SMALL, n_style_downsample=4))
    widths = [layer.out_channels for layer in encoder.modules() if isinstance(layer, nn.Conv2d)]
    assert widths == [4, 8, 16, 16, 16, 5]


def test_the_mlp_is_three_linear_maps_with_relu_after_two() -> None:
    mlp, style = StyleMlp(2, 3, 4), torch.randn(5, 2)
    first, second, last = (layer for layer in mlp.layers if isinstance(layer, nn.Linear))
    hidden = (style @ first.weight.T + first.bias).clamp(min=0)
    hidden = (hidden @ second.weight.T + second.bias).clamp(min=0)
    torch.testing.assert_close(mlp(style), hidden @ last.weight.T + last.bias)


def test_each_residual_block_takes_its_own_slice_of_the_adain_numbers() -> None:
    decoder = Decoder(SMALL)
    width = SMALL.content_channels
    content = torch.randn(1, width, 4, 4)
    adain = torch.zeros(1, Decoder.adain_count(SMALL))
    # per block: shift, scale, shift, scale; only the second shift of each block reaches the output when scales are 0
    adain[:, 2 * width : 3 * width] = 3.0
    adain[:, 6 * width : 7 * width] = 4.0
    by_hand = content + 3.0 + 4.0
    x = by_hand
    for unit in decoder.upsampling:
        x = unit(x)
    torch.testing.assert_close(decoder(content, adain), decoder.to_image(x))


def test_the_image_multiple_follows_from_the_halvings() -> None:
    assert [replace(SMALL, n_downsample=n).size_multiple for n in (1, 2, 3)] == [2, 4, 8]
