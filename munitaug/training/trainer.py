"""The loop: it knows phases and no method by name.

Each step is a function of (seed, step), so a run that is killed and resumed gives the same weights as one
that was not: bit for bit on a CPU with one thread count. A GPU adds some gradients (of padding, of convolutions) in
any order.

Several ranks (see munitaug.ranks) hold the same weights and each takes its part of every batch. Gradients are averaged
by one explicit exchange after the backward pass, not by DistributedDataParallel, which wraps the forward pass of one
module: a phase is a loss that calls parts of several networks, at some steps not all of them.

Floor 4: imports floors 1-3.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor, nn
from tqdm import tqdm

from munitaug import ranks
from munitaug.data.loader import PairLoader
from munitaug.lanes import Opening, two_lanes
from munitaug.method import Loss, Method, OptimiserSettings, Phase
from munitaug.random import seed_global, seed_of
from munitaug.threads import ahead
from munitaug.training.averaging import AveragedWeights
from munitaug.training.config import TrainConfig, resolve_device, resolve_precision
from munitaug.training.recorded import RecordedStep
from munitaug.training.records import RunLog, save_sample_grid
from munitaug.training.state import load_state, optimiser_tensors, restore_optimiser, save_state
from munitaug.types import CheckpointError, DivergenceError, Interrupted, Pair

OnStep = Callable[[int, dict[str, float]], None]
STATE_FILE = Path("state") / "state.safetensors"
DIVERGENCE_ADVICE = "Lower the learning rate, set --training.clip_norm 10, or use float32"


class Trainer:
    """Trains one method in one run folder.

    Args:
        method: networks and losses; moved to the run's device.
        loader: where pairs come from.
        config: how long, how much, on what.
        folder: of the run; log.jsonl, samples/ and state/ go there. Several ranks share it; the first writes.

    Raises:
        ValueError: the batch cannot be cut into equal parts, a rank has no GPU of its own, or its steps cannot be
            recorded.
    """

    def __init__(self, method: Method, loader: PairLoader, config: TrainConfig, folder: Path) -> None:
        self.config = config
        self.loader = loader
        self.folder = folder
        self.device = ranks.device_of_rank(resolve_device(config.device))
        self.reads_ahead = self.device.type == "cuda"
        self.turn_size = config.turn_size(ranks.count())
        layout = torch.channels_last if config.channels_last else torch.contiguous_format
        self.method = method.to(self.device).to(memory_format=layout)
        self.autocast_dtype = resolve_precision(config.precision, self.device)
        self.phases = method.phases()
        self.losses: dict[str, Loss] = {
            phase.name: torch.compile(phase.loss) if config.compile else phase.loss for phase in self.phases
        }
        self.shared = torch.compile(method.shared) if config.compile else method.shared
        self.optimisers = {phase.name: self._adam(phase) for phase in self.phases}
        self.term_names: list[str] = []
        self.recorded = self._recorder() if config.cuda_graph else None
        if config.cuda_graph:
            _check_recordable(method, self.phases)
        decay = method.optimiser.ema_decay
        self.averaged = AveragedWeights(method, decay) if decay > 0.0 else None

    def run(
        self,
        resume: bool = False,
        on_step: OnStep | None = None,
        should_stop: Callable[[], bool] = lambda: False,
        progress: bool = True,
    ) -> Method:
        """Trains to the last step and gives the method with its averaged weights in place.

        Args:
            resume: continue from the state file.
            on_step: called after each step with (finished steps, loss terms).
            should_stop: asked after each step; on yes the state is saved and Interrupted is raised.
            progress: show a progress bar.

        Raises:
            DivergenceError: a loss term is not finite.
            ConnectionError: another rank has gone.
            Interrupted: a stop was asked for; the state is saved.
            CheckpointError: there is nothing to resume, or it does not fit the method.
        """
        self.method.train()  # one that was loaded is as in use
        if self.config.cuda_graph and self.recorded is None:  # it ran before
            self.recorded = self._recorder()
        first = self._restore() if resume else 0
        if others := ranks.unlike_first(first):
            raise CheckpointError(
                f"rank {others[0]} does not go on from the step that rank 0 goes on from; {self.folder} must be the "
                "same folder for all of them"
            )
        events = self.folder / "tensorboard" if self.config.tensorboard else None
        log = RunLog(self.folder / "log.jsonl", first, events) if ranks.rank() == 0 else None
        devices = [self.device] if self.device.type == "cuda" else []
        try:
            with torch.random.fork_rng(devices=devices):
                if first == 0:
                    self.method.prepare(self.loader.from_step(0))
                    ranks.copy_from_first(list(self.method.buffers()))
                    self.save(0)
                self._loop(first, log, on_step, should_stop, progress)
        finally:
            self.recorded = None  # it holds this trainer, and a GPU's memory
            if log is not None:
                log.close()
        if self.averaged is not None:
            self.averaged.apply()
        return self.method

    def _loop(
        self, first: int, log: RunLog | None, on_step: OnStep | None, should_stop: Callable[[], bool], progress: bool
    ) -> None:
        config, quiet = self.config, not progress or log is None
        bar = tqdm(total=config.max_steps, initial=first, desc="train", unit="step", disable=quiet)
        began = time.monotonic()
        saved = first
        with bar, self._pairs_from(first) as pairs, self._lanes() as opened:
            for step, pair in zip(range(first, config.max_steps), pairs, strict=False):
                with opened():
                    terms = self._step(step, self._turns(pair), saved)
                done = step + 1
                bar.update()
                if log is not None:
                    self._log_and_draw(done, terms, log, bar, began)
                stopping = ranks.any_rank(should_stop()) and done < config.max_steps
                if done % config.save_every_steps == 0 or done == config.max_steps or stopping:
                    self.save(done)
                    saved = done
                if on_step is not None:
                    on_step(done, terms)
                if stopping:
                    raise Interrupted(
                        f"stopped after step {done} of {config.max_steps}; the state is in "
                        f"{self.folder / STATE_FILE}: run the same command with --resume to continue"
                    )

    def _log_and_draw(self, done: int, terms: dict[str, float], log: RunLog, bar: tqdm[NoReturn], began: float) -> None:
        """Writes the log line and draws the samples that are due."""
        config, last = self.config, done == self.config.max_steps
        if done % config.log_every_steps == 0 or last:
            log.write(done, {**terms, "seconds": round(time.monotonic() - began, 6)})
            bar.set_postfix({"loss": f"{sum(terms.values()):.3f}"})
        if config.sample_every_steps and (done % config.sample_every_steps == 0 or last):
            self.draw_samples(done)

    def _lanes(self) -> AbstractContextManager[Opening]:
        """Gives, for the run, what opens the block of a step, in which methods may work on both domains at once."""
        at_once = self.config.domains_at_once and self.device.type == "cpu" and not self.config.compile
        return two_lanes() if at_once else nullcontext(nullcontext)

    @contextmanager
    def _pairs_from(self, first: int) -> Iterator[Iterator[Pair]]:
        """Gives this rank's pairs; for a GPU the next one is made, and pinned, in a thread while one is trained on."""
        pairs = self.loader.from_step(first, self._rows())
        if not self.reads_ahead:
            yield pairs
            return
        device = next(self.method.parameters()).device  # with its number
        with closing(ahead((pinned(pair, device) for pair in pairs), 1)) as read_ahead:
            yield read_ahead

    def _rows(self) -> Tensor | None:
        """Gives this rank's rows of a batch: of each turn its own part; None for all."""
        if ranks.count() == 1:
            return None
        numbers = torch.arange(self.config.batch_size).view(self.config.accumulate, ranks.count(), self.turn_size)
        return numbers[:, ranks.rank()].flatten()

    def _turns(self, pair: Pair) -> list[Pair]:
        """Gives this rank's images as one part of the batch for each turn."""
        parts = ranks.count() * self.config.accumulate
        if parts == 1:
            return [pair]
        labels = [None] * self.config.accumulate if pair.label_a is None else pair.label_a.split(self.turn_size)
        images = zip(pair.a.split(self.turn_size), pair.b.split(self.turn_size), labels, strict=True)
        return [
            replace(pair, a=a, b=b, label_a=label, part=turn * ranks.count() + ranks.rank(), parts=parts)
            for turn, (a, b, label) in enumerate(images)
        ]

    def _to_device(self, pair: Pair) -> Pair:
        layout = torch.channels_last if self.config.channels_last else torch.contiguous_format
        a, b = (image.to(self.device, non_blocking=True, memory_format=layout) for image in (pair.a, pair.b))
        label = None if pair.label_a is None else pair.label_a.to(self.device, non_blocking=True)
        return replace(pair, a=a, b=b, label_a=label)

    def _step(self, step: int, turns: list[Pair], saved: int) -> dict[str, float]:
        """Runs every phase that is due at this step; gives all loss terms by phase/term.

        Args:
            step: from 0.
            turns: of the step, wherever they lie.
            saved: the last step after which the state was saved.
        """
        for turn in turns:
            self.method.check(turn)
        seed_global(seed_of(self.config.seed, "step", step), self.device)
        self._set_rates(step)
        if self.recorded is not None:
            numbers = self.recorded(turns[0])
        else:
            numbers = self._steps_of_phases(step, [self._to_device(turn) for turn in turns])
        terms = dict(zip(self.term_names, numbers.tolist(), strict=True))  # the one look: a GPU has to be waited for
        self._refuse_divergence(step, terms, saved)
        if self.averaged is not None:
            self.averaged.update(step)
        return terms

    def _steps_of_phases(self, step: int, turns: list[Pair]) -> Tensor:
        """Runs the phases that are due without a look at a number on the way; gives the terms ``term_names`` name."""
        turns, found = self._with_shared(step, turns), []
        self.term_names = []
        for phase in self.phases:
            if step % phase.every == 0:
                names, numbers = self._gradients(phase, turns)
                if names:
                    self._update(phase)
                    self.term_names += names
                    found.append(numbers)
        return torch.cat(found) if found else torch.zeros(0)

    def _with_shared(self, step: int, turns: list[Pair]) -> list[Pair]:
        """Gives the turns with what their losses share; as they are where there are several, or not all phases run."""
        if len(turns) > 1 or any(step % phase.every for phase in self.phases):
            return turns
        for phase in self.phases:
            for module in phase.modules:
                module.requires_grad_(True)
        with self._lower_precision():
            return [replace(pair, shared=self.shared(pair)) for pair in turns]

    def _lower_precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.autocast_dtype, enabled=self.autocast_dtype != torch.float32)

    def _gradients(self, phase: Phase, turns: list[Pair]) -> tuple[list[str], Tensor]:
        """Makes a phase's gradients; gives its terms, named phase/term, as means over turns and ranks, if any."""
        for other in self.phases:
            for module in other.modules:
                module.requires_grad_(other.name == phase.name)
        self.optimisers[phase.name].zero_grad(set_to_none=True)
        sums: dict[str, Tensor] = {}
        for pair in turns:
            with self._lower_precision():
                losses = self.losses[phase.name](pair)
            if not losses:
                return [], torch.zeros(0)
            terms = torch.stack([loss.float() for loss in losses.values()])
            (terms.sum() / len(turns)).backward()
            for name, term in zip(losses, terms.detach().unbind(), strict=True):
                sums[name] = sums[name] + term if name in sums else term
        numbers = torch.stack(list(sums.values())) / len(turns)
        ranks.average([*(p.grad for p in _parameters(phase) if p.grad is not None), numbers])
        return [f"{phase.name}/{name}" for name in sums], numbers

    def _update(self, phase: Phase) -> None:
        limits = [limit for limit in (phase.clip_norm, self.config.clip_norm) if limit > 0.0]
        if limits:
            torch.nn.utils.clip_grad_norm_(_parameters(phase), min(limits))
        self.optimisers[phase.name].step()

    def _set_rates(self, step: int) -> None:
        """Sets every optimiser's learning rate of a step; a recorded step reads it from a tensor."""
        settings = self.method.optimiser
        for phase in self.phases:
            rate = settings.lr * phase.lr_scale * lr_factor(settings, step, self.config.max_steps)
            for group in self.optimisers[phase.name].param_groups:
                if isinstance(group["lr"], Tensor):
                    group["lr"].fill_(rate)
                else:
                    group["lr"] = rate

    def _adam(self, phase: Phase) -> torch.optim.Adam:
        settings, recorded = self.method.optimiser, self.config.cuda_graph
        rate = settings.lr * phase.lr_scale
        return torch.optim.Adam(
            _parameters(phase),
            lr=torch.tensor(rate, device=self.device) if recorded else rate,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
            fused=True,
            capturable=recorded,
        )

    def _refuse_divergence(self, step: int, values: dict[str, float], saved: int) -> None:
        broken = [name for name, value in values.items() if value != value or abs(value) == float("inf")]
        if broken:
            raise DivergenceError(
                f"training diverged at step {step}: {', '.join(broken).replace('/', ' term ')} is not finite "
                f"({', '.join(str(values[name]) for name in broken)}). The last good state, after step {saved}, is "
                f"{self.folder / STATE_FILE}. {DIVERGENCE_ADVICE}"
            )

    def draw_samples(self, step: int) -> Path:
        """Draws a sample grid of the (averaged) weights and gives its path."""
        pair = self._to_device(self.loader.pair_at(0))
        path = self.folder / "samples" / f"step-{step:08d}.png"
        if self.averaged is None:
            save_sample_grid(path, self.method, pair.a[:8], pair.b[:8], pair.domains)
        else:
            with self.averaged.in_place():
                save_sample_grid(path, self.method, pair.a[:8], pair.b[:8], pair.domains)
        return path

    def save(self, step: int) -> None:
        """Writes the state after ``step`` finished steps, atomically; returns on every rank when it is written.

        Raises:
            DivergenceError: a number is not finite, or ranks differ in a weight; the state of an earlier step stays.
            OSError: the disk is full or the folder is read-only; the state of an earlier step stays.
        """
        tensors = {f"method/{name}": tensor for name, tensor in self.method.state_dict().items()}
        for name, optimiser in self.optimisers.items():
            tensors |= optimiser_tensors(f"optimiser/{name}", optimiser)
        if self.averaged is not None:
            tensors |= {f"average/{name}": tensor for name, tensor in self.averaged.average.items()}
        finite = torch.stack([tensor.isfinite().all().to(self.device) for tensor in tensors.values()]).tolist()
        broken = [name for name, fine in zip(tensors, finite, strict=True) if not fine]
        if broken:
            raise DivergenceError(
                f"training diverged before step {step}: {broken[0].removeprefix('method/')} is not finite. The last "
                f"good state stays in {self.folder / STATE_FILE}. {DIVERGENCE_ADVICE}"
            )
        if ranks.count() > 1 and (others := ranks.unlike_first(_sum_of_bits(self.method.parameters()))):
            raise DivergenceError(
                f"before step {step} rank {others[0]} came to have other weights than rank 0. The last good state "
                f"stays in {self.folder / STATE_FILE}. Train on devices of one kind, and draw from pair.seed alone"
            )
        if ranks.rank() == 0:
            try:
                save_state(self.folder / STATE_FILE, tensors, step)
            except OSError as error:
                advice = "what was saved before stays: when that is mended, run the same command with --resume"
                raise OSError(error.errno, f"{error.strerror}; {advice}", error.filename) from error
        ranks.wait()

    def _recorder(self) -> RecordedStep:
        return RecordedStep(self._one_step, self._to_device)

    def _one_step(self, pair: Pair) -> Tensor:
        """Runs all phases on a whole batch."""
        return self._steps_of_phases(0, [pair])

    def _restore(self) -> int:
        tensors, step = load_state(self.folder / STATE_FILE)
        try:
            self.method.load_state_dict(_under("method/", tensors))
            for name, optimiser in self.optimisers.items():
                restore_optimiser(f"optimiser/{name}", optimiser, tensors)
            if self.averaged is not None:
                self.averaged.restore(_under("average/", tensors))
            if self.recorded is not None:  # what it read lies elsewhere now
                self.recorded = self._recorder()
        except (IndexError, KeyError, RuntimeError, ValueError) as error:
            raise CheckpointError(
                f"{self.folder / STATE_FILE} belongs to another method or configuration: {error}"
            ) from error
        return step


