"""A card says how rows were chosen, keeps what people wrote, and shows hostile rows without being broken by them."""

import ast
import json
import re

import numpy as np
import pytest
import yaml
from datasets import Dataset, Features, List, Value, load_dataset
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

import hf_dsel
from hf_dsel.card import BrokenMetadata, CardEdited, card_text, license_of
from hf_dsel.card_frame import BEGIN, END
from hf_dsel.card_markdown import code, fenced, plain
from hf_dsel.card_metadata import LICENSES, merged, size_category, split

HTML = MarkdownIt("commonmark", {"html": True}).enable("table")
POOL = Dataset.from_dict(
    {
        "instruction": [f"say {i}" for i in range(40)],
        "output": ["w " * (i + 1) for i in range(40)],
        "quality": [None if i == 3 else float(i % 7) for i in range(40)],
    }
)
SCORERS = {
    "quality": {
        "scorer": "DeitaQuality()",
        "model": "hkust-nlp/deita-quality-scorer",
        "revision": "f00d" * 10,
        "turns": "all",
    }
}
ORIGIN = {"repo": "org/pool", "revision": "abc1" * 10, "config": "en", "split": "train"}


def made(pool=POOL, strategy="top_k", *, k=5, origin=ORIGIN, scorers=SCORERS, describe=False, **params):
    """The arguments of a card."""
    subset = hf_dsel.select_by(pool, strategy, k=k, **params)
    record = json.loads(hf_dsel.selection_of(subset).to_json()) | {"origin": origin, "scorers": scorers}
    return {
        "repo_id": "me/curated", "record": record, "features": subset.features, "rows": len(subset),
        "description": hf_dsel.describe(pool, subset, random=2) if describe else None,
        "examples": [subset[0], subset[1]], "pictures": ["hf_dsel/scores.png", "hf_dsel/map.png", "hf_dsel/texts.png"],
        "license": "cc-by-nc-4.0", "previous": None,
    }  # fmt: skip


ARGUMENTS = made(describe=True)


def card(previous=None, **changes):
    return card_text(**(ARGUMENTS | {"previous": previous} | changes))


def metadata(text):
    return yaml.safe_load(split(text)[0])


def outside(text):
    """What stands above and below the generated part."""
    body = split(text)[1]
    begin, end = BEGIN.search(body), END.search(body)
    return body[: begin.start()], body[end.end() :]


def inside(text):
    body = split(text)[1]
    return body[BEGIN.search(body).end() : END.search(body).start()]


def blocks(text, language):
    """The code blocks of a language, as a Markdown parser reads them."""
    return [t.content for t in HTML.parse(text) if t.type == "fence" and t.info == language]


# What the card says


def test_the_first_card():
    text = card()
    assert metadata(text) == {
        "license": "cc-by-nc-4.0", "tags": ["hf_dsel", "top_k"], "source_datasets": ["org/pool"],
        "size_categories": ["n<1K"], "task_categories": ["text-generation"],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*"}]}],
    }  # fmt: skip
    above, below = outside(text)
    assert above.startswith("# curated\n\n") and below.strip() == ""
    for said in (
        "5 of the 40 rows of [org/pool](https://huggingface.co/datasets/org/pool/tree/abc1",
        "it keeps the rows with the largest (or smallest) score",
        "Asked for: 5 rows. Seed: 42.",
        "1 row of the source could not be considered: 1 has no quality.",
        "| `quality` | `DeitaQuality` | `hkust-nlp/deita-quality-scorer` | `" + "f00d" * 10 + "` | `turns='all'` |",
        "hf-dsel verify me/curated",
        "Licence: cc-by-nc-4.0. The rows are from org/pool",
        "[Alpagasus](https://arxiv.org/abs/2307.08701)",
    ):
        assert said in text


def test_the_table_is_the_description():
    text = inside(card())
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    cells = ARGUMENTS["description"].cells()
    assert lines[0] == "|  | source (before) | these rows (after) | random (mean of 2) |"
    table = [[c.strip() for c in line.strip("|").split(" | ")] for line in lines[2 : 1 + len(cells)]]
    assert [row[0] for row in table] == [row[0] for row in cells[1:]]
    by_name = {row[0]: row for row in table}
    for name, subset, random, pool in cells[1:]:
        assert [c.replace("\\", "") for c in by_name[name][1:]] == [pool, subset, random]
    for note in (*ARGUMENTS["description"].notes, *ARGUMENTS["description"].left_out):
        assert plain(note) in text


