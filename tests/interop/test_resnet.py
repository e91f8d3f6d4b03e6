"""Published ResNet generators: what their files tell, equal outputs, and files that are something else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from munitaug.interop.resnet import read_resnet_generator
from munitaug.networks.resnet import ResnetGenerator, ResnetShape
from munitaug.types import CheckpointError
from tests.interop.published_resnet import Published, published, saved, some_images

LAYOUTS = [
    {},
    {"blocks": 6},
    {"blocks": 9, "dropout": True},
    {"smooth_down": True, "smooth_up": True},
    {"blocks": 9, "width": 2, "smooth_down": True, "smooth_up": True, "dropout": True},
    {"smooth_down": True},
    {"smooth_up": True},
    {"channels": 1, "width": 6},
]


def generator_of(path: Path) -> ResnetGenerator:
    read = read_resnet_generator(path)
    generator = ResnetGenerator(read.shape)
    read.copy_to(generator)
    return generator.eval()


def largest_difference(network: Published, generator: ResnetGenerator, images: Tensor) -> float:
    with torch.no_grad():
        return float((network(images) - generator(images)).abs().max())


@pytest.mark.parametrize("sizes", LAYOUTS, ids=str)
def test_a_generator_gives_the_images_of_the_published_one(sizes: dict[str, int | bool], tmp_path: Path) -> None:
    network = published(**sizes)
    images = some_images(int(sizes.get("channels", 3)))
    assert network(images).std() > 0.1  # something that could differ
    assert largest_difference(network, generator_of(saved(network.state_dict(), tmp_path / "g.pth")), images) <= 1e-5


@pytest.mark.parametrize("sizes", LAYOUTS, ids=str)
def test_sizes_are_read_from_names_and_shapes(sizes: dict[str, int | bool], tmp_path: Path) -> None:
    shape = read_resnet_generator(saved(published(**sizes).state_dict(), tmp_path / "g.pth")).shape
    wanted = {"channels": 3, "width": 4, "blocks": 3, "smooth_down": False, "smooth_up": False} | sizes
    wanted.pop("dropout", None)
    assert shape == ResnetShape(*wanted.values())  # type: ignore[arg-type]


def test_published_names_are_those_of_the_official_files() -> None:
    """Names that taesungp/contrastive-unpaired-translation and junyanz/pytorch-CycleGAN-and-pix2pix save."""
    plain = {name for name in published(blocks=9).state_dict() if name.endswith(".weight")}
    assert {"model.1.weight", "model.4.weight", "model.7.weight", "model.10.conv_block.1.weight"} <= plain
    assert {"model.18.conv_block.5.weight", "model.19.weight", "model.22.weight", "model.26.weight"} <= plain
    smooth = set(published(blocks=9, smooth_down=True, smooth_up=True).state_dict())
    assert {"model.7.filt", "model.8.weight", "model.11.filt", "model.12.conv_block.1.weight"} <= smooth
    assert {"model.21.filt", "model.22.weight", "model.25.filt", "model.26.weight", "model.30.weight"} <= smooth


def with_prefix(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"module.{name}": value for name, value in weights.items()}


def with_statistics(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Gives them as PyTorch before 0.4 saved them."""
    statistics = {f"model.2.{part}": torch.full((4,), 9.0) for part in ("running_mean", "running_var")}
    inner = {f"model.10.conv_block.2.{part}": torch.full((16,), 9.0) for part in ("running_mean", "running_var")}
    return weights | statistics | inner | {"model.2.num_batches_tracked": torch.tensor(3)}


@pytest.mark.parametrize("change", [with_prefix, with_statistics])
def test_older_and_parallel_files_are_read(
    change: Callable[[dict[str, Tensor]], dict[str, Tensor]], tmp_path: Path
) -> None:
    network = published()
    generator = generator_of(saved(change(dict(network.state_dict())), tmp_path / "g.pth"))
    assert largest_difference(network, generator, some_images()) <= 1e-5


def test_half_precision_becomes_float32(tmp_path: Path) -> None:
    network = published().half()
    generator = generator_of(saved(network.state_dict(), tmp_path / "g.pth"))
    assert {parameter.dtype for parameter in generator.parameters()} == {torch.float32}
    assert largest_difference(network.float(), generator, some_images()) <= 1e-5


def without(name: str) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda weights: {key: value for key, value in weights.items() if key != name}


def beside(**more: Tensor) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda weights: weights | {name.replace("__", "."): value for name, value in more.items()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("model.4.weight"), r"lacks model\.4\.weight"),
        (without("model.11.conv_block.5.bias"), r"lacks model\.11\.conv_block\.5\.bias"),
        (without("model.1.weight"), r"holds no ResNet generator .* no 7 x 7 model\.1\.weight"),
        (lambda weights: {"model.1.weight": weights["model.1.weight"]}, "no residual blocks"),
        (beside(model__30__weight=torch.zeros(3)), r"has model\.30\.weight too"),
        (beside(model__4__weight=torch.zeros(8, 4, 5, 5)), r"model\.4\.weight is 8 x 4 x 5 x 5, but 8 x 4 x 3 x 3"),
        (beside(model__2__weight=torch.zeros(4)), "--norm batch"),
        (beside(model__20__bias=torch.zeros(1)), "images of 3 channels into images of 1"),
        (beside(model__1__weight=torch.zeros(4, 7, 7, 7)), "images of 7 channels into images of 3"),
        (lambda weights: {"model.model.0.weight": torch.zeros(4, 3, 4, 4)}, "U-net"),
        (lambda weights: {}, "state_dict"),
        (lambda weights: [1, 2], "state_dict"),
    ],
)
def test_another_file_is_refused_with_what_is_missing(
    change: Callable[[dict[str, Tensor]], object], message: str, tmp_path: Path
) -> None:
    path = saved(change(dict(published().state_dict())), tmp_path / "g.pth")
    with pytest.raises(CheckpointError, match=message) as caught:
        generator_of(path)
    assert "g.pth" in str(caught.value)


@pytest.mark.parametrize("name", ["model.7.filt", "model.15.filt"])
@pytest.mark.parametrize("change", [lambda filt: 2 * filt, lambda filt: filt[:, :, :2, :2]], ids=["scaled", "smaller"])
def test_another_smoothing_filter_is_refused(name: str, change: Callable[[Tensor], Tensor], tmp_path: Path) -> None:
    weights = dict(published(smooth_down=True, smooth_up=True).state_dict())
    path = saved(weights | {name: change(weights[name])}, tmp_path / "g.pth")
    with pytest.raises(CheckpointError, match=rf"{name} is not the \d x \d smoothing filter"):
        generator_of(path)


def test_a_file_with_code_in_it_is_not_run(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="tensors only"):
        read_resnet_generator(saved(published(), tmp_path / "g.pth"))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_resnet_generator(tmp_path / "g.pth")
