"""A classifier that says which class it sees in translated images, and how far images are from one another.

Floor 6: imports floors 1-5.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from munitaug.data.domain import ImageDomain
from munitaug.images import images_to_model, match_channels
from munitaug.metrics import FeatureNetwork, extract_features
from munitaug.networks.modes import device_of
from munitaug.recipes.classifier import train_classifier

SHORT_NAME = 3


@dataclass(frozen=True)
class Judge:
    """A classifier with what is needed to ask it.

    Args:
        classifier: N x channels x H x W in [-1, 1] -> N x classes logits.
        channels: of its images.
        name: what the legend calls it.
        class_names: in label order; empty for numbers.
    """

    classifier: nn.Module
    channels: int
    name: str
    class_names: tuple[str, ...] = ()

    def marks(self, images: Tensor, labels: Tensor) -> tuple[str | None, ...]:
        """Gives for each image the class that is seen in it, or None where that is its label.

        Args:
            images: uint8 N x C x H x W.
            labels: N int64 classes.

        Raises:
            ValueError: a label that the classifier has no output for.
        """
        scores = self._ask(self.classifier, images)
        highest = int(labels.max())
        if scores.shape[1] <= highest:
            raise ValueError(
                f"the judge must give N x classes logits with more than {highest} classes, as the source's labels go "
                f"up to {highest}; got {' x '.join(map(str, scores.shape))}"
            )
        pairs = zip(scores.argmax(dim=1).tolist(), labels.tolist(), strict=True)
        return tuple(None if found == label else self._short(found) for found, label in pairs)

    def features(self, images: Tensor) -> Tensor:
        """Gives N x D features of uint8 images: those of the classifier's ``features``, or else its logits."""
        inner = getattr(self.classifier, "features", None)
        return self._ask(inner if callable(inner) else self.classifier, images)

    def _ask(self, network: FeatureNetwork, images: Tensor) -> Tensor:
        """Gives N x D outputs of the classifier, or of a part of it, in evaluation mode."""
        model_images = match_channels(images_to_model(images), self.channels)
        return extract_features(network, model_images, device=device_of(self.classifier))

    def _short(self, label: int) -> str:
        name = self.class_names[label] if label < len(self.class_names) else ""
        return name if 0 < len(name) <= SHORT_NAME else str(label)


def make_judge(judge: nn.Module | ImageDomain, images: Tensor, seed: int, progress: bool, device: str = "cpu") -> Judge:
    """Gives a judge of a classifier, or trains a small one on a labelled domain.

    Args:
        judge: a classifier of such images, or labelled images of their size.
        images: uint8 N x C x H x W, of the size and channels of what is to be judged.
        seed: of the training.
        progress: show a progress bar while training.
        device: to train on.

    Raises:
        LabelMissingError: the domain has no labels.
        ValueError: the domain's images are of another size.
    """
    if isinstance(judge, nn.Module):
        return Judge(judge, images.shape[1], type(judge).__name__)
    height, width = judge[0][0].shape[-2:]
    if (height, width) != images.shape[-2:]:
        raise ValueError(
            f"the judge would learn from images of {width} x {height} px ({judge.name}), but translations are "
            f"{images.shape[-1]} x {images.shape[-2]}; give both one size, for example --size {images.shape[-1]}"
        )
    classifier = train_classifier(judge, seed=seed, device=device, progress=progress)
    return Judge(classifier, judge.channels, f"a small classifier of {judge.name}", judge.class_names)
