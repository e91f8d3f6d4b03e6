"""The command line: ``munitaug train | preview | generate | evaluate | adapt | info | convert | export | demo | ...``.

Floor 8: uses public names only.
"""

from __future__ import annotations

import dataclasses
import io
import itertools
import os
import select
import signal
import sys
import threading
import warnings
from argparse import BooleanOptionalAction
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from typing import Any, NoReturn

from jsonargparse import ArgumentParser, Namespace

import munitaug

Command = Callable[[Namespace], None]
USER_ERRORS = (ValueError, TypeError, ImportError)
EXIT_USER_ERROR = 2
EXIT_FAILED = 1
PRESET_HELP = "configuration of the method: small or paper; some have more, see docs/methods"
EXIT_INTERRUPTED = 130
EXIT_NOBODY_READS = 141
"""As of a program that SIGPIPE ends."""
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")
HOW_TO_CONTINUE = {
    "train": "stopped; run the same command with --resume to continue",
    "generate": "stopped; run the same command again to continue",
    "evaluate": "stopped; run the same command with --resume to continue",
    "adapt": "stopped; run the same command with --resume to continue",
    "demo": "stopped; run the same command with --resume to continue",
}
SPEC_HELP = f"a folder of images, or one of {', '.join(munitaug.DOMAIN_NAMES)} with :train or :test"


class _OneLineParser(ArgumentParser):
    """A parser whose errors are one line on stderr and exit code 2."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Prints the message on one line and leaves with exit code 2."""
        del ex
        _fail(message, EXIT_USER_ERROR)


def main(args: Sequence[str] | None = None) -> None:
    """Runs the command line.

    Args:
        args: words after the program's name; None takes them from the process.
    """
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    warnings.showwarning = _one_line_warning
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a path that it has no letters for is no reason to fail at the end
            stream.reconfigure(errors="backslashreplace")
    command = ""
    try:
        with _signals_like_ctrl_c():
            parser, commands = build_parser()
            words = sys.argv[1:] if args is None else list(args)
            _check_configuration_files(words)
            chosen = parser.instantiate(parser.parse_args(words))
            command = chosen.command
            commands[command](chosen[command])
            sys.stdout.flush()  # here, where it is known what to say if nobody reads
    except munitaug.Interrupted as error:
        _fail(str(error), EXIT_INTERRUPTED)
    except KeyboardInterrupt:
        _fail(HOW_TO_CONTINUE.get(command, "stopped"), EXIT_INTERRUPTED)
    except munitaug.DivergenceError as error:
        _fail(str(error), EXIT_FAILED)
    except OSError as error:
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            raise SystemExit(EXIT_NOBODY_READS) from None
        place = f"{error.filename}: " if error.filename else ""
        _fail(f"{place}{error.strerror}" if error.strerror else str(error), EXIT_USER_ERROR)
    except USER_ERRORS as error:
        _fail(str(error), EXIT_USER_ERROR)
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        _fail(f"not enough memory ({shorten(str(error), 200)}); smaller images (--size) or batches fit", EXIT_FAILED)


def build_parser() -> tuple[ArgumentParser, dict[str, Command]]:
    """Gives the parser and the function of each command."""
    parser = _OneLineParser(prog="munitaug", description="Unpaired image translation as data augmentation.")
    parser.add_argument("--version", action="version", version=f"munitaug {munitaug.__version__}")
    subcommands = parser.add_subcommands(dest="command", metavar="COMMAND")
    commands: dict[str, Command] = {}
    for name, add, run in (
        ("train", _add_train, _train),
        ("preview", _add_preview, _preview),
        ("generate", _add_generate, _generate),
        ("evaluate", _add_evaluate, _evaluate),
        ("adapt", _add_adapt, _adapt),
        ("info", _add_info, _info),
        ("convert", _add_convert, _convert),
        ("export", _add_export, _export),
        ("export-data", _add_export_data, _export_data),
        ("demo", _add_demo, _demo),
    ):
        doc = (run.__doc__ or "").strip().splitlines()[0]
        child = _OneLineParser(prog=f"munitaug {name}", description=doc)
        if name != "convert":  # there --config is the other project's own YAML, as its users call it
            child.add_argument("--config", action="config", help="YAML file with any of these options")
        add(child)
        subcommands.add_subcommand(name, child, help=doc)
        commands[name] = run
    return parser, commands


