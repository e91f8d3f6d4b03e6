"""Train a translator: two domains in, a run folder with a checkpoint out.

Floor 6: imports floors 1-5.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor, nn

from munitaug import ranks
from munitaug._version import __version__
from munitaug.adaptation import FitSettings, build_classifier
from munitaug.checkpoint import save_method
from munitaug.data.domain import ImageDomain
from munitaug.data.kept import keep_decoded
from munitaug.data.loader import MultiDomainLoader, PairLoader, UnpairedLoader
from munitaug.default_device import on_cpu_by_default
from munitaug.files import sha256_of
from munitaug.images import uint8_to_model
from munitaug.kernel import style_codes
from munitaug.method import Method, MethodConfig
from munitaug.methods import METHODS, MultiDomain, MultiDomainConfig, SemanticConsistency
from munitaug.networks.modes import device_of, with_gradients
from munitaug.networks.vgg import load_vgg_features
from munitaug.random import random_permutation
from munitaug.recipes.classifier import (
    CLASSIFIER_FILE,
    check_classifier,
    classifier_sha256,
    load_classifier,
    save_classifier,
    train_classifier,
)
from munitaug.recipes.options import CONFIG_NAME, DataOptions, domain_facts, refuse_among_images, run_folder
from munitaug.settings import check_kinds, check_settings, differences
from munitaug.stopping import stop_on_signals
from munitaug.training import TrainConfig, Trainer, resolve_device
from munitaug.training.records import summary_writer
from munitaug.training.trainer import STATE_FILE, OnStep
from munitaug.types import CheckpointError, DomainKey

STYLE_BANK_SIZE = 512
MAY_CHANGE = ("accumulate", "cuda_graph", "domains_at_once", "keep_mib", "workers")
"""Settings that may be others when a run is resumed."""
NOT_IN_NAMES = re.compile(r"[:/.\s]+")


@dataclasses.dataclass(frozen=True)
class SemanticOptions:
    """Label-preserving training: a frozen classifier must see the source's label in its translation.

    Args:
        weight: of the label term; 0 leaves it out. Needs a labelled source.
        fit: how the classifier is trained, on the source alone with classic augmentation.
        classifier: file or run folder of ``munitaug adapt`` whose classifier is asked instead; one that knows the
            target keeps labels better than one of the source.

    Raises:
        ValueError: weight is no number of at least 0.
    """

    weight: float = 0.0
    fit: FitSettings = FitSettings()
    classifier: str | None = None

    def __post_init__(self) -> None:
        check_settings(self)


@on_cpu_by_default
@with_gradients
def train(
    source: str | Path | ImageDomain,
    target: str | Path | ImageDomain,
    out: str | Path,
    *,
    others: Sequence[str | Path | ImageDomain] = (),
    method: str = "munit",
    preset: str = "small",
    config: MethodConfig | None = None,
    training: TrainConfig = TrainConfig(),
    data: DataOptions = DataOptions(),
    semantic: SemanticOptions = SemanticOptions(),
    vgg_weights: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
    on_step: OnStep | None = None,
) -> Path:
    """Trains a method on two unpaired domains and gives the path of its checkpoint.

    The run folder gets config.json, log.jsonl, samples/ (PNG), state/ (to resume) and checkpoint/.

    Under torchrun, every process is a rank of one training on the same batches and gives the same path; rank 0 alone
    writes. After a restart by torchrun, the run is resumed.

    Args:
        source: labelled or unlabelled images to be translated (domain a): a spec or a domain.
        target: images of the kind that is wanted (domain b); labels are not read.
        out: the run folder.
        others: further domains, for the method "multidomain", which is then one model of all of them.
        method: a name of METHODS.
        preset: a named configuration of the method.
        config: a configuration of your own, in place of the preset.
        training: steps, batch size, seed, device.
        data: how specs are opened.
        semantic: label-preserving training.
        vgg_weights: torchvision's VGG-16 weights file, for a configuration with the perceptual term.
        resume: continue the run in ``out``, which must have been started with the same settings.
        progress: show progress bars.
        on_step: called after each step with (finished steps, loss terms).

    Returns:
        ``out``/checkpoint.

    Raises:
        ValueError: unknown method or preset, unsuitable images or settings.
        FileExistsError: ``out`` exists and is not to be resumed.
        CheckpointError: there is nothing to resume, or it was started with other settings.
        BlockingIOError: another process trains in ``out``.
        DivergenceError: a loss became non-finite.
        ConnectionError: another rank has gone.
        Interrupted: Ctrl-C, SIGTERM or SIGUSR1; the state is saved.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    check_kinds(training=(training, TrainConfig), data=(data, DataOptions), semantic=(semantic, SemanticOptions))
    if isinstance(others, str | Path | ImageDomain):
        raise TypeError(f"others must be a list of domains, got {others!r}; give [...] around it")
    domain_a = data.open_source(source)
    domain_b = data.open_target(target)
    further = [data.open_target(other) for other in others]
    refuse_among_images(Path(out).expanduser(), domain_a, domain_b, *further)
    method_class = METHODS[method]
    settings = method_class.config_class.preset(preset, channels=domain_a.channels) if config is None else config
    if not isinstance(settings, method_class.config_class):
        raise ValueError(
            f"{method} takes a {method_class.config_class.__name__}, got a {type(settings).__name__}; name its method"
        )
    domains = _name_domains([domain_a, domain_b, *further], method)
    if isinstance(settings, MultiDomainConfig):
        settings = dataclasses.replace(settings, domains=tuple(domains))
    _check_source(domain_a, settings, semantic)
    loader = _make_loader(domains, training)
    features = load_vgg_features(vgg_weights) if vgg_weights is not None else None
    core = method_class(settings, seed=training.seed, features=features)
    core.phases()  # says at once if the configuration lacks something
    core.check_length(training.max_steps)
    if training.tensorboard:
        summary_writer()  # or the package
    facts = _facts(core, training, semantic, domains) | {"size": data.size}
    if vgg_weights is not None:
        facts["vgg_sha256"] = sha256_of(Path(vgg_weights))
    run = _Run(core, domains, loader, training, semantic, Path(out).expanduser(), facts, progress)
    with ranks.together(resolve_device(training.device)):
        _refuse_unlike_ranks(facts | {"accumulate": training.accumulate})
        training.turn_size(ranks.count())
        return run.go(resume, on_step)


