"""The pictures of a card show what the columns hold, and the same bytes for the same seed."""

import io
import itertools
import os
import subprocess
import sys
import warnings
from collections import Counter

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value, load_dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

import hf_dsel
from hf_dsel.described_sets import Values
from hf_dsel.picture_map import POINTS, map_figure, principal_axes
from hf_dsel.picture_scores import BINS, FEW, bins, scores_figure
from hf_dsel.picture_style import INK, PICKED, POOL, RANDOM, name
from hf_dsel.picture_texts import OTHERS, texts_figure
from hf_dsel.pictures import MAP, SCORES, TEXTS, draw

RNG = np.random.default_rng(0)
N = 300


def rows(n=N, **columns):
    made = {
        "prompt": [f"p {i}" for i in range(n)],
        "completion": ["w " * (1 + i % 50) for i in range(n)],
        "quality": RNG.normal(3, 1, n).tolist(),
        "embedding": RNG.normal(size=(n, 16)).astype(np.float32).tolist(),
        "source": [["alpaca", "dolly", "lima"][i % 3] for i in range(n)],
    }
    return Dataset.from_dict(made | columns)


DATA = rows()
EVERYTHING = {"embedding": "embedding", "scores": ["quality"], "source": "source"}


def image(png):
    return Image.open(io.BytesIO(png))


def texts(figure):
    FigureCanvasAgg(figure).draw()
    found = [t.get_text() for plane in figure.axes for t in (*plane.get_xticklabels(), *plane.get_yticklabels())]
    found += [t.get_text() for plane in figure.axes for t in (plane.xaxis.label, plane.yaxis.label)]
    found += [t.get_text() for legend in figure.legends for t in legend.get_texts()]
    return "\n".join([*found, figure.get_supxlabel()])


def test_three_pictures_of_a_selection():
    subset = hf_dsel.select_by(DATA, "top_k", k=60)
    found = draw(DATA, subset, **EVERYTHING)
    assert list(found) == [SCORES, MAP, TEXTS]
    for png in found.values():
        shown = image(png).convert("RGBA")
        assert shown.width > 700 and shown.height > 300
        assert np.asarray(shown)[0, 0, 3] == 0  # the page shows through
        assert "Software" not in image(png).info
    given_otherwise = draw(DATA, hf_dsel.selection_of(subset), **EVERYTHING)
    assert given_otherwise == found


def test_the_same_seed_gives_the_same_bytes_in_another_process():
    subset = np.arange(0, N, 7)
    code = (
        "import hashlib, sys, numpy as np; from datasets import Dataset; from hf_dsel.pictures import draw\n"
        "pool = Dataset.from_parquet(sys.argv[1])\n"
        "found = draw(pool, np.arange(0, 300, 7), embedding='embedding', scores=['quality'], source='source', seed=3)\n"
        "print(hashlib.sha256(b''.join(found.values())).hexdigest())"
    )
    import hashlib
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        DATA.to_parquet(f"{folder}/pool.parquet")
        run = subprocess.run([sys.executable, "-c", code, f"{folder}/pool.parquet"], capture_output=True, text=True)
    again = draw(DATA, subset, **EVERYTHING, seed=3)
    assert run.stdout.split()[-1] == hashlib.sha256(b"".join(again.values())).hexdigest(), run.stderr
    other = draw(DATA, subset, **EVERYTHING, seed=4)
    assert other[SCORES] != again[SCORES]  # another random subset


def test_torchs_random_numbers_are_left_alone():
    import torch

    torch.manual_seed(5)
    draw(DATA, np.arange(30), **EVERYTHING)
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1))


def test_pictures_that_the_columns_do_not_allow_are_left_out():
    assert list(draw(DATA, np.arange(9), embedding=None, scores=[], source=None)) == [TEXTS]
    bare = DATA.select_columns(["quality"])
    assert list(draw(bare, np.arange(9), embedding=None, scores=["quality"], source=None)) == [SCORES]
    assert draw(bare, np.arange(9), embedding=None, scores=[], source=None) == {}
    alike = rows(embedding=[[1.0] * 16] * N)
    assert MAP not in draw(alike, np.arange(9), embedding="embedding", scores=[], source=None)
    nothing = rows(quality=[None] * N)
    assert SCORES not in draw(nothing, np.arange(9), embedding=None, scores=["quality"], source=None)


def test_rows_of_unknown_origin_have_no_map():
    strangers = DATA.select(range(9)).remove_columns(["embedding", "quality"])
    found = draw(DATA, strangers, **EVERYTHING)
    assert list(found) == [SCORES, TEXTS]
    larger = Dataset.from_dict({n: DATA[n][:] * 2 for n in DATA.column_names})
    assert list(draw(DATA, larger, **EVERYTHING)) == [SCORES, MAP, TEXTS]  # no random subset of that size exists


