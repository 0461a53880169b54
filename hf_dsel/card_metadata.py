# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""The YAML at the top of a dataset card: what is there stays, what hf_dsel knows is set."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from datasets import Features

from hf_dsel.rows import UnknownFormat, detect

# The Hub's own pattern (huggingface_hub.repocard.REGEX_YAML_BLOCK).
BLOCK = re.compile(r"^(\s*---(?:\r\n|\r|\n))([\S\s]*?)((?:\r\n|\r|\n)---[ \t]*(?:\r\n|\n|$))")
DATA_FILES = "data/train-*"
CONFIG = {"config_name": "default", "data_files": [{"split": "train", "path": DATA_FILES}]}
SIZES = ("1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T")
LICENSES = frozenset(
    """apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0
    bigcode-openrail-m afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0
    cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0
    cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0
    cdla-permissive-1.0 cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl
    gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 isc lppl-1.3c ms-pl mpl-2.0 odc-by odbl ofl-1.1 osl-3.0 postgresql ncsa
    unlicense zlib pddl lgpl-lr deepfloyd-if-license llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 gemma unknown
    other""".split()
)


class BrokenMetadata(ValueError):
    """The metadata at the top of a card is no valid YAML mapping; the text names the line."""


def split(card: str) -> tuple[str | None, str]:
    """The text of the YAML block (None when there is none), and everything after it.

    >>> split("---\\nlicense: mit\\n---\\n# A title\\n")
    ('license: mit', '# A title\\n')

    Raises:
        BrokenMetadata: the block never ends.
    """
    found = BLOCK.match(card)
    if found:
        return found[2], card[found.end() :]
    empty = re.match(r"^\s*---(?:\r\n|\r|\n)---[ \t]*(?:\r\n|\n|$)", card)
    if empty:
        return "", card[empty.end() :]
    if re.match(r"---[ \t]*(\r|\n|$)", card):
        raise BrokenMetadata(
            "README.md opens its metadata in line 1 (---) and never closes it. Nothing was written. Add a line --- "
            "below the metadata, or delete line 1."
        )
    return None, card


def read(block: str | None) -> dict[str, Any]:
    """The metadata in a block.

    Raises:
        BrokenMetadata: no valid YAML, or no mapping.
    """
    try:
        found = yaml.safe_load(block or "")
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 2}, column {mark.column + 1}" if mark else ""  # line 1 is ---
        problem = " ".join(str(getattr(error, "problem", None) or getattr(error, "reason", None) or error).split())
        raise BrokenMetadata(
            f"the metadata at the top of README.md is no valid YAML{line}: {problem}. Nothing was written. Correct "
            "that line, then push again."
        ) from None
    except (ValueError, RecursionError) as error:  # a date such as 2026-99-99
        raise BrokenMetadata(f"the metadata at the top of README.md cannot be read: {error}. Correct it.") from None
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise BrokenMetadata(
            f"the metadata at the top of README.md, from line 2, is a {type(found).__name__} and not `key: value` "
            "lines. Nothing was written. Correct it, then push again."
        )
    return found


def license_of(card: str | None) -> str | None:
    """The licence that a card's metadata states, or None. Of several, all, joined by commas.

    >>> license_of("---\\nlicense: cc-by-nc-4.0\\n---\\n")
    'cc-by-nc-4.0'

    Raises:
        BrokenMetadata: no valid YAML.
    """
    return _license(read(split((card or "").removeprefix("\ufeff"))[0]))


def _license(data: Mapping[str, Any]) -> str | None:
    found = data.get("license_name") if data.get("license") == "other" else None
    found = found or data.get("license")
    if isinstance(found, list):
        return ", ".join(str(one) for one in found) or None
    return str(found) if found and str(found) != "unknown" else None


def size_category(rows: int) -> str:
    """The Hub's name for a number of rows.

    >>> size_category(999), size_category(1000), size_category(52_002)
    ('n<1K', '1K<n<10K', '10K<n<100K')
    """
    at = max(len(str(rows)) - 3, 0)
    if at == 0:
        return "n<1K"
    return f"{SIZES[at - 1]}<n<{SIZES[at]}" if at < len(SIZES) else "n>1T"


