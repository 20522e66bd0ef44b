"""What each command says, asks for, and exits with."""

from __future__ import annotations

import json

import pytest

RUN = "2026-11-24-000000"
ARTIFACT = "grade/" + "d" * 32
PROBLEMS = "prepare/" + "e" * 32
TEST_PROBLEMS = "prepare/" + "f" * 32


@pytest.fixture
def recipe_file(tmp_path):
    path = tmp_path / "demo.yaml"
    path.write_text("name: demo\ntraining: {epochs: 3}\n")
    return path


def test_run_watches_to_the_end_and_shows_the_results(cli, recipe_file):
    assert cli("run", recipe_file, "--set", "training.epochs=1") == 0
    assert cli.recipe == {"name": "demo", "training": {"epochs": 1}}
    lines = cli.out.splitlines()
    assert lines[0] == f"▸ run {RUN}"
    assert " teacher        83.0%   [79.6, 86.1]    2,104" in lines
    assert lines[-1] == f" ▸ http://gateway/v1/runs/{RUN}/report"


def test_the_share_of_time_that_models_were_busy_is_printed(cli):
    cli.know()
    cli.fake.statuses[-1]["model_busy_share"] = 0.934
    assert cli("watch", RUN) == 0
    assert " models busy 93% of the sampling stages' wall time\n" in cli.out


def test_run_detached_says_how_to_come_back(cli, recipe_file):
    assert cli("run", recipe_file, "--detach") == 0
    assert cli.out.splitlines()[-1].strip() == f"next  overproof watch {RUN}"
    assert ("GET", f"/v1/runs/{RUN}", "") not in cli.fake.asked


def test_run_as_json_says_nothing_but_json(cli, recipe_file):
    assert cli("run", recipe_file, "--json") == 0
    assert [line["type"] for line in cli.json()] == ["run", "run", "end"]
    assert cli.json()[-1]["results"]["table_text"].startswith(" model")


def test_each_run_gets_a_key_of_its_own_unless_one_is_given(cli, recipe_file):
    for extra in ([], [], ["--key", "mine"], ["--key", "mine"]):
        cli("run", recipe_file, "--detach", *extra)
    assert len(cli.fake.keys) == 3


def test_a_failed_run_says_why_and_how_to_go_on(cli, recipe_file):
    error = {
        "stage": "train · round 1",
        "message": "Out of memory at step 3.",
        "remedy": "--set training.micro_batch_size=4",
    }
    cli.fake.statuses = [cli.module.status("failed", error=error)]
    assert cli("run", recipe_file) == 1
    assert cli.err == "✗ train · round 1  Out of memory at step 3.\n  try   --set training.micro_batch_size=4\n"
    assert f"overproof resume {RUN}" in cli.out
    assert f"overproof run --resume {RUN} --set field=value" in cli.out


@pytest.mark.parametrize("state", ["cancelled", "paused"])
def test_a_run_that_was_stopped_exits_with_1(cli, state):
    cli.know()
    cli.fake.statuses = [cli.module.status(state)]
    assert cli("watch", RUN) == 1
    assert f"overproof resume {RUN}" in cli.out


def test_a_problem_body_becomes_a_sentence_its_fields_and_the_remedy(cli, recipe_file):
    cli.fake.problem = {
        "status": 422, "title": "Invalid recipe", "detail": "The recipe has 1 error.", "remedy": "Mend the field.",
        "errors": [{"field": "training.epoch", "message": "unknown field"}],
    }  # fmt: skip
    assert cli("validate", recipe_file) == 1
    assert cli.err == "✗ The recipe has 1 error.\n    training.epoch: unknown field\n  try   Mend the field.\n"
    assert cli("validate", recipe_file, "--json") == 1
    assert json.loads(cli.err)["details"] == ["training.epoch: unknown field"]
    assert cli.out == ""


def test_an_unreachable_gateway_is_named(cli):
    cli.fake.down = 1
    assert cli("ls") == 1
    assert cli.err.startswith("✗ The gateway at http://gateway does not answer (Connection refused).\n  try   Start it")


