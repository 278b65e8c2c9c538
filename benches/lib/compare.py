"""Two results of benches/run side by side. Called by benches/compare.

A figure's values are the rounds of ours, or of ours over the contender it was measured beside when both files have that one.
"""

import dataclasses
import json
import math
import statistics

from .figure import SCHEMA, short

DIRECTIONS = ("higher", "lower")


class Unreadable(Exception):
    """A file that is no result, or two that cannot be compared; one line."""


@dataclasses.dataclass
class Row:
    """One line of the table; `change` in per cent, positive when the value grew."""

    name: str
    unit: str
    base: str
    new: str
    change: float | None
    verdict: str


def read(path):
    """Machine and figures (by section and name) of a file."""
    try:
        with open(path, encoding="utf-8") as file:
            report = json.load(file)
    except OSError as error:
        raise Unreadable(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise Unreadable(f"{path}: not JSON: {error}") from error
    found = report.get("schema") if isinstance(report, dict) else None
    if found != SCHEMA:
        raise Unreadable(f"{path}: not a result of benches/run: schema {found!r} where {SCHEMA!r} is expected")
    try:
        figures = {f"{section}: {one['name']}": checked(path, one)
                   for section, list_ in report["sections"].items() for one in list_}
        return {"machine": dict(report["machine"]), "figures": figures}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise Unreadable(f"{path}: damaged result: {type(error).__name__}: {error}") from error


def checked(path, figure):
    """The figure, if all that a comparison needs is there."""
    if figure["better"] not in DIRECTIONS:
        raise Unreadable(f"{path}: {figure['name']}: better is {figure['better']!r}, not one of {DIRECTIONS}")
    if not isinstance(figure["unit"], str):
        raise TypeError(f"{figure['name']}: unit {figure['unit']!r}")
    for contender, values in figure["rounds"].items():
        # JSON as Python reads it has NaN, which is neither better nor worse than anything.
        if not values or not all(math.isfinite(value) and value > 0 for value in values):
            raise ValueError(f"{figure['name']}: rounds of {contender} are not numbers above 0: {values}")
    return figure


def values_of(base, new):
    """Rounds to compare of both, and what they are; None where one has none of ours."""
    if "ours" not in base["rounds"] or "ours" not in new["rounds"]:
        return None
    reference = base.get("reference")
    if reference is None or reference not in new["rounds"]:
        return base["rounds"]["ours"], new["rounds"]["ours"], base["unit"]

    def ratios(figure):
        return [o / r for o, r in zip(figure["rounds"]["ours"], figure["rounds"][reference])]

    return ratios(base), ratios(new), f"ratio to {reference}"


def middle_half(values):
    """First and third quartile: one round in four that a neighbour disturbed changes nothing."""
    if len(values) == 1:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


def judge(base, new, better, threshold):
    """Change of the medians in per cent, and the verdict."""
    change = (statistics.median(new) / statistics.median(base) - 1) * 100
    (base_low, base_high), (new_low, new_high) = middle_half(base), middle_half(new)
    if abs(change) <= threshold:
        return change, "same"
    if new_low <= base_high and base_low <= new_high:
        return change, "within the spread"
    return change, "better" if (change > 0) == (better == "higher") else "WORSE"


def shown(values):
    """Median and middle half."""
    low, high = middle_half(values)
    return f"{short(statistics.median(values))} ({short(low)}..{short(high)})"


def row(name, base, new, threshold):
    """The line of a figure that one of the files has."""
    if new is None:
        return Row(name, base["unit"], shown(base["rounds"]["ours"]) if "ours" in base["rounds"] else "-", "-", None,
                   "MISSING")
    if base is None:
        return Row(name, new["unit"], "-", shown(new["rounds"]["ours"]) if "ours" in new["rounds"] else "-", None, "new")
    for key in ("better", "unit"):
        if base[key] != new[key]:
            raise Unreadable(f"{name}: {key} is {base[key]!r} in one file and {new[key]!r} in the other")
    values = values_of(base, new)
    if values is None:
        return Row(name, base["unit"], "-", "-", None, "MISSING")
    before, after, unit = values
    change, verdict = judge(before, after, base["better"], threshold)
    return Row(name, unit, shown(before), shown(after), change, verdict)


def compare(base, new, threshold):
    """All figures of both, those of BASE first."""
    if not set(base) & set(new):
        raise Unreadable("the two files have no figure in common")
    names = list(base) + [name for name in new if name not in base]
    return [row(name, base.get(name), new.get(name), threshold) for name in names]


def failed(rows, allow_missing):
    """The rows for which the comparison fails."""
    bad = ("WORSE",) if allow_missing else ("WORSE", "MISSING")
    return [one for one in rows if one.verdict in bad]


def table(base, new, rows, threshold):
    """The Markdown."""
    count = sum(one.verdict == "WORSE" for one in rows)
    lines = [f"**{count} of {len(rows)} figures worse** by more than {threshold:g} % and the spread of both.", "",
             f"Base: {said(base)}. New: {said(new)}. Medians (quartiles) of the rounds.", "",
             "| figure | unit | base | new | change | verdict |", "|---|---|---|---|---|---|"]
    for one in rows:
        change = "-" if one.change is None else f"{one.change:+.1f} %"
        verdict = f"**{one.verdict}**" if one.verdict in ("WORSE", "MISSING") else one.verdict
        lines.append(f"| {one.name} | {one.unit} | {one.base} | {one.new} | {change} | {verdict} |")
    return "\n".join(lines)


def said(machine):
    """Where and when a file comes from."""
    return f"commit {machine.get('commit', '?')} of {machine.get('date', '?')} on {machine.get('cpu', '?')}"
