"""Jobs: the same events wherever a job runs, and nothing lost when a worker dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import jobs
import pytest
from waiting import runs, until

from an8flower.ground.job import JobWarning
from an8flower.ground.jobs import FINAL, Event, Job, WorkerDiedError, run, run_all


def outcomes(many, **where):
    """The final event of each job by its function's name and argument."""
    found = {}

    def heard(job, event):
        if event.kind in FINAL:
            found[job.call.__name__, job.arguments["x"]] = event
        return ()

    run(many, heard, **where)
    return found


def test_jobs_run_here_and_beside_with_the_same_events():
    many = [Job(jobs.doubled, {"x": k}) for k in range(4)]
    here, beside = outcomes(many), outcomes(many, workers=2)
    assert {key: event.value for key, event in here.items()} == {("doubled", k): 2 * k for k in range(4)}
    assert here.keys() == beside.keys()
    assert [beside[key].value for key in here] == [here[key].value for key in here]


def test_what_a_job_tells_is_heard_in_order_before_its_end():
    heard = []
    run([Job(jobs.counts, {"x": 3})], lambda job, event: heard.append(event) or (), workers=1)
    assert [event.value for event in heard] == [0, 1, 2, "counted"]
    assert [event.kind for event in heard] == ["told"] * 3 + ["done"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bad", "kind", "said"),
    [
        (jobs.killed, "died", "its process ended by SIGKILL, as when memory runs out"),
        (jobs.left, "died", "its process exited with status 7"),
        (jobs.overflown, "died", "its process ended by SIG"),
        (jobs.silent, "overdue", "it sent no message for 0.3 s"),
        (jobs.wrong, "raised", "no such\nthing"),
        (jobs.exited, "raised", "it called sys.exit(3)"),
        (jobs.unpicklable, "raised", "lambda"),
    ],
)
def test_a_worker_that_ends_is_told_of_and_replaced(bad, kind, said):
    many = [Job(bad, {"x": 0}), *(Job(jobs.doubled, {"x": k}) for k in range(3))]
    found = outcomes(many, workers=1)
    event = found.pop((bad.__name__, 0))
    assert event.kind == kind and said in str(event.value)
    if kind in ("died", "overdue"):
        assert event.after == "here"
    assert [event.value for event in found.values()] == [0, 2, 4]


def test_a_job_whose_worker_dies_runs_again_as_often_as_it_allows(tmp_path):
    heard = []
    job = Job(jobs.killed_at_first, {"x": str(tmp_path / "count")}, attempts=3)
    run_all([job], lambda job, event: heard.append((event.kind, event.value)), workers=1)
    died = "its process ended by SIGKILL, as when memory runs out"
    expected = [("told", 0), ("retried", died), ("told", 1), ("retried", died), ("told", 2), ("done", 2)]
    assert heard == expected


def test_jobs_that_must_succeed_raise_what_goes_wrong(tmp_path):
    job = Job(jobs.killed_at_first, {"x": str(tmp_path / "count")}, attempts=2)
    with pytest.raises(WorkerDiedError, match=r"SIGKILL, .*, 2 times$") as died:
        run_all([job], lambda job, event: None, workers=1)
    assert died.value.job is job
    for where in ({}, {"workers": 1}):
        with pytest.raises(ValueError, match="no such"):
            run_all([Job(jobs.wrong, {"x": 0})], lambda job, event: None, **where)


def test_more_jobs_may_follow_from_what_is_heard():
    seen = []

    def heard(job, event):
        if event.kind != "done":
            return ()
        seen.append(event.value)
        return [Job(jobs.doubled, {"x": event.value})] if event.value < 10 else ()

    for where in ({}, {"workers": 2}):
        seen.clear()
        run([Job(jobs.doubled, {"x": 1})], heard, **where)
        assert seen == [2, 4, 8, 16]


