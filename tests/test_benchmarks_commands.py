"""Commands that differ in what they chose become one; what else differs keeps them apart."""

from __future__ import annotations

from benchmarks.commands import commands_for, former_names
from benchmarks.rows import Result, parse_result
from tests.test_benchmarks_report import row


def result(condition: str, seed: int, command: str, pair: str = "mnist:usps") -> Result:
    return parse_result(row(condition, seed, 150, pair=pair, more={"command": command}))


def of_commit(condition: str, seed: int, command: str, commit: str) -> Result:
    return parse_result(row(condition, seed, 150, more={"command": command, "commit": commit}))


def test_each_commit_has_a_command_of_its_own_with_the_names_of_then() -> None:
    command = "python -m benchmarks.digits --pair mnist:usps --seeds 2"
    results = [of_commit("classic", seed, command, commit) for seed, commit in ((0, "c881269"), (1, "90eca64"))]
    results += [of_commit("adapt-restyled", 0, command, "c881269"), of_commit("adapt", 1, command, "90eca64")]
    told = commands_for(results)
    assert list(told) == [
        ("python -m benchmarks.digits --pair mnist:usps --conditions classic adapt --seeds 1", "c881269"),
        ("python -m benchmarks.digits --pair mnist:usps --conditions classic adapt --seeds 2", "90eca64"),
    ]
    assert [former_names(made) for made in told.values()] == [{"adapt-restyled": "adapt"}, {}]
    assert [each.condition for made in told.values() for each in made] == [
        "classic",
        "adapt-restyled",
        "classic",
        "adapt",
    ]


def test_later_seeds_and_conditions_join_the_pair() -> None:
    base = "python -m benchmarks.digits"
    first = (
        f"{base} --precision bfloat16 --processes 2 --pair mnist:usps usps:mnist --conditions classic adapt --seeds 2"
    )
    later = f"{base} --pair mnist:usps --conditions classic adapt --seeds 3 --precision bfloat16"
    results = [
        result("classic", 0, first),
        result("classic", 2, later),
        result("adapt", 2, later),
        result("dann", 0, f"{base} --precision bfloat16 --pair mnist:usps --conditions dann --seeds 1"),
        result("classic", 0, first, pair="usps:mnist"),
        result("classic", 1, f"{base} --pair mnist:usps --conditions classic --seeds 2"),
    ]
    told = commands_for(results)
    assert [command for command, _ in told] == [
        f"{base} --precision bfloat16 --pair mnist:usps --conditions classic adapt --seeds 3",
        f"{base} --precision bfloat16 --pair mnist:usps --conditions dann --seeds 1",
        f"{base} --precision bfloat16 --pair usps:mnist --conditions classic --seeds 1",
        f"{base} --pair mnist:usps --conditions classic --seeds 2",
    ]
    assert [len(made) for made in told.values()] == [3, 1, 1, 1]


def test_pairs_with_the_same_conditions_share_a_command() -> None:
    base = "python -m benchmarks.digits"
    command = f"{base} --pair mnist:usps usps:mnist synthetic:digits --conditions classic adapt --seeds 2"
    results = [
        result(condition, seed, command, pair)
        for pair in ("mnist:usps", "usps:mnist", "synthetic:digits")
        for condition in ("classic", "adapt")
        for seed in (0, 1)
        if (pair, condition) != ("usps:mnist", "adapt")
    ]
    told = commands_for(results)
    assert {command: len(made) for (command, _), made in told.items()} == {
        f"{base} --pair mnist:usps synthetic:digits --conditions classic adapt --seeds 2": 8,
        f"{base} --pair usps:mnist --conditions classic --seeds 2": 2,
    }


def test_peers_have_an_option_of_their_own() -> None:
    command = "python -m benchmarks.peers --pair mnist:usps --seeds 2"
    told = commands_for([result("pytorch-adapt-dann", 1, command), result("skada-dann", 0, command)])
    assert [command for command, _ in told] == [
        "python -m benchmarks.peers --pair mnist:usps --peers pytorch-adapt-dann --seeds 2",
        "python -m benchmarks.peers --pair mnist:usps --peers skada-dann --seeds 1",
    ]


def test_other_commands_stay() -> None:
    base = "python -m benchmarks.digits"
    other = "python -m benchmarks.methods --pair mnist:usps --seeds 2"
    commands = ["", f"{base} --pair mnist:usps", f"{base} --seeds 2", other]
    told = commands_for([result("classic", seed, text) for seed, text in enumerate(commands)])
    assert list(told) == [(command, "abc1234") for command in commands]
