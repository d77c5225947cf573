"""What the benchmarks share: workloads, measurements, processes, tables and figures."""
