"""Write the generated parts of README.md: `python -m experiments.readme`.

Between `<!-- NAME -->` and `<!-- end NAME -->` stands what the docstrings say.
"""

from __future__ import annotations

import re
from pathlib import Path

from experiments import catalogue
from experiments.run_folder import write

GROUPS = ("attack", "defense", "algorithm", "data", "partition", "model", "runtime", "scenario")


def render(text: str) -> str:
    """README text with every generated part made anew."""
    for group in GROUPS:
        pattern = re.compile(rf"(<!-- {group} -->\n).*?(<!-- end {group} -->)", re.DOTALL)
        text = pattern.sub(lambda m, g=group: f"{m[1]}{catalogue.markdown(g)}\n{m[2]}", text)
    return text


if __name__ == "__main__":
    path = Path("README.md")
    write(path, render(path.read_text(encoding="utf-8")))
