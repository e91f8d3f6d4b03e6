from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest
import torch

from munitaug.data.domain import ArrayDomain
from munitaug.data.folder import FolderDomain
from munitaug.data.loader import MultiDomainLoader, UnpairedLoader
from munitaug.types import DomainError, Pair

MakeDomain = Callable[..., ArrayDomain]


def values_of(images: torch.Tensor) -> list[int]:
    """Undoes [0, 255] -> [-1, 1] for images of one value each."""
    return [round((float(image.mean()) + 1) * 127.5) for image in images]


def take(loader: UnpairedLoader, step: int, steps: int) -> list[Pair]:
    return list(islice(loader.from_step(step), steps))


def same(first: Pair, second: Pair) -> bool:
    assert first.label_a is not None
    assert second.label_a is not None
    equal = torch.equal(first.a, second.a) and torch.equal(first.b, second.b)
    return equal and torch.equal(first.label_a, second.label_a) and first.seed == second.seed


class LockedLabels(ArrayDomain):
    """A target domain whose labels may not be looked at."""

    @property
    def labels(self) -> torch.Tensor:
        raise AssertionError("the labels of the target were read")


def test_pair_holds_model_images_and_labels_of_a(numbered_domain: MakeDomain) -> None:
    pair = take(UnpairedLoader(numbered_domain(50), numbered_domain(40), batch_size=7, seed=0), 0, 1)[0]
    assert pair.a.dtype == pair.b.dtype == torch.float32
    assert pair.a.shape == pair.b.shape == (7, 1, 16, 16)
    assert pair.label_a is not None
    assert pair.label_a.dtype == torch.int64
    assert pair.label_a.tolist() == [value % 10 for value in values_of(pair.a)]


def test_white_is_plus_one_and_black_is_minus_one() -> None:
    black = ArrayDomain("black", torch.zeros(1, 1, 16, 16, dtype=torch.uint8))
    white = ArrayDomain("white", torch.full((1, 1, 16, 16), 255, dtype=torch.uint8))
    pair = take(UnpairedLoader(black, white, batch_size=2, seed=0), 0, 1)[0]
    assert pair.a.unique().tolist() == [-1.0]
    assert pair.b.unique().tolist() == [1.0]
    assert pair.label_a is None


def test_every_image_comes_once_an_epoch_across_the_borders_of_batches(numbered_domain: MakeDomain) -> None:
    pairs = take(UnpairedLoader(numbered_domain(10), numbered_domain(10), batch_size=4, seed=1), 0, 5)
    drawn = [value for pair in pairs for value in values_of(pair.a)]
    assert sorted(drawn[:10]) == list(range(10))
    assert sorted(drawn[10:]) == list(range(10))
    assert drawn[:10] != drawn[10:]


def test_batches_are_full_when_larger_than_the_domain(numbered_domain: MakeDomain) -> None:
    pair = take(UnpairedLoader(numbered_domain(3), numbered_domain(5), batch_size=8, seed=1), 0, 1)[0]
    values = values_of(pair.a)
    assert sorted(values[:3]) == sorted(values[3:6]) == [0, 1, 2]
    assert len(pair.b) == 8


def test_orders_that_are_kept_are_not_changed_under_another_thread(numbered_domain: MakeDomain) -> None:
    """For a GPU a thread reads ahead, while samples are drawn from the same loader."""
    loader = UnpairedLoader(numbered_domain(3), numbered_domain(3), batch_size=3, seed=1)
    loader.pair_at(0)
    stream = loader._stream_a
    read = stream._permutations
    before = dict(read)
    pairs = [loader.pair_at(step) for step in range(20)]
    assert read == before
    assert len(stream._permutations) < 20
    assert torch.equal(loader.pair_at(0).a, loader.pair_at(0).a)
    assert len(pairs) == 20


def test_domains_are_shuffled_apart(numbered_domain: MakeDomain) -> None:
    pair = take(UnpairedLoader(numbered_domain(64), numbered_domain(64), batch_size=64, seed=0), 0, 1)[0]
    assert values_of(pair.a) != values_of(pair.b)


