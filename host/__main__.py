"""Entry point of `python -m host`, and of `python FOLDER/host` from any other folder."""

import os
import sys

if not __package__:  # `python FOLDER/host` puts that folder first, where this package's own modules are, and not itself
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from host.cli import main

sys.exit(main())
