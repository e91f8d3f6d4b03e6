"""The commands that make a table's rows again, as few as will do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks.rows import Result

OPTIONS = {"benchmarks.digits": "--conditions", "benchmarks.peers": "--peers"}
"""Programs whose commands are understood, with the option that names conditions."""

CHOICES = ("--pair", "--conditions", "--peers", "--seeds", "--processes")
"""Options that say which rows a command makes, and how many at a time; none changes a row."""

FORMER_NAMES = {("adapt-restyled", "c881269"): "adapt"}
"""(condition, commit) -> what that commit calls it."""


def commands_for(results: Sequence[Result]) -> dict[tuple[str, str], list[Result]]:
    """Gives each command and commit with the results that they make; every result stands under one of them.

    A table is filled by many runs: a pair now, two more seeds later. Commands of a commit that differ in such choices
    alone become one for each number of seeds, with the names that conditions have in that commit; pairs with the same
    conditions share it. One of another program, or without a pair or a number of seeds, stays as it was recorded.
    """
    cells: dict[tuple[str, str, str, str, str], list[Result]] = {}
    for result in results:
        rest, which = _parts(result)
        place = (result.setting.pair, result.condition) if which else ("", "")
        cells.setdefault((rest, which, result.circumstances.commit, *place), []).append(result)
    together: dict[tuple[str, str, str, str, int], list[Result]] = {}
    for (rest, which, commit, pair, _), made in cells.items():
        count = max(result.seed for result in made) + 1 if which else 0
        together.setdefault((rest, which, commit, pair, count), []).extend(made)
    shared: dict[tuple[str, str, str, str, int], dict[str, list[Result]]] = {}
    for (rest, which, commit, pair, count), made in together.items():
        names = " ".join(_names(made)) if which else ""
        shared.setdefault((rest, which, commit, names, count), {})[pair] = made
    commands: dict[tuple[str, str], list[Result]] = {}
    for (rest, which, commit, names, count), pairs in shared.items():
        choice = f" --pair {' '.join(pairs)} {which} {names} --seeds {count}" if which else ""
        commands.setdefault((rest + choice, commit), []).extend(each for made in pairs.values() for each in made)
    return commands


def former_names(results: Iterable[Result]) -> dict[str, str]:
    """Gives the conditions that were called otherwise when these results were made: name -> former name."""
    made = dict.fromkeys((result.condition, result.circumstances.commit) for result in results)
    return {cell[0]: FORMER_NAMES[cell] for cell in made if cell in FORMER_NAMES}


def _parts(result: Result) -> tuple[str, str]:
    """Gives a result's command without its choices, and the option that names conditions; or all of it and nothing."""
    command = result.circumstances.command
    kept: list[str] = []
    dropped: list[str] = []
    dropping = False
    for word in command.split():
        if word.startswith("--"):
            dropping = word in CHOICES
        (dropped if dropping else kept).append(word)
    which = [option for program, option in OPTIONS.items() if program in kept]
    if not which or not {"--pair", "--seeds"} <= set(dropped):
        return command, ""
    return " ".join(kept), which[0]


def _names(results: Sequence[Result]) -> list[str]:
    former = former_names(results)
    return list(dict.fromkeys(former.get(result.condition, result.condition) for result in results))
