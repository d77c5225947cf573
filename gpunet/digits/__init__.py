"""One's own digits: image files read, and brought into the form of MNIST's examples."""

from gpunet.digits.normalize import INKS, SIDE, normalize, read_digit

__all__ = ["INKS", "SIDE", "normalize", "read_digit"]
