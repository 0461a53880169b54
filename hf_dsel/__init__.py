# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Choose the best subset of an instruction or preference dataset.

`import hf_dsel` adds one method to `datasets`: `dataset.select_by(strategy, k=...)`. Set HF_DSEL_ATTACH=0 to leave the
classes as they are and call `hf_dsel.select_by(dataset, ...)`.
"""

from __future__ import annotations

import os
from importlib.metadata import version

from hf_dsel.bank import Bank
from hf_dsel.bank_folder import WrongBank
from hf_dsel.bank_rows import OtherKind
from hf_dsel.budget import Budget, BudgetError, Picks
from hf_dsel.columns import BadColumn, MissingColumn
from hf_dsel.copies import Copies, find_copies
from hf_dsel.describing import describe
from hf_dsel.description import Description
from hf_dsel.endpoint import BudgetSpent, Endpoint, EndpointDown
from hf_dsel.evolving import evolve
from hf_dsel.fetching import NotFetched
from hf_dsel.gate_reporting import GateReport, gate_report
from hf_dsel.joined_scores import NothingJoined, with_scores
from hf_dsel.loading import NoRecord, load
from hf_dsel.publication import CannotPublish, push_to_hub
from hf_dsel.published_scores import push_scores, save_scores
from hf_dsel.publishing import NotPublished
from hf_dsel.rows import UnknownFormat
from hf_dsel.scorers import (
    IFD,
    NLL,
    CausalLM,
    DeitaComplexity,
    DeitaQuality,
    Embed,
    FlippedLabels,
    Gate,
    Judge,
    Length,
    NGrams,
    Perplexity,
    Reward,
)
from hf_dsel.scoring import OtherScores, score
from hf_dsel.selecting import Shortfall, attach, select, select_by
from hf_dsel.selection import Selection, WrongSource, selection_of
from hf_dsel.strategies import Strategy, strategy_names
from hf_dsel.training.dynamics import TrainingDynamics
from hf_dsel.training.reselect import Reselect
from hf_dsel.training.scorer_training import train_scorer
from hf_dsel.trl_format import to_trl
from hf_dsel.verifying import CannotVerify, verify

__version__ = version("hf-dsel")
__all__ = [
    "IFD", "NLL", "BadColumn", "Bank", "Budget", "BudgetError", "BudgetSpent", "CannotPublish", "CannotVerify",
    "CausalLM", "Copies", "DeitaComplexity", "DeitaQuality", "Description", "Embed", "Endpoint", "EndpointDown",
    "FlippedLabels", "Gate", "GateReport", "Judge", "Length", "MissingColumn", "NGrams", "NoRecord", "NotFetched",
    "NotPublished", "NothingJoined", "OtherKind", "OtherScores", "Perplexity", "Picks", "Reselect", "Reward",
    "Selection", "Shortfall", "Strategy", "TrainingDynamics", "UnknownFormat", "WrongBank", "WrongSource", "describe",
    "evolve", "find_copies", "gate_report", "load", "push_scores", "push_to_hub", "save_scores", "score", "select",
    "select_by", "selection_of", "strategy_names", "to_trl", "train_scorer", "verify", "with_scores",
]  # fmt: skip

if os.environ.get("HF_DSEL_ATTACH", "1") != "0":
    attach()
