"""The kernel gives images back as they came: dtype, range, channels, device."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from munitaug.kernel import images_to_styles, style_codes, translate_images, translator_device
from munitaug.methods import Munit
from munitaug.translator import Translator
from munitaug.types import Content
from tests.tiny import TINY


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


def test_strength_blends_the_style_with_that_of_the_image() -> None:
    # Two images of 0.75 and 0.25 are 0.5 and -0.5 in [-1, 1], which are their own styles. Drawn styles are 0.2.
    images = torch.tensor([0.75, 0.25]).view(2, 1, 1, 1).expand(2, 3, 16, 16)
    out = translate_images(
        Brighter(3), images, torch.full((2, 3, 1), 0.2), torch.tensor([[1.0, 0.5, 0.0], [1.0, 0.5, 0.0]])
    )
    # Half of 0.2 and half of 0.5 is 0.35, half of 0.2 and half of -0.5 is -0.15; added in [-1, 1], they count half.
    expected = torch.tensor([[0.85, 0.925, 1.0], [0.35, 0.175, 0.0]])
    torch.testing.assert_close(out.mean(dim=(2, 3, 4)), expected)


def test_no_strength_encodes_no_style(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Brighter, y: Tensor) -> Tensor:
        raise AssertionError("encode_style was called")

    monkeypatch.setattr(Brighter, "encode_style", refuse)
    translate_images(Brighter(3), torch.rand(1, 3, 16, 16), torch.zeros(1, 1, 1))


@pytest.mark.parametrize("size", [(16, 16), (17, 30), (19, 33)])
def test_own_styles_are_encoded_at_multiples_of_the_size(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, ...]] = []

    def mean(self: Brighter, y: Tensor) -> Tensor:
        seen.append(tuple(y.shape))
        return y.mean(dim=(1, 2, 3))[:, None]

    monkeypatch.setattr(Brighter, "encode_style", mean)
    assert style_codes(Brighter(3), torch.full((2, 3, *size), 0.5)).tolist() == [[0.5], [0.5]]
    assert seen == [(2, 3, -(-size[0] // 4) * 4, -(-size[1] // 4) * 4)]


def test_own_styles_of_no_image_and_of_a_small_one() -> None:
    assert style_codes(Brighter(3), torch.zeros(0, 3, 16, 16)).shape == (0, 1)
    with pytest.raises(ValueError, match="exemplar is 12 x 16 px, but sides of at least 16"):
        style_codes(Brighter(3), torch.zeros(1, 3, 16, 12), "exemplar")


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


def test_codes_of_images_are_those_of_the_style_encoder() -> None:
    translator = Munit(TINY).eval().translator("a", "b")
    images = torch.randint(0, 256, (5, 3, 16, 16), dtype=torch.uint8)
    codes = images_to_styles(translator, images, batch_size=2)
    torch.testing.assert_close(codes, translator.encode_style(images.float() / 127.5 - 1.0), atol=1e-5, rtol=1e-4)
    assert not codes.requires_grad
    grey = images_to_styles(translator, images[:, :1])
    torch.testing.assert_close(grey, images_to_styles(translator, images[:, :1].expand(-1, 3, -1, -1)))
    assert images_to_styles(translator, images[:0]).shape == (0, TINY.style_dim)


@pytest.mark.parametrize("images", [torch.full((2, 3, 16, 16), -0.9), torch.full((2, 3, 16, 16), float("nan"))])
def test_styles_of_another_range_are_refused(images: Tensor) -> None:
    with pytest.raises(ValueError, match="images"):
        images_to_styles(Brighter(3), images)
