"""`python -m dal`: the `dal` command."""

import sys

from dal.cli import main

sys.exit(main())
