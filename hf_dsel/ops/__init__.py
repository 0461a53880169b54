# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Numeric engines on arrays and tensors; each is usable alone."""
