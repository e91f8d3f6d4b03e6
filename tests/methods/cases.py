"""Tiny configurations of every method for the contract grid; a new method adds its own here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from munitaug.method import Method, OptimiserSettings
from munitaug.methods import (
    Cut,
    CutConfig,
    CycleGan,
    CycleGanConfig,
    DistanceGan,
    DistanceGanConfig,
    Dritpp,
    DritppConfig,
    GcGan,
    GcGanConfig,
    MultiDomain,
    MultiDomainConfig,
    Munit,
    SemanticConsistency,
    TransGaga,
    TransGagaConfig,
    Unit,
    UnitConfig,
)
from tests.oracles import trainable
from tests.tiny import TINY, tiny_classifier

MakeMethod = Callable[[int, int], Method]
"""(seed, channels) -> method."""
NO_DECAY = replace(TINY, optimiser=OptimiserSettings(lr=1e-3, weight_decay=0.0))


def nothing(method: Method) -> set[str]:
    """Gives no parameter: all have an effect."""
    del method
    return set()


@dataclass(frozen=True)
class Case:
    """One method in one configuration.

    Args:
        make: gives it, for (seed, channels).
        without_effect: gives the names of parameters whose gradient is zero by mathematics, such as biases that an
            instance norm takes off at once; the grid holds the claim against the networks.
    """

    make: MakeMethod
    without_effect: Callable[[Method], set[str]] = nothing


def biases_before_norms_of_munit(method: Method) -> set[str]:
    """Gives the biases of the content encoder's convolutions and of those before an AdaIN."""
    encoder = {name for name in trainable(method) if ".content_encoder." in name and name.endswith(".bias")}
    blocks = {name for name in trainable(method) if ".decoder.blocks." in name and name.endswith(".bias")}
    assert len(encoder | blocks) == 2 * (3 + 2 + 2)  # per domain: three units, a residual block, an AdaIN block
    return encoder | blocks


TINY_CYCLE = CycleGanConfig(
    width=4,
    n_residual=1,
    discriminator_width=4,
    n_discriminator_layers=2,
    pool_size=3,  # full, and then exchanging, within the grid's two steps of two images
    optimiser=OptimiserSettings(lr=1e-3, weight_decay=0.0),
)
TINY_CONTRAST = CutConfig(
    width=4,
    n_residual=2,
    feature_blocks=(1,),
    n_patches=8,
    projection_width=6,
    discriminator_width=4,
    n_discriminator_layers=2,
    optimiser=OptimiserSettings(lr=1e-3, weight_decay=0.0),
)
TINY_DISTANCE = DistanceGanConfig(
    width=4,
    discriminator_width=4,
    n_discriminator_layers=2,
    statistics_images=4,
    optimiser=OptimiserSettings(lr=1e-3, weight_decay=0.0),
)
TINY_RESNET: dict[str, Any] = {"network": "resnet", "n_residual": 1, "pool_size": 3}
TINY_GEOMETRY = GcGanConfig(
    width=4, discriminator_width=4, n_discriminator_layers=2, optimiser=OptimiserSettings(lr=1e-3, weight_decay=0.0)
)


def biases_before_norms_of_resnets(method: Method) -> set[str]:
    """Gives the biases of all convolutions but the last of a generator, and of a discriminator's inner layers."""
    return {
        name
        for name in trainable(method)
        if name.endswith(".bias") and (".last." not in name) and ("generator" in name or ".convolutions." in name)
    } - {name for name in trainable(method) if ".convolutions.0." in name}


TINY_LANDMARKS = TransGagaConfig(
    width=4,
    n_residual=1,
    landmarks=3,
    landmark_deviation=0.1,
    appearance_dim=3,
    mlp_width=8,
    edge_kernel=3,
    upsample_kernel=3,
    pca_dim=4,
    mapper_width=8,
    discriminator_width=4,
    n_discriminator_layers=2,
    n_scales=2,
    appearance_features="random",
    warm_up_steps=0,
    optimiser=OptimiserSettings(lr=1e-3, weight_decay=0.0),
)