@pytest.mark.slow
def test_each_worker_has_one_thread_and_a_fresh_job_a_process_of_its_own(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    many = [Job(jobs.surroundings, {"x": k}, fresh=k == 2) for k in range(4)]
    found = [event.value for event in outcomes(many, workers=1).values()]
    assert {one["threads"] for one in found} == {1}
    pids = [one["pid"] for one in found]
    assert pids[0] == pids[1] and pids[2] == pids[3] and pids[1] != pids[2] and os.getpid() not in pids


@pytest.mark.slow
def test_a_job_that_asks_for_it_is_its_workers_last():
    many = [Job(jobs.retires, {"x": 0}), Job(jobs.surroundings, {"x": 1})]
    found = outcomes(many, workers=1)
    assert found["retires", 0].value != found["surroundings", 1].value["pid"]


def test_an_error_while_listening_stops_the_workers_at_once(tmp_path):
    mark = tmp_path / "pid"

    def heard(job, event):
        until(lambda: mark.exists() and mark.read_text())  # the other worker is at its job
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        run([Job(jobs.counts, {"x": 1}), Job(jobs.noted, {"x": tmp_path})], heard, workers=2)
    until(lambda: not runs(int(mark.read_text())))
    assert not (tmp_path / "ended").exists()


def test_workers_end_with_the_process_that_started_them(tmp_path):
    script = f"import jobs; jobs.begin({str(tmp_path)!r})"
    process = subprocess.Popen([sys.executable, "-c", script], cwd=Path(jobs.__file__).parent)
    mark = tmp_path / "pid"
    until(lambda: mark.exists() and mark.read_text(), process)
    process.kill()
    process.wait()
    until(lambda: not runs(int(mark.read_text())))
    assert not (tmp_path / "ended").exists()


def test_prints_of_a_worker_are_not_the_commands_output(capfd):
    assert outcomes([Job(jobs.prints, {"x": 0})], workers=1)["prints", 0] == Event("done", None)
    out, err = capfd.readouterr()
    assert out == "" and err.count("hello") == 2


def test_a_warning_for_the_user_reaches_the_process_that_starts_the_job(capfd):
    with pytest.warns(JobWarning, match="^take care$") as warned:
        outcomes([Job(jobs.warns, {"x": 0})], workers=1)
    assert len(warned) == 1
    assert "take care" not in (err := capfd.readouterr().err) and "for programmers" in err


def test_equal_warnings_of_workers_are_shown_once():
    script = (
        "import jobs\nfrom an8flower.ground.jobs import Job, run\n"
        "run([Job(jobs.warns, {'x': k}, fresh=True) for k in range(3)], lambda job, event: (), workers=2)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=Path(jobs.__file__).parent, capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stderr.count("JobWarning: take care") == 1


@pytest.mark.slow
def test_on_a_cluster_the_same_and_a_lost_worker_costs_nothing(dask_cluster, tmp_path):
    pytest.importorskip("distributed")
    many = [Job(jobs.doubled, {"x": k}) for k in range(3)]
    many += [Job(jobs.killed, {"x": 0}), Job(jobs.silent, {"x": 0}), Job(jobs.wrong, {"x": 0})]
    found = outcomes(many, scheduler=dask_cluster.address)
    assert [found["doubled", k].value for k in range(3)] == [0, 2, 4]
    assert found["killed", 0].kind == "died" and found["killed", 0].after == "here"
    assert (found["silent", 0].kind, found["wrong", 0].kind) == ("overdue", "raised")

    # The Dask worker that runs the job is killed, not the process in it: another one runs it again.
    def heard(job, event):
        if event.kind == "told" and not (tmp_path / "killed").exists():
            (tmp_path / "killed").touch()
            os.kill(event.value, signal.SIGKILL)
        elif event.kind in FINAL:
            ends.append(event)
        return ()

    ends = []
    run([Job(jobs.host_told, {"x": str(tmp_path)})], heard, scheduler=dask_cluster.address)
    assert [(event.kind, event.value) for event in ends] == [("done", 2)]


def test_no_scheduler_is_said(monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr("an8flower.ground.cluster.ANSWER_S", 1)
    with pytest.raises(OSError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:1 within 1 s"):
        run([Job(jobs.doubled, {"x": 0})], lambda job, event: (), scheduler="tcp://127.0.0.1:1")