def merged(
    block: str | None,
    *,
    name: str,
    source: str | None,
    license: str,
    rows: int,
    features: Features,
    stale: Mapping[str, str],
) -> str:
    """The metadata as text, between its two lines ---: the person's keys as they are, and hf_dsel's set.

    Args:
        block: the YAML that is there.
        name: of the strategy, a tag.
        source: the repo that the rows were picked from.
        license: an id of the Hub's, or any other name, which becomes `license: other` with a `license_name`.
        rows: how many are published.
        features: of these rows.
        stale: strategy and source of the last push; they go where they are not the same any more.

    Raises:
        BrokenMetadata: the block is no valid YAML mapping.
    """
    data = read(block)
    new: dict[str, Any] = dict(data)
    if _license(data) != license:
        for old in ("license", "license_name", "license_link"):
            new.pop(old, None)
        spelled = license.strip().lower()
        new |= {"license": spelled} if spelled in LICENSES else {"license": "other", "license_name": license.strip()}
    new["tags"] = _list(data.get("tags"), ["hf_dsel", name], stale.get("strategy"))
    sources = _list(data.get("source_datasets"), [source] if source else [], stale.get("source"))
    if sources or "source_datasets" in data:
        new["source_datasets"] = sources
    new["size_categories"] = [size_category(rows)]
    if "task_categories" not in data and _generates(features):
        new["task_categories"] = ["text-generation"]
    configs = data.get("configs")
    others = [c for c in (configs if isinstance(configs, list) else [configs]) if _name(c) not in ("default", "")]
    new["configs"] = [CONFIG, *others]
    if "dataset_info" in data:
        info = _still_true(data["dataset_info"], rows, features)
        new.pop("dataset_info")
        new |= {"dataset_info": info} if info else {}
    return f"---\n{_written(block or '', data, new)}---\n"


def _list(there: Any, ours: Sequence[str], stale: str | None) -> list[Any]:
    """What is there, in its order, without what an earlier push added, and ours."""
    before = there if isinstance(there, list) else [] if there is None else [there]
    kept = [one for one in before if one != stale or one in ours]
    return [*kept, *(one for one in dict.fromkeys(ours) if one not in kept)]


def _name(config: Any) -> str:
    return str(config.get("config_name", "default")) if isinstance(config, dict) else ""


def _generates(features: Features) -> bool:
    """Whether the rows hold answers to prompts."""
    try:
        return detect(features) not in ("text", "prompt")
    except UnknownFormat:
        return False


def _still_true(info: Any, rows: int, features: Features) -> Any:
    """`dataset_info` without an entry for our rows that is no longer so: `load_dataset` would refuse the files."""

    def true(one: Any) -> bool:
        if not isinstance(one, dict) or one.get("config_name", "default") != "default":
            return True
        train = [s for s in one.get("splits") or [] if isinstance(s, dict) and s.get("name") == "train"]
        names = [f.get("name") for f in one.get("features") or [] if isinstance(f, dict)]
        return names == list(features) and [s.get("num_examples") for s in train] == [rows]

    if isinstance(info, list):
        return [one for one in info if true(one)]
    return info if true(info) else None


def _written(block: str, data: dict[str, Any], new: dict[str, Any]) -> str:
    """The block with only the lines of changed keys replaced, so that comments and spellings stay."""
    lines = [line.rstrip("\r\n") for line in block.splitlines()]
    spans = _spans(block, lines)
    out, at = [], 0
    for key, (start, end) in sorted(spans.items(), key=lambda item: item[1]):
        out += lines[at:start]
        if key not in new:
            pass
        elif type(new[key]) is type(data.get(key)) and new[key] == data[key]:
            out += lines[start:end]
        else:
            out += _dumped({key: new[key]}).splitlines()
        at = end
    text = "\n".join([*out, *lines[at:]])
    rest = {key: value for key, value in new.items() if key not in data}
    text = (text + "\n" if text.strip() else "") + (_dumped(rest) if rest else "")
    try:
        if yaml.safe_load(text) == new:
            return text
    except yaml.YAMLError:
        pass
    return _dumped(new)  # a block written on one line, or with references


def _spans(block: str, lines: Sequence[str]) -> dict[str, tuple[int, int]]:
    """The first line and the line after the last of every key, comments and empty lines between them not counted."""
    node = yaml.compose(block, Loader=yaml.SafeLoader) if block.strip() else None
    if not isinstance(node, yaml.MappingNode) or node.flow_style:
        return {}
    starts = [(key.value, key.start_mark.line) for key, _ in node.value]
    ends = [*(line for _, line in starts[1:]), len(lines)]
    spans = {}
    for (key, start), end in zip(starts, ends, strict=True):
        while end > start + 1 and (not lines[end - 1].strip() or lines[end - 1].startswith("#")):
            end -= 1
        spans[key] = (start, end)
    return spans


def _dumped(data: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(data), sort_keys=False, allow_unicode=True, width=10_000)
