"""One figure: contenders measured in turn, round after round, and what came of it."""

import statistics

from .machine import Unmeasured

# Of the file that benches/run writes; another number when a key changes its meaning.
SCHEMA = "basalt-figures/1"


class Figure:
    """Rounds of one quantity. `better` is "higher" or "lower"; `reach` the ratio to be reached (None: only shown)."""

    def __init__(self, name, unit, better, reach=None, note=""):
        self.name, self.unit, self.better, self.reach, self.note = name, unit, better, reach, note
        self.rounds = {}

    def add(self, contender, value):
        """Takes one round's value."""
        if value is None or value <= 0:
            raise Unmeasured(f"{self.name}: {contender} gave {value}")
        self.rounds.setdefault(contender, []).append(value)

    def reference(self):
        """The contender that ours is compared with: the best by median of those that are not ours."""
        others = [name for name in self.rounds if name != "ours"]
        if not others:
            return None
        pick = max if self.better == "higher" else min
        return pick(others, key=lambda name: statistics.median(self.rounds[name]))

    def ratios(self):
        """Ours over the reference, round by round."""
        reference = self.reference()
        if reference is None or "ours" not in self.rounds:
            return []
        return [o / r for o, r in zip(self.rounds["ours"], self.rounds[reference])]

    def met(self):
        """Whether the target is reached; None without target or measurement."""
        ratios = self.ratios()
        if self.reach is None or not ratios:
            return None
        ratio = statistics.median(ratios)
        return ratio >= self.reach if self.better == "higher" else ratio <= self.reach

    def as_json(self):
        """Everything, for a later comparison."""
        ratios = self.ratios()
        return {
            "name": self.name, "unit": self.unit, "better": self.better, "reach": self.reach, "note": self.note,
            "rounds": self.rounds, "medians": {n: statistics.median(v) for n, v in self.rounds.items()},
            "reference": self.reference(), "ratios": ratios,
            "ratio": statistics.median(ratios) if ratios else None, "met": self.met(),
        }


    def bound(self):
        """What is to be reached, as the report says it."""
        sign = "≥" if self.better == "higher" else "≤"
        return "-" if self.reach is None else f"{sign} {self.reach:g}"


class Limit(Figure):
    """A quantity of ours alone, or beside others that are only shown, with a bound in its own unit."""

    def met(self):
        if self.reach is None:
            return None
        value = statistics.median(self.rounds["ours"])
        return value >= self.reach if self.better == "higher" else value <= self.reach

    def bound(self):
        return super().bound() + (f" {self.unit}" if self.reach is not None and len(self.rounds) > 1 else "")


class Margin(Figure):
    """A quantity of ours that may be worse than the reference by `reach` in its own unit."""

    def met(self):
        reference = self.reference()
        if reference is None or "ours" not in self.rounds:
            return None
        worse = [o - r for o, r in zip(self.rounds["ours"], self.rounds[reference])]
        if self.better == "higher":
            worse = [-w for w in worse]
        return statistics.median(worse) <= self.reach

    def bound(self):
        return f"{'+' if self.better == 'lower' else '-'} {self.reach:g} {self.unit}"


def alternate(rounds, contenders, record):
    """Runs every contender once per round, in the same order (A B A B), and hands each result to `record`."""
    for _ in range(rounds):
        for name, measure in contenders.items():
            record(name, measure())


def short(value):
    """A number as a reader wants it."""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value < 10 else f"{value:.1f}"


def markdown(machine, sections):
    """The report."""
    lines = [f"# Figures of {machine['date']}, commit {machine['commit']}", "",
             f"{machine['cpu']}, {machine['memory_gib']} GiB, Linux {machine['kernel']}, {machine['congestion_control']}, "
             f"load average {machine['load_average']:.2f} at the start. Medians; the ratio is ours / the best other, "
             "per round, with its min..max.", ""]
    for section, figures in sections.items():
        lines += [f"## {section}", "", "| figure | unit | probe, peer | ours | ratio | reach | met |",
                  "|---|---|---|---|---|---|---|"]
        lines += [row(figure) for figure in figures]
        lines += [""]
    return "\n".join(lines)


def row(figure):
    """One line of the table."""
    medians = {name: statistics.median(values) for name, values in figure.rounds.items()}
    others = ", ".join(f"{name} {short(value)}" for name, value in medians.items() if name != "ours") or "-"
    ours = short(medians["ours"]) if "ours" in medians else "-"
    ratios = figure.ratios()
    ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}..{max(ratios):.2f})" if ratios else "-"
    reach = figure.bound()
    met = {True: "yes", False: "**no**", None: "-"}[figure.met()]
    name = f"{figure.name} ({figure.note})" if figure.note else figure.name
    return f"| {name} | {figure.unit} | {others} | {ours} | {ratio} | {reach} | {met} |"
