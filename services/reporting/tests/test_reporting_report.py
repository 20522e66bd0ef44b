"""The whole of reporting, select to report, on invented rows; and what hostile rows can do to the page (nothing)."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import re
import struct
from html.parser import HTMLParser
from typing import Any

import pytest

from overproof.reporting.domain.scoreboard import WIDTH
from overproof.shared.recipe import GradingOptions, MajorityRule, PromptOptions, Recipe, SelectionPolicy
from overproof.shared.specs import (
    Arm,
    Audited,
    AuditSpec,
    ChangesSpec,
    CompareSpec,
    Evaluation,
    GradeSpec,
    Regraded,
    ReportSpec,
    ReviewSpec,
    SelectSpec,
)
from overproof.shared.tables import AUDIT, GRADES, rows_of
from overproof.shared.topology import Role

HOSTILE = (
    "</script><script>alert(1)</script><img src=x onerror=alert(2)> $\\text{<img src=x onerror=alert(3)>}$ "
    "$\\href{javascript:alert(4)}{x}$ $$\\text{</mtext></math><script>alert(5)</script>}$$ {{ 7*7 }} ]]> --> "
    "$\\color{red\" onclick=\"alert(6)}{y}$"
)  # fmt: skip


def recipe(**more: Any) -> Recipe:
    source = {"generator": "demo-math", "n": 10, "split": "test"}
    return Recipe.model_validate(
        {
            "name": "demo",
            "data": {"train": source | {"split": "train"}, "test": source},
            "models": {"teacher": "teacher", "student": "student"},
            "selection": [{"policy": "shortest"}, {"policy": "all"}],
            **more,
        }
    )


def regraded(world, evaluation: Evaluation, problems: str) -> Regraded:
    """The evaluation graded again by a strict grader that refuses every seventh correct answer."""
    spec = GradeSpec(completions=evaluation.completions, problems=problems, options=GradingOptions(strict=True))
    parts = []
    for part in range(len(world.artifacts.parts(evaluation.grades))):
        rows = list(rows_of(world.artifacts.read(evaluation.grades, GRADES, part=part)))
        parts.append(
            [
                row | ({"verdict": "wrong"} if row["verdict"] == "correct" and i % 7 == 0 else {})
                for i, row in enumerate(rows)
            ]
        )
    return Regraded(
        label=f"test · {evaluation.label}", before=world._store(spec, GRADES, parts), after=evaluation.grades
    )


def with_a_majority_and_regrades(world, spec: ReportSpec) -> ReportSpec:
    """The same report where `shortest` learnt from majority labels and two evaluations had been graded before."""
    first = spec.arms[0]
    policy = SelectionPolicy(labels="majority")
    select = SelectSpec(
        problems=spec.train_problems, completions=spec.sampled, grades=spec.graded, tests=(), policy=policy, prompt=PromptOptions(),
        votes=world.vote(spec.train_problems, 25)[1], rule=MajorityRule(),
    )  # fmt: skip
    selected = world.make(select)
    arm = first.model_copy(
        update={"selected": selected, "policy": policy.label, "trained": world.train(selected, policy=policy.label)}
    )
    pairs = tuple(regraded(world, one, spec.comparison.problems) for one in spec.comparison.evaluations[:2])
    changes = world.make(ChangesSpec(regraded=pairs))
    return spec.model_copy(update={"arms": (arm, *spec.arms[1:]), "changes": changes})


def report_spec(
    world, *, n: int = 160, text: str | None = None, odd: str | None = None, accuracies=(0.4, 0.72, 0.7), verdict=None
) -> ReportSpec:
    """Everything before the report, made through the worker: two policies, one round."""
    train = world.problems(120, name="train", groups="t")
    test = world.problems(n, odd=odd)
    sampled = world.evaluate(train, name="teacher", accuracy=0.9, tokens=110, samples=4, role=Role.TEACHER)
    arms, evaluations = [], []
    for label, role, round, accuracy, tokens in (
        ("teacher", Role.TEACHER, 0, 0.92, 110),
        ("base", Role.BASE, 0, accuracies[0], 120),
        ("round 1 · shortest", Role.STUDENT, 1, accuracies[1], 55),
        ("round 1 · all", Role.STUDENT, 1, accuracies[2], 95),
    ):
        completions, grades = world.evaluate(
            test, name=label, accuracy=accuracy, tokens=tokens, role=role, round=round, text=text, verdict=verdict
        )
        model = odd or label
        evaluations.append(
            Evaluation(label=label, role=role, round=round, model=model, completions=completions, grades=grades)
        )
        if role == Role.STUDENT:
            policy = SelectionPolicy(policy=label.rpartition(" ")[2])
            spec = SelectSpec(
                problems=train, completions=sampled[:1], grades=sampled[1:], tests=(test,), policy=policy, prompt=PromptOptions()
            )  # fmt: skip
            selected = world.make(spec)
            trained = world.train(selected, policy=policy.label)
            arms.append(Arm(label=label, round=1, policy=policy.label, selected=selected, trained=trained))
    comparison = CompareSpec(
        problems=test, evaluations=tuple(evaluations), baseline="base",
        contrasts=(("round 1 · shortest", "round 1 · all"),), resamples=300,
    )  # fmt: skip
    return ReportSpec(
        run_name="demo",
        compare=world.make(comparison),
        comparison=comparison,
        arms=tuple(arms),
        sampled=sampled[:1],
        graded=sampled[1:],
        review=world.make(ReviewSpec(problems=train, votes=(world.vote(train, 25),), rule=MajorityRule())),
        train_problems=train,
        licenses=(("model teacher", "Apache-2.0"), ("data demo-math", odd or "Apache-2.0")),
        recipe_json=recipe().model_dump_json(),
    )


def content(world, ref: str) -> dict[str, bytes]:
    return {part.name: world.files.read(f"artifacts/{ref}/{part.name}") for part in world.artifacts.parts(ref)}


class Page(HTMLParser):
    """Elements and attributes, as a browser's parser would find them (rough, but it ends scripts where browsers do)."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture(scope="module")
