"""CUT's published generator as a method."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from munitaug.interop.cut import read_cut
from tests.interop.published_resnet import published, saved, some_images
from tests.tiny import tiny_pair


@torch.no_grad()
def test_the_translator_gives_the_images_of_the_published_generator(tmp_path: Path) -> None:
    network = published(blocks=9, smooth_down=True, smooth_up=True)
    method = read_cut(saved(network.state_dict(), tmp_path / "g.pth"))
    assert method.directions == (("a", "b"),)
    found = method.translator("a", "b").translate(some_images(), torch.zeros(2, 1, 0)).squeeze(1)
    # rounding, which a deep network of random weights enlarges; weights in a wrong place differ by 0.1 and more
    torch.testing.assert_close(found, network(some_images()), atol=5e-5, rtol=0)


@torch.no_grad()
def test_features_are_those_of_the_published_layers(tmp_path: Path) -> None:
    """The published code compares the outputs of layers 0, 4, 8, 12 and 16."""
    network = published(blocks=9, smooth_down=True, smooth_up=True)
    method = read_cut(saved(network.state_dict(), tmp_path / "g.pth"))
    x, wanted = some_images(), []
    for place, layer in enumerate(network.model):
        x = layer(x)
        if place in (0, 4, 8, 12, 16):
            wanted.append(x)
    maps = method.generator.features(some_images(), method.config.feature_blocks)
    torch.testing.assert_close(maps, wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("blocks", "compared"), [(9, (1, 5)), (6, (1, 5)), (4, (1,))])
def test_it_can_be_trained_on(blocks: int, compared: tuple[int, ...], tmp_path: Path) -> None:
    method = read_cut(
        saved(published(blocks=blocks, smooth_down=True, smooth_up=True).state_dict(), tmp_path / "g.pth")
    )
    assert method.config.feature_blocks == compared
    for phase in method.phases():
        assert all(value.isfinite() for value in phase.loss(tiny_pair()).values())


def test_the_last_residual_block_may_be_compared(tmp_path: Path) -> None:
    method = read_cut(saved(published(blocks=5, smooth_down=True, smooth_up=True).state_dict(), tmp_path / "g.pth"))
    assert method.config.feature_blocks == (1, 5)