def _check_configuration_files(words: Sequence[str]) -> None:
    """Refuses what is no mapping in YAML, and names the file, which the parser's own errors do not.

    Raises:
        ValueError: such a file.
    """
    if words[:1] == ["convert"]:  # there it is the other project's own, read elsewhere
        return
    import yaml  # comes with jsonargparse

    following = [other for word, other in itertools.pairwise(words) if word == "--config"]
    joined = [word.removeprefix("--config=") for word in words if word.startswith("--config=")]
    for file in filter(Path.is_file, map(Path, following + joined)):
        try:
            content = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (ValueError, RecursionError, yaml.YAMLError) as error:
            raise ValueError(f"{file} is not YAML ({error})") from error
        if not isinstance(content, dict):
            raise ValueError(
                f"{file} must be YAML of options, such as 'preset: small', got {shorten(repr(content), 60)}"
            )


def _add_data(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--channels",
        type=int | None,
        default=None,
        help="image channels, 1 or 3; default: as the checkpoint has them, or as the images are",
    )
    add(
        "--size",
        type=int | None,
        default=None,
        help="side of the square images in px; default: as the checkpoint was trained, or as they are",
    )
    for domain in ("source", "target"):
        add(
            f"--invert-{domain}",
            action=BooleanOptionalAction,
            default=None,
            help=f"exchange dark and light in the {domain}; default: as the checkpoint was trained, else not",
        )
    add("--data-root", type=str | None, default=None, help="folder of digit data sets; default: $MUNITAUG_DATA, ./data")
    add("--skip-unreadable", action="store_true", help="leave out broken image files, with a warning")


def _data(options: Namespace) -> munitaug.DataOptions:
    return munitaug.DataOptions(
        channels=options.channels,
        size=options.size,
        invert_source=options.invert_source,
        invert_target=options.invert_target,
        data_root=options.data_root,
        skip_unreadable=options.skip_unreadable,
    )


