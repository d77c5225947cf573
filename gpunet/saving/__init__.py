"""Models in files: what a file holds, two formats for it, and a way of writing that never leaves half a file.

contents.py  what there is to save, and its names and text in a file
formats.py   .safetensors and .npz
atomic.py    written aside and moved into place
lines.py     for logs: line by line, every line whole
"""

from gpunet.saving.atomic import remove_leftovers
from gpunet.saving.contents import FORMAT, Saved, read, read_weights, write
from gpunet.saving.formats import as_path

__all__ = ["FORMAT", "Saved", "as_path", "read", "read_weights", "remove_leftovers", "write"]
