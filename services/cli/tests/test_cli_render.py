"""The three renderers on statuses that were written down: golden text."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from overproof.cli.output import Output
from overproof.cli.progress import Row, clock, dollars, rows, short
from overproof.cli.render.json import JsonRenderer
from overproof.cli.render.plain import PlainRenderer
from overproof.cli.render.rich import RichRenderer, fitting
from overproof.cli.views import run_view

SAMPLE, GRADE, TRAIN = ("sample/" + "a" * 32, "grade/" + "b" * 32, "train/" + "c" * 32)


def stage(label, kind, ref, state, **fields):
    return {"label": label, "stage": kind, "ref": ref, "state": state} | fields


PAYLOAD = {
    "id": "2026-11-24-a7f31c",
    "name": "demo",
    "goal": "distil",
    "state": "running",
    "wanted": "running",
    "created_at": 1000.0,
    "updated_at": 1100.0,
    "recipe": {"name": "demo", "models": {"teacher": {"name": "demo/teacher"}, "student": "demo/student"}},
    "stages": [
        stage(
            "prepare · test",
            "prepare",
            "prepare/1",
            "done",
            shards_done=1,
            shards_total=1,
            rows=300,
            started_at=1000.0,
            finished_at=1002.0,
        ),
        stage(
            "prepare · train",
            "prepare",
            "prepare/2",
            "done",
            shards_done=1,
            shards_total=1,
            rows=500,
            started_at=1001.0,
            finished_at=1004.0,
        ),
        stage(
            "sample · teacher · round 1 · pass 1",
            "sample",
            SAMPLE,
            "done",
            shards_done=5,
            shards_total=5,
            rows=2000,
            started_at=1004.0,
            finished_at=1044.0,
            notes={"tokens": 200_000, "busy_seconds": 38.0, "truncated": 38},
        ),
        stage(
            "sample · teacher · round 1 · pass 2",
            "sample",
            "sample/d",
            "done",
            shards_done=5,
            shards_total=5,
            rows=400,
            started_at=1030.0,
            finished_at=1064.0,
            notes={"tokens": 52_000, "busy_seconds": 12.0},
        ),
        stage(
            "grade · teacher · round 1 · pass 1",
            "grade",
            GRADE,
            "running",
            shards_done=3,
            shards_total=5,
            rows=1200,
            started_at=1010.0,
            notes={"verdicts": {"wrong": 150, "correct": 1000, "no_answer": 30, "truncated": 20}},
        ),
        stage("train · round 1", "train", TRAIN, "running", shards_done=0, shards_total=1, started_at=1050.0),
        stage("compare", "compare", "compare/e", "waiting"),
    ],
    "live": [
        {
            "label": "x",
            "ref": TRAIN,
            "shards": {
                "0": {
                    "phase": "training",
                    "step": 412,
                    "steps": 640,
                    "loss": 0.2143,
                    "tokens_per_second": 38_100,
                    "eta_seconds": 430,
                }
            },
        },
        {"label": "y", "ref": GRADE, "shards": {"3": {"done": 50, "total": 100, "verdicts": {"correct": 50}}}},
    ],
}

PLAIN = """\
00:01:40  2026-11-24-a7f31c running
00:01:40  ✓ check   800 problems   4s
00:01:40  ✓ sample · teacher · round 1   2,400 completions   mean 105 tok   1.6% truncated   4,200 tok/s   1m 00s
00:01:40  → grade · teacher · round 1   3/5 shards   70%   1,050 correct · 150 wrong · 20 truncated · 30 no answer   eta 38s
00:01:40  → train · round 1   412/640 steps   64%   loss 0.214   38.1k tok/s   eta 7m 10s
"""


def render_plain(*looks):
    output = Output(io.StringIO(), io.StringIO())
    renderer = PlainRenderer(output)
    for payload, now in looks:
        renderer.show(run_view(payload), now)
    return output.out.getvalue()


def test_plain_lines():
    assert render_plain((PAYLOAD, 1100.0)) == PLAIN


def test_speed_of_sampling_counts_what_shards_under_way_have_made():
    sampling = stage(
        "sample · teacher · round 1 · pass 1",
        "sample",
        SAMPLE,
        "running",
        shards_done=1,
        shards_total=2,
        rows=100,
        started_at=1000.0,
        notes={"tokens": 30_000},
    )
    live = [{"label": "x", "ref": SAMPLE, "shards": {"1": {"completions": 50, "tokens": 20_000}}}]
    (line,) = rows(run_view(PAYLOAD | {"stages": [sampling], "live": live}), 1010.0)
    assert "5,000 tok/s" in line.figures


def test_plain_lines_come_on_changes_and_now_and_then():
    looks = [(PAYLOAD, 1100.0 + seconds) for seconds in (0, 1, 2, 9)]
    assert render_plain(*looks) == PLAIN
    assert render_plain(*looks, (PAYLOAD, 1110.0)).count("→ train") == 2


def test_plain_lines_tell_when_the_gateway_is_away_and_back():
    output = Output(io.StringIO(), io.StringIO())
    renderer = PlainRenderer(output)
    renderer.show(run_view(PAYLOAD), 1100.0)
    for _ in range(3):
        renderer.unreachable("it is away")
    renderer.show(run_view(PAYLOAD), 1101.0)
    assert output.out.getvalue() == PLAIN + "waiting: it is away\n00:01:41  the gateway answers again\n"


def rich_text(payload, now, width=120, height=40):
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=False, highlight=False)
    renderer = RichRenderer(Output(io.StringIO(), io.StringIO()), console)
    console.print(renderer.block(run_view(payload), now))
    return console.file.getvalue().splitlines()


def test_rich_block():
    lines = rich_text(PAYLOAD, 1100.0)
    assert lines[0].split() == ["overproof", "2026-11-24-a7f31c", "teacher", "→", "student", "00:01:40"]
    assert lines[1].startswith(" ✓ check")
    assert lines[1].endswith("4s")
    train = next(line for line in lines if "train · round 1" in line)
    assert "━" * 24 in train
    assert "412/640 steps   loss 0.214   38.1k tok/s" in train
    assert train.endswith("eta 7m 10s")
    assert lines[-1].startswith(" · compare")
    assert all(len(line) <= 120 for line in lines)


@pytest.mark.parametrize("width", [60, 80, 200])
def test_rich_block_takes_one_line_per_row_at_any_width(width):
    lines = rich_text(PAYLOAD, 1100.0, width=width)
    assert len(lines) == 1 + len(rows(run_view(PAYLOAD), 1100.0))
    assert all(len(line) <= width for line in lines)


def test_rich_really_draws_on_a_terminal():
    console = Console(file=io.StringIO(), width=100, height=30, force_terminal=True)
    with RichRenderer(Output(io.StringIO(), io.StringIO()), console) as renderer:
        renderer.show(run_view(PAYLOAD), 1100.0)
        renderer.event({"level": "warning", "message": "a shard is made again"})
        renderer.event({"level": "info", "message": "quiet"})
        renderer.unreachable("it is away")
    text = console.file.getvalue()
    assert "a shard is made again" in text
    assert "quiet" not in text
    assert "it is away" in text


def row(label, state):
    return Row(label, state, None, "", "", None, None)


def test_a_small_terminal_shows_where_things_happen():
    many = (
        [row(f"d{i}", "done") for i in range(10)]
        + [row("now", "running")]
        + [row(f"w{i}", "waiting") for i in range(10)]
    )
    shown = [one.label for one in fitting(many, 5)]
    assert shown == ["d9", "now", "w0", "w1", "w2"]
    assert fitting(many, 50) == many
    ended = [row(f"d{i}", "done") for i in range(10)]
    assert [one.label for one in fitting(ended, 4)] == ["d6", "d7", "d8", "d9"]


def test_json_lines_come_on_changes_only():
    output = Output(io.StringIO(), io.StringIO(), as_json=True)
    renderer = JsonRenderer(output)
    for now in (1100.0, 1101.0):
        renderer.show(run_view(PAYLOAD), now)
    renderer.show(run_view(PAYLOAD | {"live": []}), 1102.0)
    renderer.event({"seq": 1, "message": "x"})
    lines = [json.loads(line) for line in output.out.getvalue().splitlines()]
    assert [line["type"] for line in lines] == ["run", "run", "event"]
    assert lines[0]["stages"][-2]["live"][0]["step"] == 412


def test_a_run_that_nobody_has_looked_at_yet():
    run = run_view({"id": "r", "created_at": 5.0, "recipe": {"name": "x"}, "live": None})
    assert (run.state, rows(run, 6.0)) == ("queued", [])


def test_the_statuses_here_are_what_the_gateway_says():
    views = pytest.importorskip("overproof.gateway.views")
    known = json.loads(json.dumps(PAYLOAD | {"recipe": None}))
    for number, each in enumerate(known["stages"]):
        each["ref"] = f"{each['stage']}/{number:032x}"
    dumped = views.RunView.model_validate(known).model_dump(mode="json")
    assert rows(run_view(dumped), 1100.0)[1] == rows(run_view(PAYLOAD), 1100.0)[1]
    assert set(known) <= set(dumped)


def test_a_later_pass_without_a_total_keeps_the_share_below_one():
    payload = json.loads(json.dumps(PAYLOAD))
    stages = payload["stages"]
    stages[3] |= {"state": "waiting", "shards_total": None, "shards_done": 0, "rows": 0, "notes": {}}
    found = {one.label: one for one in rows(run_view(payload), 1100.0)}["sample · teacher · round 1"]
    assert (found.state, found.share, found.counts) == ("running", 0.5, "5/5+ shards")


def test_a_stage_of_one_shard_runs_as_soon_as_its_worker_reports():
    payload = json.loads(json.dumps(PAYLOAD))
    payload["stages"][5] |= {"state": "waiting", "started_at": None}
    found = {one.label: one for one in rows(run_view(payload), 1100.0)}["train · round 1"]
    assert (found.state, found.counts, found.eta_seconds) == ("running", "412/640 steps", 430)


def test_what_an_earlier_run_had_made_took_no_time():
    payload = json.loads(json.dumps(PAYLOAD))
    payload["stages"][0] |= {"started_at": 400.0, "finished_at": 410.0}
    payload["stages"][2] |= {"started_at": 500.0, "finished_at": 510.0}
    payload["stages"][3] |= {"started_at": 510.0, "finished_at": 520.0}
    found = {one.label: one for one in rows(run_view(payload), 1100.0)}
    assert found["check"].seconds == 3.0
    assert found["sample · teacher · round 1"].seconds is None


def test_a_failed_stage_fails_its_row():
    payload = json.loads(json.dumps(PAYLOAD))
    payload["stages"][2]["state"] = "failed"
    assert {one.label: one.state for one in rows(run_view(payload), 1100.0)}["sample · teacher · round 1"] == "failed"


@pytest.mark.parametrize(("seconds", "text"), [(4.9, "4s"), (760, "12m 40s"), (3900, "1h 05m")])
def test_clock(seconds, text):
    assert clock(seconds) == text


@pytest.mark.parametrize(("number", "text"), [(912, "912"), (5040, "5,040"), (38_100, "38.1k"), (2_000_000, "2.0M")])
def test_short(number, text):
    assert short(number) == text


@pytest.mark.parametrize(
    ("usd", "text"), [(0.0, "$0.00"), (0.00421, "$0.0042"), (0.01, "$0.01"), (1204.5, "$1,204.50")]
)
def test_dollars(usd, text):
    assert dollars(usd) == text


def test_passes_of_a_served_teacher_show_what_they_cost_together():
    passes = [
        stage(f"sample · teacher · round 1 · pass {i}", "sample", f"sample/{i}", "done", rows=4, spent_usd=usd)
        for i, usd in ((1, 0.5), (2, 0.25))
    ]
    (row,) = rows(run_view({"id": "r", "created_at": 0.0, "stages": passes}), 1.0)
    assert row.figures == "8 completions   $0.75"
    (free,) = rows(run_view({"id": "r", "stages": [passes[0] | {"spent_usd": None}]}), 1.0)
    assert free.figures == "4 completions"


def test_row_of_a_stage_says_what_its_shards_wait_for():
    sampling = stage("sample · test · base", "sample", SAMPLE, "running", shards_done=1, shards_total=3, started_at=0.0)

    def figures(phase):
        live = [{"label": "x", "ref": SAMPLE, "shards": {"1": {"phase": phase}, "2": {"phase": phase}}}]
        (row,) = rows(run_view(PAYLOAD | {"stages": [sampling], "live": live}), 10.0)
        return row.figures

    assert figures("waiting for GPU memory").endswith("waiting for GPU memory")
    assert "starting" not in figures("starting")
