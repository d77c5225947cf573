"""`gpunet sweep`: train many configurations of a network, and choose the best.

command.py reads the options, running.py carries them out; docs/architecture.md describes the other files.
"""

from gpunet.sweep.command import main

__all__ = ["main"]
