"""What an unlabelled target teaches a classifier: confident and balanced predictions, agreement of views.

Floor 4: imports floors 1-3.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def information_maximisation(logits: Tensor, shares: Tensor | None = None) -> Tensor:
    """Gives mean entropy of each prediction minus entropy of the mean prediction, in nats; without ``shares``.

    Small when each image is classified surely and the classes are used evenly: SHOT-IM (Liang, Hu & Feng,
    ICML 2020, eq. 3; the idea is Krause, Perona & Gomes 2010).

    Args:
        logits: N x classes of a batch of target images.
        shares: C positive numbers with sum 1, how often each class should be used: the second term is then the
            divergence of the mean prediction from them (Krause, Perona & Gomes 2010, section 3.3). None: evenly.
    """
    log_chances = F.log_softmax(logits.float(), dim=1)
    chances = log_chances.exp()
    each = -(chances * log_chances).sum(dim=1).mean()
    mean = chances.mean(dim=0)
    wanted = 0.0 if shares is None else (shares + 1e-8).log()
    return each + (mean * ((mean + 1e-8).log() - wanted)).sum()


def view_consistency(weak_logits: Tensor, strong_logits: Tensor, threshold: float = 0.9) -> Tensor:
    """Gives the cross-entropy of the strong view with the sure predictions of the weak view.

    FixMatch (Sohn et al., NeurIPS 2020, eq. 4): predictions surer than the threshold become labels of the
    same images seen under a stronger change.

    Args:
        weak_logits: N x classes of lightly changed images; no gradient flows into them.
        strong_logits: N x classes of the same images, strongly changed.
        threshold: least chance of the predicted class, in (0, 1).
    """
    label, sure = _prediction(weak_logits, threshold)
    losses = F.cross_entropy(strong_logits.float(), label, reduction="none")
    return (losses * sure).mean()


def confirmed_label_loss(known_logits: Tensor, logits: Tensor, labels: Tensor, threshold: float = 0.9) -> Tensor:
    """Gives the cross-entropy with labels that may be wrong, over those that a teacher gives too, and surely.

    The mean is over all N images, of which the others count 0.

    Args:
        known_logits: N x classes of the teacher, of lightly changed images; no gradient flows into them.
        logits: N x classes of the same images, strongly changed.
        labels: N int64 classes.
        threshold: least chance that the teacher gives the label, in (0, 1).
    """
    seen, sure = _prediction(known_logits, threshold)
    losses = F.cross_entropy(logits.float(), labels, reduction="none")
    return (losses * ((seen == labels) & sure)).mean()


def _prediction(logits: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Gives the predicted classes, N int64, and whether each has at least the threshold's chance; without gradient."""
    best, label = logits.detach().float().softmax(dim=1).max(dim=1)
    return label, best >= threshold
