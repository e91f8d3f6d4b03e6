"""How good and how varied translations are, on the features of any frozen network.

A feature network takes N x C x H x W in [-1, 1] and gives N x D features (or N x D x h x w maps). For digits that is
the hidden layer of a classifier trained on the wanted kind of images; for photographs a timm or Inception network that
the user has the weights of. Nothing is downloaded. Every result says which network it was, how many images there were
and how they were resized, because all three change the figure.

Floor 3: imports images; torchmetrics where a distance is measured.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Self

import torch
from torch import Tensor, nn
from tqdm import tqdm

from munitaug.images import resize_model_images

FeatureNetwork = Callable[[Tensor], Tensor]
BATCH = 250
KERNEL_SUBSETS = 100
KERNEL_SUBSET_SIZE = 1000
LEAST_LENGTH = 1e-10


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
        return cls(fake_features, real_features, name, "none" if size is None else f"antialiased bilinear to {size} px")

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
        network: frozen and in evaluation mode, on ``device``.
        images: N x C x H x W in [-1, 1].
        size: side in px that the network wants (antialiased bilinear); None leaves the images as they are.
        device: where the network is.
        progress: label of a progress bar; empty for none.
    """
    parts = []
    with torch.no_grad():
        for part in tqdm(images.split(BATCH), desc=progress, unit="batch", disable=not progress):
            resized = part if size is None else resize_model_images(part, size)
            features = network(resized.to(device)).float()
            parts.append((features if features.ndim == 2 else features.flatten(2).mean(dim=2)).cpu())
    return torch.cat(parts)


def frechet_distance(features: Features) -> Metric:
    """Gives the Fréchet distance of two Gaussians fitted to the features (Heusel et al. 2017), >= 0, in float64.

    With Inception features this is the FID. It is biased for few images, and means little with fewer images than
    features; take :func:`kernel_distance` there.

    Raises:
        ImportError: torchmetrics is missing.
    """
    metric = _torchmetrics("fid").FrechetInceptionDistance(feature=_GivenFeatures(features.fake.shape[1]))
    metric.set_dtype(torch.float64)
    metric.update(features.real.double(), real=True)
    metric.update(features.fake.double(), real=False)
    return features.result("frechet", max(0.0, float(metric.compute())))


def kernel_distance(features: Features, seed: int = 0) -> Metric:
    """Gives the kernel distance (cubic kernel, unbiased; Binkowski et al. 2018), mean and deviation over subsets.

    With Inception features this is the KID. Unbiased, so it may be a little below 0 for equal distributions.

    Args:
        features: of translations and real images.
        seed: of the 100 subsets, of 1000 images or of as many as there are.

    Raises:
        ImportError: torchmetrics is missing.
    """
    size = min(KERNEL_SUBSET_SIZE, len(features.fake), len(features.real))
    metric = _torchmetrics("kid").KernelInceptionDistance(
        feature=_GivenFeatures(features.fake.shape[1]), subsets=KERNEL_SUBSETS, subset_size=size
    )
    metric.update(features.real.double(), real=True)
    metric.update(features.fake.double(), real=False)
    with torch.random.fork_rng(devices=[]):  # torchmetrics draws its subsets from the global generator
        torch.manual_seed(seed)
        mean, deviation = metric.compute()
    return features.result("kernel", float(mean), float(deviation))


def coverage_and_density(features: Features, neighbours: int = 5) -> tuple[Metric, Metric]:
    """Gives coverage in [0, 1] and density >= 0 (Naeem et al. 2020, eqs. 5 and 6); both are 1 for equal sets, about.

    Coverage is the share of real images that have a translation as near as their k-th real neighbour; density is how
    many such neighbourhoods a translation lies in, over k.

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
        [torch.cdist(part, real).kthvalue(neighbours + 1, dim=1).values for part in real.split(BATCH)]
    )  # + 1: the nearest is the image itself
    covered = torch.zeros(len(real), dtype=torch.bool)
    hits = 0
    for part in fake.split(BATCH):
        inside = torch.cdist(part, real) < radii
        covered |= inside.any(dim=0)
        hits += int(inside.sum())
    coverage = float(covered.double().mean())
    density = hits / (neighbours * len(fake))
    return features.result("coverage", coverage), features.result("density", density)


def style_diversity(
    network: FeatureNetwork, variants: Tensor, *, name: str = "features", device: str | torch.device = "cpu"
) -> Metric:
    """Gives the mean distance between two variants of one image, LPIPS-style: 0 when styles change nothing.

    At every position features are scaled to length 1; the distance is the mean over positions of the squared
    difference (in [0, 4]), as in LPIPS (Zhang et al. 2018, eq. 1) but on one layer and without learned weights.
    Averaged over all pairs of variants and over images.

    Args:
        network: N x C x H x W in [-1, 1] -> N x D or N x D x h x w.
        variants: N x K x C x H x W in [-1, 1], K >= 2.
        name: of the network.
        device: where the network is.

    Raises:
        ValueError: fewer than two variants.
    """
    count, k = _count_variants(variants)
    first, second = torch.triu_indices(k, k, offset=1)
    total = 0.0
    with torch.no_grad():
        for part in variants.split(max(1, BATCH // k)):
            unit = _unit_features(network(part.flatten(0, 1).to(device))).unflatten(0, (len(part), k))
            squares = (unit[:, first] - unit[:, second]).square().sum(dim=2).mean(dim=2)
            total += float(squares.mean(dim=1).sum())
    return Metric("diversity", total / count, None, name, 0, count * k)


def inception_scores(
    classifier: FeatureNetwork, variants: Tensor, *, name: str = "classifier", device: str | torch.device = "cpu"
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
        device: where it is.

    Returns:
        (conditional, unconditional).

    Raises:
        ValueError: fewer than two variants.
    """
    count, k = _count_variants(variants)
    with torch.no_grad():
        logits = [classifier(part.to(device)).double().cpu() for part in variants.flatten(0, 1).split(BATCH)]
    logs = torch.cat(logits).log_softmax(dim=1).unflatten(0, (count, k))
    of_image = logs.logsumexp(dim=1, keepdim=True) - torch.tensor(float(k), dtype=torch.float64).log()
    of_all = of_image.logsumexp(dim=0, keepdim=True) - torch.tensor(float(count), dtype=torch.float64).log()
    scores = [float((logs.exp() * (logs - other)).sum(dim=2).mean()) for other in (of_image, of_all)]
    conditional, unconditional = (max(0.0, score) for score in scores)
    return (
        Metric("conditional inception score", conditional, None, name, 0, count * k),
        Metric("inception score", unconditional, None, name, 0, count * k),
    )


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
    maps = features.float().cpu()
    flat = maps.unsqueeze(2) if maps.ndim == 2 else maps.flatten(2)
    unit: Tensor = flat / flat.norm(dim=1, keepdim=True).clamp_min(LEAST_LENGTH)
    return unit


def _count_variants(variants: Tensor) -> tuple[int, int]:
    if variants.ndim != 5 or variants.shape[0] < 1 or variants.shape[1] < 2:
        raise ValueError(f"variants must be N x K x C x H x W with at least 2 variants, got {_sizes(variants)}")
    return variants.shape[0], variants.shape[1]


def _sizes(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape))
