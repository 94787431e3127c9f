"""`python -m asr`: the same as the command `asr`."""

import sys

from asr.cli.main import main

sys.exit(main())
