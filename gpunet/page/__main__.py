"""`python -m gpunet.page`."""

import sys

from gpunet.page.command import main

sys.exit(main())
