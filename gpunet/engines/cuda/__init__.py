"""What the CUDA engines share: kernel sources, compiled modules, arrays on the device and launches."""
