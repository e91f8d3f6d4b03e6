"""What every translator gets from the base class, on toys whose output can be worked out by hand."""

from __future__ import annotations

import copy
import os
import pickle
from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch._inductor.config
from torch import Tensor, nn

from munitaug.methods import Munit
from munitaug.translator import OneToOneTranslator, Translator, repeat_content
from munitaug.types import Content, split_direction
from tests.tiny import TINY, counted_decodes


class StyleAddingTranslator(Translator):
    """Adds the sum of the style to the image; remembers the sizes that it was asked to encode."""

    def __init__(self, style_bank: Tensor | None = None) -> None:
        super().__init__(channels=2, size_multiple=8, style_dim=3, style_bank=style_bank)
        self.encoded: list[tuple[int, ...]] = []

    def encode_content(self, x: Tensor) -> Content:
        self.encoded.append(tuple(x.shape))
        return x, -x

    def decode(self, content: Content, style: Tensor) -> Tensor:
        assert isinstance(content, tuple)
        return content[0] * 2 + content[1] + style.sum(dim=1).view(-1, 1, 1, 1)

    def encode_style(self, y: Tensor) -> Tensor:
        return torch.zeros(len(y), 3)


def test_each_image_meets_its_own_styles() -> None:
    x, style = torch.randn(3, 2, 17, 30), torch.randn(3, 4, 3)
    out = StyleAddingTranslator().translate(x, style)
    assert out.shape == (3, 4, 2, 17, 30)
    for image in range(3):
        for variant in range(4):
            torch.testing.assert_close(out[image, variant], x[image] + style[image, variant].sum())


def test_content_is_encoded_once_on_padded_images() -> None:
    translator = StyleAddingTranslator()
    translator.translate(torch.zeros(2, 2, 17, 30), torch.zeros(2, 5, 3))
    assert translator.encoded == [(2, 2, 24, 32)]


@pytest.mark.parametrize(("count", "variants"), [(0, 3), (2, 0), (0, 0)])
def test_nothing_in_gives_nothing_out(count: int, variants: int) -> None:
    out = StyleAddingTranslator().translate(torch.zeros(count, 2, 16, 16), torch.zeros(count, variants, 3))
    assert out.shape == (count, variants, 2, 16, 16)


