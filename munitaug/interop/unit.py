"""UNIT's generators and discriminators, of the later code, as a Unit.

Floor 5: imports floors 1-4.
"""

from __future__ import annotations

import warnings
from pathlib import Path

from munitaug.interop.nvlabs import (
    DOMAINS,
    DiscriminatorSizes,
    Settings,
    check_generator,
    common_sizes,
    copy_discriminators,
    decoder_names,
    discriminator_sizes,
    encoder_names,
    encoder_sizes,
    gan_loss_of,
    layer_norm_names,
    optimiser_of,
    parameter_names,
    read_domains,
)
from munitaug.interop.weights import copy_weights
from munitaug.methods import Unit, UnitConfig
from munitaug.types import CheckpointError

GENERATOR_SETTINGS = {"width": "dim", "n_downsample": "n_downsample", "n_residual": "n_res"}


def read_unit(path: str | Path, config: str | Path | None = None, discriminator: str | Path | None = None) -> Unit:
    """Gives the UNIT of an official checkpoint of the later code, in evaluation mode, on the CPU.

    Args:
        path: gen_*.pt: {"a": state_dict, "b": state_dict} of two VAEGen.
        config: the YAML it was trained with; without it sizes are read from the weights, and ReLU and reflected borders
            are assumed, which weights do not show.
        discriminator: dis_*.pt of the same run; without it the discriminators are new.

    Raises:
        FileNotFoundError: a file is missing.
        CheckpointError: a file is damaged, holds something else, or layers that munitaug's networks do not have.
    """
    weights, settings = read_domains(path, "gen_*.pt of mingyuliutw/UNIT"), Settings(config)
    sizes = common_sizes({key: encoder_sizes(weights[key], "enc", f"{path} ['{key}']") for key in DOMAINS}, path)
    check_generator(settings, sizes, GENERATOR_SETTINGS)
    if settings.number("vgg_w", 0.0) > 0.0:
        warnings.warn(
            f"{config}: vgg_w is left out, because munitaug's UNIT has no perceptual term; this matters for training "
            "on only, and vgg_w: 0 in the YAML silences it",
            stacklevel=2,
        )
    judges = None if discriminator is None else read_domains(discriminator, "dis_*.pt of mingyuliutw/UNIT")
    judge_sizes = discriminator_sizes(judges, settings, sizes["channels"], discriminator)
    ours = _config(sizes, judge_sizes, settings, path)
    method = Unit(ours)
    halvings, blocks = ours.n_downsample, ours.n_residual
    for key in DOMAINS:
        where = f"{path} ['{key}']"
        encoder = encoder_names("encoder", "enc", halvings, blocks)
        decoder = decoder_names("decoder", halvings, blocks, inner=".conv")
        names = parameter_names(encoder | decoder) | layer_norm_names("decoder", halvings)
        copy_weights(method.generators.between(key, key), weights[key], names, where)
    if judges is not None and discriminator is not None:
        copy_discriminators(method.discriminators, judges, judge_sizes, discriminator)
    return method.eval()


def _config(sizes: dict[str, int], judge_sizes: DiscriminatorSizes, settings: Settings, path: str | Path) -> UnitConfig:
    """Gives our configuration; for training on, the YAML's weights and optimiser, or the published ones."""
    published = UnitConfig.preset("later")
    optimiser, gan_loss = optimiser_of(settings), gan_loss_of(settings)
    try:
        return UnitConfig(
            form="later",
            channels=sizes["channels"],
            width=sizes["width"],
            n_downsample=sizes["n_downsample"],
            n_residual=sizes["n_residual"],
            n_shared=0,
            edge_kernel=sizes["edge_kernel"],
            upsample_kernel=sizes["upsample_kernel"],
            discriminator_width=judge_sizes.width,
            n_discriminator_layers=judge_sizes.n_layers,
            n_scales=judge_sizes.n_scales,
            gan_loss=gan_loss,
            weight_gan=settings.number("gan_w", published.weight_gan),
            weight_image=settings.number("recon_x_w", published.weight_image),
            weight_kl=settings.number("recon_kl_w", published.weight_kl),
            weight_cycle=settings.number("recon_x_cyc_w", published.weight_cycle),
            weight_cycle_kl=settings.number("recon_kl_cyc_w", published.weight_cycle_kl),
            optimiser=optimiser,
        )
    except ValueError as error:
        raise CheckpointError(f"{path}: munitaug's UNIT cannot be built so: {error}") from error
