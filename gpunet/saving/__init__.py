"""Model files: what a file holds, and its two formats. gpunet/files.py writes them.

contents.py  what is saved, and its names and text in a file
formats.py   .safetensors and .npz
"""

from gpunet.saving.contents import FORMAT, Saved, read, read_weights, write
from gpunet.saving.formats import as_path

__all__ = ["FORMAT", "Saved", "as_path", "read", "read_weights", "write"]
