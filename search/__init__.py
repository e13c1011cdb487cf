"""Searches for networks: NCP, Aux-NAS, the baselines, and the harness that compares them.

`ncp` finds a code in a second by a predictor's gradients; `make` and `run` give the searches that ask an
objective code by code; `compare` runs many of them over tasks and seeds.
"""

from __future__ import annotations

# Functions that share their module's name: imported here, so that the module never hides the function. None
# of these modules loads torch, pandas or matplotlib.
from nasbench_mr.search.auxnas.choice import rank_auxiliary
from nasbench_mr.search.auxnas.config import AuxConfig
from nasbench_mr.search.auxnas.result import AuxResult
from nasbench_mr.search.auxnas.run import aux_nas
from nasbench_mr.search.base import Searcher, Trace, make, names, run
from nasbench_mr.search.compare import compare
from nasbench_mr.search.comparison import Comparison
from nasbench_mr.search.ncp import NCPResult, ncp, transfer
from nasbench_mr.search.simulation import Simulation, simulate

__all__ = [
    "AuxConfig",
    "AuxResult",
    "Comparison",
    "NCPResult",
    "Searcher",
    "Simulation",
    "Trace",
    "aux_nas",
    "compare",
    "make",
    "names",
    "ncp",
    "rank_auxiliary",
    "run",
    "simulate",
    "transfer",
]
