"""The ResNet generator: published sizes, the range of its images, the maps that CUT compares."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from munitaug.networks.resnet import ResnetGenerator, ResnetShape
from tests.oracles import count_parameters

TINY = ResnetShape(channels=2, width=4, n_residual=3)
SMOOTH = ResnetShape(channels=2, width=4, n_residual=3, antialias_down=True, antialias_up=True)


@pytest.mark.parametrize(("blocks", "parameters"), [(9, 11_378_179), (6, 7_837_699)])
@pytest.mark.parametrize("antialias", [False, True])
def test_it_has_the_published_number_of_parameters(blocks: int, parameters: int, antialias: bool) -> None:
    with torch.device("meta"):
        generator = ResnetGenerator(ResnetShape(3, 64, blocks, antialias, antialias))
    assert count_parameters(generator) == parameters


@pytest.mark.parametrize("shape", [TINY, SMOOTH], ids=["strided", "smooth"])
def test_images_keep_their_size_and_range(shape: ResnetShape) -> None:
    out = ResnetGenerator(shape)(torch.rand(2, 2, 16, 28) * 2 - 1)
    assert out.shape == (2, 2, 16, 28)
    assert out.dtype == torch.float32
    assert out.abs().max() <= 1


@pytest.mark.parametrize("shape", [TINY, SMOOTH], ids=["strided", "smooth"])
def test_features_have_the_sizes_and_channels_that_the_shape_says(shape: ResnetShape) -> None:
    maps = ResnetGenerator(shape).features(torch.randn(2, 2, 16, 24), (1, 3))
    assert tuple(features.shape[1] for features in maps) == shape.feature_widths((1, 3)) == (2, 8, 16, 16, 16)
    halves = 1 if shape.antialias_down else 2  # a strided convolution has halved its own map already
    sizes = [(22, 30), (16 // halves, 24 // halves), (8 // halves, 12 // halves), (4, 6), (4, 6)]
    assert [tuple(features.shape[2:]) for features in maps] == sizes


def test_features_are_those_on_the_way_to_the_content() -> None:
    generator = ResnetGenerator(SMOOTH)
    x = torch.randn(2, 2, 16, 16)
    content, maps = generator.encode_with_features(x, (1, 3))
    torch.testing.assert_close(maps[0], F.pad(x, (3, 3, 3, 3), mode="reflect"))
    torch.testing.assert_close(maps[-1], content)
    torch.testing.assert_close(content, generator.encode(x))
    torch.testing.assert_close(generator.features(x, (1, 3)), maps)


def test_features_need_no_layer_behind_the_last_of_them() -> None:
    generator = ResnetGenerator(TINY)
    before = generator.features(torch.ones(1, 2, 16, 16), (1,))
    del generator.blocks[1:]
    torch.testing.assert_close(generator.features(torch.ones(1, 2, 16, 16), (1,)), before)


@pytest.mark.parametrize(
    ("fields", "message"),
    [((0, 4, 1), "channels must be 1 to 4"), ((3, 0, 1), "width must be"), ((3, 4, 0), "n_residual must be")],
)
def test_sizes_that_cannot_be_are_refused(fields: tuple[int, int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ResnetShape(*fields)
