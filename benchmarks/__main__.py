"""`python -m benchmarks`: start the contenders, put the questions, print the ratios, keep the figures as JSON."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from benchmarks import decisions, imports, local_inference, machine, metered, report
from benchmarks.contenders import CONTENDERS, Missing
from benchmarks.measures import MEASURES, Bench, Plan
from benchmarks.native import BUILD, CompilerMissing
from benchmarks.processes import DidNotStart
from benchmarks.upstream import Upstream

QUICK = Plan(seconds=2.0, rounds=1, requests=5_000, requests_limit_seconds=10.0, held=200, slow=100)


def main(arguments: list[str] | None = None) -> int:
    given = sys.argv[1:] if arguments is None else arguments
    if given[:1] == ["local"]:
        return local_inference.main(given[1:])
    asked = _arguments(given)
    plan = _plan(asked)
    console = Console(width=None if sys.stdout.isatty() else 160)
    facts, cores = machine.describe(), machine.cores()
    console.print(facts.line(), highlight=False)
    console.print(_where(cores), highlight=False)
    if facts.load_average > 0.5:
        console.print(
            "[yellow]The machine is busy with something else: take the figures as a sign, not as a result.[/]"
        )
    measured: report.Measured = {}
    notes: dict[str, str] = {}

    def say(sentence: str) -> None:
        console.print(
            f"[dim]{sentence}[/]" if "[" not in sentence else sentence, highlight=False, markup="[" not in sentence
        )

    # Ourselves on the load's core too: reading /proc must not disturb the one that is measured.
    os.sched_setaffinity(0, {cores.load})
    with tempfile.TemporaryDirectory(prefix="gateway-bench-") as folder:
        directory = Path(folder)
        wanted = [name for name in MEASURES if name in asked.only]
        if wanted or "metered" in asked.only:
            _question(asked, plan, cores, directory, wanted, measured, notes, say)
        if "local" in asked.only:
            os.sched_setaffinity(0, {cores.contender, cores.load})
            try:
                size = local_inference.QUICK if asked.quick else local_inference.Size()
                measured[size.measure] = local_inference.measure(size, directory / "local", say)
            except (DidNotStart, OSError) as error:
                say(f"local inference: {error}")
                notes["local"] = f"could not be measured: {error}"
        if "decisions" in asked.only:
            os.sched_setaffinity(0, {cores.contender})
            try:
                measured["decisions"] = decisions.measure(
                    decisions.QUICK if asked.quick else decisions.Size(), directory / "decisions", say
                )
            except (decisions.DecisionsFailed, OSError) as error:
                say(f"decisions: {error}")
                notes["decisions"] = f"could not be measured: {error}"
        if "imports" in asked.only:
            os.sched_setaffinity(0, {cores.contender, cores.load})
            models = imports.QUICK_MODELS if asked.quick else imports.MODELS
            measured["imports"] = imports.measure(models, directory / "imports", say)
    report.show(console, measured)
    for name, how in notes.items():
        console.print(f"{name}: {how}", highlight=False, markup=False)
    path = _keep(asked.json, facts.as_dict(), plan, notes, measured)
    console.print(f"Figures: {path}", highlight=False)
    missed = report.missed(measured)
    return 1 if asked.strict and missed else 0


def _question(asked, plan, cores, directory, wanted, measured, notes, say) -> None:
    mock = Upstream(core=cores.upstream, directory=directory)
    running = []
    try:
        for contender in (kind() for kind in CONTENDERS if kind.name in asked.contenders):
            try:
                contender.start(mock.port, cores.contender, directory / contender.name)
            except (Missing, DidNotStart, OSError) as error:
                say(f"{contender.name} is missing from this run: {error}")
                notes[contender.name] = f"missing: {error}"
                continue
            running.append(contender)
            notes[contender.name] = contender.how
        bench = Bench(running, mock, cores, plan, directory, say)
        for name in wanted:
            begun = time.monotonic()
            measured[name] = MEASURES[name](bench)
            say(f"{name}: {time.monotonic() - begun:.0f} s")
        if "metered" in asked.only:
            measured["metered"] = metered.measure(bench)
    finally:
        for contender in running:
            contender.stop()
        mock.stop()


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    everything = [*MEASURES, "metered", "local", "decisions", "imports"]
    names = [kind.name for kind in CONTENDERS]
    parser.add_argument("--quick", action="store_true", help="one short round of each: a look, not a result")
    parser.add_argument(
        "--only", type=_words(everything), default=everything, metavar="MEASURE[,...]", help=", ".join(everything)
    )
    parser.add_argument("--contenders", type=_words(names), default=names, metavar="NAME[,...]", help=", ".join(names))
    parser.add_argument("--seconds", type=float, help="length of each run")
    parser.add_argument("--rounds", type=int, help="how often each contender has its turn")
    parser.add_argument("--connections", type=int, help="of the closed loops")
    parser.add_argument("--json", type=Path, help="where to keep the figures (build/bench/<time>.json)")
    parser.add_argument("--strict", action="store_true", help="exit with 1 when a promise that was measured is missed")
    return parser.parse_args(arguments)


def _words(known: list[str]):
    def read(text: str) -> list[str]:
        words = [word.strip() for word in text.split(",") if word.strip()]
        unknown = sorted(set(words) - set(known))
        if unknown:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; there are {', '.join(known)}")
        return words

    return read


def _plan(asked: argparse.Namespace) -> Plan:
    base = asdict(QUICK if asked.quick else Plan())
    changed = {name: getattr(asked, name) for name in ("seconds", "rounds", "connections") if getattr(asked, name)}
    return Plan(**{**base, **changed})


def _where(cores: machine.Cores) -> str:
    if cores.shared:
        return "Only one core: contender, upstream and load share it, and no figure below says what a core can do."
    if cores.upstream == cores.load:
        return f"Contender on core {cores.contender}; upstream and load generator on core {cores.load}."
    return (
        f"Contender on core {cores.contender}, upstream on core {cores.upstream}, load generator on core {cores.load}."
    )


def _keep(path: Path | None, facts: dict, plan: Plan, notes: dict[str, str], measured: report.Measured) -> Path:
    path = path or BUILD / f"{time.strftime('%Y%m%d-%H%M%S')}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {"machine": facts, "plan": asdict(plan), "contenders": notes, "measures": measured}
    path.write_text(json.dumps(kept, indent=2) + "\n")
    return path


if __name__ == "__main__":
    try:
        sys.exit(main())
    except CompilerMissing as error:
        sys.exit(str(error))
