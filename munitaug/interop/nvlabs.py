"""What NVlabs/MUNIT and mingyuliutw/UNIT have in common: files of two domains, YAML, encoders, discriminators.

Layer names and settings after their networks.py, trainer.py and configs/ (read, not copied).

Floor 5: imports floors 1-4.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from torch import nn

from munitaug.interop.weights import (
    Weights,
    as_weights,
    copy_weights,
    count_layers,
    described,
    listed,
    read_torch_file,
    size_of,
)
from munitaug.losses import GanLoss
from munitaug.method import OptimiserSettings
from munitaug.types import CheckpointError, DomainKey

DOMAINS: tuple[DomainKey, ...] = ("a", "b")
GAN_LOSSES: dict[str, GanLoss] = {"lsgan": "lsgan", "nsgan": "nsgan"}
GENERATOR_LAYERS = {"activ": "relu", "pad_type": "reflect"}
DISCRIMINATOR_LAYERS = {"norm": "none", "activ": "lrelu", "pad_type": "reflect"}
DISCRIMINATOR_SETTINGS = {"width": "dim", "n_layers": "n_layer", "n_scales": "num_scales"}
HALF = 0.5


@dataclass(frozen=True)
class DiscriminatorSizes:
    """What a file of discriminators says of their size; the defaults are the published ones."""

    channels: int
    width: int = 64
    n_layers: int = 4
    n_scales: int = 3


class Settings:
    """An official YAML, asked by name; without a file it says nothing.

    Args:
        path: of the file, or None.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is no such YAML.
    """

    def __init__(self, path: str | Path | None) -> None:
        self.path = path
        self.values: dict[str, object] = {} if path is None else _read_yaml(Path(path))

    def value(self, name: str, section: str = "") -> object:
        """Gives a setting, or None where the file does not have it."""
        place = self.values.get(section) if section else self.values
        return place.get(name) if isinstance(place, dict) else None

    def number(self, name: str, default: float, section: str = "") -> float:
        """Gives a number, or the default where the file does not have it.

        Raises:
            CheckpointError: it is something else.
        """
        value = self.value(name, section)
        if value is None:
            return default
        try:
            return float(str(value))  # YAML takes 1e-4 for text
        except ValueError:
            raise CheckpointError(f"{self._place(name, section)} should be a number, got {value!r}") from None

    def check_size(self, name: str, present: int, section: str = "") -> None:
        """Holds a setting against the weights.

        Raises:
            CheckpointError: they differ.
        """
        value = self.value(name, section)
        if value is not None and value != present:
            raise CheckpointError(
                f"{self._place(name, section)} is {value}, but the weights have {present}: give the YAML that this "
                "checkpoint was trained with"
            )

    def check_layers(self, known: Mapping[str, str], section: str, advice: str) -> None:
        """Refuses layers that munitaug's networks do not have, which weights cannot tell.

        Raises:
            CheckpointError: a setting has another value than the one known.
        """
        for name, only in known.items():
            value = self.value(name, section)
            if value is not None and value != only:
                raise CheckpointError(
                    f"{self._place(name, section)} is {value!r}, but munitaug's network has {only!r} only{advice}"
                )

    def _place(self, name: str, section: str) -> str:
        return f"{self.path}: {section}.{name}" if section else f"{self.path}: {name}"


def _read_yaml(path: Path) -> dict[str, object]:
    import yaml  # comes with jsonargparse

    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; give the YAML of the checkpoint, or none")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise CheckpointError(f"{path} is not YAML ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict) or not isinstance(content.get("gen"), dict):
        raise CheckpointError(f"{path} should be a YAML of NVlabs/MUNIT or UNIT, with a section gen")
    return {str(name): value for name, value in content.items()}


def read_domains(path: str | Path, wanted: str) -> dict[DomainKey, Weights]:
    """Gives the weights of both domains from a file that holds them as "a" and "b".

    Args:
        path: of gen_*.pt or dis_*.pt.
        wanted: the name of the files that are expected, for errors.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file is damaged or holds something else.
    """
    content = read_torch_file(path)
    if not isinstance(content, dict) or set(content) != set(DOMAINS):
        raise CheckpointError(
            f"{path} should hold state_dicts 'a' and 'b', as {wanted} does; it is {described(content)}"
        )
    return {key: as_weights(content[key], f"{path} ['{key}']") for key in DOMAINS}


def encoder_sizes(weights: Weights, prefix: str, where: str) -> dict[str, int]:
    """Gives the sizes that a content encoder and its decoder show, under our fields' names.

    Args:
        weights: of one domain.
        prefix: of the encoder's names.
        where: the file and the place in it, for errors.
    """
    first = f"{prefix}.model.0.conv.weight"
    size_of(weights, first, 3, where)
    strided = count_layers(weights, f"{prefix}.model.{{}}.conv.weight")
    return {
        "channels": size_of(weights, first, 1, where),
        "width": size_of(weights, first, 0, where),
        "edge_kernel": size_of(weights, first, 3, where),
        "n_downsample": strided - 1,
        "n_residual": count_layers(weights, f"{prefix}.model.{strided}.model.{{}}.model.0.conv.weight"),
        "upsample_kernel": size_of(weights, "dec.model.2.conv.weight", 3, where),
    }


def check_generator(settings: Settings, sizes: Mapping[str, int], named: Mapping[str, str]) -> None:
    """Holds the YAML against the sizes of the weights, and its layers against those of munitaug.

    Args:
        settings: the YAML.
        sizes: by our names.
        named: the YAML's name of each size that its section gen has.
    """
    settings.check_layers(GENERATOR_LAYERS, "gen", "")
    for ours, theirs in named.items():
        settings.check_size(theirs, sizes[ours], "gen")
    for name in ("input_dim_a", "input_dim_b"):
        settings.check_size(name, sizes["channels"])


def common_sizes(sizes: Mapping[DomainKey, dict[str, int]], path: str | Path) -> dict[str, int]:
    """Gives the sizes that both domains have.

    Raises:
        CheckpointError: they differ.
    """
    for name, value in sizes["a"].items():
        if sizes["b"][name] != value:
            raise CheckpointError(
                f"{path}: {name} is {value} in domain a and {sizes['b'][name]} in domain b; munitaug's networks have "
                "one number for both"
            )
    return sizes["a"]


def encoder_names(ours: str, theirs: str, n_downsample: int, n_residual: int) -> dict[str, str]:
    """Gives the layers of a content encoder: their names by ours, without .weight and .bias.

    Args:
        ours: prefix of our content encoder.
        theirs: prefix of the other project's.
        n_downsample: its halvings.
        n_residual: its residual blocks.
    """
    names = {f"{ours}.layers.{i}.conv": f"{theirs}.model.{i}.conv" for i in range(n_downsample + 1)}
    blocks = n_downsample + 1
    for block in range(n_residual):
        for place, ordinal in enumerate(("first", "second")):
            name = f"{theirs}.model.{blocks}.model.{block}.model.{place}.conv"
            names[f"{ours}.layers.{blocks + block}.{ordinal}.conv"] = name
    return names


def decoder_names(ours: str, n_downsample: int, n_residual: int, inner: str = "") -> dict[str, str]:
    """Gives the layers of a decoder: their names by ours, without .weight and .bias.

    Args:
        ours: prefix of our decoder.
        n_downsample: its doublings.
        n_residual: its residual blocks.
        inner: what stands after the name of a block's convolution in our network.
    """
    names = {}
    for block in range(n_residual):
        for place, ordinal in enumerate(("first", "second")):
            names[f"{ours}.blocks.{block}.{ordinal}{inner}"] = f"dec.model.0.model.{block}.model.{place}.conv"
    for step in range(n_downsample):  # module 1 + 2 step doubles the sides and has no weights
        names[f"{ours}.upsampling.{step}.conv"] = f"dec.model.{2 + 2 * step}.conv"
    names[f"{ours}.to_image.conv"] = f"dec.model.{1 + 2 * n_downsample}.conv"
    return names


def layer_norm_names(ours: str, n_downsample: int) -> dict[str, str]:
    """Gives the gains and shifts of a decoder's layer norms: their full names by ours."""
    names = {}
    for step in range(n_downsample):
        for parameter, theirs in (("gain", "gamma"), ("shift", "beta")):
            names[f"{ours}.upsampling.{step}.layer_norm.{parameter}"] = f"dec.model.{2 + 2 * step}.norm.{theirs}"
    return names


