"""Adapters to other tools, one module a tool, each optional; none is imported before it is used.

    optuna.py     suggest codes, optimise an objective, prune by learning curves, a `Trace` as a study
    syne_tune.py  a task as a blackbox for simulated runs, and as files of Syne Tune's repository
    smac.py       ConfigSpace's description of a domain, and SMAC3 with or without fidelities
    botorch.py    a domain as points of a cube, and an objective as a test problem
    ray_tune.py   a search space and a trainable that reports its learning curve
    naslib.py     what NASLib's optimisers ask of a search space; needs no NASLib
    sklearn.py    a predictor as an estimator
    hub.py        a network as a model of Hugging Face's hub

A tuner suggests any configuration of a space. Where an objective answers for a list of codes or under limits,
it is asked for the nearest code that may be asked for (`Target`). Values are as an objective gives them: the
larger the better.
"""

from __future__ import annotations
