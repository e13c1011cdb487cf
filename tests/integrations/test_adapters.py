"""The adapters: what a tuner sees is what the tables say. Each runs where its package is installed."""

from __future__ import annotations

import configparser
import importlib
import json
import re
import sys
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import nasbench_mr
from nasbench_mr import cost, nasbench201, release, search, space, table, tasks
from nasbench_mr.benchmark import Benchmark
from nasbench_mr.domain import Domain
from nasbench_mr.errors import (
    CodeNotFoundError,
    InvalidArgumentError,
    MissingExtraError,
    NotFittedError,
    OutOfSpaceError,
    ReleaseError,
    UnknownMetricError,
)
from nasbench_mr.grid import Grid
from nasbench_mr.integrations import naslib, syne_tune
from nasbench_mr.integrations.target import Target, dimensions, nearest
from nasbench_mr.objective import Objective

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def mini() -> Benchmark:
    return nasbench_mr.load("mini")


@pytest.fixture
def where(mini: Benchmark) -> Objective:
    """Return mini-seg: 230 codes, learning curves at epochs 2, 4, ..., 12."""
    made = Objective.table(mini, "mini-seg")
    assert made.epochs == (2, 4, 6, 8, 10, 12)
    return made


@pytest.fixture
def cells(known_release: Path) -> Objective:
    return Objective.table(nasbench_mr.load(known_release), "nas-bench-201")


@pytest.fixture
def front(mini: Benchmark) -> Objective:
    """Return a front of two objectives, each from 0 to 1."""
    return Objective.table(mini, ("mini-seg", "macs"), front=True)


def named(code: object) -> dict[str, int]:
    return dict(zip(space.NAMES, np.asarray(code).tolist(), strict=True))


# --- What all share -----------------------------------------------------------------------------------


def test_dimensions_are_those_of_the_space(where: Objective, cells: Objective) -> None:
    found = {name: values for name, values, choice in dimensions(where.domain) if not choice}
    assert list(found) == list(space.NAMES)
    assert (found["b1"], found["o1"]) == (range(1, 5), range(8, 129, 8))
    assert [*dimensions(Domain(fixed={"b1": 3}))][2] == ("b1", range(3, 4), False)
    assert [(values, choice) for _, values, choice in dimensions(cells.domain)] == [(range(5), True)] * 6


def test_the_nearest_code_is_asked_for(where: Objective) -> None:
    codes = where.domain.codes
    assert codes is not None
    tabulated = tuple(codes[7].tolist())
    assert nearest(where.domain, named(tabulated)) == tabulated
    # One step off in one channel, and that neighbour is in no table.
    moved = list(tabulated)
    k = space.NAMES.index("c4_4")
    moved[k] += 8 if moved[k] < 128 else -8
    assert tuple(moved) not in set(map(tuple, codes.tolist()))
    assert nearest(where.domain, {**named(moved), "unrelated": 3}) == tabulated
    with pytest.raises(OutOfSpaceError, match="c4_4"):
        nearest(where.domain, {**named(tabulated), "c4_4": 9})


def test_objectives_of_a_target_share_their_codes(mini: Benchmark, where: Objective) -> None:
    limited = Objective.table(mini, "mini-seg", max_macs=2e8)
    with pytest.raises(InvalidArgumentError, match="different domains"):
        Target([where, limited])
    with pytest.raises(InvalidArgumentError, match="at least one"):
        Target([])
    both = Target([where, Objective.table(mini, "mini-video")])
    code = mini.codes("mini-seg")[0]
    assert both.values(code) == [
        mini.query(code, "mini-seg")["mIoU"], mini.query(code, "mini-video")["top1"]
    ]  # fmt: skip
    with pytest.raises(InvalidArgumentError, match="followed for one objective; got 2"):
        _ = both.curve


def test_a_front_is_as_many_values_as_it_has_terms(front: Objective) -> None:
    assert front.domain.codes is not None
    target = Target([front])
    assert target.size == 2
    assert (
        target.values(front.domain.codes[3].tolist()) == front.evaluate(front.domain.codes[3:4])[0].tolist()
    )
    with pytest.raises(InvalidArgumentError, match="followed for one objective; got 2"):
        _ = target.curve


def test_a_training_that_is_stopped_counts_as_its_share(mini: Benchmark, where: Objective) -> None:
    code, target = mini.codes("mini-seg")[0], Target([where])
    points = dict(target.points(code))
    assert list(points) == [2, 4, 6, 8, 10]
    assert where.evaluations == 0
    assert points[4] == mini.query(code, "mini-seg", epoch=4)["mIoU"]
    assert target.stop(code, 4) == points[4]
    assert where.evaluations == pytest.approx(4 / 12)
    target.values(code)
    assert where.evaluations == pytest.approx(4 / 12 + 1)


