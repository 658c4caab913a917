"""Progress functions that draw a bar: ``pget.get_file(url, path, progress=pget.progress.tqdm())``.

They also take the sums of many objects: ``pget.get_files(pairs, files_progress=…)``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ._types import FilesProgress, Progress

__all__ = ["rich", "tqdm"]

_Draw = Callable[[Progress | FilesProgress], None]


def tqdm(**options: Any) -> _Draw:
    """Returns a function for one call's ``progress`` that drives a ``tqdm`` bar.

    Args:
        options: The bar's.
    """
    from tqdm.auto import tqdm as make

    bar = make(**{"unit": "B", "unit_scale": True, "unit_divisor": 1024, **options})

    def draw(progress: Progress | FilesProgress) -> None:
        if progress.total is not None and bar.total != progress.total:
            bar.total = progress.total
        bar.update(progress.delivered - bar.n)
        if progress.delivered == progress.total:
            bar.close()

    return draw


def rich(display: Any, description: str = "reading") -> _Draw:
    """Returns a function for one call's ``progress`` that drives a task of a
    ``rich.progress.Progress``.
    """
    task = display.add_task(description, total=None)

    def draw(progress: Progress | FilesProgress) -> None:
        display.update(task, completed=progress.delivered, total=progress.total)

    return draw
