"""Training: the step, and the loop around it. The only file that sees network, loss and optimizer together.

`fit` is a loop; everything that happens besides the step is a callback or a question of data. There is no CUDA here:
`backend.capture` may turn the step into one graph.
"""

import functools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ffnn_gpu.callbacks import BestWeights, Callback, Checkpoints, EarlyStopping
from ffnn_gpu.checks import require_positive_int, seed_number
from ffnn_gpu.data import Minibatches, Order
from ffnn_gpu.errors import ConfigurationError, DivergedError
from ffnn_gpu.evaluation import Samples, balanced, metric_name, samples, split
from ffnn_gpu.fingerprint import fingerprints
from ffnn_gpu.history import History
from ffnn_gpu.interrupt import Interrupt
from ffnn_gpu.losses import Loss
from ffnn_gpu.meter import Meter
from ffnn_gpu.metrics import get_metric
from ffnn_gpu.network import Network
from ffnn_gpu.optimizers import Optimizer
from ffnn_gpu.parallel.team import DataParallel, Team
from ffnn_gpu.progress import progress
from ffnn_gpu.resume import restore_run, save_network, save_run, settings
from ffnn_gpu.schedules import Schedule, constant
from ffnn_gpu.workspace import Workspace


def recordable(step: Callable[..., Any]) -> Callable[..., Any]:
    """The same step; the backend may record it once and then run the recording."""

    @functools.wraps(step)
    def run(
        network: Network, loss: Any, optimizer: Any, x: Any, y: Any, ws: Workspace, sample_weight: Any = None, lr: Any = None
    ) -> Any:
        return network.backend.run_step(step, network, loss, optimizer, x, y, ws, sample_weight, lr)

    return run


@recordable
def train_step(
    network: Network, loss: Any, optimizer: Any, x: Any, y: Any, ws: Workspace, sample_weight: Any = None, lr: Any = None
) -> Any:
    """One update of θ on the minibatch x (B, n_in), y.

    lr: float64 (1,) on the device, the learning rate from this step on; None leaves it.

    Returns:
        The loss before the update, a 0-d array that stays on the device.
    """
    z = network.forward(x, ws)
    value = loss(network.backend, z, y, dz=ws.dz, sample_weight=sample_weight)
    network.backward(ws.dz, ws)
    optimizer.step(network.params, lr)
    return value


def accumulated_step(
    network: Network, loss: Loss, optimizer: Any, x: Any, y: Any, ws: Workspace, sample_weight: Any, lr: Any, total: Any
) -> Any:
    """The same update from micro-batches of the workspace's size:  ∇θ = Σ_j N_j ∇θ_j / Σ_j N_j.

    N_j is what part j takes its mean over: its rows, or the sum of their weights. Dropout draws the bits of the whole
    batch's rows; BatchNorm takes its statistics over each part. total (P,) is scratch.
    """
    backend, grad = network.backend, network.params.grad
    backend.copy(0, out=total)
    value = N = 0.0
    for start in range(0, len(x), ws.B):
        rows = slice(start, min(start + ws.B, len(x)))
        w = None if sample_weight is None else sample_weight[rows]
        part = ws.first(rows.stop - start)
        part.stream.row = start
        z = network.forward(x[rows], part)
        weight = loss.total_weight(backend, y[rows], w)
        value = value + weight * loss.evaluate(backend, z, y[rows], part.dz, w)
        network.backward(part.dz, part)
        backend.add_scaled(total, grad, weight)
        N = N + weight
    ws.stream.row = 0
    N = N + (N == 0)                                                             # all weights zero: no gradient
    backend.copy(total, out=grad)
    backend.scale(grad, 1 / N)
    optimizer.step(network.params, lr)
    return value / N


