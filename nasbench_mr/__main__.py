"""`python -m nasbench_mr`: the command, for where its script is not on the path."""

import sys

from nasbench_mr.cli import main

if __name__ == "__main__":
    sys.exit(main())
