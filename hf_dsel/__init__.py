# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Choose the best subset of an instruction or preference dataset."""
