"""`gpunet sweep`: train many configurations of a network, and choose the best.

command.py takes the options, running.py goes from them to the result; docs/architecture.md says what the others do.
"""

from gpunet.sweep.command import main

__all__ = ["main"]