def parameter_names(layers: Mapping[str, str]) -> dict[str, str]:
    """Gives the names of weights and biases from those of layers."""
    return {f"{ours}.{end}": f"{theirs}.{end}" for ours, theirs in layers.items() for end in ("weight", "bias")}


def discriminator_sizes(
    weights: Mapping[DomainKey, Weights] | None, settings: Settings, channels: int, path: str | Path | None
) -> DiscriminatorSizes:
    """Gives the discriminators' sizes: from their weights, else from the YAML, else as published.

    Raises:
        CheckpointError: the file holds something else, or disagrees with the YAML or with the generators.
    """
    if weights is None:
        default = DiscriminatorSizes(channels)
        sizes = {
            ours: int(settings.number(theirs, getattr(default, ours), "dis"))
            for ours, theirs in DISCRIMINATOR_SETTINGS.items()
        }
        return DiscriminatorSizes(channels, **sizes)
    settings.check_layers(DISCRIMINATOR_LAYERS, "dis", "; leave the discriminator out and new ones are made")
    both = common_sizes({key: _sizes_of_scales(weights[key], f"{path} ['{key}']") for key in DOMAINS}, str(path))
    for ours, theirs in DISCRIMINATOR_SETTINGS.items():
        settings.check_size(theirs, both[ours], "dis")
    if both["channels"] != channels:
        raise CheckpointError(
            f"{path} judges images of {both['channels']} channels, but the generators make {channels}: give the "
            "dis_*.pt of the same run"
        )
    return DiscriminatorSizes(**{field.name: both[field.name] for field in fields(DiscriminatorSizes)})


