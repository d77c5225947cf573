"""What a sweep varies: values or ranges of the options of `gpunet train`, and the configurations that they form.

A configuration leaves out options that have no effect in it, such as momentum with Adam.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gpunet import commandline, training_options
from gpunet.commandline import LINEARLY, LOGARITHMICALLY, Option
from gpunet.errors import ArgumentError, shown

Value = int | float | str | bool
Configuration = dict[str, Value]  # values by option name, of options that were given and have an effect

MOST_COMBINATIONS = 10_000
NO_LAYERS = "none"  # as the value of --hidden
LAYERS = Option(
    "--layers",
    type=commandline.whole_number,
    metavar="N",
    help="number of hidden layers, each as wide as --hidden says",
    spread=LINEARLY,
)
NOT_VARIED = "seed"
OF_HIDDEN_LAYERS = ("activation", "dropout")
OPTIONS = (
    *(
        # A trial without an epoch has no validation figures.
        replace(option, type=commandline.whole_number) if option.name == "epochs" else option
        for option in training_options.OPTIONS
        if option.name != NOT_VARIED
    ),
    LAYERS,
)
NAMED = {option.name: option for option in OPTIONS}


@dataclass(frozen=True)
class Values:
    """The values that an option was given, one or several."""

    values: tuple[Value, ...]

    @property
    def checked(self) -> tuple[Value, ...]:
        """The values to check: if these are possible, all are."""
        return self.values

    @property
    def varies(self) -> bool:
        return len(self.values) > 1

    def __str__(self) -> str:
        return " ".join(map(word, self.values))


@dataclass(frozen=True)
class Range:
    """All numbers from low to high, both included; whole numbers if both bounds are."""

    low: int | float
    high: int | float
    logarithmic: bool

    varies = True

    @property
    def checked(self) -> tuple[Value, ...]:
        return self.low, self.high

    def __str__(self) -> str:
        return f"{self.low}..{self.high}"


Choice = Values | Range


class Space:
    """The choices on a command line, by option name, in the order of OPTIONS.

    words: what each option was given, by its name; None if it was not given.
    Raises ArgumentError for an invalid value or range, or a combination that makes no sense.
    """

    def __init__(self, words: Mapping[str, Sequence[str] | None]) -> None:
        self.choices: dict[str, Choice] = {}
        for option in OPTIONS:
            given = words.get(option.name)
            if given is not None:
                self.choices[option.name] = _choice(option, given)
        self._check_layers()
        examples = list(itertools.islice(self._examples(), MOST_COMBINATIONS))
        for name in self.choices:
            if not any(name in example for example in examples):
                needs = [_need(name, example) for example in examples]
                raise ArgumentError(f"{NAMED[name].flag}: expected with {next(filter(None, needs))}")

    @property
    def varied(self) -> list[str]:
        return [name for name, choice in self.choices.items() if choice.varies]

    @property
    def ranges(self) -> list[str]:
        return [name for name, choice in self.choices.items() if isinstance(choice, Range)]

    @property
    def described(self) -> dict[str, str]:
        """Every option, by its flag, with its values as on a command line; empty if the default depends on others."""
        texts = {}
        for option in OPTIONS:
            default = Values((as_value(option.default),)) if option.default is not None else ""
            texts[option.flag] = str(self.choices.get(option.name, default))
        return texts

    def pick(self, pick: Callable[[str, Choice], Value]) -> Configuration:
        """A configuration. pick: takes the name of an option that varies and its choice, and returns one value."""
        picked: Configuration = {}
        for name, choice in self.choices.items():
            if _need(name, picked) is None:
                fixed = isinstance(choice, Values) and not choice.varies
                picked[name] = choice.checked[0] if fixed else pick(name, choice)
        return picked

    def combinations(self) -> list[Configuration]:
        """Every combination of the values, in order. Raises ArgumentError if there are ranges, or too many."""
        if self.ranges:
            option, choice = NAMED[self.ranges[0]], self.choices[self.ranges[0]]
            raise ArgumentError(
                f"{option.flag}: {choice} is a range, which has no combinations; give values, or --trials N"
            )
        found = list(itertools.islice(_combined(list(self.choices.items()), {}), MOST_COMBINATIONS + 1))
        if len(found) > MOST_COMBINATIONS:
            raise ArgumentError(
                f"more than {MOST_COMBINATIONS:,} combinations; give fewer values, or --trials N to search among them"
            )
        return found

    def check(self, check: Callable[[Configuration], object]) -> None:
        """Call `check` with configurations that contain every value, and both ends of every range, at least once."""
        for configuration in self._examples() if self.ranges else self.combinations():
            check(configuration)

    def text(self, configuration: Configuration) -> str:
        """What distinguishes a configuration, in words."""
        names = [name for name in self.varied if name in configuration]
        return ", ".join(f"{title(name)} {shown_value(configuration[name])}" for name in names) or "as given"

    def _check_layers(self) -> None:
        layers, hidden = self.choices.get("layers"), self.choices.get("hidden")
        if layers is None:
            return
        if hidden is None:
            raise ArgumentError("--layers: expected with --hidden, the width of each layer")
        if any(isinstance(value, str) for value in hidden.checked):
            raise ArgumentError(f"--hidden: expected one width with --layers, for each of the layers; got {hidden}")

    def _examples(self) -> Iterator[Configuration]:
        """Configurations that contain every value, and both ends of every range, with each optimizer."""
        optimizers = self.choices.get("optimizer", Values((NAMED["optimizer"].default,)))
        for optimizer in optimizers.checked:
            for name, choice in self.choices.items():
                for value in choice.checked:
                    fixed = {"optimizer": optimizer, name: value}

                    def pick(other: str, its: Choice, fixed: Configuration = fixed) -> Value:
                        return fixed.get(other, its.checked[-1])

                    yield self.pick(pick)


def options_of(configuration: Configuration, seed: int, device: str, engine: str) -> argparse.Namespace:
    """The options that `gpunet train` would have parsed."""
    options = argparse.Namespace(**training_options.defaults(), device=device, engine=engine)
    for name, value in configuration.items():
        if name != LAYERS.name:
            setattr(options, name, value)
    if "hidden" in configuration:
        options.hidden = _widths(configuration["hidden"], int(configuration.get(LAYERS.name, 1)))
    options.seed = seed
    return options


def command_of(configuration: Configuration, seed: int) -> str:
    """The command line that trains the configuration, without data and files."""
    options = options_of(configuration, seed, "auto", "auto")
    defaults = training_options.defaults()
    words: list[str] = []
    for option in training_options.OPTIONS:
        value = getattr(options, option.name)
        if value != defaults[option.name]:
            words += [part for given in option.words(value) for part in given.split("=")]
    return " ".join(["gpunet train", *words])


def title(name: str) -> str:
    return name.replace("_", " ")


def word(value: Value) -> str:
    """A value as on a command line."""
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def shown_value(value: Value) -> str:
    """A value for people."""
    return f"{value:.4g}" if isinstance(value, float) else word(value)


def as_value(value: Any) -> Value:
    """The value of an option of `gpunet train`, in the form that configurations use."""
    if isinstance(value, list):
        return value[0] if len(value) == 1 else ",".join(map(str, value)) or NO_LAYERS
    plain: Value = value
    return plain


# Words


def _choice(option: Option, words: Sequence[str]) -> Choice:
    if not words:
        if option.action == "store_true":
            return Values((True,))
        if option.name == "hidden":
            return Values((NO_LAYERS,))
        raise ArgumentError(f"{option.flag}: expected a value, several, or a range a..b")
    if any(".." in each for each in words):
        if len(words) > 1:
            raise ArgumentError(f"{option.flag}: expected one range, or values; got {' '.join(words)}")
        return _range(option, words[0])
    values = tuple(_value(option, each) for each in words)
    for number, value in enumerate(values):
        if value in values[:number]:
            raise ArgumentError(f"{option.flag}: {words[number]} is given twice")
    return Values(values)


def _range(option: Option, text: str) -> Range:
    if option.spread is None:
        raise ArgumentError(f"{option.flag}: {text}: only numbers have ranges; give values, separated by spaces")
    low, high = (_value(option, part) if part else None for part in text.split("..", 1))
    if not isinstance(low, int | float) or not isinstance(high, int | float):
        raise ArgumentError(f"{option.flag}: expected a range a..b, got {shown(text)}")
    if low > high:
        raise ArgumentError(f"{option.flag}: the ends of {text} are swapped; expected {high}..{low}")
    if not low < high:
        raise ArgumentError(f"{option.flag}: expected a range a..b of more than one number, got {shown(text)}")
    logarithmic = option.spread == LOGARITHMICALLY
    if logarithmic and low <= 0:
        raise ArgumentError(f"{option.flag}: {text} is spread logarithmically; expected a range that begins above 0")
    return Range(low, high, logarithmic)


def _value(option: Option, text: str) -> Value:
    if option.action == "store_true":
        if text not in ("yes", "no"):
            raise ArgumentError(f"{option.flag}: expected yes or no, got {shown(text)}")
        return text == "yes"
    if option.choices is not None:
        if text not in option.choices:
            raise ArgumentError(f"{option.flag}: expected one of {', '.join(option.choices)}; got {shown(text)}")
        return text
    assert option.type is not None
    try:
        if option.name == "hidden":
            parts = [] if text == NO_LAYERS else text.split(",")
            return as_value([option.type(part) for part in parts])
        return as_value(option.type(text))
    except argparse.ArgumentTypeError as error:
        raise ArgumentError(f"{option.flag}: {error}") from None
    except ValueError:
        raise ArgumentError(f"{option.flag}: expected a number, got {shown(text)}") from None


def _widths(hidden: Value, layers: int) -> list[int]:
    if isinstance(hidden, str):
        return [] if hidden == NO_LAYERS else [int(width) for width in hidden.split(",")]
    return [int(hidden)] * layers


# Combinations


def _need(name: str, configuration: Configuration) -> str | None:
    """What the option needs to have an effect, if the configuration so far lacks it; None if it has an effect."""
    owners = training_options.owners_of(name)
    if owners and configuration.get("optimizer", NAMED["optimizer"].default) not in owners:
        return f"--optimizer {' or '.join(owners)}"
    if name == "nesterov" and not configuration.get("momentum"):
        return "--momentum above 0"
    if name in OF_HIDDEN_LAYERS and configuration.get("hidden") == NO_LAYERS:
        return "hidden layers"
    return None


def _combined(rest: list[tuple[str, Choice]], picked: Configuration) -> Iterator[Configuration]:
    if not rest:
        yield picked
        return
    (name, choice), *others = rest
    if _need(name, picked) is not None:
        yield from _combined(others, picked)
        return
    for value in choice.checked:
        yield from _combined(others, {**picked, name: value})
