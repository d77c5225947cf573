"""`python -m gpunet.sweep`."""

import sys

from gpunet.sweep import main

sys.exit(main())
