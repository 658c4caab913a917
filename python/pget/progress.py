"""Progress functions that draw a bar: ``pget.get_file(url, path, progress=pget.progress.tqdm())``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ._types import Progress

__all__ = ["rich", "tqdm"]


def tqdm(**options: Any) -> Callable[[Progress], None]:
    """Returns a function for one call's ``progress`` that drives a ``tqdm`` bar; ``options`` are the bar's."""
    from tqdm.auto import tqdm as make  # type: ignore[import-untyped, unused-ignore]

    bar = make(**{"unit": "B", "unit_scale": True, "unit_divisor": 1024, **options})

    def tell(progress: Progress) -> None:
        if progress.total is not None and bar.total != progress.total:
            bar.total = progress.total
        bar.update(progress.delivered - bar.n)
        if progress.delivered == progress.total:
            bar.close()

    return tell


def rich(display: Any, description: str = "reading") -> Callable[[Progress], None]:
    """Returns a function for one call's ``progress`` that drives a task of a ``rich.progress.Progress``."""
    task = display.add_task(description, total=None)

    def tell(progress: Progress) -> None:
        display.update(task, completed=progress.delivered, total=progress.total)

    return tell
