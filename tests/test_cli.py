"""The command line: help, refusals in one line, configuration files, and the whole chain of commands."""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
import warnings
from operator import attrgetter
from pathlib import Path
from typing import NoReturn

import pytest
import torch
from PIL import Image

import munitaug
from munitaug import cli
from tests.runs import TINY_MODEL, refusal, run_cli

pytest.importorskip("sklearn")

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = ("train", "preview", "generate", "evaluate", "adapt", "info", "convert", "export", "export-data", "demo")
SOURCE, TARGET = "synthetic-digits:train:64", "digits:train:64"
SIZE = ("--size", "16")
KEPT = ("evaluate", "--label-preservation", "--source", SOURCE, *SIZE, "--out", "r.json")
TINY_FIT = ("--fit.steps", "3", "--fit.start_steps", "2", "--fit.batch_size", "8")
BASE = ("train", "--source", SOURCE, "--target", TARGET, *SIZE)
TINY = (
    *("--model", TINY_MODEL, "--training.max_steps", "4", "--training.batch_size", "4", "--training.device", "cpu"),
    *("--training.log_every_steps", "1", "--training.save_every_steps", "2", "--training.sample_every_steps", "4"),
)


def help_of(command: str) -> str:
    outcome = run_cli(command, "--help")
    assert (outcome.code, outcome.err) == (0, "")
    return outcome.out


def described_options(text: str) -> dict[str, str]:
    """Gives the description of every option by its name."""
    entries = re.split(r"\n  (?=-)", text[text.index("\noptions:") :])[1:]
    return {entry.split()[0]: " ".join(entry.split()) for entry in entries}


def settings(kind: type, prefix: str) -> dict[str, object]:
    """Gives the options of a dataclass and their defaults, those of dataclasses inside it too."""
    found: dict[str, object] = {}
    for name, value in vars(kind()).items():
        inner = dataclasses.is_dataclass(value)
        found |= settings(type(value), f"{prefix}{name}.") if inner else {f"{prefix}{name}": value}
    return found


def test_help_names_every_command() -> None:
    outcome = run_cli("--help")
    assert outcome.code == 0
    assert all(re.search(rf"^ +{command} +\w", outcome.out, re.MULTILINE) for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_says_what_every_option_is_and_its_default(command: str) -> None:
    text = help_of(command)
    for name, words in described_options(text).items():
        if name in ("-h,", "--config", "--print_config") or f"{name} CONFIG" in words:
            continue
        assert "default: " in words or "(required" in words, words
        assert len(words.split("(")[0].split()) > 2, words


@pytest.mark.parametrize(
    ("command", "kind", "prefix"),
    [
        ("train", munitaug.TrainConfig, "--training."),
        ("train", munitaug.SemanticOptions, "--semantic."),
        ("evaluate", munitaug.FitSettings, "--fit."),
        ("adapt", munitaug.FitSettings, "--fit."),
        ("demo", munitaug.DemoSettings, "--settings."),
    ],
)
def test_help_gives_every_field_of_the_settings(command: str, kind: type, prefix: str) -> None:
    options = described_options(help_of(command))
    for name, default in settings(kind, prefix).items():
        shown = "null" if default is None else default
        assert f"default: {shown})" in options[name], options[name]


def another(name: str, value: object) -> object:
    """Gives a value that a setting may have, other than its own."""
    if name.endswith(".precision"):
        return "bfloat16"
    if isinstance(value, bool) or value is None:
        return "runs/adapt" if value is None else not value
    if isinstance(value, str):
        return "cpu" if name.endswith(".device") else "resnet18"
    assert isinstance(value, int | float)
    return value / 2 if isinstance(value, float) and value else 2 * value or 2


@pytest.mark.parametrize(
    ("command", "option", "kind"),
    [
        (("train", "--source", SOURCE, "--target", TARGET), "training", munitaug.TrainConfig),
        (("train", "--source", SOURCE, "--target", TARGET), "semantic", munitaug.SemanticOptions),
        (("evaluate", "--source", SOURCE, "--target", TARGET), "fit", munitaug.FitSettings),
        ((*KEPT[:4], "--checkpoint", "run"), "fit", munitaug.FitSettings),
        (("adapt", "--source", SOURCE, "--target", TARGET), "training", munitaug.TrainConfig),
        (("adapt", "--source", SOURCE, "--target", TARGET), "fit", munitaug.FitSettings),
        (("demo",), "settings", munitaug.DemoSettings),
    ],
)
def test_every_field_of_the_settings_arrives(
    monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], option: str, kind: type
) -> None:
    given: dict[str, object] = {}

    def note(*_: object, **words: object) -> NoReturn:
        given.update(words)
        raise ValueError("noted")

    name = "label_preservation" if "--label-preservation" in command else command[0]
    monkeypatch.setattr(munitaug, name, note)
    wanted = {name: another(name, value) for name, value in settings(kind, f"{option}.").items()}
    wanted.pop("training.cuda_graph", None)  # refused where there is no GPU
    words = [word for name, value in wanted.items() for word in (f"--{name}", json.dumps(value).strip('"'))]
    assert refusal(*command, "--out", "run", *words) == "noted"
    arrived = given[option]
    assert isinstance(arrived, kind)
    assert {name: attrgetter(name.removeprefix(f"{option}."))(arrived) for name in wanted} == wanted