def test_a_lost_gateway_is_waited_for(cli):
    cli.know()
    cli.fake.looks = 0
    cli.fake.down = 4
    assert cli("watch", RUN) == 0
    assert cli.pauses[:4] == [1.0, 2.0, 4.0, 8.0]
    assert "waiting: The gateway at http://gateway does not answer" in cli.out
    assert cli.out.count("waiting:") == 1


def test_warnings_are_shown_while_watching(cli):
    cli.know()
    cli.fake.events = [
        {"seq": 1, "level": "info", "type": "run.running", "message": "quiet"},
        {"seq": 2, "level": "warning", "type": "shard.again", "message": "a shard is made again"},
    ]
    cli("watch", RUN)
    assert cli.out.count("warning: a shard is made again") == 1
    assert "quiet" not in cli.out


def test_an_unknown_run_is_an_error(cli):
    assert cli("watch", "2026-01-01-ffffff") == 1
    assert cli.err == "✗ There is no run 2026-01-01-ffffff.\n  try   List the runs.\n"


def test_ls_lists_runs(cli):
    assert cli("ls") == 0
    assert cli.out.startswith("no runs yet\n  next  overproof run")
    cli.know()
    assert cli("ls") == 0
    assert cli.out.splitlines()[:2] == [
        "RUN                NAME  STATE    CREATED (UTC)",
        f"{RUN}  demo  running  1970-01-01 00:16",
    ]


def test_ls_lists_artifacts(cli):
    cli.know()
    cli.fake.artifacts = [
        {
            "name": "completions",
            "ref": ARTIFACT,
            "table": "completions",
            "rows": 1200,
            "bytes": 34567,
            "complete": True,
        },
        {"name": "report", "ref": ARTIFACT, "complete": False, "bytes": None},
    ]
    assert cli("ls", RUN) == 0
    assert cli.out.splitlines() == [
        "ARTIFACT     ROWS   BYTES   STATE",
        "completions  1,200  34,567  done",
        "report       -      -       -",
        f"  next  overproof cp {RUN}:completions .",
    ]


def test_status_of_the_newest_run(cli):
    cli.know()
    assert cli("status") == 0
    assert cli.out.splitlines()[0] == f"{RUN}  demo  running"
    assert "→ sample · teacher · round 1   1/4 shards   25%" in cli.out


def test_status_without_any_run_is_an_error(cli):
    assert cli("status") == 1
    assert "There is no run yet." in cli.err


@pytest.mark.parametrize("verb", ["cancel", "pause", "resume"])
def test_steering(cli, verb):
    cli.know()
    assert cli(verb, RUN) == 0
    assert ("POST", f"/v1/runs/{RUN}/{verb}", "") in cli.fake.asked


def test_resume_may_bring_another_budget(cli):
    cli.know()
    assert cli("resume", RUN, "--budget", "20") == 0
    assert ("POST", f"/v1/runs/{RUN}/resume", "budget_usd=20.0") in cli.fake.asked


def test_a_run_that_paused_at_its_budget_says_why_and_how_to_go_on(cli):
    cli.know()
    error = {
        "stage": "sample · teacher", "message": "The run has spent $5.00 of its budget of $5.00.",
        "remedy": f"Raise it and go on: overproof resume {RUN} --budget 10",
    }  # fmt: skip
    cli.fake.statuses = [cli.module.status("paused", error=error, spent_usd=5.0, budget_usd=5.0)]
    assert cli("watch", RUN) == 1
    assert "✗ sample · teacher  The run has spent $5.00 of its budget of $5.00.\n" in cli.err
    assert f"overproof resume {RUN} --budget 10" in cli.err
    assert len(cli.pauses) == 5
    assert cli("status", RUN) == 0
    assert " $5.00 of $5.00 spent\n" in cli.out


def test_a_pause_that_was_just_resumed_is_watched_on(cli):
    cli.know()
    cli.fake.statuses = [cli.module.status(state) for state in ("paused", "paused", "running", "succeeded")]
    assert cli("watch", RUN) == 0


def test_resume_with_changes_is_a_new_run_of_the_changed_recipe(cli):
    cli.know(recipe={"name": "demo", "training": {"micro_batch_size": 8}})
    assert cli("run", "--resume", RUN, "--set", "training.micro_batch_size=4", "--detach") == 0
    assert cli.recipe["training"] == {"micro_batch_size": 4}
    assert len(cli.fake.recipes) == 2