class TrainingRun:
    """One training under way: what callbacks see and a checkpoint remembers.

    Attributes:
        epoch, position: finished epochs, and finished minibatches of the next one.
        lr, lr_factor: the learning rate of the last step; what callbacks multiply the schedule by.
        team: the ranks that train together, one in most trainings; its `params` are what the optimizer updates here.
        held_out, validation: the validation rows as they came, and where the network reads them; None if there are none.
        stop: set to end the training after this epoch.
    """

    def __init__(
        self, network: Network, loss: Loss, optimizer: Optimizer, data: Minibatches, validation: Samples | None,
        *, team: Team, epochs: int, metrics: Sequence[Any], schedule: Schedule, accumulate: int, seed: int,
    ) -> None:  # fmt: skip
        self.network, self.loss, self.optimizer, self.data, self.team = network, loss, optimizer, data, team
        self.held_out, self.metrics, self.schedule, self.epochs = validation, metrics, schedule, epochs
        self.validation = validation and validation.on(network.backend, network.compute_dtype)
        self.accumulate, self.seed = accumulate, seed
        self.epoch = self.position = 0
        self.lr_factor, self.stop, self.history = 1.0, False, History()
        self.callbacks: list[Callback] = []
        self.elsewhere: list[Callback] = []                                      # those that only the first rank calls
        self._most = network.backend.steps_per_launch(data.B)
        self.meter = Meter(network.backend, self._most)
        self._lr = network.backend.zeros((self._most,), np.float64)
        self.micro_batch = -(-data.B // accumulate)
        self.ws = network.workspace(team.rows(self.micro_batch), seed=seed)
        self.total = network.backend.zeros(network.params.theta.shape, network.dtype) if accumulate > 1 else None
        optimizer.state(team.params)                                             # a step that is recorded must find it there
        self._captured = network.backend.capture(self._steps)
        self.lr, self._rates = float("nan"), [float("nan")]
        self._began = time.perf_counter()

    @property
    def steps_done(self) -> int:
        return self.epoch * self.data.steps + self.position

    @cached_property
    def fingerprints(self) -> dict[str, Any]:
        """Checksums of the data; made when a checkpoint is written or read, so that a training without one pays nothing."""
        v = self.held_out
        return fingerprints(self.network.backend, self.data.given, None if v is None else (v.x, v.y, v.weight))

    def steps_at_once(self) -> int:
        """The most steps of one launch: one where a callback wants to see each."""
        return 1 if any(callback.needs_every_step() for callback in (*self.callbacks, *self.elsewhere)) else self._most

    def step(self) -> None:
        """The next minibatch, or several: as many as the device does in one launch, unless a callback wants to see each.

        Raises DivergedError if a loss is not finite.
        """
        k, n = self.data.choose(self.epoch, self.position, self.steps_at_once())
        self._set_rates(k)
        self.team.tell(self.network.backend)
        weight = self._captured(k, n)
        self.position += k
        self.team.hear(self.network.backend)
        self.meter.add(k, weight, self)
        self.team.compare(self, self.steps_done - k)

    def finish_epoch(self) -> dict[str, float]:
        """The row of the epoch whose last minibatch is done, added to the history."""
        row = {"epoch": self.epoch + 1, "loss": self.meter.mean(self)}
        if not self.network.backend.all_finite(self.network.params.theta):       # the last update has no loss after it
            raise DivergedError(f"the parameters are not finite after epoch {self.epoch + 1}; lower lr, or set clip_norm")
        self._require_updates()
        with self.averaged():
            row |= self._validate()
        seconds = self.team.largest(time.perf_counter() - self._began)
        row |= {"lr": self.lr, "seconds": seconds, "samples_per_second": self.data.rows / max(seconds, 1e-9)}
        self.epoch, self.position = self.epoch + 1, 0
        self._began = time.perf_counter()
        self.history.rows.append(row)
        return row

    def _require_updates(self) -> None:
        """Raise DivergedError if no loss scale is left to lower: from here on every update would be skipped in silence."""
        scale = self.network.params.loss_scale
        if scale is not None and self.network.backend.to_host(scale).tolist() == [1, 0]:
            raise DivergedError(
                f"the gradient of the last step of epoch {self.epoch + 1} is not finite in float16 although the loss scale "
                "is down to 1; use dtype='bfloat16' or 'float32'"
            )

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """While entered, θ is its moving average if the optimizer keeps one."""
        if self.optimizer.ema is not None: self.optimizer.swap_average(self.team.params)
        try:
            yield
        except BaseException:
            # Other ranks, whose pieces of θ this needs, may not be here.
            if self.optimizer.ema is not None and self.team.shard is None: self.optimizer.swap_average(self.team.params)
            raise
        if self.optimizer.ema is not None: self.optimizer.swap_average(self.team.params)

    def save(self, path: Path, extras: Mapping[str, Any]) -> None:
        """Everything needed to go on exactly from here."""
        self.meter.flush(self)
        save_run(self, path, extras)

    def save_network(self, path: Path, extras: Mapping[str, Any]) -> None:
        """The network as it is now."""
        save_network(self, path, extras)

    def restore(self, path: Path) -> None:
        """Go on from what `save` wrote. Raises IncompatibleCheckpointError, and changes nothing then."""
        restore_run(self, path)

    def _set_rates(self, k: int) -> None:
        """Put the learning rates of the next k steps on the device."""
        steps = range(self.steps_done, self.steps_done + k)
        whole = self.epochs * self.data.steps
        rates = [self.optimizer.lr * self.schedule(step, whole) * self.lr_factor for step in steps]
        if rates != self._rates:
            backend = self.network.backend
            backend.copy(backend.asarray(np.array(rates)), out=self._lr[:k])
        self.lr, self._rates = rates[-1], rates

    def _steps(self, k: int, n: int) -> Any:
        """k updates on minibatches of n rows; everything that differs from call to call lies on the device."""
        for j in range(k):
            value, weight = self._step(j, n)
            self.meter.note(j, value, weight)
        return weight

    def _step(self, j: int, n: int) -> tuple[Any, Any]:
        network, data, lr = self.network, self.data, self._lr[j : j + 1]
        if self.team.size > 1: return self.team.step(self, j, n, lr)
        data.gather(j, n)
        x, y, w = data.x[:n], data.y[:n], None if data.weight is None else data.weight[:n]
        weight = self.loss.total_weight(network.backend, y, w)
        if self.accumulate > 1:
            return accumulated_step(network, self.loss, self.optimizer, x, y, self.ws, w, lr, self.total), weight
        return train_step(network, self.loss.evaluate, self.optimizer, x, y, self.ws.first(n), w, lr), weight

    def _validate(self) -> dict[str, float]:
        if self.validation is not None:
            row = self.team.evaluate(self.network, self.loss, self.validation, self.metrics)
            return {f"val_{name}": value for name, value in row.items()}
        if not self.metrics: return {}
        row = self.team.evaluate(self.network, self.loss, Samples(*self.data.whole), self.metrics)
        return {name: value for name, value in row.items() if name != "loss"}    # the epoch's own mean stands there


def fit(
    network: Network, loss: Loss, optimizer: Optimizer, data: Any, *,
    epochs: int = 10, batch_size: int = 128, validation: Any = None, sample_weight: Any = None,
    class_weight: Mapping[Any, float] | str | None = None, metrics: Iterable[Any] = (),
    schedule: Schedule | Callback = constant, early_stopping: int | EarlyStopping | None = None, accumulate: int = 1,
    shuffle: bool = True, drop_last: bool = False, seed: int = 0, checkpoint: str | Path | Checkpoints | None = None,
    resume: bool = False, callbacks: Sequence[Callback] = (), verbose: int = 1, communicator: Any = None,
    shard_optimizer: bool = False,
) -> History:  # fmt: skip
    """Train the network on data: (X, y) or (X, y, sample_weight), X (n, n_in), which may lie in a file or in several.

    Args:
        validation: (Xv, yv), or the fraction of the rows to hold out: shuffled, and stratified where y are classes.
        sample_weight: (n,); class_weight: {class index: weight} or "balanced". Both multiply.
        metrics: names or functions (y, prediction), computed on the validation rows, or on the training rows where there
            are none; a prediction is the loss's decision, such as a class index, as `evaluate` says.
        schedule: factor on the optimizer's lr per step, from ffnn_gpu.schedules, or a ReduceOnPlateau(…).
        early_stopping: epochs to wait for a better val_loss (loss without validation); the best weights come back on
            every exit.
        accumulate: into how many micro-batches each batch is cut: the same gradient in less memory.
        seed: of shuffling, splitting and dropout.
        checkpoint: a folder for `last` and `best`, which replace those of an earlier run; resume: go on from `last` if it
            is there.
        verbose: 0 silent, 1 a bar on a terminal, 2 one line per epoch.
        communicator: of the ranks that train this network together, each calling fit with the same arguments: what
            ffnn_gpu.parallel.communicator() returns, or a DataParallel with more settings. batch_size is that of all ranks.
        shard_optimizer: each rank keeps and updates 1/n of the moments. Later trainings with it go on from them; one
            without it starts with new ones.

    Returns:
        One row per epoch. After Ctrl-C or SIGTERM, what there is by then, with `interrupted` set.

    Raises:
        ShapeError, DataError, ConfigurationError: before anything is changed. DivergedError: the loss is not finite.
        DivergedRanksError: the ranks are not in the same training.
    """
    _require_kinds(network=(network, Network), loss=(loss, Loss), optimizer=(optimizer, Optimizer))
    if not isinstance(schedule, (Schedule, Callback)):
        raise ConfigurationError(f"schedule must be an object such as ffnn_gpu.schedules.Cosine(), not {schedule!r}")
    for name, value in {"epochs": epochs, "batch_size": batch_size, "accumulate": accumulate}.items():
        require_positive_int(name, value)
    seed = seed_number(seed)
    plan = DataParallel.of(communicator)
    train, held_out = plan.together(lambda: _checked(network, loss, data, sample_weight, validation, seed, plan))
    if class_weight is not None:
        train = balanced(train, class_weight, network.widths[-1], network.dtype)
    metrics = tuple(map(get_metric, metrics))
    team = Team(plan, network, optimizer, shard_optimizer)
    order = Order(batch_size, shuffle, drop_last, seed)
    minibatches = Minibatches(network.backend, train.x, train.y, train.weight, network.compute_dtype, order, team.size)
    extra = [schedule] if isinstance(schedule, Callback) else []
    run = TrainingRun(
        network, loss, optimizer, minibatches, held_out, team=team, epochs=epochs, metrics=metrics, accumulate=accumulate,
        seed=seed, schedule=constant if isinstance(schedule, Callback) else schedule,
    )  # fmt: skip
    run.callbacks = [*callbacks, *extra, *_stopping(early_stopping), *_checkpoints(checkpoint, resume), *progress(verbose)]
    _require_callbacks(run)
    if team.rank:
        run.elsewhere = [callback for callback in run.callbacks if callback.first_rank_only]
        run.callbacks = [callback for callback in run.callbacks if not callback.first_rank_only]
    return _loop(run, resume)


def _checked(
    network: Network, loss: Loss, data: Any, sample_weight: Any, validation: Any, seed: int, plan: DataParallel
) -> tuple[Samples, Samples | None]:
    """The rows to train on and those held out. Of rows in files each rank looks at its part."""
    rank, size = plan.communicator.rank, plan.communicator.size
    whole = samples(network, loss, data, sample_weight, rank=rank, size=size)
    return split(network, loss, whole, validation, seed, rank, size)


def _require_kinds(**arguments: tuple[Any, type]) -> None:
    for name, (value, kind) in arguments.items():
        if not isinstance(value, kind):
            examples = {Network: "Network(64, [Dense(10)])", Loss: "softmax_cross_entropy", Optimizer: "Adam(lr=1e-3)"}
            raise ConfigurationError(f"{name} must be an object such as ffnn_gpu.{examples[kind]}, not {value!r}")


def _require_callbacks(run: TrainingRun) -> None:
    names = [metric_name(metric) for metric in run.metrics]
    watched = names if run.validation is None else ["val_loss", *(f"val_{name}" for name in names)]
    columns = ["loss", *watched, "lr", "seconds", "samples_per_second"]
    for callback in run.callbacks:
        if not isinstance(callback, Callback):
            raise ConfigurationError(f"callbacks must be objects of classes derived from Callback, not {callback!r}")
        monitor = getattr(callback, "monitor", None)
        if monitor is not None and monitor not in columns:
            raise ConfigurationError(f"there is no column {monitor!r} to monitor; there are {', '.join(columns)}")


def _loop(run: TrainingRun, resume: bool) -> History:
    quiet = np.errstate(over="ignore", invalid="ignore")                          # the meter raises on what is not finite
    with Interrupt() as interrupt, ExitStack() as at_the_end, quiet:
        run.team.listen(interrupt)
        run.team.require_agreement(run, settings(run))
        for callback in run.callbacks:
            callback.start(run)
            at_the_end.callback(callback.finish, run)                            # each of them, whatever the others raise
        for callback in run.callbacks:
            if resume and isinstance(callback, Checkpoints) and run.team.first_says(callback.has_last):
                run.restore(callback.last)
                run.team.require_agreement(run, settings(run))
        at_the_end.push(functools.partial(_conclude, run))
        while run.epoch < run.epochs and not run.stop and not run.team.signal:
            _train_epoch(run)
        if run.team.signal:
            for callback in run.callbacks:
                callback.after_interrupt(run)
    return run.history


def _train_epoch(run: TrainingRun) -> None:
    while run.position < run.data.steps:
        run.step()
        for callback in run.callbacks:
            callback.after_step(run)
        if run.team.signal and run.position < run.data.steps: return
    row = run.finish_epoch()
    for callback in run.callbacks:
        callback.after_epoch(run, row)


def _conclude(run: TrainingRun, kind: type[BaseException] | None, *of_error: Any) -> None:
    """After the last step, or where an exception ended the training: then pieces of θ may not come from other ranks."""
    run.history.interrupted = run.team.signal
    if run.optimizer.ema is not None and run.steps_done and (kind is None or run.team.shard is None):
        run.optimizer.load_average(run.team.params)


def _stopping(early_stopping: int | EarlyStopping | None) -> list[Callback]:
    if early_stopping is None: return []
    stopping = early_stopping if isinstance(early_stopping, EarlyStopping) else EarlyStopping(early_stopping)
    return [stopping, BestWeights(stopping.monitor)]


def _checkpoints(checkpoint: str | Path | Checkpoints | None, resume: bool) -> list[Callback]:
    if checkpoint is None:
        if resume:
            raise ConfigurationError("resume=True needs checkpoint=…, the folder to go on from")
        return []
    return [checkpoint if isinstance(checkpoint, Checkpoints) else Checkpoints(checkpoint)]
