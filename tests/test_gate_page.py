"""The page of a gate's report: nothing in it acts, nothing of a text is lost silently, and a browser shows it."""

import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest
from datasets import Dataset

from hf_dsel.card_markdown import visible
from hf_dsel.gate_examples import Example
from hf_dsel.gate_page import AT_ENDS, BETWEEN, FOLDED, OF_A_ROW, page, texts_of
from hf_dsel.gate_reporting import gate_report

from .test_gate_reporting import HOSTILE, judged

TAGS = set(
    "html head meta title style body h1 h2 h3 p ul li div span i b table tr th td a section article header strong pre "
    "details summary code".split()
)
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


class Page(HTMLParser):
    """Tags, attributes, and the text of each <pre>."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.texts, self.outside, self.inside = [], [], [], [], False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *attr) for attr in attrs]
        if tag == "pre":
            self.texts.append("")
        self.inside = tag == "pre" or (self.inside and tag not in ("pre",))

    def handle_endtag(self, tag):
        if tag == "pre":
            self.inside = False

    def handle_data(self, data):
        if self.inside:
            self.texts[-1] += data
        elif self.tags[-1:] != ["style"]:
            self.outside.append(data)


def hostile():
    """A pool in which everything that is shown is hostile, and a page title that is."""
    texts = [t.encode("utf-8", "replace").decode() for t in HOSTILE]
    talk = [[{"role": "user", "content": t}, {"role": "assistant", "content": t[::-1]}] for t in texts]
    gate = [0.01 + 0.1 * i for i in range(len(texts))]
    return Dataset.from_dict({"messages": talk, "gate": gate, "gate_reason": texts, "gate_status": texts})


def written(dataset, folder, **options):
    path = folder / "page.html"
    gate_report(dataset, **options).save_html(path, title=HOSTILE[0])
    return path


def test_nothing_in_it_acts(tmp_path):
    text = written(hostile(), tmp_path, threshold=0.5).read_text(encoding="utf-8")
    parsed = Page(text)
    assert set(parsed.tags) <= TAGS and parsed.tags.count("style") == parsed.tags.count("title") == 1
    for tag, name, value in parsed.attributes:
        assert not name.startswith("on") and name not in ("src", "srcset", "action", "data")
        assert name != "href" or re.fullmatch(r"#kind-\d+", value), (tag, name, value)
    assert "http:" not in text and "https:" not in text and "url(" not in text and "@import" not in text
    assert visible(text) == text and "49 " not in text
    for one in HOSTILE[:5]:
        shown = visible(one.encode("utf-8", "replace").decode())
        assert any(shown in found for found in parsed.texts), one
    assert parsed.tags.count("body") == parsed.tags.count("html") == 1 and text.count("</body>") == 1
    assert list(tmp_path.iterdir()) == [tmp_path / "page.html"]
    assert max(map(len, parsed.outside)) < 1_000  # names and reasons are cut


def test_half_a_character_can_be_written(tmp_path):
    report = gate_report(judged())
    object.__setattr__(report, "problems", {"no messages: \ud800": 3})
    report.save_html(tmp_path / "deep/er/page.html")
    assert "3 × no messages: \\ud800" in (tmp_path / "deep/er/page.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("letters", [0, 1, 849, 850, 851, 5_000, FOLDED + 750, FOLDED + 751, 100_000])
def test_no_character_is_lost_silently(letters):
    text = "".join(chr(ord("a") + i % 26) for i in range(letters))
    [shown], between, end, messages, left = texts_of(Example(0, 0.5, "x", (("text", text),)))
    assert (between, end, messages, left) == ([], [], 0, 0) and shown.size == letters
    assert shown.missing == max(0, letters - FOLDED - 750)
    hidden = text[len(shown.start + shown.folded) :][: shown.missing]
    assert shown.start + shown.folded + hidden + shown.end == text


@pytest.mark.parametrize("messages", [1, 2 * AT_ENDS + 1, 2 * AT_ENDS + 2, 40, 2 * AT_ENDS + BETWEEN, 300])
@pytest.mark.parametrize("letters", [10, 3_000])
def test_no_message_is_lost_silently(messages, letters):
    said = tuple((f"user {i}", chr(ord("a") + i % 26) * letters) for i in range(messages))
    start, between, end, left, characters = texts_of(Example(0, 0.5, "x", said))
    names = [t.who for t in (*start, *between)] + [who for who, _ in said][messages - len(end) - left :]
    assert names == [who for who, _ in said] and [t.who for t in end] == [who for who, _ in said][messages - len(end) :]
    assert sum(t.size for t in (*start, *between, *end)) + characters == messages * letters
    assert characters == left * letters and len(between) <= BETWEEN
    assert sum(len(t.folded) for t in (*start, *between, *end)) <= OF_A_ROW


def test_what_it_says(tmp_path):
    dataset = judged()
    report = gate_report(dataset, examples=2)
    path = written(dataset, tmp_path, examples=2)
    text = " ".join(path.read_text(encoding="utf-8").split())
    few, sentence = report.headline()
    assert few in text and sentence in text and "8 × no response" in text
    for cut in report.cuts:
        note = '<div class="small soft">gate=True</div>' if cut.lowest == report.default else ""
        assert f"<td>{cut.lowest:.3g}{note}</td><td>{cut.kept:,}</td><td>{cut.dropped:,}</td>" in text
    parsed = Page(path.read_text(encoding="utf-8"))
    assert parsed.tags.count("article") == 3 * 6 + 4
    for example in (e for g in report.groups for part in (g.worst, g.below, g.above) for e in part):
        assert any(example.said[1][1] in found for found in parsed.texts)
    assert "&lt;b&gt;own&lt;/b&gt;" in text
    # the bins: all rows that have a probability
    assert sum(int(n.replace(",", "")) for n in re.findall(r"<b>([\d,]+)</b></span>", text)) == report.judged
    for number in re.findall(r'href="#(kind-\d+)"', text):
        assert f'<section id="{number}">' in text


def test_pairs_say_which_side():
    rows = {"prompt": ["Which?"], "chosen": ["This."], "rejected": ["N/A"], "gate": [0.9], "rejected_gate": [0.1]}
    text = page(gate_report(Dataset.from_dict(rows), threshold=0.5), "pairs")
    assert "look flipped" not in text
    found = page(gate_report(Dataset.from_dict(rows | {"gate_flipped": [0.9]}), threshold=0.5), "pairs")
    assert "1 pair looks flipped" in found and "flipped by <strong>0.900</strong>" in found
    assert "rejected, the less sound side" in text and "chosen, the less sound side" not in text


# --- in a browser ---


def browsed(path, folder, *flags):
    """The document as the browser made it."""
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    command += [*flags, "--dump-dom", path.as_uri()]
    done = subprocess.run(command, capture_output=True, timeout=120, encoding="utf-8", check=False)
    if done.returncode:
        pytest.skip(f"Chromium does not start here: {done.stderr[-200:]}")
    return done.stdout


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_a_browser_runs_nothing_and_shows_everything(tmp_path):
    path = written(hostile(), tmp_path, threshold=0.5)
    found = Page(browsed(path, tmp_path))
    assert found.tags.count("script") == found.tags.count("img") == 0
    mine = Page(path.read_text(encoding="utf-8")).tags
    assert [tag for tag in found.tags if tag != "tbody"] == mine  # the browser read what was meant
    title = re.search(r"<title>(.*?)</title>", browsed(path, tmp_path)).group(1)
    assert "taken" in title and title.startswith("&lt;script&gt;")  # the text of the title, which ran not


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("width", [500, 1200])
def test_nothing_is_wider_than_the_window(width, tmp_path):
    path = written(hostile(), tmp_path, threshold=0.5)
    text = path.read_text(encoding="utf-8")
    measure = (
        "<script>document.querySelectorAll('details').forEach(d => d.open = true);"
        "document.title = [document.documentElement.scrollWidth, innerWidth].join(' of ')</script></body>"
    )
    policy = re.search(r"<meta http-equiv=\"Content-Security-Policy\".*?>", text).group(0)
    path.write_text(text.replace("</body>", measure), encoding="utf-8")
    assert " of " not in re.search(r"<title>(.*?)</title>", browsed(path, tmp_path)).group(1)  # the policy forbids it
    path.write_text(text.replace(policy, "").replace("</body>", measure), encoding="utf-8")
    found = re.search(r"<title>(\d+) of (\d+)</title>", browsed(path, tmp_path, f"--window-size={width},900"))
    assert int(found.group(1)) <= int(found.group(2))