def test_a_card_without_table_pictures_and_random_draws():
    text = card(description=None, pictures=[])
    assert "Before and after" not in text and "Pictures" not in text
    alone = card(description=hf_dsel.describe(POOL, np.arange(3), random=0))
    assert "drawn by chance" not in alone and "±" not in alone


def test_pictures_have_words_and_the_missing_map_a_reason():
    text = card(pictures=["hf_dsel/scores.png"])
    images = [c for t in HTML.parse(text) for c in t.children or () if c.type == "image"]
    assert [i.attrs["src"] for i in images] == ["hf_dsel/scores.png"] and len(images[0].content) > 30
    assert "No map of the embeddings" in text and "No map" not in card()


def test_shortfall_options_and_what_is_unknown():
    scarce = POOL.select(range(10))
    with pytest.warns(hf_dsel.Shortfall):
        arguments = made(scarce, k=5, floor=5.0, origin=None, scorers={})
    text = card_text(**arguments)
    assert "(`floor=5.0`)" in text and "3 rows fewer than asked for" in text
    assert "a dataset that was not on the Hub" in text
    assert "| `quality` | unknown: the column was there before" in text
    assert "source_datasets" not in metadata(text)


def test_a_strategy_of_somebody_else():
    record = ARGUMENTS["record"] | {"strategy": "<pkg.Mine object at 0x7f -->"}
    text = card(record=record)
    assert "a strategy that is not part of" in text and metadata(text)["tags"] == ["hf_dsel", "mine"]
    assert card(text, record=record) == text
    ast.parse(blocks(text, "python")[1])


def test_settings_that_are_long_are_cut_and_say_so():
    scorers = {"quality": {"scorer": "Judge(prompt=open('p'))", "model": None, "prompt": "x|" * 5000}}
    text = card(record=ARGUMENTS["record"] | {"scorers": scorers})
    assert len(text) < 20_000 and "(cut: 300 of 10,0" in text
    ast.parse(blocks(text, "python")[1])


def test_where_a_local_model_lies_is_not_told():
    how = {
        "scorer": "DeitaQuality(model='/home/ada/runs/my-scorer')",
        "model": "/home/ada/runs/my-scorer",
        "revision": None,
    }
    text = card(record=ARGUMENTS["record"] | {"scorers": {"quality": how}})
    assert "ada" not in text and "`my-scorer`, a local one" in text
    assert "hf_dsel.DeitaQuality(model='path/to/my-scorer')" in text


# The lines to paste


def test_the_lines_make_the_rows_again(tmp_path):
    texts = {"instruction": POOL["instruction"][:], "output": [" ".join(["w"] * (i * 7 % 23)) for i in range(40)]}
    source, repo = tmp_path / "pool", tmp_path / "repo"
    Dataset.from_dict(texts).to_parquet(str(source / "train.parquet"))
    loaded = load_dataset(str(source), split="train")
    scorer = hf_dsel.Length(of="response", unit="words")
    pool = hf_dsel.score(loaded, scorer)
    subset = hf_dsel.select_by(pool, "top_k", k=6, column="response_words", largest=False, seed=7)
    record = json.loads(hf_dsel.selection_of(subset).to_json())
    record |= {"origin": {"repo": str(source), "revision": None, "config": None, "split": "train"}}
    record |= {"scorers": {"response_words": {"scorer": repr(scorer), "model": None, "revision": None}}}
    arguments = {"repo_id": str(repo), "record": record, "features": subset.features, "rows": 6}
    text = card(**arguments, license="mit")
    subset.to_parquet(str(repo / "data/train-00000-of-00001.parquet"))
    (repo / "hf_dsel.json").write_text(json.dumps(record))
    (repo / "README.md").write_text(text)
    (repo / "hf_dsel").mkdir()
    (repo / "hf_dsel/scores.png").write_bytes(b"no image")

    assert load_dataset(str(repo), split="train").to_list() == subset.to_list()  # as `configs` says
    again, anew = blocks(text, "python")
    if not hasattr(hf_dsel, "load"):
        pytest.skip("nothing loads a published subset yet")
    names = {}
    exec(again, names)
    assert names["subset"].to_list() == subset.to_list()
    assert [r["output"] for r in names["again"].to_list()] == [r["output"] for r in subset.to_list()]
    exec(anew, names)
    assert names["subset"].to_list() == subset.to_list()


