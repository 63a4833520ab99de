"""The one loop: every cell of a plan that is not measured yet, handed out, watched, and kept."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from an8flower import An8Flower
from an8flower.ground import files
from an8flower.ground.jobs import Event, Job, run
from an8flower.ground.progress import progress
from an8flower.protocol import FOLDS, Scheme
from benchmark import store
from benchmark.measuring.cells import Wanted, survey_all
from benchmark.measuring.identity import metric_digests
from benchmark.measuring.unit import CrowdedError, Unit, failure, measure
from benchmark.models import models
from benchmark.plan import Plan, Setup
from benchmark.store import Cell, Record
from explainers import Explainer, ExplainerError
from explainers.names import reference_of

TOGETHER = 6  # methods of a unit: enough to share their passes, few enough to spread over workers
DEATHS = 2  # of a process that measures one method alone, before the method is held to be the reason


def evaluate(
    root: str | Path,
    variant: str,
    model: str = "an8net",
    *,
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
    """Explain and score the test images of each fold; keep what was done before on equal terms.

    Every explainer gets the same model, images and class: the one the model predicts. One that
    raises, hangs or breaks the rules is recorded as failed, with its reason, and the others go on.

    Args:
        root: folder that holds the dataset.
        variant: e.g. "single-6c".
        model: architecture whose trained folds are in `checkpoints`.
        explainers: names as `explainers.get` reads them, "name@all" for every layer with a map; by default
            all registered ones that are not costly.
        folds: which of the 5; all by default.
        metrics: names, or kinds for all of a kind; by default all that compare with the mask.
        seed: of the training.
        scheme: how views are grouped into folds, as in training.
        checkpoints: folder with the trained weights.
        results: folder for records and per-image scores.
        limit_s, limit_gib: seconds and memory that a method may take for a call; None for no limit.
        device: "cpu", "cuda", "mps", or "auto".
        workers: processes on this machine; 0 for this process, which a method that dies takes with it.
        scheduler: address of a Dask scheduler, whose workers measure instead.
        retry_failed: measure again what failed before on equal terms.
        tables: measure again what has no table of per-image scores.
    Returns:
        a record for each explainer and fold, in that order.
    Raises:
        UnknownNameError: for an unknown explainer, model, metric or variant.
        DataFolderError: if data or weights are missing or damaged.
        ValueError: for a fold or device that does not exist.
        OSError: if the results cannot be written; what is done is kept.
    """
    plan = Plan().with_(
        variants=(variant,), models=(model,), folds=tuple(range(FOLDS) if folds is None else folds),
        seeds=(seed,), explainers=explainers, metrics=metrics, scheme=scheme, root=root,
        checkpoints=checkpoints, results=results, device=device, tables=tables,
    )  # fmt: skip
    plan = replace(plan, limit_s=limit_s, limit_gib=limit_gib)
    return measure_all(plan, workers=workers, scheduler=scheduler, retry_failed=retry_failed)


def measure_all(
    plan: Plan, *, workers: int = 0, scheduler: str | None = None, retry_failed: bool = False
) -> list[Record]:
    """Measure every cell of a plan that is not measured yet; all its models must have been trained.

    Args:
        plan: what to measure.
        workers, scheduler, retry_failed: as in `evaluate`.
    Returns:
        a record for each variant, model, seed, explainer and fold, in that order.
    Raises:
        as `evaluate`.
    """
    plan = plan.absolute()
    wanted = survey_all(plan)
    digests = metric_digests(plan.metric_names())
    repeat = ("done",) if retry_failed else ("done", "failed")
    to_do = [one for one in wanted if one.state not in repeat]
    for one in to_do:
        if one.state == "failed":  # else what failed before would be taken for what this run has seen
            one.cell.record_path.unlink(missing_ok=True)
    _prepare(plan, to_do)
    maps, kept = (
        sum(one.images for one in some) for some in (wanted, [one for one in wanted if one.state in repeat])
    )
    with _announced(plan), progress(_title(plan), maps, "maps", done=kept) as advance:
        # Those that learn first, which take longest, so that all workers end at about the same time.
        learning = {one.explainer.key for one in to_do if one.explainer.spec.needs_fit}
        units = sorted(_units(plan, to_do, digests), key=lambda unit: learning.isdisjoint(unit.facts))
        jobs = [Job(measure, {"unit": unit}) for unit in units]
        watcher = _Watcher(advance, {(one.setup, one.explainer.key): one.images for one in wanted})
        run(jobs, watcher.heard, workers=workers, scheduler=scheduler)
    return [_read(one.cell) for one in wanted]


@contextmanager
def _announced(plan: Plan) -> Iterator[None]:
    """Say so if another run writes to the same folder; that is allowed, each cell is whole or not there."""
    with ExitStack() as held:
        try:
            held.enter_context(files.locked(plan.results))
        except BlockingIOError:
            note = (
                f"another run is measuring into {plan.results}: both go on, what one has done the other keeps"
            )
            print(note, file=sys.stderr, flush=True)  # noqa: T201
        yield


def _prepare(plan: Plan, to_do: Sequence[Wanted]) -> None:
    """Make the arrays that several workers are about to read, once."""
    places = {
        (one.setup.variant, models.get(one.setup.model).size_px)
        for one in to_do
        if "object_masks" in one.explainer.spec.truths
    }
    for variant, size_px in sorted(places):
        An8Flower(plan.root, variant, size_px=size_px, target=("label", "plant"))


def _units(plan: Plan, to_do: Sequence[Wanted], digests: dict[str, str]) -> Iterator[Unit]:
    """Cells of one trained model by the few, methods of one family beside each other."""
    by_setup: dict[Setup, list[Wanted]] = {}
    for one in to_do:
        by_setup.setdefault(one.setup, []).append(one)
    for setup, cells in by_setup.items():
        cells.sort(key=lambda one: _family(one.explainer))
        parts = -(-len(cells) // TOGETHER)
        for k in range(parts):
            chosen = cells[len(cells) * k // parts : len(cells) * (k + 1) // parts]
            plants = any("object_masks" in one.explainer.spec.truths for one in chosen)
            references = {one.explainer.key: reference_of(one.explainer) for one in chosen}
            facts = {one.explainer.key: one.facts for one in chosen}
            yield Unit(plan, setup, references, facts, digests, plants)


def _family(explainer: Explainer) -> tuple[str, str]:
    build = explainer.spec.build
    return getattr(build, "func", build).__module__, explainer.spec.name


class _Watcher:
    """What is done about each event of a unit."""

    def __init__(self, advance: Callable[[int], None], images: dict[tuple[Setup, str], int]) -> None:
        self._advance, self._images = advance, images
        self._seen: Counter[int] = Counter()  # maps told of, by job

    def heard(self, job: Job, event: Event) -> list[Job]:
        unit: Unit = job.arguments["unit"]
        if event.kind == "told":
            self._advance(event.value)
            self._seen[id(job)] += event.value
            return []
        if event.kind == "done":
            self._settle(job, unit, list(unit.facts))
            return []
        if event.kind == "raised":
            if isinstance(event.value, CrowdedError):
                return self._apart(job, unit, list(unit.facts))
            raise event.value
        culprit: str | None = event.after  # the method that ran when the worker ended
        if event.kind == "overdue" and culprit:
            error = ExplainerError(
                culprit, "time", f"it took longer than {unit.plan.limit_s:g} s and did not heed its alarm"
            )
            self._fail(job, unit, culprit, error)
            return self._without(unit, culprit)
        if len(unit.facts) > 1:
            again = [culprit] if culprit else list(unit.facts)
            return [*self._apart(job, unit, again), *(self._without(unit, culprit) if culprit else [])]
        if unit.deaths < DEATHS:
            self._settle(job, unit, [])
            return [_job(replace(unit, deaths=unit.deaths + 1))]
        (name,) = unit.facts
        self._fail(job, unit, name, ExplainerError(name, "killed", f"{event.value}, {DEATHS + 1} times"))
        return []

    def _fail(self, job: Job, unit: Unit, name: str, error: Exception) -> None:
        empty = {"layer": None, "finished": None, "host": None, "versions": None}
        store.write(unit.cell(name), {**unit.facts[name], **empty, **failure(error)}, None)
        self._settle(job, unit, [name])

    def _apart(self, job: Job, unit: Unit, names: Sequence[str]) -> list[Job]:
        """Each of some methods by itself, to know which it was."""
        self._settle(job, unit, [])
        return [_job(replace(unit, facts={name: unit.facts[name]})) for name in names]

    def _without(self, unit: Unit, name: str) -> list[Job]:
        rest = {one: facts for one, facts in unit.facts.items() if one != name}
        return [Job(measure, {"unit": replace(unit, facts=rest)})] if rest else []

    def _settle(self, job: Job, unit: Unit, ended: Sequence[str]) -> None:
        """Count the maps of the cells that have ended, whatever was told of on the way."""
        total = sum(self._images[unit.setup, name] for name in ended)
        if more := total - self._seen.pop(id(job), 0):
            self._advance(more)


def _job(unit: Unit) -> Job:
    return Job(measure, {"unit": unit}, fresh=True)


def _read(cell: Cell) -> Record:
    try:
        return store.read_record(cell.record_path)
    except FileNotFoundError as error:
        raise store.ResultsError(
            f"{cell.record_path} was measured and is gone: was {cell.results} removed meanwhile? "
            "Run the same command again"
        ) from error


def _title(plan: Plan) -> str:
    return f"evaluate {', '.join(plan.variants)} {', '.join(plan.models)}"
