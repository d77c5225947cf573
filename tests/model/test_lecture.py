"""The lecture's own code, unchanged: in its spelling of 2016 and in today's."""

from __future__ import annotations

import numpy as np
import pytest

import gpunet
from gpunet import SGD, Activation, Adam, Dense, Input, Sequential, to_categorical


@pytest.fixture
def lecture_data(mnist: gpunet.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """As the lecture prepares it: flat float images in 0..1, one-hot targets."""
    images = mnist.train.images[:2000].reshape(2000, 28 * 28).astype("float32") / 255
    return images, to_categorical(mnist.train.labels[:2000], 10)


def test_the_spelling_of_2016_trains(lecture_data) -> None:
    x_train, y_train = lecture_data
    model = Sequential()
    model.add(Dense(input_dim=28*28, output_dim=500))  # fmt: skip
    model.add(Activation('sigmoid'))  # fmt: skip
    model.add(Dense(output_dim=500))
    model.add(Activation('sigmoid'))  # fmt: skip
    model.add(Dense(output_dim=10))
    model.add(Activation('softmax'))  # fmt: skip
    model.compile(loss='categorical_crossentropy', optimizer='adam', metrics=['accuracy'])  # fmt: skip
    model.fit(x_train, y_train, batch_size=100, nb_epoch=20)

    score = model.evaluate(x_train, y_train)
    assert score[1] > 0.95
    result = model.predict(x_train)
    assert result.shape == (2000, 10)
    assert np.mean(result.argmax(axis=1) == y_train.argmax(axis=1)) == pytest.approx(score[1])


def test_the_current_spelling_gives_the_same_bits(lecture_data) -> None:
    x_train, y_train = lecture_data

    def trained(model: Sequential) -> list[np.ndarray]:
        model.compile(loss="categorical_crossentropy", optimizer="adam", metrics=["accuracy"])
        model.fit(x_train, y_train, batch_size=100, epochs=1, verbose=0)
        return model.get_weights()

    old = Sequential(seed=1)
    old.add(Dense(input_dim=784, output_dim=50))
    old.add(Activation("sigmoid"))
    old.add(Dense(output_dim=10))
    old.add(Activation("softmax"))
    new = Sequential([Input(shape=(784,)), Dense(50, activation="sigmoid"), Dense(10, activation="softmax")], seed=1)
    from_data = Sequential([Dense(50, activation="sigmoid"), Dense(10, activation="softmax")], seed=1)
    with_shape = Sequential([Dense(50, "sigmoid", input_shape=(28, 28)), Dense(10, "softmax")], seed=1)
    expected = trained(old)
    for model in (new, from_data, with_shape):
        for one, other in zip(trained(model), expected, strict=True):
            np.testing.assert_array_equal(one, other)


def test_optimizers_take_old_and_new_names() -> None:
    assert SGD(lr=0.1) == SGD(learning_rate=0.1) == SGD(0.1)
    assert Adam(lr=0.01, beta_1=0.8) == Adam(0.01, 0.8)