def test_resume_without_changes_goes_on(cli):
    cli.know()
    assert cli("run", "--resume", RUN) == 0
    assert ("POST", f"/v1/runs/{RUN}/resume", "") in cli.fake.asked


def test_run_needs_a_recipe(cli):
    assert cli("run") == 2
    assert "No recipe was named." in cli.err


@pytest.mark.parametrize(("name", "form"), [("x.jsonl", "jsonl"), ("x.csv", "csv"), ("x.parquet", "parquet")])
def test_cp_takes_the_format_from_the_suffix(cli, tmp_path, name, form):
    cli.know()
    cli.fake.artifacts = [{"name": "completions", "ref": ARTIFACT, "complete": True, "table": "completions"}]
    cli.fake.tables = {"completions": b"rows"}
    assert cli("cp", f"{RUN}:completions", tmp_path / name) == 0
    assert (tmp_path / name).read_bytes() == b"rows"
    assert ("GET", f"/v1/runs/{RUN}/artifacts/completions", f"format={form}") in cli.fake.asked
    assert cli("cp", f"{RUN}:completions", tmp_path / name, "--layout", "original") == 0
    assert ("GET", f"/v1/runs/{RUN}/artifacts/completions", "layout=original") in cli.fake.asked


def test_cp_of_a_checkpoint_copies_its_files(cli, tmp_path):
    cli.know()
    cli.fake.artifacts = [
        {"name": "student/round-1/all", "ref": ARTIFACT, "complete": True, "files": [{"name": "config.json"}]}
    ]
    cli.fake.tables = {"student/round-1/all/files/config.json": b"{}"}
    assert cli("cp", f"{RUN}:student/round-1/all", tmp_path / "student") == 0
    assert (tmp_path / "student/config.json").read_bytes() == b"{}"


def test_copied_student_gets_the_card_with_its_results(cli, tmp_path) -> None:
    cli.know()
    name = "student/round-1/all"
    cli.fake.artifacts = [
        {"name": name, "ref": ARTIFACT, "complete": True, "files": [{"name": "checkpoint/README.md"}]}
    ]
    cli.fake.tables = {f"{name}/files/checkpoint/README.md": b"before"}
    assert cli("cp", f"{RUN}:{name}", tmp_path / "old") == 0
    assert (tmp_path / "old/checkpoint/README.md").read_bytes() == b"before"
    cli.fake.tables["report/files/cards/round-1/all.md"] = b"after"
    assert cli("cp", f"{RUN}:{name}", tmp_path / "new") == 0
    assert (tmp_path / "new/checkpoint/README.md").read_bytes() == b"after"


def test_cp_never_writes_outside_of_the_folder(cli, tmp_path):
    cli.know()
    cli.fake.artifacts = [{"name": "student", "ref": ARTIFACT, "complete": True, "files": [{"name": "../evil"}]}]
    cli.fake.tables = {"student/files/../evil": b"x"}
    assert cli("cp", f"{RUN}:student", tmp_path / "student") == 1
    assert not (tmp_path / "evil").exists()


def test_cp_of_what_is_not_there_lists_what_is(cli, tmp_path):
    cli.know()
    cli.fake.artifacts = [{"name": "report", "ref": ARTIFACT, "complete": True}]
    assert cli("cp", f"{RUN}:grades", tmp_path / "x.csv") == 1
    assert f"Run {RUN} has no artifact grades; it has report." in cli.err
    assert list(tmp_path.iterdir()) == []


def test_cp_uploads(cli, tmp_path):
    path = tmp_path / "problems.jsonl"
    path.write_text('{"problem": "1+1", "answer": "2"}\n')
    assert cli("cp", path, "datasets:") == 0
    assert cli.out.startswith(f"✓ ds_{'c' * 32}   3 rows\n")
    assert b'"problem": "1+1"' in cli.fake.uploads[0]


def test_cp_of_what_is_not_complete_is_refused(cli, tmp_path):
    cli.know()
    cli.fake.artifacts = [{"name": "grades", "ref": ARTIFACT, "complete": False}]
    assert cli("cp", f"{RUN}:grades", tmp_path / "x.csv") == 1
    assert "not complete yet" in cli.err


