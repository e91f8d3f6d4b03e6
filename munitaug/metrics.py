"""How good and how varied translations are, on the features of any frozen network.

A feature network takes N x C x H x W in [-1, 1] and gives N x D features (or N x D x h x w maps). For digits that is
the hidden layer of a classifier trained on the wanted kind of images; for photographs a timm or Inception network that
the user has the weights of. Nothing is downloaded. Every result says which network it was, how many images there were
and how they were resized, because all three change the figure. Networks are asked in evaluation mode and without
gradients, whatever mode they come in.

Floor 3: imports images, styles and translator; torchmetrics where a distance is measured.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from math import isfinite
from types import ModuleType
from typing import Self

import torch
from torch import Tensor, nn
from tqdm import tqdm

from munitaug.default_device import on_cpu_by_default
from munitaug.images import resize_model_images
from munitaug.networks.modes import device_of, evaluation_mode
from munitaug.random import seeded
from munitaug.styles import PriorStyles, StyleSource
from munitaug.translator import Translator

FeatureNetwork = Callable[[Tensor], Tensor]
LayersNetwork = Callable[[Tensor], Tensor | Sequence[Tensor]]
"""A feature network that may give the outputs of several layers at once."""
BATCH = 250
LEAST_LENGTH = 1e-10
EQUAL_TO = 1e-7
"""Distance of two double-precision vectors, as a fraction of their lengths, that cannot be told from 0."""


@dataclass(frozen=True)
class Metric:
    """A figure and what it depends on.

    Args:
        name: of the metric.
        value: the figure.
        spread: standard deviation over subsets, where the metric has one.
        feature_network: what the features are of.
        real_count: real images, 0 where none are needed.
        fake_count: translations.
        resize: "none", or how images were brought to the network's size.
    """

    name: str
    value: float
    spread: float | None
    feature_network: str
    real_count: int
    fake_count: int
    resize: str = "none"


@dataclass(frozen=True)
class Features:
    """Features of two sets of images, extracted once for several metrics.

    Args:
        fake: N x D, of translations.
        real: M x D, of real images of the target.
        network: name of the feature network.
        resize: "none", or how images were brought to the network's size.
    """

    fake: Tensor
    real: Tensor
    network: str
    resize: str = "none"

    def __post_init__(self) -> None:
        if self.fake.ndim != 2 or self.real.ndim != 2 or self.fake.shape[1] != self.real.shape[1]:
            raise ValueError(
                f"features must be N x D and M x D, got {_sizes(self.fake)} and {_sizes(self.real)}; average feature "
                "maps over their positions first"
            )
        if not (bool(self.fake.isfinite().all()) and bool(self.real.isfinite().all())):
            raise ValueError("features must be finite, but some are not; check the network's weights and the images")
        if min(len(self.fake), len(self.real)) < 2:
            raise ValueError(f"at least 2 images of each kind are needed, got {len(self.fake)} and {len(self.real)}")

    @classmethod
    def of(
        cls,
        network: FeatureNetwork,
        fake: Tensor,
        real: Tensor,
        *,
        name: str,
        size: int | None = None,
        device: str | torch.device = "cpu",
        progress: bool = False,
    ) -> Self:
        """Gives the features of translations and real images, N x C x H x W and M x C x H x W in [-1, 1].

        Args:
            network: see :func:`extract_features`.
            fake: translations.
            real: real images of the target.
            name: of the network, for the results.
            size: side in px that the network wants; None leaves the images as they are.
            device: where the network is.
            progress: show progress bars.
        """
        fake_features = extract_features(
            network, fake, size=size, device=device, progress="translations" if progress else ""
        )
        real_features = extract_features(network, real, size=size, device=device, progress="real" if progress else "")
        return cls(fake_features, real_features, name, _resize_name(size))

    def result(self, name: str, value: float, spread: float | None = None) -> Metric:
        """Gives a metric of these features."""
        return Metric(name, value, spread, self.network, len(self.real), len(self.fake), self.resize)


def extract_features(
    network: FeatureNetwork,
    images: Tensor,
    *,
    size: int | None = None,
    device: str | torch.device = "cpu",
    progress: str = "",
) -> Tensor:
    """Gives N x D float32 features on the CPU; maps are averaged over their positions.

    Args:
        network: on ``device``; asked in evaluation mode.
        images: N x C x H x W in [-1, 1].
        size: side in px that the network wants (antialiased bilinear); None leaves the images as they are.
        device: where the network is.
        progress: label of a progress bar; empty for none.

    Raises:
        ValueError: the network gives something else, or a number that is not finite.
    """
    parts = []
    with evaluation_mode(network), torch.no_grad():
        for part in tqdm(images.split(BATCH), desc=progress, unit="batch", disable=not progress, leave=False):
            features = network(_resized(part.to(device), size)).float()
            if features.ndim < 2 or len(features) != len(part):
                raise ValueError(
                    f"the feature network must give N x D features or N x D x h x w maps, got {_sizes(features)} of "
                    f"{len(part)} images; let it give the output of one layer"
                )
            parts.append((features if features.ndim == 2 else features.flatten(2).mean(dim=2)).cpu())
    found = torch.cat(parts)
    if not bool(found.isfinite().all()):
        raise ValueError("the feature network gave numbers that are not finite; check its weights and the images")
    return found


def frechet_distance(features: Features) -> Metric:
    """Gives the Fréchet distance of two Gaussians fitted to the features (Heusel et al. 2017), >= 0, in float64.

    With Inception features this is the FID. Too few images make it too large, and with no more images than features
    the covariances have no inverse: then there is a warning, and :func:`kernel_distance` is the one to take.

    Args:
        features: of translations and real images.

    Raises:
        ImportError: torchmetrics is missing.
    """
    fewest, size = min(len(features.fake), len(features.real)), features.fake.shape[1]
    if fewest <= size:
        warnings.warn(
            f"a Fréchet distance of {size} features from {fewest} images says little: its covariances are singular; "
            f"give more than {size} images of each kind, or take kernel_distance",
            stacklevel=2,
        )
    metric = _torchmetrics("fid").FrechetInceptionDistance(feature=_GivenFeatures(features.fake.shape[1]))
    metric.set_dtype(torch.float64)
    metric.update(features.real.double(), real=True)
    metric.update(features.fake.double(), real=False)
    return features.result("frechet", max(0.0, float(metric.compute())))


def kernel_distance(features: Features, seed: int = 0, *, subsets: int = 100, subset_size: int = 1000) -> Metric:
    """Gives the kernel distance (Binkowski et al. 2018), mean and deviation over random subsets.

    The squared maximum mean discrepancy under the cubic kernel (x . y / D + 1)^3, without the pairs of an image with
    itself; with Inception features this is the KID. Unbiased, so it may be a little below 0 for equal distributions.

    Args:
        features: of translations and real images.
        seed: of the subsets.
        subsets: how many; 1 is enough where a subset is all there are.
        subset_size: images of each kind in a subset, >= 2; as many as there are where there are fewer. The spread is
            that of such subsets, and None where they are all images of both kinds.

    Raises:
        ImportError: torchmetrics is missing.
        ValueError: no subsets, or smaller ones than 2.
    """
    if subsets < 1 or subset_size < 2:
        raise ValueError(f"at least 1 subset of at least 2 images is needed, got {subsets} of {subset_size}")
    size = min(subset_size, len(features.fake), len(features.real))
    are_all = size == len(features.fake) == len(features.real)
    kid = _torchmetrics("kid")
    with warnings.catch_warnings():  # it says that it keeps the features in memory, where they are already
        warnings.filterwarnings("ignore", message="Metric `Kernel Inception Distance` will save all")
        metric = kid.KernelInceptionDistance(
            feature=_GivenFeatures(features.fake.shape[1]), subsets=1 if are_all else subsets, subset_size=size
        )
    metric.update(features.real.double(), real=True)
    metric.update(features.fake.double(), real=False)
    with seeded(seed):  # torchmetrics draws its subsets from the global generator
        mean, deviation = metric.compute()
    return features.result("kernel", float(mean), None if are_all else float(deviation))


def coverage_and_density(features: Features, neighbours: int = 5) -> tuple[Metric, Metric]:
    """Gives coverage in [0, 1] and density >= 0 (Naeem et al. 2020, eqs. 5 and 6).

    Coverage is the share of real images that have a translation as near as their k-th real neighbour; density is how
    many such neighbourhoods a translation lies in, over k. Both are about 1 for two draws from one distribution, and 0
    where every real image stands k + 1 times in its set or more, which makes neighbourhoods of no extent.

    Args:
        features: of translations and real images.
        neighbours: k, less than the number of real images.

    Raises:
        ValueError: k is outside its range.
    """
    if not 1 <= neighbours < len(features.real):
        raise ValueError(f"neighbours must be 1 to {len(features.real) - 1} here, got {neighbours}")
    real, fake = features.real.double(), features.fake.double()
    radii = torch.cat(
        [_distances(part, real).kthvalue(neighbours + 1, dim=1).values for part in real.split(BATCH)]
    )  # + 1: the nearest is the image itself
    covered = torch.zeros(len(real), dtype=torch.bool)
    hits = 0
    for part in fake.split(BATCH):
        inside = _distances(part, real) < radii
        covered |= inside.any(dim=0)
        hits += int(inside.sum())
    coverage = float(covered.double().mean())
    density = hits / (neighbours * len(fake))
    return features.result("coverage", coverage), features.result("density", density)


def _distances(x: Tensor, y: Tensor) -> Tensor:
    """Gives N x M distances of N x D and M x D; exactly 0 between equal rows, which products of matrices miss."""
    distances = torch.cdist(x, y)
    noise = EQUAL_TO * (x.norm(dim=1)[:, None] + y.norm(dim=1))
    return distances.masked_fill_(distances <= noise, 0.0)


def style_diversity(
    network: LayersNetwork,
    variants: Tensor,
    *,
    name: str = "features",
    size: int | None = None,
    device: str | torch.device = "cpu",
    progress: bool = False,
) -> Metric:
    """Gives the mean distance between two variants of one image, LPIPS-style: 0 when styles change nothing.

    Features are scaled to length 1 over their channels at every position. The distance of two variants is the squared
    length of the difference (in [0, 4]), averaged over positions and then over layers: LPIPS (Zhang et al. 2018, eq. 1)
    without its learned weights, and with the mean over layers where LPIPS has the sum. For a network that gives
    vectors it is 2 - 2 cos of the angle between them. Averaged over all pairs of variants and over images.

    Args:
        network: N x C x H x W in [-1, 1] -> N x D or N x D x h x w, or a sequence of these, one per layer.
        variants: N x K x C x H x W in [-1, 1], K >= 2.
        name: of the network.
        size: side in px that the network wants (antialiased bilinear); None leaves the images as they are.
        device: where the network is.
        progress: show a progress bar.

    Raises:
        ValueError: fewer than two variants.
    """
    count, k = _count_variants(variants)
    first, second = torch.triu_indices(k, k, offset=1, device=device)
    total = 0.0
    parts = variants.split(max(1, BATCH // k))
    with evaluation_mode(network), torch.no_grad():
        for part in tqdm(parts, desc="diversity", unit="batch", disable=not progress, leave=False):
            output = network(_resized(part.flatten(0, 1).to(device), size))
            layers = [output] if isinstance(output, Tensor) else list(output)
            for layer in layers:
                unit = _unit_features(layer).unflatten(0, (len(part), k))
                squares = (unit[:, first] - unit[:, second]).square().sum(dim=2).mean(dim=2)
                total += float(squares.mean(dim=1).sum()) / len(layers)
    if not isfinite(total):
        raise ValueError("the feature network gave numbers that are not finite; check its weights and the images")
    return Metric("diversity", total / count, None, name, 0, count * k, _resize_name(size))


def inception_scores(
    classifier: FeatureNetwork,
    variants: Tensor,
    *,
    name: str = "classifier",
    size: int | None = None,
    device: str | torch.device = "cpu",
    progress: bool = False,
) -> tuple[Metric, Metric]:
    """Gives MUNIT's conditional Inception score and the Inception score, both as mean divergences in nats, >= 0.

    Conditional: mean over images and variants of KL(p(y | variant) || p(y | image)), where p(y | image) is the mean
    over the image's variants; high when one image becomes many things. Unconditional: against the mean over all.
    MUNIT's tables hold these means, not their exponentials (Huang et al. 2018, section 5.2; NVlabs/MUNIT test_batch.py
    prints the exponential).

    Args:
        classifier: N x C x H x W in [-1, 1] -> N x classes logits, trained on the target.
        variants: N x K x C x H x W in [-1, 1], K >= 2.
        name: of the classifier.
        size: side in px that the classifier wants (antialiased bilinear); None leaves the images as they are.
        device: where it is.
        progress: show a progress bar.

    Returns:
        (conditional, unconditional).

    Raises:
        ValueError: fewer than two variants.
    """
    count, k = _count_variants(variants)
    label = "class scores" if progress else ""
    logits = extract_features(classifier, variants.flatten(0, 1), size=size, device=device, progress=label)
    logs = logits.double().log_softmax(dim=1).unflatten(0, (count, k))
    of_image = logs.logsumexp(dim=1, keepdim=True) - torch.tensor(float(k), dtype=torch.float64).log()
    of_all = of_image.logsumexp(dim=0, keepdim=True) - torch.tensor(float(count), dtype=torch.float64).log()
    scores = [float((logs.exp() * (logs - other)).sum(dim=2).mean()) for other in (of_image, of_all)]
    names = ("conditional inception score", "inception score")
    conditional, unconditional = (
        Metric(title, max(0.0, score), None, name, 0, count * k, _resize_name(size))
        for title, score in zip(names, scores, strict=True)
    )
    return conditional, unconditional


@on_cpu_by_default
def measure_translation(
    translator: Translator,
    source: Tensor,
    real: Tensor,
    network: FeatureNetwork,
    *,
    name: str,
    generator: torch.Generator,
    styles: StyleSource | None = None,
    variants: int = 10,
    varied_images: int = 100,
    classifier: FeatureNetwork | None = None,
    size: int | None = None,
    progress: bool = False,
) -> list[Metric]:
    """Gives all metrics of a translator: how near to the target its translations are, and how varied.

    Frechet, kernel, coverage and density compare one translation of every source image with real images, because
    variants of one image are not independent. Diversity and, where there is a classifier, the Inception scores are of
    ``variants`` translations of the first ``varied_images``. They are left out for a translator without styles.

    Args:
        translator: in evaluation mode.
        source: N x C x H x W in [-1, 1], N >= 2.
        real: M x C x H x W in [-1, 1], real images of the target, M >= 6.
        network: on the translator's device, see :func:`extract_features`.
        name: of the network, for the results.
        generator: decides the styles: first one for each image, then those of the variants.
        styles: where styles come from; None is the prior.
        variants: translations of an image, K >= 2.
        varied_images: of how many images; the paper takes 100.
        classifier: N x C x H x W in [-1, 1] -> N x classes logits, on the translator's device; None leaves the
            Inception scores out.
        size: side in px that the networks want (antialiased bilinear); None leaves the images as they are.
        progress: show progress bars.

    Returns:
        frechet, kernel, coverage, density, diversity, conditional inception score, inception score, as far as measured.

    Raises:
        ImportError: torchmetrics is missing.
        ValueError: too few images or variants, or images that the translator cannot take.
    """
    if variants < 2 or varied_images < 1:
        raise ValueError(f"at least 2 variants of 1 image are needed, got {variants} of {varied_images}")
    device = device_of(translator)
    drawn = styles or PriorStyles(translator.style_dim)
    chosen = source[:varied_images]
    single = drawn.sample(len(source), 1, generator)
    several = drawn.sample(len(chosen), variants, generator)
    fake = _translations(translator, source, single, "translating" if progress else "").squeeze(1)
    features = Features.of(network, fake, real, name=name, size=size, device=device, progress=progress)
    found = [frechet_distance(features), kernel_distance(features), *coverage_and_density(features)]
    if translator.style_dim == 0:
        return found
    varied = _translations(translator, chosen, several, "translating variants" if progress else "")
    found.append(style_diversity(network, varied, name=name, size=size, device=device, progress=progress))
    if classifier is not None:
        found += inception_scores(
            classifier, varied, name=f"classes of {name}", size=size, device=device, progress=progress
        )
    return found


@torch.no_grad()
def _translations(translator: Translator, images: Tensor, codes: Tensor, progress: str) -> Tensor:
    """Gives N x K x C x H x W in [-1, 1], on the CPU."""
    device = device_of(translator)
    rows = max(1, BATCH // codes.shape[1])
    pairs = list(zip(images.split(rows), codes.split(rows), strict=True))
    return torch.cat(
        [
            translator.translate(part.to(device), style.to(device)).cpu()
            for part, style in tqdm(pairs, desc=progress, unit="batch", disable=not progress, leave=False)
        ]
    )


def _resized(images: Tensor, size: int | None) -> Tensor:
    return images if size is None else resize_model_images(images, size)


def _resize_name(size: int | None) -> str:
    return "none" if size is None else f"antialiased bilinear to {size} px"


class _GivenFeatures(nn.Module):
    """Stands for the feature network where torchmetrics asks for one: the features are extracted already."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.num_features = size

    def forward(self, features: Tensor) -> Tensor:
        return features


def _torchmetrics(name: str) -> ModuleType:
    """Gives torchmetrics.image.NAME; the package names it only where torch-fidelity is, which is not needed."""
    try:
        return import_module(f"torchmetrics.image.{name}")
    except ImportError as error:
        raise ImportError('distances of feature distributions need: pip install "munitaug[metrics]"') from error


def _unit_features(features: Tensor) -> Tensor:
    """Gives N x D x P features of length 1 at each of P positions."""
    maps = features.float()
    flat = maps.unsqueeze(2) if maps.ndim == 2 else maps.flatten(2)
    unit: Tensor = flat / flat.norm(dim=1, keepdim=True).clamp_min(LEAST_LENGTH)
    return unit


def _count_variants(variants: Tensor) -> tuple[int, int]:
    if variants.ndim != 5 or variants.shape[0] < 1 or variants.shape[1] < 2:
        raise ValueError(f"variants must be N x K x C x H x W with at least 2 variants, got {_sizes(variants)}")
    return variants.shape[0], variants.shape[1]


def _sizes(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape))
