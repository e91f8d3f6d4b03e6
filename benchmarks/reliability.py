"""Does it lose, spoil or leak anything? Damaged files, kills at random moments, memory over long runs.

    python -m benchmarks.reliability
    python -m benchmarks.reliability --what checkpoints hdf5 --count 1000

- checkpoints, hdf5: ``count`` files of a run folder or of augmented images are damaged at random, one at a time, and
  read in a child process with a limit on time and memory. Right is what equals the original bit for bit; an error must
  be one of the package's own and name the file (:mod:`benchmarks.damage`).
- images: the same with images of every format, where any image is right: an error must name the file.
- kills-train, kills-generate: ``count`` times SIGKILL at a random moment, after which the same call goes on. Nothing
  but the open step or piece may be lost, and the end must be byte for byte that of a run that was never killed.
  interrupts-train, interrupts-generate: the same with Ctrl-C.
- memory-train: ``count`` steps; memory-generate: ``count`` images. Resident memory early in the run and late.

Everything is tiny: 16 px, a network of some thousand weights. One JSON line per study is appended to --out; ``flaws``
counts what should not be. Needs Linux (fork, /proc).
"""

from __future__ import annotations

import argparse
import hashlib
import inspect
import json
import multiprocessing
import os
import random
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from PIL import Image
from torch import Tensor

import munitaug
from benchmarks.circumstances import circumstances
from benchmarks.damage import Victim, survey
from benchmarks.storing import append_row
from munitaug.data import ArrayDomain

SIDE, CLASSES = 16, 3
TRAINED_STEPS = 2
KILLED_STEPS = 60
KILLED_IMAGES = 480
VARIANTS = 2
PIECES = 6
REMARKS_KEPT = 20
PATIENCE_S = 300.0
EXIT_INTERRUPTED = 130
GOOD = ("right", "refused", "nothing lost")
CONFIG = munitaug.MunitConfig(
    channels=1,
    width=4,
    n_downsample=2,
    n_style_downsample=2,
    n_residual=1,
    style_dim=3,
    mlp_width=8,
    edge_kernel=3,
    upsample_kernel=3,
    discriminator_width=4,
    n_discriminator_layers=2,
    n_scales=1,
    optimiser=munitaug.OptimiserSettings(lr=1e-3, ema_decay=0.9),
)
SEMANTIC = munitaug.SemanticOptions(1.0, munitaug.FitSettings(steps=2, batch_size=4))
IMAGE_FILES = (
    ("grey.png", "L"), ("colour.png", "RGB"), ("alpha.png", "RGBA"), ("grey.jpg", "L"), ("colour.jpg", "RGB"),
    ("colour.bmp", "RGB"), ("colour.tif", "RGB"), ("alpha.webp", "RGBA"),
)  # fmt: skip
NO_LABEL_TERM = munitaug.SemanticOptions()
FORK = multiprocessing.get_context("fork") if sys.platform != "win32" else None


class Outcome(NamedTuple):
    """What a study found.

    Args:
        outcomes: how often each came.
        remarks: on those that should not have come.
        figures: of the study, by name.
    """

    outcomes: Counter[str]
    remarks: list[str]
    figures: dict[str, float]


class Numbers(Protocol):
    """Whole numbers that processes share."""

    def __getitem__(self, place: int) -> int: ...
    def __setitem__(self, place: int, number: int) -> None: ...


