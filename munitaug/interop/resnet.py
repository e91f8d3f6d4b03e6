"""Reads ResNet generators that CycleGAN's and CUT's published code saved: ``latest_net_G*.pth``.

The places of layers after junyanz/pytorch-CycleGAN-and-pix2pix and taesungp/contrastive-unpaired-translation,
models/networks.py, class ResnetGenerator (read, not copied).

Floor 5: imports floors 1-4.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from munitaug.interop.weights import Weights, as_weights, copy_weights, described, read_torch_file
from munitaug.networks.resnet import N_HALVINGS, ResnetShape
from munitaug.types import CheckpointError

RUNNING_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
"""Instance norms of PyTorch before 0.4 saved them and never used them."""
HALVING, DOUBLING = (1.0, 2.0, 1.0), (1.0, 3.0, 3.0, 1.0)
"""One row of the fixed filters, four times as large."""


@dataclass(frozen=True)
class ForeignGenerator:
    """A generator as a file held it.

    Args:
        shape: its sizes.
        weights: by the published code's names.
        names: those names by ours.
        where: the file, for errors.
    """

    shape: ResnetShape
    weights: Weights
    names: dict[str, str]
    where: str

    def copy_to(self, generator: nn.Module) -> None:
        """Copies the weights into a :class:`ResnetGenerator` of this shape.

        Raises:
            CheckpointError: weights are missing, left over, or of another shape.
        """
        copy_weights(generator, self.weights, self.names, self.where)


def read_resnet_generator(path: str | Path) -> ForeignGenerator:
    """Gives the generator of a file that the published code of CycleGAN or CUT saved.

    Channels, width, number of residual blocks, smoothing filters and dropout are seen in names and shapes. Dropout
    itself is left out: it does nothing outside training.

    Args:
        path: of the state dict; tensors are read and nothing else.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is damaged, no state dict, or of another network; the message says what is missing.
    """
    where = str(path)
    stored = {name.removeprefix("module."): value for name, value in as_weights(read_torch_file(path), where).items()}
    weights = {name: value for name, value in stored.items() if name.rsplit(".", 1)[-1] not in RUNNING_STATISTICS}
    shape = _shape_of(weights, where)
    dropout = any(".conv_block.6." in name for name in weights)
    layers, filters = _layers_and_filters(shape, dropout)
    for name, row in filters.items():
        _refuse_other_filter(weights.pop(name, None), row, f"{where}: {name}")
    parts = ("weight", "bias")
    names = {f"{own}.{part}": f"{theirs}.{part}" for theirs, own in layers.items() for part in parts}
    return ForeignGenerator(shape, weights, names, where)


def _shape_of(weights: Weights, where: str) -> ResnetShape:
    """Gives the sizes that names and shapes tell."""
    blocks = {_place(name) for name in weights if name.startswith("model.") and ".conv_block." in name}
    first = weights.get("model.1.weight")
    if first is None or first.ndim != 4 or not blocks:
        missing = "no residual blocks (model.N.conv_block)" if first is not None else "no 7 x 7 model.1.weight"
        raise CheckpointError(
            f"{where} holds no ResNet generator of CycleGAN or CUT: it is {described(weights)} with {missing}; U-net "
            "and StyleGAN2 generators and discriminators cannot be converted"
        )
    if "model.2.weight" in weights:
        raise CheckpointError(
            f"{where} was trained with a norm that has weights (--norm batch); only instance norm without weights, the "
            "published default, can be converted"
        )
    (width, channels), made = first.shape[:2], _channels_made(weights)
    if made != channels:
        raise CheckpointError(
            f"{where} translates images of {channels} channels into images of {made}; munitaug needs the same number "
            "in both domains"
        )
    smoothing = [_place(name) for name in weights if name.startswith("model.") and name.endswith(".filt")]
    try:
        return ResnetShape(
            channels=channels,
            width=width,
            n_residual=len(blocks),
            antialias_down=any(place < min(blocks) for place in smoothing),
            antialias_up=any(place > max(blocks) for place in smoothing),
        )
    except ValueError as error:
        raise CheckpointError(f"{where}: {error}") from error


def _place(name: str) -> int:
    """Gives N of ``model.N...``; -1 where there is no number."""
    number = name.split(".")[1]
    return int(number) if number.isdecimal() else -1


def _channels_made(weights: Weights) -> int:
    """Gives the channels that the last convolution makes, by its bias."""
    biases = [name for name in weights if name.startswith("model.") and name.count(".") == 2 and name.endswith(".bias")]
    return len(weights[max(biases, key=_place)]) if biases else 0


def _layers_and_filters(shape: ResnetShape, dropout: bool) -> tuple[dict[str, str], dict[str, tuple[float, ...]]]:
    """Gives our layers by the published code's, and the row of each of its fixed filters.

    Its layers stand in one list: a padding before the first and last convolution; a norm and an activation after each
    but the last; a filter after those of the way down and before those of the way up.
    """
    layers = {"model.1": "first"}
    filters: dict[str, tuple[float, ...]] = {}
    place = 4
    for index in range(N_HALVINGS):
        layers[f"model.{place}"] = f"down.{index}"
        place += 3
        if shape.antialias_down:
            filters[f"model.{place}.filt"] = HALVING
            place += 1
    for index in range(shape.n_residual):
        layers[f"model.{place}.conv_block.1"] = f"blocks.{index}.first.conv"
        layers[f"model.{place}.conv_block.{6 if dropout else 5}"] = f"blocks.{index}.second.conv"
        place += 1
    for index in range(N_HALVINGS):
        if shape.antialias_up:
            filters[f"model.{place}.filt"] = DOUBLING
            place += 1
        layers[f"model.{place}"] = f"up.{index}"
        place += 3
    layers[f"model.{place + 1}"] = "last"
    return layers, filters


def _refuse_other_filter(found: Tensor | None, row: tuple[float, ...], where: str) -> None:
    wanted = torch.outer(torch.tensor(row), torch.tensor(row)) / 16.0
    if found is None or found.shape[-2:] != wanted.shape or not bool((found.float() - wanted).abs().max() < 1e-6):
        raise CheckpointError(f"{where} is not the {len(row)} x {len(row)} smoothing filter of the published code")