@dataclasses.dataclass(frozen=True)
class _Run:
    """A run whose settings were looked at; what is left is to train, on every rank alike, and to write on the first."""

    core: Method
    domains: dict[DomainKey, ImageDomain]
    loader: PairLoader
    training: TrainConfig
    semantic: SemanticOptions
    folder: Path
    facts: dict[str, object]
    progress: bool

    def go(self, resume: bool, on_step: OnStep | None) -> Path:
        """Trains to the end and gives the path of the checkpoint."""
        resume = ranks.any_rank(resume or (ranks.restarted() and (self.folder / CONFIG_NAME).exists()))
        with run_folder(self.folder, self.facts, resume) if ranks.rank() == 0 else nullcontext():
            return self._train(resume, on_step)

    def _train(self, resume: bool, on_step: OnStep | None) -> Path:
        begun = ranks.any_rank(resume and (self.folder / STATE_FILE).exists())  # killed before its first state, perhaps
        trained = self._with_labels_kept()
        with stop_on_signals(patient=ranks.launched()) as should_stop:
            trainer = Trainer(trained, self.loader, self.training, self.folder)
            trainer.run(resume=begun, on_step=on_step, should_stop=should_stop, progress=self.progress)
        checkpoint = self.folder / "checkpoint"
        if ranks.rank() == 0:
            self._save(checkpoint)
        ranks.wait()
        return checkpoint

    def _with_labels_kept(self) -> Method:
        """Gives the method, with the label term if it is asked for; rank 0 trains the classifier for all."""
        semantic, (source, *_) = self.semantic, self.domains.values()
        if semantic.weight == 0.0:
            return self.core
        if ranks.rank() > 0:
            ranks.wait()
        classifier = _semantic_classifier(source, semantic, self.training, self.folder, self.progress)
        if ranks.rank() == 0:
            ranks.wait()
        return SemanticConsistency(self.core, classifier, semantic.weight)

    def _save(self, checkpoint: Path) -> None:
        self.core.eval()
        for key in dict.fromkeys(target for _, target in self.core.directions):
            self.core.style_banks[key] = encode_style_bank(self.core, key, self.domains[key], self.training)
        save_method(self.core.cpu(), checkpoint, self.facts)


def _refuse_unlike_ranks(facts: dict[str, object]) -> None:
    """Checks that all ranks are to train the same.

    Raises:
        ValueError: the settings or the data of one are others than those of rank 0; the message names them.
    """
    first, *others = (json.loads(text) for text in ranks.texts_of_ranks(json.dumps(facts)))
    for number, other in enumerate(others, start=1):
        if changed := differences(first, other, "on rank 0", f"on rank {number}"):
            raise ValueError(
                f"ranks must be started alike, but {'; '.join(changed)}; give all the same options and data"
            )


def _name_domains(domains: Sequence[ImageDomain], method: str) -> dict[DomainKey, ImageDomain]:
    """Gives the domains by what the method calls them.

    Raises:
        ValueError: more than two for a method of two, or two of one name.
    """
    if method != MultiDomain.name:
        if len(domains) > 2:
            raise ValueError(
                f'others are for the method "{MultiDomain.name}", but method is {method!r}; leave them out'
            )
        return dict(zip(("a", "b"), domains, strict=True))
    names = [NOT_IN_NAMES.sub("-", Path(domain.name.split(":")[0]).name) for domain in domains]
    if len(set(names)) != len(names):
        raise ValueError(
            f"each domain needs a name of its own, got {', '.join(names)}: the names are those of the data sets or "
            "folders; copy or link a folder under another name"
        )
    return dict(zip(names, domains, strict=True))