def biases_before_norms_of_transgaga(method: Method) -> set[str]:
    """Gives the biases of convolutions before an instance norm or an AdaIN."""
    parts = (".down.", ".inner.", ".up.", ".geometry_encoder.", ".decoder.blocks.")
    return {name for name in trainable(method) if name.endswith(".bias") and any(part in name for part in parts)}


TINY_SHARED_UNIT = UnitConfig(
    width=4,
    n_residual=1,
    edge_kernel=3,
    upsample_kernel=3,
    discriminator_width=4,
    n_discriminator_layers=2,
    optimiser=OptimiserSettings(lr=1e-3, weight_decay=0.0),
)
TINY_LATER_UNIT = replace(TINY_SHARED_UNIT, form="later", n_shared=0, n_scales=2, gan_loss="lsgan")


def biases_before_norms_of_unit(method: Method) -> set[str]:
    """Gives the biases of convolutions before an instance norm."""
    parts = (".down.", ".blocks.", ".up.", ".shared_", ".encoders.a.layers.", ".encoders.b.layers.")
    return {name for name in trainable(method) if name.endswith(".bias") and any(part in name for part in parts)}


TINY_DRIT = DritppConfig(
    width=4,
    n_residual=1,
    style_dim=3,
    mlp_width=8,
    discriminator_width=4,
    n_discriminator_layers=2,
    n_scales=2,
    n_content_layers=1,
    content_kernel=3,
    content_last_kernel=2,
    initialisation="kaiming",
    optimiser=OptimiserSettings(lr=1e-3, weight_decay=0.0),
)


def biases_before_norms_of_dritpp(method: Method) -> set[str]:
    """Gives the biases of convolutions before an instance norm."""
    biases = {name for name in trainable(method) if name.endswith(".bias")}
    encoders = {name for name in biases if name.startswith("content_encoders.") and ".layers." in name}
    shared = {name for name in biases if name.startswith(("shared_encoder.", "shared_decoder."))}
    parts = (".blocks.0.first.", ".blocks.0.second.", ".convolutions.")
    generators = {name for name in biases if name.startswith("generators.") and any(part in name for part in parts)}
    return encoders | shared | generators


TINY_DOMAINS = MultiDomainConfig(
    **{name: getattr(TINY, name) for name in vars(MultiDomainConfig()) if hasattr(TINY, name) and name != "optimiser"},
    optimiser=OptimiserSettings(lr=1e-3, weight_decay=0.0),
)


def biases_before_norms_of_multidomain(method: Method) -> set[str]:
    """Gives the biases of the content encoder's convolutions and of those before an AdaIN."""
    parts = ("content_encoder.", "decoder.blocks.")
    return {name for name in trainable(method) if name.endswith(".bias") and any(part in name for part in parts)}


