"""Validators: scores of a classifier that need no target label, to choose a snapshot by.

Each is a function of the same :class:`Evidence`, which has no place for target labels; higher is better. Facts about
the published ones come from the papers named below and, where papers are silent, from the authors' code
(github.com/VisionLearningGroup/SND, nc_ps/eval.py; github.com/thuml/Deep-Embedded-Validation, dev.py) and from
github.com/KevinMusgrave/pytorch-adapt, validators/.

Floor 4: imports floors 1-3; scikit-learn only where a validator needs it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from munitaug.adaptation.objectives import information_maximisation
from munitaug.adaptation.task import SCORE_BATCH
from munitaug.networks.modes import device_of, evaluation_mode

SND_TEMPERATURE = 0.05
SND_ROWS = 1000
KMEANS_STARTS = 10
RATIO_FOLDS = 5
RATIO_STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0)
"""Inverse penalties of the logistic regression, of which the one that tells held-out images best is taken."""

CONSTANT_SPREAD = 1e-3
"""Weights whose deviation is below this share of their mean count as constant: there is nothing to control."""

Numbers = NDArray[np.float64]
Look = Callable[[Tensor], tuple[Tensor, Tensor]]
"""N x C x H x W images -> N x D features, N x classes logits."""


@dataclass(frozen=True)
class Evidence:
    """What a validator may look at: held-out source images with labels, target images without.

    Args:
        source_logits: N x classes of source images that the classifier has not learnt from; two classes or more.
        source_labels: their N int64 classes.
        source_features: N x D, what the last layer saw of them.
        target_logits: M x classes of unlabelled target images.
        target_features: M x D.

    Numbers that are not finite are allowed: a snapshot that diverged gets NaN from the validators that read them.

    Raises:
        ValueError: there is no image, or shapes or labels do not fit one another.
    """

    source_logits: Tensor
    source_labels: Tensor
    source_features: Tensor
    target_logits: Tensor
    target_features: Tensor

    def __post_init__(self) -> None:
        for name in ("source_logits", "source_features", "target_logits", "target_features"):
            values: Tensor = getattr(self, name)
            if values.ndim != 2 or 0 in values.shape or not values.is_floating_point():
                raise ValueError(
                    f"{name} must be images x numbers, floating point and not empty, "
                    f"got {values.dtype} of shape {tuple(values.shape)}"
                )
        _check_fit(self)
        labels = self.source_labels
        if labels.dtype != torch.int64 or labels.shape != self.source_logits.shape[:1]:
            raise ValueError(
                f"source_labels must be {len(self.source_logits)} int64 classes, one for each row of source_logits, "
                f"got {labels.dtype} of shape {tuple(labels.shape)}"
            )
        if not 0 <= int(labels.min()) <= int(labels.max()) < self.classes:
            raise ValueError(
                f"source_labels must lie in 0 .. {self.classes - 1}, the columns of source_logits, "
                f"got {int(labels.min())} .. {int(labels.max())}"
            )

    @property
    def classes(self) -> int:
        """Gives the number of classes."""
        return self.source_logits.shape[1]


Validator = Callable[[Evidence], float]
"""A score of a classifier without target labels; higher is better, NaN where the evidence is not finite."""


def collect_evidence(
    classifier: nn.Module, source_images: Tensor, source_labels: Tensor, target_images: Tensor
) -> Evidence:
    """Gives what validators look at, on the CPU; the classifier runs in evaluation mode and is left as it was.

    Features come from timm's ``forward_features`` and ``forward_head(..., pre_logits=True)`` where a classifier has
    them, else from its ``features(images)``; logits then from its ``head(features)`` if it has one, else from itself.

    Args:
        classifier: N x C x H x W in [-1, 1] -> N x classes logits, for example a SmallClassifier.
        source_images: N x C x H x W in [-1, 1], which the classifier has not learnt from.
        source_labels: their N int64 classes.
        target_images: M x C x H x W in [-1, 1].

    Raises:
        TypeError: the classifier offers no features.
        ValueError: its features are not N x D, or images and labels do not fit one another.
    """
    look = _look(classifier)
    with evaluation_mode(classifier):
        source_features, source_logits = _seen(classifier, look, source_images)
        target_features, target_logits = _seen(classifier, look, target_images)
    return Evidence(source_logits, source_labels.cpu(), source_features, target_logits, target_features)


def source_accuracy(evidence: Evidence) -> float:
    """Gives the accuracy on held-out source images in percent, 0 to 100.

    The trivial choice. It cannot see the target at all, and is at its end long before the target's is.

    Args:
        evidence: its source logits and labels are read.
    """
    if not _finite(evidence.source_logits):
        return math.nan
    return 100.0 - 100.0 * float(_source_errors(evidence).mean())


def predicted_information(evidence: Evidence) -> float:
    """Gives what predictions say about target images, in nats: 0 to ln(classes).

    Entropy of the mean prediction minus mean entropy of the predictions: high when each image is classified surely
    and the classes are used evenly (IM; Krause, Perona & Gomes 2010, as in Musgrave et al. 2022). It is minus the
    objective of SHOT-IM, so whatever was trained with that objective is judged by its own.

    Args:
        evidence: its target logits are read.
    """
    if not _finite(evidence.target_logits):
        return math.nan
    return 0.0 - float(information_maximisation(evidence.target_logits))


def soft_neighbourhood_density(evidence: Evidence) -> float:
    """Gives the mean entropy of each target image's similarity to the others, in nats: 0 to ln(M - 1).

    SND (Saito et al., ICCV 2021): predicted chances, scaled to length 1, are compared by their product over a
    temperature of 0.05; a softmax over all *other* images makes it a distribution, whose entropy counts neighbours.
    As in pytorch-adapt the image itself is left out; the authors' code gives it the smallest similarity, -1.

    Trap: when all predictions are equal everything is a neighbour, and a collapsed classifier reaches ln(M - 1), the
    maximum. Values depend on M: compare snapshots on the same images only.

    Args:
        evidence: its target logits are read.

    Raises:
        ValueError: there is one target image only.
    """
    count = len(evidence.target_logits)
    if count < 2:
        raise ValueError("soft neighbourhood density compares target images with one another and got one; give more")
    if not _finite(evidence.target_logits):
        return math.nan
    units = F.normalize(evidence.target_logits.double().softmax(dim=1), dim=1)
    total = 0.0
    for rows in torch.arange(count, device=units.device).split(SND_ROWS):
        similarity = units[rows] @ units.T / SND_TEMPERATURE
        similarity[torch.arange(len(rows), device=units.device), rows] = -math.inf
        total += float(torch.special.entr(similarity.softmax(dim=1)).sum())
    return total / count


def class_ami(evidence: Evidence) -> float:
    """Gives how far predicted classes agree with clusters of target features: about 0 by chance, 1 if equal.

    ClassAMI (Musgrave, Belongie & Lim 2022): k-means with as many clusters as classes, and the adjusted mutual
    information (arithmetic mean of the entropies) of clusters and predicted classes. Its benchmark tries raw features
    and ones scaled to length 1, with and without source images: here they are the target's, scaled. k-means++ starts
    ten times from a fixed seed, on distinct rows in sorted order, so the order of images does not matter.

    Where we leave it: when all predictions are of one class the score is 0, also when all features are equal, where
    scikit-learn's limit would be 1 and a collapsed classifier the best. Fewer distinct features than classes
    make as many clusters as there are.

    Args:
        evidence: its target logits and features are read.

    Raises:
        ValueError: there are no more target images than classes.
        ImportError: scikit-learn is missing.
    """
    count = len(evidence.target_logits)
    if count <= evidence.classes:
        raise ValueError(
            f"class AMI puts target images into {evidence.classes} clusters and needs more than that, got {count}"
        )
    if not _finite(evidence.target_logits, evidence.target_features):
        return math.nan
    predicted = evidence.target_logits.argmax(dim=1)
    if len(predicted.unique()) == 1:
        return 0.0
    return _agreement(
        predicted.cpu().numpy(), _numbers(F.normalize(evidence.target_features.double(), dim=1)), evidence.classes
    )


def importance_weighted(evidence: Evidence) -> float:
    """Gives minus the source error weighted towards the target, as a share of images: about -1 to 0.

    IWV (Sugiyama, Krauledat & Müller 2007): the mean of w(x) * loss over held-out source images, w the density
    ratio of target to source (:func:`density_ratios`). That estimates the target's *risk*, so the score is its
    negative. The loss is 0 or 1, as in the published code of DEV.

    Trap: weights are not made to have mean 1. Where features tell the domains apart, every source image is unlikely
    under the target, all weights go to 0 and so does the risk, whatever the classifier does.
    :func:`deep_embedded` mends that.

    Args:
        evidence: all but the target's logits is read.

    Raises:
        ValueError: a domain has one image only.
        ImportError: scikit-learn is missing.
    """
    return _minus_risk(evidence, weighted_risk)


def deep_embedded(evidence: Evidence) -> float:
    """Gives minus the source error weighted towards the target, corrected by what the mean weight should be.

    DEV (You et al., ICML 2019): :func:`importance_weighted` on features, with a control variate
    (:func:`controlled_risk`). It estimates the target's *risk* as a share of images, so the score is its negative;
    being corrected it may leave the range -1 to 0.

    Args:
        evidence: all but the target's logits is read.

    Raises:
        ValueError: a domain has one image only.
        ImportError: scikit-learn is missing.
    """
    return _minus_risk(evidence, controlled_risk)


def _minus_risk(evidence: Evidence, risk: Callable[[Tensor, Tensor], float]) -> float:
    if not _finite(evidence.source_logits, evidence.source_features, evidence.target_features):
        return math.nan
    ratios = density_ratios(evidence.source_features, evidence.target_features)
    return 0.0 - risk(ratios, _source_errors(evidence))


VALIDATORS: dict[str, Validator] = {
    "source-accuracy": source_accuracy,
    "im": predicted_information,
    "snd": soft_neighbourhood_density,
    "class-ami": class_ami,
    "iwv": importance_weighted,
    "dev": deep_embedded,
}
"""Functions Evidence -> score, higher is better. Scores of different validators have different units."""


def select(scores: Sequence[float]) -> int:
    """Gives the place of the highest score, the later one of equals; NaN is never chosen.

    Args:
        scores: of one validator, one for each snapshot.

    Raises:
        ValueError: there is no score, or all are NaN.
    """
    known = [(score, place) for place, score in enumerate(scores) if not math.isnan(score)]
    if not known:
        raise ValueError(f"there must be a score that is not NaN to choose by, got {list(scores)}")
    return max(known)[1]


def selection_regret(scores: Sequence[float], accuracies: Sequence[float]) -> float:
    """Gives what choosing by scores costs: best accuracy minus that of the chosen snapshot, in percent points, >= 0.

    Args:
        scores: of one validator, one for each snapshot; NaN where it has none.
        accuracies: of the same snapshots on labelled target images, in percent.

    Raises:
        ValueError: the numbers of scores and accuracies differ, none of the scores is a number, or an accuracy is not
            in 0 to 100.
    """
    if len(scores) != len(accuracies):
        raise ValueError(
            f"scores and accuracies must be of the same snapshots, got {len(scores)} and {len(accuracies)}"
        )
    if not all(0.0 <= accuracy <= 100.0 for accuracy in accuracies):
        raise ValueError(f"accuracies must be percentages, 0 to 100, got {list(accuracies)}")
    return max(accuracies) - accuracies[select(scores)]


def density_ratios(source_features: Tensor, target_features: Tensor) -> Tensor:
    """Gives N weights, float64: how much denser than the source the target is at each source image.

    A logistic regression tells domains apart (Bickel, Brückner & Scheffer 2007; You et al. 2019): the
    odds that it gives for "target", both domains weighing the same, are the ratio. Each image is judged by a
    regression that has not seen it.

    Where we leave the paper: it trains a small network on the source's *training* features, chooses one of nine weight
    decays by accuracy on a fifth of them, and weights the validation images. We have held-out images only, so we go
    round in five folds; the regression is linear, on standardised features, its penalty one of four, chosen by
    held-out log loss. Weights are cut off at the root of N (Ionides 2008), so that no single image decides. Folds
    follow the sorted features, so the order of images does not matter.

    Args:
        source_features: N x D, finite, N >= 2.
        target_features: M x D, finite, M >= 2.

    Raises:
        ValueError: a domain has one image only.
        ImportError: scikit-learn is missing.
    """
    count, folds = len(source_features), min(RATIO_FOLDS, len(source_features), len(target_features))
    if folds < 2:
        raise ValueError(
            "a density ratio needs at least 2 images of each domain, "
            f"got {count} of the source and {len(target_features)} of the target"
        )
    source, target = _numbers(source_features), _numbers(target_features)
    features = _standardised(np.concatenate([source, target]))
    fold = np.concatenate([_folds(source, folds), _folds(target, folds)])
    is_target = np.arange(len(features)) >= count
    tried = [_held_out_log_odds(features, is_target, fold, strength) for strength in RATIO_STRENGTHS]
    best = min(tried, key=lambda log_odds: _log_loss(log_odds, is_target))
    return torch.from_numpy(np.exp(np.minimum(best[:count], 0.5 * math.log(count))))


def weighted_risk(weights: Tensor, losses: Tensor) -> float:
    """Gives the mean of weight times loss over N source images."""
    return float((weights.double() * losses.double()).mean())


def controlled_risk(weights: Tensor, losses: Tensor) -> float:
    """Gives the weighted risk plus eta * (mean weight - 1), eta = -Cov(weight * loss, weight) / Var(weight).

    True density ratios have mean 1; what the sample's mean is above or below it says in which direction the risk is
    off, and eta is the factor of least variance (You et al. 2019; covariances with N - 1). With constant weights, or
    one image, eta is 0, as there is nothing to learn it from; the authors' code divides by 0 there, and pytorch-adapt
    adds 1e-6 to the variance.

    Args:
        weights: N density ratios.
        losses: N losses.
    """
    weights = weights.double()
    plain = weighted_risk(weights, losses)
    mean = float(weights.mean())
    if len(weights) < 2 or float(weights.std()) <= CONSTANT_SPREAD * mean:
        return plain
    covariance = torch.cov(torch.stack([weights * losses.double(), weights]))
    return plain - float(covariance[0, 1] / covariance[1, 1]) * (mean - 1.0)


def _check_fit(evidence: Evidence) -> None:
    source, target = evidence.source_logits, evidence.target_logits
    wide = evidence.source_features.shape[1], evidence.target_features.shape[1]
    for what, first, here, second, there in (
        ("rows", "source_logits", len(source), "source_features", len(evidence.source_features)),
        ("rows", "target_logits", len(target), "target_features", len(evidence.target_features)),
        ("columns", "source_logits", source.shape[1], "target_logits", target.shape[1]),
        ("columns", "source_features", wide[0], "target_features", wide[1]),
    ):
        if here != there:
            raise ValueError(f"{first} and {second} must have equally many {what}, got {here} and {there}")
    if evidence.classes < 2:
        raise ValueError(
            "logits must be of 2 classes or more, got 1; a yes-or-no output needs a column for each answer"
        )


def _look(classifier: nn.Module) -> Look:
    """Gives the function that a classifier is looked into with; it refuses features that are not N x D."""
    trunk, top = getattr(classifier, "forward_features", None), getattr(classifier, "forward_head", None)
    features, head = getattr(classifier, "features", None), getattr(classifier, "head", None)
    name = type(classifier).__name__

    def look_with_timm(images: Tensor) -> tuple[Tensor, Tensor]:
        assert callable(trunk)
        assert callable(top)
        maps = trunk(images)
        return _flat(top(maps, pre_logits=True), name), top(maps)

    def look_with_features(images: Tensor) -> tuple[Tensor, Tensor]:
        assert callable(features)
        found = _flat(features(images), name)
        return found, head(found) if callable(head) else classifier(images)

    if callable(trunk) and callable(top):  # first, because timm's "features" are maps
        return look_with_timm
    if callable(features):
        return look_with_features
    raise TypeError(
        f"validators need a classifier that offers features, got {name}; give it a method features(images) -> N x D, "
        "and a layer head from these to logits, or take a timm model"
    )


def _flat(features: Tensor, name: str) -> Tensor:
    if features.ndim != 2:
        raise ValueError(
            f"features of {name} must be N x D for validators, got {tuple(features.shape)}; average positions"
        )
    return features


@torch.no_grad()
def _seen(classifier: nn.Module, look: Look, images: Tensor) -> tuple[Tensor, Tensor]:
    """Gives N x D features and N x classes logits, float32 on the CPU."""
    device = device_of(classifier)
    parts = [look(part.to(device)) for part in images.split(SCORE_BATCH)]
    return torch.cat([part[0].float().cpu() for part in parts]), torch.cat([part[1].float().cpu() for part in parts])


def _finite(*values: Tensor) -> bool:
    return all(bool(value.isfinite().all()) for value in values)


def _source_errors(evidence: Evidence) -> Tensor:
    """Gives N numbers, float64: 0 where a source image is classified as its label, else 1."""
    return (evidence.source_logits.argmax(dim=1) != evidence.source_labels).double()


def _numbers(values: Tensor) -> Numbers:
    numbers: Numbers = values.detach().double().cpu().numpy()
    return numbers


def _agreement(predicted: NDArray[np.int64], features: Numbers, classes: int) -> float:
    try:
        from sklearn.cluster import KMeans
        from sklearn.metrics import adjusted_mutual_info_score
    except ImportError as error:
        raise ImportError('class AMI needs scikit-learn: pip install "munitaug[benchmarks]"') from error
    distinct, place, times = np.unique(features, axis=0, return_inverse=True, return_counts=True)
    clusters = KMeans(min(classes, len(distinct)), n_init=KMEANS_STARTS, random_state=0)
    found = clusters.fit(distinct, sample_weight=times.astype(np.float64)).labels_[place.reshape(-1)]
    return float(adjusted_mutual_info_score(predicted, found))


def _standardised(features: Numbers) -> Numbers:
    """Gives features of mean 0 and deviation 1; constant ones become 0."""
    spread = features.std(axis=0)
    standard: Numbers = (features - features.mean(axis=0)) / np.where(spread > 0.0, spread, 1.0)
    return standard


def _folds(features: Numbers, folds: int) -> NDArray[np.int64]:
    """Gives a fold for each row, in turn along the sorted rows."""
    fold = np.empty(len(features), dtype=np.int64)
    fold[np.lexsort(features.T[::-1])] = np.arange(len(features)) % folds
    return fold


def _held_out_log_odds(
    features: Numbers, is_target: NDArray[np.bool_], fold: NDArray[np.int64], strength: float
) -> Numbers:
    """Gives the log odds for "target" of each row, from regressions that were fitted without its fold."""
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        raise ImportError('density ratios need scikit-learn: pip install "munitaug[benchmarks]"') from error
    log_odds = np.empty(len(features))
    for held in range(int(fold.max()) + 1):
        out = fold == held
        regression = LogisticRegression(C=strength, class_weight="balanced", tol=1e-6, max_iter=1000)
        log_odds[out] = regression.fit(features[~out], is_target[~out]).decision_function(features[out])
    return log_odds


def _log_loss(log_odds: Numbers, is_target: NDArray[np.bool_]) -> float:
    """Gives the mean log loss of the domains, both weighing the same."""
    losses = np.logaddexp(0.0, np.where(is_target, -log_odds, log_odds))
    return float(losses[is_target].mean() + losses[~is_target].mean())
