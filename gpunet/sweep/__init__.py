"""`gpunet sweep`: train many configurations of a network, and choose the best.

space.py says what a sweep varies, study.py what is in the study, storage.py where that is kept; worker.py trains,
result.py tests the best, report.py and plot.py show what is known, and command.py is the command.
"""

from gpunet.sweep.command import main

__all__ = ["main"]
