"""What the benchmarks share: the work, the measuring, processes, tables and figures."""
