"""The command line: `scenario=faker defense=krum,spp+krum seed=0,1`, and a few words besides.

Nothing here imports torch: help, lists and wrong names answer at once.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from fedalign import __version__
from fedalign.core.errors import FedalignError, ShadowedPackageError, UnknownNameError

if TYPE_CHECKING:
    from rich.console import Console

HELP = """\
fedalign: federated, blockchain-secured alignment research in one command.

  python run_experiment.py scenario=faker              run a study: a grid of runs, tables, figures
  python run_experiment.py scenario=faker defense=krum,spp+krum seed=0,1
                                                       any axis, narrowed or widened
  fedalign list [GROUP]                                what exists, with its paper
  fedalign report FOLDER                               make tables and figures again
  fedalign chain verify FOLDER                         replay log and chain, decide once more
  fedalign chain keygen | up | status | show           a chain of server processes: fedalign chain
  fedalign population FILE [clients=20000 seed=0]      a population of simulated clients
  fedalign edge plan | --config FILE --index I         edge servers as processes: fedalign edge
  fedalign keys --dir D --nodes N                      certificates and keys of a Flower deployment
  fedalign --version | --help

Words are key=value; several values make an axis; attack.tau=0.3 sets a parameter; a+b puts rule b
inside wrapper a. preset=NAME takes a scenario's bundle, e.g. preset=tiny. `fedalign` and
`python run_experiment.py` are the same program.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 fine, 1 refused or failed, 130 stopped."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        one_origin()
        return _dispatch(words)
    except FedalignError as error:
        print(error, file=sys.stderr)
        return 130 if isinstance(error.__cause__, KeyboardInterrupt) else 1
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("--help", "-h", "help"):
        from experiments import catalogue

        print(HELP + "\nScenarios: " + ", ".join(catalogue.names("scenario")))
        return 0
    if words[0] == "--version":
        print(f"fedalign {__version__}")
        return 0
    command, rest = words[0], words[1:]
    if "=" in command:
        return _run(words)
    if command == "list":
        return _list(rest)
    if command == "edge":
        from experiments import edge_cli

        return edge_cli.main(rest)
    if command == "report" and len(rest) == 1:
        return _report(Path(rest[0]))
    if command == "chain" and len(rest) == 2 and rest[0] == "verify":
        return _verify(Path(rest[1]))
    if command == "keys":
        from experiments import keys_cli

        return keys_cli.main(rest)
    if command == "chain":
        from experiments import chain_cli

        return chain_cli.main(rest)
    if command == "population":
        from experiments import population_cli

        return population_cli.main(rest)
    if command == "report":
        raise FedalignError(f"'fedalign {' '.join(words)}': write fedalign report FOLDER.")
    raise UnknownNameError(
        "command", command, ["list", "report", "chain", "keys", "population", "scenario=NAME"]
    )


def _run(words: Sequence[str]) -> int:
    from rich.console import Console

    from experiments import compose

    study = compose.study(words)
    console = Console()
    signal.signal(signal.SIGTERM, _interrupt)  # a scheduler's stop is Ctrl-C's twin
    from experiments import preflight  # torch comes in here
    from experiments import study as studies
    from experiments.progress import Progress

    checked = preflight.check(study, console)
    ledger = studies.run(study, checked, Progress(console))
    folder = Path(study.settings["output_root"]) / study.name
    _show(folder, console)
    if next(folder.glob("*/events.jsonl"), None):
        console.print(f"Verify: fedalign chain verify {folder}", highlight=False)
    return 1 if ledger.failed else 0


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _show(folder: Path, console: Console) -> None:
    """Write the report of a study and print its main table."""
    from experiments import report, results

    found = results.load(folder)
    page = report.write(found)
    for table in report.main_tables(found):
        console.print(table.terminal(console.width))
    console.print(f"Report: {page}", highlight=False)


def _list(words: Sequence[str]) -> int:
    from rich.console import Console
    from rich.table import Table

    from experiments import catalogue

    wanted = list(words) or list(catalogue.groups())
    for group in wanted:
        name = next((g for g in catalogue.groups() if g == group or _plural(g) == group), None)
        if name is None:
            raise UnknownNameError("group", group, catalogue.groups())
        table = Table(title=name, title_justify="left", box=None, pad_edge=False)
        for column in ("name", "what", "source"):
            table.add_column(column, overflow="fold", no_wrap=column == "name")
        for entry in catalogue.entries(name):
            table.add_row(entry.name, entry.idea, entry.paper)
        Console().print(table)
        print()
    return 0


def _report(folder: Path) -> int:
    from rich.console import Console

    _show(folder, Console())
    return 0


def _verify(folder: Path) -> int:
    from experiments import verify

    return verify.main(folder)


def _plural(group: str) -> str:
    return group + "s"


def one_origin() -> None:
    """Our packages have everyday names: make sure that none is a stranger's."""
    here = Path(__file__).resolve().parent.parent
    for name in ("fedalign", "attacks", "defenses", "consensus", "incentives", "experiments"):
        spec = find_spec(name) if (here / name).is_dir() else None
        if spec is None or not spec.submodule_search_locations:
            continue
        found = Path(next(iter(spec.submodule_search_locations))).resolve().parent
        if found != here:
            raise ShadowedPackageError(
                f"The package '{name}' comes from {found}, not from {here}: another folder or "
                "distribution of that name is in the way. Start from a different working "
                "directory, or use the console command `fedalign`."
            )


if __name__ == "__main__":
    sys.exit(main())
