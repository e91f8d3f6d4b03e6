"""What *training* needs of a method: its phases, each one optimiser and what it minimises.

Floor 3: imports settings, types and translator.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

from torch import Tensor, nn

from munitaug.settings import POSITIVE, Limits, check_settings
from munitaug.translator import Translator
from munitaug.types import BOTH_DIRECTIONS, DomainKey, Pair, direction_name

Loss = Callable[[Pair], dict[str, Tensor]]


@dataclass(frozen=True)
class OptimiserSettings:
    """How a method's phases are optimised, with Adam.

    Args:
        lr: step size.
        betas: decay of the first and second moment.
        weight_decay: L2 penalty added to the gradient (as torch.optim.Adam does).
        halve_every_steps: multiply lr by 0.5 every so many steps; 0 never does.
        linear_decay_from: fraction of the run in [0, 1] after which lr falls linearly to 0; 1 never does.
        ema_decay: decay per step of the averaged weights that are used afterwards; 0 keeps the last weights.

    Raises:
        ValueError: a number outside its range.
    """

    lr: float = 1e-4
    betas: tuple[float, float] = (0.5, 0.999)
    weight_decay: float = 1e-4
    halve_every_steps: int = 0
    linear_decay_from: float = 1.0
    ema_decay: float = 0.0

    def __post_init__(self) -> None:
        check_settings(
            self,
            lr=POSITIVE,
            halve_every_steps=Limits(0),
            linear_decay_from=Limits(0, 1),
            ema_decay=Limits(0, below=1),
        )
        if len(self.betas) != 2 or not all(0.0 <= beta < 1.0 for beta in self.betas):
            raise ValueError(f"betas must be two numbers in [0, 1), got {self.betas}")


class MethodConfig(Protocol):
    """What every method's frozen configuration has in common."""

    @property
    def channels(self) -> int:
        """Gives the image channels of both domains, 1 to 4."""
        ...

    @property
    def optimiser(self) -> OptimiserSettings:
        """Gives how the phases are optimised."""
        ...

    @classmethod
    def preset(cls, name: str, *, channels: int = 3) -> Self:
        """Gives a named configuration."""
        ...


@dataclass(frozen=True)
class Phase:
    """One optimiser and what it minimises.

    A loss may be given a part of a batch (see Pair), and the mean over the parts is minimised: so its terms should be
    means over images, and what compares images takes ``munitaug.ranks.gather`` of them.

    Args:
        name: appears in the log and in the state file; unique within a method.
        modules: whose parameters this phase changes.
        loss: gives weighted scalars; their sum is minimised, each is logged. None leaves the phase out at that step.
        every: the phase runs at steps that are multiples of this.
        lr_scale: multiplies the method's learning rate.
        clip_norm: its gradient is scaled down to this norm if it is larger; 0 leaves it to the run's settings.
    """

    name: str
    modules: tuple[nn.Module, ...]
    loss: Loss
    every: int = 1
    lr_scale: float = 1.0
    clip_norm: float = 0.0


