# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""What `hf-dsel verify` does with its options."""

from __future__ import annotations

import argparse
from typing import Any

from hf_dsel.progress import is_main_process
from hf_dsel.reporting import show
from hf_dsel.selection_block import BadConfig
from hf_dsel.verifying import verify as verify_rows


def add_options(parser: argparse.ArgumentParser) -> None:
    """The flags of `hf-dsel verify`."""
    group = parser.add_argument_group("what to check")
    group.add_argument("place", nargs="?", metavar="REPO", help="name/repository, or a folder that hf-dsel select "
                       "wrote")  # fmt: skip
    group.add_argument("--revision", metavar="NAME", help="a branch, tag or commit of it (default: the newest)")
    group.add_argument("--source", metavar="DATASET", help="the pool: a file, a folder, a Hub id, or REPO@REVISION "
                       "(default: where the record says)")  # fmt: skip
    group.add_argument("--config", metavar="FILE", help="YAML with these options; flags win over it")


def verify(options: dict[str, Any]) -> int:
    """`hf-dsel verify`: 0 when the rows are what the record produces, else 1."""
    if not options.get("place"):
        raise BadConfig("which repository or folder? For example hf-dsel verify me/alpaca-3k")
    if not is_main_process():
        return 0
    found = verify_rows(options["place"], source=options.get("source"), revision=options.get("revision"))
    show(found)
    return 0 if found else 1
