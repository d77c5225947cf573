"""The stand-in for CuPy has CuPy's names and parameters, as far as the installed wheel shows them."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
from types import ModuleType
from typing import Any

import pytest

from standin import Computer
from standin.modules import make

if importlib.util.find_spec("cupy") is None:
    pytest.skip("CuPy is not installed", allow_module_level=True)

STANDIN = make(Computer())
# CuPy's "cpdef" functions show their parameters in the first line of their documentation.
TOLD = [
    *(("cupy_backends.cuda.api.driver", name) for name in ("funcGetAttribute", "funcSetAttribute")),
    *(
        ("cupy_backends.cuda.libs.nvrtc", name)
        for name in ("createProgram", "compileProgram", "getCUBIN", "getProgramLog", "destroyProgram")
    ),
]


def standin(module: str) -> ModuleType:
    parent, _, name = module.rpartition(".")
    return STANDIN[module] if module in STANDIN else getattr(STANDIN[parent], name)


def names(owner: Any) -> list[str]:
    return [name for name in vars(owner) if not name.startswith("_")]


MODULES = ("cupy", "cupy.cuda", "cupy_backends.cuda.api.runtime", *sorted({module for module, _ in TOLD}))


@pytest.mark.parametrize("module", [*MODULES, "cupy.cuda.function", "cupy.cuda.memory"])
def test_every_name_is_one_of_cupys(module: str) -> None:
    real = importlib.import_module(module)
    assert [name for name in names(standin(module)) if not hasattr(real, name)] == []


@pytest.mark.parametrize(("module", "name"), TOLD, ids=[name for _, name in TOLD])
def test_parameters_are_those_of_cupy_in_their_order(module: str, name: str) -> None:
    told = re.match(rf"{name}\((.*)\)", getattr(importlib.import_module(module), name).__doc__)
    assert told is not None
    expected = [parameter.split("=")[0].split()[-1] for parameter in told[1].split(", ")]
    assert list(inspect.signature(getattr(standin(module), name)).parameters) == expected
