"""Line and scatter charts as inline SVG. Colours are CSS classes, so that one drawing serves light and dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from hgq.report.axes import Scale, number, scale_for

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Series:
    """Points of one colour.

    Args:
        label: Written at the last point.
        points: ``(x, y)``; those that are not finite, or off the axes, are left out.
        css: Class: ``s1``, ``s2`` … are colours, ``cloud`` is the background.
        line: Join them.
        steps: Join them by steps, as a front of attainable points is.
        dots: Mark them.
    """

    label: str
    points: Points
    css: str
    line: bool = True
    steps: bool = False
    dots: bool = False


@dataclass(frozen=True)
class Mark:
    """A vertical line at `x` with a label."""

    x: float
    label: str


@dataclass(frozen=True)
class Frame:
    """Size and words of a chart; `title` and `description` are for screen readers."""

    title: str
    description: str
    x_label: str
    y_label: str
    width: int = 720
    height: int = 380
    x_log: bool = False
    y_log: bool = False
    y_percent: bool = False


LEFT, RIGHT, TOP, BOTTOM = 62, 118, 22, 48


def chart(frame: Frame, series: Sequence[Series], marks: Sequence[Mark] = (), ring: tuple[float, float] | None = None) -> Markup:
    """Draw. Only series that are lines or not of class ``cloud`` decide the axes; `ring` circles one point."""
    deciding = [point for one in series if one.css != "cloud" for point in one.points]
    x = scale_for([p[0] for p in deciding] + [m.x for m in marks], LEFT, frame.width - RIGHT, log=frame.x_log)
    y = scale_for([p[1] for p in deciding], frame.height - BOTTOM, TOP, log=frame.y_log, pad=0.09)
    parts = [_axes(frame, x, y), *(_mark(mark, x, frame) for mark in marks if x.holds(mark.x))]
    parts += [_series(one, x, y) for one in series]
    if ring is not None and x.holds(ring[0]) and y.holds(ring[1]):
        parts.append(Markup('<circle class="ring" cx="{}" cy="{}" r="9"/>').format(_px(x(ring[0])), _px(y(ring[1]))))
    parts.append(_labels(series, x, y))
    head = Markup('<svg class="chart" role="img" viewBox="0 0 {} {}"><title>{}</title><desc>{}</desc>')
    return head.format(frame.width, frame.height, frame.title, frame.description) + Markup("").join(parts) + Markup("</svg>")


def front(points: Points, *, higher_is_better: bool = True) -> list[tuple[float, float]]:
    """Points that no other beats: none is at most as costly and at least as good, and better in one of the two. By rising cost."""
    sign = 1 if higher_is_better else -1
    kept: list[tuple[float, float]] = []
    for cost, metric in sorted(set(points), key=lambda p: (p[0], -sign * p[1])):
        if not kept or sign * metric > sign * kept[-1][1]:
            kept.append((cost, metric))
    return kept


def _axes(frame: Frame, x: Scale, y: Scale) -> Markup:
    bottom, right = frame.height - BOTTOM, frame.width - RIGHT
    parts = []
    for tick in y.ticks(6):
        at = _px(y(tick))
        text = f"{100 * tick:.4g} %" if frame.y_percent else number(tick)
        parts.append(Markup('<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(LEFT, right, at, at))
        parts.append(Markup('<text class="tick" x="{}" y="{}" text-anchor="end">{}</text>').format(LEFT - 8, _px(y(tick) + 4), text))
    for tick in x.ticks(7 if frame.width > 500 else 4):
        at = _px(x(tick))
        parts.append(Markup('<line class="axis" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(at, at, bottom, bottom + 5))
        parts.append(Markup('<text class="tick" x="{}" y="{}" text-anchor="middle">{}</text>').format(at, bottom + 19, number(tick)))
    parts.append(Markup('<line class="axis" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(LEFT, right, bottom, bottom))
    middle = _px((LEFT + right) / 2)
    parts.append(Markup('<text class="label" x="{}" y="{}" text-anchor="middle">{}</text>').format(middle, frame.height - 8, frame.x_label))
    parts.append(Markup('<text class="label" x="{}" y="{}">{}</text>').format(LEFT - 54, 12, frame.y_label))
    return Markup("").join(parts)


def _mark(mark: Mark, x: Scale, frame: Frame) -> Markup:
    at = _px(x(mark.x))
    bottom = frame.height - BOTTOM
    line = Markup('<line class="mark" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(at, at, TOP, bottom)
    return line + Markup('<text class="marklabel" x="{}" y="{}" text-anchor="end" transform="rotate(-90 {} {})">{}</text>').format(
        _px(x(mark.x) - 6), TOP, _px(x(mark.x) - 6), TOP, mark.label
    )


def _series(one: Series, x: Scale, y: Scale) -> Markup:
    shown = [(x(a), y(b)) for a, b in one.points if x.holds(a) and y.holds(b)]
    parts = []
    if one.line and len(shown) > 1:
        path = f"M{_px(shown[0][0])} {_px(shown[0][1])}"
        for a, b in shown[1:]:
            path += f"H{_px(a)}V{_px(b)}" if one.steps else f"L{_px(a)} {_px(b)}"
        parts.append(Markup('<path class="line {}" d="{}"/>').format(one.css, path))
    if one.dots:
        radius = 2 if one.css == "cloud" else 4
        parts += [Markup('<circle class="dot {}" cx="{}" cy="{}" r="{}"/>').format(one.css, _px(a), _px(b), radius) for a, b in shown]
    return Markup("").join(parts)


def _labels(series: Sequence[Series], x: Scale, y: Scale) -> Markup:
    """Name each series beside its last point, pushed apart where they would touch."""
    placed: list[tuple[float, float, Series]] = []
    for one in series:
        shown = [(x(a), y(b)) for a, b in one.points if x.holds(a) and y.holds(b)]
        if one.label and shown and one.css != "cloud":
            placed.append((shown[-1][1], shown[-1][0], one))
    parts, last = [], -math.inf
    for at, right, one in sorted(placed, key=lambda item: item[0]):
        last = max(at, last + 15)
        parts.append(
            Markup('<text class="name {}" x="{}" y="{}">{}</text>').format(one.css, _px(right + 10), _px(last + 4), escape(one.label))
        )
    return Markup("").join(parts)


def _px(value: float) -> str:
    """A coordinate: a tenth of a pixel is enough, and keeps files small and equal on every machine."""
    return f"{value:.1f}".removesuffix(".0")