def _make_loader(domains: dict[DomainKey, ImageDomain], training: TrainConfig) -> PairLoader:
    domains = {key: keep_decoded(domain, training.keep_mib * 2**20) for key, domain in domains.items()}
    crop = training.crop or None
    if list(domains) == ["a", "b"]:
        return UnpairedLoader(
            domains["a"],
            domains["b"],
            batch_size=training.batch_size,
            seed=training.seed,
            flip=training.flip,
            crop=crop,
            workers=training.workers,
        )
    return MultiDomainLoader(
        domains,
        batch_size=training.batch_size,
        seed=training.seed,
        flip=training.flip,
        crop=crop,
        workers=training.workers,
    )


def _facts(
    core: Method, training: TrainConfig, semantic: SemanticOptions, domains: dict[DomainKey, ImageDomain]
) -> dict[str, object]:
    """Gives what decides a run: config.json, and the checkpoint's provenance.

    Neither the number of ranks nor what MAY_CHANGE names is in it: they may be others when a run goes on.
    """
    source, target, *others = (domain_facts(domain, labels=index == 0) for index, domain in enumerate(domains.values()))
    several = {"others": others} if others else {}
    asked = {}
    if semantic.weight > 0.0 and semantic.classifier is not None:
        asked = {"classifier_sha256": classifier_sha256(semantic.classifier)}
    return several | {
        "munitaug": __version__,
        "method": core.name,
        "config": dataclasses.asdict(core.config),  # type: ignore[call-overload]
        "training": {name: value for name, value in dataclasses.asdict(training).items() if name not in MAY_CHANGE},
        "semantic": dataclasses.asdict(semantic) | asked,
        "source": source,
        "target": target,
    }


@torch.no_grad()
def encode_style_bank(method: Method, key: DomainKey, domain: ImageDomain, training: TrainConfig) -> Tensor:
    """Gives up to 512 x style_dim codes of images of one domain, in a fixed random order.

    Args:
        method: trained, in evaluation mode, on any device; the codes come to the CPU.
        key: of the domain, whose style encoder is used.
        domain: the images.
        training: its crop is applied at the centre, its seed chooses the images.
    """
    translator = next(method.translator(*direction) for direction in method.directions if direction[1] == key)
    if not translator.reads_styles:
        return torch.zeros(0, translator.style_dim)
    device = device_of(method)
    order = random_permutation(len(domain), training.seed, "style-bank", key)[:STYLE_BANK_SIZE]
    codes = []
    for index in order.split(16):
        images = [domain.checked_image(int(i)) for i in index]
        if training.crop:
            images = [_centre_crop(image, training.crop) for image in images]
        codes.append(style_codes(translator, uint8_to_model(torch.stack(images)).to(device)).cpu())
    return torch.cat(codes)


def _centre_crop(image: Tensor, side: int) -> Tensor:
    top, left = (image.shape[1] - side) // 2, (image.shape[2] - side) // 2
    return image[:, top : top + side, left : left + side]


def _check_source(source: ImageDomain, settings: MethodConfig, semantic: SemanticOptions) -> None:
    """Refuses, before there is a run folder, what would fail later.

    Raises:
        DomainError: the classifier's classes have other names.
        LabelMissingError: the semantic term has no labels.
        ValueError: other channels than configured, or an unknown or unsuitable classifier.
    """
    if settings.channels != source.channels:
        raise ValueError(
            f"the configuration is for {settings.channels} channels, but {source.name} has {source.channels}; "
            "give one count for both, for example --channels 3"
        )
    if semantic.weight > 0.0:
        classes = source.class_count  # or an error that says what lacks labels
        if semantic.classifier is None:
            build_classifier(semantic.fit.classifier, source.channels, classes, 0)
        else:
            check_classifier(semantic.classifier, source)


def _semantic_classifier(
    source: ImageDomain, semantic: SemanticOptions, training: TrainConfig, folder: Path, progress: bool
) -> nn.Module:
    """Gives the frozen source classifier; trained once, then kept in the run folder for a resumed run."""
    if semantic.classifier is not None:
        return load_classifier(semantic.classifier)
    path = folder / CLASSIFIER_FILE
    if path.exists():
        try:
            return load_classifier(path)
        except CheckpointError as error:
            raise CheckpointError(f"{error}; remove the file, and it is trained anew") from error
    fit, classes = semantic.fit, source.class_count
    classifier = train_classifier(source, settings=fit, seed=training.seed, device=training.device, progress=progress)
    save_classifier(path, classifier, fit.classifier, source.channels, classes, source.class_names)
    return classifier
