"""The kernel gives images back as they came: dtype, range, channels, device."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from munitaug.kernel import translate_images, translator_device
from munitaug.translator import Translator
from munitaug.types import Content


class Brighter(Translator):
    """Adds the first number of the style to model images."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, size_multiple=4, style_dim=1)
        self.weight = torch.nn.Parameter(torch.ones(1))

    def encode_content(self, x: Tensor) -> Content:
        return x

    def decode(self, content: Content, style: Tensor) -> Tensor:
        assert isinstance(content, Tensor)
        return content + self.weight * style.view(-1, 1, 1, 1)

    def encode_style(self, y: Tensor) -> Tensor:
        return y.mean(dim=(1, 2, 3))[:, None]


@pytest.mark.parametrize(("images_have", "translator_takes"), [(3, 3), (1, 1), (1, 3), (3, 1), (4, 4)])
def test_bytes_come_back_as_bytes_with_their_channels(images_have: int, translator_takes: int) -> None:
    images = torch.full((2, images_have, 17, 19), 100, dtype=torch.uint8)
    out = translate_images(Brighter(translator_takes), images, torch.tensor([[[0.0], [0.2]], [[-0.2], [9.0]]]))
    assert out.shape == (2, 2, images_have, 17, 19)
    assert out.dtype == torch.uint8
    # 0.2 in [-1, 1] is 25.5 levels of 255; half levels may fall to either side
    for place, level in (((0, 0), 100), ((0, 1), 125.5), ((1, 0), 74.5), ((1, 1), 255)):
        assert (out[place].float() - level).abs().max() <= 0.5


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_floats_stay_in_zero_to_one_with_their_dtype(dtype: torch.dtype) -> None:
    out = translate_images(Brighter(3), torch.full((1, 3, 16, 16), 0.5, dtype=dtype), torch.tensor([[[0.2], [3.0]]]))
    assert out.dtype == dtype
    torch.testing.assert_close(out[0, 0], torch.full((3, 16, 16), 0.6, dtype=dtype))
    assert (out[0, 1] == 1).all()


def test_the_result_can_feed_training_and_keeps_no_graph() -> None:
    out = translate_images(Brighter(3), torch.rand(1, 3, 16, 16), torch.zeros(1, 1, 1))
    assert not out.requires_grad
    assert not out.is_inference()
    weight = torch.ones(1, requires_grad=True)
    (weight * out).sum().backward()
    assert weight.grad is not None


def test_the_input_is_left_alone() -> None:
    images = torch.rand(1, 3, 16, 16)
    before = images.clone()
    translate_images(Brighter(3), images, torch.ones(1, 1, 1))
    assert torch.equal(images, before)


def test_the_device_is_that_of_the_translator() -> None:
    assert translator_device(Brighter(1)) == torch.device("cpu")
    assert translator_device(Brighter(1).to("meta")) == torch.device("meta")


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (torch.zeros(1, 3, 16, 16, dtype=torch.int32), TypeError, "images must be uint8"),
        (torch.zeros(1, 2, 16, 16), ValueError, "image has 2 channels, but 3 are needed"),
        (torch.zeros(1, 3, 16, 12), ValueError, "image is 12 x 16 px"),
    ],
)
def test_what_cannot_be_translated_is_refused(images: Tensor, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        translate_images(Brighter(3), images, torch.zeros(1, 1, 1))
