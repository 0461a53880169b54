# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Training on what was selected."""
