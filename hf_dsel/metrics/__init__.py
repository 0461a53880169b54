# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Numbers about a set of rows: plain functions over arrays, one a file."""