class Method(nn.Module, ABC):
    """Networks and losses of one paper: no optimiser, no loop, no file.

    ``style_banks`` holds, by domain, M x style_dim codes of real images; training recipes fill it.
    ``directions`` are the (source, target) pairs it can translate: both, or one for a one-sided method and for
    a converted checkpoint that came with one generator.

    What a method keeps between steps (image pools, running statistics) lives in buffers or, if its size is not
    known beforehand, in ``get_extra_state`` as one tensor: both are part of the training state, and extra state is
    left out of checkpoints.
    """

    name: ClassVar[str]
    recording_obstacle: str = "its losses do not say that they can be"
    """Why a step of it cannot be recorded on a GPU and replayed, and what to change; empty if it can. It can if its
    losses read nothing on the CPU but the pair's images and labels and what ``munitaug.methods.parts.drawn`` gives, and
    do the same at every step."""

    def __init__(self) -> None:
        super().__init__()
        self.style_banks: dict[DomainKey, Tensor] = {}
        self.directions: tuple[tuple[DomainKey, DomainKey], ...] = BOTH_DIRECTIONS

    @property
    @abstractmethod
    def config(self) -> MethodConfig:
        """Gives the configuration; saved with the weights."""

    @property
    def optimiser(self) -> OptimiserSettings:
        """Gives the optimiser settings of the method's phases: those of its configuration."""
        return self.config.optimiser

    @abstractmethod
    def phases(self) -> tuple[Phase, ...]:
        """Gives the phases in update order."""

    def check_direction(self, source: DomainKey, target: DomainKey) -> None:
        """Refuses a direction that this method does not translate in.

        Raises:
            ValueError: the message names those that there are.
        """
        if (source, target) not in self.directions:
            present = ", ".join(direction_name(*known) for known in self.directions)
            raise ValueError(f"this {self.name} translates {present} only, got {direction_name(source, target)}")

    @abstractmethod
    def translator(self, source: DomainKey, target: DomainKey) -> Translator:
        """Gives the translator from one domain to the other; it shares the method's weights.

        Raises:
            ValueError: the method does not translate in this direction.
        """

    def restyler(self, domain: DomainKey) -> Translator | None:
        """Gives a translator from a domain to itself: the same content in other styles; it shares the weights.

        None of a method that does not take images apart into content and style.
        """
        del domain
        return None

    def check(self, pair: Pair) -> None:
        """Refuses a batch that its losses cannot use; by default none.

        Training asks before each step, while the batch lies on the CPU: a loss that looks at a number waits for a GPU.

        Raises:
            ValueError: what is missing, and what to do.
        """
        del pair

    def shared(self, pair: Pair) -> dict[str, Any]:
        """Gives what the losses of several phases make alike of a batch, with its graph; by default nothing.

        Training calls it before the first phase and puts it into ``pair.shared``, where no turns are accumulated: each
        would keep its graph. So a loss reads ``pair.shared or self.shared(pair)``. It may depend on weights only that
        no phase changes before the last loss which reads it. Two names are read by :class:`SemanticConsistency` too:
        "content_a" (what the translator encodes ``pair.a`` to) and "translation_a" (``pair.a`` translated, without
        styles), both of images padded to the translator's ``size_multiple``.
        """
        del pair
        return {}

    def hidden_networks(self) -> tuple[nn.Module | None, ...]:
        """Gives frozen networks that losses ask, held in a tuple so that they are neither trained nor saved."""
        return ()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Moves the hidden networks along where .to(), .cuda() and their like move the weights."""
        for frozen in self.hidden_networks():
            if frozen is not None:
                frozen._apply(fn, recurse)
        nn.Module._apply(self, fn, recurse)
        return self

    def domain_key(self, key: DomainKey) -> DomainKey:
        """Gives what this method calls a domain; "a" and "b" are the first and the second of several."""
        return key

    def translates(self) -> bool:
        """Says whether its losses train translation yet; not while a method's domains learn by themselves at first."""
        return True

    def check_length(self, max_steps: int) -> None:
        """Refuses a training run that is too short to be of any use to this method; most take any length.

        Raises:
            ValueError: it is; the message says what it needs.
        """
        del max_steps

    def prepare(self, pairs: Iterable[Pair]) -> None:
        """Runs once before step 0, for statistics that a method takes from its data; most need none."""
        del pairs

    @property
    def core(self) -> Method:
        """Gives the method that is saved: itself, or for a wrapper the method inside."""
        return self


class MethodClass(Protocol):
    """What the registry holds: a class of methods with its configuration, built in one way."""

    @property
    def name(self) -> str:
        """Gives the name in METHODS, checkpoints and config files."""
        ...

    @property
    def config_class(self) -> type[MethodConfig]:
        """Gives the frozen dataclass of its configuration."""
        ...

    def __call__(self, config: Any, *, seed: int = 0, features: nn.Module | None = None) -> Method:
        """Gives a new method; seed decides its initial weights, features is a frozen network for perceptual terms."""
        ...