@pytest.mark.parametrize(("table", "verb"), [("problems", "sample"), ("completions", "grade"), ("selected", "train")])
def test_an_upload_says_what_its_rows_are_and_what_to_do_with_them(cli, tmp_path, table, verb):
    path = tmp_path / "rows.jsonl"
    path.write_text("{}\n")
    assert cli("cp", path, "datasets:", "--table", table, "--column", "problem=question") == 0
    assert f'name="table"\r\n\r\n{table}\r\n'.encode() in cli.fake.uploads[0]
    assert b'{"problem": "question"}' in cli.fake.uploads[0]
    assert f"next  overproof {verb} " in cli.out


def test_the_same_recipe_in_another_order_is_the_same_request(cli, tmp_path):
    bodies = []
    for text in ("name: demo\ngoal: sample\n", "goal: sample\nname: demo\n"):
        (tmp_path / "r.yaml").write_text(text)
        cli("run", tmp_path / "r.yaml", "--detach")
        bodies.append(cli.fake.bodies[-1])
    assert bodies[0] == bodies[1]


def test_report_is_shown_and_saved(cli, tmp_path):
    cli.know()
    assert cli("report", RUN) == 0
    assert cli.module.TABLE.rstrip("\n") in cli.out
    assert cli("report", RUN, "-o", tmp_path / "r.html") == 0
    assert (tmp_path / "r.html").read_bytes() == b"<html>report</html>"
    assert cli("report", RUN, "-o", tmp_path / "r.docx") == 2
    (tmp_path / "theirs.json").write_text('{"overall": {"accuracy": 0.5, "correct": 1, "total": 2}}')
    assert cli("report", RUN, "--beside", tmp_path / "theirs.json") == 0
    assert "theirs   50.0%" in cli.out


