"""Label-preserving training for any method, by composition: no method knows about labels.

The idea is CyCADA's semantic consistency (Hoffman et al. 2018, eq. 4): a frozen classifier must see the
same class before and after translation. We take the true source label as the class, where CyCADA takes
the classifier's own prediction: the label is what the translated image will be trained with.

Floor 4: imports floors 1-3.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from munitaug.images import crop_padding, pad_to_multiple
from munitaug.method import Loss, Method, MethodConfig, Phase
from munitaug.methods.parts import drawn
from munitaug.styles import PriorStyles
from munitaug.translator import Translator
from munitaug.types import UNLABELLED, DomainKey, LabelMissingError, Pair


class SemanticConsistency(Method):
    """A method whose generator phase also keeps the class that a frozen classifier sees.

    Args:
        method: any method; its last phase that trains the a -> b translator gets the term.
        classifier: a frozen copy is asked; N x C x H x W in [-1, 1] -> N x classes logits. Used in evaluation mode.
        weight: of the cross-entropy term.

    Raises:
        ValueError: weight is negative, or no phase trains the translator.
    """

    name: ClassVar[str] = "semantic"

    def __init__(self, method: Method, classifier: nn.Module, weight: float = 1.0) -> None:
        super().__init__()
        if not weight >= 0.0:
            raise ValueError(f"weight must be >= 0, got {weight}")
        self.method = method
        self.directions, self.style_banks = method.directions, method.style_banks
        self.recording_obstacle = method.recording_obstacle
        self.weight = weight
        frozen = copy.deepcopy(classifier).eval()  # the caller's may be trained on
        for parameter in frozen.parameters():
            parameter.requires_grad_(False)
        self._classifier = (frozen,)  # a tuple keeps the classifier out of parameters() and checkpoints
        self._phase_name = _translating_phase(method)

    def hidden_networks(self) -> tuple[nn.Module | None, ...]:
        """Gives the frozen classifier."""
        return self._classifier

    @property
    def config(self) -> MethodConfig:
        """Gives the inner method's configuration."""
        return self.method.config

    @property
    def core(self) -> Method:
        """Gives the inner method: the classifier is not needed at use."""
        return self.method.core

    def phases(self) -> tuple[Phase, ...]:
        """Gives the inner method's phases, one of them with the semantic term added."""
        return tuple(
            replace(phase, loss=self._with_semantic_term(phase)) if phase.name == self._phase_name else phase
            for phase in self.method.phases()
        )

    def prepare(self, pairs: Iterable[Pair]) -> None:
        """Prepares the inner method."""
        self.method.prepare(pairs)

    def check(self, pair: Pair) -> None:
        """Refuses images without labels where the term needs them.

        Raises:
            LabelMissingError: the pair has no labels, or not all.
        """
        self.method.check(pair)
        if self.weight > 0.0 and self._is_of_source(pair):
            _check_labels(pair)

    def shared(self, pair: Pair) -> dict[str, Any]:
        """Gives what the inner method's losses share."""
        return self.method.shared(pair)

    def translator(self, source: DomainKey, target: DomainKey) -> Translator:
        """Gives the inner method's translator."""
        return self.method.translator(source, target)

    def restyler(self, domain: DomainKey) -> Translator | None:
        """Gives what restyles a domain by the inner method, if it can."""
        return self.method.restyler(domain)

    def domain_key(self, key: DomainKey) -> DomainKey:
        """Gives what the inner method calls a domain."""
        return self.method.domain_key(key)

    def translates(self) -> bool:
        """Says whether the inner method's losses train translation yet."""
        return self.method.translates()

    def check_length(self, max_steps: int) -> None:
        """Refuses a run that is too short for the inner method.

        Raises:
            ValueError: it is.
        """
        self.method.check_length(max_steps)

    def semantic_loss(self, pair: Pair) -> Tensor:
        """Gives the cross-entropy between the labels of a and the classifier's view of a's translations.

        Raises:
            LabelMissingError: the pair has no labels.
            ValueError: the classifier does not know the labels.

        Labels on a GPU are not looked at, which would be waiting for it: :meth:`check` does that before they go there.
        """
        if pair.label_a is None or pair.label_a.device.type == "cpu":
            _check_labels(pair)
        assert pair.label_a is not None
        translator = self.method.translator(*pair.domains)
        styles = PriorStyles(translator.style_dim)
        count = pair.batch_size  # what draws is kept where steps are recorded, and must not keep the pair
        whole = drawn(pair, lambda generator: styles.sample(count, 1, generator), "style", "semantic")
        style = pair.rows(whole)
        logits = self._classifier[0](_translated(translator, pair, style))
        if pair.label_a.device.type == "cpu":
            _check_classes(pair.label_a, logits.shape[1])
        return F.cross_entropy(logits.float(), pair.label_a)

    def _is_of_source(self, pair: Pair) -> bool:
        """Says whether a is the first of the domains, the source; the labels of others are not asked for."""
        core = self.method.core
        return core.domain_key(pair.domains[0]) == core.directions[0][0]

    def _with_semantic_term(self, phase: Phase) -> Loss:
        def loss(pair: Pair) -> dict[str, Tensor]:
            terms = phase.loss(pair)
            if self.weight > 0.0 and self._is_of_source(pair) and self.method.core.translates():
                terms["semantic"] = self.weight * self.semantic_loss(pair)
            return terms

        return loss


def _check_labels(pair: Pair) -> None:
    if pair.label_a is None or bool((pair.label_a == UNLABELLED).any()):
        raise LabelMissingError("semantic consistency needs labels of the source images, but there are none")


def _check_classes(labels: Tensor, classes: int) -> None:
    low, high = (int(end) for end in labels.aminmax())
    if low < 0 or high >= classes:
        raise ValueError(
            f"the classifier knows classes 0 to {classes - 1}, but the source has labels {low} to {high}; take one "
            "that was trained on the source's classes"
        )


def _translated(translator: Translator, pair: Pair, style: Tensor) -> Tensor:
    """Gives N x C x H x W: ``pair.a`` in styles N x 1 x style_dim, from what the losses have made of it already."""
    if "translation_a" in pair.shared:
        made = pair.shared["translation_a"]
    elif "content_a" in pair.shared:
        made = translator.decode(pair.shared["content_a"], style.squeeze(1))
    else:
        return translator.translate(pair.a, style).squeeze(1)
    return crop_padding(made, pad_to_multiple(pair.a, translator.size_multiple)[1])


def _translating_phase(method: Method) -> str:
    """Gives the name of the phase that trains the a -> b translator."""
    wanted = {id(parameter) for parameter in method.translator(*method.core.directions[0]).parameters()}
    for phase in reversed(method.phases()):
        if any(id(parameter) in wanted for module in phase.modules for parameter in module.parameters()):
            return phase.name
    raise ValueError(f"{method.name} has no phase that trains its translator")
