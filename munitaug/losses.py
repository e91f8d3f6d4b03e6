"""Losses as short pure functions; each returns a scalar tensor.

Floor 1: imports torch only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

GanLoss = Literal["lsgan", "nsgan", "hinge"]


def mean_absolute_difference(x: Tensor, y: Tensor) -> Tensor:
    """Gives mean |x - y|, >= 0; 0 when both are equal. MUNIT eqs. 2-4 (2018) write it as an L1 norm."""
    return (x.float() - y.float()).abs().mean()


def discriminator_loss(real_maps: Sequence[Tensor], fake_maps: Sequence[Tensor], kind: GanLoss) -> Tensor:
    """Gives the discriminator's loss, summed (not averaged) over scales.

    MUNIT trains with ``lsgan``: sum over scales of mean(D(fake)^2) + mean((D(real) - 1)^2), without a
    factor 1/2 (NVlabs/MUNIT networks.py, MsImageDis.calc_dis_loss). ``nsgan`` is binary cross-entropy on
    logits; ``hinge`` follows Lim & Ye (2017), as NVlabs/imaginaire does for MUNIT.

    Args:
        real_maps: one map of patch scores per scale, N x 1 x h x w, unbounded.
        fake_maps: the same for generated images.
        kind: adversarial objective.
    """
    total = real_maps[0].new_zeros((), dtype=torch.float32)
    for real, fake in zip(real_maps, fake_maps, strict=True):
        total = total + _real_term(real.float(), kind) + _fake_term(fake.float(), kind)
    return total


def generator_adversarial_loss(fake_maps: Sequence[Tensor], kind: GanLoss) -> Tensor:
    """Gives the generator's adversarial loss, summed over scales: small when fakes score as real.

    Args:
        fake_maps: one map of patch scores per scale, N x 1 x h x w, unbounded.
        kind: adversarial objective.
    """
    total = fake_maps[0].new_zeros((), dtype=torch.float32)
    for fake in fake_maps:
        total = total + (-fake.float().mean() if kind == "hinge" else _real_term(fake.float(), kind))
    return total


def _real_term(scores: Tensor, kind: GanLoss) -> Tensor:
    if kind == "lsgan":
        return (scores - 1.0).square().mean()
    if kind == "nsgan":
        return F.softplus(-scores).mean()
    return F.relu(1.0 - scores).mean()


def _fake_term(scores: Tensor, kind: GanLoss) -> Tensor:
    if kind == "lsgan":
        return scores.square().mean()
    if kind == "nsgan":
        return F.softplus(scores).mean()
    return F.relu(1.0 + scores).mean()


def gradient_penalty_r1(images: Tensor, maps: Sequence[Tensor]) -> Tensor:
    """Gives half the mean squared norm of the discriminator's gradient at real images (R1).

    Mescheder, Geiger & Nowozin 2018, eq. 9; the weight stands outside.

    Args:
        images: N x C x H x W, requiring gradient, from which ``maps`` were computed.
        maps: one map of patch scores per scale.
    """
    total = torch.stack([scores.float().mean(dim=(1, 2, 3)).sum() for scores in maps]).sum()
    (gradient,) = torch.autograd.grad(total, images, create_graph=True)
    return 0.5 * gradient.float().square().sum(dim=(1, 2, 3)).mean()


def domain_invariant_perceptual_loss(features: Tensor, source_features: Tensor) -> Tensor:
    """Gives the mean squared difference of instance-normalised features (MUNIT section 5.1, 2018).

    Args:
        features: N x C x h x w features of the translation.
        source_features: the same of the image it was made from.
    """
    return F.mse_loss(F.instance_norm(features.float()), F.instance_norm(source_features.float()))


def mode_seeking_loss(image_1: Tensor, image_2: Tensor, style_1: Tensor, style_2: Tensor) -> Tensor:
    """Gives |z1 - z2| / (|G(z1) - G(z2)| + 1e-5): large when two styles give the same image.

    Mao et al., MSGAN (2019), eq. 2, inverted so that it is minimised. DRIT++'s code minimises 1 / (ratio + 1e-5) of the
    uninverted ratio, which differs only where the images are equal to about 1e-5.

    Args:
        image_1: N x C x H x W, translation under style_1; image_2 under style_2.
        style_1: N x S; style_2 likewise.
    """
    image_distance = mean_absolute_difference(image_1, image_2)
    style_distance = mean_absolute_difference(style_1, style_2)
    return style_distance / (image_distance + 1e-5)


def pairwise_distances(images: Tensor) -> Tensor:
    """Gives the mean absolute difference of every two images, N (N - 1) / 2 numbers in [0, 2].

    DistanceGAN section 3.1 (2017); the order is (0, 1), (0, 2), ..., (N - 2, N - 1).

    Args:
        images: N x C x H x W in [-1, 1].
    """
    flat = images.float().flatten(1)
    first, second = torch.triu_indices(len(flat), len(flat), offset=1, device=flat.device)
    return (flat[first] - flat[second]).abs().mean(dim=1)


def half_distances(images: Tensor) -> Tensor:
    """Gives the mean absolute difference between the upper and the lower half of each image, N numbers in [0, 2].

    DistanceGAN section 3.2 (2017), the self-distance. Of an odd height the middle row belongs to neither half.

    Args:
        images: N x C x H x W in [-1, 1], H >= 2.
    """
    half = images.shape[2] // 2
    return (images[:, :, :half].float() - images[:, :, -half:].float()).abs().mean(dim=(1, 2, 3))


def divergence_from_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Gives KL(N(mean, variance) || N(0, I)), summed over the code and averaged over images; >= 0."""
    terms = mean.float().square() + log_variance.float().exp() - 1.0 - log_variance.float()
    return 0.5 * terms.sum(dim=1).mean()
