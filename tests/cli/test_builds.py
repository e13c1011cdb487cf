import argparse
import json
import re
import shlex
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nasbench_mr import cli, cost, release, space
from nasbench_mr.cli.builds import BuildCommand
from nasbench_mr.data_builders.building import runner
from nasbench_mr.data_builders.training import recipes

CODES = runner.draw_codes(3)


def build(out: Path, *options: str, trainer: str = "noting") -> int:
    """Return the exit status of a build of mini-cls by a fake trainer."""
    common = ["--tasks", "mini-cls", "--out", str(out), "--data", str(out), "--workers", "2"]
    out.mkdir(exist_ok=True)
    return cli.main(["build", *common, "--trainer", f"fake_trainers:{trainer}", *options])


def test_a_build_says_what_it_did_and_a_second_one_that_there_is_nothing_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "codes.txt").write_text("\n".join(space.to_string(code) for code in CODES))
    command = ("--codes", str(tmp_path / "codes.txt"), "--seeds", "2", "--json")
    assert build(tmp_path, *command) == 0
    first = json.loads(capsys.readouterr().out)
    assert first["failures"] == []
    assert first["tasks"]["mini-cls"] == {
        "planned": 6, "before": 0, "ok": 6, "diverged": 0, "failed": 0,
        "seconds": pytest.approx(2 * (1 + cost.macs(CODES) / 1e9).sum()),
    }  # fmt: skip
    assert build(tmp_path, *command) == 0
    again = json.loads(capsys.readouterr().out)
    assert (again["tasks"]["mini-cls"]["before"], again["utilisation"]) == (6, None)
    assert len(pd.read_parquet(tmp_path / "tables/mini-cls.parquet")) == 6


def test_codes_are_drawn_as_asked(tmp_path: Path) -> None:
    assert (
        build(tmp_path, *["--codes", "2", "--scheme", "fine", "--code-seed", "5", "--max-macs", "150M"]) == 0
    )
    table = pd.read_parquet(tmp_path / "tables/mini-cls.parquet")
    drawn = runner.draw_codes(2, 5, "fine", 150e6)
    assert np.array_equal(np.sort(table[list(space.NAMES)], axis=0), np.sort(drawn, axis=0))


def test_failures_end_with_status_1_and_the_command_that_tries_them_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build(tmp_path, "--codes", "12", "--seeds", "2", "--retries", "0", trainer="faulty") == 1
    out = capsys.readouterr().out
    assert "mini-cls       24       0  12         0      12" in out
    assert out.count("failed: mini-cls, seed 1, code ") == 10
    assert "DatasetError: photo.jpg is not an image" in out
    assert "... and 2 more" in out
    assert "12 could not read their data: repair it first" in out
    # A fault of the data is not counted as an attempt, so the trials run again without more retries.
    again = out.partition("\nto try the 12 failed trials again: ")[2].splitlines()[0]
    assert again.startswith("nasbench-mr build --tasks mini-cls --out ")
    assert again.endswith("--codes 12 --seeds 2 --retries 0")