# --- Optuna -------------------------------------------------------------------------------------------


@pytest.fixture
def optuna() -> Any:
    found = pytest.importorskip("optuna")
    found.logging.set_verbosity(found.logging.WARNING)
    return found


def test_optuna_maximises_an_objective(optuna: Any, mini: Benchmark, where: Objective) -> None:
    from nasbench_mr.integrations import optuna as adapter

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(adapter.objective(where), n_trials=5)
    assert where.evaluations == 5
    for trial in study.trials:
        assert space.parse(trial.params)
        assert set(trial.params) == set(space.NAMES)
        assert trial.value == mini.query(trial.user_attrs["code"], "mini-seg", source="table")["mIoU"]


def test_optuna_prunes_by_the_learning_curve(optuna: Any, mini: Benchmark, where: Objective) -> None:
    from nasbench_mr.integrations import optuna as adapter

    # Nothing reaches 25% by epoch 4, or everything does.
    for least, state, evaluations in ((101.0, "PRUNED", 4 / 12), (-1.0, "COMPLETE", 1.0)):
        where.evaluations = 0.0
        pruner = optuna.pruners.ThresholdPruner(lower=least, n_warmup_steps=4)
        study = optuna.create_study(direction="maximize", pruner=pruner)
        study.optimize(adapter.objective(where, prune=True), n_trials=1)
        (trial,) = study.trials
        assert trial.state.name == state
        assert where.evaluations == pytest.approx(evaluations)
        code = trial.user_attrs["code"]
        assert trial.intermediate_values[2] == pytest.approx(mini.query(code, "mini-seg", epoch=2)["mIoU"])
    with pytest.raises(InvalidArgumentError, match="no learning curves"):
        adapter.objective(Objective.surrogate(mini, "mini-seg"), prune=True)


def test_optuna_takes_several_objectives(optuna: Any, mini: Benchmark, where: Objective) -> None:
    from nasbench_mr.integrations import optuna as adapter

    study = optuna.create_study(directions=["maximize"] * 2)
    study.optimize(adapter.objective(where, Objective.table(mini, "mini-cls")), n_trials=3)
    for trial in study.trials:
        code = trial.user_attrs["code"]
        assert trial.values == [mini.query(code, "mini-seg")["mIoU"], mini.query(code, "mini-cls")["top1"]]


def test_optuna_takes_a_front(optuna: Any, front: Objective) -> None:
    from nasbench_mr.integrations import optuna as adapter

    study = optuna.create_study(directions=["maximize"] * 2)
    study.optimize(adapter.objective(front), n_trials=2)
    for trial in study.trials:
        assert trial.values == front.evaluate(np.array([trial.user_attrs["code"]]))[0].tolist()
    trace = search.run(search.make("nsga2", front, seed=0), front, budget=5)
    told = adapter.to_study(trace, front.domain)
    assert [trial.values for trial in told.trials] == trace.values.tolist()
    assert [each.name for each in told.directions] == ["MAXIMIZE"] * 2
    assert len(told.best_trials) == len(trace.front)


def test_optuna_minimises_no_quality(optuna: Any, where: Objective, front: Objective) -> None:
    from nasbench_mr.integrations import optuna as adapter

    with pytest.raises(InvalidArgumentError, match=r"\['minimize'\].*create_study\(direction='maximize'\)"):
        optuna.create_study().optimize(adapter.objective(where), n_trials=1)
    words = r"\['maximize'\]; expected 2 times .*create_study\(directions=\['maximize', 'maximize'\]\)"
    with pytest.raises(InvalidArgumentError, match=words):
        optuna.create_study(direction="maximize").optimize(adapter.objective(front), n_trials=1)
    assert where.evaluations == front.evaluations == 0
    # A trial of no study has no direction.
    assert where.domain.codes is not None
    fixed = optuna.trial.FixedTrial(named(where.domain.codes[0]))
    assert adapter.objective(where)(fixed) == where.evaluate(where.domain.codes[:1])[0]


def test_optuna_suggests_operations_as_categories(optuna: Any, cells: Objective) -> None:
    from nasbench_mr.integrations import optuna as adapter

    study = optuna.create_study(direction="maximize")
    study.optimize(adapter.objective(cells), n_trials=2)
    for trial in study.trials:
        # Known: 10 + 6 times the number of 3x3 convolutions, operation 4.
        assert trial.value == 10 + 6 * list(trial.params.values()).count(4)
        assert tuple(trial.params) == nasbench201.NAMES


