"""The data map: every row where its variability and confidence put it, readable on both pages."""

import numpy as np
import pytest

from hf_dsel.training.data_map import POINTS, draw
from hf_dsel.training.dynamics import NothingRecorded, TrainingDynamics
from hf_dsel.training.trajectories import of_answers, of_pairs
from tests.training.tiny_runs import courses, sft, tiny_pool

pytest.importorskip("matplotlib")


def dots(figure):
    return figure.axes[0].collections[0]


def words(figure):
    return {text.get_text() for axes in figure.axes for text in axes.texts}


@pytest.mark.parametrize("dark", [False, True])
def test_a_dot_for_each_row(tmp_path, dark):
    trainer = sft(tiny_pool(9), num_train_epochs=2)
    dynamics = TrainingDynamics().bind(trainer)
    trainer.train()
    figure = dynamics.map_figure(dark=dark)
    p = np.exp(-courses(dynamics, range(9))["loss"])
    expected = sorted(zip(p.std(1), p.mean(1), strict=True))
    assert np.array(sorted(map(tuple, dots(figure).get_offsets()))) == pytest.approx(np.array(expected), abs=1e-9)
    assert words(figure) == {"easy to learn", "ambiguous", "hard to learn"}
    figure.savefig(tmp_path / "map.png")
    from matplotlib.image import imread

    page = imread(tmp_path / "map.png")[0, 0, :3]
    assert (page.max() < 0.2) == dark


def test_rows_seen_once_are_left_out_and_none_at_all_is_an_error():
    p = np.array([[1.0, 2.0], [1.0, np.nan], [0.5, 0.1]])
    figure = draw(of_answers(dict.fromkeys(("loss", "accuracy", "el2n", "entropy"), p), 0.5), pairs=False)
    assert len(dots(figure).get_offsets()) == 2
    trainer = sft(tiny_pool(4), num_train_epochs=1)
    dynamics = TrainingDynamics().bind(trainer)
    trainer.train()
    with pytest.raises(NothingRecorded, match="no row was seen in two epochs"):
        dynamics.map_figure()


def test_many_rows_and_pairs():
    m = np.random.default_rng(0).normal(size=(POINTS + 500, 3))
    figure = draw(of_pairs({"chosen_logp": m, "rejected_logp": m, "margin": m}), pairs=True)
    assert len(dots(figure).get_offsets()) == POINTS
    assert figure.get_suptitle() == f"Data map: {POINTS:,} of {POINTS + 500:,} rows"
    assert figure.axes[0].get_ylabel() == "confidence: mean probability of the preference"
