"""Every front end against the same promises: kinds of input x options x what must come back.

A front end is called with one input of one kind. Whatever the options, the outcome has the form of the input, the
input is left alone, all else in the sample is the same object, and copies repeat what the original does. What only
one front end can do is tested in its own file.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
import PIL.Image
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import tv_tensors
from torchvision.transforms import v2

from munitaug.styles import BankStyles
from munitaug.transforms import LabelGuard, MUNITTransform
from tests.transforms.toys import (
    BrightnessClassifier,
    BrightnessTranslator,
    CallsBrightness,
    EqualImages,
    OneToOneTranslator,
    ShiftTranslator,
    frozen,
    give_checkpoints,
)

BANK = torch.linspace(-2.0, 2.0, 16).view(8, 2)
SIZE = (21, 18)


def levels(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def unit(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(dtype)


def pil(mode: str) -> PIL.Image.Image:
    planes = {"L": (), "RGB": (3,), "RGBA": (4,)}[mode]
    return PIL.Image.fromarray(levels(*SIZE, *planes).numpy())


def arrays(form: str, shape: tuple[int, ...], dtype: type[np.generic]) -> Any:
    sizes = shape if form == "image" else (3, *shape)
    stacked = levels(*sizes).numpy() if dtype is np.uint8 else unit(*sizes).numpy()
    return list(stacked) if form == "list of images" else stacked


SAMPLES: dict[str, Callable[[], Any]] = {
    "PIL L": lambda: pil("L"),
    "PIL RGB": lambda: pil("RGB"),
    "PIL RGBA": lambda: pil("RGBA"),
    "tensor uint8": lambda: levels(3, *SIZE),
    "tensor uint8 grey": lambda: levels(1, *SIZE),
    "tensor float16": lambda: unit(3, *SIZE, dtype=torch.float16),
    "tensor bfloat16": lambda: unit(3, *SIZE, dtype=torch.bfloat16),
    "tensor float32": lambda: unit(3, *SIZE),
    "tensor float64": lambda: unit(1, *SIZE, dtype=torch.float64),
    "tensor batch": lambda: levels(2, 3, *SIZE),
    "tensor batch of batches": lambda: unit(2, 3, 1, *SIZE),
    "tensor empty batch": lambda: levels(0, 3, *SIZE),
    "tensor empty batches": lambda: unit(5, 0, 3, *SIZE),
    "tensor not contiguous": lambda: unit(*SIZE, 3).permute(2, 0, 1),
    "tensor channels last": lambda: unit(2, 3, *SIZE).to(memory_format=torch.channels_last),
    "tensor that wants gradients": lambda: unit(3, *SIZE).requires_grad_(),
    "Image": lambda: tv_tensors.Image(levels(3, *SIZE)),
    "Image grey": lambda: tv_tensors.Image(levels(*SIZE)),
    "Image batch": lambda: tv_tensors.Image(unit(2, 1, 3, *SIZE)),
    "Image empty batch": lambda: tv_tensors.Image(levels(0, 3, *SIZE)),
    "Video": lambda: tv_tensors.Video(levels(2, 3, *SIZE)),
    "Video batch": lambda: tv_tensors.Video(unit(2, 2, 3, *SIZE)),
    "Video without frames": lambda: tv_tensors.Video(levels(2, 0, 3, *SIZE)),
}
ARRAYS: dict[str, Callable[[], Any]] = {
    f"{form} {dtype.__name__} {'x'.join(map(str, shape))}": partial(arrays, form, shape, dtype)
    for form in ("image", "images", "list of images")
    for dtype in (np.uint8, np.float32)
    for shape in (SIZE, (*SIZE, 1), (*SIZE, 3))
}
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "never": {"p": 0.0},
    "sometimes": {"p": 0.5},
    "seed": {"seed": 7},
    "bank": {"style": "bank"},
    "StyleSource": {"style": BankStyles(BANK, truncation=0.5)},
    "exemplar": {"style": np.full((16, 16, 3), 200, np.uint8)},
    "truncation": {"truncation": 0.5},
    "strength": {"strength": 0.5},
    "strength from a range": {"strength": (0.0, 1.0)},
    "mix": {"direction": {"a2b": 0.5, "b2a": 0.5}},
    "guard": {"guard": LabelGuard(BrightnessClassifier(), tries=2)},
    "everything": {
        "style": "bank",
        "truncation": 0.5,
        "strength": (0.2, 0.8),
        "direction": {"a2b": 0.5, "b2a": 0.5},
        "guard": LabelGuard(BrightnessClassifier(), tries=2, fallback="last"),
        "seed": 3,
    },
}


class FrontEnd(NamedTuple):
    """How a front end is made, and how one input goes through it."""

    make: Callable[..., Any]
    call: Callable[[Any, Any], Any]


def call_torchvision(transform: Any, image: Any) -> Any:
    return transform(image)


def make_arrays(checkpoint: Any, **options: Any) -> Any:
    pytest.importorskip("albumentations")
    from munitaug.transforms.albumentations import MUNITTransform as ArrayTransform

    return ArrayTransform(checkpoint, **options)


def call_arrays(transform: Any, image: Any) -> Any:
    several = isinstance(image, list) or (image.ndim == 4) or (image.ndim == 3 and image.shape[:2] == (3, SIZE[0]))
    key = "images" if several else "image"
    return transform(**{key: image})[key]


TORCHVISION, ALBUMENTATIONS = FrontEnd(MUNITTransform, call_torchvision), FrontEnd(make_arrays, call_arrays)
CASES = [
    pytest.param(front_end, make, options, id=f"{name}-{kind}-{option}")
    for name, front_end, inputs in (("torchvision", TORCHVISION, SAMPLES), ("albumentations", ALBUMENTATIONS, ARRAYS))
    for kind, make in inputs.items()
    for option, options in OPTIONS.items()
    if not ("Video" in kind and "guard" in options)
]


@pytest.fixture(autouse=True)
def _checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    give_checkpoints(
        monkeypatch, frozen(BrightnessTranslator(style_bank=BANK)), frozen(ShiftTranslator(style_bank=-BANK))
    )


def same_form(outcome: Any, image: Any) -> bool:
    """Whether type, size, dtype, mode and device are those of the image, and the values in its range."""
    if isinstance(image, list):
        return type(outcome) is list and len(outcome) == len(image) and all(map(same_form, outcome, image))
    if isinstance(image, PIL.Image.Image):
        return isinstance(outcome, PIL.Image.Image) and (outcome.mode, outcome.size) == (image.mode, image.size)
    if type(outcome) is not type(image) or outcome.shape != image.shape or outcome.dtype != image.dtype:
        return False
    if isinstance(image, Tensor) and outcome.device != image.device:
        return False
    return 0 in outcome.shape or bool(
        outcome.min() >= 0 and outcome.max() <= (255 if "uint8" in str(image.dtype) else 1)
    )


def same_values(first: Any, second: Any) -> bool:
    if isinstance(first, Tensor):
        return torch.equal(first, second)
    return np.array_equal(np.asarray(first), np.asarray(second))


@pytest.mark.parametrize(("front_end", "make", "options"), CASES)
def test_what_comes_back_has_the_form_of_what_went_in(
    front_end: FrontEnd, make: Callable[[], Any], options: dict[str, Any]
) -> None:
    image, before = make(), make()
    transform = front_end.make("digits", **options)
    twins = [copy.deepcopy(transform), pickle.loads(pickle.dumps(transform))]
    random_state = torch.get_rng_state()
    outcome = front_end.call(transform, image)
    assert same_form(outcome, image)
    assert same_values(image, before)
    if isinstance(outcome, Tensor) and options.get("p", 1.0) == 1.0:
        assert not outcome.requires_grad
        assert not outcome.is_inference()
    if options.get("p") != 0.0:
        assert torch.equal(torch.get_rng_state(), random_state) == ("seed" in options)
    for twin in twins:
        torch.set_rng_state(random_state)
        assert same_values(front_end.call(twin, image), outcome)


@pytest.mark.parametrize("front_end", [TORCHVISION, ALBUMENTATIONS], ids=["torchvision", "albumentations"])
class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"p": 1.5}, r"p must be in \[0, 1\]"),
            ({"num_variants": 0}, "num_variants must be an integer of at least 1"),
            ({"style": "rococo"}, "style must be one of prior, bank, mixture"),
            ({"style": []}, "no exemplar image"),
            ({"style": np.zeros((8, 8), np.uint8)}, "exemplar image is 8 x 8 px"),
            ({"direction": "a2c"}, 'direction must be "a2b" or "b2a"'),
            ({"direction": {"a2b": -1.0}}, "weights of a mix of directions must be positive"),
            ({"strength": 1.5}, r"strength must be in \[0, 1\]"),
            ({"truncation": 0.0}, "truncation must be at least 0.1"),
            ({"style": BankStyles(BANK), "truncation": 0.5}, "truncation is for style="),
        ],
    )
    def test_values(self, front_end: FrontEnd, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            front_end.make("digits", **options)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"seed": 1.5}, "seed must be an integer or None"),
            ({"style": 7}, "exemplar images"),
            ({"strength": "half"}, "strength must be a number"),
            ({"direction": 3}, "or a mix such as"),
            ({"guard": BrightnessClassifier()}, "guard must be a munitaug LabelGuard"),
        ],
    )
    def test_types(self, front_end: FrontEnd, options: dict[str, Any], message: str) -> None:
        with pytest.raises(TypeError, match=message):
            front_end.make("digits", **options)

    def test_strength_without_styles(self, front_end: FrontEnd) -> None:
        with pytest.raises(ValueError, match="this translator has no styles"):
            front_end.make(OneToOneTranslator().eval(), strength=0.5)

    def test_bank_without_codes(self, front_end: FrontEnd) -> None:
        with pytest.raises(ValueError, match="without a style bank"):
            front_end.make(frozen(BrightnessTranslator()), style="bank")


def transforms_for_workers() -> dict[str, nn.Module]:
    translator = frozen(BrightnessTranslator())
    transforms: dict[str, nn.Module] = {
        "follows torch": MUNITTransform(translator),
        "seed": MUNITTransform(translator, seed=7),
        "seed, moved on": MUNITTransform(translator, seed=8),
        "in a Compose": v2.Compose([MUNITTransform(translator, seed=9, strength=(0.5, 0.9))]),
        "guard": MUNITTransform(translator, seed=10, guard=LabelGuard(BrightnessClassifier(), fallback="last")),
    }
    transforms["seed, moved on"](torch.zeros(3, 16, 16))
    if find_spec("albumentations") is not None:
        import albumentations as A

        for seed in (None, 11):
            arrays = A.Compose([make_arrays(translator, seed=seed)], seed=3)
            transforms[f"albumentations, {seed}"] = CallsBrightness(arrays)
    return transforms


@pytest.mark.parametrize(
    ("start_method", "persistent"), [("fork", False), ("fork", True), ("spawn", True), ("forkserver", True)]
)
def test_no_style_comes_twice_in_workers_and_epochs(start_method: str, persistent: bool) -> None:
    """One loader per start method, and all transforms in it, because starting processes is what takes the time."""
    transforms = transforms_for_workers()
    loader = DataLoader(
        EqualImages(*transforms.values(), length=4),
        batch_size=2,
        num_workers=2,
        multiprocessing_context=start_method,
        persistent_workers=persistent,
    )
    drawn = torch.cat([batch for _ in range(2) for batch in loader])
    assert drawn.shape == (8, len(transforms))
    assert len(drawn.unique()) == drawn.numel()