@pytest.mark.parametrize(
    ("x_shape", "style_shape", "message"),
    [
        ((2, 3, 16, 16), (2, 1, 3), "images must be N x 2 x H x W, got 2 x 3 x 16 x 16"),
        ((2, 16, 16), (2, 1, 3), "images must be N x 2"),
        ((2, 2, 15, 40), (2, 1, 3), "image is 40 x 15 px, but sides of at least 16 px are needed; resize first"),
        ((2, 2, 16, 16), (1, 1, 3), "styles must be 2 x K x 3, got 1 x 1 x 3"),
        ((2, 2, 16, 16), (2, 1, 4), "styles must be 2 x K x 3"),
        ((2, 2, 16, 16), (2, 3), "styles must be 2 x K x 3, got 2 x 3"),
    ],
)
def test_what_does_not_fit_is_refused(x_shape: tuple[int, ...], style_shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StyleAddingTranslator().translate(torch.zeros(x_shape), torch.zeros(style_shape))


def test_the_bank_is_a_copy_and_no_weight() -> None:
    bank = torch.ones(4, 3)
    translator = StyleAddingTranslator(bank)
    bank.zero_()
    assert translator.style_bank.sum() == 12
    assert translator.state_dict() == {}
    assert StyleAddingTranslator().style_bank.shape == (0, 3)


def test_contents_are_repeated_beside_one_another() -> None:
    content = torch.tensor([1, 2])
    repeated = repeat_content((content, -content), 3)
    assert isinstance(repeated, tuple)
    assert [part.tolist() for part in repeated] == [[1, 1, 1, 2, 2, 2], [-1, -1, -1, -2, -2, -2]]


def test_a_direction_is_split_into_source_and_target() -> None:
    assert split_direction("a2b") == ("a", "b")
    assert split_direction("b2a") == ("b", "a")
    with pytest.raises(ValueError, match='direction must be "a2b" or "b2a", got \'ab\''):
        split_direction("ab")


class Halves(nn.Module):
    """Halves the image, then takes the negative of what it sees."""

    def encode(self, x: Tensor) -> Tensor:
        return x / 2

    def decode(self, features: Tensor) -> Tensor:
        return -features


def test_a_one_to_one_translator_gives_the_same_image_for_every_variant() -> None:
    translator = OneToOneTranslator(Halves(), channels=1, size_multiple=4)
    x = torch.rand(2, 1, 17, 18)
    out = translator.translate(x, torch.zeros(2, 3, 0))
    assert torch.equal(out, (-x / 2).unsqueeze(1).expand(-1, 3, -1, -1, -1))


def test_a_one_to_one_translator_names_methods_with_styles() -> None:
    with pytest.raises(ValueError, match="munit, dritpp, transgaga or multidomain"):
        OneToOneTranslator(Halves(), channels=1, size_multiple=4).encode_style(torch.rand(1, 1, 16, 16))


def test_a_large_batch_is_decoded_in_pieces_without_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    translator = Munit(TINY).eval().translator("a", "b")
    x, style = torch.rand(3, 3, 17, 18) * 2 - 1, torch.randn(3, 4, TINY.style_dim)
    sizes = counted_decodes(translator, monkeypatch)
    with torch.no_grad():
        whole = translator.translate(x, style)
        monkeypatch.setattr("munitaug.translator.PIXELS_AT_ONCE", 3 * 20 * 20)
        pieces = translator.translate(x, style)
    assert sizes == [12, *[3, 1] * 3]
    torch.testing.assert_close(pieces, whole, atol=1e-5, rtol=1e-4)


def test_with_a_gradient_a_batch_stays_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    translator = Munit(TINY).translator("a", "b")
    monkeypatch.setattr("munitaug.translator.PIXELS_AT_ONCE", 1)
    sizes = counted_decodes(translator, monkeypatch)
    translator.translate(torch.rand(2, 3, 16, 16), torch.randn(2, 2, TINY.style_dim))
    assert sizes == [4]


@pytest.fixture
def compiled_calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Stands in for the compiler; gives the sizes of what compiled code was called with."""
    calls: list[tuple[int, ...]] = []

    def compile_(way: Callable[..., object], **_: object) -> Callable[..., object]:
        def noted(*arguments: Tensor | tuple[Tensor, ...]) -> object:
            assert torch._inductor.config.freezing
            calls.extend(tuple(part.shape) for part in arguments if isinstance(part, Tensor))
            return way(*arguments)

        return noted

    monkeypatch.setattr(torch, "compile", compile_)
    return calls


@pytest.mark.parametrize(
    ("count", "variants", "sizes"),
    [
        (1, 2, {(1, 2, 16, 16), (1, 2, 3)}),
        (5, 2, {(8, 2, 16, 16), (8, 2, 3)}),
        (70, 2, {(64, 2, 16, 16), (64, 2, 3), (8, 2, 16, 16), (8, 2, 3)}),
        (3, 200, {(1, 2, 16, 16), (1, 128, 3), (1, 72, 3)}),
    ],
)
def test_compiled_batches_are_filled_up_to_few_sizes(
    count: int, variants: int, sizes: set[tuple[int, ...]], compiled_calls: list[tuple[int, ...]]
) -> None:
    plain, compiled = StyleAddingTranslator(), StyleAddingTranslator()
    compiled.compiled = True
    x, style = torch.randn(count, 2, 16, 16), torch.randn(count, variants, 3)
    with torch.no_grad():
        assert torch.equal(compiled.translate(x, style), plain.translate(x, style))
    assert set(compiled_calls) == sizes
    assert not torch._inductor.config.freezing


def test_compiled_batches_are_filled_up_on_other_devices_too(compiled_calls: list[tuple[int, ...]]) -> None:
    translator = StyleAddingTranslator().to("meta")
    translator.compiled = True
    with torch.no_grad():
        out = translator.translate(torch.zeros(5, 2, 64, 64, device="meta"), torch.zeros(5, 40, 3, device="meta"))
    assert out.shape == (5, 40, 2, 64, 64)
    assert set(compiled_calls) == {(8, 2, 64, 64), (8, 40, 3)}


def test_where_gradients_are_asked_for_nothing_is_compiled(compiled_calls: list[tuple[int, ...]]) -> None:
    translator = StyleAddingTranslator()
    translator.compiled = True
    translator.translate(torch.randn(3, 2, 16, 16), torch.randn(3, 2, 3))
    assert compiled_calls == []


def test_forked_processes_leave_compiled_code_alone(
    compiled_calls: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    translator = StyleAddingTranslator()
    translator.compiled = True
    x, style = torch.randn(3, 2, 16, 16), torch.randn(3, 2, 3)
    with torch.no_grad():
        images = translator.translate(x, style)
        compiled_calls.clear()
        monkeypatch.setattr(os, "getpid", lambda: -1)
        assert torch.equal(translator.translate(x, style), images)
        other = StyleAddingTranslator()
        other.compiled = True
        assert torch.equal(other.translate(x, style), images)
    assert compiled_calls == []


def test_compiled_code_stays_behind_when_a_translator_is_copied_or_pickled(
    compiled_calls: list[tuple[int, ...]],
) -> None:
    translator = Munit(TINY, seed=3).core.translator("a", "b").eval().requires_grad_(False)
    translator.compiled = True
    x, style = torch.rand(1, 3, 16, 16), torch.randn(1, 2, TINY.style_dim)
    with torch.no_grad():
        images = translator.translate(x, style)
        before = len(compiled_calls)
        for twin in (copy.deepcopy(translator), pickle.loads(pickle.dumps(translator))):
            assert torch.equal(twin.translate(x, style), images)
    assert len(compiled_calls) == 3 * before


def test_more_sizes_are_compiled_than_torch_allows_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its limit is 8 for each function, all objects together."""
    graphs: list[torch.fx.GraphModule] = []

    def backend(graph: torch.fx.GraphModule, _: object) -> Callable[..., object]:
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    with torch.no_grad():
        for side in range(16, 56, 4):
            translator = Munit(TINY, seed=3).core.translator("a", "b").eval().requires_grad_(False)
            translator.compiled = True
            translator.translate(torch.zeros(1, 3, side, side), torch.zeros(1, 2, TINY.style_dim))
    assert len(graphs) == 2 * 10
