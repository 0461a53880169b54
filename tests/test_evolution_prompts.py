"""The prompt files: found, checked, filled, and the replies to them read."""

import re

import pytest

from hf_dsel.endpoint import Malformed
from hf_dsel.evolution_prompts import OURS, BadPrompt, filled, load_prompts, read_rewritten, read_whole


def test_thoughts_whose_beginning_the_server_keeps_back():
    reply = "Perhaps <rewritten>no</rewritten>?\n</think>\n\n<rewritten>Yes.</rewritten>"
    assert read_rewritten(reply) == "Yes." == read_whole("Hm.\n</think>Yes.")
    assert read_whole("Say <think>a</think> twice.") == "Say <think>a</think> twice."


@pytest.mark.parametrize("scores", ["complexity", "quality"])
def test_our_prompts_leave_no_place_open(scores):
    prompts = load_prompts(scores)
    assert len(prompts.methods) == {"complexity": 4, "quality": 5}[scores]
    texts = dict(instruction="I.", response="R.", variants="V.", lines="L.", n="3")
    for text in (*prompts.methods.values(), prompts.rank):
        assert "{" not in filled(text, **texts) and text.isascii()
        assert max(map(len, text.splitlines())) <= 120
    assert all("I." in filled(text, **texts) for text in prompts.methods.values())
    assert all(part in filled(prompts.rank, **texts) for part in ("V.", "L.", "3"))
    assert len(set(prompts.methods.values())) == len(prompts.methods)
    assert all("<rewritten>" in text and "</rewritten>" in text for text in prompts.methods.values())
    assert ("R." in filled(next(iter(prompts.methods.values())), **texts)) == (scores == "quality")


def test_a_folder_of_methods_replaces_ours_and_keeps_our_ranking(tmp_path):
    (tmp_path / "shorter.txt").write_text("Shorten: {instruction}")
    prompts = load_prompts("complexity", tmp_path)
    assert dict(prompts.methods) == {"shorter": "Shorten: {instruction}"}
    assert prompts.rank == (OURS / "complexity/rank.txt").read_text()


def test_a_folder_with_a_ranking_keeps_our_methods(tmp_path):
    (tmp_path / "rank.txt").write_text("Rank {variants}")
    prompts = load_prompts("quality", str(tmp_path))
    assert prompts.rank == "Rank {variants}" and prompts.methods == load_prompts("quality").methods


def test_a_folder_with_both(tmp_path):
    (tmp_path / "rank.txt").write_text("Rank {variants}")
    (tmp_path / "b.txt").write_text("b {instruction}")
    (tmp_path / "a.txt").write_text("a {instruction}")
    (tmp_path / "notes.md").write_text("not a prompt")
    prompts = load_prompts("complexity", tmp_path)
    assert list(prompts.methods) == ["a", "b"] and prompts.rank == "Rank {variants}"


@pytest.mark.parametrize(
    ("files", "scores", "message"),
    [
        ({}, "complexity", "has no .txt file; put NAME.txt for each method"),
        ({"x.md": "{instruction}"}, "complexity", "has no .txt file"),
        ({"x.txt": "{instrution}"}, "complexity", "x.txt lacks {instruction}"),
        ({"x.txt": "{instruction}"}, "quality", "x.txt lacks {response}"),
        ({"x.txt": ""}, "quality", "x.txt lacks {instruction} and {response}"),
        ({"rank.txt": "{variant}"}, "quality", "rank.txt lacks {variants}"),
    ],
)
def test_what_is_wrong_with_a_folder_is_said(tmp_path, files, scores, message):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(BadPrompt, match=re.escape(message)):
        load_prompts(scores, tmp_path)


def test_no_folder_and_no_such_scores(tmp_path):
    with pytest.raises(BadPrompt, match="nosuch' is no folder"):
        load_prompts("complexity", tmp_path / "nosuch")
    with pytest.raises(ValueError, match="scores='depth'; it is one of 'complexity', 'quality'"):
        load_prompts("depth")
    (tmp_path / "x.txt").write_bytes(b"\xff{instruction}")
    with pytest.raises(BadPrompt, match="x.txt is not UTF-8"):
        load_prompts("complexity", tmp_path)


def test_braces_in_the_texts_stay():
    assert filled("{instruction} {response} {n}", instruction="{response}", response="{n}", n="3") == "{response} {n} 3"
    assert filled('{"a": {instruction}}', instruction="1") == '{"a": 1}'


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        ("<rewritten>Name two.</rewritten>", "Name two."),
        ("Sure, here it is:\n\n<rewritten>\n Name\n two. \n</rewritten>\nAnything else?", "Name\n two."),
        ("<think>The <rewritten>a</rewritten> tag</think>\n<rewritten>b</rewritten>", "b"),
        ("<rewritten>print('</p>')</rewritten>", "print('</p>')"),
    ],
)
def test_what_stands_between_the_tags(reply, text):
    assert read_rewritten(reply) == text


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        ("Name two.", "holds no <rewritten>"),
        ("<rewritten>Name two", "cut off"),
        ("Name two.</rewritten>", "holds no <rewritten>"),
        ("<rewritten> \n </rewritten>", "empty"),
        ("<rewritten>a</rewritten> or <rewritten>b</rewritten>", "2 texts"),
        ("<rewritten>Use <rewritten>a</rewritten> twice.</rewritten>", "2 texts"),
        ("</rewritten>a<rewritten>", "cut off"),
    ],
)
def test_replies_that_do_not_count(reply, problem):
    with pytest.raises(Malformed, match=problem):
        read_rewritten(reply)


def test_the_whole_reply():
    assert read_whole(" a\n\nb \n") == "a\n\nb"
    assert read_whole("<think>hm\nhm</think>\n\nyes") == "yes"
    with pytest.raises(Malformed, match="empty"):
        read_whole("<think>hm</think>\n")
