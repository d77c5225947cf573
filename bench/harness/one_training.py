"""One training, for loads.py: takes hidden units, batch size and threads as arguments, numbers of updates on stdin."""

from __future__ import annotations

import sys

import numpy as np

import gpunet
from gpunet import Adam, Dense, Network, Sequential, engines

WARM_UPDATES = 50


def main() -> None:
    hidden = [int(units) for units in sys.argv[1].split(",")]
    batch_size, threads = int(sys.argv[2]), int(sys.argv[3])
    layers = [Dense(hidden[0], "sigmoid", input_dim=784), *[Dense(units, "sigmoid") for units in hidden[1:]]]
    weights = Sequential([*layers, Dense(10, "softmax")], seed=0).get_weights()
    network = Network((784, *hidden, 10), ("sigmoid",) * len(hidden) + ("softmax",))
    if threads:
        gpunet.threads.limit(threads)
    engine = engines.Choice("compiled", "").make(network, Adam(), weights)
    train = gpunet.load_mnist().train
    images, labels = engine.upload(train.images.reshape(-1, 784)), engine.upload(train.labels)

    def run(updates: int) -> float:
        order = np.random.default_rng(0).integers(len(images), size=updates * batch_size).astype(np.int32)
        return engine.train_epoch(images, labels, order, batch_size).seconds

    run(WARM_UPDATES)
    print("ready", flush=True)
    for line in sys.stdin:
        print(run(int(line)), flush=True)


if __name__ == "__main__":
    main()