def toy_domain(name: str, seed: int, count: int = 8) -> ArrayDomain:
    """Gives labelled noise of 1 x 16 x 16."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 1, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    return ArrayDomain(name, images, torch.arange(count) % CLASSES, ("a", "b", "c"))


def train(
    folder: Path,
    steps: int,
    *,
    save_every: int = 1,
    semantic: munitaug.SemanticOptions = NO_LABEL_TERM,
    on_step: Callable[[int, dict[str, float]], None] | None = None,
) -> Path:
    """Trains in a folder, or goes on there; gives the checkpoint."""
    config = munitaug.TrainConfig(
        max_steps=steps,
        batch_size=2,
        device="cpu",
        log_every_steps=1,
        save_every_steps=save_every,
        sample_every_steps=0,
    )
    return munitaug.train(
        toy_domain("source", 0),
        toy_domain("target", 1),
        folder,
        config=CONFIG,
        training=config,
        semantic=semantic,
        resume=(folder / "config.json").exists(),
        progress=False,
        on_step=on_step,
    )


def generate(checkpoint: Path, out: Path, images: int, compression: str = "lzf", pieces: int = 0) -> Path:
    """Generates, or goes on with it; gives the file."""
    shards: dict[str, Any] = (
        {"shards": pieces} if pieces and "shards" in inspect.signature(munitaug.generate).parameters else {}
    )
    return munitaug.generate(
        checkpoint,
        toy_domain("source", 2, images // VARIANTS),
        out,
        variants=VARIANTS,
        device="cpu",
        batch_size=16,
        compression=compression,  # type: ignore[arg-type]
        progress=False,
        **shards,
    )


def tensor_bytes(tensor: Tensor) -> bytes:
    return str((tensor.dtype, tuple(tensor.shape))).encode() + tensor.contiguous().numpy().tobytes()


def checkpoint_digest(folder: Path) -> str:
    """Gives the SHA-256 of what a reader of a checkpoint gets: weights, banks, configuration, directions."""
    method = munitaug.load(folder)
    digest = hashlib.sha256(repr((method.name, method.config, method.directions)).encode())
    for name, tensor in [*method.state_dict().items(), *method.style_banks.items()]:
        digest.update(name.encode() + tensor_bytes(tensor))
    return digest.hexdigest()


def file_digest(path: Path) -> str:
    """Gives the SHA-256 of all that a reader of augmented images gets, each row read twice."""
    dataset = munitaug.AugmentedDataset(path)
    digest = hashlib.sha256(repr((len(dataset), dataset.class_names, dataset.provenance)).encode())
    for tensor in (dataset.labels, dataset.source_indices, dataset.variants):
        digest.update(tensor_bytes(tensor))
    for row in [*range(len(dataset)), *range(len(dataset))]:
        image, label = dataset[row]
        digest.update(tensor_bytes(image) + str(label).encode() + tensor_bytes(dataset.style(row)))
    dataset.close()
    return digest.hexdigest()


def checkpoints(folder: Path) -> list[Victim]:
    """Makes a run folder: its checkpoint is loaded, its other files are read by going on with the run."""
    run = folder / "run"
    checkpoint = train(run, TRAINED_STEPS, semantic=SEMANTIC)
    whole, facts = checkpoint_digest(checkpoint), munitaug.checkpoint_facts(checkpoint)

    def load(place: Path) -> bool:
        return checkpoint_digest(place) == whole and munitaug.checkpoint_facts(place) == facts

    def resume(place: Path) -> bool:
        return checkpoint_digest(train(place, TRAINED_STEPS, semantic=SEMANTIC)) == whole

    names = sorted(file.name for file in checkpoint.iterdir())
    rest = ("state/state.safetensors", "config.json", "log.jsonl", "classifier.safetensors")
    return [Victim(checkpoint, tuple(names), load), Victim(run, rest, resume)]


def hdf5(folder: Path) -> list[Victim]:
    """Makes files of augmented images of every compression, and shards with their index where there are such."""
    checkpoint = train(folder / "run", TRAINED_STEPS)
    files = [_hdf5_victim(folder / packing, checkpoint, packing, 0) for packing in ("lzf", "gzip", "none")]
    return [*files, _hdf5_victim(folder / "shards", checkpoint, "lzf", 2)]


def images(folder: Path) -> list[Victim]:
    """Makes a folder for every format of images; pixels have no checksum, so any image is right, and a crash is not."""
    return [_image_victim(folder / name, name, mode) for name, mode in IMAGE_FILES]


def _image_victim(folder: Path, name: str, mode: str) -> Victim:
    folder.mkdir()
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (40, 40, len(mode)), generator=generator, dtype=torch.uint8).numpy()
    Image.fromarray(pixels[:, :, 0] if len(mode) == 1 else pixels).save(folder / name)

    def read(place: Path) -> bool:
        image, label = munitaug.open_domain(str(place))[0]
        return image.dtype == torch.uint8 and image.ndim == 3 and min(image.shape[1:]) >= SIDE and label == -1

    return Victim(folder, (name,), read)


def _hdf5_victim(folder: Path, checkpoint: Path, compression: str, pieces: int) -> Victim:
    folder.mkdir()
    whole = file_digest(generate(checkpoint, folder / "aug.h5", 12, compression, pieces))
    names = tuple(sorted(file.name for file in folder.iterdir()))
    return Victim(folder, names, lambda place: file_digest(place / "aug.h5") == whole)


def stopped_training(folder: Path, count: int, seed: int, number: signal.Signals) -> Outcome:
    """Stops training again and again: what was finished must be there, and the end must be the same."""
    draws, outcomes, remarks = random.Random(seed), Counter[str](), list[str]()
    whole = checkpoint_digest(_finished(train, folder / "whole", KILLED_STEPS) / "checkpoint")
    log = _steps_logged(folder / "whole")
    run, safe = folder / "run", 0
    for stop in [*range(count), None]:
        numbers: Numbers = _fork().Array("l", 2, lock=False)
        child = _start(_train_and_tell, run, numbers)
        if stop is not None:
            _wait_for_step(child, numbers, safe + draws.randrange(KILLED_STEPS // 6), draws.random())
            _signal(child, number)
        child.join()
        first, last = numbers[0], numbers[1]
        lost = f"lost {safe + 1 - first} steps" if first and first <= safe else ""
        _note(outcomes, remarks, stop, child.exitcode, lost, "after a step" if last else "before a step")
        safe = max(safe, last)
        if child.exitcode == 0:
            equal = checkpoint_digest(run / "checkpoint") == whole and _steps_logged(run) == log
            outcomes["right end" if equal else "wrong end"] += 1
            shutil.rmtree(run)
            safe = 0
    return Outcome(outcomes, remarks, {})


def stopped_generation(folder: Path, count: int, seed: int, number: signal.Signals) -> Outcome:
    """Stops generation again and again: finished pieces must stay, and the end must be the same bytes."""
    draws, outcomes, remarks = random.Random(seed), Counter[str](), list[str]()
    checkpoint = _finished(train, folder / "run", TRAINED_STEPS) / "checkpoint"
    (folder / "whole").mkdir()
    began = time.monotonic()
    _finished(_generate_pieces, folder / "whole" / "aug.h5", checkpoint)
    lasts = time.monotonic() - began
    whole, place, safe = _files(folder / "whole"), folder / "stopped", set[str]()
    place.mkdir()
    for stop in [*range(count), None]:
        child = _start(_generate_pieces, place / "aug.h5", checkpoint)
        if stop is not None:
            child.join(draws.uniform(0.0, lasts))
            _signal(child, number)
        child.join()
        pieces = {file.name for file in place.glob("**/*-*.h5")}
        lost = f"lost {len(safe - pieces)} pieces" if safe - pieces and child.exitcode != 0 else ""
        if (place / "aug.h5").exists() and not whole.items() <= _files(place).items():
            lost = "left an output that is not whole"
        _note(outcomes, remarks, stop, child.exitcode, lost, "after a piece" if pieces else "before a piece")
        safe = pieces
        if child.exitcode == 0:
            outcomes["right end" if _files(place) == whole else "wrong end"] += 1
            shutil.rmtree(place)
            place.mkdir()
            safe = set()
    return Outcome(outcomes, remarks, {})


def memory_train(folder: Path, count: int, seed: int) -> Outcome:
    """Watches the memory of a training of ``count`` steps."""
    del seed
    return Outcome(Counter(), [], _watched(_start(train, folder / "run", count, save_every=max(1, count // 20))))


def memory_generate(folder: Path, count: int, seed: int) -> Outcome:
    """Watches the memory of a generation of ``count`` images."""
    del seed
    checkpoint = _finished(train, folder / "run", TRAINED_STEPS) / "checkpoint"
    return Outcome(Counter(), [], _watched(_start(generate, checkpoint, folder / "aug.h5", count)))


def _checkpoints(folder: Path, count: int, seed: int) -> Outcome:
    return Outcome(*survey(checkpoints, folder / "victims", count, seed), {})


def _hdf5(folder: Path, count: int, seed: int) -> Outcome:
    return Outcome(*survey(hdf5, folder / "victims", count, seed), {})


def _images(folder: Path, count: int, seed: int) -> Outcome:
    return Outcome(*survey(images, folder / "victims", count, seed), {})


Study = Callable[[Path, int, int], Outcome]
STUDIES: dict[str, tuple[Study, int]] = {
    "checkpoints": (_checkpoints, 10_000),
    "hdf5": (_hdf5, 10_000),
    "images": (_images, 10_000),
    "kills-train": (partial(stopped_training, number=signal.SIGKILL), 50),
    "kills-generate": (partial(stopped_generation, number=signal.SIGKILL), 50),
    "interrupts-train": (partial(stopped_training, number=signal.SIGINT), 50),
    "interrupts-generate": (partial(stopped_generation, number=signal.SIGINT), 50),
    "memory-train": (memory_train, 2_000),
    "memory-generate": (memory_generate, 200_000),
}
"""By name: the study and its usual count."""


def _fork() -> multiprocessing.context.ForkContext:
    assert FORK is not None, "these studies need fork"
    return FORK


def _start(work: Callable[..., object], *arguments: object, **options: object) -> BaseProcess:
    """Starts the work in a forked child: importing torch anew for each would take seconds."""
    child = _fork().Process(target=_until_stopped, args=(work, arguments, options))
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # until the child is ready for it
    child.start()
    signal.signal(signal.SIGINT, handler)
    return child


def _until_stopped(work: Callable[..., object], arguments: Sequence[object], options: dict[str, object]) -> None:
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        work(*arguments, **options)
    except (munitaug.Interrupted, KeyboardInterrupt):
        sys.exit(EXIT_INTERRUPTED)


def _finished(work: Callable[..., object], place: Path, *arguments: object) -> Path:
    """Does the work in a child and gives its first argument; this process stays fit for forking."""
    child = _start(work, place, *arguments)
    child.join()
    if child.exitcode != 0:
        raise RuntimeError(f"{place} could not be made; see above")
    return place


def _train_and_tell(run: Path, numbers: Numbers) -> None:
    """Trains; ``numbers`` are the first and the last step that this process finished."""

    def tell(step: int, terms: dict[str, float]) -> None:
        del terms
        numbers[0] = numbers[0] or step
        numbers[1] = step

    train(run, KILLED_STEPS, on_step=tell)


def _generate_pieces(out: Path, checkpoint: Path) -> None:
    generate(checkpoint, out, KILLED_IMAGES, "lzf", PIECES)


def _wait_for_step(child: BaseProcess, numbers: Numbers, step: int, share: float) -> None:
    """Waits for some time between two steps, or within half a second of the start."""
    moved, last, took = time.monotonic(), 0, 0.5
    while child.is_alive() and numbers[1] < step:
        if numbers[1] != last:
            last, took, moved = numbers[1], time.monotonic() - moved, time.monotonic()
        time.sleep(0.0005)
    time.sleep(share * took)


def _signal(child: BaseProcess, number: signal.Signals) -> None:
    assert child.pid is not None
    if child.is_alive():
        os.kill(child.pid, number)
    child.join(PATIENCE_S)
    if child.is_alive():
        os.kill(child.pid, signal.SIGABRT)


def _note(outcomes: Counter[str], remarks: list[str], stop: int | None, code: int | None, lost: str, when: str) -> None:
    """Counts a run that was stopped, or went to its end."""
    wanted = (0, -signal.SIGKILL, EXIT_INTERRUPTED)
    trouble = lost or (f"failed with exit code {code}" if code not in wanted else "")
    if stop is not None:
        outcomes[f"stopped {when}"] += code != 0
    outcomes[trouble or "nothing lost"] += 1
    remarks += [f"stop {stop}: {trouble}"] * bool(trouble)


def _steps_logged(run: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (run / "log.jsonl").read_text().splitlines()]


def _files(folder: Path) -> dict[str, str]:
    """Gives the SHA-256 of every file below a folder."""
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.glob("**/*")
        if file.is_file()
    }


def _watched(child: BaseProcess) -> dict[str, float]:
    """Waits for a child; gives its resident memory in MiB at 20-30% and at 85-95% of its time, and the largest."""
    place, samples = Path(f"/proc/{child.pid}/status"), []
    while child.is_alive():
        lines = [line for line in place.read_text().splitlines() if line.startswith("VmRSS")]
        samples += [int(line.split()[1]) / 1024.0 for line in lines]
        child.join(0.1)
    if child.exitcode != 0:
        raise RuntimeError("the run that was watched failed; see above")
    parts = {
        "early": samples[len(samples) // 5 : max(1, len(samples) * 3 // 10)],
        "late": samples[-len(samples) // 7 :],
    }
    early, late = (statistics.median(part or samples) for part in parts.values())
    figures = {"early_mib": early, "late_mib": late, "growth_mib": late - early, "largest_mib": max(samples)}
    return {name: round(value, 1) for name, value in figures.items()}


def study_row(name: str, count: int, seed: int) -> dict[str, object]:
    """Gives the row of one study."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        outcomes, remarks, figures = STUDIES[name][0](Path(scratch), count, seed)
    bad = sum(number for key, number in outcomes.items() if not key.startswith((*GOOD, "stopped", "right end")))
    return {
        "name": name,
        "count": count,
        "seed": seed,
        "outcomes": dict(sorted(outcomes.items())),
        "flaws": bad,
        **figures,
        "remarks": remarks[:REMARKS_KEPT],
        "seconds": round(time.monotonic() - began, 1),
        **circumstances("benchmarks.reliability"),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", nargs="+", choices=list(STUDIES), default=list(STUDIES))
    parser.add_argument("--count", type=int, default=None, help="default: as many as the page says")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/reliability.jsonl"))
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    for name in options.what:
        row = study_row(name, options.count or STUDIES[name][1], options.seed)
        print(json.dumps(row), flush=True)
        append_row(options.out, row)


if __name__ == "__main__":
    main()
