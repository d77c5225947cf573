"""The line in other commands that points to `gpunet page`."""

from __future__ import annotations

import shlex
from pathlib import Path

from gpunet import commandline
from gpunet.page.content import image_size


def invitation(model: str, shape: tuple[int, ...], path_of_data: str | None = None) -> str | None:
    """How to make a page from a model's file, or None if the model does not take grey images.

    shape: of an example. path_of_data: what `--data` must be, if the file does not say.
    """
    if image_size(shape) is None:
        return None
    data = [] if path_of_data is None else ["--data", path_of_data]
    page = shlex.join(["gpunet", "page", model, *data, "-o", Path(model).with_suffix(".html").name])
    return commandline.one_line(f"page    {page} makes a web page that shows it at work")
