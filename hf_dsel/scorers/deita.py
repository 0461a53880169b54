# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""DEITA's two scores: how complex an instruction is, and how good a response."""

from __future__ import annotations

COMPLEXITY = (
    "You are a helpful assistant. Please identify the complexity score of the following user query. \n"
    "##Query: {instruction}  \n##Complexity: "
)
QUALITY = (
    "You are a helpful assistant. Please identify the quality score of the Response corresponding to the Question. \n"
    " #Question#:\n{instruction}\n#Response#:\n{response} \n##Quality: "
)