def test_version_is_printed() -> None:
    outcome = run_cli("--version")
    assert (outcome.code, outcome.out.strip()) == (0, f"munitaug {munitaug.__version__}")


MISTAKES: list[tuple[tuple[str, ...], str]] = [
    ((), "command"),
    (("paint",), "invalid choice: 'paint'"),
    (("train",), "the following arguments are required: .*source.*target.*out"),
    ((*BASE, "--out", "run", "--colour", "red"), "unrecognized arguments: --colour red"),
    ((*BASE, "--out", "run", "--training.max_steps", "many"), r"training.max_steps.*many"),
    ((*BASE, "--out", "run", "--training.max_steps", "0"), "max_steps must be at least 1, got 0"),
    ((*BASE, "--out", "run", "--training.device", "tpu"), 'device must be "auto", "cpu"'),
    ((*BASE, "--out", "run", "--training.steps", "3"), "training.steps"),
    ((*BASE, "--out", "run", "--method", "gan"), "method must be one of munit.*, got 'gan'"),
    ((*BASE, "--out", "run", "--model", "{}", "--method", "gan"), "method must be one of munit.*, got 'gan'"),
    ((*BASE, "--out", "run", "--model", '{"width": 4}', "--method", "gan"), "method must be one of munit"),
    ((*BASE, "--out", "run", "--preset", "huge"), "preset must be one of paper, modern, small, got 'huge'"),
    ((*BASE, "--out", "run", "--model", '{"wdth": 3}'), "--model has no field wdth; it has channels, "),
    ((*BASE, "--out", "run", "--model", '{"width": "wide"}'), r"--model width must be like \d+, got 'wide'"),
    ((*BASE, "--out", "run", "--model", '{"width": 4.5}'), "--model width must be like"),
    ((*BASE, "--out", "run", "--model", '{"width": 0}'), "width must be at least 1, got 0"),
    ((*BASE, "--out", "run", "--model", '{"optimiser": 5}'), "--model optimiser must be like"),
    ((*BASE, "--out", "run", "--model", '{"optimiser": {"speed": 1}}'), "no field speed; it has .*, lr, "),
    ((*BASE, "--out", "run", "--model", "5"), "model.*5"),
    ((*BASE, "--out", "run", "--semantic.weight", "-1"), "weight must be at least 0"),
    ((*BASE, "--out", "run", "--vgg-weights", "vgg.pth"), "vgg.pth"),
    ((*BASE, "--out", "run", "--config", "run.yaml"), "run.yaml"),
    ((*BASE, "--out", "run", "--channels", "2"), "channels must be 1|1 .grey. or 3"),
    ((*BASE, "--out", "run", "--resume"), "run holds no run to resume"),
    (("info", "nowhere"), "nowhere does not exist: give the checkpoint folder"),
    (("preview", "nowhere", "--input", SOURCE, "--out", "grid.png"), "nowhere does not exist"),
    (("generate", "nowhere", "--input", SOURCE, "--out", "aug.h5"), "nowhere does not exist"),
    (("evaluate", "--source", SOURCE, "--target", TARGET, *SIZE, "--out", "r.json", "--seeds", "0"), "seeds must be"),
    (
        ("evaluate", "--source", SOURCE, "--target", TARGET, *SIZE, "--out", "r.json", "--conditions", "magic"),
        "condition must be one of source, .*, got 'magic'",
    ),
    (
        ("evaluate", "--source", SOURCE, "--target", TARGET, *SIZE, "--out", "r.json", "--conditions", "munit"),
        r"condition 'munit' needs a trained translator \(--checkpoint\)",
    ),
    (("evaluate", "--source", SOURCE, "--out", "r.json"), "--target is needed: .*; only --label-preservation does"),
    ((*KEPT, "--judge", TARGET), "--label-preservation needs a trained translator: give --checkpoint"),
    (
        (*KEPT, "--checkpoint", "run", "--seeds", "2", "--resume"),
        "--seeds, --resume does not go together with --label-preservation; leave it out",
    ),
    (
        ("evaluate", "--source", SOURCE, "--target", TARGET, "--out", "r.json", "--judge", TARGET, "--variants", "9"),
        "--judge, --variants needs --label-preservation; leave it out",
    ),
    ((*KEPT, "--checkpoint", "nowhere", "--judge", TARGET), "nowhere does not exist"),
    (("demo", "--out", "run", "--settings.seeds", "0"), "seeds must be at least 1"),
    (("demo", "--out", "run", "--settings.fit.steps", "1"), "steps must be at least 2"),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES)