@pytest.mark.parametrize(
    ("strategy", "params"),
    [
        ("random", {}),
        ("top_k", {"column": ["quality", "quality"], "weights": [0.5, 0.5], "ceiling": 6.0}),
        ("threshold", {"column": "quality", "low": 2.0}),
        ("stratified", {"column": "instruction"}),
    ],
)
def test_the_choice_as_code_gives_the_same_picks(strategy, params):
    arguments = made(strategy=strategy, k=4, **params)
    line = blocks(card_text(**arguments), "python")[1].splitlines()[-1]
    names = {"hf_dsel": hf_dsel, "pool": POOL}
    exec(line, names)
    assert hf_dsel.selection_of(names["subset"]).indices.tolist() == arguments["record"]["indices"]


def test_versions_can_be_installed():
    [line, _] = blocks(
        card(record=ARGUMENTS["record"] | {"versions": {"torch": "2.13.0+cpu", "python": "3.11.7"}}), "bash"
    )
    assert line == '# Python 3.11.7\npip install "torch==2.13.0"\n'


# What people wrote


PEOPLE = st.text(st.sampled_from("a #\n\r\t`|<>-!$é汉😀{}*_'\""), max_size=60)


@given(PEOPLE, PEOPLE)
def test_a_persons_text_stays_byte_for_byte_over_two_pushes(above, below):
    front, body = f"---\n{split(card())[0]}\n---\n", split(card())[1]
    begin, end = BEGIN.search(body), END.search(body)
    edited = f"{front}{above}\n{body[begin.start() : end.end()]}\n{below}"
    other = card(edited, rows=7_000, license="mit")
    assert outside(other) == (f"{above}\n", f"\n{below}")
    third = card(other, examples=[])
    assert outside(third) == outside(other)
    assert card(third, examples=[]) == third


@given(PEOPLE)
def test_a_card_without_our_part_keeps_every_byte_and_gets_it_below(written):
    text = card(f"---\nlicense: mit\n---\n{written}")
    above, _ = outside(text)
    if written.strip():
        assert above.startswith(written) and above[len(written) :].strip("\n") == ""
        assert above.endswith("\n\n")
    assert card(text) == text


def test_the_same_arguments_give_the_same_card():
    assert card() == card() and card(card()) == card()


def test_the_person_may_delete_both_comments_with_the_part():
    text = card()
    body = split(text)[1]
    kept = "# Mine\n" + body[END.search(body).end() :]
    again = card(kept)
    assert outside(again)[0].startswith("# Mine\n") and "How these rows" in inside(again)


def test_other_line_endings_and_trimmed_lines_are_no_edit():
    text = card()
    trimmed = "\n".join(line.rstrip() for line in text.split("\n"))
    assert trimmed != text and inside(card(trimmed)) == inside(text)
    assert inside(card(text.replace("\n", "\r\n"))) == inside(text)


def test_an_emptied_part_is_filled_again_where_it_was():
    text = card()
    emptied = text.replace(inside(text), "\n") + "My words.\n"
    assert card(emptied) == text + "My words.\n"


def test_an_edit_inside_is_refused_with_its_lines_and_the_next_step():
    text = card()
    edited = text.replace("The rows are in the order of picking.", "These are lovely rows.")
    with pytest.raises(CardEdited, match=r"Move your text above or below these two lines") as error:
        card(edited)
    first, last = map(int, re.search(r"lines (\d+) and (\d+)", str(error.value)).groups())
    lines = edited.splitlines()
    assert lines[first - 1].startswith("<!-- hf_dsel:begin") and lines[last - 1].startswith("<!-- hf_dsel:end")


@pytest.mark.parametrize("lost", ["begin", "end", "doubled", "swapped", "hash"])
def test_lost_comments_are_refused(lost):
    text = card()
    begin, end = BEGIN.search(text)[0], END.search(text)[0]
    broken = {
        "begin": text.replace(begin, ""),
        "end": text.replace(end, ""),
        "doubled": text + "\n" + end,
        "swapped": text.replace(begin, "X").replace(end, begin).replace("X", end),
        "hash": text.replace(end, "<!-- hf_dsel:end 000000000000 -->"),
    }[lost]
    with pytest.raises(CardEdited, match="Nothing was written"):
        card(broken)


# Metadata


PREVIOUS = """---
# who asked for it: the lab
language:
- en   # mostly
license: cc-by-nc-4.0
pretty_name: "The Lab's: rows"
tags: [mine, hf_dsel]
configs:
- config_name: extra
  data_files: extra/*.parquet
dataset_info:
  features: []
  splits:
  - name: train
    num_bytes: 1
    num_examples: 99999
# the end
---
Hello.
"""


