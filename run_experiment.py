"""Run a study: `python run_experiment.py scenario=faker`.

Without its dependencies it starts itself again inside `.venv`, or says how to set that up.
"""

import importlib.util
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
NEEDED = ("torch", "hydra", "rich", "yaml", "safetensors", "sklearn")


def main() -> int:
    """Hand over to the command line of `experiments`."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        return _elsewhere(missing)
    from experiments.cli import main

    return main()


def _elsewhere(missing: list[str]) -> int:
    python = HERE / ".venv" / "bin" / "python"
    if python.exists() and not os.environ.get("FEDALIGN_REEXECUTED"):
        os.environ["FEDALIGN_REEXECUTED"] = "1"
        os.execv(python, [str(python), str(HERE / "run_experiment.py"), *sys.argv[1:]])
    print(
        f"fedalign needs {', '.join(missing)}, which this Python lacks. Set it up once with\n"
        "  make setup\nand run the same command again.",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