def test_starting_at_a_step_gives_what_running_to_it_gives(numbered_domain: MakeDomain) -> None:
    options = {"batch_size": 4, "seed": 5, "flip": True, "crop": 16}
    domains = numbered_domain(10, side=24), numbered_domain(7, side=20)
    whole = take(UnpairedLoader(*domains, **options), 0, 9)  # type: ignore[arg-type]
    resumed = take(UnpairedLoader(*domains, **options), 6, 3)  # type: ignore[arg-type]
    assert all(map(same, whole[6:], resumed))


def test_another_seed_gives_another_order_and_another_pair_seed(numbered_domain: MakeDomain) -> None:
    first, second = (
        take(UnpairedLoader(numbered_domain(64), numbered_domain(64), batch_size=16, seed=seed), 0, 1)[0]
        for seed in (0, 1)
    )
    assert values_of(first.a) != values_of(second.a)
    assert first.seed != second.seed


def test_pair_seeds_differ_between_steps(numbered_domain: MakeDomain) -> None:
    pairs = take(UnpairedLoader(numbered_domain(4), numbered_domain(4), batch_size=1, seed=0), 0, 20)
    assert len({pair.seed for pair in pairs}) == 20


def test_workers_give_the_same_pairs_and_leave_the_global_generator_alone(numbered_domain: MakeDomain) -> None:
    options = {"batch_size": 4, "seed": 2, "flip": True}
    domains = numbered_domain(10), numbered_domain(7)
    alone = take(UnpairedLoader(*domains, **options), 3, 6)  # type: ignore[arg-type]
    before = torch.get_rng_state()
    helped = take(UnpairedLoader(*domains, workers=2, **options), 3, 6)  # type: ignore[arg-type]
    assert all(map(same, alone, helped))
    assert torch.equal(before, torch.get_rng_state())


def test_labels_of_the_target_are_never_read(numbered_domain: MakeDomain) -> None:
    locked = LockedLabels("locked", torch.zeros(4, 1, 16, 16, dtype=torch.uint8))
    assert len(take(UnpairedLoader(numbered_domain(4), locked, batch_size=2, seed=0), 0, 3)) == 3


def test_flip_mirrors_about_half_of_the_images_and_changes_nothing_else() -> None:
    ramp = torch.arange(16, dtype=torch.uint8).expand(1, 1, 16, 16).contiguous()
    domain = ArrayDomain("ramp", ramp)
    pair = take(UnpairedLoader(domain, domain, batch_size=200, seed=0, flip=True), 0, 1)[0]
    upright = ramp[0].float() / 127.5 - 1
    is_upright = [torch.allclose(image, upright, atol=1e-6) for image in pair.a]
    is_mirrored = [torch.allclose(image, upright.flip(-1), atol=1e-6) for image in pair.a]
    assert all(one != other for one, other in zip(is_upright, is_mirrored, strict=True))
    assert 70 < sum(is_mirrored) < 130


def test_crop_cuts_every_place_of_the_image() -> None:
    positions = (torch.arange(18)[:, None] * 10 + torch.arange(18)[None, :]).to(torch.uint8)
    domain = ArrayDomain("map", positions[None, None])
    pair = take(UnpairedLoader(domain, domain, batch_size=300, seed=0, crop=16), 0, 1)[0]
    assert pair.a.shape == (300, 1, 16, 16)
    corners = {round((float(image[0, 0, 0]) + 1) * 127.5) for image in pair.a}
    assert corners == {0, 1, 2, 10, 11, 12, 20, 21, 22}
    steps_down = (pair.a[:, 0, 1, 0] - pair.a[:, 0, 0, 0]) * 127.5
    assert torch.allclose(steps_down, torch.full_like(steps_down, 10.0), atol=1e-3)


def test_crop_makes_one_batch_of_images_of_many_sizes(
    write_image: Callable[..., Path], tmp_path: Path, numbered_domain: MakeDomain
) -> None:
    write_image("pictures/a.png", size=(20, 18))
    write_image("pictures/b.png", size=(16, 30))
    folder = FolderDomain(tmp_path / "pictures")
    pair = take(UnpairedLoader(folder, numbered_domain(3, channels=3), batch_size=4, seed=0, crop=16), 0, 1)[0]
    assert pair.a.shape == (4, 3, 16, 16)