def test_metadata_of_a_person_stays_with_comments():
    text = card(PREVIOUS)
    kept = split(text)[0]
    for line in ("# who asked for it: the lab", "- en   # mostly", "license: cc-by-nc-4.0", "# the end",
                 'pretty_name: "The Lab\'s: rows"'):  # fmt: skip
        assert line in kept.splitlines()
    data = metadata(text)
    assert data["tags"] == ["mine", "hf_dsel", "top_k"] and data["language"] == ["en"]
    assert [c["config_name"] for c in data["configs"]] == ["default", "extra"]
    assert "dataset_info" not in data  # it would make load_dataset refuse the new files
    assert metadata(card(text)) == data and split(card(text))[0] == kept


def test_what_an_earlier_push_added_goes_and_what_a_person_added_stays():
    first = card("---\ntags: [deita]\nsource_datasets: [theirs]\n---\n")
    other = made(strategy="random", origin=ORIGIN | {"repo": "org/other"})
    text = card_text(**(other | {"previous": first}))
    assert metadata(text)["tags"] == ["deita", "hf_dsel", "random"]
    assert metadata(text)["source_datasets"] == ["theirs", "org/other"]


def test_a_dataset_info_that_is_still_true_stays():
    info = {"features": [{"name": n} for n in ARGUMENTS["features"]], "splits": [{"name": "train", "num_examples": 5}]}
    front = yaml.safe_dump({"dataset_info": info})
    assert metadata(card(f"---\n{front}---\n"))["dataset_info"] == info
    assert "dataset_info" not in metadata(card(f"---\n{front}---\n", rows=6))


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ("license: mit\ntags: [a, b\nlanguage: en", "line 4"),
        ("license: mit\n\ta: b", "line 3"),
        ("license: !!python/object:os.system x", "line 2"),
        ("- a\n- b", "a list and not"),
        ("just words", "a str and not"),
        ("date: 2026-99-99", "cannot be read"),
    ],
)
def test_broken_metadata_says_where(block, said):
    with pytest.raises(BrokenMetadata, match=re.escape(said)):
        card(f"---\n{block}\n---\ntext\n")


def test_metadata_that_never_closes():
    with pytest.raises(BrokenMetadata, match="never closes"):
        card("---\nlicense: mit\n\n# A card\n")


@pytest.mark.parametrize("block", ["{license: mit, a: 1}", "a: &x [1, 2]\nb: *x", "1: one\ntags: t", ""])
def test_unusual_but_valid_metadata(block):
    before = yaml.safe_load(block) or {}
    after = metadata(card(f"---\n{block}\n---\n"))
    kept = {k: v for k, v in before.items() if k not in ("license", "tags")}
    assert kept == {k: after[k] for k in kept} and after["tags"][-2:] == ["hf_dsel", "top_k"]


WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=9)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@given(
    st.dictionaries(st.sampled_from(["pretty_name", "language", "x", "yes", "license_link", "a-b"]), VALUES),
    st.booleans(),
)
def test_any_keys_survive(data, flow):
    block = yaml.safe_dump(data, default_flow_style=flow, allow_unicode=True)
    after = metadata(card(f"---\n{block}---\n"))
    assert {k: after[k] for k in data if k != "license_link"} == {k: v for k, v in data.items() if k != "license_link"}
    assert after["license"] == "cc-by-nc-4.0"


def test_licences():
    assert license_of(None) is None and license_of("no metadata") is None and license_of("---\na: 1\n---\n") is None
    text = card(license="The Lab's Own Terms 1.0")
    assert metadata(text)["license"] == "other" and metadata(text)["license_name"] == "The Lab's Own Terms 1.0"
    assert license_of(text) == "The Lab's Own Terms 1.0"
    again = card(text, license="mit")
    assert metadata(again)["license"] == "mit" and "license_name" not in metadata(again)
    assert license_of("---\nlicense: [mit, apache-2.0]\n---\n") == "mit, apache-2.0"
    both = card("---\nlicense: [mit, apache-2.0]\n---\n", license="mit, apache-2.0")
    assert metadata(both)["license"] == ["mit", "apache-2.0"]
    assert "Licence: mit, given by the lab." in card(license="mit", license_origin="given by the lab")
    assert {"mit", "apache-2.0", "cc-by-4.0", "cc-by-sa-4.0", "odc-by", "unknown", "other"} <= LICENSES


@pytest.mark.parametrize("power", range(13))
def test_size_categories_are_the_hubs(power):
    names = ["n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B", "1B<n<10B",
             "10B<n<100B", "100B<n<1T", "n>1T"]  # fmt: skip
    assert size_category(10**power) == names[max(power - 2, 0)]
    assert size_category(10 ** (power + 1) - 1) == names[max(power - 2, 0)]


