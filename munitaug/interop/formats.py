"""Which files of which project can be read, and who reads them.

Floor 5: imports floors 1-4.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from munitaug.interop.cut import read_cut
from munitaug.interop.cyclegan import read_cyclegan
from munitaug.interop.munit import read_munit
from munitaug.interop.unit import read_unit
from munitaug.method import Method

FORMATS = ("munit", "unit", "cyclegan", "cut")
OPTIONS_OF: dict[str, tuple[str, ...]] = {
    "munit": ("config", "discriminator"),
    "unit": ("config", "discriminator"),
    "cyclegan": ("generator_b",),
    "cut": (),
}
"""Files that a format can have beside its generator."""


def read_foreign(format: str, generator: Path, extras: Mapping[str, Path]) -> Method:
    """Gives the method of another project's files, in evaluation mode, on the CPU.

    Args:
        format: of FORMATS.
        generator: its file of weights.
        extras: further files, named as in OPTIONS_OF.

    Raises:
        ValueError: unknown format, or a file that it does not have.
        FileNotFoundError: a file is missing.
        CheckpointError: a file is damaged, holds something else, or layers that munitaug's networks do not have.
    """
    check_format(format, set(extras))
    if format == "munit":
        return read_munit(generator, extras.get("config"), extras.get("discriminator"))
    if format == "unit":
        return read_unit(generator, extras.get("config"), extras.get("discriminator"))
    if format == "cyclegan":
        return read_cyclegan(generator, extras.get("generator_b"))
    return read_cut(generator)


def check_format(format: str, extras: set[str]) -> None:
    """Refuses an unknown format, or files that it does not have.

    Raises:
        ValueError: either of these.
    """
    if format not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, got {format!r}")
    for name in sorted(extras - set(OPTIONS_OF[format])):
        owners = ", ".join(owner for owner, options in OPTIONS_OF.items() if name in options)
        raise ValueError(f"{name} belongs to format {owners}, not to {format}; leave it out")
