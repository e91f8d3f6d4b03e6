"""Other projects' checkpoints as checkpoints of munitaug.

Floor 6: imports floors 1-5.
"""

from __future__ import annotations

from pathlib import Path

from munitaug._version import __version__
from munitaug.checkpoint import save_method
from munitaug.default_device import on_cpu_by_default
from munitaug.files import sha256_of
from munitaug.interop import check_format, read_foreign


@on_cpu_by_default
def convert(
    generator: str | Path,
    out: str | Path,
    *,
    format: str,
    config: str | Path | None = None,
    generator_b: str | Path | None = None,
    discriminator: str | Path | None = None,
) -> Path:
    """Turns another project's generator into a checkpoint, and gives its path.

    Nothing is unpickled but tensors. The files' names and SHA-256 are kept in the checkpoint's provenance.

    Args:
        generator: the file of weights: gen_*.pt of NVlabs/MUNIT or UNIT, latest_net_G_A.pth of CycleGAN,
            latest_net_G.pth of CUT.
        out: the checkpoint folder to make.
        format: "munit", "unit", "cyclegan" or "cut".
        config: munit, unit: the YAML of the run. Without it sizes are read from the weights, and layers that weights do
            not show are assumed to be the published ones.
        generator_b: cyclegan: latest_net_G_B.pth, for the way back; without it the checkpoint translates a2b only.
        discriminator: munit, unit: dis_*.pt of the run; without it the discriminators are new.

    Returns:
        ``out``.

    Raises:
        ValueError: unknown format, or a file that the format does not have.
        FileNotFoundError: a file is missing.
        FileExistsError: ``out`` is there already.
        CheckpointError: a file is damaged, holds something else, or layers that munitaug's networks do not have.
    """
    extras = {"config": config, "generator_b": generator_b, "discriminator": discriminator}
    given = {name: Path(path).expanduser() for name, path in extras.items() if path is not None}
    check_format(format, set(given))
    folder = Path(out).expanduser()
    _refuse_existing(folder)
    files = {"generator": Path(generator).expanduser(), **given}
    method = read_foreign(format, files["generator"], given)
    provenance = {
        "munitaug": __version__,
        "converted_from": {
            "format": format,
            "files": {role: {"name": path.name, "sha256": sha256_of(path)} for role, path in files.items()},
        },
    }
    return save_method(method, folder, provenance)


def _refuse_existing(out: Path) -> None:
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise FileExistsError(f"{out} exists and is not overwritten; choose another folder")
