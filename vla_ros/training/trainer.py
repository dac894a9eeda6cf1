"""The training loop: batches → gradients → weights, with validation and a state to resume from. No files, no dataset.

What is trained is a `Learner`; nothing here knows policies. Everything random in step k is drawn from seeds made of the
run's seed and k, and the order of an epoch from its number. There is no generator state to save, and a resumed run
continues as if it had never stopped.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from vla_ros.data_types import UserError
from vla_ros.training.history import EpochReport
from vla_ros.training.learner import Learner, Measured, Windows
from vla_ros.training.loader import prepared
from vla_ros.training.means import Means
from vla_ros.training.optimisation import build_optimiser, flushed_denormals
from vla_ros.training.progress import TrainingProgress
from vla_ros.training.recipe import Recipe
from vla_ros.training.schedule import Schedule
from vla_ros.training.weight_average import BATCH_NORM_BATCHES, WeightAverage, batch_norm_recomputed

REPORT_EVERY = 10


class TrainingError(UserError):
    """The run cannot go on: its loss is no number."""


class Trainer:
    """One run's state and loop.

    Args:
        recipe: What to do; its dataset and policy are the caller's.
        learner: Its weights are trained in place.
        training: Windows to learn from.
        validation: Windows to measure on, or None.
        progress: Told what happens.

    Raises:
        ConfigError: The recipe's optimiser does not fit the learner.
    """

    # one stream of chance each, so that adding one leaves the others as they were
    _STREAMS: ClassVar[dict[str, int]] = {
        "order": 1,
        "model": 2,
        "augmentation": 3,
        "sampling": 4,
        "validation": 5,
        "batch_norm": 6,
    }

    def __init__(
        self,
        recipe: Recipe,
        learner: Learner,
        *,
        training: Windows,
        validation: Windows | None,
        progress: TrainingProgress,
    ) -> None:
        self.recipe, self.learner = recipe, learner
        self.training, self.validation, self.progress = training, validation, progress
        self.steps_per_epoch = max(1, len(training) // recipe.batch_size)
        self.total_steps = recipe.steps or (recipe.epochs or 0) * self.steps_per_epoch
        self.optimiser = build_optimiser(learner.module, recipe.optimiser)
        self._share = 0.0  # of the largest learning rate, at the last step
        self._base_lrs = [float(group["lr"]) for group in self.optimiser.param_groups]
        self.schedule = Schedule(recipe.schedule, self.total_steps)
        self.average = WeightAverage(learner.module, recipe.ema_decay) if recipe.ema_decay is not None else None
        self.step = 0
        self.best_loss = float("inf")
        self.epochs_since_best = 0
        self.history: list[EpochReport] = []
        self._totals = Means()

    @property
    def epoch(self) -> int:
        """Whole epochs done."""
        return self.step // self.steps_per_epoch

    def run(self, publish: Callable[[EpochReport, bool], None], persist: Callable[[], None]) -> None:
        """Train to the end.

        Args:
            publish: Called after each epoch with its report and whether it is the best so far; the averaged weights,
                if any, are in the learner's module during the call.
            persist: Called after that, and within epochs as often as the recipe says, with the weights being trained
                in the module: the moment for `state_dict`.

        Raises:
            TrainingError: The loss became NaN or infinite.
        """
        while self.step < self.total_steps and not self._stalled():
            began_s = time.perf_counter()
            losses = self._train_epoch(persist)
            with self._averaged():
                report, is_best = self._close_epoch(losses, began_s)
                publish(report, is_best)
            persist()
            self.progress.epoch(report)

    def _stalled(self) -> bool:
        limit = self.recipe.early_stop_epochs
        return limit is not None and self.epochs_since_best >= limit

    def _train_epoch(self, persist: Callable[[], None]) -> dict[str, float]:
        """Run the rest of the epoch that `step` lies in; return the mean loss and terms of all of it."""
        epoch = self.epoch
        first, last = self.step, min((epoch + 1) * self.steps_per_epoch, self.total_steps)
        order = self.training.order(self._rng("order", epoch))
        train_mode(self.learner.module)
        with closing(prepared(lambda step: self._prepare(order, step), first, last, self.recipe.workers)) as batches:
            for batch in batches:
                self._step_with(batch, last, persist)
        means = self._totals.means()
        self._totals = Means()
        self._check_finite(means["loss"])
        return means

    def _step_with(self, batch: Any, last: int, persist: Callable[[], None]) -> None:
        with flushed_denormals():
            terms = self._train_step(batch)
        self._totals.add(terms, 1)
        self.step += 1
        if self.step % REPORT_EVERY == 0 or self.step == last:
            loss = float(terms["loss"])
            self._check_finite(loss)
            self.progress.step(self.step, loss, self._lr())
        every = self.recipe.save_every_steps
        if every is not None and self.step % every == 0 and self.step < last:
            persist()

    def _prepare(self, order: NDArray[np.int64], step: int) -> Any:
        first = (step % self.steps_per_epoch) * self.recipe.batch_size
        raw = self.training.batch(order[first : first + self.recipe.batch_size])
        return self.learner.prepare(raw, self._generator("augmentation", step, "cpu"))

    def _train_step(self, batch: Any) -> dict[str, Tensor]:
        torch.manual_seed(self._seed("model", self.step))  # dropout and the like draw from the global generator
        self._share = self.schedule.share(self.step)
        for group, base_lr in zip(self.optimiser.param_groups, self._base_lrs, strict=True):
            group["lr"] = base_lr * self._share
        with self._autocast():
            output = self.learner.loss(batch, self._generator("sampling", self.step))
        self.optimiser.zero_grad(set_to_none=True)
        output.loss.backward()  # type: ignore[no-untyped-call]  # torch annotates it incompletely
        if self.recipe.optimiser.grad_clip is not None:
            torch.nn.utils.clip_grad_norm_(self.learner.module.parameters(), self.recipe.optimiser.grad_clip)
        self.optimiser.step()
        if self.average is not None:
            self.average.update(self.learner.module)
        return {"loss": output.loss.detach(), **output.terms}

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Put the averaged weights into the module, with BatchNorm statistics of theirs."""
        if self.average is None:
            yield
            return
        module = self.learner.module
        with (
            self.average.applied(module),
            batch_norm_recomputed(module, self._batch_norm_batches, self._forward),
        ):
            yield

    def _batch_norm_batches(self) -> Iterator[Any]:
        """Yield the first batches of an order of their own, the same after every epoch; not augmented."""
        order, size = self.training.order(self._rng("batch_norm", 0)), self.recipe.batch_size
        for number in range(min(BATCH_NORM_BATCHES, self.steps_per_epoch)):
            raw = self.training.batch(order[number * size : (number + 1) * size])
            yield self.learner.prepare(raw, None)

    def _forward(self, batch: Any) -> None:
        with self._autocast(), flushed_denormals():
            self.learner.loss(batch, self._generator("batch_norm", 0))

    def _close_epoch(self, losses: Mapping[str, float], began_s: float) -> tuple[EpochReport, bool]:
        measured = self._validate(self.validation) if self.validation is not None else None
        validation_loss = None if measured is None else measured.loss
        if validation_loss is not None:
            self._check_finite(validation_loss)
            self.schedule.validated(validation_loss)
        is_best = validation_loss is None or validation_loss < self.best_loss
        self.epochs_since_best = 0 if is_best else self.epochs_since_best + 1
        if validation_loss is not None and is_best:
            self.best_loss = validation_loss
        report = EpochReport(
            epoch=-(-self.step // self.steps_per_epoch),
            step=self.step,
            train_loss=losses["loss"],
            lr=self.recipe.optimiser.lr * self._share,
            validation_loss=validation_loss,
            terms={name: value for name, value in losses.items() if name != "loss"},
            validation_terms={} if measured is None else dict(measured.terms),
            action_error={} if measured is None else dict(measured.errors),
            wall_s=round(time.perf_counter() - began_s, 3),
        )
        self.history.append(report)
        return report, is_best

    def _validate(self, windows: Windows) -> Measured:
        with self._autocast(), flushed_denormals():
            return self.learner.measure(windows, self.recipe.batch_size, self._generator("validation", 0))

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a resumed run needs beside recipe and data: tensors and plain data."""
        return {
            "step": self.step,
            "best_loss": self.best_loss,
            "epochs_since_best": self.epochs_since_best,
            "policy": self.learner.module.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "average": self.average.values if self.average else None,
            "totals": self._totals.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` returned."""
        device = self.learner.device
        self.learner.module.load_state_dict(state["policy"], strict=True)
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        if self.average is not None:
            self.average.values = {name: value.to(device) for name, value in state["average"].items()}
        self.step, self.best_loss = state["step"], state["best_loss"]
        self.epochs_since_best = state["epochs_since_best"]
        if "totals" in state:
            self._totals.load_state_dict(state["totals"], device)

    def _lr(self) -> float:
        return self.recipe.optimiser.lr * self.schedule.share(self.step)

    def _rng(self, stream: str, number: int) -> np.random.Generator:
        return np.random.default_rng((self.recipe.seed, self._STREAMS[stream], number))

    def _seed(self, stream: str, number: int) -> int:
        entropy = np.random.SeedSequence((self.recipe.seed, self._STREAMS[stream], number))
        return int(entropy.generate_state(1, np.uint64)[0] >> np.uint64(1))

    def _generator(self, stream: str, number: int, device: str | None = None) -> torch.Generator:
        return torch.Generator(device or self.learner.device).manual_seed(self._seed(stream, number))

    def _autocast(self) -> Any:
        enabled = self.recipe.precision == "bf16"
        return torch.autocast(self.learner.device.type, torch.bfloat16, enabled=enabled) if enabled else nullcontext()

    def _check_finite(self, loss: float) -> None:
        if not np.isfinite(loss):
            raise TrainingError(
                f"The loss is {loss} at step {self.step}; lower optimiser.lr={self.recipe.optimiser.lr:g}, set "
                "optimiser.grad_clip or look for outliers in the data."
            )


def train_mode(module: nn.Module) -> None:
    """Put a module into train mode, except BatchNorm layers whose weights are frozen: their statistics stay too."""
    module.train()
    for part in module.modules():
        if isinstance(part, _BatchNorm):
            own = list(part.parameters(recurse=False))
            if own and not any(parameter.requires_grad for parameter in own):
                part.eval()
