"""Users' own digits: reads image files, and converts digits to the format of MNIST's examples."""

from gpunet.digits.normalize import INKS, SIDE, normalize, read_digit
from gpunet.digits.strokes import from_strokes

__all__ = ["INKS", "SIDE", "from_strokes", "normalize", "read_digit"]
