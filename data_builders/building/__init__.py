"""Many trials: the plan, where trials run, the output folder, and an objective that trains."""