@pytest.mark.parametrize("pool_rows", [1, 2, 3])
def test_tiny_pools(pool_rows):
    tiny = DATA.select(range(pool_rows))
    found = draw(tiny, np.array([0]), **EVERYTHING)
    assert {SCORES, TEXTS} <= set(found)


def test_errors_name_the_column():
    with pytest.raises(hf_dsel.MissingColumn, match="'nope'"):
        draw(DATA, np.arange(3), embedding=None, scores=["nope"], source=None)
    with pytest.raises(hf_dsel.MissingColumn, match="'nope'"):
        draw(DATA, np.arange(3), embedding=None, scores=[], source="nope")
    with pytest.raises(hf_dsel.BadColumn, match="'prompt' has the type string"):
        draw(DATA, np.arange(3), embedding=None, scores=["prompt"], source=None)
    with pytest.raises(hf_dsel.BadColumn, match="'quality' holds no vectors"):
        draw(DATA, np.arange(3), embedding="quality", scores=[], source=None)


def test_without_matplotlib_the_error_says_what_to_install():
    code = (
        "import sys; sys.modules['matplotlib'] = sys.modules['matplotlib.figure'] = None\n"
        "import numpy as np; from datasets import Dataset; from hf_dsel.pictures import draw\n"
        "draw(Dataset.from_dict({'text': ['a']}), np.array([0]), embedding=None, scores=[], source=None)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pip install 'hf-dsel[reporting]'" in run.stderr.splitlines()[-1]


def test_a_persons_style_changes_nothing():
    import matplotlib

    before = draw(DATA, np.arange(30), **EVERYTHING)
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "black", "savefig.dpi": 20}):
        assert draw(DATA, np.arange(30), **EVERYTHING) == before


# Scores


def shares(plane, colour):
    """The heights of a set's outline, by its colour."""
    from matplotlib.colors import to_hex

    found = [p for p in plane.patches if to_hex(p.get_edgecolor()) == colour and hasattr(p, "get_data")]
    return found[-1].get_data().values, found[-1].get_data().edges


def test_bars_are_shares_of_each_set():
    pool, picked = RNG.normal(size=2000), RNG.normal(2, 0.5, 150)
    figure = scores_figure({"q": [pool, picked, pool[:150]]})
    for values, colour in ((pool, POOL), (picked, PICKED), (pool[:150], RANDOM)):
        heights, edges = shares(figure.axes[0], colour)
        expected = [((values >= a) & (values < b)).sum() / len(values) for a, b in itertools.pairwise(edges)]
        expected[-1] += (values == edges[-1]).sum() / len(values)
        np.testing.assert_allclose(heights, expected, atol=1e-12)
        assert abs(heights.sum() - 1) < 1e-9


def test_rows_without_a_number_are_counted_in_the_caption():
    pool = np.array([np.nan] * 7 + [1.0, 2.0, 3.0])
    figure = scores_figure({"q": [pool, pool[5:9], None]})
    assert "q: 7 of 10 rows of the pool have no number, 2 of them picked" in texts(figure)
    assert "picked, 4 rows" in texts(figure) and "random" not in texts(figure)


def test_null_nan_and_infinity_are_rows_without_a_number():
    odd = rows(quality=[None, float("nan"), float("inf")] + [1.0] * (N - 3))
    assert SCORES in draw(odd, np.arange(20), embedding=None, scores=["quality"], source=None)


@pytest.mark.parametrize("dtype", ["int8", "uint64", "bool", "float16", "float64"])
def test_kinds_of_numbers(dtype):
    column = Dataset.from_dict({"s": [0, 1, 1, None]}, Features({"s": Value(dtype)}))
    assert list(draw(column, np.arange(2), embedding=None, scores=["s"], source=None)) == [SCORES]


@pytest.mark.parametrize("panels", [1, 2, 3, 4, 6])
def test_at_most_four_panels_and_the_others_named(panels):
    values = RNG.normal(size=50)
    figure = scores_figure({f"s{i}": [values, values[:5], None] for i in range(panels)})
    assert len(figure.axes) == min(panels, 4)
    assert ("not drawn: s4, s5" in texts(figure)) == (panels == 6)


FINITE = st.floats(-1e12, 1e12, allow_nan=False)


@given(st.lists(FINITE, min_size=1, max_size=60), st.booleans())
def test_bins_hold_the_middle_of_any_values(values, log):
    array = np.abs(np.array(values)) + 1e-3 if log else np.array(values)
    edges = bins([array], log=log)
    assert len(edges) >= 2 and (np.diff(edges) > 0).all() and len(edges) <= max(BINS, FEW) + 1
    inside = ((array >= edges[0]) & (array <= edges[-1])).mean()
    assert inside >= 0.9 if len(array) > 20 else inside > 0


