"""Every format, read as turns."""

import json

import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from hf_dsel import rows


def user(text):
    return {"role": "user", "content": text}


def bot(text):
    return {"role": "assistant", "content": text}


def system(text):
    return {"role": "system", "content": text}


CASES = {
    "messages": {"messages": [user("Hi"), bot("Hello")]},
    "prompt_completion": {"prompt": "Hi", "completion": "Hello"},
    "prompt_completion_messages": {"prompt": [user("Hi")], "completion": [bot("Hello")]},
    "alpaca": {"instruction": "Hi", "input": "", "output": "Hello"},
    "alpaca_without_input": {"instruction": "Hi", "output": "Hello"},
    "dolly": {"instruction": "Hi", "context": "", "response": "Hello"},
    "sharegpt": {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]},
    "sharegpt_json": {
        "conversations": json.dumps([{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}])
    },
    "explicit_pair": {"prompt": "Hi", "chosen": "Hello", "rejected": "No"},
    "explicit_pair_messages": {"prompt": [user("Hi")], "chosen": [bot("Hello")], "rejected": [bot("No")]},
    "implicit_pair": {"chosen": [user("Hi"), bot("Hello")], "rejected": [user("Hi"), bot("No")]},
    "binarized": {"prompt": "Hi", "chosen": [user("Hi"), bot("Hello")], "rejected": [user("Hi"), bot("No")]},
    "parts": {"messages": [user([{"type": "text", "text": "Hi"}]), bot([{"type": "text", "text": "Hello"}])]},
}


def read_one(row, **options):
    [read] = rows.read({k: [v] for k, v in row.items()}, **options)
    return read


@pytest.mark.parametrize("name", CASES)
def test_every_format_gives_the_same_turn(name):
    read = read_one({"id": 7, **CASES[name], "zzz": None})
    assert read.problem is None
    [turn] = read.turns
    assert (turn.instruction, turn.response) == ("Hi", "Hello")
    assert turn.plain_prompt == "Hi\n"


@pytest.mark.parametrize("name", [n for n in CASES if "pair" in n or n == "binarized"])
def test_the_other_side_of_a_pair(name):
    [turn] = read_one(CASES[name], side="rejected").turns
    assert (turn.instruction, turn.response) == ("Hi", "No")


def test_side_needs_pairs():
    with pytest.raises(ValueError, match="chosen and rejected"):
        read_one(CASES["alpaca"], side="rejected")


def test_through_datasets_with_columns_in_any_order():
    pool = Dataset.from_dict({"output": ["b", None], "extra": [1, 2], "input": ["i", None], "instruction": ["a", "c"]})
    first, second = rows.read(pool[:])
    assert first.turns[0].plain_prompt == "a\ni\n"
    assert second.problem is None and second.turns[0].response is None  # a prompt without an answer yet
    [row] = rows.read({"prompt": ["a"], "completion": [None]})
    assert row.problem is None and (row.turns[0].instruction, row.turns[0].response) == ("a", None)


def test_history_and_system():
    row = {"messages": [system("S"), user("1"), bot("one"), user("2"), bot("two"), user("3")]}
    read = read_one(row)
    assert [t.response for t in read.turns] == ["one", "two", None]
    assert [m.content for m in read.turns[1].prompt] == ["S", "1", "one", "2"]
    assert [m.content for m in read.turns[1].without_history().prompt] == ["S", "2"]
    assert [t.response for t in read.chosen_turns("last", history=True)] == [None]
    assert [t.response for t in read.chosen_turns("first", history=False)] == ["one"]


def test_tool_messages_are_part_of_the_prompt():
    row = {
        "conversations": [
            {"from": "human", "value": "2+2?"},
            {"from": "function_call", "value": "add(2, 2)"},
            {"from": "observation", "value": "4"},
            {"from": "gpt", "value": "It is 4."},
        ]
    }
    call, answer = read_one(row).turns
    assert call.response == "add(2, 2)"
    assert [m.role for m in answer.prompt] == ["user", "assistant", "tool"]
    assert answer.instruction == "2+2?"
    assert [m.role for m in answer.without_history().prompt] == ["user", "assistant", "tool"]


def test_plain_text_and_prompt_only():
    [text] = read_one({"text": "once"}).turns
    assert (text.prompt, text.instruction, text.response) == ((), "", "once")
    [prompt] = read_one({"prompt": "Hi"}).turns
    assert (prompt.instruction, prompt.response) == ("Hi", None)


def test_implicit_text_pairs_share_a_prefix_cut_at_white_space():
    shared = "\n\nHuman: is it so?\n\nAssistant: "
    [turn] = read_one({"chosen": shared + "Yes it is", "rejected": shared + "Yes but no"}).turns
    assert turn.prompt[0].content.endswith("Yes")
    assert turn.response == "it is"


def test_identical_sides_keep_the_answer():
    same = [user("Hi"), bot("Hello")]
    [turn] = read_one({"chosen": same, "rejected": same}).turns
    assert turn.response == "Hello"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"messages": None}, "messages is null"),
        ({"messages": []}, "the conversation is empty"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0] has the role 'wizard'"),
        ({"messages": [user("a"), {"role": "assistant", "content": None}]}, "messages[1] has no content"),
        ({"messages": [user([{"type": "image"}])]}, "parts that are not text: image"),
        ({"conversations": '[{"from": "human"'}, "not JSON"),
        ({"instruction": None, "output": "x"}, "instruction is null"),
        ({"text": None}, "text is null"),
    ],
)
def test_a_malformed_row_says_why_and_does_not_stop_the_batch(row, reason):
    good = next(c for c in CASES.values() if set(c) == set(row)) if "text" not in row else {"text": "x"}
    bad, fine = rows.read({k: [row[k], good[k]] for k in row})
    assert reason in bad.problem and bad.turns == ()
    assert fine.problem is None


def test_unknown_format_says_what_was_found_and_what_is_accepted():
    with pytest.raises(rows.UnknownFormat, match=r"\['answer', 'question'\].*instruction .*rename_columns"):
        rows.detect(["question", "answer"])


@given(st.lists(st.tuples(st.sampled_from(["user", "assistant", "system", "tool"]), st.text(max_size=5)), min_size=1))
def test_turns_cover_every_assistant_message_once(conversation):
    messages = [{"role": r, "content": c} for r, c in conversation]
    read = read_one({"messages": messages})
    answered = [t for t in read.turns if t.response is not None]
    assert [t.response for t in answered] == [c for r, c in conversation if r == "assistant"]
    for turn, at in zip(answered, [i for i, (r, _) in enumerate(conversation) if r == "assistant"], strict=True):
        assert [m.content for m in turn.prompt] == [c for _, c in conversation[:at]]


@given(st.text(alphabet="ab \n", max_size=12), st.text(alphabet="ab \n", max_size=12))
def test_common_prefix_is_shared_and_splits_no_word(a, b):
    shared = rows.common_prefix(a, b)
    assert a.startswith(shared) and b.startswith(shared)
    assert shared == "" or shared[-1].isspace()
