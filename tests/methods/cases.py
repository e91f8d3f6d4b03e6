"""Tiny configurations of every method for the contract grid; a new method adds its own here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from munitaug.method import Method, OptimiserSettings
from munitaug.methods import (
    DistanceGan,
    DistanceGanConfig,
    GcGan,
    GcGanConfig,
    Munit,
    SemanticConsistency,
    TransGaga,
    TransGagaConfig,
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


TINY_DISTANCE = DistanceGanConfig(
    width=4,
    discriminator_width=4,
    n_discriminator_layers=2,
    statistics_images=4,
    optimiser=OptimiserSettings(lr=1e-3, weight_decay=0.0),
)
TINY_GEOMETRY = GcGanConfig(
    width=4, discriminator_width=4, n_discriminator_layers=2, optimiser=OptimiserSettings(lr=1e-3, weight_decay=0.0)
)
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


CASES: dict[str, Case] = {
    "distancegan": Case(
        lambda seed, channels: DistanceGan(replace(TINY_DISTANCE, channels=channels), seed=seed),
    ),
    "distancegan-all-terms": Case(
        lambda seed, channels: DistanceGan(
            replace(TINY_DISTANCE, channels=channels, distance="self", weight_cycle=1.0, weight_identity=1.0), seed=seed
        ),
    ),
    "distancegan-one-sided": Case(
        lambda seed, channels: DistanceGan(
            replace(TINY_DISTANCE, channels=channels, one_sided=True, normalised=False), seed=seed
        ),
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
    "transgaga": Case(
        lambda seed, channels: TransGaga(replace(TINY_LANDMARKS, channels=channels), seed=seed),
        biases_before_norms_of_transgaga,
    ),
    "semantic": Case(
        lambda seed, channels: SemanticConsistency(
            Munit(replace(NO_DECAY, channels=channels), seed=seed), tiny_classifier(channels)
        ),
        biases_before_norms_of_munit,
    ),
}
