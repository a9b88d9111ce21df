"""A run's verdicts, printed for whoever waits for it."""

from __future__ import annotations

from typing import Any

from pipeline.runner.unpushed import describe_baseline

WORDS = {"majority": "the most frequent class", "logistic": "logistic regression on the same vectors"}
NOT_PUSHED = 2
"""The exit code where a model was not good enough to be pushed."""


def show(summary: dict[str, Any], name: str = "CONFIG") -> int:
    """Prints which models were pushed, why or why not, and what to try.

    Args:
        summary: of the run.
        name: of the configuration, as it was typed.

    Returns:
        The exit code: 0, or 2 if a model was not good enough to be pushed.
    """
    pushed = True
    for kind in (kind for kind in ("retrieval", "ranking") if kind in summary):
        model = summary[kind]
        servable = model["servable"]
        verdict = "pushed to " + model["pushed"] if model["pushed"] else "NOT pushed"
        print(f"\n{kind}: {verdict}")
        for reason in model["reasons"]:
            print(f"  {'blessed' if model['blessed'] else 'not blessed'}; {reason}")
        for reason in model["shown"]:
            print(f"  {reason}")
        if not servable["ok"]:
            print(f"  not servable; {servable['reason']}")
        if not model["pushed"] and model["advice"]:
            print("  What to try:")
            for line in model["advice"]:
                print(f"  - {line.replace('CONFIG', name)}")
        if (baseline := model.get("baseline")) and baseline["pushed"]:
            print(
                f"  Served in its place: {describe_baseline(baseline)}. It was pushed to"
                f" {baseline['pushed']}: users, histories and words are answered under the same signatures"
                " (`evaluation.push_baseline_when_none`)."
            )
        pushed = pushed and bool(model["pushed"])
    for words in summary.get("doubts", ()):
        print(f"  look twice; {words}")
    if whole := summary.get("recommender"):
        print(f"\nrecommender: {'pushed to ' + whole['pushed'] if whole['pushed'] else 'NOT pushed'}")
        if not whole["build"]["built"]:
            print(f"  not built; {whole['build']['reason']}")
        elif not whole["servable"]["ok"]:
            print(f"  not servable; {whole['servable']['reason']}")
        pushed = pushed and bool(whole["pushed"])
    if classifier := summary.get("classifier"):
        pushed = _show_classifier(classifier) and pushed
    print(
        f"\n`tfrec report` shows it all on a page. {summary['seconds']:.0f} s in all,"
        f" {summary['seconds_without_training_and_encoding']:.0f} s of them neither training nor encoding; at"
        f" most {summary['peak_memory_mb'] / 1000:.1f} GB of memory."
    )
    return 0 if pushed else NOT_PUSHED


def _show_classifier(model: dict[str, Any]) -> bool:
    """Prints what the classifier is worth; returns whether it was pushed."""
    print(f"\nclassifier: {'pushed to ' + model['pushed'] if model['pushed'] else 'NOT pushed'}")
    for reason in model["reasons"]:
        print(f"  not blessed; {reason}")
    for name, other in model["baselines"].items():
        gain, low, high = other["gain"]
        print(
            f"  accuracy {model['figures']['accuracy']:.4f}, {WORDS[name]} {other['accuracy']:.4f}:"
            f" {gain:+.4f} [{low:+.4f}, {high:+.4f}]"
        )
    if not model["servable"]["ok"]:
        print(f"  not servable; {model['servable']['reason']}")
    return bool(model["pushed"])


def show_index(summary: dict[str, Any]) -> int:
    """Prints which models were pushed with another index; returns the exit code, as `show` does."""
    pushed = True
    for kind in (kind for kind in ("retrieval", "recommender") if kind in summary):
        model = summary[kind]
        print(f"\n{kind}: {'pushed to ' + model['pushed'] if model['pushed'] else 'NOT pushed'}")
        if not model["servable"]["ok"]:
            print(f"  not servable; {model['servable']['reason']}")
        pushed = pushed and bool(model["pushed"])
    print(f"\n{summary['seconds']:.0f} s in all; a server that is running takes the new versions by itself.")
    return 0 if pushed else NOT_PUSHED
