"""QDIT:Threshold's own defaults; its rule is compared with the loop in test_deita.py."""

import numpy as np
import pytest

from hf_dsel import select
from hf_dsel.strategies.qdit_threshold import QditThreshold
from tests.strategies.reference import best_first_loop, clustered, pool_of


@pytest.mark.filterwarnings("ignore::hf_dsel.Shortfall")
def test_the_papers_threshold_is_the_default():
    x, quality = clustered(200, 8, 0), np.random.default_rng(0).random(200)
    assert select(pool_of(x, quality=quality), "qdit_threshold", k=200).indices.tolist() == best_first_loop(
        x, quality, 0.5, 200
    )


def test_thresholds_that_no_cosine_reaches_are_refused():
    with pytest.raises(ValueError, match=r"\[-1, 1\], got 1.5"):
        QditThreshold(threshold=1.5)
