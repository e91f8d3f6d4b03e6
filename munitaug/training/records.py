"""What a run leaves to read: log.jsonl, sample grids, TensorBoard events.

Floor 4: imports floors 1-3.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from munitaug.files import continued_lines, replacing
from munitaug.images import images_to_grid, model_to_uint8, tensor_to_pil
from munitaug.method import Method
from munitaug.networks.modes import evaluation_mode
from munitaug.random import torch_generator
from munitaug.styles import PriorStyles
from munitaug.types import DomainKey


def summary_writer() -> Any:
    """Gives torch.utils.tensorboard.SummaryWriter, the class that writes TensorBoard's events.

    Raises:
        ImportError: the tensorboard package is missing.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ImportError('TensorBoard events need: pip install "munitaug[tensorboard]"') from error
    return SummaryWriter


class RunLog:
    """One JSON line per logged step; a resumed run first drops the lines after its state.

    Args:
        path: of log.jsonl.
        finished_steps: lines of later steps are removed.
        tensorboard_folder: where events go, or None.

    Raises:
        ImportError: events are asked for and the tensorboard package is missing.
    """

    def __init__(self, path: Path, finished_steps: int, tensorboard_folder: Path | None) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = continued_lines(path, lambda row: int(row["step"]) <= finished_steps)
        self._events = None
        if tensorboard_folder is not None:
            self._events = summary_writer()(str(tensorboard_folder), purge_step=finished_steps)

    def write(self, step: int, values: dict[str, float]) -> None:
        """Appends one line: step (finished steps) and the values by name."""
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        if self._events is not None:
            for name, value in values.items():
                self._events.add_scalar(name, value, step)

    def close(self) -> None:
        """Closes the files."""
        self._file.close()
        if self._events is not None:
            self._events.close()


@torch.no_grad()
def save_sample_grid(
    path: Path,
    method: Method,
    image_a: Tensor,
    image_b: Tensor,
    domains: tuple[DomainKey, DomainKey] = ("a", "b"),
    variants: int = 4,
) -> None:
    """Draws rows of originals of a and their translations under fixed styles, then real images of b.

    Args:
        path: of the PNG.
        method: whose translator of these domains is drawn.
        image_a: N x C x H x W in [-1, 1]; N columns.
        image_b: N x C x H x W in [-1, 1].
        domains: what the method calls them.
        variants: rows of translations.
    """
    translator = method.core.translator(*domains)
    rows = [image_a]
    if translator.style_dim > 0:
        styles = PriorStyles(translator.style_dim).sample(1, variants, torch_generator(0, "samples"))
    else:
        styles = torch.zeros(1, 1, 0)
    with evaluation_mode(translator):  # batch norm would take the samples into its running statistics
        translated = translator.translate(image_a, styles.expand(len(image_a), -1, -1).to(image_a.device))
    rows += list(translated.unbind(1))
    rows.append(image_b)
    cells = model_to_uint8(torch.cat(rows)).cpu()
    scale = max(1, 48 // image_a.shape[-1])
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        tensor_to_pil(images_to_grid(cells, columns=len(image_a), scale=scale)).save(temporary, format="PNG")