def finished(redis_server, tmp_path_factory, make_world) -> dict[str, bytes]:
    """The files of one report, made once for the tests that only read it."""
    world = make_world(tmp_path_factory.mktemp("finished"), redis_server.url)
    return content(world, world.make(report_spec(world)))


def test_select_compare_report_end_to_end(finished) -> None:
    files = finished
    assert sorted(files) == [
        "cards/round-1/all.md", "cards/round-1/shortest.md",
        "comparison.csv", "gold_review.csv", "pareto-dark.png", "pareto.png", "report.html", "report.json", "report.md",
    ]  # fmt: skip
    facts = json.loads(files["report.json"])
    assert facts["verdict"] == "Yes: more accurate and shorter"
    assert facts["best"] in ("round 1 · shortest", "round 1 · all")
    assert re.search(r"\d\d\.\d% \[\d\d\.\d%, \d\d\.\d%\] of 160 test problems", facts["headline"][0])
    assert [row["model"] for row in facts["table"]] == ["teacher", "base", "round 1 · shortest", "round 1 · all"]
    assert [row["starred"] for row in facts["table"][1:]] == [False, True, True]
    assert facts["leakage"].startswith("0 of up to 1")
    assert facts["models"]["base"]["overall"]["total"] == 160
    lines = facts["table_text"].splitlines()
    assert len(lines) == 5
    assert all(len(line) <= WIDTH for line in lines)
    rows = list(csv.DictReader(io.StringIO(files["comparison.csv"].decode())))
    assert len(rows) == 4 * (1 + 5 + 4)
    for name in ("pareto.png", "pareto-dark.png"):
        assert files[name].startswith(b"\x89PNG")
        width, height = struct.unpack(">II", files[name][16:24])
        assert (width > 1200, height > 700) == (True, True)
    assert "![Accuracy against tokens](pareto.png)" in files["report.md"].decode()


