"""The engine for CPUs, whose loops Numba compiles. See docs/cpu.md."""
