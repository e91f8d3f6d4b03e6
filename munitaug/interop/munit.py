"""NVlabs/MUNIT's generators and discriminators as a Munit.

Floor 5: imports floors 1-4.
"""

from __future__ import annotations

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
from munitaug.interop.weights import Weights, copy_weights, count_layers, size_of
from munitaug.methods import Munit, MunitConfig
from munitaug.types import CheckpointError

GENERATOR_SETTINGS = {
    "width": "dim",
    "n_downsample": "n_downsample",
    "n_residual": "n_res",
    "style_dim": "style_dim",
    "mlp_width": "mlp_dim",
}


def read_munit(path: str | Path, config: str | Path | None = None, discriminator: str | Path | None = None) -> Munit:
    """Gives the MUNIT of an official checkpoint, in evaluation mode, on the CPU.

    Args:
        path: gen_*.pt: {"a": state_dict, "b": state_dict} of two AdaINGen.
        config: the YAML it was trained with; without it sizes are read from the weights, and ReLU and reflected borders
            are assumed, which weights do not show.
        discriminator: dis_*.pt of the same run; without it the discriminators are new.

    Raises:
        FileNotFoundError: a file is missing.
        CheckpointError: a file is damaged, holds something else, or layers that munitaug's networks do not have.
    """
    weights, settings = read_domains(path, "gen_*.pt of NVlabs/MUNIT"), Settings(config)
    sizes = common_sizes({key: _sizes(weights[key], f"{path} ['{key}']") for key in DOMAINS}, path)
    check_generator(settings, sizes, GENERATOR_SETTINGS)
    judges = None if discriminator is None else read_domains(discriminator, "dis_*.pt of NVlabs/MUNIT")
    judge_sizes = discriminator_sizes(judges, settings, sizes["channels"], discriminator)
    ours = _config(sizes, judge_sizes, settings, path)
    method = Munit(ours)
    for key in DOMAINS:
        copy_weights(method.auto_encoders[key], weights[key], generator_names(ours), f"{path} ['{key}']")
    if judges is not None and discriminator is not None:
        copy_discriminators(method.discriminators, judges, judge_sizes, discriminator)
    return method.eval()


def _config(
    sizes: dict[str, int], judge_sizes: DiscriminatorSizes, settings: Settings, path: str | Path
) -> MunitConfig:
    """Gives our configuration; for training on, the YAML's weights and optimiser, or the published ones."""
    published = MunitConfig()
    optimiser, gan_loss = optimiser_of(settings), gan_loss_of(settings)
    try:
        return MunitConfig(
            channels=sizes["channels"],
            width=sizes["width"],
            n_downsample=sizes["n_downsample"],
            n_style_downsample=sizes["n_style_downsample"],
            n_residual=sizes["n_residual"],
            style_dim=sizes["style_dim"],
            mlp_width=sizes["mlp_width"],
            edge_kernel=sizes["edge_kernel"],
            upsample_kernel=sizes["upsample_kernel"],
            discriminator_width=judge_sizes.width,
            n_discriminator_layers=judge_sizes.n_layers,
            n_scales=judge_sizes.n_scales,
            gan_loss=gan_loss,
            weight_gan=settings.number("gan_w", published.weight_gan),
            weight_image=settings.number("recon_x_w", published.weight_image),
            weight_style=settings.number("recon_s_w", published.weight_style),
            weight_content=settings.number("recon_c_w", published.weight_content),
            weight_cycle=settings.number("recon_x_cyc_w", published.weight_cycle),
            weight_perceptual=settings.number("vgg_w", published.weight_perceptual),
            optimiser=optimiser,
        )
    except ValueError as error:
        raise CheckpointError(f"{path}: munitaug's MUNIT cannot be built so: {error}") from error


def _sizes(weights: Weights, where: str) -> dict[str, int]:
    """Gives what the weights of one domain say of their sizes, under the names of our configuration."""
    sizes = encoder_sizes(weights, "enc_content", where)
    convolutions = count_layers(weights, "enc_style.model.{}.conv.weight")
    head = f"enc_style.model.{convolutions + 1}.weight"  # the mean over the image stands between and has no weights
    return sizes | {
        "n_style_downsample": convolutions - 1,
        "style_dim": size_of(weights, head, 0, where),
        "mlp_width": size_of(weights, "mlp.model.0.fc.weight", 0, where),
    }


def generator_names(config: MunitConfig) -> dict[str, str]:
    """Gives the official names of one domain's weights by ours.

    The AdaIN numbers need no change of order: in both the last linear layer of the MLP gives, for block after block
    and layer after layer, first all shifts and then all scales.
    """
    halvings, blocks = config.n_downsample, config.n_residual
    layers = encoder_names("content_encoder", "enc_content", halvings, blocks)
    convolutions = config.n_style_downsample + 1
    layers |= {f"style_encoder.layers.{i}.conv": f"enc_style.model.{i}.conv" for i in range(convolutions)}
    layers["style_encoder.head"] = f"enc_style.model.{convolutions + 1}"
    layers |= {f"style_mlp.layers.{i}": f"mlp.model.{i}.fc" for i in range(3)}
    layers |= decoder_names("decoder", halvings, blocks)
    return parameter_names(layers) | layer_norm_names("decoder", halvings)