def test_those_that_failed_too_often_need_more_retries(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("--codes", "2", "--seeds", "2", "--retries", "0")
    assert build(tmp_path, *command, trainer="on_gpu") == 1
    out = capsys.readouterr().out
    again = out.partition(" failed trials again: ")[2].splitlines()[0]
    assert again.endswith(" --retries 0 --retries 1")
    # The command does what it says: it tries them once more, and they fail once more.
    assert cli.main(shlex.split(again)[1:]) == 1
    assert (
        capsys.readouterr()
        .out.partition(" failed trials again: ")[2]
        .splitlines()[0]
        .endswith(" --retries 1 --retries 2")
    )


def test_no_release_is_made_of_a_table_without_a_good_trial(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("--codes", "2", "--retries", "0", "--release", "mine@1.0.0")
    assert build(tmp_path, *command, trainer="hopeless") == 1
    out, err = capsys.readouterr()
    assert "failed: mini-cls, seed 0" in out
    assert "no release was made: no trial of 'mini-cls' succeeded" in err
    assert release.installed() == []


def test_a_taken_release_is_refused_before_anything_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ("--codes", "2", "--release", "mine@1.0.0")
    assert build(out, *command) == 0
    # Again, with nothing to train: the release is as it was.
    assert build(out, *command) == 0
    trained = (out / "trials").read_text()
    capsys.readouterr()
    assert build(out, "--codes", "3", "--release", "mine@1.0.0") == 2
    assert "mine@1.0.0 is installed already; choose another version" in capsys.readouterr().err
    assert (out / "trials").read_text() == trained


def test_those_that_found_no_space_need_no_more_retries(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build(tmp_path, "--codes", "2", "--seeds", "3", trainer="filling") == 1
    out = capsys.readouterr().out
    assert "4 found no space for their files: free some first" in out
    assert "to try the 4 failed trials again: nasbench-mr build " in out
    assert "--retries" not in out


def test_a_dry_run_trains_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert build(tmp_path, "--codes", "3", "--dry-run") == 0
    assert "nothing is timed yet" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
    build(tmp_path, "--codes", "2")
    capsys.readouterr()
    assert build(tmp_path, "--codes", "3", "--dry-run", "--json") == 0
    forecast = json.loads(capsys.readouterr().out)
    seconds = 1 + cost.macs(CODES[2:])[0] / 1e9
    assert (forecast["workers"], forecast["seconds"]) == (2, pytest.approx(seconds))
    assert forecast["tasks"][0]["to do"] == 1
    build(tmp_path, "--codes", "3", "--dry-run")
    assert f"about {runner.clock(seconds)} with 2 workers" in capsys.readouterr().out
    assert len((tmp_path / "trials").read_text().splitlines()) == 2


def test_a_dry_run_does_not_guess_the_size_of_a_cluster(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["build", "--tasks", "mini-cls", "--codes", "1", "--out", str(tmp_path), "--dry-run"]
    assert cli.main([*command, "--engine", "ray"]) == 2
    assert "--dry-run with --engine ray needs --workers N" in capsys.readouterr().err


def test_recipes_are_overridden_by_file_then_flags(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.toml").write_text("epochs = 7\nbatch_size = 8\n")
    changed = ("--recipe", str(tmp_path / "mine.toml"), "--set", "batch_size=16")
    assert build(tmp_path, "--codes", "1", *changed) == 0
    saved = recipes.from_dict(json.loads((tmp_path / "recipes/mini-cls.json").read_text()))
    assert (saved.epochs, saved.batch_size) == (7, 16)
    capsys.readouterr()
    assert build(tmp_path, "--codes", "1", "--set", "epochs=8") == 2
    assert (
        "another recipe for mini-cls: epochs 7 there, 8 here; batch_size 16 there" in capsys.readouterr().err
    )


def test_a_bad_version_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    assert build(tmp_path, "--codes", "1", "--release", "mine@x") == 2
    assert list(tmp_path.rglob("*.parquet")) == []


def test_a_release_at_the_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    about = tmp_path / "about.json"
    about.write_text('{"title": "My table", "license": "CC0-1.0"}')
    options = ("--codes", "3", "--release", "mine@1.0.0", "--about", str(about))
    assert build(tmp_path, *options) == 0
    assert "mine@1.0.0 in " in capsys.readouterr().out
    made = release.Release.open(release.find("mine"))
    assert made.about["title"] == "My table"
    assert build(tmp_path, *options, "--release-to", str(tmp_path / "there")) == 0
    assert release.Release.open(tmp_path / "there").files == made.files


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--codes", "1", "--release", "mine"), "'mine'; expected NAME@VERSION"),
        (("--codes", "1", "--release", "mine@x"), "release version 'x': expected MAJOR.MINOR.PATCH"),
        (("--codes", "nowhere.txt"), "can't read codes from nowhere.txt"),
        (("--codes", "some.txt", "--max-macs", "1G"), "'some.txt' names a file; --scheme, --code-seed and"),
        (("--codes", "1", "--set", "momentums=1"), "has no field 'momentums': did you mean 'momentum'?"),
        (("--codes", "1", "--engine", "slurm"), "no engine 'slurm'"),
        (("--codes", "1", "--seeds", "0"), "seeds is 0; expected an integer, at least 1"),
        (("--codes", "1", "--time-limit", "0"), "--time-limit is 0"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], message: str
) -> None:
    assert build(tmp_path, *options) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def fenced(language: str) -> list[str]:
    """Return the code blocks of docs/cluster.md in a language."""
    text = (Path(__file__).parents[2] / "docs/cluster.md").read_text("utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_the_builds_of_the_cluster_guide_are_well_formed() -> None:
    text = "\n".join(fenced("sh") + fenced("bash")).replace("\\\n", " ")
    commands = re.findall(r"nasbench-mr build ([^\"\n]*(?:\"\$[^\n]*)?)", text)
    assert len(commands) == 7
    command = BuildCommand()
    for line in commands:
        parser = argparse.ArgumentParser(exit_on_error=False)
        command.arguments(parser)
        args = parser.parse_args(shlex.split(line))
        assert set(args.tasks) <= set(recipes.names())


def test_the_scripts_of_the_cluster_guide_are_well_formed() -> None:
    [script] = fenced("bash")
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    util = pytest.importorskip("ray.autoscaler._private.util")
    yaml = pytest.importorskip("yaml")
    [cluster] = fenced("yaml")
    # The launcher adds the list of files itself.
    util.validate_config({**yaml.safe_load(cluster), "cluster_synced_files": []})