def test_the_page_asks_every_question_and_needs_no_network(finished) -> None:
    html = finished["report.html"].decode()
    for question in (
        "Did it work?", "Yes: more accurate and shorter", "Scoreboard", "Accuracy against tokens", "How long are the answers?", "Where?",
        "Over rounds", "Won and lost", "Shorter for the same problem?", "Can the grader be trusted?", "Training", "Reproduce",
    ):  # fmt: skip
        assert f">{question}</" in html
    page = Page(html)
    assert sum(tag == "svg" for tag, _ in page.elements) >= 9
    for _, attributes in page.elements:
        for name in ("src", "href", "xlink:href", "action"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:text/csv;", "data:application/json;")), value
    assert not re.search(r"@import|url\((?!#)", html)
    assert len(html) < 2_000_000


def test_data_links_hold_the_rows(finished) -> None:
    html = finished["report.html"].decode()
    links = {a["download"]: a["href"] for tag, a in Page(html).elements if tag == "a" and "download" in a}
    assert set(links) == {
        "scoreboard.csv", "pareto.csv", "lengths.csv", "where.csv", "rounds.csv", "won-lost.csv", "same-problems.csv",
        "grader.csv", "gold-review.csv", "training.csv", "demo.json",
    }  # fmt: skip
    where = base64.b64decode(links["where.csv"].partition(",")[2]).decode()
    assert len(list(csv.DictReader(io.StringIO(where)))) == 4 * 9
    assert json.loads(base64.b64decode(links["demo.json"].partition(",")[2]))["name"] == "demo"


def test_probes_of_the_training_are_told_with_interval_and_n(finished) -> None:
    html = finished["report.html"].decode()
    assert "on 32 validation problems from step 0 to 200" in html
    assert "accuracy 25.0% [13.3%, 42.1%] → 56.2% [39.3%, 71.8%], mean tokens 60 → 35." in html
    assert "step 100: 40.6% [25.5%, 57.7%], n = 32, 0% cut off" in html


def test_gold_answers_to_review_are_listed_and_counted(finished) -> None:
    facts, html = json.loads(finished["report.json"]), finished["report.html"].decode()
    assert facts["gold_review"] == {"contradicts": 25, "unreadable": 0}
    rows = list(csv.DictReader(io.StringIO(finished["gold_review.csv"].decode())))
    assert [(row["gold"], row["answer"], row["votes"], row["correct"]) for row in rows[:2]] == [
        ("1", "0", "4", "0"),
        ("2", "0", "4", "0"),
    ]
    assert len(rows) == 25
    assert "contradict the gold answer of 25 training problems" in html
    assert "The first 20; all 25 are in the data." in html


def adaptive(world, spec: ReportSpec) -> ReportSpec:
    """The report of a run that stopped each problem at two correct completions of at most five."""
    sampling = {"samples_per_pass": 4, "max_samples": 5, "enough": 2, "temperature": 1.0}
    return spec.model_copy(update={"recipe_json": recipe(sampling=sampling).model_dump_json()})


def test_savings_of_adaptive_sampling_are_told_and_add_up(world) -> None:
    spec = report_spec(world)
    later = world.evaluate(
        spec.train_problems, name="teacher", accuracy=0.5, tokens=110, samples=1, first_sample=4, role=Role.TEACHER
    )
    spec = spec.model_copy(update={"sampled": (*spec.sampled, later[0]), "graded": (*spec.graded, later[1])})
    files = content(world, world.make(adaptive(world, spec)))
    (one,) = json.loads(files["report.json"])["sampling"]
    assert [(each["problems"], each["completions"]) for each in one["passes"]] == [(120, 480), (120, 120)]
    grades = [row for ref in spec.graded for row in rows_of(world.artifacts.read(ref, GRADES))]
    correct = [row for row in grades if row["verdict"] == "correct"]
    assert sum(each["correct"] for each in one["passes"]) == len(correct)
    assert one["solved"] == one["passes"][-1]["solved"] == len({row["problem_id"] for row in correct})
    assert one["max_samples"]["completions"] == one["completions"] == 600
    assert "What did adaptive sampling save?" in files["report.html"].decode()


def test_majority_labels_and_changed_verdicts_are_told(world) -> None:
    files = content(world, world.make(with_a_majority_and_regrades(world, report_spec(world))))
    facts, html = json.loads(files["report.json"]), files["report.html"].decode()
    assert (
        "clear majority for 0 problems whose gold answer is missing or cannot be read and 25 whose" in facts["labels"]
    )
    assert "Wang et al. 2022" in html
    assert "only round 1 · shortest learnt from the majority" in html
    majority, gold = (files[f"cards/round-1/{name}.md"].decode() for name in ("shortest-majority", "all"))
    assert "arXiv:2203.11171" in majority
    assert "majority" not in gold
    assert "arXiv:2203.11171" in files["report.md"].decode()
    moves = [(one["completions"], one["before"], one["after"]) for one in facts["changes"]["moves"]]
    assert moves == [("test · base", "wrong", "correct"), ("test · teacher", "wrong", "correct")]
    assert sum(one["n"] for one in facts["changes"]["moves"]) == facts["changes"]["changed"] > 5
    assert "Before: grader" in html
    assert 'id="regraded"' in html


def test_a_report_without_them_does_not_speak_of_them(finished) -> None:
    html = finished["report.html"].decode()
    assert 'id="regraded"' not in html
    assert 'id="labels"' not in html
    assert 'id="sampling"' not in html
    assert "arXiv:2203.11171" not in html


def test_hostile_text_is_inert(world) -> None:
    spec = report_spec(world, n=60, text=HOSTILE, odd=HOSTILE, verdict="timeout")
    files = content(world, world.make(spec))
    html = files["report.html"].decode()
    page = Page(html)
    assert sum(tag == "script" for tag, _ in page.elements) == 1
    assert not [tag for tag, _ in page.elements if tag in ("img", "iframe", "object", "embed", "link", "base")]
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert "javascript:" not in " ".join(
        str(v) for _, attributes in page.elements for v in attributes.values() if v and v.startswith("java")
    )
    shown = "".join(page.text)
    assert "</script><script>alert(1)</script>" in shown  # as text, not lost
    assert "{{ 7*7 }}" in shown
    policy = next(a["content"] for tag, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert not re.search(r"<[a-z/]", files["report.md"].decode())


def test_no_significant_change_is_said_plainly(world) -> None:
    facts = json.loads(content(world, world.make(report_spec(world, accuracies=(0.6, 0.6, 0.58))))["report.json"])
    main = next(one for one in facts["contrasts"] if (one["first"], one["second"]) == (facts["best"], "base"))
    assert main["accuracy_difference"]["low"] < 0 < main["accuracy_difference"]["high"]
    assert "no significant change in accuracy" in facts["verdict"]
    assert facts["headline"][0].startswith("There is no significant change in accuracy: ")
    assert not any(row["starred"] for row in facts["table"] if row["role"] == "student")


def test_a_single_model_that_solves_nothing_still_gets_a_report(world) -> None:
    test = world.problems(20)
    refs = world.evaluate(test, name="base", accuracy=0.0, tokens=40)
    comparison = CompareSpec(
        problems=test,
        evaluations=(
            Evaluation(label="base", role=Role.BASE, round=0, model="m", completions=refs[0], grades=refs[1]),
        ),
        baseline="base",
        resamples=100,
    )
    evaluate = recipe(goal="evaluate", models={"evaluate": ["m"]})
    spec = ReportSpec(
        run_name="one", compare=world.make(comparison), comparison=comparison, arms=(), recipe_json=evaluate.model_dump_json()
    )  # fmt: skip
    facts = json.loads(content(world, world.make(spec))["report.json"])
    assert facts["headline"] == [
        f"base solves 0.0% [0.0%, 16.1%] of 20 test problems with {facts['table'][0]['tokens_mean']:.0f} tokens per answer; "
        "there is no other model to compare it with."
    ]


def test_the_same_spec_gives_the_same_files(world) -> None:
    spec = report_spec(world, n=40)
    first = world.artifacts.parts(world.make(spec))
    world.files.move(f"artifacts/{spec.ref}", "artifacts/report/before")
    world.artifacts._manifests.clear()
    assert world.artifacts.parts(world.make(spec)) == first


@pytest.mark.parametrize("name", ["comparison.json", "won_lost.json"])
def test_a_damaged_input_is_set_aside_not_read(world, name: str) -> None:
    spec = report_spec(world, n=40)
    world.files.put(f"artifacts/{spec.compare}/{name}", b"{}")
    world.make(spec)
    assert not world.artifacts.is_published(spec.ref, 0)
    assert not world.artifacts.is_published(spec.compare, 0)


def test_the_one_script_is_the_one_that_the_policy_allows(finished) -> None:
    html = finished["report.html"].decode()
    script = re.search(r"<script>(.*?)</script>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in html.replace("&#39;", "'").replace("&#43;", "+")


def test_an_audit_is_told_and_listed(world) -> None:
    spec = report_spec(world)
    graded = spec.comparison.evaluations[0].grades
    audit = AuditSpec(audited=(Audited(label="test · base", grades=graded),), share=1, seconds_per_answer=2)
    grades = list(rows_of(world.artifacts.read(graded, GRADES)))[:3]
    rows = [
        {**row, "completions": "test · base", "extracted": "<b>7</b>", "other_verdict": "correct"} for row in grades
    ]
    world._store(audit, AUDIT, [rows], {"audited": 160, "disagree": 3, "silent": 2})
    files = content(world, world.make(spec.model_copy(update={"audit": audit.ref})))
    html = files["report.html"].decode()
    assert "160 verdicts and differs in 3 (audit.csv; it had none of 2); no verdict was changed." in html
    assert json.loads(files["report.json"])["audit"] == {"audited": 160, "disagree": 3, "silent": 2}
    assert files["audit.csv"].decode().count("test · base") == 3