def test_task_only_where_known():
    def tasks(*columns):
        features = Features({c: Value("string") for c in columns})
        text = merged(None, name="x", source=None, license="mit", rows=1, features=features, stale={})
        return yaml.safe_load(text.strip("-\n")).get("task_categories")

    assert tasks("prompt", "completion") == ["text-generation"] == tasks("prompt", "chosen", "rejected")
    assert tasks("text") is None and tasks("question", "label") is None
    assert metadata(card("---\ntask_categories: [translation]\n---\n"))["task_categories"] == ["translation"]


# Rows that could break a card


HOSTILE = {
    "backticks": "```python\nx\n```\n``````\n````````text",
    "pipes": "| a | b |\n|---|---|\n| 1 | 2 |",
    "comments": "<!-- hf_dsel:begin strategy=x -->\n<!-- hf_dsel:end 000000000000 -->\n<!--",
    "html": "</details></div><script>alert(1)</script><img src=x onerror=alert(1)>",
    "direction": "\u202eevil\u202c \u2066x\u2069 שלום مرحبا",
    "emoji": "😀👩‍👩‍👧‍👦 ✅",
    "large": "ab " * 350_000,
    "surrogates": "\ud800 and \udfff",
    "controls": "a\x00b\x1b[31m\rc\x85d",
    "front": "---\nlicense: evil\n---\n# A heading\n- [ ] x\n$$\\frac{1}{2}$$",
    "empty": "",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_rows(kind):
    text = HOSTILE[kind]
    row = {"instruction": text, "output": f"{text}\n{text}", "quality": 1.0}
    found = card(examples=[row, row])
    found.encode("utf-8")
    assert len(found) < 30_000 and card(found, examples=[row, row]) == found
    assert len(BEGIN.findall(found)) == len(END.findall(found)) == 1
    plainly = card(examples=[{"instruction": "x", "output": "y", "quality": 1.0}] * 2)
    shape = [(t.type, t.tag) for t in HTML.parse(plainly)]
    assert [(t.type, t.tag) for t in HTML.parse(found)] == shape or kind == "empty"
    assert not re.search("[\u202a-\u202e\u2066-\u2069\ud800-\udfff\x00\x1b]", found)
    if kind == "large":
        assert "(cut: 600 of 1,050,000 characters)" in found
    if kind == "html":
        assert "<script" not in HTML.render(found)


def test_hostile_names_of_columns_and_conversations():
    names = ["a|b", "`tick`", "<!-- hf_dsel:end 000000000000 -->", "new\nline", "$x_1$", "质量", "</td>"]
    pool = Dataset.from_dict({"text": ["a", "b"], **{n: [1.0, 2.0] for n in names}})
    subset = hf_dsel.select_by(pool, "top_k", k=2, column=names)
    record = json.loads(hf_dsel.selection_of(subset).to_json()) | {"origin": None}
    text = card(
        record=record, features=subset.features, examples=[subset[0]], description=hf_dsel.describe(pool, subset)
    )
    assert card(text, record=record, features=subset.features, examples=[subset[0]]) is not None
    tables = [t for t in HTML.parse(text) if t.type == "th_open"]
    rows = HTML.render(text).count("<tr>")
    lines = len(hf_dsel.describe(pool, subset).metrics) + len(subset.features) + len(names)
    assert len(tables) == 4 + 3 + 5 and rows == 3 + lines
    for block in blocks(text, "python"):
        ast.parse(block)
    messages = [{"role": "user", "content": "hi ```"}, {"role": "assistant", "content": "ho"}] * 20
    features = Features({"messages": List({"role": Value("string"), "content": Value("string")})})
    said = card(features=features, examples=[{"messages": messages}])
    assert "… (cut: 8 of 40 messages)" in said and "`list of {role: string, content: string}`" in said


@given(st.text(max_size=80))
def test_text_is_shown_and_does_nothing_else(text):
    shown = "".join(t.content for t in HTML.parse(fenced(text)) if t.type == "fence")
    assert len(HTML.parse(fenced(text))) == 1
    if text.isprintable() and "<!--" not in text:
        assert shown == text + "\n"
    for made_of in (plain, code):
        line = made_of(text)
        assert "\n" not in line
        inline = [c.type for t in HTML.parse(f"x {line} x") for c in t.children or ()]
        assert set(inline) <= (
            {"text", "text_special"} if made_of is plain else {"text", "text_special", "code_inline"}
        )
