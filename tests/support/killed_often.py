"""A program that trains in child processes and kills each at a random moment: `killed_often.py DATA CHECKPOINT KILLS`.

Prints the number of epochs that the checkpoint holds after each kill. The children are forks, which start in a moment,
where Python takes half a second. This is a separate process, because forking needs one without threads.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time

import gpunet
from gpunet import train


def main(data: str, checkpoint: str, kills: int) -> None:
    words = ["--data", data, "--batch-size", "9", "--epochs", "4000", "--hidden", "16", "--quiet", "--device", "cpu"]
    words += ["--engine", "reference"]  # which starts in a moment
    rng, seconds_to_begin = random.Random(0), 0.0
    for kill in range(kills):
        begun = os.path.exists(checkpoint)
        started = time.monotonic()
        child = os.fork()
        if child == 0:
            os._exit(
                train.main(["--resume", checkpoint, *words[-5:]] if begun else [*words, "--checkpoint", checkpoint])
            )
        if kill:
            time.sleep(rng.uniform(0, 3 * seconds_to_begin))
        while not os.path.exists(checkpoint):
            time.sleep(0.001)
        seconds_to_begin = seconds_to_begin or time.monotonic() - started  # the first checkpoint is there
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), status
        print(gpunet.load(checkpoint).epochs_trained, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