def _sizes_of_scales(weights: Weights, where: str) -> dict[str, int]:
    spectral = [name for name in weights if name.endswith("weight_bar")]
    if spectral:
        raise CheckpointError(
            f"{where} has spectral norm in some layers only ({listed(spectral)}), which munitaug's discriminators "
            "have in all or none; leave the discriminator out and new ones are made"
        )
    first = "cnns.0.0.conv.weight"
    return {
        "channels": size_of(weights, first, 1, where),
        "width": size_of(weights, first, 0, where),
        "n_layers": count_layers(weights, "cnns.0.{}.conv.weight"),
        "n_scales": count_layers(weights, "cnns.{}.0.conv.weight"),
    }


def copy_discriminators(
    discriminators: nn.ModuleDict, weights: Mapping[DomainKey, Weights], sizes: DiscriminatorSizes, path: str | Path
) -> None:
    """Copies the weights of dis_*.pt into both domains' discriminators.

    Raises:
        CheckpointError: weights are missing, left over, or of another shape.
    """
    layers = {}
    for scale in range(sizes.n_scales):
        for layer in range(sizes.n_layers):
            layers[f"scales.{scale}.layers.{layer}.conv"] = f"cnns.{scale}.{layer}.conv"
        layers[f"scales.{scale}.layers.{sizes.n_layers}"] = f"cnns.{scale}.{sizes.n_layers}"
    for key in DOMAINS:
        copy_weights(discriminators[key], weights[key], parameter_names(layers), f"{path} ['{key}']")


def gan_loss_of(settings: Settings) -> GanLoss:
    """Gives the adversarial objective; "lsgan" where the YAML says nothing.

    Raises:
        CheckpointError: an unknown one.
    """
    name = settings.value("gan_type", "dis") or "lsgan"
    if name not in GAN_LOSSES:
        raise CheckpointError(f"{settings.path}: dis.gan_type should be one of {', '.join(GAN_LOSSES)}, got {name!r}")
    return GAN_LOSSES[str(name)]


def optimiser_of(settings: Settings) -> OptimiserSettings:
    """Gives the Adam settings of the YAML, for training on; the published ones where it says nothing.

    Warns:
        UserWarning: a decay of the learning rate other than halving, which is left out.
    """
    default = OptimiserSettings(halve_every_steps=100_000)
    halving = int(settings.number("step_size", default.halve_every_steps))
    policy, factor = settings.value("lr_policy"), settings.number("gamma", HALF)
    if settings.values and (policy not in (None, "step") or factor != HALF):
        halving = 0
        if policy not in (None, "constant"):
            warnings.warn(
                f"{settings.path}: lr_policy {policy!r} with gamma {factor:g} is left out, so training on keeps lr as "
                'it is; lr_policy "constant" in the YAML silences this',
                stacklevel=2,
            )
    return OptimiserSettings(
        lr=settings.number("lr", default.lr),
        betas=(settings.number("beta1", default.betas[0]), settings.number("beta2", default.betas[1])),
        weight_decay=settings.number("weight_decay", default.weight_decay),
        halve_every_steps=halving,
    )