def test_doctor_says_what_is_wrong_and_exits_with_1(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli("doctor") == 0
    assert "✓ gateway: redis" in cli.out
    cli.fake.down = 1
    assert cli("doctor", "--json") == 1
    findings = {finding["subject"]: finding for finding in cli.json()[0]}
    assert findings["gateway"]["state"] == "bad"
    assert "overproof local up" in findings["gateway"]["remedy"]


def test_doctor_names_what_a_model_folder_lacks(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models/broken").mkdir(parents=True)
    (tmp_path / "models/broken/config.json").write_text("{}")
    assert cli("doctor") == 1
    assert "broken lacks *.safetensors, tokenizer.json, a chat template" in cli.out


# --- parts of the loop -----------------------------------------------------------------------------------------------

PARTS = [
    (
        "sample --model Qwen/Q@abc --dataset demo-math:train:500 --max-tokens 2048 --temperature 0.7 --n 4",
        {
            "name": "sample", "goal": "sample", "models": {"teacher": "Qwen/Q@abc"},
            "data": {"train": {"generator": "demo-math", "split": "train", "n": 500}},
            "sampling": {"max_samples": 4, "samples_per_pass": 4, "max_tokens": 2048, "temperature": 0.7},
        },
    ),
    (
        "sample --model m --dataset org/set@v1:train --column problem=question",
        {
            "name": "sample", "goal": "sample", "models": {"teacher": "m"},
            "data": {"train": {"hub": "org/set", "revision": "v1", "split": "train", "columns": {"problem": "question"}}},
            "sampling": {"max_samples": 1, "samples_per_pass": 1, "temperature": 0.0},
        },
    ),
    (
        f"grade --completions {RUN}:completions",
        {
            "name": "grade", "goal": "grade", "data": {"train": {"artifact": PROBLEMS}},
            "given": {"completions": {"artifact": ARTIFACT}},
        },
    ),
    (
        f"select --completions {RUN}:completions --policy shortest --policy all --dataset {ARTIFACT}",
        {
            "name": "select", "goal": "select", "data": {"train": {"artifact": ARTIFACT}},
            "given": {"completions": {"artifact": ARTIFACT}}, "selection": [{"policy": "shortest"}, {"policy": "all"}],
        },
    ),
    (
        f"select --completions {RUN}:completions --labels majority",
        {
            "name": "select", "goal": "select", "data": {"train": {"artifact": PROBLEMS}},
            "given": {"completions": {"artifact": ARTIFACT}}, "selection": [{"policy": "shortest", "labels": "majority"}],
        },
    ),
    (
        f"train --model base --data ds_{'e' * 32} --epochs 2 --batch-size 16 --set training.seed=5 --name t",
        {
            "name": "t", "goal": "train", "models": {"student": "base"}, "given": {"selected": {"upload": "ds_" + "e" * 32}},
            "training": {"epochs": 2.0, "global_batch_size": 16, "seed": 5},
        },
    ),
    (
        "evaluate --model a --model run:x --dataset demo-math:test:300:7 --max-tokens 512",
        {
            "name": "evaluate", "goal": "evaluate", "models": {"evaluate": ["a", "run:x"]},
            "data": {"test": {"generator": "demo-math", "split": "test", "n": 300, "seed": 7}}, "evaluation": {"max_tokens": 512},
        },
    ),
    ("compare r1 r2", {"name": "compare", "goal": "compare", "given": {"evaluations": ["r1", "r2"]}}),
]  # fmt: skip


@pytest.fixture
def earlier(cli):
    """A run that has made some artifacts."""
    cli.know()
    named = {
        "completions": ARTIFACT,
        "completions/test/base": ARTIFACT,
        "problems/train": PROBLEMS,
        "problems/test": TEST_PROBLEMS,
    }
    cli.fake.artifacts = [{"name": name, "ref": ref, "complete": True, "table": "x"} for name, ref in named.items()]


@pytest.mark.usefixtures("earlier")
@pytest.mark.parametrize(("line", "recipe"), PARTS, ids=[line.split()[0] + str(i) for i, (line, _) in enumerate(PARTS)])
def test_flags_make_the_recipe(cli, line, recipe):
    assert cli(*line.split(), "--detach") == 0
    assert cli.recipe == recipe


@pytest.mark.usefixtures("earlier")
@pytest.mark.parametrize("line", [line for line, _ in PARTS])
def test_every_recipe_made_by_flags_is_one(cli, line):
    from overproof.shared.recipe import Recipe

    cli(*line.split(), "--detach")
    assert Recipe.model_validate(cli.recipe).goal == line.split()[0]


@pytest.mark.usefixtures("earlier")
def test_completions_of_an_evaluation_belong_to_the_test_problems(cli):
    assert cli("grade", "--completions", f"{RUN}:completions/test/base", "--detach") == 0
    assert cli.recipe["data"]["train"] == {"artifact": TEST_PROBLEMS}
    assert "grading" not in cli.recipe


@pytest.mark.usefixtures("earlier")
def test_an_audit_of_given_completions_is_a_field_of_the_recipe(cli):
    assert cli("grade", "--completions", f"{RUN}:completions/test/base", "--audit", "--strict", "--detach") == 0
    assert cli.recipe["grading"] == {"audit": 1.0, "strict": True}


def test_sample_uploads_a_local_file_and_copies_the_result(cli, tmp_path):
    problems, target = tmp_path / "problems.jsonl", tmp_path / "out.jsonl"
    problems.write_text('{"problem": "1+1", "answer": "2"}\n')
    cli.fake.statuses = [
        cli.module.status("succeeded", artifacts={"problems/train": ARTIFACT, "completions": ARTIFACT})
    ]
    cli.fake.artifacts = [{"name": "completions", "ref": ARTIFACT, "complete": True, "table": "completions"}]
    cli.fake.tables = {"completions": b"{}\n"}
    assert cli("sample", "--model", "m", "--dataset", problems, "--output", target) == 0
    assert cli.recipe["data"]["train"] == {"upload": "ds_" + "c" * 32}
    assert target.read_bytes() == b"{}\n"
    assert f"next  overproof cp {RUN}:completions ." in cli.out


@pytest.mark.parametrize(
    ("dataset", "sentence"),
    [
        ("nowhere.jsonl", "There is no file nowhere.jsonl."),
        ("demo-math:train", "not of the form demo-math:SPLIT:N"),
        ("demo-math", "not of the form demo-math:SPLIT:N"),
        ("what?", "what? is not a data set."),
    ],
)
def test_a_data_set_that_is_none(cli, dataset, sentence):
    assert cli("sample", "--model", "m", "--dataset", dataset) != 0
    assert sentence in cli.err
    assert not cli.fake.recipes


def test_regrade_judges_a_runs_evaluations_by_its_own_options(cli):
    from overproof.shared.recipe import Recipe

    cli.know(
        recipe={"name": "demo", "grading": {"order_matters": True}, "evaluation": {"samples": 2, "temperature": 0.6}}
    )
    cli.fake.artifacts = [{"name": "comparison", "ref": ARTIFACT, "complete": True, "table": "comparison"}]
    assert cli("regrade", RUN, "--strict", "--detach") == 0
    assert cli.recipe == {
        "name": "regrade", "goal": "compare", "given": {"evaluations": [RUN], "regrade": True},
        "grading": {"order_matters": True, "strict": True}, "evaluation": {"samples": 2, "temperature": 0.6},
    }  # fmt: skip
    assert Recipe.model_validate(cli.recipe).given.regrade


def test_regrade_judges_all_passes_of_a_run_that_evaluated_nothing(cli):
    from overproof.shared.recipe import Recipe

    cli.know()
    passes = {f"completions/train/round-1/pass-{i}": f"sample/{i:032d}" for i in (1, 2)}
    named = {"problems/train": PROBLEMS, **passes, "grades/train/round-1/pass-1": "grade/" + "0" * 32}
    cli.fake.artifacts = [{"name": name, "ref": ref, "complete": True, "table": "x"} for name, ref in named.items()]
    assert cli("regrade", RUN, "--detach") == 0
    first, second = passes.values()
    assert cli.recipe["data"] == {"train": {"artifact": PROBLEMS}}
    assert cli.recipe["given"] == {"completions": {"artifact": first}, "further_completions": [second]}
    assert Recipe.model_validate(cli.recipe).goal == "grade"


def changed(module, verdicts):
    """The stage of a run that graded completions again."""
    return module.stage("changes", "changes", "done", notes={"verdicts": verdicts})


@pytest.mark.parametrize(
    "artifacts", [{"report": "report/" + "b" * 32}, {"grades": "grade/" + "b" * 32}], ids=["report", "grades"]
)
def test_regrade_ends_with_the_verdicts_that_changed(cli, artifacts):
    cli.know()
    cli.fake.artifacts = [{"name": "comparison", "ref": ARTIFACT, "complete": True, "table": "comparison"}]
    counts = {"test · base": {"wrong": {"wrong": 50, "correct": 2}, "correct": {"correct": 47, "wrong": 3}}}
    cli.fake.statuses = [cli.module.status("succeeded", changed(cli.module, counts), artifacts=artifacts)]
    assert cli("regrade", RUN) == 0
    assert "graded again: 5 of 102 verdicts changed" in cli.out
    lines = [line.split() for line in cli.out.splitlines()]
    first = lines.index(["test", "·", "base", "correct", "wrong", "3"])
    assert lines[first + 1] == ["test", "·", "base", "wrong", "correct", "2"]
    assert "changes changes.csv" in cli.out


def test_a_run_that_changed_no_verdict_says_so_and_others_say_nothing(cli):
    cli.know()
    cli.fake.artifacts = [{"name": "comparison", "ref": ARTIFACT, "complete": True, "table": "comparison"}]
    cli.fake.statuses = [
        cli.module.status("succeeded", changed(cli.module, {"a": {"wrong": {"wrong": 4}}}), artifacts={"grades": "x"})
    ]
    assert cli("regrade", RUN) == 0
    assert "graded again: all 4 verdicts are as before" in cli.out
    cli.fake.statuses = [cli.module.status("succeeded", artifacts={"grades": "x"})]
    assert cli("regrade", RUN) == 0
    assert "graded again" not in cli.out


def test_regrade_of_a_run_without_completions_is_refused(cli):
    cli.know()
    cli.fake.artifacts = []
    assert cli("regrade", RUN) == 2
    assert "has no completions to judge again" in cli.err


def test_compare_needs_two_runs(cli):
    assert cli("compare", "r1") == 2


def test_completions_of_unknown_problems_need_a_data_set(cli):
    assert cli("grade", "--completions", "ds_" + "e" * 32) == 2
    assert "Add --dataset." in cli.err