def test_a_trace_is_a_study(optuna: Any, where: Objective) -> None:
    from nasbench_mr.integrations import optuna as adapter

    trace = search.run(search.make("halving", where, seed=0), where, budget=6)
    study = adapter.to_study(trace, where.domain, study_name="halving")
    assert study.study_name == "halving"
    assert study.best_value == trace.best_value
    assert tuple(study.best_trial.user_attrs["code"]) == trace.best_code
    full = {tuple(code) for code in trace.codes[trace.fidelity == 0].tolist()}
    assert {t.state.name for t in study.trials} == {"COMPLETE", "PRUNED"}
    assert sum(t.state.name == "COMPLETE" for t in study.trials) == len(full)
    assert len(study.trials) == len({tuple(code) for code in trace.codes.tolist()})
    row = int(np.flatnonzero(trace.fidelity)[0])
    assert study.trials[0].intermediate_values[int(trace.fidelity[row])] == trace.values[row]
    with pytest.raises(InvalidArgumentError, match="leave the direction out"):
        adapter.to_study(trace, where.domain, direction="minimize")


# --- Syne Tune ----------------------------------------------------------------------------------------


def test_a_blackbox_is_written_as_syne_tune_lays_it_out(mini: Benchmark, tmp_path: Path) -> None:
    folder = syne_tune.export_blackbox(mini, "mini-seg", tmp_path / "mini-seg")
    assert {path.name for path in folder.iterdir()} == {
        "configspace.json", "fidelityspace.json", "fidelities_values.npy", "hyperparameters.parquet",
        "objectives_evaluations.npy", "metadata.json",
    }  # fmt: skip
    metadata = json.loads((folder / "metadata.json").read_text())
    names = metadata["objectives_names"]
    assert metadata["task_names"] == ["mini-seg"]
    assert metadata["elapsed_time_unit"] == "seconds"
    assert names == [
        "metric_mIoU", "metric_mAcc", "metric_aAcc", "metric_macs", "metric_params", "metric_elapsed_time"
    ]  # fmt: skip
    values = np.load(folder / "objectives_evaluations.npy")
    epochs = np.load(folder / "fidelities_values.npy")
    codes = mini.codes("mini-seg")
    assert values.shape == (1, len(codes), 1, 6, 6)
    assert epochs.tolist() == [2, 4, 6, 8, 10, 12]
    at = mini.query(codes[3], "mini-seg", epoch=4)
    assert values[0, 3, 0, 1, :3] == pytest.approx([at["mIoU"], at["mAcc"], at["aAcc"]])
    end = mini.query(codes[3], "mini-seg")
    assert values[0, 3, 0, 5, 0] == pytest.approx(end["mIoU"])
    assert values[0, 3, 0, 5, 3:] == pytest.approx([end["macs"], end["params"], end["train_seconds"]])
    assert values[0, 3, 0, 1, 5] == pytest.approx(at["seconds"])  # to epoch 4
    with pytest.raises(ReleaseError, match="is there already"):
        syne_tune.export_blackbox(mini, "mini-seg", folder)


def test_epochs_that_are_advertised_are_known(mini: Benchmark, tmp_path: Path) -> None:
    folder = syne_tune.export_blackbox(mini, "mini-seg", tmp_path / "mini-seg")
    (epochs,) = json.loads((folder / "fidelityspace.json").read_text()).values()
    assert epochs["domain_cls"] == "FiniteRange"
    assert [epochs["domain_kwargs"][name] for name in ("lower", "upper", "size")] == [
        2,
        12,
        6,
    ]  # 2, 4, ..., 12
    # Unequal steps have no range; what is between them is refused when it is asked for.
    for uneven in ([1], [1, 2, 3], [1, 2, 10]):
        (told,) = syne_tune._fidelities(uneven).values()
        assert (told["domain_cls"], told["domain_kwargs"]) == ("Integer", {"lower": 1, "upper": uneven[-1]})


def test_a_blackbox_names_the_epochs_it_knows(mini: Benchmark) -> None:
    pytest.importorskip("syne_tune.blackbox_repository.blackbox_tabular")
    blackbox = syne_tune.to_blackbox(mini, "mini-seg")
    known = set(blackbox.fidelity_values.tolist())
    assert {blackbox.fidelity_space["epoch"].sample() for _ in range(300)} == known == {2, 4, 6, 8, 10, 12}
    code = mini.codes("mini-seg")[0]
    for fidelity in ({"epoch": 1}, 1):
        with pytest.raises(
            CodeNotFoundError, match="epoch is 1; expected one of 2, 4, 6, 8, 10, 12, at which 'mini-seg'"
        ):
            blackbox.objective_function(named(code), fidelity=fidelity)
    at = blackbox.objective_function(named(code), fidelity={"epoch": 4})
    assert at["metric_mIoU"] == pytest.approx(mini.query(code, "mini-seg", epoch=4)["mIoU"])
    assert blackbox.objective_function(named(code)).shape == (6, 6)


