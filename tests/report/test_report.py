from __future__ import annotations

import csv
import json
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from hgq.errors import DataError, FileFormatError, OutputError
from hgq.estimate import ebops_of
from hgq.ir import file
from hgq.ir.build import GraphBuilder
from hgq.ir.graph import Node
from hgq.numerics import Fixed
from hgq.report import render, report
from hgq.report.bitmap import layer_maps
from tests.random_graphs import random_graph

VOID = {"meta", "link", "br", "hr", "img", "input", "col"}


class Page(HTMLParser):
    """Checks that tags nest, and collects what is in the page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def history(epochs=40, ebops=4000.0):
    return [
        {
            "epoch": e,
            "loss": 1 + math.exp(-e / 9),
            "val_loss": 1.1 + math.exp(-e / 9),
            "accuracy": 0.7 - 0.2 * math.exp(-e / 5),
            "val_accuracy": 0.69 - 0.2 * math.exp(-e / 5),
            "ebops": ebops * (1 + 10 * math.exp(-e / 8)),
            "beta": 1e-7 * 1.2**e,
        }
        for e in range(epochs)
    ]


ESTIMATE = {
    "model": "net",
    "digest": "0",
    "backend": "rtl",
    "strategy": "adder_graph",
    "part": "xcvu13p-flga2577-2-e",
    "device": {"title": "AMD VU13P", "available": {}, "source": ""},
    "clock_ns": 5,
    "ebops": 4321,
    "lut": {"low": 3111, "value": 3222, "high": 3333},
    "ff": {"low": 700, "value": 800, "high": 900},
    "dsp": {"low": 0, "value": 0, "high": 0},
    "bram18": {"low": 0, "value": 0, "high": 0},
    "utilisation": {"lut": 0.0123},
    "latency_cycles": {"low": 7, "value": 7, "high": 7},
    "ii_cycles": {"low": 1, "value": 1, "high": 1},
    "period_ns": {"low": 2.5, "value": 3.5, "high": 5.5},
    "latency_ns": {"low": 35, "value": 35, "high": 38.5},
    "meets_clock": "likely",
    "based_on": ["LUT: a fit to 20 designs"],
    "layers": [
        {
            "layer": "dense_0",
            "ebops": 4321,
            "latency_cycles": None,
            "lut": {"low": 1, "value": 2222, "high": 3},
            "ff": None,
            "dsp": None,
            "bram18": None,
        }
    ],
}


def check(name, **changes):
    return {
        "name": name,
        "what": f"{name} in words",
        "samples": 11_000,
        "mismatches": 0,
        "seconds": 2.5,
        "skipped": None,
        "fix": None,
        "divergence": None,
        **changes,
    }


def verdict(*checks, ok=True):
    return {"digest": "0", "samples": 10_000, "corners": 1_000, "ok": ok, "checks": list(checks)}


@pytest.fixture(scope="module")
def graph():
    return random_graph(1, (16, 12, 8, 5))


@pytest.fixture(scope="module")
def full(graph):
    front = [{"epoch": e, "ebops": 2000 * 1.5**e, "metric": 0.6 + 0.01 * e, "file": f"{e}.keras"} for e in range(8)]
    front.append({"epoch": 9, "ebops": ebops_of(graph), "metric": 0.6543, "file": "x"})
    return render(graph, history(), front, ESTIMATE, verdict(check("keras"), check("rtl")), budgets=[5000, 1500])


def test_it_is_well_formed_and_complete_in_itself(full):
    page = Page(full)
    assert full.startswith("\n<!DOCTYPE html>") or full.lstrip().startswith("<!DOCTYPE html>")
    for tag, attrs in page.tags:
        assert tag not in ("script", "link", "img", "iframe", "object", "embed", "base", "form")
        for name, value in attrs.items():
            assert name not in ("src", "href", "srcset", "action", "xlink:href") and not name.startswith("on")
            assert "url(" not in (value or "")
    assert not re.search(r"https?://|//[a-z]|@import|url\(", full)


def test_it_says_what_it_was_given(full, graph):
    text = Page(full).text
    for piece in (
        graph.name,
        f"{ebops_of(graph):,}",
        "65.43 %",
        "3,222",
        "3,111 – 3,333",
        "2,222",
        "35 ns",
        "likely",
        "LUT: a fit to 20 designs",
        "1.23 %",
        "AMD VU13P",
        "keras in words",
        "11,000",
        "budget 5,000",
        "budget 1,500",
        "Yes: every output bit",
        "2 of 2",
        "dense_1",
        "Loss",
        "Every node",
        "dense_2/iq",
    ):
        assert piece in text, piece


def test_every_chart_has_words_for_screen_readers(full):
    page = Page(full)
    drawings = [attrs for tag, attrs in page.tags if tag == "svg"]
    assert len(drawings) == 1 + 3 + 4
    assert all(attrs.get("role") == "img" for attrs in drawings)
    assert sum(tag == "title" for tag, _ in page.tags) == 1 + len(drawings)
    assert full.count('<html lang="en">') == 1
    headers = [attrs for tag, attrs in page.tags if tag == "th"]
    assert all("scope" in attrs for attrs in headers)


def test_convolutions_have_maps_too():
    b = GraphBuilder("image")
    x = b.input("x", Fixed(1, [2, 4], np.full((4, 4, 2), 1)), "RND", "SAT")
    geometry = {"strides": (1, 1), "dilation": (1, 1), "padding": ((0, 0),) * 2}
    kernel = np.zeros((2, 3, 2, 5), np.int64)
    kernel[1, 0, 1] = 5
    with b.layer("whole"):
        y = b.op("conv", x, b.constant(kernel, Fixed(1, 3, 0), "kernel"), groups=1, **geometry)
    with b.layer("each"):
        y = b.op("conv", y, b.constant(np.full((1, 2, 1, 5), 3), Fixed(1, 3, 0), "kernel"), groups=5, **geometry)
    whole, each = layer_maps(b.graph(y))
    assert "5 outputs →" in whole.svg
    assert "2 × 3 taps × 2 channels →" in whole.svg
    assert "M0 7h1v1h-1z" in whole.svg  # the second channel of the fourth tap
    assert (
        whole.sentence == "55 of 60 weights are zero (92%); the others need 3.0 bits on average, 3 at most; 160 wires come in on 32 inputs."
    )
    assert whole.svg.count('<rect class="b0 edge"') == 2  # beside it the bits of the channels, once for each tap
    assert "1 × 2 taps × 1 channel →" in each.svg
    assert each.svg.count('<rect class="b0 edge"') == 1


def test_it_is_the_same_every_time(graph):
    assert render(graph, history()) == render(graph, history())


def test_light_and_dark(full):
    assert "prefers-color-scheme: dark" in full and "--b0: #ffffff" in full


def test_a_bare_model(graph):
    text = Page(render(graph)).text
    for piece in ("No training was recorded", "No estimate was recorded", "Not verified yet", "Where the bits are"):
        assert piece in text
    assert "How it was trained" not in text


HOSTILE = '"><script>alert(1)</script>&amp;'


def test_hostile_names_are_escaped(graph):
    nodes = tuple(Node(n.name, n.op, n.inputs, n.attrs, HOSTILE) for n in graph.nodes)
    evil = graph.with_(name=HOSTILE, nodes=nodes)
    estimate = {**ESTIMATE, "part": HOSTILE, "based_on": [HOSTILE], "layers": [{**ESTIMATE["layers"][0], "layer": HOSTILE}]}
    broken = check(HOSTILE, what=HOSTILE, mismatches=3, divergence={"node": HOSTILE, "layer": HOSTILE, "op": "", "note": HOSTILE})
    skipped = check("x", skipped=HOSTILE, fix=HOSTILE)
    rows = [{**row, HOSTILE: "1"} for row in history()]
    text = render(evil, rows, None, estimate, verdict(broken, skipped, ok=False))
    page = Page(text)
    assert not any(tag == "script" for tag, _ in page.tags)
    assert HOSTILE in page.text and "<script" not in text


def test_a_mismatch_is_not_hidden(graph):
    divergence = {"node": "dense_1/matmul", "layer": "dense_1", "op": "matmul", "note": "off by one"}
    text = Page(render(graph, verify=verdict(check("keras"), check("rtl", mismatches=17, divergence=divergence), ok=False))).text
    for piece in ("✗ no", "at least one representation differs", "17", "first differs at node dense_1/matmul, layer dense_1. off by one"):
        assert piece in text


def test_a_skipped_check_is_named(graph):
    text = Page(render(graph, verify=verdict(check("keras"), check("hls4ml", skipped="g++ is absent.", fix="apt-get install g++")))).text
    for piece in ("1 of 2", "wherever it was run", "skipped: g++ is absent. apt-get install g++", "not run"):
        assert piece in text


def test_strange_histories(graph):
    rows = [
        {"epoch": "0", "loss": "nan", "ebops": "0", "beta": "0", "val_accuracy": "0.5"},
        {"epoch": "1", "loss": "", "ebops": "inf", "beta": "x"},
        {"epoch": "2", "loss": "1.5", "ebops": "10", "val_accuracy": "0.6"},
        {},
    ]
    assert "60.00 %" in Page(render(graph, rows)).text
    Page(render(graph, []))
    Page(render(graph, [{"loss": 1}]))


def test_a_loss_front_falls(graph):
    rows = [{"epoch": e, "val_loss": 1 / (1 + e), "ebops": 100 * (1 + e)} for e in range(5)]
    text = Page(render(graph, rows)).text
    assert "Validation loss against cost" in text and "0.2" in text


def test_the_map_draws_every_weight():
    b = GraphBuilder("net")
    x = b.input("x", Fixed(np.array([1, 0, 0]), np.array([3, 2, 0]), np.array([0, 0, 0])), "RND", "SAT")
    with b.layer("dense"):
        y = b.op("matmul", x, b.constant(np.array([[0, 3], [5, 0], [0, 0]]), Fixed(0, 3, 0), "kernel"))
    text = render(b.graph(y))
    words = Page(text).text
    assert "4 of 6 weights are zero (67%); the others need 2.5 bits on average, 3 at most; 6 wires come in on 2 inputs; 1 is dead." in words
    assert '<path class="b2" d="M1 0h1v1h-1z"/>' in text and '<path class="b3" d="M0 1h1v1h-1z"/>' in text


def test_large_kernels_are_condensed():
    b = GraphBuilder("net")
    x = b.input("x", Fixed(1, np.full(300, 3), 0).broadcast_to((300,)), "RND", "SAT")
    kernel = np.zeros((300, 200), int)
    kernel[7, 9] = 1
    graph = b.graph(b.op("matmul", x, b.constant(kernel, Fixed(0, 3, 0), "kernel")))
    text = render(graph)
    assert "Each cell is the mean of 3 × 2 weights." in Page(text).text
    assert "M4 2h1v1h-1z" in text, "a lone live weight stays visible"
    assert len(text) < 100_000


@pytest.fixture
def run_dir(tmp_path, graph):
    file.save(graph, tmp_path / "model.hgq")
    rows = history()
    with (tmp_path / "history.csv").open("w", newline="") as lines:
        writer = csv.DictWriter(lines, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    (tmp_path / "pareto").mkdir()
    (tmp_path / "pareto" / "pareto.json").write_text(json.dumps([{"epoch": 1, "ebops": 4000, "metric": 0.66, "file": "a"}]))
    (tmp_path / "estimate.json").write_text(json.dumps(ESTIMATE))
    (tmp_path / "verify.json").write_text(json.dumps(verdict(check("keras"))))
    (tmp_path / "recipe.toml").write_text("[budget]\nebops = 5000\n")
    return tmp_path


def test_a_run_directory(run_dir):
    path = report(run_dir)
    assert path == run_dir / "report.html"
    text = Page(path.read_text(encoding="utf-8")).text
    for piece in ("3,222", "budget 5,000", "11,000", "5,000 asked for"):
        assert piece in text
    assert report(run_dir) == path, "a second report replaces the first"


def test_the_delivered_models_are_shown_with_their_test_metric(run_dir):
    point = {"budget": 5000.0, "ebops": 4766, "val": 0.7248, "test": 0.7071, "test_samples": 14000, "within": True, "hgq_file": "model.hgq"}
    missed = {**point, "budget": 900.0, "ebops": 1234, "val": 0.61, "test": 0.6022, "within": False, "hgq_file": "budgets/900/model.hgq"}
    (run_dir / "result.json").write_text(json.dumps({"points": [point, missed], "main": 0, "metric": "accuracy"}))
    text = Page(report(run_dir).read_text(encoding="utf-8")).text
    for piece in ("Test accuracy", "70.71 %", "on 14,000 samples it never saw", "model.hgq (this page)", "4,766", "1,234", "60.22 %"):
        assert piece in text


def test_a_latency_that_was_asked_for_is_beside_what_came_of_it(run_dir):
    point = {"budget": 3000, "ebops": 3321, "val": 0.72, "test": 0.71, "test_samples": 14000, "within": True, "hgq_file": "model.hgq"}
    timed = {**point, "resource": "lut", "lut": 2951, "latency_budget_ns": 40.0, "latency_ns": 38.75, "latency_cycles": 8, "clock_ns": 4.84}
    late = {**timed, "latency_ns": 45.21, "latency_cycles": 9, "clock_ns": None, "within": False, "hgq_file": "late.hgq"}
    result = run_dir / "result.json"
    result.write_text(json.dumps({"points": [timed, late], "main": 0, "metric": "accuracy"}))
    markup = report(run_dir).read_text(encoding="utf-8")
    text = Page(markup).text
    for piece in ("Latency asked", "40 ns", "38.8 ns", "8 cycles of 4.8 ns", "40 ns asked for", "9 cycles", "2,951"):
        assert piece in text
    assert '<span class="warn">45.2 ns</span>' in markup and '<span class="warn">38.8 ns</span>' not in markup
    result.write_text(json.dumps({"points": [point], "main": 0, "metric": "accuracy"}))
    assert "Latency asked" not in Page(report(run_dir).read_text(encoding="utf-8")).text


def test_a_run_directory_with_the_model_alone(tmp_path, graph):
    file.save(graph, tmp_path / "model.hgq")
    Page(report(tmp_path).read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("estimate.json", "{"),
        ("verify.json", "nonsense"),
        ("pareto/pareto.json", "["),
        ("recipe.toml", "= ="),
        ("recipe.toml", "budget = 3"),
        ("history.csv", "\x00\xff"),
        ("model.hgq", "PK"),
        ("estimate.json", '{"lut": 3}'),
        ("verify.json", "[1]"),
        ("pareto/pareto.json", "3"),
        ("pareto/pareto.json", "[3]"),
        ("result.json", '{"points": [{}], "main": 0, "metric": "accuracy"}'),
        ("result.json", '{"points": [], "main": 0, "metric": "accuracy"}'),
    ],
)
def test_damaged_files_are_named(run_dir, name, content):
    (run_dir / name).write_bytes(content.encode("latin-1"))
    with pytest.raises(FileFormatError) as caught:
        report(run_dir)
    assert name.split("/")[-1] in str(caught.value.where)
    assert not (run_dir / "report.html").exists()


def test_not_a_run_directory(tmp_path):
    with pytest.raises(DataError, match=r"(?s)not a run directory.*no model\.hgq in it"):
        report(tmp_path)
    with pytest.raises(DataError, match=r"(?s)not a run directory.*no directory"):
        report(tmp_path / "nothing")


def test_a_place_that_cannot_be_written(run_dir):
    (run_dir / "report.html").mkdir()
    with pytest.raises(OutputError):
        report(run_dir)


def test_a_sweep_joins_what_its_table_calls_not_beaten():
    from hgq.report.sweep import page

    models = [(1000, 0.70, 0.71), (2000, 0.75, 0.69), (3000, 0.74, 0.76), (4000, 0.78, 0.73)]  # EBOPs, validation, test
    common = {"state": "done", "resource": "ebops", "budget": 500, "within": False, "lut": 900, "latency_ns": 30.0, "metric": "accuracy"}
    rows = [
        {"trial": f"seed{k}", "train.seed": k, **common, "ebops": e, "val": v, "test": t, "epochs": 9, "verified": True, "front": k != 2}
        for k, (e, v, t) in enumerate(models)
    ]
    text = page("jets", rows, {})
    assert text.count('<small class="good">not beaten</small>') == 3
    (line,) = re.findall(r'<path class="line s1[^"]*" d="([^"]*)"', text)
    assert len(re.findall(r"[ML]", line)) == 3  # seed1 too, though seed0 does better in the test
    assert re.search(r"</a>\s<small", text)