@pytest.mark.parametrize("value", [0.0, -3.0, 1e-9, 1e12])
def test_a_constant_column_is_one_bar(value):
    figure = scores_figure({"q": [np.full(9, value), np.full(3, value), None]})
    heights, edges = shares(figure.axes[0], PICKED)
    assert heights.tolist() == [1.0] and edges[0] < value < edges[1]
    texts(figure)


def test_far_tails_are_counted():
    pool = np.concatenate([RNG.normal(size=5000), [-1e6, 1e6]])
    figure = scores_figure({"q": [pool, pool[:100], None]})
    assert "q: 52 rows of the pool lie beyond the ends" in texts(figure) or "beyond the ends" in texts(figure)
    heights, _ = shares(figure.axes[0], POOL)
    assert abs(heights.sum() - 1) < 1e-9


# The map


def values_of(array):
    return Values(np.asarray(array), None, np.arange(len(array)), 0)


def test_axes_are_the_principal_components():
    cloud = (RNG.normal(size=(500, 12)) * np.geomspace(9, 0.5, 12)) @ np.linalg.qr(RNG.normal(size=(12, 12)))[0]
    cloud = cloud.astype(np.float32) + 5
    mean, axes, explained = principal_axes(cloud, seed=1)
    sizes, vectors = np.linalg.eigh(np.cov(cloud.T.astype(np.float64)))
    np.testing.assert_allclose(explained, sizes[::-1][:2] / sizes.sum(), rtol=1e-4)
    np.testing.assert_allclose(np.abs(axes.T @ vectors[:, ::-1][:, :2]), np.eye(2), atol=5e-3)
    np.testing.assert_allclose(mean, cloud.mean(0), rtol=1e-5)
    assert (axes[np.abs(axes).argmax(0), [0, 1]] > 0).all()


def test_a_sample_of_a_large_pool_and_all_picked_rows():
    cloud = RNG.normal(size=(POINTS + 500, 4)).astype(np.float16)
    pool, picked = values_of(cloud), Values(cloud, np.arange(40), np.arange(40), 2)
    figure = map_figure("e", pool, picked, None, np.random.default_rng(0))
    ground, above = figure.axes[0].collections
    assert len(ground.get_offsets()) == POINTS and len(above.get_offsets()) == 40
    said = texts(figure)
    assert f"{POINTS:,} rows of the pool by chance" in said and f"pool, {POINTS + 500:,} rows" in said
    assert "of the variance)" in said and "2 picked" in said


@pytest.mark.parametrize("shape", [(2, 8), (50, 1)])
def test_no_map_of_too_few_rows_or_dimensions(shape):
    cloud = values_of(RNG.normal(size=shape).astype(np.float32))
    assert map_figure("e", cloud, cloud, None, np.random.default_rng(0)) is None


@pytest.mark.parametrize("shape", [(3, 2), (3, 50), (40, 2), (20, 3)])
def test_small_maps(shape):
    cloud = values_of(RNG.normal(size=shape).astype(np.float32))
    assert map_figure("e", cloud, cloud, cloud, np.random.default_rng(0)) is not None


# Lengths and sources


def test_words_are_counted_and_rows_without_a_response_named():
    made = rows(completion=[None, "", "one", "two words"] + ["w " * 10] * (N - 4))
    captured = draw(made, np.arange(4), embedding=None, scores=[], source=None)
    assert list(captured) == [TEXTS]
    words = np.array([np.nan, 0.0, 1.0, 2.0] + [10.0] * 6)
    figure = texts_figure([words, words[:4], None], "response", None, [10, 4, None], None, [])
    said = texts(figure)
    assert "not drawn, of 10 rows of the pool: 1 with an empty response, 1 without a response" in said
    assert "words a response, logarithmic axis" in said
    heights, edges = shares(figure.axes[0], PICKED)
    assert {int(np.ceil(e)): h for e, h in zip(edges, heights, strict=False) if h} == {1: 0.5, 2: 0.5}


def bars(figure):
    """(source, share of the pool, share of the picked rows) from top to bottom."""
    plane = figure.axes[-1]
    filled = [p for p in plane.patches if p.get_facecolor()[3] > 0]
    names = [t.get_text() for t in plane.get_yticklabels()]
    half = len(names)
    return [(n, filled[i].get_width(), filled[half + i].get_width()) for i, n in enumerate(names)]


