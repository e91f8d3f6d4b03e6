"""MultiDomain: one model of three domains, its losses by hand for any two of them, names and refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch

import munitaug
from munitaug.checkpoint import load_method
from munitaug.data.domain import ArrayDomain
from munitaug.losses import mean_absolute_difference
from munitaug.methods import MultiDomain, MultiDomainConfig, Munit, SemanticConsistency
from munitaug.types import LabelMissingError, Pair
from tests.methods.cases import TINY_DOMAINS
from tests.oracles import SIDES, squares
from tests.tiny import TINY, TINY_TRAINING, tiny_classifier, tiny_domain, tiny_pair

THREE = replace(TINY_DOMAINS, domains=("x", "y", "z"))


def pair_of(first: str, second: str) -> Pair:
    return replace(tiny_pair(), domains=(first, second))


def losses(method: MultiDomain, pair: Pair) -> dict[str, float]:
    return {name: value.item() for phase in method.phases() for name, value in phase.loss(pair).items()}


def test_a_step_changes_what_the_two_domains_have_and_nothing_of_the_third() -> None:
    method = MultiDomain(THREE)
    for phase in method.phases():
        torch.stack(list(phase.loss(pair_of("x", "z")).values())).sum().backward()
    moved = {
        name: any(parameter.grad is not None for parameter in mlp.parameters())
        for name, mlp in method.style_mlps.items()
    }
    assert moved == {"x": True, "y": False, "z": True}
    head = method.style_encoder.head.weight.grad
    assert head is not None
    size = THREE.style_dim
    assert bool((head[size : 2 * size] == 0).all())
    assert bool((head[:size] != 0).any())
    for scale in method.discriminator.scales:
        layers = cast(torch.nn.Sequential, scale.layers)
        last = layers[-1].weight.grad
        assert isinstance(last, torch.Tensor)
        assert [bool((row != 0).any()) for row in last] == [True, False, True]


def test_the_terms_are_those_of_munit_written_out() -> None:
    method = MultiDomain(replace(THREE, weight_cycle=0.0)).eval()
    pair = pair_of("y", "z")
    terms = losses(method, pair)
    style_y, style_z = method._draw_styles(pair, "generator")
    content_y, content_z = method.content_encoder(pair.a), method.content_encoder(pair.b)
    again = method.decode(content_y, method.encode_style(pair.a, "y"), "y")
    assert terms["image_a"] == pytest.approx(10 * (again - pair.a).abs().mean().item(), rel=1e-4)
    fake_z = method.decode(content_y, style_z, "z")
    assert terms["style_b"] == pytest.approx((method.encode_style(fake_z, "z") - style_z).abs().mean().item(), rel=1e-4)
    assert terms["content_b"] == pytest.approx(
        (method.content_encoder(fake_z) - content_y).abs().mean().item(), rel=1e-4
    )
    fake_y = method.decode(content_z, style_y, "y")
    assert terms["style_a"] == pytest.approx((method.encode_style(fake_y, "y") - style_y).abs().mean().item(), rel=1e-4)
    assert not [name for name in terms if name.startswith("cycle")]


def test_each_domain_is_judged_by_its_own_map() -> None:
    method = MultiDomain(THREE).eval()
    image = tiny_pair().a
    whole = method.discriminator(image)
    for index, name in enumerate(THREE.domains):
        for map_of_all, map_of_one in zip(whole, method._maps(image, name), strict=True):
            assert torch.equal(map_of_all[:, index], map_of_one[:, 0])


def test_one_model_of_three_domains_is_smaller_than_three_of_two() -> None:
    def size(method: torch.nn.Module) -> int:
        return sum(parameter.numel() for parameter in method.parameters())

    assert size(MultiDomain(THREE)) < 0.4 * 3 * size(Munit(TINY))


def test_styles_are_of_the_target_and_content_of_none() -> None:
    method = MultiDomain(THREE).eval()
    x, style = tiny_pair().a, torch.randn(2, 1, 3)
    to_y, to_z = (method.translator("x", name).translate(x, style) for name in ("y", "z"))
    assert not torch.equal(to_y, to_z)
    assert torch.equal(to_y, method.translator("z", "y").translate(x, style))
    codes = method.translator("x", "y").encode_style(x)
    assert torch.equal(codes, method.encode_style(x, "y"))


def test_a_and_b_are_the_first_two() -> None:
    method = MultiDomain(THREE).eval()
    x, style = tiny_pair().a, torch.randn(2, 1, 3)
    by_letter = method.translator("a", "b").translate(x, style)
    assert torch.equal(by_letter, method.translator("x", "y").translate(x, style))
    assert len(method.directions) == 6
    with pytest.raises(ValueError, match=r"has the domains x, y, z.*a2b is x:y.*got x:w"):
        method.translator("x", "w")
    with pytest.raises(ValueError, match="got x:x"):
        method.translator("x", "x")


@pytest.mark.parametrize("domains", [("x", "y", "z"), ("a", "b", "c")])
@pytest.mark.parametrize("labelled", [True, False])
def test_the_label_term_is_of_the_source_alone(domains: tuple[str, str, str], labelled: bool) -> None:
    method = SemanticConsistency(MultiDomain(replace(THREE, domains=domains)), tiny_classifier(3))
    source, other, target = domains
    elsewhere = pair_of(other, target) if labelled else replace(pair_of(other, target), label_a=None)
    names = []
    for pair in (pair_of(source, target), elsewhere):
        method.check(pair)
        names.append({name for phase in method.phases() for name in phase.loss(pair)})
    assert names[0] - names[1] == {"semantic"}
    with pytest.raises(LabelMissingError, match="needs labels of the source"):
        method.check(replace(pair_of(source, target), label_a=None))


def test_labels_of_other_domains_change_nothing(tmp_path: Path) -> None:
    """With the label term; they may even be of other classes."""
    weights = []
    for number, shift in enumerate((0, 7)):
        source, *others = (replace_name(place) for place in range(3))
        others = [
            ArrayDomain(each.name, each.images(range(len(each))), each.require_labels() + shift) for each in others
        ]
        checkpoint = munitaug.train(
            source,
            others[0],
            tmp_path / str(number),
            others=others[1:],
            method="multidomain",
            config=TINY_DOMAINS,
            training=munitaug.TrainConfig(**{**vars(TINY_TRAINING), "max_steps": 6}),
            semantic=munitaug.SemanticOptions(1.0, munitaug.FitSettings(steps=2, batch_size=4)),
            progress=False,
        )
        weights.append(load_method(checkpoint).state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_three_domains_are_trained_saved_and_used_by_their_names(tmp_path: Path) -> None:
    domains = [replace_name(number) for number in range(3)]
    run = tmp_path / "run"
    training = munitaug.TrainConfig(**{**vars(TINY_TRAINING), "max_steps": 4, "sample_every_steps": 2})
    munitaug.train(
        domains[0],
        domains[1],
        run,
        others=domains[2:],
        method="multidomain",
        config=replace(TINY_DOMAINS, style_dim=3),
        training=training,
        progress=False,
    )
    facts = munitaug.checkpoint_facts(run)
    assert set(facts.directions) == {f"{s}:{t}" for s in ("d0", "d1", "d2") for t in ("d0", "d1", "d2") if s != t}
    assert facts.style_bank_sizes == {"d0": 7, "d1": 7, "d2": 7}
    (other,) = facts.provenance["others"]
    assert (other["name"], other["images"]) == ("d2:train", 7)
    image = tiny_pair().a[0] * 0.5 + 0.5
    named = munitaug.MUNITTransform(run, direction="d0:d2", style="bank", seed=1)(image)
    assert named.shape == image.shape
    assert not torch.equal(named, munitaug.MUNITTransform(run, direction="d0:d1", style="bank", seed=1)(image))
    assert munitaug.shared_translator(run) is munitaug.shared_translator(run, "a2b")
    with pytest.raises(ValueError, match=r"has the domains d0, d1, d2; two different ones make .*, got d0:moon"):
        munitaug.shared_translator(run, "d0:moon")


def replace_name(number: int) -> munitaug.ImageDomain:
    domain = tiny_domain(f"d{number}:train", seed=number)
    assert isinstance(domain, munitaug.ImageDomain)
    return domain


def test_others_are_for_this_method_only_and_need_names(tmp_path: Path) -> None:
    first, second, third = (replace_name(number) for number in range(3))
    with pytest.raises(ValueError, match="others are for the method \"multidomain\", but method is 'munit'"):
        munitaug.train(first, second, tmp_path / "run", others=[third])
    with pytest.raises(ValueError, match="each domain needs a name of its own, got d0, d1, d1"):
        munitaug.train(first, second, tmp_path / "run", others=[second], method="multidomain")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"domains": ("x",)}, "at least two different names, got x"),
        ({"domains": ("x", "x")}, "at least two different names"),
        ({"domains": ("x", "y:z")}, "must not be empty nor have"),
        ({"channels": 0}, "channels must be 1 to 4"),
        ({"n_downsample": 4}, "n_downsample must be 1 to 3"),
        ({"width": 0}, "width must be at least 1"),
        ({"weight_style": -1.0}, "weight_style must be at least 0"),
        ({"edge_kernel": 2}, "edge_kernel must be odd"),
        ({"gan_loss": "wgan"}, "gan_loss must be"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(TINY_DOMAINS, **changes)  # type: ignore[arg-type]


def test_presets() -> None:
    assert MultiDomainConfig.preset("paper", channels=1).channels == 1
    assert MultiDomainConfig.preset("small").width == 16
    with pytest.raises(ValueError, match="preset must be one of"):
        MultiDomainConfig.preset("huge")


THREE = replace(TINY_DOMAINS, domains=("x", "y", "z"))


@torch.no_grad()
def test_every_term_is_its_formula() -> None:
    weights: dict[str, Any] = {
        "weight_gan": 2.0,
        "weight_image": 3.0,
        "weight_style": 5.0,
        "weight_content": 7.0,
        "weight_cycle": 11.0,
    }
    method, pair = MultiDomain(replace(THREE, **weights), seed=3), pair_of("z", "x")
    for parameter in method.discriminator.parameters():
        parameter.mul_(15.0)  # scores of order 1, so that they weigh
    keys, images = {"a": "z", "b": "x"}, {"a": pair.a, "b": pair.b}
    contents = {side: method.content_encoder(image) for side, image in images.items()}
    own = {side: method.encode_style(image, keys[side]) for side, image in images.items()}
    for phase in method.phases():
        drawn = dict(zip("ab", method._draw_styles(pair, phase.name), strict=True))
        wanted = {}
        for side, other in SIDES:
            key, image, content = keys[side], images[side], contents[other]
            fake = method.decode(content, drawn[side], key)
            if phase.name == "discriminator":
                real_and_fake = squares(method._maps(image, key), 1.0) + squares(method._maps(fake, key), 0.0)
                wanted[f"gan_{side}"] = 2.0 * real_and_fake
                continue
            again = method.content_encoder(fake)
            wanted[f"gan_{side}"] = 2.0 * squares(method._maps(fake, key), 1.0)
            for name, weight, one, two in (
                ("image", 3.0, method.decode(contents[side], own[side], key), image),
                ("style", 5.0, method.encode_style(fake, key), drawn[side]),
                ("content", 7.0, again, content),
                ("cycle", 11.0, method.decode(again, own[other], keys[other]), images[other]),
            ):
                wanted[f"{name}_{side}"] = weight * mean_absolute_difference(one, two).item()
        terms = {name: value.item() for name, value in phase.loss(pair).items()}
        assert terms == pytest.approx(wanted, rel=1e-4)


def test_contents_are_drawn_towards_those_of_the_source_and_not_the_other_way() -> None:
    method, pair = MultiDomain(THREE, seed=3), pair_of("x", "y")
    contents = {f"content_{side}": method.content_encoder(image) for side, image in (("a", pair.a), ("b", pair.b))}
    leaves = {name: content.detach().requires_grad_() for name, content in contents.items()}
    term = method.phases()[1].loss(replace(pair, shared=leaves))["content_a"]
    (gradient,) = torch.autograd.grad(term, leaves["content_b"])
    fake = method.decode(leaves["content_b"], method._draw_styles(pair, "generator")[0], "x")
    wanted = mean_absolute_difference(method.content_encoder(fake), leaves["content_b"].detach())
    (expected,) = torch.autograd.grad(THREE.weight_content * wanted, leaves["content_b"])
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("domains", [("b", "c"), ("x", "a"), ("b", "a"), ("x", "y", "a")])
def test_a_name_that_means_a_place_must_be_there(domains: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"may be called .[ab]. only as the (first|second)"):
        MultiDomainConfig(domains=domains)
    assert MultiDomainConfig(domains=("a", "b", "c")).domains == ("a", "b", "c")