def test_a_folder_has_tasks_of_one_kind(mini: Benchmark, known_release: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="'mini-seg' and 'mini-video' have different"):
        syne_tune.export_blackbox(mini, ["mini-seg", "mini-video"], tmp_path / "two")
    assert not (tmp_path / "two").exists()
    with pytest.raises(InvalidArgumentError, match=r"tasks are \[\]; expected at least one of mini-cls, "):
        syne_tune.export_blackbox(mini, [], tmp_path / "none")
    # Without curves there is one fidelity, and time is in GMACs where no one knows the seconds.
    known = nasbench_mr.load(known_release)
    folder = syne_tune.export_blackbox(known, ("seg",), tmp_path / "one")
    assert np.load(folder / "fidelities_values.npy").tolist() == [1]
    assert json.loads((folder / "metadata.json").read_text())["elapsed_time_unit"] == "GMACs"
    values = np.load(folder / "objectives_evaluations.npy")[0, :, 0, 0, -1]
    assert values == pytest.approx(cost.macs(known.codes("seg")) / 1e9)


def test_syne_tune_reads_what_was_written(mini: Benchmark, tmp_path: Path) -> None:
    tabular = pytest.importorskip("syne_tune.blackbox_repository.blackbox_tabular")
    pytest.importorskip("fastparquet")
    from syne_tune.config_space import config_space_to_json_dict

    folder = syne_tune.export_blackbox(mini, "mini-seg", tmp_path / "blackbox")
    (read,) = tabular.deserialize(folder).values()
    code = mini.codes("mini-seg")[0]
    found = read.objective_function(named(code), fidelity={"epoch": 12}, seed=0)
    assert found["metric_mIoU"] == pytest.approx(mini.query(code, "mini-seg")["mIoU"])
    # As Syne Tune itself writes them.
    assert json.loads((folder / "configspace.json").read_text()) == config_space_to_json_dict(
        read.configuration_space
    )