def test_bars_of_sources_are_shares():
    figure = texts_figure(None, "response", ({"a": 75, "b": 25}, {"b": 9, "c": 1}), [100, 10, 10], "source", [])
    assert bars(figure) == [("b", 0.25, 0.9), ("a", 0.75, 0.0), ("c", 0.0, 0.1)]
    assert "random" not in texts(figure)


@settings(max_examples=25)
@given(st.dictionaries(st.integers(0, 60), st.integers(1, 99), min_size=1), st.integers(0, 60))
def test_twelve_sources_and_the_others_add_up(counts, extra):
    pool = Counter({f"s{i}": n for i, n in counts.items()})
    picked = Counter({f"s{extra}": 5})
    figure = texts_figure(None, "response", (pool, picked), [sum(pool.values()), 5, None], "source", [])
    shown = bars(figure)
    assert len(shown) <= 13
    assert abs(sum(s for _, s, _ in shown) - 1) < 1e-9 and abs(sum(s for _, _, s in shown) - 1) < 1e-9
    assert (OTHERS in shown[-1][0]) == (len({*pool, *picked}) > 13)


def test_labels_of_classes_and_missing_sources():
    features = Features({"text": Value("string"), "source": ClassLabel(names=["good", "bad"])})
    made = Dataset.from_dict({"text": ["a b", "c", "d"], "source": [0, 1, None]}, features)
    assert list(draw(made, np.array([0, 2]), embedding=None, scores=[], source="source")) == [TEXTS]


# Names


LONG = "a very long name of a column that nobody will ever read to its end " * 3


@pytest.mark.parametrize(
    "title", [LONG, "$x$ and \\frac{1}{2}", "质量得分", "שלום", "😀" * 9, "", "a\nb\tc", "_", "%d {x}", "^~\x07"]
)
def test_any_name_can_be_drawn(title):
    made = Dataset.from_dict({"text": ["a b", "c", "d d d"], title: [1.0, 2.0, 3.0], f"{title}2": ["x", title, title]})
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # also a glyph that no font has
        found = draw(made, np.array([0, 1]), embedding=None, scores=[title], source=f"{title}2")
    assert list(found) == [SCORES, TEXTS]
    assert len(name(title).replace("\\$", "$")) <= 40


def test_no_two_labels_overlap():
    values = RNG.normal(size=400) * 1e6
    few = RNG.integers(0, 6, 400) * 1e-5
    columns = {f"{LONG}{i}": [v, v[:50], v[50:100]] for i, v in enumerate([values, few, np.exp(values / 3e5), few * 0])}
    sources = ({f"{i} {LONG}": 10 + i for i in range(40)}, {f"1 {LONG}": 3})
    counts = np.exp(RNG.normal(4, 1, 400)).round()
    for figure in (
        scores_figure(columns),
        texts_figure([counts, counts[:9], None], "response", sources, [400, 9, None], LONG, []),
    ):
        FigureCanvasAgg(figure).draw()
        for plane in figure.axes:
            for axis in (plane.xaxis, plane.yaxis):
                low, high = axis.get_view_interval()
                ticks = [
                    t
                    for t, at in zip(axis.get_ticklabels(), axis.get_ticklocs(), strict=False)
                    if min(low, high) <= at <= max(low, high)
                ]
                boxes = [t.get_window_extent() for t in ticks if t.get_text()]
                assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :]), ticks
        labels = [plane.xaxis.label.get_window_extent() for plane in figure.axes]
        assert not any(a.overlaps(b) for i, a in enumerate(labels) for b in labels[i + 1 :])


def contrast(a, b):
    def light(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        parts = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    x, y = sorted((light(a), light(b)))
    return (y + 0.05) / (x + 0.05)


@pytest.mark.parametrize("page", ["#ffffff", "#0d1117", "#0b0f19"])
def test_contrast_on_light_and_dark_pages(page):
    assert contrast(INK, page) > 4
    assert all(contrast(colour, page) > 2.4 for colour in (POOL, PICKED, RANDOM))


@pytest.mark.skipif("HF_DSEL_DATA" not in os.environ, reason="HF_DSEL_DATA is not set")
def test_alpaca():
    folder = os.environ["HF_DSEL_DATA"]
    pool = load_dataset("parquet", data_files=f"{folder}/alpaca_52k.parquet", split="train")
    vectors = np.load(f"{folder}/alpaca_minilm.npy")
    pool = pool.add_column("embedding", list(vectors), feature=List(Value("float16"), length=384))
    subset = np.flatnonzero(pool.with_format("numpy")["cherry_ifd_5pct"][:])
    found = draw(pool, subset, embedding="embedding", scores=["chatgpt_score"], source=None)
    assert list(found) == [SCORES, MAP, TEXTS] and all(len(png) < 2_000_000 for png in found.values())
