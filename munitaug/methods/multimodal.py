"""MUNIT's generator objective for one of two domains (Huang et al., ECCV 2018, arXiv 1804.04732, eqs. 2-5).

Whichever networks encode and decode: one pair for each domain, or one for all.

Floor 4: imports floors 1-3.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from munitaug.losses import GanLoss, generator_adversarial_loss, mean_absolute_difference


class Side(NamedTuple):
    """What is made of one domain's images and the other's contents.

    ``image`` N x C x H x W with its own ``content`` and ``style``; ``drawn_style`` N x style_dim; ``reconstruction`` of
    content and style; ``fake`` of the *other* domain's content and the drawn style.
    """

    image: Tensor
    content: Tensor
    style: Tensor
    drawn_style: Tensor
    reconstruction: Tensor
    fake: Tensor


class MultimodalWeights(Protocol):
    """The weights of the terms, as a method's configuration has them; a term of weight 0 is left out."""

    @property
    def gan_loss(self) -> GanLoss:
        """Gives the form of the adversarial term."""

    @property
    def weight_gan(self) -> float:
        """Gives that of the adversarial term."""

    @property
    def weight_image(self) -> float:
        """Gives that of the image reconstruction, eq. 2."""

    @property
    def weight_style(self) -> float:
        """Gives that of the style reconstruction, eq. 4."""

    @property
    def weight_content(self) -> float:
        """Gives that of the content reconstruction, eq. 3."""

    @property
    def weight_cycle(self) -> float:
        """Gives that of the style-augmented cycle, section 5.1."""


def decoded(
    image: Tensor,
    own: Tensor,
    other: Tensor,
    drawn_style: Tensor,
    *,
    encode_style: Callable[[Tensor], Tensor],
    decode: Callable[[Tensor, Tensor], Tensor],
) -> tuple[Tensor, Tensor, Tensor]:
    """Gives a domain's own style codes, its images reconstructed, and the other's translated; decoded in one pass.

    Args:
        image: N x C x H x W of the domain.
        own: its contents.
        other: contents of the other domain's images.
        drawn_style: N x style_dim, for the translations.
        encode_style: gives N x style_dim codes in this domain's style space.
        decode: gives this domain's images of contents and codes.
    """
    own_style = encode_style(image)
    both = decode(torch.cat([own, other]), torch.cat([own_style, drawn_style]))
    return own_style, both[: len(image)], both[len(image) :]


def generator_terms(
    side: Side,
    other: Side,
    weights: MultimodalWeights,
    *,
    judge: Callable[[Tensor], list[Tensor]],
    encode: Callable[[Tensor], tuple[Tensor, Tensor]],
    decode_back: Callable[[Tensor, Tensor], Tensor],
    detach_content: bool,
) -> dict[str, Tensor]:
    """Gives the weighted terms "gan", "image", "style", "content" and "cycle" of one domain.

    Args:
        side: of this domain.
        other: of the domain whose contents ``side.fake`` has.
        weights: of the terms.
        judge: this domain's discriminator, a map for each scale.
        encode: gives content and style of this domain's images.
        decode_back: gives the other domain's images of contents and codes.
        detach_content: let no gradient flow into the target of the content reconstruction.
    """
    terms: dict[str, Tensor] = {}
    if weights.weight_gan > 0.0:
        terms["gan"] = weights.weight_gan * generator_adversarial_loss(judge(side.fake), weights.gan_loss)
    if weights.weight_image > 0.0:
        terms["image"] = weights.weight_image * mean_absolute_difference(side.reconstruction, side.image)
    content_again, style_again = encode(side.fake)
    if weights.weight_style > 0.0:
        terms["style"] = weights.weight_style * mean_absolute_difference(style_again, side.drawn_style)
    if weights.weight_content > 0.0:
        target = other.content.detach() if detach_content else other.content
        terms["content"] = weights.weight_content * mean_absolute_difference(content_again, target)
    if weights.weight_cycle > 0.0:
        back = decode_back(content_again, other.style)
        terms["cycle"] = weights.weight_cycle * mean_absolute_difference(back, other.image)
    return terms
