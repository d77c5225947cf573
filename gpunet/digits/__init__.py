"""One's own digits: image files read, and brought into the form of MNIST's examples."""

from gpunet.digits.normalize import INKS, SIDE, normalize, read_digit
from gpunet.digits.strokes import from_strokes

__all__ = ["INKS", "SIDE", "from_strokes", "normalize", "read_digit"]