def _add_train(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("--source", type=str, required=True, help=f"what is translated (domain a): {SPEC_HELP}")
    add("--target", type=str, required=True, help=f"what it shall look like (domain b): {SPEC_HELP}")
    add("--others", type=str, nargs="+", default=[], help="multidomain: further domains of the one model")
    add("--out", type=str, required=True, help="run folder to make")
    add("--method", type=str, default="munit", help=f"one of {', '.join(munitaug.METHODS)}")
    add("--preset", type=str, default="small", help=PRESET_HELP)
    add("--model", type=dict[str, Any], default={}, help='fields that differ from the preset, as {"weight_cycle": 10}')
    add("--training", type=munitaug.TrainConfig, default=munitaug.TrainConfig())
    add("--semantic", type=munitaug.SemanticOptions, default=munitaug.SemanticOptions())
    add("--vgg-weights", type=str | None, default=None, help="VGG-16 weights file, for weight_perceptual > 0")
    add("--resume", action="store_true", help="continue the run in --out")
    _add_data(parser)


def _train(options: Namespace) -> None:
    """Train a translator between two sets of unpaired images."""
    data = _data(options)
    config = None
    if options.model:
        if options.method not in munitaug.METHODS:
            raise ValueError(f"method must be one of {', '.join(munitaug.METHODS)}, got {options.method!r}")
        channels = options.model.get("channels", data.channels)
        if channels is None:
            channels = data.open_source(options.source).channels
        preset = munitaug.METHODS[options.method].config_class.preset(options.preset, channels=channels)
        config = _with_fields(preset, options.model)
    checkpoint = munitaug.train(
        options.source,
        options.target,
        options.out,
        others=options.others,
        method=options.method,
        preset=options.preset,
        config=config,
        training=options.training,
        data=data,
        semantic=options.semantic,
        vgg_weights=options.vgg_weights,
        resume=options.resume,
    )
    if os.environ.get("RANK", "0") == "0":  # under torchrun, one for all
        print(f"checkpoint: {checkpoint}")
        print(f"samples:    {Path(options.out) / 'samples'}")


def _add_styles(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("checkpoint", type=str, help="checkpoint folder, or the run folder of munitaug train")
    add("--input", type=str, required=True, help=f"images to translate: {SPEC_HELP}")
    add("--style", type=str, default="prior", help="where styles come from: prior, bank or mixture")
    add("--truncation", type=float | None, default=None, help="prior, mixture: cut noise at this deviation; bank: 0..1")
    add("--direction", type=str, default="a2b", help="a2b (source to target), b2a, or two names of several")
    add("--seed", type=int, default=0, help="decides the styles")
    add("--device", type=str, default="auto", help="auto, cpu, cuda or cuda:N")


def _add_preview(parser: ArgumentParser) -> None:
    _add_styles(parser)
    add = parser.add_argument
    add("--out", type=str, required=True, help="PNG to write")
    add("--target", type=str | None, default=None, help="real target images for the last row")
    add("--variants", type=int, default=8, help="rows of styles")
    add("--columns", type=int, default=12, help="images in a row")
    add("--strength", type=float, default=1.0, help="of the style, 0..1; the rest is the content image's own")
    add("--exemplars", type=str | None, default=None, help=f"target images whose styles get rows: {SPEC_HELP}")
    add("--exemplar-rows", type=int, default=3, help="exemplars to draw")
    add("--interpolate", type=int, default=0, help="rows on the way between two styles, ends included; 0 for none")
    add("--nearest", action="store_true", help="draw the real target images nearest to the first style's row")
    add("--judge", type=str | None, default=None, help=f"labelled images to train a judge of labels on: {SPEC_HELP}")
    add("--overwrite", action="store_true", help="replace an existing file")
    _add_data(parser)


def _preview(options: Namespace) -> None:
    """Draw a sheet of source images under several styles."""
    path = munitaug.preview(
        options.checkpoint,
        options.input,
        options.out,
        target=options.target,
        variants=options.variants,
        columns=options.columns,
        strength=options.strength,
        exemplars=options.exemplars,
        exemplar_rows=options.exemplar_rows,
        interpolate=options.interpolate,
        nearest=options.nearest,
        judge=options.judge,
        style=options.style,
        truncation=options.truncation,
        direction=options.direction,
        seed=options.seed,
        device=options.device,
        data=_data(options),
        overwrite=options.overwrite,
    )
    print(f"preview: {path}")


def _add_generate(parser: ArgumentParser) -> None:
    _add_styles(parser)
    add = parser.add_argument
    add("--out", type=str, required=True, help="HDF5 file to write")
    add("--variants", type=int, default=4, help="styled images per source image")
    add("--keep-original", action="store_true", help="write each source image before its variants")
    add("--batch-size", type=int, default=64, help="source images translated at once")
    add("--compression", type=str, default="lzf", help="lzf, gzip or none")
    add("--precision", type=str, default="float32", help="of translating: float32 or bfloat16")
    add("--compile", action="store_true", help="compile the generator first (half a minute); pays for large sets")
    add("--shards", type=int, default=0, help="write so many files, --out as their index; torchrun shares them out")
    add("--overwrite", action="store_true", help="replace an existing file")
    _add_data(parser)


def _generate(options: Namespace) -> None:
    """Write an augmented data set to HDF5; a stopped run goes on when called again."""
    path = munitaug.generate(
        options.checkpoint,
        options.input,
        options.out,
        variants=options.variants,
        style=options.style,
        truncation=options.truncation,
        direction=options.direction,
        seed=options.seed,
        keep_original=options.keep_original,
        device=options.device,
        batch_size=options.batch_size,
        compression=options.compression,
        data=_data(options),
        overwrite=options.overwrite,
        shards=options.shards,
        precision=options.precision,
        compile=options.compile,
    )
    if path.exists():
        print(f"augmented data set: {path}")
    else:
        print(f"this process is through; {path} is there when the others are")


ONLY_ROWS: dict[str, Any] = {"test": None, "seeds": 3, "conditions": [], "processes": None, "resume": False}
ONLY_KEPT_LABELS: dict[str, Any] = {
    "judge": None,
    "judge_test": None,
    "variants": 4,
    "style": "prior",
    "truncation": None,
    "direction": "a2b",
    "seed": 0,
    "device": "auto",
    "overwrite": False,
}
"""Options of ``munitaug evaluate`` that mean something in one of its two uses alone, with their defaults."""


def _add_evaluate(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("--source", type=str, required=True, help=f"labelled images: {SPEC_HELP}")
    add("--target", type=str | None, default=None, help=f"images of the wanted kind; needed for rows: {SPEC_HELP}")
    add("--test", type=str | None, help="labelled target test images; default: the target's :test split")
    add("--checkpoint", type=str | None, default=None, help="translator, for the conditions munit and adapt")
    add("--out", type=str, required=True, help="JSON file of rows to write, or of kept labels")
    add("--seeds", type=int, help="runs seeds 0 .. N-1")
    names = ", ".join(munitaug.CONDITIONS)
    add("--conditions", type=str, nargs="+", help=f"some of {names}; default: all possible")
    add("--fit", type=munitaug.FitSettings, default=munitaug.FitSettings())
    add("--processes", type=int | None, help="classifiers trained side by side; default: one per core")
    add("--resume", action="store_true", help="keep the rows of --out and run what is missing")
    add("--label-preservation", action="store_true", help="count instead which labels survive translation")
    add("--judge", type=str | None, help="labels kept: what teaches the judge; default: the target")
    add("--judge-test", type=str | None, help="labels kept: what tests the judge; default: its :test")
    add("--variants", type=int, help="labels kept: translations of each image")
    add("--style", type=str, help="labels kept: prior, bank or mixture")
    add("--truncation", type=float | None, help="labels kept: of the styles, as in generate")
    add("--direction", type=str, help="labels kept: a2b (source to target) or b2a")
    add("--seed", type=int, help="labels kept: of styles and judge")
    add("--device", type=str, help="labels kept: auto, cpu, cuda or cuda:N")
    add("--overwrite", action="store_true", help="labels kept: replace existing files")
    parser.set_defaults(ONLY_ROWS | ONLY_KEPT_LABELS)
    _add_data(parser)


def _refuse(options: Namespace, defaults: dict[str, Any], why: str) -> None:
    given = [f"--{name.replace('_', '-')}" for name, default in defaults.items() if options[name] != default]
    if given:
        raise ValueError(f"{', '.join(given)} {why}; leave it out")


def _label_preservation(options: Namespace) -> None:
    _refuse(options, ONLY_ROWS, "does not go together with --label-preservation")
    if options.checkpoint is None:
        raise ValueError("--label-preservation needs a trained translator: give --checkpoint")
    try:
        report = munitaug.label_preservation(
            options.checkpoint,
            options.source,
            options.out,
            judge=options.judge or options.target,
            judge_test=options.judge_test,
            variants=options.variants,
            style=options.style,
            truncation=options.truncation,
            direction=options.direction,
            seed=options.seed,
            device=options.device,
            fit=options.fit,
            data=_data(options),
            overwrite=options.overwrite,
        )
    except KeyboardInterrupt:
        raise munitaug.Interrupted("stopped; nothing was written") from None
    print(report.table())
    print(f"counts:  {options.out}")
    print(f"picture: {Path(options.out).with_suffix('.png')}")


def _evaluate(options: Namespace) -> None:
    """Train classifiers under several conditions and score them on the target."""
    if options.label_preservation:
        _label_preservation(options)
        return
    _refuse(options, ONLY_KEPT_LABELS, "needs --label-preservation")
    if options.target is None:
        raise ValueError(f"--target is needed: {SPEC_HELP}; only --label-preservation does without it")
    rows = munitaug.evaluate(
        options.source,
        options.target,
        options.out,
        checkpoint=options.checkpoint,
        test=options.test,
        conditions=options.conditions or None,
        seeds=options.seeds,
        fit=options.fit,
        data=_data(options),
        processes=options.processes,
        resume=options.resume,
    )
    print(munitaug.render_table(munitaug.summarise(rows)))
    print(f"results: {options.out}")


def _add_adapt(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("--source", type=str, required=True, help=f"labelled images: {SPEC_HELP}")
    add("--target", type=str, required=True, help=f"images of the wanted kind; labels are not read: {SPEC_HELP}")
    add("--test", type=str | None, default=None, help="labelled target images, for the final score alone")
    add("--out", type=str, required=True, help="run folder to make")
    add("--method", type=str, default="munit", help=f"of the translator: one of {', '.join(munitaug.METHODS)}")
    add("--preset", type=str, default="small", help=PRESET_HELP)
    add("--training", type=munitaug.TrainConfig, default=munitaug.TrainConfig(max_steps=1000))
    add("--semantic-weight", type=float, default=1.0, help="of the label term in the translator's training; 0 for none")
    add("--fit", type=munitaug.FitSettings, default=munitaug.FitSettings())
    add("--resume", action="store_true", help="continue the run in --out")
    _add_data(parser)


def _adapt(options: Namespace) -> None:
    """Train a classifier for the target with the source's labels alone: translator, self-trained starts, refinement."""
    adapted = munitaug.adapt(
        options.source,
        options.target,
        options.out,
        test=options.test,
        method=options.method,
        preset=options.preset,
        training=options.training,
        semantic_weight=options.semantic_weight,
        fit=options.fit,
        data=_data(options),
        resume=options.resume,
    )
    print(f"classifier: {adapted.classifier}")
    print(f"translator: {adapted.translator}")
    print(f"log:        {adapted.log}")
    if adapted.accuracy is not None:
        print(f"accuracy on {options.test}: {adapted.accuracy:.1f}%")


def _add_info(parser: ArgumentParser) -> None:
    parser.add_argument("checkpoint", type=str, help="checkpoint folder, or the run folder of munitaug train")


def _info(options: Namespace) -> None:
    """Say what a checkpoint holds."""
    for name, value in dataclasses.asdict(munitaug.checkpoint_facts(options.checkpoint)).items():
        if isinstance(value, dict):
            print(f"{name}:")
            for key, entry in value.items():
                print(f"  {key}: {entry}")
        else:
            print(f"{name}: {value}")


def _add_convert(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("--format", type=str, required=True, help="what made the weights: munit, unit, cyclegan or cut")
    add("--generator", type=str, required=True, help="file of weights: gen_*.pt, latest_net_G_A.pth, latest_net_G.pth")
    add("--out", type=str, required=True, help="checkpoint folder to make")
    add("--config", type=str | None, default=None, help="munit, unit: YAML of the run; default: sizes from the weights")
    add("--generator-b", type=str | None, default=None, help="cyclegan: latest_net_G_B.pth; default: a2b only")
    add("--discriminator", type=str | None, default=None, help="munit, unit: dis_*.pt; default: new discriminators")


def _convert(options: Namespace) -> None:
    """Turn the generator of another project into a checkpoint."""
    path = munitaug.convert(
        options.generator,
        options.out,
        format=options.format,
        config=options.config,
        generator_b=options.generator_b,
        discriminator=options.discriminator,
    )
    print(f"checkpoint: {path}")


def _add_export(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("checkpoint", type=str, help="checkpoint folder, or the run folder of munitaug train")
    add("--out", type=str, required=True, help="file to write, .onnx or .pt2")
    add("--size", type=int, required=True, help="side in px of the square images that the graph takes")
    add("--format", type=str | None, default=None, help="onnx or torch-export; default: as --out ends")
    add("--direction", type=str, default="a2b", help="a2b (source to target), b2a, or two names of several")
    add("--overwrite", action="store_true", help="replace an existing file")


def _export(options: Namespace) -> None:
    """Write a translator as a graph for another runtime, tried against PyTorch."""
    facts = munitaug.export_translator(
        options.checkpoint,
        options.out,
        size=options.size,
        format=options.format,
        direction=options.direction,
        overwrite=options.overwrite,
    )
    print(f"graph: {facts.path}")
    print(f"inputs: {', '.join(facts.inputs)}; largest difference from PyTorch: {facts.largest_difference:.1e}")


def _add_export_data(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("data", type=str, help="HDF5 file that munitaug generate wrote, or the index of its shards")
    add("--out", type=str, required=True, help="folder to make")
    add("--format", type=str, default="folder", help="folder (images and metadata.jsonl), webdataset or parquet")
    add("--rows-per-file", type=int, default=10_000, help="rows of a tar or Parquet file")


def _export_data(options: Namespace) -> None:
    """Write a generated data set as an image folder, WebDataset or Parquet."""
    folder = munitaug.export_data(options.data, options.out, format=options.format, rows_per_file=options.rows_per_file)
    print(f"exported data set: {folder}")


def _add_demo(parser: ArgumentParser) -> None:
    parser.add_argument("--out", type=str, required=True, help="run folder to make")
    parser.add_argument("--settings", type=munitaug.DemoSettings, default=munitaug.DemoSettings())
    parser.add_argument("--resume", action="store_true", help="continue the demo in --out")


def _demo(options: Namespace) -> None:
    """Run the whole product on built-in digits: printed source, handwritten target."""
    rows = munitaug.demo(options.out, settings=options.settings, resume=options.resume)
    print(munitaug.render_table(munitaug.summarise(rows)))
    for name in ("checkpoint", "preview.png", "augmented.h5", "results.json", "accuracy.png"):
        print(f"{name + ':':<14} {Path(options.out) / name}")


def _with_fields(preset: Any, fields: dict[str, Any]) -> Any:
    """Gives the preset with some fields replaced, those of the optimiser among them."""
    known = {field.name for field in dataclasses.fields(preset)}
    unknown = sorted(fields.keys() - known)
    if unknown:
        raise ValueError(f"--model has no field {', '.join(unknown)}; it has {', '.join(sorted(known))}")
    changes = {name: _like(getattr(preset, name), value, name) for name, value in fields.items()}
    return dataclasses.replace(preset, **changes)


def _like(present: Any, value: Any, name: str) -> Any:
    """Gives a value of the kind that a field has at present."""
    if dataclasses.is_dataclass(present) and isinstance(value, dict):
        return _with_fields(present, value)
    if isinstance(present, tuple) and isinstance(value, list) and len(value) == len(present):
        return tuple(_like(old, new, name) for old, new in zip(present, value, strict=True))
    if isinstance(present, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not type(present):
        raise ValueError(f"--model {name} must be like {present!r}, got {value!r}")
    return value


@contextmanager
def _signals_like_ctrl_c() -> Iterator[None]:
    """Turns SIGTERM and SIGUSR1 into KeyboardInterrupt, where signals can be handled; child processes end, too."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    others = [number for number in munitaug.stopping.SIGNALS if number != signal.SIGINT]
    previous = {number: signal.signal(number, signal.default_int_handler) for number in others}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


def _nobody_reads() -> bool:
    """Tells whether stdout leads nowhere any more, as behind ``| head``; what is left for it is dropped then."""
    if not hasattr(select, "poll"):  # Windows has other errors for it
        return False
    try:
        asked = select.poll()
        asked.register(sys.stdout.fileno(), 0)
    except (OSError, ValueError):  # no file, or closed
        return False
    if not any(event & select.POLLERR for _, event in asked.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True


def _is_out_of_memory(error: Exception) -> bool:
    """Tells it of torch's errors by their words, because a CPU's have no class of their own."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in OUT_OF_MEMORY)


def _one_line_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: Any = None, line: Any = None
) -> None:
    del category, filename, lineno, file, line
    print(f"munitaug: warning: {' '.join(str(message).split())}", file=sys.stderr)


def _fail(message: str, code: int) -> NoReturn:
    print(f"munitaug: error: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(code)
