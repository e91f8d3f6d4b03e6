"""Pictures that recipes draw with matplotlib, an extra: on no screen, into a PNG that replaces an older one whole.

Floor 6: imports floors 1-5.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from munitaug.files import replacing

DOTS_PER_INCH = 130


def require_matplotlib() -> None:
    """Refuses at once what would fail after the work.

    Raises:
        ImportError: matplotlib is missing.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise ImportError('the picture needs matplotlib: pip install "munitaug[benchmarks]"') from error


@contextmanager
def picture(path: Path, width: float, height: float) -> Iterator[Any]:
    """Gives matplotlib's axes to draw on; what is there when the block ends is written as a PNG.

    Args:
        path: of the PNG; an existing one is replaced.
        width: in inches.
        height: in inches.

    Raises:
        ImportError: matplotlib is missing.
    """
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    yield figure.add_subplot()
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DOTS_PER_INCH)
