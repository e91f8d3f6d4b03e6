"""Where a style code comes from: the prior, real target images, a mixture fitted to them, exemplars.

Random prior styles can be unrealistic, and exemplars lack variety; the mixture is to give both.

Floor 2: imports settings and types; scikit-learn only where a mixture is fitted.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from munitaug.settings import is_number
from munitaug.types import UNLABELLED

StyleName = Literal["prior", "bank", "mixture"]
STYLE_NAMES: tuple[StyleName, ...] = ("prior", "bank", "mixture")
SMALL_LENGTH = 1e-12
SMALL_SINE = 1e-4


class StyleSource(ABC):
    """Gives style codes; every draw comes from the generator that is passed in."""

    @abstractmethod
    def sample(self, n: int, k: int, generator: torch.Generator) -> Tensor:
        """Gives n x k x style_dim float32 codes on the CPU: k for each of n images."""


@runtime_checkable
class ClassStyles(Protocol):
    """A style source that goes by the class of the image."""

    def sample_for(self, labels: Tensor, k: int, generator: torch.Generator) -> Tensor:
        """Gives n x k x style_dim codes for n labels."""


class PriorStyles(StyleSource):
    """Codes from N(0, I), the distribution MUNIT trains with (section 4.2, 2018).

    Args:
        style_dim: numbers in a code; 0 for one-to-one methods.
        truncation: numbers outside [-truncation, truncation] are drawn again (Brock et al. 2019, section
            3.1); None keeps them all. Must be at least 0.1.

    Raises:
        TypeError: truncation is no number.
        ValueError: truncation below 0.1.
    """

    def __init__(self, style_dim: int, truncation: float | None = None) -> None:
        self.style_dim = style_dim
        self.truncation = _check_noise_truncation(truncation)

    def sample(self, n: int, k: int, generator: torch.Generator) -> Tensor:
        """Gives n x k x style_dim standard normal numbers, truncated if asked for."""
        if self.truncation is None:
            return torch.randn(n, k, self.style_dim, generator=generator, dtype=torch.float32)
        uniform = torch.rand(n, k, self.style_dim, generator=generator, dtype=torch.float64)
        low, high = _normal_cdf(-self.truncation), _normal_cdf(self.truncation)
        normal: Tensor = torch.special.ndtri(low + (high - low) * uniform)
        return normal.to(torch.float32)


class BankStyles(StyleSource):
    """Codes of real target images, or of exemplars, drawn with equal chance.

    Args:
        bank: M x style_dim codes, M >= 1.
        truncation: pulls every code towards the bank's mean by this factor, 0 < factor <= 1; None is 1.

    Raises:
        TypeError: truncation is no number.
        ValueError: the bank is empty, not M x style_dim or not finite, or truncation is outside its range.
    """

    def __init__(self, bank: Tensor, truncation: float | None = None) -> None:
        self.bank = _pull_to_mean(_check_bank(bank), truncation).clone()  # the caller's may change

    def sample(self, n: int, k: int, generator: torch.Generator) -> Tensor:
        """Gives n x k codes of the bank."""
        return self.bank[torch.randint(len(self.bank), (n, k), generator=generator)]


class MixtureStyles(StyleSource):
    """Codes from a Gaussian mixture fitted to a bank: as realistic as the bank, without its finite list.

    Args:
        bank: M x style_dim codes, M >= 2.
        components: Gaussians in the mixture, >= 1; more than M / 2 are M / 2.
        truncation: the Gaussian noise inside a component is truncated as in :class:`PriorStyles`.

    Raises:
        TypeError: truncation is no number.
        ValueError: the bank has fewer than 2 codes, is not M x style_dim or not finite, components is below 1, or
            truncation below 0.1.
        ImportError: scikit-learn is missing.
    """

    def __init__(self, bank: Tensor, components: int = 8, truncation: float | None = None) -> None:
        try:
            from sklearn.mixture import GaussianMixture
        except ImportError as error:
            raise ImportError('style="mixture" needs scikit-learn: pip install "munitaug[benchmarks]"') from error
        codes = _check_bank(bank)
        if len(codes) < 2 or components < 1:
            raise ValueError(
                f"a mixture needs at least 2 codes and 1 component, got {len(codes)} and {components}; "
                'take style="bank" for fewer'
            )
        self.noise = PriorStyles(codes.shape[1], truncation)
        count = min(components, len(codes) // 2)
        fitted = GaussianMixture(count, covariance_type="full", reg_covar=1e-4, random_state=0)
        fitted.fit(codes.double().numpy())
        self.chances = torch.from_numpy(fitted.weights_).float()
        self.means = torch.from_numpy(fitted.means_).float()
        self.factors = torch.linalg.cholesky(torch.from_numpy(fitted.covariances_)).float()

    def sample(self, n: int, k: int, generator: torch.Generator) -> Tensor:
        """Gives n x k draws from the mixture."""
        if n * k == 0:  # torch.multinomial refuses to draw nothing
            return torch.zeros(n, k, self.noise.style_dim, dtype=torch.float32)
        component = torch.multinomial(self.chances, n * k, replacement=True, generator=generator).view(n, k)
        noise = self.noise.sample(n, k, generator)
        return self.means[component] + torch.einsum("nkij,nkj->nki", self.factors[component], noise)


class ClassBankStyles(StyleSource):
    """Codes of real target images, drawn for each image from those of its own class.

    So a seven gets the stroke of sevens. Classes come from labelled target images, or from what a classifier
    predicts for unlabelled ones; labels of target test images do not belong here.

    Args:
        codes: M x style_dim codes, M >= 1.
        labels: M int64 classes >= 0 of the images the codes are of.
        truncation: pulls every code towards the mean of its class by this factor, 0 < factor <= 1; None is 1.

    Raises:
        TypeError: truncation is no number.
        ValueError: there is no code, labels do not fit, or truncation is outside its range.
    """

    def __init__(self, codes: Tensor, labels: Tensor, truncation: float | None = None) -> None:
        bank = _check_bank(codes)
        if labels.shape != (len(bank),) or labels.is_floating_point() or bool((labels < 0).any()):
            raise ValueError(
                f"labels must be {len(bank)} classes of at least 0, one for each code, got {tuple(labels.shape)} of "
                f"{labels.dtype}; leave unlabelled images out"
            )
        self.labels = labels.detach().cpu().long()
        self.codes = bank.clone()
        for label in self.labels.unique():
            own = self.labels == label
            self.codes[own] = _pull_to_mean(bank[own], truncation)

    def sample(self, n: int, k: int, generator: torch.Generator) -> Tensor:
        """Gives n x k codes of any class, for images whose class is not known."""
        return self.codes[torch.randint(len(self.codes), (n, k), generator=generator)]

    def sample_for(self, labels: Tensor, k: int, generator: torch.Generator) -> Tensor:
        """Gives n x k x style_dim codes, each of its image's class; -1 (unlabelled) draws from all.

        Args:
            labels: n int64 classes.
            k: codes for each.
            generator: source of randomness.

        Raises:
            ValueError: a class has no code.
        """
        known = set(self.labels.tolist())
        missing = sorted(set(labels.tolist()) - known - {UNLABELLED})
        if missing:
            raise ValueError(
                f"there is no code of class {', '.join(map(str, missing))}, only of "
                f"{', '.join(map(str, sorted(known)))}; encode target images of every class"
            )
        chances = torch.rand(len(labels), k, generator=generator, dtype=torch.float64)
        places = torch.empty(len(labels), k, dtype=torch.int64)
        for row, label in enumerate(labels.tolist()):
            own = torch.arange(len(self.labels)) if label == UNLABELLED else torch.nonzero(self.labels == label)[:, 0]
            places[row] = own[(chances[row] * len(own)).long()]
        return self.codes[places]


def interpolate_styles(
    start: Tensor, end: Tensor, weight: float | Tensor, kind: Literal["spherical", "linear"] = "spherical"
) -> Tensor:
    """Gives codes on the way from one style to another; weight 0 is exactly the start, 1 exactly the end.

    Spherical (Shoemake 1985) keeps the length that normal codes have, which the straight way between two of them does
    not: halfway between two random directions it is too short by about the root of 2, where the prior has next to
    nothing. Codes of different length change theirs evenly; codes on one line, or of no length, go straight. Linear
    suits codes of real images.

    Args:
        start: ... x style_dim.
        end: ... x style_dim, broadcast with start.
        weight: a number, or a tensor broadcast with the leading sizes.
        kind: "spherical" or "linear".

    Returns:
        ... x style_dim, float32.

    Raises:
        ValueError: unknown kind, or sizes that cannot be broadcast.
    """
    share = torch.as_tensor(weight, dtype=torch.float32, device=start.device).unsqueeze(-1)
    try:
        start, end = torch.broadcast_tensors(start.float(), end.float())
        torch.broadcast_shapes(start.shape, share.shape)
    except RuntimeError as error:
        raise ValueError(
            f"start, end and weight must fit together, got {tuple(start.shape)}, {tuple(end.shape)} and "
            f"{tuple(share.shape[:-1])}; the last size of styles is style_dim, and weight has only the others"
        ) from error
    straight = (1.0 - share) * start + share * end
    if kind == "linear":
        return straight
    if kind != "spherical":
        raise ValueError(f'kind must be "spherical" or "linear", got {kind!r}')
    lengths = start.norm(dim=-1, keepdim=True), end.norm(dim=-1, keepdim=True)
    cosine = (start * end).sum(dim=-1, keepdim=True) / (lengths[0] * lengths[1]).clamp_min(SMALL_LENGTH)
    angle = torch.acos(cosine.clamp(-1.0, 1.0))
    sine = torch.sin(angle)
    turned = (torch.sin((1.0 - share) * angle) * start / lengths[0].clamp_min(SMALL_LENGTH)) + (
        torch.sin(share * angle) * end / lengths[1].clamp_min(SMALL_LENGTH)
    )
    length = (1.0 - share) * lengths[0] + share * lengths[1]
    spherical = length * turned / sine.clamp_min(SMALL_LENGTH)
    has_way = (sine > SMALL_SINE) & (lengths[0] > SMALL_LENGTH) & (lengths[1] > SMALL_LENGTH)
    is_end = (share == 0.0) | (share == 1.0)
    return torch.where(has_way & ~is_end, spherical, straight)


def style_source(name: str, style_dim: int, bank: Tensor | None = None, truncation: float | None = None) -> StyleSource:
    """Gives a style source by name.

    Args:
        name: "prior", "bank" or "mixture".
        style_dim: numbers in a code.
        bank: M x style_dim codes of target images, needed by "bank" and "mixture".
        truncation: see the sources.

    Raises:
        TypeError: truncation is no number.
        ValueError: unknown name, truncation outside its range, or a bank is needed and there is none.
    """
    if name == "prior":
        return PriorStyles(style_dim, truncation)
    if name in ("bank", "mixture"):
        if bank is None or len(bank) == 0:
            raise ValueError(
                "there are no codes of target images to draw styles from: the checkpoint was saved without a "
                'style bank; use style="prior", or train with munitaug.train, which keeps one'
            )
        return BankStyles(bank, truncation) if name == "bank" else MixtureStyles(bank, truncation=truncation)
    if name == "exemplar":
        raise ValueError('style="exemplar" has no images here; give the exemplar images themselves as style')
    raise ValueError(f"style must be one of {', '.join(STYLE_NAMES)} (or exemplar images), got {name!r}")


def truncation_as_float(truncation: float | None) -> float | None:
    """Gives truncation as a float, None as None.

    Raises:
        TypeError: it is no number.
    """
    if truncation is None:
        return None
    if not is_number(truncation):
        raise TypeError(f"truncation must be a number or None, got {truncation!r}")
    return float(truncation)


def _check_bank(bank: Tensor) -> Tensor:
    if bank.ndim != 2:
        raise ValueError(f"style codes must be M x style_dim, got shape {tuple(bank.shape)}")
    if len(bank) == 0:
        raise ValueError("there are no style codes to draw from; give at least one")
    codes = bank.detach().float().cpu()
    if not bool(codes.isfinite().all()):
        raise ValueError("style codes must be finite numbers, but some are not; look at the images they are of")
    return codes


def _pull_to_mean(bank: Tensor, truncation: float | None) -> Tensor:
    factor = truncation_as_float(truncation)
    if factor is None:
        return bank
    if not 0.0 < factor <= 1.0:
        raise ValueError(f'truncation of style="bank" must be in (0, 1], got {factor}')
    mean = bank.mean(dim=0, keepdim=True)
    return mean + factor * (bank - mean)


def _check_noise_truncation(truncation: float | None) -> float | None:
    bound = truncation_as_float(truncation)
    if bound is not None and not bound >= 0.1:
        raise ValueError(f"truncation must be at least 0.1, got {bound}")
    return bound


def _normal_cdf(x: float) -> float:
    return float(torch.special.ndtr(torch.tensor(x, dtype=torch.float64)))
