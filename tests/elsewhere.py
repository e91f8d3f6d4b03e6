"""A device that is no CPU, for machines without a GPU: what mixes the two up fails there as it would on a GPU.

Its tensors hold their numbers in the CPU's memory, and every operation on them is done there; but an operation that
takes tensors of both devices, or draws with a generator of the CPU, is refused, and what goes from one to the other is
written down. It is torch's device "privateuse1" under the name "elsewhere", after :func:`prepare`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "elsewhere"
PRETENDED = not torch.cuda.is_available()
ELSEWHERE = torch.device("privateuseone:0" if PRETENDED else "cuda:0")
"""The device to test on."""
aten = torch.ops.aten
INDEXING = (aten.index.Tensor, aten.index_put_.default, aten.index_put.default, aten._index_put_impl_.default)
CROSSING = (aten._to_copy.default, aten.copy_.default)
LOWERED = ("conv2d", "conv_transpose2d.input", "linear", "mm", "bmm", "addmm", "baddbmm", "matmul", "einsum")
"""Operations that CUDA's autocast does in lower precision, of those that our networks use."""
RAISED = ("exp", "log", "rsqrt", "pow.Tensor_Scalar", "group_norm", "layer_norm", "softmax.int", "log_softmax.int")
"""Operations that it does in float32; a CPU's autocast does some of them as they come."""
LOOKS = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "equal")
"""Operations whose answer the CPU has to wait for."""


class Away(torch.Tensor):
    """A tensor of the other device.

    Args:
        held: the same numbers on the CPU.
    """

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> Away:
        made: Away = torch.Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            layout=held.layout,
            device=torch.device(NAME, 0),
        )
        made.held = held
        return made

    def __init__(self, held: Tensor) -> None:
        pass

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["held"], None

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, Tensor], context: None, size: Any, stride: Any) -> Away:
        return Away(inner["held"])

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return f"Away({self.held})"

    def tolist(self) -> Any:
        """Gives the numbers; torch's own refuses tensors like this one."""
        _traffic.append("tolist, waiting")
        return self.held.tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        return _run(func, args, kwargs or {})


_traffic: list[str] = []


@contextmanager
def traffic() -> Iterator[list[str]]:
    """Gives the list of what passes between the CPU and the other device, or lets one wait for the other."""
    _traffic.clear()
    yield _traffic


def prepare() -> None:
    """Makes the device known to torch; before the process's first backward pass, which counts the devices."""
    _setup_privateuseone_for_python_backend(NAME, _Backend())
    library = torch.library.Library("_", "IMPL")
    library.fallback(lambda func, *args, **kwargs: _run(func, args, kwargs), "PrivateUse1")
    library.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    lowered = torch.library.Library("aten", "IMPL")
    for name in (*LOWERED, *RAISED):
        packet, _, overload = name.partition(".")
        func = getattr(getattr(aten, packet), overload or "default")
        lowered.impl(name, partial(_cast, func, name in LOWERED), "AutocastPrivateUse1")
    _kept.extend([library, lowered])


def _cast(func: Any, lower: bool, *args: Any, **kwargs: Any) -> Any:
    """Does an operation in autocast's precision, or in float32."""
    wanted = torch.get_autocast_dtype(NAME) if lower else torch.float32
    keys: Any = torch._C.DispatchKey

    def cast(each: Tensor) -> Tensor:
        return each.to(wanted) if isinstance(each, Away) and each.is_floating_point() else each

    with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(keys.AutocastPrivateUse1)):
        return func(*tree_map_only(Tensor, cast, args), **tree_map_only(Tensor, cast, kwargs))


_kept: list[torch.library.Library] = []


class _Backend:
    """What torch asks of a device's module."""

    @staticmethod
    def is_available() -> bool:
        """Says no: torch is not to choose this device by itself, and other tests are to see a CPU alone."""
        return False

    @staticmethod
    def is_initialized() -> bool:
        return True

    @staticmethod
    def current_device() -> int:
        return 0

    @staticmethod
    def device_count() -> int:
        return 1

    @staticmethod
    def get_amp_supported_dtype() -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]

    @staticmethod
    def _is_in_bad_fork() -> bool:
        return False

    @staticmethod
    def get_rng_state(device: Any = None) -> Tensor:
        return torch.zeros(0)

    @staticmethod
    def set_rng_state(state: Tensor, device: Any = None) -> None:
        """Sets nothing: there is no generator."""

    @staticmethod
    def manual_seed_all(seed: int) -> None:
        """Seeds nothing: there is no generator."""


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Does an operation on the CPU; refuses what a GPU refuses.

    Raises:
        RuntimeError: tensors of both devices, or a generator of the CPU.
    """
    tensors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
    away = [each for each in tensors if isinstance(each, Away)]
    here = [each for each in tensors if not isinstance(each, Away) and each.dim() > 0]
    asked = kwargs.get("device")
    goes_away = bool(away) if asked is None else torch.device(asked).type == NAME
    if func is aten.copy_.default or func in INDEXING:
        goes_away = isinstance(args[0], Away)
    mixed = bool(away) and bool(here)
    if mixed and func not in CROSSING and not (func in INDEXING and goes_away):
        raise RuntimeError(f"{func}: tensors {[(tuple(each.shape), str(each.device)) for each in tensors]}")
    generator = kwargs.get("generator")
    if goes_away and generator is not None:
        raise RuntimeError(f"{func}: expected a generator of {NAME}, got one of {generator.device}")
    crosses = func is aten._to_copy.default and asked is not None and goes_away != bool(away)
    if mixed or crosses or (away and func.overloadpacket.__name__ in LOOKS):
        waits = not (func is aten.copy_.default and goes_away and args[2:3] == (True,))
        _traffic.append(f"{func}{', waiting' if waits else ''}")
    if asked is not None and goes_away:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    held_args, held_kwargs = tree_map_only(Away, lambda each: each.held, (args, kwargs))
    out = func(*held_args, **held_kwargs)
    if not goes_away:
        return out
    if func is aten._to_copy.default and out is held_args[0]:
        out = out.clone()
    out = tree_map_only(Tensor, Away, out)
    return return_and_correct_aliasing(func, args, kwargs, out) if away and not crosses else out