def test_images_of_many_sizes_are_refused_before_the_first_step(
    write_image: Callable[..., Path], tmp_path: Path
) -> None:
    write_image("pictures/a.png", size=(20, 18))
    write_image("pictures/b.png", size=(16, 30))
    folder = FolderDomain(tmp_path / "pictures")
    with pytest.raises(DomainError, match=r"pictures holds images of different sizes.*--size 64, or a crop"):
        UnpairedLoader(folder, folder, batch_size=2, seed=0)


def test_channels_must_agree(numbered_domain: MakeDomain) -> None:
    with pytest.raises(DomainError, match=r"grey has 1 channels and colour has 3; .*--channels 3"):
        UnpairedLoader(numbered_domain(2, name="grey"), numbered_domain(2, 3, name="colour"), batch_size=1, seed=0)


def test_sizes_must_agree(numbered_domain: MakeDomain) -> None:
    with pytest.raises(DomainError, match=r"is 16 x 16 px and .* is 32 x 32 px; .*--size 64"):
        UnpairedLoader(numbered_domain(2), numbered_domain(2, side=32), batch_size=1, seed=0)


def test_images_below_16_px_are_refused(numbered_domain: MakeDomain) -> None:
    with pytest.raises(DomainError, match=r"sides of 8 px, but networks need at least 16 px; .*--size 16"):
        UnpairedLoader(numbered_domain(2, side=8), numbered_domain(2, side=8), batch_size=1, seed=0)


@pytest.mark.parametrize("crop", [8, 17])
def test_crop_must_fit(numbered_domain: MakeDomain, crop: int) -> None:
    with pytest.raises(DomainError, match=rf"crop is {crop} px, but must lie between 16 px and the smallest side"):
        UnpairedLoader(numbered_domain(2), numbered_domain(2), batch_size=1, seed=0, crop=crop)


