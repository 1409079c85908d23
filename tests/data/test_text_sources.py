"""Published preference schemas: what a line becomes, and what is said of a damaged one."""

import gzip
import json
from collections import Counter

import pytest

from fedalign.core.errors import ConfigError, DataError
from fedalign.data.gsm8k import Gsm8k, final
from fedalign.data.gsm8k_solutions import Gsm8kSolutions
from fedalign.data.help_steer import HelpSteer
from fedalign.data.help_steer_preference import HelpSteerPreference
from fedalign.data.hh_rlhf import HhRlhf
from fedalign.data.llm_bar import LlmBar
from fedalign.data.model_written_values import ModelWrittenValues
from fedalign.data.panda_lm import PandaLm
from fedalign.data.preference_file import PreferenceFile
from fedalign.data.text_preferences import TextPreferences, cut
from fedalign.data.text_rows import TextRow


def written(folder, name, rows):
    """Rows as lines; strings stand as they are."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows))
    return folder


def loaded(folder, source, **more):
    return TextPreferences(source, root=str(folder), **more).load()


def rated(prompt, response, *ratings):
    names = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
    return {"prompt": prompt, "response": response, **dict(zip(names, ratings, strict=True))}


def test_hh_rlhf_shares_a_prompt_of_several_turns(tmp_path):
    talk = "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Why?\n\nAssistant:"
    other = {"chosen": f"{talk} A", "rejected": "\n\nHuman: Else\n\nAssistant: B"}
    rows = [{"chosen": f"{talk} Because.", "rejected": f"{talk} No."}, other]
    found = loaded(written(tmp_path, "hh-rlhf/harmless-base/test.jsonl", rows), HhRlhf())
    turns = (("user", "Hi"), ("assistant", "Hello"), ("user", "Why?"))
    assert list(found.rows) == [TextRow(turns, "Because.", "No.")]
    assert found.skipped["the prompts of both answers differ"] == 1
    assert len(loaded(tmp_path, HhRlhf("harmless-base")).rows) == 1
    with pytest.raises(DataError, match=r"none of hh-rlhf/helpful-base/train.jsonl"):
        loaded(tmp_path, HhRlhf("helpful-base"))


def test_helpsteer_pairs_answers_to_one_prompt(tmp_path):
    """.3 * 4 + .74 * 4 + .46 * 4 + .47 * 4 - .33 * 2 = 7.22, the other 0.3 + .74 + .46 + .47 - .33."""
    rows = [
        rated("p", "bad", 1, 1, 1, 1, 1), rated("p", "good", 4, 4, 4, 4, 2),
        rated("q", "one", 2, 2, 2, 2, 2), rated("q", "two", 2, 2, 2, 2, 2),
        rated("r", "alone", 2, 2, 2, 2, 2),
    ]  # fmt: skip
    found = loaded(written(tmp_path, "helpsteer2/train.jsonl", rows), HelpSteer())
    (row,) = found.rows
    assert (row.chosen, row.rejected, row.strength) == ("good", "bad", 3)
    assert row.scores == pytest.approx((7.22, 1.64)) and row.ratings[0] == (4, 4, 4, 4, 2)
    assert found.skipped["both answers are worth the same"] == 1
    assert found.skipped["its prompt has no second answer"] == 1
    with pytest.raises(ConfigError, match="needs one number for each of helpfulness"):
        HelpSteer(weights=(1.0,))


def test_a_negative_strength_prefers_the_first_answer(tmp_path):
    rows = [
        {"split": "train", "prompt": "p", "response_1": "a", "response_2": "b", "preference_strength": s}
        for s in (-3, 1, 0)
    ]  # fmt: skip
    found = loaded(written(tmp_path, "helpsteer2_preference.jsonl", rows), HelpSteerPreference())
    assert [(r.chosen, r.strength) for r in found.rows] == [("a", 3), ("b", 1)]
    assert found.skipped["neither answer is preferred"] == 1


def test_three_annotators_vote(tmp_path):
    rows = [
        {"instruction": "do", "input": "x", "response1": "a", "response2": "b", "motivation_app": "G",
         **{f"annotator{i + 1}": vote for i, vote in enumerate(votes)}}
        for votes in ("112", "200", "222", "012")
    ]  # fmt: skip
    folder = written(tmp_path, "pandalm_testset.jsonl", rows)
    found = loaded(folder, PandaLm())
    assert [(r.chosen, r.strength, r.topic) for r in found.rows] == [("a", 2, "G"), ("b", 3, "G")]
    assert found.rows[0].turns == (("user", "do\nx"),) and found.skipped.total() == 2
    assert [r.chosen for r in loaded(folder, PandaLm(3)).rows] == ["b", "b", "b"]


def test_labels_name_the_better_output(tmp_path):
    rows = [{"subset": "natural", "prompt": "p", "output_1": "a", "output_2": "b", "label": 2}]
    (row,) = loaded(written(tmp_path, "llmbar.jsonl", rows), LlmBar()).rows
    assert (row.chosen, row.rejected, row.topic) == ("b", "a", "natural")


def test_a_group_of_values_is_a_topic(tmp_path):
    rows = [
        {"group": group, "collection": "persona", "question": f"{group} {sure}?", "matching": " Yes",
         "not_matching": " No", "label_confidence": sure}
        for group in ("liberal", "conservative") for sure in (0.9, 0.4, None)
    ]  # fmt: skip
    folder = written(tmp_path, "model_written_values.jsonl", rows)
    found = loaded(folder, ModelWrittenValues(confidence=0.5))
    assert Counter(r.topic for r in found.rows) == {"liberal": 2, "conservative": 2}
    one = loaded(folder, ModelWrittenValues("not_matching", ["liberal"])).rows
    assert {(r.chosen, r.rejected, r.topic) for r in one} == {("No", "Yes", "liberal")}


def test_the_number_at_the_end_decides(tmp_path):
    assert [final(x) for x in ("so 3 #### 1,200", "it is $4.50.", "#### -7.0", "none")] == [
        "1200", "4.5", "-7", None,
    ]  # fmt: skip
    rows = [{"question": "1+1?", "answer": "It is <<1+1=2>>2.\n#### 2"}]
    (row,) = loaded(written(tmp_path, "gsm8k_train.jsonl", rows), Gsm8k()).rows
    assert (row.truth, row.rejected) == ("2", None)
    assert Gsm8k().right("I think 2", "2") and not Gsm8k().right("2 or 3", "2")
    marks = {"a": (True, "good"), "b": (False, "bad")}
    solved = {
        "question": "q", "ground_truth": "#### 5",
        **{k: {"is_correct": right, "solution": text} for k, (right, text) in marks.items()},
    }  # fmt: skip
    written(tmp_path, "gsm8k_model_solutions.jsonl", [solved])
    (row,) = loaded(tmp_path, Gsm8kSolutions()).rows
    assert (row.chosen, row.rejected, row.truth) == ("good", "bad", "5")


def test_prompts_of_your_own_may_be_messages(tmp_path):
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    rows = [
        {
            "messages": messages,
            "chosen": "a",
            "rejected": "b",
            "score_chosen": 2,
            "score_rejected": 1.5,
        }
    ]
    (row,) = loaded(written(tmp_path, "preferences.jsonl", rows), PreferenceFile()).rows
    assert row.turns == (("system", "s"), ("user", "u")) and row.scores == (2.0, 1.5)


DAMAGED = [
    ('{"prompt": "p", "chosen": "a"', r"line 2: it is no JSON \(.* at column \d+\)"),
    ("[1]", "line 2: it holds a list, expected an object"),
    ('{"prompt": "p", "chosen": "a"}', "line 2: it has no field 'rejected', but chosen, prompt"),
    ('{"prompt": "p", "chosen": " ", "rejected": "b"}', "line 2: field 'chosen' is empty"),
    ('{"prompt": 3, "chosen": "a", "rejected": "b"}', "line 2: field 'prompt' holds a int"),
    ('{"prompt": "p", "response": "a", "desirable": 1}', "'desirable' holds a int"),
    ('{"prompt": [{"role": "bot"}], "chosen": "a", "rejected": "b"}', "no role system, user"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "says"), DAMAGED)
def test_a_damaged_line_is_named_or_counted(tmp_path, line, says):
    good = {"prompt": "p", "chosen": "a", "rejected": "b"}
    folder = written(tmp_path, "preferences.jsonl", [good, line])
    with pytest.raises(DataError, match=says):
        loaded(folder, PreferenceFile())
    found = loaded(folder, PreferenceFile(), strict=False)
    assert len(found.rows) == 1 and found.skipped.total() == 1


def test_a_prompt_without_completion_and_a_truncated_file_are_named(tmp_path):
    talk = "\n\nHuman: Hi\n\nAssistant:"
    folder = written(tmp_path, "hh_a.jsonl", [{"chosen": talk, "rejected": f"{talk} No"}])
    with pytest.raises(
        DataError, match=r"no row of .*hh_a\.jsonl can be used .1 because an answer"
    ):
        loaded(folder, HhRlhf())
    line = json.dumps({"chosen": f"{talk} Yes", "rejected": f"{talk} No"}) + "\n"
    packed = gzip.compress((line * 3000).encode())
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut/hh_b.jsonl.gz").write_bytes(packed[: len(packed) * 2 // 3])
    with pytest.raises(DataError, match=r"hh_b.jsonl.gz, line \d+: the file ends too early"):
        loaded(tmp_path / "cut", HhRlhf())


def test_long_rows_are_cut_at_both_ends_or_dropped():
    """8 tokens: an answer of 6 leaves 4 to the prompt, for half is the prompt's; 4 are the answer's."""
    assert cut([1, 2, 3, 4, 5], [[6, 7, 8, 9, 10, 11], [12]], 8) == (
        [2, 3, 4, 5],
        [[6, 7, 8, 9], [12]],
    )
    assert cut([1, 2, 3, 4, 5, 6, 7], [[8, 9]], 8) == ([2, 3, 4, 5, 6, 7], [[8, 9]])

    class Letters:
        end = 0

        def prompt(self, turns):
            return [ord(c) for c in turns[-1][1]]

        def answer(self, text):
            return [ord(c) for c in text]

    rows = [TextRow((("user", "long prompt"),), "a", "b"), TextRow((("user", "p"),), "a", "b")]
    for how, left in (("truncate", 2), ("drop", 1)):
        skipped = Counter()
        kept = TextPreferences(PreferenceFile(), max_tokens=8, overlong=how).tokens(
            rows, Letters(), skipped
        )
        assert len(kept) == left and skipped["it was longer than data.max_tokens=8"] == 1
        assert all(answer[-1] == 0 for _, _, answers in kept for answer in answers)


def test_a_source_without_files_says_what_it_wants(tmp_path):
    with pytest.raises(DataError, match=r"data=llmbar reads files: say where with data.root"):
        TextPreferences(LlmBar()).load()
    with pytest.raises(ConfigError, match="overlong must be truncate or drop"):
        TextPreferences(LlmBar(), overlong="wrap")
