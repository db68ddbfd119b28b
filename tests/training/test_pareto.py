"""`ParetoFront` against brute force, and its directory."""

from __future__ import annotations

import json

import keras
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hgq.training.pareto import ParetoFront, Point, dominates, front


class Model:
    """Stands for a Keras model."""

    def save(self, path):
        path.write_text("model")


def offered(directory, points, **options):
    callback = ParetoFront(directory, **options)
    callback.set_model(Model())
    for epoch, (ebops, metric) in enumerate(points):
        callback.offer(epoch, ebops, metric)
    return callback


def brute_force(points, sign=1):
    """Of all points, those that no other beats in one and equals or beats in the other; the first of equals."""
    kept = set()
    for n, (ebops, metric) in enumerate(points):
        beaten = False
        for m, (other_ebops, other_metric) in enumerate(points):
            no_worse = other_ebops <= ebops and sign * other_metric >= sign * metric
            better = other_ebops < ebops or sign * other_metric > sign * metric
            beaten |= no_worse and (better or m < n)
        if not beaten:
            kept.add(n)
    return kept


POINTS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=14)


@given(POINTS)
def test_front_is_brute_force(points):
    listed = [Point(n, ebops, metric, str(n)) for n, (ebops, metric) in enumerate(points)]
    assert {p.epoch for p in front(listed)} == brute_force(points)
    assert {p.epoch for p in front(listed, higher_is_better=False)} == brute_force(points, -1)


@given(points=POINTS)
def test_one_by_one_is_brute_force(tmp_path_factory, points):
    callback = offered(tmp_path_factory.mktemp("p") / "pareto", points)
    assert {p.epoch for p in callback.points} == brute_force(points)


def test_equal_cost_and_worse_metric_is_dominated():
    """HGQ2 keeps (0.8, 90) next to (0.8, 80)."""
    assert dominates(Point(0, 80, 0.8, ""), Point(1, 90, 0.8, ""))
    assert dominates(Point(0, 80, 0.8, ""), Point(1, 80, 0.7, ""))
    assert not dominates(Point(0, 80, 0.7, ""), Point(1, 90, 0.8, ""))


def test_directory_holds_exactly_the_front(tmp_path):
    points = [(100, 0.5), (90, 0.5), (120, 0.7), (80, 0.4), (70, 0.7), (70, 0.7), (60, float("nan"))]
    callback = offered(tmp_path / "pareto", points)
    index = json.loads((tmp_path / "pareto" / "pareto.json").read_text())
    assert [(entry["epoch"], entry["ebops"], entry["metric"]) for entry in index] == [(4, 70, 0.7)]
    assert {path.name for path in (tmp_path / "pareto").iterdir()} == {"pareto.json", index[0]["file"]}
    assert callback.points[0].file == "epoch00004_ebops70_val_accuracy0.7000.keras"


def test_spacing_thins_a_sweep_but_never_drops_what_is_better(tmp_path):
    sweep = [(1000 * 0.99**n, 0.7 - 0.001 * n) for n in range(100)]
    assert len(offered(tmp_path / "a", sweep).points) == 100
    thin = offered(tmp_path / "b", [*sweep, (2000, 0.9)], spacing=0.05).points
    assert 15 < len(thin) <= 101 and thin[0].metric == 0.9
    assert all(not dominates(a, b) for a in thin for b in thin if a is not b)


def test_smaller_may_be_better(tmp_path):
    callback = offered(tmp_path / "p", [(10, 2.0), (10, 1.0)], metric="val_loss")
    assert [p.metric for p in callback.points] == [1.0]


def test_restore_forgets_what_came_after_the_checkpoint(tmp_path):
    callback = offered(tmp_path / "p", [(100, 0.5), (90, 0.4)])
    state = callback.state()
    callback.offer(2, 80, 0.3)
    again = ParetoFront(tmp_path / "p")
    again.restore(*json.loads(json.dumps(state)))
    assert [p.epoch for p in again.points] == [0, 1]
    assert len(list((tmp_path / "p").glob("*.keras"))) == 2
    assert len(json.loads((tmp_path / "p" / "pareto.json").read_text())) == 2


def test_models_wait_in_memory_and_in_checkpoints(tmp_path):
    """Each file holds its own epoch's weights, though written at the end, by another process, which had gone on in between."""

    def made(seconds):
        callback = ParetoFront(tmp_path / "pareto", seconds=seconds)
        callback.set_model(keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)]))
        return callback

    first, second = made(1e9), made(1e9)
    for epoch, (ebops, metric) in enumerate([(100, 0.7), (90, 0.5), (80, 0.6)]):  # the third beats the second
        first.model.layers[0].kernel.assign([[float(epoch)]])
        first.offer(epoch, ebops, metric)
    assert not (tmp_path / "pareto").exists()
    second.restore(*first.state())
    second.model.layers[0].kernel.assign([[7.0]])
    second.on_train_end()
    files = [point.file for point in second.points]
    assert {path.name for path in (tmp_path / "pareto").iterdir()} == {"pareto.json", *files}
    assert [float(keras.saving.load_model(tmp_path / "pareto" / file).layers[0].kernel[0, 0]) for file in files] == [0.0, 2.0]
    assert float(second.model.layers[0].kernel[0, 0]) == 7.0
    assert [entry["file"] for entry in json.loads((tmp_path / "pareto" / "pareto.json").read_text())] == files


def test_a_large_front_does_not_stay_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("hgq.training.pareto.MOST_BYTES", 10)
    callback = ParetoFront(tmp_path / "pareto", seconds=1e9)
    callback.set_model(keras.Sequential([keras.Input((1,)), keras.layers.Dense(4)]))
    callback.offer(0, 100, 0.7)
    assert (tmp_path / "pareto" / callback.points[0].file).is_file()


def test_epochs_before_the_start_are_ignored_and_a_missing_metric_is_told(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("hgq.training.pareto.log_cost", lambda model, logs: logs["ebops"])
    callback = ParetoFront(tmp_path / "p", start_epoch=3)
    callback.set_model(Model())
    callback.on_epoch_end(2, {"ebops": 1.0, "val_accuracy": 1.0})
    assert not callback.points
    callback.on_epoch_end(3, {"ebops": 1.0, "accuracy": 1.0})
    assert not callback.points and "val_accuracy" in caplog.text
    callback.on_epoch_end(4, {"ebops": 1.0, "val_accuracy": 1.0})
    assert len(callback.points) == 1


def test_a_place_that_cannot_be_written_is_explained(tmp_path):
    from hgq.errors import OutputError

    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        offered(tmp_path / "file" / "pareto", [(1, 1.0)])
