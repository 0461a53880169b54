"""The picture of a bank shows what its rounds say."""

import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb

from hf_dsel.bank_figure import COLOURS, INK, OTHERS, OTHERS_COLOUR, composition, wrapped
from hf_dsel.bank_state import Round


def rounds_of(*steps):
    """Rounds from (source, the composition afterwards)."""
    made, before = [], {}
    for number, (source, after) in enumerate(steps, 1):
        entered = max(after.get(source, 0) - before.get(source, 0), 0)
        left = sum(before.values()) + entered - sum(after.values())
        made.append(
            Round(number=number, source=source, given=99, seen=0, left_out={}, candidates=99, entered=entered,
                  left=left, kept=sum(after.values()) - entered, by_source=after, seconds=0.1)
        )  # fmt: skip
        before = after
    return made


FIVE = rounds_of(
    ("self-instruct", {"self-instruct": 40}),
    ("alpaca", {"self-instruct": 10, "alpaca": 90}),
    ("dolly", {"self-instruct": 5, "alpaca": 50, "dolly": 45}),
    ("sharegpt", {"alpaca": 20, "dolly": 20, "sharegpt": 60}),
    ("alpaca", {"alpaca": 30, "dolly": 15, "sharegpt": 55}),
)


def bars(plane):
    """(round, bottom, height, colour) of every bar that has a height."""
    return [
        (round(b.get_x() + b.get_width() / 2), b.get_y(), b.get_height(), to_hex(b.get_facecolor()))
        for b in plane.patches
        if b.get_height()
    ]


def texts(figure):
    figure.canvas.draw()
    found = [t.get_text() for plane in figure.axes for t in (*plane.texts, *plane.get_xticklabels())]
    return [*found, *(t.get_text() for legend in figure.legends for t in (*legend.get_texts(), legend.get_title()))]


def test_each_stack_is_the_composition():
    figure = composition(FIVE, size=100)
    colours = dict(zip(["self-instruct", "alpaca", "dolly", "sharegpt"], COLOURS, strict=False))
    found = bars(figure.axes[0])
    for r in FIVE:
        mine = {colour: (bottom, height) for number, bottom, height, colour in found if number == r.number}
        assert {c: h for c, (_, h) in mine.items()} == {colours[n]: k for n, k in r.by_source.items() if k}
        order = [mine[colours[name]] for name in r.by_source]
        assert [bottom for bottom, _ in order] == [0, *np.cumsum([h for _, h in order])[:-1]]
    assert figure.axes[0].lines[0].get_ydata()[0] == 100 and "size 100" in texts(figure)


def test_what_entered_goes_up_and_what_left_goes_down():
    figure = composition(FIVE, size=100)
    found = bars(figure.axes[1])
    assert {n: h for n, _, h, _ in found if h > 0} == {r.number: r.entered for r in FIVE}
    assert {n: h for n, _, h, _ in found if h < 0} == {r.number: -r.left for r in FIVE if r.left}
    shown = texts(figure)
    assert {"+40", "+90", "−30", "+45", "−45", "+60", "+10", "−10", "entered", "left"} <= set(shown)
    assert "3\ndolly" in shown and "alpaca  30" in shown and "self-instruct  0" in shown


@pytest.mark.parametrize("sources", [1, 12, 13, 40])
def test_a_colour_of_its_own_for_twelve_and_one_for_the_others(sources):
    after = [{f"s{j}": 100 - j for j in range(i + 1)} for i in range(sources)]
    rounds = rounds_of(*[(f"s{i}", share) for i, share in enumerate(after)])
    figure = composition(rounds, size=5000)
    legend = {t.get_text().split("  ")[0] for t in figure.legends[0].get_texts()}
    last = {colour: height for number, _, height, colour in bars(figure.axes[0]) if number == sources}
    assert len(set(COLOURS)) == 12 and sum(last.values()) == sum(after[-1].values())
    if sources <= 12:
        assert len(last) == len(legend) == sources and OTHERS not in legend
    else:
        assert legend == {OTHERS, *(f"s{i}" for i in range(11))}  # the largest ones keep theirs
        assert last[OTHERS_COLOUR] == sum(100 - j for j in range(11, sources))


def test_a_run_of_rounds_of_one_source_has_one_name():
    rounds = rounds_of(*[("pool" if i < 20 else "other-pool", {"pool": 9, "other-pool": i}) for i in range(30)])
    shown = texts(composition(rounds, size=100))
    assert "1–20\npool" in shown and "21–30\nother-pool" in shown and "+1" not in shown


def test_names_do_not_run_into_each_other():
    """No two labels below the rounds overlap, from one round to forty, with short and long names."""
    for n in (1, 3, 8, 14, 15, 40):
        for name in ("a", "a_rather_long_name_of_a_dataset"):
            figure = composition(rounds_of(*[(f"{name}{i}", {f"{name}{i}": 5}) for i in range(n)]), size=9)
            figure.canvas.draw()
            labels = [t for t in figure.axes[1].get_xticklabels() if t.get_text()]
            assert len(labels) == n
            if labels[0].get_rotation() == 0:
                boxes = [t.get_window_extent() for t in labels]
                assert all(a.x1 <= b.x0 for a, b in pairwise(boxes))


def luminance(colour):
    parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return float(np.dot(parts, (0.2126, 0.7152, 0.0722)))


@pytest.mark.parametrize("page", ["#ffffff", "#0d1117"])
def test_it_is_readable_on_light_and_dark_pages(page):
    def contrast(colour):
        a, b = sorted([luminance(colour), luminance(page)])
        return (b + 0.05) / (a + 0.05)

    assert contrast(INK) > 4 and min(map(contrast, [*COLOURS, OTHERS_COLOUR])) > 1.9
    assert composition(FIVE, size=100).patch.get_alpha() == 0


def test_no_rounds_no_picture():
    with pytest.raises(ValueError, match="has had no round yet; give it a dataset first"):
        composition((), size=10)


def test_names_are_cut_at_their_seams():
    assert wrapped("alpaca", 9) == "alpaca" and wrapped("sharegpt_multiturn", 11) == "sharegpt_\nmultiturn"
    assert wrapped("x" * 25, 10) == "\n".join(["x" * 10, "x" * 10, "x" * 5])
    for letters in range(3, 20):
        lines = wrapped("evol-instruct top1k_scored", letters).split("\n")
        assert "".join(lines) == "evol-instruct top1k_scored" and max(map(len, lines)) <= letters


def test_without_matplotlib_the_error_says_what_to_install():
    code = (
        "import sys; sys.modules['matplotlib'] = None; sys.modules['matplotlib.figure'] = None\n"
        "import hf_dsel; from datasets import Dataset\n"
        "bank = hf_dsel.Bank(size=2, gamma=0)\n"
        "bank.update(Dataset.from_dict({'text': ['a', 'b'], 'embedding': [[1.0, 0.0], [0.0, 1.0]]}), source='x')\n"
        "bank.figure()"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "MissingExtra: a bank's picture needs matplotlib: pip install 'hf-dsel[reporting]'" in found.stderr
