"""Workers of a build import their trainers from `fake_trainers` here, by name."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
