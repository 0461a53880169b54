# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""The flags of `hf-dsel bank`."""

from __future__ import annotations

import argparse

from hf_dsel.scorer_specs import value

ARGUMENTS = {
    "init": "DIR", "update": "DIR DATASET", "show": "DIR", "export": "DIR", "push": "DIR REPO", "pull": "DIR REPO",
}  # fmt: skip


def add_place(parser: argparse.ArgumentParser, verb: str) -> None:
    """Which bank, and what names it elsewhere."""
    group = parser.add_argument_group("the bank")
    group.add_argument("folder", nargs="?", metavar="DIR", help="the folder that holds it" if verb != "pull" else
                       "a new folder to write it to")  # fmt: skip
    if verb in ("push", "pull"):
        group.add_argument("repo", nargs="?", metavar="REPO", help="name/repository")
    if verb == "push":
        group.add_argument("--public", action="store_true", help="make a new repository public (default: private; one "
                           "that exists keeps its visibility)")  # fmt: skip
        group.add_argument("--license", metavar="ID", help="of the rows, such as cc-by-4.0 (default: that of the card "
                           "that is there)")  # fmt: skip
        group.add_argument("--message", metavar="TEXT", help="the commit's title")
    if verb == "pull":
        group.add_argument("--revision", metavar="NAME", help="an earlier commit, a branch or a tag")
    if verb == "update":
        group.add_argument("--source", metavar="NAME", help="kept with each row (default: the last part of the id or "
                           "path, without its ending)")  # fmt: skip
    if verb == "show":
        group.add_argument("--rounds", action="store_true", help="every round, with the sources after each")
        group.add_argument("--top", type=int, metavar="N", help="how many of the first rows to print (default: 5)")
        group.add_argument("--picture", metavar="FILE", help="draw the sources round by round (.png, .svg or .pdf)")


def add_options(parser: argparse.ArgumentParser, verb: str) -> None:
    """The flags after those of the dataset and the scorers."""
    if verb in ("init", "update"):
        _add_settings(parser, "settings of the bank" if verb == "init" else "settings, checked against the bank's")
    group = parser.add_argument_group("the result" if verb == "export" else "other")
    if verb == "export":
        group.add_argument("--out", metavar="OUT", help="folder to write train.parquet to")
        group.add_argument("--top", type=int, metavar="B", help="only the best B rows (default: all)")
        group.add_argument(
            "--overwrite", action="store_true", help="replace an earlier train.parquet (default: refuse)"
        )
    if verb == "update":
        group.add_argument("--dry-run", action="store_true", help="say what would be computed and how large the "
                           "largest array is; change nothing")  # fmt: skip
    group.add_argument("--config", metavar="FILE", help="YAML with these options; flags win over it")


def _add_settings(parser: argparse.ArgumentParser, title: str) -> None:
    group = parser.add_argument_group(title)
    group.add_argument("--size", type=int, metavar="ROWS", help="rows it holds at most (default: 6000)")
    group.add_argument("--quality", metavar="COLUMN", help="the score to read (default: quality)")
    group.add_argument("--embedding", metavar="COLUMN", help="the vectors to read (default: embedding)")
    group.add_argument("--gamma", type=float, metavar="X", help="weight of the quality; 0 reads none (default: 1)")
    group.add_argument("--combine", metavar="HOW", help="multiply or add (default: multiply)")
    group.add_argument("--preference", type=value, metavar="P", help="diagonal of the similarities: 0 as published, "
                       "median, or a number (default: 0)")  # fmt: skip
    group.add_argument("--neighbours", type=value, metavar="N", help="pass messages along the N nearest alone, or none "
                       "for all pairs (default: none)")  # fmt: skip
    group.add_argument("--history", metavar="KIND", help="how the past counts: sketch, paper, repository or none "
                       "(default: sketch)")  # fmt: skip
    group.add_argument("--bits", type=float, metavar="X", help="of the sketch, a dimension (default: 3)")
    group.add_argument("--chunk", type=value, metavar="ROWS", help="new rows a round at most, or none (default: none)")
    group.add_argument("--momentum", type=float, metavar="X", help="of the other histories (default: 0.5)")
    group.add_argument("--decay", type=float, metavar="X", help="of the momentum, an iteration (default: 0.99)")
    group.add_argument("--iterations", type=int, metavar="N", help="of the messages at most (default: 200)")
    group.add_argument("--damping", type=float, metavar="X", help="of the messages, in [0, 1) (default: 0.5)")
