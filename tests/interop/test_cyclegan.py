"""CycleGAN's published generators as a method: both directions, one alone, and what does not belong together."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from munitaug.checkpoint import load_method, save_method
from munitaug.interop.cyclegan import read_cyclegan
from munitaug.types import CheckpointError
from tests.interop.published_resnet import published, saved, some_images
from tests.tiny import tiny_pair

NO_STYLE = torch.zeros(2, 1, 0)


@torch.no_grad()
def test_both_directions_are_those_of_the_files(tmp_path: Path) -> None:
    there, back = published(1), published(2)
    paths = [saved(net.state_dict(), tmp_path / f"{number}.pth") for number, net in enumerate((there, back))]
    method = read_cyclegan(*paths)
    assert method.directions == (("a", "b"), ("b", "a"))
    for network, translator in ((there, method.translator("a", "b")), (back, method.translator("b", "a"))):
        found = translator.translate(some_images(), NO_STYLE).squeeze(1)
        torch.testing.assert_close(found, network(some_images()), atol=1e-5, rtol=0)


@torch.no_grad()
def test_one_file_gives_one_direction_that_survives_a_checkpoint(tmp_path: Path) -> None:
    network = published(blocks=6)
    method = read_cyclegan(saved(network.state_dict(), tmp_path / "g.pth"))
    again = load_method(save_method(method, tmp_path / "checkpoint"))
    assert again.directions == (("a", "b"),)
    found = again.translator("a", "b").translate(some_images(), NO_STYLE).squeeze(1)
    torch.testing.assert_close(found, network(some_images()), atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="a2b only"):
        again.translator("b", "a")


def test_it_is_ready_for_use_and_can_be_trained_on(tmp_path: Path) -> None:
    path = saved(published().state_dict(), tmp_path / "g.pth")
    method = read_cyclegan(path, path)
    assert not method.training
    for phase in method.phases():
        assert all(value.isfinite() for value in phase.loss(tiny_pair()).values())


def test_generators_of_different_sizes_are_refused(tmp_path: Path) -> None:
    first = saved(published().state_dict(), tmp_path / "first.pth")
    second = saved(published(blocks=4).state_dict(), tmp_path / "second.pth")
    with pytest.raises(CheckpointError, match=r"first\.pth and .*second\.pth hold generators of different sizes"):
        read_cyclegan(first, second)
