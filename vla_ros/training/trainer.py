"""The training loop: batches → gradients → weights, with validation and a state to resume from. No files, no dataset.

Everything random in step k is drawn from seeds made of the run's seed and k, and the order of an epoch from its number.
There is no generator state to save, and a resumed run continues as if it had never stopped.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vla_ros.data_types import UserError
from vla_ros.policies import Policy
from vla_ros.processors import Processors
from vla_ros.training.augmentation import augment
from vla_ros.training.history import EpochReport
from vla_ros.training.optimisation import WeightAverage, build_optimiser, flushed_denormals
from vla_ros.training.progress import TrainingProgress
from vla_ros.training.recipe import Recipe
from vla_ros.training.schedule import Schedule
from vla_ros.training.validation import Means, Windows, validate

REPORT_EVERY = 10


class TrainingError(UserError):
    """The run cannot go on: its loss is no number."""


class Trainer:
    """One run's state and loop.

    Args:
        recipe: What to do.
        policy: Its weights are trained in place.
        processors: On the same device.
        training: Windows to learn from.
        validation: Windows to measure on, or None.
        progress: Told what happens.
    """

    # one stream of chance each, so that adding one leaves the others as they were
    _STREAMS: ClassVar[dict[str, int]] = {"order": 1, "model": 2, "augmentation": 3, "sampling": 4, "validation": 5}

    def __init__(
        self,
        recipe: Recipe,
        policy: Policy,
        processors: Processors,
        *,
        training: Windows,
        validation: Windows | None,
        progress: TrainingProgress,
    ) -> None:
        self.recipe, self.policy, self.processors = recipe, policy, processors
        self.training, self.validation, self.progress = training, validation, progress
        self.steps_per_epoch = max(1, len(training) // recipe.batch_size)
        self.total_steps = recipe.steps or (recipe.epochs or 0) * self.steps_per_epoch
        self.optimiser = build_optimiser(policy, recipe.optimiser)
        self.schedule = Schedule(recipe.schedule, self.total_steps)
        self.average = WeightAverage(policy, recipe.ema_decay) if recipe.ema_decay is not None else None
        self._base_lr = recipe.optimiser.lr
        self.step = 0
        self.best_loss = float("inf")
        self.epochs_since_best = 0
        self.history: list[EpochReport] = []

    @property
    def epoch(self) -> int:
        """Whole epochs done."""
        return self.step // self.steps_per_epoch

    def run(self, publish: Callable[[EpochReport, bool], None], persist: Callable[[], None]) -> None:
        """Train to the end.

        Args:
            publish: Called after each epoch with its report and whether it is the best so far; the averaged weights,
                if any, are in the policy during the call.
            persist: Called after that, with the weights being trained in the policy: the moment for `state_dict`.

        Raises:
            TrainingError: The loss became NaN or infinite.
        """
        while self.step < self.total_steps and not self._stalled():
            began_s = time.perf_counter()
            losses = self._train_epoch()
            with self.average.applied(self.policy) if self.average else nullcontext():
                report, is_best = self._close_epoch(losses, began_s)
                publish(report, is_best)
            persist()
            self.progress.epoch(report)

    def _stalled(self) -> bool:
        limit = self.recipe.early_stop_epochs
        return limit is not None and self.epochs_since_best >= limit

    def _train_epoch(self) -> dict[str, float]:
        """Run the rest of the epoch that `step` lies in; return the mean loss and terms."""
        epoch = self.epoch
        last = min((epoch + 1) * self.steps_per_epoch, self.total_steps)
        order = np.random.default_rng((self.recipe.seed, self._STREAMS["order"], epoch)).permutation(len(self.training))
        self.policy.train()
        totals, count = Means(), last - self.step
        while self.step < last:
            first = (self.step % self.steps_per_epoch) * self.recipe.batch_size
            with flushed_denormals():
                terms = self._train_step(order[first : first + self.recipe.batch_size])
            totals.add(terms, 1)
            self.step += 1
            if self.step % REPORT_EVERY == 0 or self.step == last:
                loss = float(terms["loss"])
                self._check_finite(loss)
                self.progress.step(self.step, loss, self._lr())
        means = totals.means(count)
        self._check_finite(means["loss"])
        return means

    def _train_step(self, indices: NDArray[np.int64]) -> dict[str, Tensor]:
        torch.manual_seed(self._seed("model", self.step))  # dropout and the like draw from the global generator
        for group in self.optimiser.param_groups:
            group["lr"] = self._lr()
        raw = self.training.batch(indices)
        options = self.recipe.augmentation
        if options.changes_anything:
            raw = augment(raw, self.processors, options, self._generator("augmentation", self.step, "cpu"))
        batch = self.processors.batch(raw)
        with self._autocast():
            output = self.policy.compute_loss(batch, self._generator("sampling", self.step))
        self.optimiser.zero_grad(set_to_none=True)
        output.loss.backward()  # type: ignore[no-untyped-call]  # torch annotates it incompletely
        if self.recipe.optimiser.grad_clip is not None:
            torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.recipe.optimiser.grad_clip)
        self.optimiser.step()
        if self.average is not None:
            self.average.update(self.policy)
        return {"loss": output.loss.detach(), **output.terms}

    def _close_epoch(self, losses: Mapping[str, float], began_s: float) -> tuple[EpochReport, bool]:
        measured, errors = self._validate(self.validation) if self.validation is not None else ({}, {})
        validation_loss = measured.get("loss")
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
            lr=self.optimiser.param_groups[0]["lr"],
            validation_loss=validation_loss,
            terms={name: value for name, value in losses.items() if name != "loss"},
            validation_terms={name: value for name, value in measured.items() if name != "loss"},
            action_error=errors,
            wall_s=round(time.perf_counter() - began_s, 3),
        )
        self.history.append(report)
        return report, is_best

    def _validate(self, windows: Windows) -> tuple[dict[str, float], dict[str, float]]:
        with self._autocast(), flushed_denormals():
            generator = self._generator("validation", 0)
            return validate(self.policy, self.processors, windows, self.recipe.batch_size, generator)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a resumed run needs beside recipe and data: tensors and plain data."""
        return {
            "step": self.step,
            "best_loss": self.best_loss,
            "epochs_since_best": self.epochs_since_best,
            "policy": self.policy.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "average": self.average.values if self.average else None,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` returned."""
        self.policy.load_state_dict(state["policy"], strict=True)
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        if self.average is not None:
            self.average.values = {name: value.to(self.processors.device) for name, value in state["average"].items()}
        self.step, self.best_loss = state["step"], state["best_loss"]
        self.epochs_since_best = state["epochs_since_best"]

    def _lr(self) -> float:
        return self._base_lr * self.schedule.share(self.step)

    def _seed(self, stream: str, number: int) -> int:
        entropy = np.random.SeedSequence((self.recipe.seed, self._STREAMS[stream], number))
        return int(entropy.generate_state(1, np.uint64)[0] >> np.uint64(1))

    def _generator(self, stream: str, number: int, device: str | None = None) -> torch.Generator:
        return torch.Generator(device or self.processors.device).manual_seed(self._seed(stream, number))

    def _autocast(self) -> Any:
        device = self.processors.device.type
        return torch.autocast(device, torch.bfloat16, enabled=self.recipe.precision == "bf16")

    def _check_finite(self, loss: float) -> None:
        if not np.isfinite(loss):
            raise TrainingError(
                f"The loss is {loss} at step {self.step}; lower optimiser.lr={self._base_lr:g}, set "
                "optimiser.grad_clip or look for outliers in the data."
            )
