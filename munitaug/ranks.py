"""The processes that train together, called ranks: who is which, and what they tell one another.

torchrun starts them, or whatever else sets RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT. A process that is
alone is rank 0 of 1, and everything below gives back what it was given.

Floor 1: imports torch only.
"""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

TIMEOUT = timedelta(minutes=30)
"""How long a rank waits for another that neither answers nor hangs up."""
BUCKET_BYTES = 25 * 2**20
VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def count() -> int:
    """Gives the number of ranks; 1 outside :func:`together`."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Gives which rank this is, from 0; rank 0 alone writes files."""
    return dist.get_rank() if count() > 1 else 0


def launched_as() -> tuple[int, int | None, int]:
    """Gives (rank, rank on this machine, number of ranks) as the launcher set them; (0, ``None``, 1) where none did.

    Raises:
        ValueError: RANK, LOCAL_RANK or WORLD_SIZE is set to something that is no number.
    """
    rank, local, world = (_number(name) for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"))
    return rank or 0, local, 1 if world is None else world


def _number(name: str) -> int | None:
    """Gives the number that a variable of the environment holds; ``None`` where it is not set."""
    text = os.environ.get(name, "")
    if text and not text.isdecimal():
        raise ValueError(f"{name} in the environment must be a number, got {text!r}")
    return int(text) if text else None


def launched() -> bool:
    """Says whether a launcher such as torchrun started this process."""
    return "RANK" in os.environ


def restarted() -> bool:
    """Says whether torchrun started this process again, after one of its ranks had failed."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


@contextmanager
def together(device: torch.device) -> Iterator[None]:
    """Joins the ranks of the launcher while the block runs: through gloo, and between GPUs through NCCL.

    Nothing happens if there is one rank, or if the program has joined them itself.

    Args:
        device: what is trained on.

    Raises:
        ValueError: an incomplete environment, a device that ranks cannot share work on, or ranks that the program has
            joined through NCCL alone.
        ConnectionError: not all ranks have come in time, or another has gone at once.
    """
    if (_number("WORLD_SIZE") or 1) < 2 or (dist.is_available() and dist.is_initialized()):
        _check_joined(device)
        yield
        return
    missing = [name for name in VARIABLES if name not in os.environ]
    if missing:
        raise ValueError(f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, but {', '.join(missing)} is not set; use torchrun")
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"several ranks train on cpu or cuda, got device {device.type}; start one process")
    try:
        store, own, world = next(rendezvous("env://", timeout=TIMEOUT))
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
            store=dist.PrefixStore(_word_of_the_living(store, own, world), store),  # type: ignore[attr-defined]
            rank=own,
            world_size=world,
            timeout=TIMEOUT,
        )
    except RuntimeError as error:  # such as gloo's, where another ends before all are connected
        raise ConnectionError(
            f"rank {os.environ['RANK']} of {os.environ['WORLD_SIZE']} could not join the others; see their messages, "
            f"then resume ({str(error).splitlines()[0]})"
        ) from error
    try:
        yield
    finally:
        dist.destroy_process_group()


def _check_joined(device: torch.device) -> None:
    """Checks that ranks which the program has joined itself can exchange what they have on a device and on the CPU."""
    if count() == 1:
        return
    reached = [part.partition(":")[0] for part in dist.get_backend_config().split(",")]
    if not {"cpu", device.type} <= set(reached):
        raise ValueError(
            f"torch.distributed was initialised for {' and '.join(reached)} alone, but ranks on {device.type} exchange "
            'numbers of the CPU, too; use torch.distributed.init_process_group("cpu:gloo,cuda:nccl"), or leave it out'
        )


def _word_of_the_living(store: Store, own: int, world: int) -> str:
    """Gives a word that all ranks of this start agree on, and none of an earlier start has heard.

    torchrun keeps one store while it restarts ranks (pytorch issue 135712): addresses of dead ones stand in it, and its
    count of restarts is not the same on every machine. So each rank says hello with a number of its own, rank 0
    welcomes all numbers with one word, and the word holds once as many have heard it as there are ranks.

    Raises:
        ConnectionError: not all have come in time.
    """
    number, heard = uuid.uuid4().hex, ""
    store.set(f"hello {own}", number)
    deadline = time.monotonic() + TIMEOUT.total_seconds()
    while time.monotonic() < deadline:
        if own == 0:
            numbers = [store.get(f"hello {other}").decode() for other in range(world)]
            word = hashlib.sha256("".join(numbers).encode()).hexdigest()
            for each in numbers:
                store.set(f"welcome {each}", word)
        else:
            word = store.get(f"welcome {number}").decode()
        if word != heard:
            store.add(f"heard {word}", 1)
            heard = word
        if store.add(f"heard {word}", 0) == world:
            return word
        time.sleep(0.02)
    raise ConnectionError(f"rank {own} of {world} waited {TIMEOUT} for the others to start")


def device_of_rank(device: torch.device, *, apart: bool = False) -> torch.device:
    """Gives the GPU of this rank where several work on "cuda": that of its local rank, or the only one it sees.

    Args:
        device: as it was asked for.
        apart: the ranks have joined nobody and never wait for one another, as those that generate. So they may share
            a GPU: ranks beyond the last GPU begin at the first again, and one that was asked for by number is taken.

    Raises:
        ValueError: ranks that train together were given one GPU, or there are more of them than GPUs.
    """
    if device.type != "cuda" or (count() == 1 and not apart):
        return device
    if apart:
        _, local_rank, _ = launched_as()
        if device.index is not None or local_rank is None:
            return device
        return torch.device("cuda", local_rank % torch.cuda.device_count())
    if device.index is not None:
        raise ValueError(f"{count()} ranks cannot share {device}; take device cuda, which gives each rank its own GPU")
    _, local, _ = launched_as()
    if local is None:  # the program has joined the ranks itself
        return torch.device("cuda", torch.cuda.current_device())
    present = torch.cuda.device_count()
    if 1 < present <= local:
        raise ValueError(f"rank {rank()} has no GPU: there are {present} here; use --nproc-per-node {present}")
    own = torch.device("cuda", local if present > 1 else 0)
    torch.cuda.set_device(own)
    return own


@contextmanager
def _others_needed() -> Iterator[None]:
    """Says in one sentence that another rank has gone, where torch says which socket was closed."""
    try:
        yield
    except (torch.OutOfMemoryError, torch.AcceleratorError):
        raise  # this rank's own
    except RuntimeError as error:
        raise ConnectionError(
            f"rank {rank()} of {count()} stopped, because another has gone or does not answer; see that one's message, "
            f"then resume ({str(error).splitlines()[0]})"
        ) from error


def any_rank(flag: bool) -> bool:
    """Says whether any rank says yes: the same answer everywhere. All must ask."""
    if count() == 1:
        return flag
    answer = torch.tensor(int(flag))
    with _others_needed():
        dist.all_reduce(answer, dist.ReduceOp.MAX)
    return bool(answer)


def wait() -> None:
    """Returns when every rank has come to this line."""
    any_rank(False)


def gather(own: Tensor) -> Tensor:
    """Gives the rows of all ranks, in their order: N x ... of each, count * N x ... together.

    For terms that every rank computes of the whole: gradients reach its own rows, ``count`` times as large, so that the
    mean over ranks is the gradient of the term.
    """
    if count() == 1:
        return own
    fixed = own.detach().contiguous()
    parts = [torch.empty_like(fixed) for _ in range(count())]
    with _others_needed():
        dist.all_gather(parts, fixed)
    if own.requires_grad:
        parts[rank()] = fixed + count() * (own - own.detach())
    return torch.cat(parts)


def own_rows(gathered: Tensor) -> Tensor:
    """Gives this rank's rows of what :func:`gather` put together."""
    return gathered.tensor_split(count())[rank()]


def unlike_first(number: int) -> list[int]:
    """Gives the ranks whose number is not that of rank 0."""
    numbers = gather(torch.tensor([number])).tolist()
    return [other for other, theirs in enumerate(numbers) if theirs != numbers[0]]


def texts_of_ranks(text: str) -> list[str]:
    """Gives the text of every rank."""
    letters = torch.tensor(list(text.encode()), dtype=torch.uint8)
    lengths = gather(torch.tensor([len(letters)])).tolist()
    padded = torch.zeros(1, max(lengths), dtype=torch.uint8)
    padded[0, : len(letters)] = letters
    return [bytes(row[:length].tolist()).decode() for row, length in zip(gather(padded), lengths, strict=True)]


@torch.no_grad()
def copy_from_first(tensors: Sequence[Tensor]) -> None:
    """Puts rank 0's values into the tensors of every rank."""
    if count() == 1:
        return
    with _others_needed():
        for tensor in tensors:
            if tensor.numel() > 0:
                values = tensor.contiguous()
                dist.broadcast(values, 0)
                tensor.copy_(values)


@torch.no_grad()
def average(tensors: Sequence[Tensor]) -> None:
    """Puts the mean over ranks into the tensors of every rank: shapes, types and order are the same everywhere.

    Tensors travel in buckets of 25 MiB, of which the next is packed while the last is on its way.
    """
    if count() == 1:
        return
    sent = []
    with _others_needed():
        for bucket in _buckets(tensors):
            packed = torch.cat([tensor.reshape(-1) for tensor in bucket])
            sent.append((bucket, packed, dist.all_reduce(packed, async_op=True)))
        for bucket, packed, answer in sent:
            assert answer is not None
            answer.wait()
            means = (packed / count()).split([tensor.numel() for tensor in bucket])
            for tensor, mean in zip(bucket, means, strict=True):
                tensor.copy_(mean.view(tensor.shape))


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Gives the tensors in groups of at most 25 MiB, or of one that is larger."""
    bucket: list[Tensor] = []
    size = 0
    for tensor in tensors:
        if bucket and size + tensor.nbytes > BUCKET_BYTES:
            yield bucket
            bucket, size = [], 0
        bucket.append(tensor)
        size += tensor.nbytes
    if bucket:
        yield bucket
