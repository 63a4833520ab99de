"""Measure every cell of a plan that is not measured yet: start the work, watch it, keep the results."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from an8flower.ground import files
from an8flower.ground.jobs import ATTEMPTS, Event, Job, run
from an8flower.ground.progress import progress
from an8flower.protocol import FOLDS, Scheme
from benchmark import store
from benchmark.measuring.cells import planned_cells
from benchmark.measuring.groups import sendable, units_of, write_arrays
from benchmark.measuring.outcome import failure
from benchmark.measuring.unit import CrowdedError, Unit, measure
from benchmark.plan import Plan
from benchmark.record import Record
from benchmark.setups import PLAIN, Setup
from benchmark.store import Cell
from explainers import ExplainerError
from explainers.isolation import ProcessEndedError

logger = logging.getLogger(__name__)


def evaluate(
    root: str | Path,
    variant: str,
    model: str = "an8net",
    *,
    recipe: str = PLAIN,
    explainers: Sequence[str] | None = None,
    folds: Sequence[int] | None = None,
    metrics: Sequence[str] | None = None,
    seed: int = 0,
    scheme: Scheme = "interleaved",
    checkpoints: str | Path = "checkpoints",
    results: str | Path = "runs",
    limit_s: float | None = 600,
    limit_gib: float | None = 8,
    device: str = "cpu",
    workers: int = 0,
    scheduler: str | None = None,
    retry_failed: bool = False,
    tables: bool = False,
) -> list[Record]:
    """Explain and score the test images of each fold; cells measured before under the same key are kept.

    Every explainer gets the same model, images and class: the class that the model predicts. An explainer
    that raises, hangs or breaks the rules is recorded as failed, with the reason; the others continue.

    Args:
        root: folder that holds the dataset.
        variant: e.g. "single-6c".
        model: architecture whose trained folds are in `checkpoints`.
        recipe: of their training.
        explainers: names as `explainers.get` reads them, "name@all" for every layer with a map; by default
            all registered explainers except the costly ones.
        folds: which of the 5; all by default.
        metrics: names, or kinds for all metrics of a kind; by default all that compare with the mask.
        seed: of the training.
        scheme: how views are grouped into folds, as in training.
        checkpoints: folder with the trained weights.
        results: folder for records and per-image scores.
        limit_s, limit_gib: seconds and GiB that an explainer may take for one call; None for no limit.
        device: "cpu", "cuda", "mps", or "auto".
        workers: processes on this machine; 0 for this process, which ends if an explainer crashes.
        scheduler: address of a Dask scheduler whose workers measure instead.
        retry_failed: measure cells again that failed before under the same key.
        tables: measure cells again that have no table of per-image scores.
    Returns:
        one record per explainer and fold, in that order.
    Raises:
        UnknownNameError: for an unknown explainer, model, metric or variant.
        DataFolderError: if data are missing or damaged.
        WeightsError: if weights are missing or damaged.
        ValueError: for a fold or device that does not exist.
        OSError: if the results cannot be written; finished cells are kept.
    """
    plan = Plan().with_(
        variants=(variant,), models=(model,), recipes=(recipe,),
        folds=tuple(range(FOLDS) if folds is None else folds), seeds=(seed,), explainers=explainers,
        metrics=metrics, scheme=scheme, root=root, checkpoints=checkpoints, results=results, device=device,
        tables=tables,
    )  # fmt: skip
    plan = replace(plan, limit_s=limit_s, limit_gib=limit_gib)
    return measure_all(plan, workers=workers, scheduler=scheduler, retry_failed=retry_failed)


def measure_all(
    plan: Plan, *, workers: int = 0, scheduler: str | None = None, retry_failed: bool = False
) -> list[Record]:
    """Measure every cell of a plan that is not measured yet; all its models must be trained.

    Args:
        plan: what to measure.
        workers, scheduler, retry_failed: as in `evaluate`.
    Returns:
        one record per variant, model, seed, explainer and fold, in that order.
    Raises:
        as `evaluate`.
    """
    plan = plan.absolute()
    cells = planned_cells(plan)
    finished = ("done",) if retry_failed else ("done", "failed")
    to_do = [planned for planned in cells if planned.state not in finished]
    blocked = {planned.cell: why for planned in to_do if (why := store.obstacle(planned.cell))}
    to_do = [planned for planned in to_do if planned.cell not in blocked]
    for planned in to_do:
        if planned.state == "failed":  # otherwise the old failure would be taken for one of this run
            planned.cell.record_path.unlink(missing_ok=True)
    to_do = sendable(to_do)
    write_arrays(plan, to_do)
    images = sum(planned.images for planned in cells)
    kept = images - sum(planned.images for planned in to_do)
    with _announced(plan), progress(_title(plan), images, "maps", done=kept) as advance:
        # Explainers that learn, which take longest, first, so that all workers end at about the same time.
        learning = {planned.explainer.name for planned in to_do if planned.explainer.spec.needs_fit}
        units = sorted(units_of(plan, to_do), key=lambda unit: learning.isdisjoint(unit.planned))
        listener = _Listener(
            advance, {(planned.setup, planned.explainer.name): planned.images for planned in cells}
        )
        run([_job(unit) for unit in units], listener.heard, workers=workers, scheduler=scheduler)
    return [
        replace(planned.record, status="failed", cause="record", reason=blocked[planned.cell])
        if planned.cell in blocked
        else _read(planned.cell)
        for planned in cells
    ]


@contextmanager
def _announced(plan: Plan) -> Iterator[None]:
    """Log whether another run writes to the same folder. That is allowed: cells are written completely."""
    with ExitStack() as held:
        try:
            held.enter_context(files.locked(plan.results))
        except BlockingIOError:
            logger.warning(
                "another run is measuring into %s: both continue, and each keeps the other's cells",
                plan.results,
            )
        yield


class _Listener:
    """Decides what follows from each event of a unit.

    A unit whose worker dies is split. An explainer that is alone in its unit is tried `ATTEMPTS` times
    before the deaths count as its failure.
    """

    def __init__(self, advance: Callable[[int], None], images: dict[tuple[Setup, str], int]) -> None:
        self._advance, self._images = advance, images
        self._reported: Counter[int] = Counter()  # maps that each job has reported
        self._ended: Counter[int] = Counter()  # how often the process of each job's explainer has ended

    def heard(self, job: Job, event: Event) -> list[Job]:
        """Return the jobs to run next."""
        unit: Unit = job.arguments["unit"]
        if event.kind == "told":
            self._advance(event.value)
            self._reported[id(job)] += event.value
            return []
        if event.kind == "retried":
            self._settle(job, unit, [])
            return []
        if event.kind == "done":
            self._settle(job, unit, list(unit.planned))
            return []
        if event.kind == "raised":
            if isinstance(event.value, CrowdedError):
                return self._one_by_one(job, unit, list(unit.planned))
            if isinstance(event.value, ProcessEndedError):
                return self._tried_again(job, unit, event.value)
            raise event.value
        culprit: str | None = event.after  # the explainer that was running when the worker ended
        if event.kind == "overdue" and culprit:
            error = ExplainerError(
                culprit,
                "time",
                f"it took longer than {unit.plan.limit_s:g} s per call and could not be interrupted",
            )
            self._fail(job, unit, culprit, error)
            return self._without(unit, culprit)
        if len(unit.planned) > 1:
            again = [culprit] if culprit else list(unit.planned)
            return [*self._one_by_one(job, unit, again), *(self._without(unit, culprit) if culprit else [])]
        (name,) = unit.planned
        self._fail(job, unit, name, ExplainerError(name, "killed", event.value))
        return []

    def _tried_again(self, job: Job, unit: Unit, error: ProcessEndedError) -> list[Job]:
        """Return the job again, until the process of its explainer has ended `ATTEMPTS` times."""
        self._ended[id(job)] += 1
        if self._ended[id(job)] < ATTEMPTS:
            self._settle(job, unit, [])
            return [job]
        (name,) = unit.planned
        self._fail(job, unit, name, ExplainerError(name, "killed", f"{error}, {ATTEMPTS} times"))
        return []

    def _fail(self, job: Job, unit: Unit, name: str, error: Exception) -> None:
        store.write(unit.cell(name), failure(unit.planned[name], error), None)
        self._settle(job, unit, [name])

    def _one_by_one(self, job: Job, unit: Unit, names: Sequence[str]) -> list[Job]:
        """Return one job per explainer, each in a new process, to find the one at fault."""
        self._settle(job, unit, [])
        return [_job(replace(unit, planned={name: unit.planned[name]}), fresh=True) for name in names]

    def _without(self, unit: Unit, name: str) -> list[Job]:
        rest = {other: record for other, record in unit.planned.items() if other != name}
        return [_job(replace(unit, planned=rest))] if rest else []

    def _settle(self, job: Job, unit: Unit, ended: Sequence[str]) -> None:
        """Correct the progress: count the maps of ended cells, and no others of this job."""
        total = sum(self._images[unit.setup, name] for name in ended)
        if more := total - self._reported.pop(id(job), 0):
            self._advance(more)


def _job(unit: Unit, *, fresh: bool = False) -> Job:
    alone = len(unit.planned) == 1
    return Job(measure, {"unit": unit}, fresh=fresh, attempts=ATTEMPTS if alone else 1)


def _read(cell: Cell) -> Record:
    try:
        return store.read_record(cell.record_path)
    except FileNotFoundError as error:
        raise store.ResultsError(
            f"{cell.record_path} was measured but does not exist any more: was {cell.results} removed "
            "meanwhile? Run the same command again"
        ) from error


def _title(plan: Plan) -> str:
    return f"evaluate {', '.join(plan.variants)} {', '.join(plan.models)}"
