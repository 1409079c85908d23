"""Write the generated parts of README.md: `python -m experiments.readme`.

Between `<!-- NAME -->` and `<!-- end NAME -->` stands what the docstrings say; between the marks
of `table` the main table of the last `scenario=faker`, where there is one.
"""

from __future__ import annotations

import re
from pathlib import Path

from experiments import catalogue
from experiments.run_folder import write

GROUPS = (
    "attack", "defense", "consensus", "fault", "incentive", "workload", "objective", "peft", "algorithm",
    "data", "partition", "model", "topology", "stragglers", "clock", "runtime", "scenario",
)  # fmt: skip


TABLE = Path("outputs/faker/tables/main.md")


def render(text: str) -> str:
    """README text with every generated part made anew."""
    parts = {group: catalogue.markdown(group) for group in GROUPS}
    if TABLE.is_file():
        lines = TABLE.read_text(encoding="utf-8").splitlines()
        parts["table"] = "\n".join(line for line in lines if line.startswith("|"))
    for name, content in parts.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end {name} -->)", re.DOTALL)
        text = pattern.sub(lambda m, c=content: f"{m[1]}{c}\n{m[2]}", text)
    return text


if __name__ == "__main__":
    path = Path("README.md")
    write(path, render(path.read_text(encoding="utf-8")))
