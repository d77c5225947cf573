"""Compiles the compiled engine's functions for this processor, and caches the machine code on disk.

The cache (code_cache.py) holds object files, each after its checksum, in a folder of the user's own. A file's name
depends on everything that its code depends on. So another version, compiler or processor compiles for itself; the same
version, installed again, finds its code; and damaged code is compiled again.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import sys
import threading
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import config

from gpunet import code_cache
from gpunet.engines import dropout
from gpunet.engines.cpu.layout import Work
from gpunet.engines.cpu.vectors import FLOAT, I32, I64, Code, VectorFunction

PARAMETERS = {"F": FLOAT.as_pointer(), "N": I32.as_pointer(), "I": I64}

_addresses: dict[str, int] = {}  # of all functions that were compiled or loaded in this process
_compiling = threading.RLock()


def has(functions: Sequence[VectorFunction], loops: Sequence[str] = ()) -> bool:
    """Whether all of them have been compiled or loaded in this process."""
    return all(name in _addresses for name in [*(function.name for function in functions), *loops])


def address(function: VectorFunction) -> int:
    """The address of the function, to be called like a C function. Compiles it if necessary."""
    compile_all([function])
    return _addresses[function.name]


def compile_all(
    functions: Sequence[VectorFunction], loops: Sequence[str] = (), check: Callable[[], None] = lambda: None
) -> None:
    """Compile what is missing, or load it from the cache. Prints a line to stderr before it compiles anything.

    loops: names in loops.LOOPS.
    check: called before each function; may end this by raising.
    """
    if has(functions, loops):  # usual before an epoch, and needs no access to the disk
        return
    wanted: dict[str, Callable[[], str]] = {f.name: functools.partial(_vector_code, f) for f in functions}
    wanted.update((name, functools.partial(_loop_code, name)) for name in loops)
    with _compiling:
        folder = cache_folder()
        for name, write in wanted.items():
            if name in _addresses:
                continue
            check()
            place = folder and folder / f"{name}-{_key()}.o"
            code = code_cache.read(place) if place else None
            if code is None:
                _announce(folder)
                code = _machine_code(write())
                if place:
                    code_cache.write(place, code)
            _addresses[name] = _loaded(name, code)


def loop(name: str) -> Callable[[Work, int, int], None]:
    """A compiled loop, called with a thread's number and the number of threads. It runs without Python's lock.

    Numba's functions have two more parameters, for the result and for errors; ours have neither.
    """
    kinds = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64]
    function = ctypes.CFUNCTYPE(ctypes.c_int32, *kinds)(_addresses[name])

    def run(work: Work, thread: int, threads: int) -> None:
        result, error = ctypes.c_void_p(), ctypes.c_void_p()
        function(ctypes.addressof(result), ctypes.addressof(error), work.table.ctypes.data, thread, threads)

    return run


# From code to machine code


def _vector_code(function: VectorFunction) -> str:
    module = ir.Module(function.name)
    kinds = [PARAMETERS[letter] for letter in function.parameters]
    made = ir.Function(module, ir.FunctionType(ir.VoidType(), kinds), function.name)
    builder = ir.IRBuilder(made.append_basic_block())
    function.write(Code(builder), *made.args)
    builder.ret_void()
    return str(module)


def _loop_code(name: str) -> str:
    """LLVM code of a loop, under its plain name; Numba's name contains a version number of the process."""
    from gpunet.engines.cpu.loops import LOOP, LOOPS  # here, because it is needed only if the cache has nothing

    loop = LOOPS[name]
    loop.compile(LOOP)
    code = str(loop.inspect_llvm(LOOP))
    (made,) = [
        function.name
        for function in llvm.parse_assembly(code).functions
        if not function.is_declaration and function.linkage == llvm.Linkage.external
    ]
    return code.replace(made, name)


def _machine_code(code: str) -> bytes:
    return bytes(_target_machine().emit_object(llvm.parse_assembly(code)))


def _new_target_machine() -> Any:
    """A target machine for this processor, or for the one that Numba's settings name."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    name, features = _processor()
    triple = llvm.get_process_triple()
    relocation = "static" if triple.startswith("x86") else "default"
    return llvm.Target.from_triple(triple).create_target_machine(
        name, features, opt=3, reloc=relocation, codemodel="jitdefault", jit=True
    )


_target_machine = functools.cache(_new_target_machine)


def _processor() -> tuple[str, str]:
    """The processor's name and features, in LLVM's terms."""
    features = config.CPU_FEATURES
    return config.CPU_NAME or llvm.get_host_cpu_name(), (
        llvm.get_host_cpu_features().flatten() if features is None else features
    )


@functools.cache
def _engine() -> Any:
    """LLVM's memory for machine code; it lives until the process ends."""
    return llvm.create_mcjit_compiler(llvm.parse_assembly(""), _new_target_machine())


def _loaded(name: str, code: bytes) -> int:
    _engine().add_object_file(llvm.ObjectFileRef.from_data(code))
    _engine().finalize_object()
    return int(_engine().get_function_address(name))


# On disk


def cache_folder() -> Path | None:
    """Where machine code is cached: in NUMBA_CACHE_DIR, or else in the user's cache folder; None if it cannot be."""
    return code_cache.folder("loops", config.CACHE_DIR or None)


@functools.cache
def _key() -> str:
    """A hash of everything that machine code depends on."""
    parts = [*_processor(), llvm.get_process_triple(), version("numba"), version("llvmlite"), sys.version]
    files = [*sorted(Path(__file__).parent.glob("*.py")), Path(dropout.__file__)]
    sources = [source.read_bytes() for source in files]
    return hashlib.sha256(b"\0".join([*(part.encode() for part in parts), *sources])).hexdigest()[:16]


_announced = False


def _announce(folder: Path | None) -> None:
    """Say, once per process, that something is being compiled, and whether the next process has to do it again."""
    global _announced
    if not _announced:
        _announced = True
        until = (
            "kept for the next run" if folder else "each time, as it cannot be kept: name a folder in NUMBA_CACHE_DIR"
        )
        print(f"compiling for this processor, {until}", file=sys.stderr, flush=True)
