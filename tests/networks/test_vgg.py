"""VGG-16 features from a file, against torchvision's own."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import vgg16

from munitaug.networks.vgg import load_vgg_features

IMAGENET_MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
IMAGENET_DEVIATION = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


@pytest.fixture(scope="module")
def torchvision_features() -> nn.Sequential:
    """Gives torchvision's convolutional part with seeded He weights; the classifier is never allocated."""
    with torch.device("meta"):
        features = vgg16(weights=None).features
    features = features.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in features.parameters():
            deviation = (2 / parameter[0].numel()) ** 0.5 if parameter.ndim == 4 else 0.1
            parameter.normal_(0.0, deviation, generator=generator)
    assert isinstance(features, nn.Sequential)
    return features


def weights_of(features: nn.Sequential) -> dict[str, Tensor]:
    return {f"features.{name}": value for name, value in features.state_dict().items()}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_features_equal_torchvision_without_the_pooling_before_block_5(
    torchvision_features: nn.Sequential, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"vgg16{suffix}"
    if suffix == ".pth":
        torch.save(weights_of(torchvision_features), path)
    else:
        save_file(weights_of(torchvision_features), path)
    network = load_vgg_features(path)
    x = torch.rand(2, 3, 32, 16) * 2 - 1
    expected = ((x + 1) / 2 - IMAGENET_MEAN) / IMAGENET_DEVIATION
    for index, layer in enumerate(torchvision_features):
        if index != 23 and index <= 29:
            expected = layer(expected)
    out = network(x)
    assert out.shape == (2, 512, 4, 2)
    torch.testing.assert_close(out, expected, atol=1e-4, rtol=1e-4)
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert not network.training


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist; save torchvision's VGG-16 weights"):
        load_vgg_features(tmp_path / "none.pth")


def test_a_file_that_lacks_one_layer_is_refused(torchvision_features: nn.Sequential, tmp_path: Path) -> None:
    weights = weights_of(torchvision_features)
    del weights["features.5.bias"]
    torch.save(weights, tmp_path / "vgg.pth")
    with pytest.raises(ValueError, match=r"holds no torchvision VGG-16 weights .*features\.5\.bias"):
        load_vgg_features(tmp_path / "vgg.pth")


@pytest.mark.parametrize("name", ["vgg.pth", "vgg.safetensors"])
@pytest.mark.parametrize("content", [b"", b"not weights", pickle.dumps({"features.0.weight": 3}, protocol=2)])
def test_a_foreign_file_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match="holds no torchvision VGG-16 weights"):
        load_vgg_features(tmp_path / name)


def test_a_harmful_pickle_is_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "marker"

    class Harmful:
        def __reduce__(self) -> tuple[object, ...]:
            return open, (str(marker), "w")

    torch.save({"features.0.weight": Harmful()}, tmp_path / "vgg.pth")
    with pytest.raises(ValueError, match="holds no torchvision VGG-16 weights"):
        load_vgg_features(tmp_path / "vgg.pth")
    assert not marker.exists()
