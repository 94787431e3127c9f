"""The report of a study: which hyperparameters matter, how the value depends on each, and how the search went."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
import optuna
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState

from asr.evaluation.report import STYLE, html_table
from asr.tuning.study import REASON, counted

LEAST_TRIALS = 4  # completed, for importances
COLUMNS = 4  # of slices
DPI = 110


def write_study_report(study: optuna.Study, folder: Path) -> tuple[Path, ...]:
    """Write ``importance.png``, ``slices.png``, ``history.png``, and ``report.html`` with the three inside.

    Returns:
        The paths of the files, the page first. With fewer than LEAST_TRIALS ended trials there is no importance.
    """
    goal = study.user_attrs["options"]["goal"]
    trials = counted(study)
    pictures: dict[str, Figure] = {}
    important = importances(study)
    if important:
        pictures["importance"] = _importance(important, goal)
    if any(_value(trial) is not None for trial in trials):
        pictures["slices"] = _slices(trials, list(important), goal)
        pictures["history"] = _history(trials, goal)
    written = []
    parts = [
        "<!doctype html>",
        '<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">',
        f"<title>{escape(folder.name)}</title><style>{STYLE} img {{ max-width: 100%; }}</style>",
        f"<h1>{escape(folder.name)}: {escape(goal)}</h1>",
        f"<p>{_summary(trials)}</p>",
    ]
    for name, figure in pictures.items():
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=DPI)
        path = folder / f"{name}.png"
        path.write_bytes(buffer.getvalue())
        written.append(path)
        source = base64.b64encode(buffer.getvalue()).decode()
        parts.append(f'<h2>{name.capitalize()}</h2><img alt="{name}" src="data:image/png;base64,{source}">')
    parts += ["<h2>Trials</h2>", _trials(trials, goal), "</html>"]
    page = folder / "report.html"
    page.write_text("\n".join(parts) + "\n", encoding="utf-8")
    return (page, *written)


def importances(study: optuna.Study) -> dict[str, float]:
    """Share of each hyperparameter in the variance of the value that single ones explain, the largest first.

    They add up to 1; empty if there are too few trials.

    Functional analysis of variance over a random forest fitted to the trials that ended (Hutter et al. 2014, "An
    efficient approach for assessing hyperparameter importance"), as Greff et al. 2017 used it on LSTMs.
    """
    ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(ended) < LEAST_TRIALS or len({trial.value for trial in ended}) < 2:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))


def _importance(important: dict[str, float], goal: str) -> Figure:
    figure = Figure(figsize=(7, 0.6 + 0.42 * len(important)), layout="constrained")
    axis = figure.subplots()
    names = list(important)[::-1]
    bars = axis.barh(names, [100 * important[name] for name in names], color="tab:blue")
    axis.bar_label(bars, fmt="%.0f %%", padding=3)
    axis.set_xlim(0, 115 * max(important.values()))
    axis.set_xlabel(f"share of the variance of the {goal}, %")
    return figure


def _slices(trials: Sequence[FrozenTrial], order: Sequence[str], goal: str) -> Figure:
    """The value against each hyperparameter, the important ones first; the line is a running median."""
    shown = [trial for trial in trials if _value(trial) is not None]
    names = [*order, *sorted({name for trial in shown for name in trial.params} - set(order))]
    rows = -(-len(names) // COLUMNS)
    figure = Figure(figsize=(3.1 * min(COLUMNS, len(names)), 2.9 * rows), layout="constrained")
    axes = np.atleast_1d(figure.subplots(rows, min(COLUMNS, len(names)), sharey=True)).ravel()
    for axis, name in zip(axes, names, strict=False):
        own = sorted((trial for trial in shown if name in trial.params), key=lambda trial: trial.params[name])
        for state, colour, label in (
            (TrialState.COMPLETE, "tab:blue", "to the end"),
            (TrialState.PRUNED, "tab:orange", "given up"),
        ):
            points = [(trial.params[name], _percent(trial)) for trial in own if trial.state == state]
            if points:
                axis.plot(*zip(*points, strict=True), ".", color=colour, label=label, markersize=7)
        ended = [trial for trial in own if trial.state == TrialState.COMPLETE]
        _median_line(axis, [trial.params[name] for trial in ended], [_percent(trial) for trial in ended])
        distribution = own[0].distributions[name]
        if not isinstance(distribution, CategoricalDistribution) and distribution.log:
            axis.set_xscale("log")
            axis.set_xticks(ticks := _log_ticks(distribution.low, distribution.high), [f"{tick:g}" for tick in ticks])
            axis.minorticks_off()
        axis.set_xlabel(name)
        axis.grid(alpha=0.3)
    for axis in axes[len(names) :]:
        axis.set_axis_off()
    for axis in axes[:: min(COLUMNS, len(names))]:
        axis.set_ylabel(f"{goal} (%)")
    if any(trial.state == TrialState.PRUNED for trial in shown):
        axes[0].legend(fontsize=8)
    return figure


def _median_line(axis: Axes, places: Sequence[float], values: Sequence[float]) -> None:
    width = max(3, len(places) // 4)
    if len(places) >= 2 * width:
        windows = [slice(k, k + width) for k in range(len(places) - width + 1)]
        axis.plot(
            [np.median(places[one]) for one in windows],
            [np.median(values[one]) for one in windows],
            color="grey",
            linewidth=1.5,
            alpha=0.7,
        )


def _log_ticks(low: float, high: float) -> list[float]:
    """A few round numbers between two bounds."""
    decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    found = [digit * 10.0**decade for decade in decades for digit in (1, 2, 5)]
    return [tick for tick in found if low <= tick * 1.001 and tick <= high * 1.001]


def _history(trials: Sequence[FrozenTrial], goal: str) -> Figure:
    """The value of every trial and the best so far; beside it, all courses of training."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    values, courses = figure.subplots(1, 2, sharey=True)
    ended = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    given_up = [trial for trial in trials if trial.state == TrialState.PRUNED and _value(trial) is not None]
    for members, colour, label in ((ended, "tab:blue", "to the end"), (given_up, "tab:orange", "given up")):
        if members:
            values.plot(
                [trial.number for trial in members],
                [_percent(trial) for trial in members],
                ".",
                color=colour,
                label=label,
                markersize=8,
            )
    if ended:
        best = np.minimum.accumulate([100 * trial.value for trial in ended])
        values.step([trial.number for trial in ended], best, where="post", color="grey", label="best so far")
        chosen = min(ended, key=lambda trial: trial.value)
        for trial in (*given_up, *ended, chosen):
            course = sorted(trial.intermediate_values.items())
            colour = "tab:orange" if trial in given_up else "tab:red" if trial is chosen else "tab:blue"
            courses.plot(
                [10 * step for step, _ in course],
                [100 * value for _, value in course],
                color=colour,
                alpha=1 if trial is chosen else 0.35,
                linewidth=1,
            )
    values.set_xlabel("trial")
    values.set_ylabel(f"{goal} (%)")
    courses.set_xlabel("part of the trial done (%); red: the best trial")
    for axis in (values, courses):
        axis.grid(alpha=0.3)
    values.legend(fontsize=8)
    return figure


def _percent(trial: FrozenTrial) -> float:
    """The value of a trial that has one, in percent."""
    value = _value(trial)
    return math.nan if value is None else 100 * value


def _value(trial: FrozenTrial) -> float | None:
    """The final value, or the last one that was told of a trial that was given up."""
    if trial.state == TrialState.COMPLETE:
        return trial.value
    if trial.state == TrialState.PRUNED and trial.intermediate_values:
        return trial.intermediate_values[max(trial.intermediate_values)]
    return None


def _summary(trials: Sequence[FrozenTrial]) -> str:
    counts = {state: sum(trial.state == state for trial in trials) for state in TrialState}
    return (
        f"{len(trials)} trials: {counts[TrialState.COMPLETE]} to the end, {counts[TrialState.PRUNED]} given up, "
        f"{counts[TrialState.FAIL]} failed, {counts[TrialState.RUNNING]} under way."
    )


def _trials(trials: Sequence[FrozenTrial], goal: str) -> str:
    """All trials, the best first."""
    names = sorted({name for trial in trials for name in trial.params})
    facts = sorted({name for trial in trials for name, fact in trial.user_attrs.items() if isinstance(fact, float)})
    rows = sorted(trials, key=lambda trial: (trial.state != TrialState.COMPLETE, _value(trial) or 0.0))
    return html_table(
        ("trial", f"{goal} %", "", *names, *facts),
        (
            (
                trial.number,
                "" if _value(trial) is None else f"{_percent(trial):.2f}",
                trial.user_attrs.get(REASON, "" if trial.state == TrialState.COMPLETE else trial.state.name.lower()),
                *(f"{trial.params[name]:.4g}" if name in trial.params else "" for name in names),
                *(f"{trial.user_attrs[fact]:.4g}" if fact in trial.user_attrs else "" for fact in facts),
            )
            for trial in rows
        ),
    )
