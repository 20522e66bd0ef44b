"""The answer sentences of the report, each computed from the data, each true of the data at hand or absent."""

from __future__ import annotations

from overproof.reporting.domain import wording
from overproof.reporting.domain.material import ArmFacts, Material, Row, estimate, from_json
from overproof.shared.topology import Verdict

NO_CHANGE = "no significant change"


def verdict(material: Material) -> str:
    """The whole result in a few words."""
    main = material.main
    if main is None:
        return "Nothing to compare with"
    tokens = from_json(main["tokens_ratio"])
    shorter, longer = tokens.high < 1, tokens.low > 1
    if main["change"] == "better":
        return (
            "Yes: more accurate and shorter"
            if shorter
            else "Yes: more accurate, but longer"
            if longer
            else "Yes: more accurate"
        )
    if main["change"] == "worse":
        return "No: less accurate, though shorter" if shorter else "No: less accurate"
    if shorter:
        return f"Shorter, with {NO_CHANGE} in accuracy"
    return f"Longer, with {NO_CHANGE} in accuracy" if longer else f"No: {NO_CHANGE}"


def headline(material: Material) -> list[str]:
    """Two sentences on the best model against the baseline (accuracy, tokens), then one per further contrast."""
    main = material.main
    if main is None:
        return [alone(material)]
    further = [
        one
        for one in material.facts["contrasts"]
        if one["second"] != material.baseline and one["first"] != material.baseline
    ]
    return [_accuracy(material, main), _tokens(material, main), *(_beside(one) for one in further)]


def alone(material: Material) -> str:
    """When there is one model only."""
    row = material.overall[material.baseline]
    return (
        f"{material.baseline} solves {wording.accuracy(estimate(row, 'accuracy'))} of {wording.plural(row['n'], 'test problem')} "
        f"with {wording.count(row['tokens_mean'])} tokens per answer; there is no other model to compare it with."
    )


def _accuracy(material: Material, main: Row) -> str:
    mine = estimate(material.overall[main["first"]], "accuracy")
    theirs = estimate(material.overall[main["second"]], "accuracy")
    change = from_json(main["accuracy_difference"])
    solves = f"{main['first']} solves {wording.accuracy(mine)} of {wording.plural(change.n, 'test problem')}"
    against = f"{main['second']} {wording.accuracy(theirs)}"
    if main["change"] == "unclear":
        return (
            f"There is {NO_CHANGE} in accuracy: {solves}, {against}; the paired difference is {wording.points(change)}."
        )
    return wording.sentence(f"{solves}, {against}: {wording.points(change)}, paired by problem.")


def _tokens(material: Material, main: Row) -> str:
    ratio = from_json(main["tokens_ratio"])
    row = material.overall[main["first"]]
    mean = f"{wording.count(row['tokens_mean'])} tokens per answer"
    if ratio.low <= 1 <= ratio.high:
        return f"There is {NO_CHANGE} in length: {mean}, {wording.times(ratio)} those of {main['second']}."
    return f"It writes {mean}: {wording.fewer(ratio)} than {main['second']}."


def _beside(contrast: Row) -> str:
    change, ratio = from_json(contrast["accuracy_difference"]), from_json(contrast["tokens_ratio"])
    says = {"better": "higher accuracy", "worse": "lower accuracy", "unclear": f"{NO_CHANGE} in accuracy"}
    return (
        f"Against {contrast['second']}, {contrast['first']} shows {says[contrast['change']]} "
        f"({wording.points(change)}) and writes {wording.fewer(ratio, 'tokens')}."
    )


def pareto(material: Material) -> str:
    """Accuracy against tokens."""
    main = material.main
    if main is None:
        return "Up and left is better."
    change, ratio = from_json(main["accuracy_difference"]), from_json(main["tokens_ratio"])
    return (
        f"Up and left is better: {main['first']} lies {wording.points(change)} from {main['second']} "
        f"at {wording.times(ratio)} its tokens."
    )


def lengths(material: Material) -> str:
    """How long the answers are, and how many lengths are only lower bounds."""
    shown = [label for label in (material.baseline, material.best) if label]
    halves = ", ".join(
        f"{wording.count(material.overall[label]['tokens_median'])} tokens for {label}"
        for label in dict.fromkeys(shown)
    )
    cut = {label: material.facts["models"][label]["lengths"]["truncated"] for label in material.labels}
    if not any(cut.values()):
        return f"The median answer has {halves}; every answer of every model ended by itself."
    most = max(cut, key=lambda label: material.overall[label]["truncated_share"])
    return (
        f"The median answer has {halves}; {wording.share(material.overall[most]['truncated_share'])} of {most}'s answers "
        "were stopped at the limit, so their true lengths are longer than counted."
    )