def test_a_mistake_gives_one_line_and_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert re.search(message, refusal(*words))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--style", "dream"), "style must be one of prior, bank, mixture"),
        (("--direction", "b2b"), 'direction must be "a2b" or "b2a"'),
        (("--variants", "0"), "variants"),
        (("--variants", "few"), "variants.*few"),
        (("--seed", "x"), "seed.*x"),
        (("--truncation", "0.01"), "truncation must be at least 0.1"),
    ],
)
@pytest.mark.parametrize("command", ["preview", "generate"])
def test_wrong_styles_are_refused(
    tiny_run: Path, tmp_path: Path, command: str, words: tuple[str, ...], message: str
) -> None:
    said = refusal(command, tiny_run, "--input", SOURCE, *SIZE, "--out", tmp_path / "out", *words)
    assert re.search(message, said)
    assert list(tmp_path.iterdir()) == []


def test_warnings_take_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    run_cli("--version")
    warnings.showwarning("several\nlines", UserWarning, "file.py", 1)
    assert capsys.readouterr().err == "munitaug: warning: several lines\n"


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the train command, with the semantic term."""
    folder = tmp_path_factory.mktemp("cli") / "run"
    semantic = ("--semantic.weight", "1", "--semantic.fit.steps", "3")
    outcome = run_cli(*BASE, *TINY, *semantic, "--out", folder)
    assert outcome.code == 0, outcome.err
    assert f"checkpoint: {folder / 'checkpoint'}" in outcome.out
    return folder


def test_train_takes_fields_of_the_model(run_folder: Path) -> None:
    facts = json.loads((run_folder / "config.json").read_text())
    given = json.loads(TINY_MODEL)
    assert {name: facts["config"][name] for name in given} == given
    assert facts["config"]["channels"] == 1
    assert facts["semantic"]["weight"] == 1.0
    assert (run_folder / "classifier.safetensors").exists()


def test_info_says_what_the_checkpoint_holds(run_folder: Path) -> None:
    outcome = run_cli("info", run_folder)
    assert outcome.code == 0
    assert "method: munit" in outcome.out
    assert "  width: 4" in outcome.out
    assert "style_bank_sizes:\n  a: 64\n  b: 64" in outcome.out


def test_preview_draws_a_sheet(run_folder: Path, tmp_path: Path) -> None:
    words = ("--input", SOURCE, "--target", "digits:test", *SIZE, "--variants", "2", "--columns", "3")
    outcome = run_cli("preview", run_folder, *words, "--out", tmp_path / "grid.png")
    assert (outcome.code, outcome.out) == (0, f"preview: {tmp_path / 'grid.png'}\n")
    with Image.open(tmp_path / "grid.png") as picture:
        assert picture.height == 8 + 4 * 52 + 2 * 30 + 8  # source, 2 styles, 1 real; 2 headings


def test_preview_draws_what_else_is_asked_for(run_folder: Path, tmp_path: Path) -> None:
    words = ("--input", SOURCE, "--target", "digits:test", *SIZE, "--variants", "1", "--columns", "3", "--nearest")
    more = ("--strength", "0.5", "--exemplars", "digits:train:8", "--exemplar-rows", "2", "--interpolate", "4")
    outcome = run_cli("preview", run_folder, *words, *more, "--out", tmp_path / "grid.png")
    assert outcome.code == 0, outcome.err
    with Image.open(tmp_path / "grid.png") as picture:  # source, 1 style, 2 exemplars, 4 steps, 2 nearest, 1 real
        assert picture.height == 8 + 11 * 52 + 5 * 30 + 8


def test_generate_writes_a_data_set(run_folder: Path, tmp_path: Path) -> None:
    words = ("--input", "synthetic-digits:test:6", *SIZE, "--variants", "3", "--style", "mixture", "--keep-original")
    outcome = run_cli("generate", run_folder, *words, "--out", tmp_path / "aug.h5")
    assert (outcome.code, outcome.out) == (0, f"augmented data set: {tmp_path / 'aug.h5'}\n")
    assert len(munitaug.AugmentedDataset(tmp_path / "aug.h5")) == 6 * 4


def test_evaluate_prints_the_table_and_writes_rows(run_folder: Path, tmp_path: Path) -> None:
    words = ("--source", SOURCE, "--target", TARGET, *SIZE, "--checkpoint", run_folder, "--seeds", "1")
    some = ("--conditions", "source", "munit", "--processes", "1", "--out", tmp_path / "rows.json")
    outcome = run_cli("evaluate", *words, *TINY_FIT, *some)
    assert outcome.code == 0, outcome.err
    assert [line.split()[0] for line in outcome.out.splitlines()] == ["condition", "source", "munit", "results:"]
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [(row["condition"], row["seed"]) for row in rows] == [("source", 0), ("munit", 0)]


@pytest.mark.parametrize("judge", [(), ("--target", "digits:test:60"), ("--judge", "digits:train:60")])
def test_evaluate_counts_the_labels_that_translations_keep(
    run_folder: Path, tmp_path: Path, judge: tuple[str, ...]
) -> None:
    images = ("--source", "synthetic-digits:test:20", *SIZE, "--variants", "3", "--seed", "2")
    out = tmp_path / "labels.json"
    words: tuple[str | Path, ...] = ("--checkpoint", run_folder, *images, *TINY_FIT, *judge, "--out", out)
    outcome = run_cli("evaluate", "--label-preservation", *words)
    assert outcome.code == 0, outcome.err
    lines = outcome.out.splitlines()
    assert lines[0].split()[:2] == ["class", "variants"]
    assert lines[-2:] == [f"counts:  {tmp_path / 'labels.json'}", f"picture: {tmp_path / 'labels.png'}"]
    report = json.loads((tmp_path / "labels.json").read_text())
    taught = {
        (): ("digits:train", 1000),
        "digits:test:60": ("digits:test", 48),
        "digits:train:60": ("digits:train", 60),
    }
    name, count = taught[judge[-1] if judge else ()]
    assert report["judge_images"]["name"] == name
    assert abs(report["judge_images"]["count"] - count) <= 6  # the fifth of a class is rounded down
    assert (report["overall"]["variants"], report["styled"]["variants"], report["styled"]["seed"]) == (60, 3, 2)
    assert (tmp_path / "labels.png").exists()
    assert "labels.json: exists already and is left as it is; choose another output, or overwrite it" in refusal(
        "evaluate", "--label-preservation", *words
    )
    assert run_cli("evaluate", "--label-preservation", *words, "--overwrite").code == 0


def test_a_stopped_count_of_labels_leaves_nothing(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(munitaug, "label_preservation", interrupt)
    outcome = run_cli(*KEPT[:-1], tmp_path / "r.json", "--checkpoint", run_folder)
    assert (outcome.code, outcome.err) == (130, "munitaug: error: stopped; nothing was written\n")


def test_a_finished_run_may_be_resumed_but_not_begun_again(run_folder: Path) -> None:
    semantic = ("--semantic.weight", "1", "--semantic.fit.steps", "3")
    words = (*BASE, *TINY, *semantic, "--out", run_folder)
    assert "exists already; continue it with --resume" in refusal(*words)
    assert run_cli(*words, "--resume").code == 0
    changed = refusal(*words, "--training.seed", "5", "--resume")
    assert "started with other settings: training.seed was 0, now 5" in changed


@pytest.mark.parametrize("changed", [("--size", "20"), ("--invert-target",), ("--channels", "3")])
def test_resuming_with_other_images_is_refused(run_folder: Path, changed: tuple[str, ...]) -> None:
    semantic = ("--semantic.weight", "1", "--semantic.fit.steps", "3")
    before = {file: file.read_bytes() for file in run_folder.rglob("*") if file.is_file()}
    message = refusal(*BASE, *TINY, *semantic, "--out", run_folder, *changed, "--resume")
    assert "started with other settings: " in message
    assert "target.fingerprint was " in message
    assert {file: file.read_bytes() for file in run_folder.rglob("*") if file.is_file()} == before


def test_photographs_are_brought_to_the_size_of_training(tmp_path: Path) -> None:
    for kind, folder in itertools.product("ab", ("day", "night")):
        for number in range(4):
            file = tmp_path / folder / kind / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (18 + number, 30 - number), (40 * number, 90, 200)).save(file)
    domains = ("--source", tmp_path / "day", "--target", tmp_path / "night")
    trained = run_cli("train", *domains, *TINY, "--size", "16", "--out", tmp_path / "run")
    assert trained.code == 0, trained.err
    given = ("--input", tmp_path / "day")
    scored = ("--test", tmp_path / "night", "--checkpoint", tmp_path / "run", "--out", tmp_path / "rows.json")
    asked_again: tuple[tuple[str | Path, ...], ...] = (
        ("preview", tmp_path / "run", *given, "--variants", "2", "--out", tmp_path / "grid.png"),
        ("generate", tmp_path / "run", *given, "--variants", "2", "--out", tmp_path / "aug.h5"),
        ("evaluate", *domains, *scored, *TINY_FIT, "--conditions", "munit", "--seeds", "1", "--processes", "1"),
    )
    for words in asked_again:
        outcome = run_cli(*words)
        assert outcome.code == 0, outcome.err
    assert munitaug.AugmentedDataset(tmp_path / "aug.h5")[0][0].shape == (3, 16, 16)
    larger = run_cli("generate", tmp_path / "run", *given, "--size", "20", "--out", tmp_path / "large.h5")
    assert larger.code == 0, larger.err
    assert munitaug.AugmentedDataset(tmp_path / "large.h5")[0][0].shape == (3, 20, 20)


def test_images_keep_the_polarity_of_training(tmp_path: Path) -> None:
    """What was inverted for training is inverted when the checkpoint is used; unless it is said otherwise."""
    domains = ("--source", SOURCE, "--target", TARGET)
    trained = run_cli("train", *domains, *TINY, *SIZE, "--invert-source", "--out", tmp_path / "run")
    assert trained.code == 0, trained.err
    originals = []
    for name, words in (("same", ()), ("other", ("--no-invert-source",))):
        file = tmp_path / f"{name}.h5"
        done = run_cli("generate", "--input", SOURCE, *words, tmp_path / "run", "--keep-original", "--out", file)
        assert done.code == 0, done.err
        originals.append(munitaug.AugmentedDataset(file)[0][0])
    assert torch.equal(originals[0], 255 - originals[1])
    wanted = munitaug.open_domain(SOURCE, channels=1, size=16, invert=True)[0][0]
    assert torch.equal(originals[0], wanted)


def test_printed_configuration_can_be_read_again(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    first = run_cli(*BASE, *TINY, "--out", tmp_path / "run", "--semantic.weight", "0.5", "--print_config")
    assert first.code == 0
    file.write_text(first.out)
    assert run_cli("train", "--config", file, "--print_config").out == first.out
    assert "max_steps: 4" in first.out
    assert "weight: 0.5" in first.out
    assert not (tmp_path / "run").exists()


def test_a_run_can_be_described_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(run_cli(*BASE, *TINY, "--out", tmp_path / "run", "--print_config").out)
    outcome = run_cli("train", "--config", file, "--training.max_steps", "2")
    assert outcome.code == 0, outcome.err
    assert json.loads((tmp_path / "run" / "config.json").read_text())["training"]["max_steps"] == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe", "is not YAML"),
        (b"training: [", "is not YAML"),
        (b"- a\n- b\n", "must be YAML of options, such as 'preset: small', got ['a', 'b']"),
        (b"", "must be YAML of options, such as 'preset: small', got None"),
    ],
)
@pytest.mark.parametrize("joined", [True, False])
def test_a_file_that_is_no_configuration_is_named(tmp_path: Path, content: bytes, message: str, joined: bool) -> None:
    file = tmp_path / "run.yaml"
    file.write_bytes(content)
    words = (f"--config={file}",) if joined else ("--config", file)
    assert f"{file} {message}" in refusal(*BASE, "--out", tmp_path / "run", *words)


def test_running_out_of_memory_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> NoReturn:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried")

    monkeypatch.setattr(munitaug, "checkpoint_facts", fail)
    outcome = run_cli("info", "run")
    assert outcome.code == 1
    assert outcome.err.startswith("munitaug: error: not enough memory ([enforce fail")
    assert outcome.err.count("\n") == 1


def test_an_error_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> NoReturn:
        raise RuntimeError("a bug")

    monkeypatch.setattr(munitaug, "checkpoint_facts", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        run_cli("info", "run")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_nobody_who_reads_is_no_error(tiny_run: Path, unbuffered: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "munitaug", "info", str(tiny_run)]
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(
        command, stdout=writing, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment, check=False
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_path_that_stdout_has_no_letters_for_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stdout)
    with pytest.raises(SystemExit) as leaving:
        cli.main(["--version"])
    print("n\u00e4ht", file=stdout, flush=True)
    assert leaving.value.code == 0
    assert stdout.buffer.getvalue().endswith(b"n\\xe4ht\n")


def test_a_folder_where_a_file_of_images_is_wanted_is_called_one(tmp_path: Path) -> None:
    message = refusal("export-data", tmp_path, "--out", tmp_path / "out")
    assert f"{tmp_path} is a folder; give the HDF5 file" in message


def test_a_size_that_no_memory_holds_is_refused(tmp_path: Path) -> None:
    words = ("train", "--source", SOURCE, "--target", TARGET, "--size", "100000000")
    assert "size must be at most 16384 px, got 100000000" in refusal(*words, "--out", tmp_path / "run")


def test_a_package_for_events_that_is_missing_leaves_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    message = refusal(*BASE, *TINY, "--out", tmp_path / "run", "--training.tensorboard", "true")
    assert 'pip install "munitaug[tensorboard]"' in message
    assert not (tmp_path / "run").exists()


def test_an_unknown_option_in_a_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("training:\n  max_stepps: 3\n")
    assert "max_stepps" in refusal(*BASE, "--out", tmp_path / "run", "--config", file)


def test_divergence_fails_with_exit_code_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def diverge(*args: object, **kwargs: object) -> None:
        raise munitaug.DivergenceError("training diverged at step 3")

    monkeypatch.setattr(munitaug, "train", diverge)
    outcome = run_cli(*BASE, "--out", tmp_path / "run")
    assert (outcome.code, outcome.err) == (1, "munitaug: error: training diverged at step 3\n")


def test_ctrl_c_while_words_are_read_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    monkeypatch.setattr(cli, "build_parser", interrupt)
    outcome = run_cli("info", "x")
    assert (outcome.code, outcome.err) == (130, "munitaug: error: stopped\n")


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
@pytest.mark.parametrize("command", ["train", "evaluate", "demo"])
def test_ctrl_c_before_anything_is_saved_says_how_to_continue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, name: str
) -> None:
    number = getattr(signal, name)

    def interrupt(*args: object, **kwargs: object) -> None:
        os.kill(os.getpid(), number)
        time.sleep(5)

    monkeypatch.setattr(munitaug, command, interrupt)
    domains = () if command == "demo" else ("--source", SOURCE, "--target", TARGET)
    before = signal.getsignal(number)
    outcome = run_cli(command, *domains, "--out", tmp_path / "out")
    assert outcome.code == 130
    assert outcome.err == "munitaug: error: stopped; run the same command with --resume to continue\n"
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_training_says_how_to_continue(tmp_path: Path, number: signal.Signals, workers: int) -> None:
    """The signal goes to all processes, as from a terminal, a batch system or torchrun."""
    if sys.platform == "win32":
        pytest.skip("no signals between processes")
    loading = ("--training.workers", str(workers))
    words = [*BASE, *TINY, *loading, "--training.max_steps", "1000000", "--out", str(tmp_path / "run")]
    process = subprocess.Popen(
        [sys.executable, "-m", "munitaug", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    log = tmp_path / "run" / "log.jsonl"
    deadline = time.monotonic() + 90
    while not (log.exists() and log.read_text().count("\n") >= 3) and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(process.pid, number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert out == ""
    last = err.strip().splitlines()[-1]
    stopped = re.search(r"munitaug: error: stopped after step (\d+) of 1000000; .* --resume to continue$", last)
    assert stopped is not None, last
    assert "Traceback" not in err
    lines = log.read_text().splitlines()
    assert json.loads(lines[-1])["step"] == int(stopped[1])


def children_of(process: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks at processes through /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_evaluation_leaves_no_process_behind(tmp_path: Path, number: signal.Signals) -> None:
    words = ["evaluate", "--source", SOURCE, "--target", TARGET, *SIZE, "--processes", "2", "--fit.steps", "1000000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "munitaug", *words, "--out", str(tmp_path / "rows.json")],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while len(children_of(process.pid)) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(20)  # until they are at work
    workers = children_of(process.pid)
    assert len(workers) >= 2
    process.send_signal(number)
    assert process.wait(timeout=30) == (130 if number == signal.SIGTERM else -number)
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{worker}").exists() for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert [worker for worker in workers if Path(f"/proc/{worker}").exists()] == []


WAITING_FOR_TORCH = """
import importlib.abc, sys, time
class Waits(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "torch":
            print("importing", flush=True)
            for _ in range(600):  # a signal just before a sleep is heard after it
                time.sleep(0.1)
sys.meta_path.insert(0, Waits())
from munitaug.__main__ import main
main()
"""


def test_ctrl_c_is_heard_while_torch_is_imported() -> None:
    command = [sys.executable, "-c", WAITING_FOR_TORCH]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "importing\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "munitaug: error: stopped\n")


def test_python_m_runs_the_command_line() -> None:
    done = subprocess.run([sys.executable, "-m", "munitaug", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"munitaug {munitaug.__version__}"