@pytest.mark.parametrize(("wrong", "message"), [({"batch_size": 0}, "batch_size"), ({"workers": -1}, "workers")])
def test_numbers_out_of_range_are_refused(numbered_domain: MakeDomain, wrong: dict[str, int], message: str) -> None:
    options = {"batch_size": 1, "seed": 0} | wrong
    with pytest.raises(ValueError, match=message):
        UnpairedLoader(numbered_domain(2), numbered_domain(2), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("workers", [0, 1])
def test_chosen_rows_are_those_of_the_whole_batch(numbered_domain: MakeDomain, workers: int) -> None:
    domain, rows = numbered_domain(11, 24), torch.tensor([0, 3, 4])
    whole, part = (
        UnpairedLoader(domain, domain, batch_size=6, seed=4, flip=True, crop=16, workers=count)
        for count in (0, workers)
    )
    for _, all_rows, some in zip(range(4), whole.from_step(2), part.from_step(2, rows), strict=False):
        assert torch.equal(some.a, all_rows.a[rows])
        assert torch.equal(some.b, all_rows.b[rows])
        assert some.seed == all_rows.seed


def test_negative_step_is_refused(numbered_domain: MakeDomain) -> None:
    loader = UnpairedLoader(numbered_domain(2), numbered_domain(2), batch_size=1, seed=0)
    with pytest.raises(ValueError, match="step must be 0 or more, got -1"):
        loader.from_step(-1)


def three_domains() -> dict[str, ArrayDomain]:
    labels = torch.arange(7) % 3
    return {
        name: ArrayDomain(name, torch.full((7, 1, 16, 16), level, dtype=torch.uint8), labels)
        for name, level in (("x", 0), ("y", 100), ("z", 200))
    }


class TestSeveralDomains:
    def test_every_two_come_equally_often_and_images_are_theirs(self) -> None:
        loader = MultiDomainLoader(three_domains(), batch_size=2, seed=1)
        levels = {"x": 0, "y": 100, "z": 200}
        seen: Counter[tuple[str, str]] = Counter()
        for _, pair in zip(range(30), loader.from_step(0), strict=False):
            seen[pair.domains] += 1
            first, second = (levels[name] / 127.5 - 1.0 for name in pair.domains)
            assert pair.a.unique().tolist() == pytest.approx([first])
            assert pair.b.unique().tolist() == pytest.approx([second])
        assert seen == {("x", "y"): 10, ("x", "z"): 10, ("y", "z"): 10}

    def test_a_pair_is_a_function_of_seed_and_step(self) -> None:
        first, second = (MultiDomainLoader(three_domains(), batch_size=2, seed=1) for _ in range(2))
        late = next(iter(second.from_step(7)))
        pairs = [pair for _, pair in zip(range(8), first.from_step(0), strict=False)]
        assert (late.domains, late.seed) == (pairs[7].domains, pairs[7].seed)
        assert len({pair.seed for pair in pairs}) == 8
        other = MultiDomainLoader(three_domains(), batch_size=2, seed=2)
        assert [other.pair_at(step).domains for step in range(30)] != [
            first.pair_at(step).domains for step in range(30)
        ]

    def test_workers_change_nothing(self) -> None:
        alone, helped = (MultiDomainLoader(three_domains(), batch_size=2, seed=1, workers=w) for w in (0, 1))
        for _, first, second in zip(range(4), alone.from_step(2), helped.from_step(2), strict=False):
            assert first.domains == second.domains
            assert torch.equal(first.a, second.a)

    def test_chosen_rows_are_of_the_same_domains(self) -> None:
        loader = MultiDomainLoader(three_domains(), batch_size=4, seed=1)
        for step in range(6):
            whole, some = loader.pair_at(step), loader.pair_at(step, torch.tensor([1, 3]))
            assert (some.domains, some.seed) == (whole.domains, whole.seed)
            assert torch.equal(some.b, whole.b[[1, 3]])
            assert (whole.label_a is None) is (whole.domains[0] != "x")  # labels are the source's alone
            if whole.label_a is not None:
                assert some.label_a is not None
                assert torch.equal(some.label_a, whole.label_a[[1, 3]])

    def test_one_domain_is_no_pair(self) -> None:
        with pytest.raises(ValueError, match="at least two domains are needed, got 1"):
            MultiDomainLoader({"x": three_domains()["x"]}, batch_size=2, seed=1)

    def test_domains_that_do_not_fit_are_refused(self) -> None:
        colour = ArrayDomain("colour", torch.zeros(7, 3, 16, 16, dtype=torch.uint8), torch.zeros(7, dtype=torch.int64))
        with pytest.raises(DomainError, match="channels"):
            MultiDomainLoader(three_domains() | {"colour": colour}, batch_size=2, seed=1)


def test_flips_and_crops_of_the_two_domains_are_drawn_apart() -> None:
    ramp = ArrayDomain("ramp", torch.arange(24, dtype=torch.uint8).expand(1, 1, 24, 24).contiguous())
    flipped = UnpairedLoader(ramp, ramp, batch_size=64, seed=0, flip=True).pair_at(0)
    assert not torch.equal(flipped.a, flipped.b)
    cropped = UnpairedLoader(ramp, ramp, batch_size=64, seed=0, crop=16).pair_at(0)
    assert not torch.equal(cropped.a, cropped.b)


def test_every_two_domains_go_through_all_their_images(numbered_domain: MakeDomain) -> None:
    loader = MultiDomainLoader({name: numbered_domain(6) for name in "xyz"}, batch_size=2, seed=1)
    drawn: dict[tuple[str, str], list[int]] = {}
    for _, pair in zip(range(9), loader.from_step(0), strict=False):
        drawn.setdefault(pair.domains, []).extend(values_of(pair.a))
    assert [sorted(values) for values in drawn.values()] == [list(range(6))] * 3


def test_a_domain_comes_in_another_order_beside_another_domain(numbered_domain: MakeDomain) -> None:
    loader = MultiDomainLoader({name: numbered_domain(20) for name in "xyz"}, batch_size=20, seed=1)
    orders = {pair.domains: values_of(pair.a) for pair in map(loader.pair_at, range(3))}
    assert orders["x", "y"] != orders["x", "z"]


def test_chosen_rows_are_flipped_and_cropped_as_in_the_whole_batch() -> None:
    pixels = torch.arange(24 * 24).remainder(251).to(torch.uint8).view(1, 1, 24, 24)
    domain, rows = ArrayDomain("one image", pixels), torch.tensor([1, 4, 5, 9])
    for options in ({"flip": True}, {"crop": 16}):
        loader = UnpairedLoader(domain, domain, batch_size=10, seed=4, **options)
        for step in range(4):
            whole, some = loader.pair_at(step), loader.pair_at(step, rows)
            assert torch.equal(some.a, whole.a[rows])
            assert torch.equal(some.b, whole.b[rows])
