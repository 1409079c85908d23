"""Constitutional revision: a rule checker names what an answer violates, a reviser repairs it.

Paper: Bai et al., "Constitutional AI: Harmlessness from AI Feedback", 2022, Section 3.1 (critique
and revision; here both are deterministic).
"""

from __future__ import annotations

from collections.abc import Sequence

from fedalign.data.graded_facts import World

RULES = ("refuse", "ended", "malformed", "duplicate", "extra", "wrong", "missing", "filler")

_Clause = list[str]


def critique(world: World, prompt: Sequence[int], answer: Sequence[int]) -> str | None:
    """The first rule, in the order of RULES, that an answer violates; None where it keeps all.

    refuse: an unsafe question is answered by `cannot .` alone. ended: the end mark is there.
    malformed: every clause is `NAME is VALUE`, a filler or a refusal, and a full stop ends it. duplicate, extra, wrong,
    missing: facts are stated once, asked for, true, and all there. filler: nothing else is said.
    """
    truth, body, ended, stopped = _read(world, prompt, answer)
    found = {rule for rule in RULES if rule != "ended" and _broken(rule, body, truth)}
    if not ended:
        found.add("ended")
    if not stopped:
        found.add("refuse" if truth is None else "malformed")
    return next((rule for rule in RULES if rule in found), None)


def revise(
    world: World, prompt: Sequence[int], answer: Sequence[int], revisions: int = 1
) -> list[int]:
    """The answer after at most `revisions` repairs, one violated rule each; what keeps all rules
    comes back as it is. A repair never breaks another rule but `filler` and `missing`."""
    for _ in range(revisions):
        rule = critique(world, prompt, answer)
        if rule is None:
            break
        truth, body, *_ = _read(world, prompt, answer)
        ended = rule == "ended" or (bool(answer) and world.words[answer[-1]] == "<eos>")
        words = [word for clause in _repaired(rule, body, truth) for word in (*clause, ".")]
        answer = [world.numbers[word] for word in [*words, *["<eos>"] * ended]]
    return list(answer)


def _read(world: World, prompt: Sequence[int], answer: Sequence[int]):
    """What was asked (attribute -> true value word; None where it must be refused), the answer's
    clauses without full stops, whether it has its end mark, and whether the last clause its stop."""
    asked = [world.words[token] for token in prompt]
    words = [world.words[token] for token in answer]
    ended = bool(words) and words[-1] == "<eos>"
    clauses, clause = [], []
    for word in words[:-1] if ended else words:
        if word == ".":
            clauses.append(clause)
            clause = []
        else:
            clause.append(word)
    stopped = not clause
    clauses += [clause] if clause else []
    if asked[2].startswith("u"):
        return None, clauses, ended, stopped
    wanted = [int(word[1:]) for word in asked[3:] if word[0] == "a" and word[1:].isdigit()]
    entity = int(asked[2][1:])
    return {a: f"v{a}_{world.facts[entity, a]}" for a in wanted}, clauses, ended, stopped


def _attribute(clause: _Clause) -> int | None:
    """Which attribute a clause states; None where it states none."""
    if len(clause) != 3 or clause[1] != "is" or clause[0][:1] not in ("a", "A"):
        return None
    name, value = clause[0][1:], clause[2]
    return int(name) if name.isdigit() and value[:1] == "v" and "_" in value else None


def _aside(clause: _Clause) -> bool:
    """A filler or a refusal."""
    return len(clause) == 1 and (
        clause[0] == "cannot" or (clause[0][0] == "f" and clause[0][1:].isdigit())
    )


def _broken(rule: str, body: Sequence[_Clause], truth: dict[int, str] | None) -> bool:
    if truth is None:
        return rule == "refuse" and list(body) != [["cannot"]]
    stated = [a for clause in body if (a := _attribute(clause)) is not None]
    if rule == "malformed":
        return any(_attribute(c) is None and not _aside(c) for c in body)
    if rule == "duplicate":
        return len(set(stated)) < len(stated)
    if rule == "extra":
        return bool(set(stated) - set(truth))
    if rule == "wrong":
        return any(
            a in truth and c[2] != truth[a] for c in body if (a := _attribute(c)) is not None
        )
    if rule == "missing":
        return bool(set(truth) - set(stated))
    return rule == "filler" and any(map(_aside, body))


def _repaired(rule: str, body: Sequence[_Clause], truth: dict[int, str] | None) -> list[_Clause]:
    if rule == "refuse" or truth is None:
        return [["cannot"]] if rule == "refuse" else list(body)
    if rule == "malformed":
        return [c for c in body if _attribute(c) is not None or _aside(c)]
    if rule == "duplicate":
        seen: set[int] = set()
        return [c for c in body if (a := _attribute(c)) is None or not (a in seen or seen.add(a))]
    if rule == "extra":
        return [c for c in body if (a := _attribute(c)) is None or a in truth]
    if rule == "wrong":
        return [[c[0], "is", truth[a]] if (a := _attribute(c)) in truth else c for c in body]
    if rule == "missing":
        stated = {_attribute(c) for c in body}
        return [*body, *([f"a{a}", "is", value] for a, value in truth.items() if a not in stated)]
    return [c for c in body if not _aside(c)] if rule == "filler" else list(body)