def _sum_of_bits(parameters: Iterable[Tensor]) -> int:
    """Gives a number that differs if a weight does; integers, so that the order of adding is all one."""
    bits = (parameter.detach().float().contiguous().view(torch.int32) for parameter in parameters)
    return int(torch.stack([each.sum(dtype=torch.int64) for each in bits]).sum())


def lr_factor(settings: OptimiserSettings, step: int, max_steps: int) -> float:
    """Gives what the learning rate is multiplied by at a step (from 0), in (0, 1]."""
    factor = 0.5 ** (step // settings.halve_every_steps) if settings.halve_every_steps else 1.0
    start = settings.linear_decay_from * max_steps
    if step >= start and start < max_steps:
        factor *= max(1e-3, (max_steps - step) / (max_steps - start))
    return float(factor)


def _parameters(phase: Phase) -> list[nn.Parameter]:
    return [parameter for module in phase.modules for parameter in module.parameters()]


def pinned(pair: Pair, device: torch.device) -> Pair:
    """Gives the pair in memory that a GPU fetches by itself, while this process goes on."""
    own = torch.cuda.device(device) if device.type == "cuda" else nullcontext()
    with own:  # a thread begins with the first GPU, which may be another's
        label = None if pair.label_a is None else pair.label_a.pin_memory()
        return replace(pair, a=pair.a.pin_memory(), b=pair.b.pin_memory(), label_a=label)


def _check_recordable(method: Method, phases: tuple[Phase, ...]) -> None:
    obstacle = method.recording_obstacle
    if not obstacle and any(phase.every > 1 for phase in phases):
        obstacle = "not every phase runs at every step"
    if obstacle:
        raise ValueError(f"cuda_graph cannot record steps of {method.core.name}: {obstacle}; or leave cuda_graph out")
    if ranks.count() > 1:
        raise ValueError(f"cuda_graph is for one rank, but there are {ranks.count()}; leave it out")


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}