def where(material: Material) -> str:
    """Which subjects changed."""
    rows = [
        row
        for row in material.sliced("type")
        if row["model"] == material.best and row["accuracy_difference"] is not None
    ]
    if not rows or material.best is None:
        return "The problems carry no subject, or there is nothing to compare."
    first, last = (pick(rows, key=lambda row: row["accuracy_difference"]) for pick in (max, min))
    clear = sum(estimate(row, "accuracy_difference").excludes_zero for row in rows)
    ends = [
        f"{row['value']} ({wording.points(estimate(row, 'accuracy_difference'))}, n = {row['n']})"
        for row in (first, last)
    ]
    spread = f"from {ends[0]} to {ends[1]}" if len(rows) > 1 else f"by {ends[0]}"
    return (
        f"Against {material.baseline}, {material.best} changes {spread}; {clear} of {wording.plural(len(rows), 'interval')} "
        "exclude 0 (not corrected for looking at several)."
    )


def rounds(material: Material) -> str:
    """Accuracy per round, and how much of what was sampled was used."""
    policy = material.policy_of(material.best or material.baseline)
    steps = [material.baseline, *(label for label in material.students if material.policy_of(label) == policy)]
    path = ", ".join(
        f"{label} {wording.accuracy(estimate(material.overall[label], 'accuracy'))}" for label in dict.fromkeys(steps)
    )
    if not material.arms:
        return f"Accuracy: {path}."
    shown = next((one for one in material.arms if one.arm.label == material.best), material.arms[-1])
    notes = shown.selected
    return (
        f"Accuracy: {path}. Of {wording.plural(notes.get('completions', 0), 'completion')} sampled for {shown.arm.label}, "
        f"{wording.count(notes.get('completions_correct'))} were correct and {wording.count(notes.get('rows'))} were selected."
    )


def won_lost(material: Material) -> str:
    """The exact paired test."""
    main = material.main
    if main is None:
        return "There is no second model."
    return (
        f"{main['first']} does better on {wording.plural(main['won'], 'problem')} and worse on {main['lost']:,} than "
        f"{main['second']}; exact McNemar test: {wording.p_value(main['mcnemar_p'])}."
    )


def same_problems(material: Material) -> str:
    """Token ratio where both are right."""
    main = material.main
    if main is None or main["tokens_ratio_same_problems"]["value"] is None:
        return "There is no problem that both models solve."
    ratio = from_json(main["tokens_ratio_same_problems"])
    return (
        f"On the {wording.plural(ratio.n, 'problem')} that both solve, the correct answers of {main['first']} need "
        f"{wording.times(ratio)} the tokens of {main['second']}'s: shorter on {main['shorter']:,}, longer on {main['longer']:,}."
    )


def grader(material: Material) -> str:
    """What could not be judged."""
    totals: dict[str, int] = {}
    for model in material.facts["models"].values():
        for name, n in model["verdicts"].items():
            totals[name] = totals.get(name, 0) + n
    everything = sum(totals.values())
    late, odd = totals.get(Verdict.TIMEOUT, 0), totals.get(Verdict.UNGRADABLE, 0)
    if not late and not odd:
        return f"All {wording.plural(everything, 'completion')} were judged within the time limit, and every gold answer was readable."
    return (
        f"Of {wording.plural(everything, 'completion')}, {late:,} ran into the grader's time limit (counted as not correct) and "
        f"{odd:,} belong to gold answers that cannot be read (left out of every accuracy)."
    )


def training(one: ArmFacts) -> str:
    """How one training went."""
    losses = [line["loss"] for line in one.metrics if "loss" in line]
    held = [line["val_loss"] for line in one.metrics if "val_loss" in line]
    speeds = sorted(line["tokens_per_second"] for line in one.metrics if "tokens_per_second" in line)
    if not losses:
        return f"{one.arm.label}: no training metrics were kept."
    says = f"{one.arm.label}: loss {losses[0]:.3f} → {losses[-1]:.3f} in {wording.plural(len(losses), 'step')}"
    says += f", validation loss {min(held):.3f} at best" if held else ""
    return says + (f", {wording.count(speeds[len(speeds) // 2])} tokens/s (median)." if speeds else ".")


def leakage(material: Material) -> str:
    """The check that no test problem was trained on."""
    checked = [one.selected for one in material.arms if "groups_checked" in one.selected]
    if not checked:
        return "This run selected no training rows, so there was no leakage to check."
    groups, tests = max(notes["groups_checked"] for notes in checked), max(notes["test_groups"] for notes in checked)
    if not tests:
        return "Leakage was not checked: the selection was given no test problems."
    return (
        f"0 of up to {wording.plural(groups, 'problem group')} in the training rows are among the {wording.plural(tests, 'group')} "
        "of test problems; selection stops at the first that is."
    )