def test_syne_tune_simulates_asha(mini: Benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("syne_tune.blackbox_repository.simulated_tabular_backend")
    monkeypatch.setenv("SYNETUNE_FOLDER", str(tmp_path))
    from syne_tune import StoppingCriterion, Tuner
    from syne_tune.backend.simulator_backend.simulator_callback import SimulatorCallback
    from syne_tune.blackbox_repository.simulated_tabular_backend import UserBlackboxBackend
    from syne_tune.optimizer.baselines import ASHA

    blackbox = syne_tune.to_blackbox(mini, "mini-seg")
    backend = UserBlackboxBackend(blackbox, elapsed_time_attr=syne_tune.ELAPSED)
    scheduler = ASHA(
        blackbox.configuration_space, metric="metric_mIoU", time_attr=syne_tune.EPOCH, max_t=12,
        do_minimize=False, random_seed=0,
    )  # fmt: skip
    callback = SimulatorCallback()
    tuner = Tuner(
        trial_backend=backend, scheduler=scheduler, n_workers=4, sleep_time=0, save_tuner=False,
        stop_criterion=StoppingCriterion(max_num_trials_finished=20), callbacks=[callback],
    )  # fmt: skip
    tuner.run()
    rows = callback.results  # a row for each report of each trial
    # Some are stopped at once, some run to the end.
    last = {row["trial_id"]: row for row in rows}
    assert {2, 12} <= {row["epoch"] for row in last.values()}
    domain = Objective.table(mini, "mini-seg").domain
    for row in rows:
        config = {name: row[f"config_{name}"] for name in space.NAMES}
        found = mini.query(nearest(domain, config), "mini-seg", epoch=int(row["epoch"]))
        assert row["metric_mIoU"] == pytest.approx(found["mIoU"])


# --- ConfigSpace and SMAC3 ----------------------------------------------------------------------------


def test_configspace_has_every_dimension(mini: Benchmark, where: Objective, cells: Objective) -> None:
    ConfigSpace = pytest.importorskip("ConfigSpace")
    from nasbench_mr.integrations import smac as adapter

    made = adapter.configspace(where.domain, seed=0)
    assert dict(made) == dict(space.configspace())
    assert adapter.code(where, made.sample_configuration()) in set(map(tuple, where.domain.codes))  # type: ignore[arg-type]
    held = Objective.surrogate(mini, "mini-seg", fixed={"i1": 16})
    assert isinstance(adapter.configspace(held.domain)["i1"], ConfigSpace.Constant)
    assert isinstance(adapter.configspace(cells.domain)["op01"], ConfigSpace.CategoricalHyperparameter)


def test_a_budget_is_an_epoch(mini: Benchmark, where: Objective, front: Objective) -> None:
    pytest.importorskip("ConfigSpace")
    from nasbench_mr.integrations import smac as adapter

    function, config = adapter.target(where, budgets=True), named(mini.codes("mini-seg")[0])
    end, fourth = (mini.query(config, "mini-seg", epoch=epoch)["mIoU"] for epoch in (12, 4))
    assert function(config, seed=0, budget=4.4) == -fourth
    assert where.evaluations == pytest.approx(4 / 12)
    assert function(config) == function(config, budget=12) == pytest.approx(-end)
    assert where.evaluations == pytest.approx(4 / 12 + 2)
    with pytest.raises(InvalidArgumentError, match="no learning curves"):
        adapter.target(Objective.surrogate(mini, "mini-seg"), budgets=True)
    with pytest.raises(InvalidArgumentError, match=r"one value, and the objective is a front of 2; .*Optuna"):
        adapter.target(front)


def test_smac_runs_with_fidelities(where: Objective, tmp_path: Path) -> None:
    smac = pytest.importorskip("smac")
    from nasbench_mr.integrations import smac as adapter

    scenario = adapter.scenario(where, n_trials=12, seed=0, output_directory=tmp_path)
    assert (scenario.min_budget, scenario.max_budget) == (2, 12)
    target = adapter.target(where, budgets=True)
    facade = smac.MultiFidelityFacade(scenario, target, logging_level=40)
    code = adapter.code(where, facade.optimize())
    assert code in set(map(tuple, where.domain.codes.tolist()))  # type: ignore[union-attr]
    # 12 trainings, most of them short.
    assert 12 / 6 <= where.evaluations < 8


# --- BoTorch ------------------------------------------------------------------------------------------


def test_a_problem_of_botorch(mini: Benchmark, where: Objective, cells: Objective, front: Objective) -> None:
    pytest.importorskip("botorch")
    import torch

    from nasbench_mr.integrations import botorch as adapter

    problem = adapter.Problem(where)
    codes = mini.codes("mini-seg")
    assert problem.choices.shape == (230, 27)
    assert torch.equal(problem.points(codes), problem.choices)
    assert torch.equal(problem.points([space.LOWER, space.UPPER]), problem.bounds)
    values = problem(problem.choices[:3].reshape(3, 27))
    assert values.tolist() == mini.query_many(codes[:3], "mini-seg")["mIoU"].tolist()
    # A point off the grid is the nearest code's.
    assert (problem.codes((problem.choices[:5] + 1e-3).clamp(0, 1)) == codes[:5]).all()
    two = adapter.Problem(where, Objective.table(mini, "mini-video"))
    assert two(problem.choices[:4].reshape(2, 2, 27)).shape == (2, 2, 2)
    beside = adapter.Problem(front)
    assert beside(problem.choices[:3]).tolist() == front.evaluate(codes[:3]).tolist()
    # A model for each objective, near what it was told; what it asks is charged.
    asked = front.evaluations
    model = beside.model(beside.choices[:12])
    assert front.evaluations == asked + 12
    mean = model.posterior(beside.choices[:12]).mean.detach().numpy()
    assert mean.shape == (12, 2)
    assert np.corrcoef(mean.T, front.evaluate(codes[:12]).T)[[0, 1], [2, 3]].min() > 0.9
    for points in (torch.zeros(2, 5), torch.zeros(27, 2), torch.full((1, 27), torch.nan)):
        with pytest.raises(InvalidArgumentError, match=r"shape .*; expected \(n, 27\) finite numbers"):
            problem.codes(points)
    hot = adapter.Problem(cells)
    assert hot.dim == 30
    assert (hot.codes(hot.choices[:50]) == cells.domain.codes[:50]).all()
    assert hot(hot.points([[4, 4, 4, 0, 0, 0]])).tolist() == [28.0]
    with pytest.raises(InvalidArgumentError, match="whole space"):
        _ = adapter.Problem(Objective.surrogate(mini, "mini-seg")).choices


# --- Ray Tune -----------------------------------------------------------------------------------------


def test_ray_tune_sees_the_curve(
    mini: Benchmark,
    where: Objective,
    cells: Objective,
    front: Objective,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a worker does, without a cluster: `tune.report` is where it would tell Ray."""
    pytest.importorskip("ray.tune")
    from nasbench_mr.integrations import ray_tune as adapter

    told: list[dict[str, Any]] = []
    monkeypatch.setattr(adapter.tune, "report", told.append)
    assert set(adapter.param_space(where.domain)) == set(space.NAMES)
    config = {name: domain.sample() for name, domain in adapter.param_space(where.domain).items()}
    assert space.parse(config)
    operations = {name: domain.sample() for name, domain in adapter.param_space(cells.domain).items()}
    assert nasbench201.parse(operations)
    adapter.trainable(where)(config)
    code = told[-1]["code"]
    assert [row["epoch"] for row in told] == [2, 4, 6, 8, 10, 12]
    # Also where a scheduler stops it.
    assert all(row["code"] == code for row in told)
    assert [row["value"] for row in told] == pytest.approx(
        [mini.query(code, "mini-seg", epoch=epoch)["mIoU"] for epoch in where.epochs]
    )
    told.clear()
    adapter.trainable(where, Objective.table(mini, "mini-cls"))(config)
    assert told == [
        {
            "code": code,
            "value0": mini.query(code, "mini-seg")["mIoU"],
            "value1": mini.query(code, "mini-cls")["top1"],
        }
    ]
    told.clear()
    adapter.trainable(front)(config)
    values = front.evaluate(np.array([code]))[0]
    assert told == [{"code": code, "value0": values[0], "value1": values[1]}]


def test_ray_tune_reaches_every_value(where: Objective) -> None:
    """Integers with a step of 1 or 8, choices and a fixed value: the last value is drawn too."""
    pytest.importorskip("ray.tune")
    from nasbench_mr.integrations import ray_tune as adapter

    grid = Grid(
        "s", {"w": [0, 16, 32, 48], "op": ["a", "b"], "n": [1, 2]}, {"macs": "100 * w", "params": "1"}
    )
    for domain in (where.domain, Domain(grid, fixed={"n": 2})):
        drawn = adapter.param_space(domain)
        for name, values, _ in dimensions(domain):
            # The rarest, an end of 16 values, has 1 draw of 30: missed with (29/30)^1000 = 2e-15.
            assert {drawn[name].sample() for _ in range(1000)} == {*values}, name


# --- NASLib -------------------------------------------------------------------------------------------


def test_naslib_samples_mutates_and_asks(mini: Benchmark) -> None:
    whole = naslib.SearchSpace(mini, "mini-seg", seed=0)
    with pytest.raises(InvalidArgumentError, match="no architecture yet"):
        whole.query()
    arch, child = whole.clone(), whole.clone()
    arch.sample_random_architecture()
    assert arch.get_op_indices().shape == (80,)
    assert set(arch.get_hash()) == {0, 1}
    before = arch.get_hash()
    child.mutate(arch)
    assert arch.get_hash() == before
    assert int(np.abs(child.encode() - arch.encode().astype(int)).sum()) == 1
    around = arch.get_nbhd()
    assert {each.arch.code for each in around} == set(map(tuple, space.neighbors(arch.code).tolist()))
    again = naslib.SearchSpace(mini, "mini-seg", seed=0)
    again.sample_random_architecture()
    assert again.get_hash() == before


def test_naslib_queries_what_is_asked(mini: Benchmark) -> None:
    arch = naslib.SearchSpace(mini, "mini-seg")
    codes = mini.codes("mini-seg")
    assert len(arch.get_arch_iterator()) == len(codes)
    arch.set_spec(5)
    expected = mini.query(codes[5], "mini-seg")
    assert arch.query(SimpleNamespace(name="VAL_ACCURACY")) == arch.query("mIoU") == expected["mIoU"]
    assert arch.query("FLOPS") == expected["macs"] / 1e6
    assert arch.query("TRAIN_TIME") == expected["train_seconds"]
    assert arch.query(dataset="mini-cls") == mini.query(codes[5], "mini-cls")["top1"]
    seconds = arch.query("TRAIN_TIME", epoch=2)
    assert seconds == mini.query(codes[5], "mini-seg", epoch=2).seconds < expected["train_seconds"]
    curve = arch.query(full_lc=True)
    assert isinstance(curve, list)
    assert len(curve) == 6
    assert curve[1] == pytest.approx(arch.query(epoch=4))
    arch.set_spec(space.to_bits(codes[8:9])[0])
    assert arch.code == tuple(codes[8].tolist())
    with pytest.raises(UnknownMetricError, match="VAL_ACCURACY"):
        arch.query("VAL_ACURACY")
    for row in (230, 99999, -1):
        with pytest.raises(
            OutOfSpaceError, match=rf"'mini-seg' has no row {row}; expected one from 0 to 229"
        ):
            arch.set_spec(row)
    arch.sample_random_architecture(load_labeled=True)
    assert arch.code in set(map(tuple, codes.tolist()))


def test_a_blackbox_has_the_epochs_of_the_objective(tmp_path: Path) -> None:
    """Another metric, first or not, may have no learning curve: it is known at the end alone."""
    codes, metrics = space.sample(2, seed=0), (tasks.Metric("acc"), tasks.Metric("loss", direction="min"))
    for name, ordered in (("one", metrics), ("two", metrics[::-1])):
        own = tasks.Task(name, name, "", "unknown", ordered, "loss", cost="table")
        rows = {"codes": codes, "acc": [80.0, 70.0], "loss": [1.0, 2.0]}
        points = {"codes": codes[[0, 0, 1, 1]], "seed": [0] * 4, "epoch": [1, 2] * 2, "loss": [3.0, 1, 4, 2]}

        def fill(folder: Path, own: Any = own, rows: Any = rows, points: Any = points) -> None:
            table.write(folder / f"tables/{own.name}.parquet", own, rows)
            table.write_curves(folder / f"curves/{own.name}.parquet", own, points)

        made = release.create(fill, name, "1.0.0", [own], target=tmp_path / name)
        found = syne_tune._read(nasbench_mr.load(made.path), name)
        assert found.epochs == [1, 2]
        assert found.values[:, 0, :, found.names.index("metric_loss")].tolist() == [[3, 1], [4, 2]]
        at_first, at_last = found.values[:, 0, :, found.names.index("metric_acc")].T
        assert np.isnan(at_first).all()
        assert at_last.tolist() == [80, 70]


def test_naslib_maximises_accuracies(mini: Benchmark) -> None:
    """Of two codes, the one with the smaller error has the larger accuracy, at each epoch too."""
    arch = naslib.SearchSpace(mini, "mini-seg")
    arch.set_spec(5)
    tabulated, curve = arch.query("mIoU"), arch.query(full_lc=True)
    assert isinstance(tabulated, float)
    assert isinstance(curve, list)
    less = tuple(replace(each, direction="min") for each in arch.task.metrics)
    arch.task = replace(arch.task, metrics=less)
    assert arch.query() == arch.query("TEST_ACCURACY") == -tabulated < 0
    assert arch.query("VAL_ACCURACY", epoch=4) == -mini.query(arch.code, "mini-seg", epoch=4)["mIoU"]
    assert arch.query(full_lc=True) == [-value for value in curve]
    # By its own name it is what the table says; another task has its own direction.
    assert arch.query("mIoU") == tabulated
    assert arch.query("mIoU", full_lc=True) == curve
    assert arch.query(dataset="mini-cls") == mini.query(arch.code, "mini-cls")["top1"]


def test_naslib_has_curves_of_trials_that_ended_well(tmp_path: Path) -> None:
    """One of the code's two seeds diverged: the curve is the other's, as `query` has it."""
    own = tasks.Task("own", "own", "", "unknown", (tasks.Metric("acc"),), "acc", cost="table")
    codes = space.sample(2, seed=0)
    rows = {"codes": codes[[0, 0]], "seed": [0, 1], "acc": [80.0, None], "status": ["ok", "diverged"]}
    points = {"seed": [0, 0, 1, 1], "epoch": [1, 2, 1, 2], "acc": [60.0, 80.0, 10.0, 2.0]}

    def fill(folder: Path) -> None:
        table.write(folder / "tables/own.parquet", own, rows)
        table.write_curves(folder / "curves/own.parquet", own, {"codes": codes[[0] * 4], **points})

    made = release.create(fill, "own", "1.0.0", [own], target=tmp_path / "own")
    arch = naslib.SearchSpace(nasbench_mr.load(made.path), "own")
    arch.set_spec(codes[0])
    assert arch.query(full_lc=True) == [arch.query(epoch=1), arch.query()] == [60.0, 80.0]
    arch.set_spec(codes[1])
    with pytest.raises(CodeNotFoundError, match="'own' has no learning curve of"):
        arch.query(full_lc=True)


@pytest.mark.parametrize("name", ["FLOPS", "PARAMETERS", "TRAIN_TIME"])
def test_naslib_has_no_curves_of_costs(mini: Benchmark, name: str) -> None:
    arch = naslib.SearchSpace(mini, "mini-seg")
    arch.set_spec(5)
    words = f"{name!r} has no learning curve; expected VAL_ACCURACY or one of mIoU, mAcc, aAcc: leave full_lc"
    with pytest.raises(UnknownMetricError, match=words):
        arch.query(name, full_lc=True)


def test_naslib_is_about_the_27_integers(known_release: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="'nas-bench-201'"):
        naslib.SearchSpace(nasbench_mr.load(known_release), "nas-bench-201")


# --- scikit-learn -------------------------------------------------------------------------------------


def test_a_predictor_is_an_estimator(known_release: Path) -> None:
    pytest.importorskip("sklearn")
    from sklearn.base import clone
    from sklearn.model_selection import GridSearchCV, cross_val_score

    from nasbench_mr.integrations import sklearn as adapter

    bench = nasbench_mr.load(known_release)
    codes = bench.codes("seg")
    values = bench.query_many(codes, "seg")["mIoU"]
    made = adapter.Estimator("ridge", seed=1)
    with pytest.raises(NotFittedError):
        made.predict(codes)
    fitted = made.fit(codes, values)
    mean, std = fitted.predict(codes, return_std=True)
    assert mean.shape == std.shape == values.shape
    assert fitted.score(codes, values) > 0.9
    assert (mean == fitted.predictor_.predict(codes)[0][:, 0]).all()
    copy = clone(fitted)
    assert copy.get_params() == made.get_params()
    assert not hasattr(copy, "predictor_")
    # mIoU is linear in the integers, which a ridge ranks well.
    assert (
        cross_val_score(adapter.Estimator("ridge"), codes, values, scoring=adapter.KENDALL, cv=3).min() > 0.8
    )
    found = GridSearchCV(adapter.Estimator("ridge"), {"predictor": ["ridge"], "seed": [0, 1]}, cv=2)
    assert found.fit(codes, values).best_params_["predictor"] == "ridge"
    two = adapter.Estimator("ridge").fit(codes, np.stack([values, -values], axis=1))
    assert two.predict(codes).shape == (200, 2)


# --- Packages that are missing or too old ---------------------------------------------------------------

#: Adapter: the module whose import fails, what is asked of it, and the extra it names.
MISSING = {
    "optuna": ("optuna", None, "search"),
    "syne_tune": ("syne_tune", "to_blackbox", "syne-tune"),
    "smac": ("smac", "scenario", "smac"),
    "botorch": ("botorch", None, "botorch"),
    "ray_tune": ("ray", None, "cluster"),
    "sklearn": ("sklearn", None, "search"),
    "hub": ("huggingface_hub", None, "hub"),
}


@pytest.mark.parametrize("name", MISSING)
def test_a_missing_package_is_named(
    name: str, mini: Benchmark, where: Objective, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, function, extra = MISSING[name]
    if function == "scenario":
        pytest.importorskip("ConfigSpace")
    for module in [m for m in sys.modules if m == package or m.startswith(f"{package}.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"nasbench_mr.integrations.{name}", raising=False)
    with pytest.raises(MissingExtraError, match=rf"pip install 'nasbench-mr\[{extra}\]'"):
        use(name, mini, where)


@pytest.mark.parametrize("name", MISSING)
def test_a_package_that_is_too_old_is_named(
    name: str, mini: Benchmark, where: Objective, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, function, extra = MISSING[name]
    if function == "scenario":
        pytest.importorskip("ConfigSpace")
    known, asked = metadata.version, package.replace("_", "-")

    def version(distribution: str) -> str:
        old = distribution.replace("_", "-") in (asked, {"sklearn": "scikit-learn"}.get(asked))
        return "0.0.1" if old else known(distribution)

    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.delitem(sys.modules, f"nasbench_mr.integrations.{name}", raising=False)
    message = rf"or newer, and 0\.0\.1 is installed: pip install -U 'nasbench-mr\[{extra}\]'"
    with pytest.raises(MissingExtraError, match=message):
        use(name, mini, where)


def use(name: str, mini: Benchmark, where: Objective) -> None:
    """Import an adapter, and ask for what imports its package."""
    module = importlib.import_module(f"nasbench_mr.integrations.{name}")
    function = MISSING[name][1]
    getattr(module, function or "nothing")(*((mini, "mini-seg") if function == "to_blackbox" else (where, 3)))


def test_oldest_versions_are_those_of_the_extras() -> None:
    """What an adapter asks for is what `pip install nasbench-mr[EXTRA]` would install."""
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    asked = {}
    for path in (REPOSITORY / "nasbench_mr" / "integrations").glob("*.py"):
        pattern = r'requires\("([\w-]+)", "[^"]*", \{"([\w-]+)": "([\d.]+)"\}\)'
        for extra, name, version in re.findall(pattern, path.read_text(encoding="utf-8")):
            asked[extra, name] = version
    assert len(asked) == len(MISSING) + 1
    # Ray Tune needs packages that Ray alone does not install.
    assert "ray[tune]>=" in setup["options.extras_require"]["cluster"]
    for (extra, name), version in asked.items():
        line = re.escape(name) + r"(\[\w+\])?>=" + re.escape(version)
        assert re.search(rf"^{line}$", setup["options.extras_require"][extra], re.MULTILINE), (extra, name)
