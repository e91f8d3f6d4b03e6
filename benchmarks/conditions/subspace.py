"""SA, subspace alignment (Fernando et al., ICCV 2013), through skada on the features of "classic".

As Ganin et al. (JMLR 2016) compare with it: on the activations before a source classifier's last layer,
whose last layer is then trained anew. There it is a linear SVM, here logistic regression; the dimension, which they
choose by its result, is fixed here.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.conditions.base import Cell
from benchmarks.conditions.joint import SOURCE, TARGET, check_skada, features_of, head_of
from benchmarks.conditions.plain import classic

COMPONENTS = 64
NEVER = -1e4
"""Logit of a class without source images."""


def subspace(cell: Cell) -> nn.Module:
    """Gives "classic" with a new last layer, trained on source features aligned to the target's principal axes.

    Raises:
        ImportError: skada is missing.
    """
    check_skada("subspace alignment")
    classifier, task = classic(cell), cell.task
    source, target = features_of(classifier, task.source_images), features_of(classifier, task.target_images)
    weight, bias = aligned_head(source.numpy(), task.source_labels.cpu().numpy(), target.numpy(), task.classes)
    head = head_of(classifier)
    with torch.no_grad():
        head.weight.copy_(weight)
        head.bias.copy_(bias)
    return classifier.eval()


def aligned_head(
    source: NDArray[np.float32], labels: NDArray[np.int64], target: NDArray[np.float32], classes: int
) -> tuple[Tensor, Tensor]:
    """Gives weight (classes x F) and bias (classes) of a linear layer on target features.

    Target features are projected on their principal axes; source features on theirs, and then turned towards the
    target's (section 3 of the paper). Logistic regression on the latter is linear in the former, so projection and
    regression are one layer.

    Args:
        source: N x F features.
        labels: their N classes.
        target: M x F features.
        classes: outputs.
    """
    from skada import SubspaceAlignmentAdapter
    from sklearn.linear_model import LogisticRegression

    components = min(COMPONENTS, *source.shape, *target.shape)
    both = np.concatenate([source, target])
    domains = np.repeat([SOURCE, TARGET], [len(source), len(target)])
    adapter = SubspaceAlignmentAdapter(n_components=components, random_state=0).fit(both, sample_domain=domains)
    aligned = adapter.transform(both, sample_domain=domains, allow_source=True)[: len(source)]
    regression = LogisticRegression(max_iter=1000).fit(aligned, labels)
    axes, mean = adapter.pca_target_.components_, adapter.pca_target_.mean_
    slopes, offsets = regression.coef_, regression.intercept_
    if len(slopes) == 1:  # two classes: one number, for the second
        slopes, offsets = np.concatenate([-slopes, slopes]) / 2.0, np.concatenate([-offsets, offsets]) / 2.0
    weight = np.zeros((classes, source.shape[1]))
    bias = np.full(classes, NEVER)
    weight[regression.classes_] = slopes @ axes
    bias[regression.classes_] = offsets - slopes @ axes @ mean
    return torch.from_numpy(weight).float(), torch.from_numpy(bias).float()