CASES: dict[str, Case] = {
    "cyclegan": Case(
        lambda seed, channels: CycleGan(replace(TINY_CYCLE, channels=channels), seed=seed),
        biases_before_norms_of_resnets,
    ),
    "cyclegan-noise": Case(
        lambda seed, channels: CycleGan(replace(TINY_CYCLE, channels=channels, noise_dim=2), seed=seed),
        biases_before_norms_of_resnets,
    ),
    "cyclegan-antialiased": Case(
        lambda seed, channels: CycleGan(
            replace(
                TINY_CYCLE,
                channels=channels,
                pool_size=0,
                weight_identity=0.0,
                antialias_down=True,
                antialias_up=True,
                n_discriminator_layers=3,
            ),
            seed=seed,
        ),
        biases_before_norms_of_resnets,
    ),
    "cut": Case(
        lambda seed, channels: Cut(replace(TINY_CONTRAST, channels=channels), seed=seed),
        biases_before_norms_of_resnets,
    ),
    "cut-fast": Case(
        lambda seed, channels: Cut(
            replace(
                TINY_CONTRAST,
                channels=channels,
                flip_equivariance=True,
                weight_nce=10.0,
                weight_identity_nce=0.0,
                antialias_down=False,
                antialias_up=False,
                n_discriminator_layers=3,
            ),
            seed=seed,
        ),
        biases_before_norms_of_resnets,
    ),
    "distancegan": Case(
        lambda seed, channels: DistanceGan(replace(TINY_DISTANCE, channels=channels), seed=seed),
    ),
    "distancegan-all-terms": Case(
        lambda seed, channels: DistanceGan(
            replace(TINY_DISTANCE, channels=channels, distance="self", weight_cycle=1.0, weight_identity=1.0), seed=seed
        ),
    ),
    "distancegan-resnet": Case(
        lambda seed, channels: DistanceGan(replace(TINY_DISTANCE, channels=channels, **TINY_RESNET), seed=seed),
        biases_before_norms_of_resnets,
    ),
    "gcgan-resnet": Case(
        lambda seed, channels: GcGan(replace(TINY_GEOMETRY, channels=channels, **TINY_RESNET), seed=seed),
        biases_before_norms_of_resnets,
    ),
    "distancegan-one-sided": Case(
        lambda seed, channels: DistanceGan(
            replace(TINY_DISTANCE, channels=channels, one_sided=True, normalised=False), seed=seed
        ),
    ),
    "dritpp": Case(
        lambda seed, channels: Dritpp(replace(TINY_DRIT, channels=channels), seed=seed), biases_before_norms_of_dritpp
    ),
    "dritpp-feature-wise": Case(
        lambda seed, channels: Dritpp(
            replace(TINY_DRIT, channels=channels, conditioning="feature-wise", spectral_norm=True, content_steps=1),
            seed=seed,
        ),
        biases_before_norms_of_dritpp,
    ),
    "gcgan": Case(lambda seed, channels: GcGan(replace(TINY_GEOMETRY, channels=channels), seed=seed)),
    "gcgan-all-terms": Case(
        lambda seed, channels: GcGan(
            replace(
                TINY_GEOMETRY,
                channels=channels,
                geometry="flip",
                weight_identity=1.0,
                weight_cycle=1.0,
                weight_distance=1.0,
            ),
            seed=seed,
        )
    ),
    "gcgan-one-sided": Case(
        lambda seed, channels: GcGan(replace(TINY_GEOMETRY, channels=channels, one_sided=True), seed=seed)
    ),
    "multidomain": Case(
        lambda seed, channels: MultiDomain(replace(TINY_DOMAINS, channels=channels, weight_cycle=1.0), seed=seed),
        biases_before_norms_of_multidomain,
    ),
    "munit": Case(
        lambda seed, channels: Munit(replace(NO_DECAY, channels=channels), seed=seed), biases_before_norms_of_munit
    ),
    "munit-all-terms": Case(
        lambda seed, channels: Munit(
            replace(
                NO_DECAY,
                channels=channels,
                spectral_norm=True,
                gan_loss="nsgan",  # under "hinge" real and fake cancel in the last bias until a score passes the margin
                weight_cycle=1.0,
                weight_mode_seeking=0.1,
                weight_r1=1.0,
                detach_content=True,
                discriminator_lr_scale=2.0,
            ),
            seed=seed,
        ),
        biases_before_norms_of_munit,
    ),
    "munit-same-styles": Case(
        lambda seed, channels: Munit(
            replace(NO_DECAY, channels=channels, redraw_styles=False, weight_cycle=1.0), seed=seed
        ),
        biases_before_norms_of_munit,
    ),
    "transgaga": Case(
        lambda seed, channels: TransGaga(replace(TINY_LANDMARKS, channels=channels), seed=seed),
        biases_before_norms_of_transgaga,
    ),
    "unit-shared": Case(
        lambda seed, channels: Unit(replace(TINY_SHARED_UNIT, channels=channels), seed=seed),
        biases_before_norms_of_unit,
    ),
    "unit-shared-two-scales": Case(
        lambda seed, channels: Unit(replace(TINY_SHARED_UNIT, channels=channels, n_scales=2), seed=seed),
        biases_before_norms_of_unit,
    ),
    "unit-later": Case(
        lambda seed, channels: Unit(replace(TINY_LATER_UNIT, channels=channels), seed=seed),
        biases_before_norms_of_unit,
    ),
    "semantic": Case(
        lambda seed, channels: SemanticConsistency(
            Munit(replace(NO_DECAY, channels=channels), seed=seed), tiny_classifier(channels)
        ),
        biases_before_norms_of_munit,
    ),
}
