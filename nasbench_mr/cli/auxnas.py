"""The command `nasbench-mr auxnas`."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasbench_mr import cost, plot, progress, space
from nasbench_mr.cli import command
from nasbench_mr.errors import InvalidArgumentError
from nasbench_mr.search.auxnas.choice import choose_code, rank_auxiliary
from nasbench_mr.search.auxnas.config import BALANCES, VARIANTS, AuxConfig
from nasbench_mr.search.auxnas.run import aux_nas

if TYPE_CHECKING:
    from nasbench_mr.search.auxnas.data import AuxData

#: Options that are fields of the configuration.
#: The options of trainings, which a ranking has no use for.
_TRAINING = (
    *("data", "root", "data_option", "size", "limit", "variant", "balance", "backbone", "primary_code"),
    *("auxiliary_code", "tasks", "joint", "max_macs", "max_params", "single", "recipe", "set", "seed"),
    *("device", "out", "engine", "workers", "compare", "also", "plot"),
)
_FIELDS = ("variant", "balance", "backbone", "primary_code", "auxiliary_code", "begin")


def pixels(text: str) -> tuple[int, int]:
    """Read a size such as "48x64": height, then width."""
    height, _, width = text.partition("x")
    try:
        return int(height), int(width)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a size; expected HEIGHTxWIDTH, such as 48x64"
        ) from None


class AuxNASCommand(command.Command):
    """Train a primary network with auxiliary labels that the network itself does not need (Aux-NAS).

    PRIMARY is the task that counts, AUXILIARY are the tasks whose labels help: segmentation, normals, depth,
    disparity, edges, object or scene. --data indoor is generated on first use; other data are read from
    --root, by default the folder of that name in $NASBENCH_MR_DATA. A multi-resolution backbone needs a code:
    give --primary-code, or --task, whose best code in a release under --max-macs is taken (with --joint: the
    code that NCP finds for several tasks).

    --from single trains each task alone first, as published, and starts from these networks; --single sets
    how. --out keeps config.json, result.json, the exported weights (primary.safetensors), the run as a table
    (release/, for backbones with a code), and a checkpoint: rerun the command to resume. --compare N trains
    the single task and all variants with N seeds and tests the differences; with --from single the networks
    they start from are a row as well. --rank TASK trains nothing: it lists what a release's tables say about
    helpers for a task.

    Example:
      nasbench-mr auxnas segmentation normals --data indoor --task mini-seg --max-macs 100M --set steps=300
      nasbench-mr auxnas segmentation edges --data camvid --size 60x80 --task mini-seg --compare 5 \\
          --from single --single lr=0.01 --set lr=0.001 --set steps=300 --out runs
      nasbench-mr auxnas --rank mini-seg
    """

    kept = "checkpoints"

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.usage = "%(prog)s PRIMARY [AUXILIARY ...] [options]"
        add = parser.add_argument
        add("primary", nargs="?", metavar="PRIMARY", help="the task that counts")
        add("auxiliary", nargs="*", action=command.Names, metavar="AUXILIARY", help="the tasks that help")
        add(
            "--data",
            metavar="D",
            help="indoor (default), nyuv2, cityscapes, camvid or taskonomy",
        )
        add("--root", metavar="FOLDER", help="the folder of the data")
        add(
            "--data-option",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            help="an option of the data's reader, such as blocks=true of camvid (repeatable)",
        )
        add("--size", type=pixels, metavar="HxW", help="resize images and labels to this")
        add(
            "--limit",
            type=command.whole,
            metavar="N",
            help="at most N samples of each split (default: all)",
        )
        add("--variant", help=f"{', '.join(VARIANTS)} (default: aux-nas)")
        add("--balance", help=f"{', '.join(BALANCES)} (default: sum)")
        add("--backbone", help="multi-resolution (default), resnet-50, vit-base, vit-tiny or vgg-16")
        add("--primary-code", metavar="CODE", help="the primary's code")
        add("--auxiliary-code", metavar="CODE", help="the auxiliaries' (default: the primary's)")
        command.add_tasks(parser, "take the best code of this task in a release")
        add("--joint", action="store_true", help="let NCP find one code for all of --task")
        command.add_limits(parser, measured=False)
        command.add_release(parser)
        add(
            "--from",
            dest="begin",
            choices=("random", "single"),
            help="start from random weights (default) or from networks trained for each task alone",
        )
        add(
            "--single",
            action="append",
            default=[],
            metavar="FIELD=VALUE",
            help="with --from single: a field that differs in these trainings (repeatable)",
        )
        add("--recipe", metavar="FILE", help="fields of the configuration, .json or .toml")
        add("--set", action="append", default=[], metavar="FIELD=VALUE", help="change one field (repeatable)")
        add("--seed", type=command.whole, metavar="K", help="seed of everything random (default 0)")
        add("--device", help="cpu, cuda, ... (default: a GPU if there is one)")
        add("--out", type=command.folder_to_write, metavar="FOLDER", help="keep everything there")
        add("--engine", metavar="E", help="with --compare: where to train, local (default) or ray")
        add(
            "--workers",
            type=command.whole,
            metavar="N",
            help="with --compare: runs at once (default: one a core)",
        )
        add("--compare", type=command.whole, metavar="N", help="train all variants with N seeds; needs --out")
        add(
            "--also",
            action="append",
            default=[],
            metavar="'VARIANT FIELD=VALUE ...'",
            help="with --compare: one more variant, such as 'aux-nas cut=0.5' (repeatable)",
        )
        add("--plot", type=command.picture, metavar="FILE", help="with --compare: draw it (.png, .pdf, .svg)")
        add("--rank", metavar="TASK", help="rank a release's tasks as helpers for TASK")
        command.add_json(parser)

    def run(self, args: argparse.Namespace) -> None:
        if args.rank:
            command.refuse_idle(args, "with --rank, which trains nothing", *_TRAINING)
            if args.primary:
                raise InvalidArgumentError(f"--rank TASK names the primary task; leave {args.primary!r} out")
            rows = [
                dataclasses.asdict(helper) for helper in rank_auxiliary(command.open_release(args), args.rank)
            ]
            more = "Tables can't tell whether training with both labels helps. Try it: auxnas --compare"
            return command.show(args, rows, f"{command.format_table(rows)}\n\n{more}")
        args.seed = args.seed or 0
        if not args.primary:
            raise InvalidArgumentError("name a PRIMARY task, and AUXILIARY ones; or give --rank TASK")
        if args.compare is not None and not args.out:
            raise InvalidArgumentError("--compare needs --out FOLDER, where the runs are kept")
        if args.compare is None:
            for name in ("plot", "also", "engine", "workers"):
                if getattr(args, name) not in (None, []):
                    raise InvalidArgumentError(f"--{name} is for comparisons: give --compare N")
        if args.compare is not None and args.variant:
            raise InvalidArgumentError("--compare trains all variants, so --variant would have no effect")
        config = self._config(args)
        if args.compare is not None and config.variant != AuxConfig.variant:
            raise InvalidArgumentError(
                f"--compare trains all variants, so variant={config.variant} would have no effect"
            )
        if args.single and config.begin != "single" and not any("begin=single" in v for v in args.also):
            raise InvalidArgumentError("--single is for networks trained alone first: give --from single")
        if args.compare is not None:
            return self._compare(args, config)
        result = aux_nas(
            args.primary, args.auxiliary or (), _data(args), config, seed=args.seed, device=args.device,
            out=args.out, progress=True,
        )  # fmt: skip
        if args.out and result.config.backbone == "multi-resolution":
            from nasbench_mr.search.auxnas.comparison import write_tables

            write_tables({result.config.variant: [result.to_dict()]}, Path(args.out) / "release")
        if args.json:
            return command.print_json(result.to_dict())
        print(result.report())
        macs = "" if result.macs is None else f"{result.macs:,} MACs for one image, "
        print(
            f"exported: {macs}{result.params:,} parameters; {result.steps} updates in {result.seconds:.0f} s"
        )
        if result.config.backbone == "multi-resolution":
            code = space.parse(result.config.primary_code)
            print(
                f"as limits count it: {int(cost.macs(code)[0]):,} MACs, {int(cost.params(code)[0]):,} "
                f"parameters (full width, {cost.NUM_CLASSES} classes, a 128x128 image)"
            )
        if args.out:
            print(f"kept in {args.out}")
        return None

    def _config(self, args: argparse.Namespace) -> AuxConfig:
        from nasbench_mr.data_builders.training import recipes

        changes: dict[str, Any] = recipes.read(args.recipe) if args.recipe else {}
        flags = {name: getattr(args, name) for name in _FIELDS if getattr(args, name) is not None}
        changes = {**changes, **recipes.parse_flags(args.set), **flags}
        if args.single:
            changes["single"] = {**changes.get("single", {}), **recipes.parse_flags(args.single)}
        backbone = changes.get("backbone", AuxConfig.backbone)
        chooses = [f for f in ("tasks", "joint", "max_macs", "max_params", "release") if getattr(args, f)]
        if backbone != "multi-resolution" or changes.get("primary_code"):
            if chooses:
                flag = f"--{chooses[0].replace('_', '-')}"
                why = "a code is given" if backbone == "multi-resolution" else f"{backbone} has no code"
                raise InvalidArgumentError(f"{flag} is for choosing the primary's code, but {why}")
        elif not args.tasks:
            raise InvalidArgumentError(
                "the primary network needs a code: give --primary-code CODE, or --task T for the best code "
                "of a release's task, such as --task mini-seg"
            )
        else:
            bench = command.open_release(args)
            with progress.line("choosing the primary's code"):
                changes["primary_code"] = choose_code(
                    bench,
                    ",".join(args.tasks),
                    max_macs=args.max_macs,
                    max_params=args.max_params,
                    joint=args.joint,
                    seed=args.seed,
                )
        return AuxConfig.of(changes)

    def _compare(self, args: argparse.Namespace, config: AuxConfig) -> None:
        from nasbench_mr.search.auxnas import plots
        from nasbench_mr.search.auxnas.comparison import compare

        found = compare(
            args.primary,
            args.auxiliary or (),
            _data(args),
            config,
            out=args.out,
            seeds=range(args.seed, args.seed + args.compare),
            variants=(*VARIANTS, *args.also),
            device=args.device,
            engine=args.engine or "local",
            workers=args.workers,
            progress=True,
        )
        rows = found.summary()
        if args.plot:
            plot.save(plots.runs(found), args.plot)
        plain = {
            "diverged": not any(row["diverged"] for row in rows),
            "against": len({row["against"] for row in rows} - {""}) < 2,
        }
        columns = [key for key in rows[0] if not plain.get(key)]
        data = {"primary": args.primary, "summary": rows, "runs": found.runs}
        command.show(args, data, command.format_table(rows, columns))


def _data(args: argparse.Namespace) -> AuxData:
    from nasbench_mr.data_builders import datasets
    from nasbench_mr.data_builders.training import recipes
    from nasbench_mr.search.auxnas import readers

    name = args.data or "indoor"
    root = Path(args.root) if args.root else datasets.folder(name)
    options = recipes.parse_flags(args.data_option)
    with progress.line(f"reading {name} (the first time, indoor is generated)"):
        return readers.load(name, root, args.size, args.limit or 0, **options)
