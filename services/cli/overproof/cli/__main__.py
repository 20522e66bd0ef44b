"""`python -m overproof.cli`."""

import sys

from overproof.cli.main import main

sys.exit(main())
