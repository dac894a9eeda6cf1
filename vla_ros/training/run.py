"""One training run from recipe to checkpoint folder: opens the data, builds the parts, keeps the files.

A run's folder::

    recipe.yaml        what was run, options file and overrides merged
    metrics.jsonl      a line per epoch
    loss_curve.png     both losses and the learning rate
    checkpoint/        the best weights so far: what the robot loads
    resume.pt          weights, optimiser and position, for continuing an interrupted run
"""

import pickle
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml

from vla_ros.checkpoint import replace_extra_file, replacing, robot_files, save_checkpoint, tidy
from vla_ros.data_types import ConfigError
from vla_ros.networks.gradient_checkpointing import enable_gradient_checkpointing
from vla_ros.schema import Section, read_dataclass, to_plain
from vla_ros.training.assembly import Assembled, assemble, build_trainer
from vla_ros.training.data import OpenWindows, cache_bytes_of_frame, open_robots
from vla_ros.training.history import EpochReport, loss_curve, read_history, write_history
from vla_ros.training.progress import TrainingProgress, default_progress
from vla_ros.training.recipe import Recipe
from vla_ros.training.trainer import Trainer

CHECKPOINT, RESUME, METRICS, CURVE, RECIPE = "checkpoint", "resume.pt", "metrics.jsonl", "loss_curve.png", "recipe.yaml"
REDRAW_AFTER_S = 15.0
FEW_EPISODES = 10
"""Fewer validation episodes than these choose the best epoch mostly by chance."""

# what may differ between an interrupted run and its continuation
FREE_ON_RESUME = (
    "output",
    "epochs",
    "steps",
    "device",
    "threads",
    "workers",
    "gradient_checkpointing",
    "save_every_epochs",
    "save_every_steps",
    "early_stop_epochs",
)


def train(
    recipe: Recipe, progress: TrainingProgress | None = None, *, resume: bool = False, overwrite: bool = False
) -> Path:
    """Train a policy.

    Args:
        recipe: What to do.
        progress: Told what happens; None shows a bar on a terminal and lines elsewhere.
        resume: Continue the run in the output folder from where it was last saved.
        overwrite: Start anew where the output folder holds a run already.

    Returns:
        The checkpoint folder.

    Raises:
        UserError: The recipe does not fit the data, the data cannot be read, the output folder is taken, or the loss
            became NaN.
    """
    progress = progress or default_progress()
    output = Path(recipe.output)
    _check_output(output, resume, overwrite)
    with _torch_settings(recipe):
        robots = open_robots(recipe)
        built = assemble(recipe, robots)
        policy, processors = built.policy, built.processors
        if not resume:
            policy.load_pretrained()
        _announce(progress, recipe, built)
        if recipe.gradient_checkpointing and not enable_gradient_checkpointing(policy):
            raise ConfigError(f"recipe: gradient_checkpointing: policy {policy.name} has no blocks to checkpoint.")
        share = cache_bytes_of_frame(recipe, robots)
        windows = [OpenWindows(recipe, policy.config, robot.data, share) for robot in robots]
        text = processors[0].text
        if text is not None:
            text.check_lengths(instruction for own in windows for instruction in own.instructions)
        trainer = build_trainer(recipe, built, windows, progress)
        run = _Run(output, recipe, built, trainer)
        if resume:
            run.restore()
        else:
            run.begin()
        try:
            progress.start(trainer.total_steps, trainer.step)
            trainer.run(run.publish, run.persist)
            run.finish()
            progress.message(f"checkpoint: {output / CHECKPOINT}")
        finally:
            for own in windows:
                own.close()
            progress.finish()
    return output / CHECKPOINT


class _Run:
    """The files of one run."""

    def __init__(self, output: Path, recipe: Recipe, built: Assembled, trainer: Trainer) -> None:
        self.output, self.recipe, self.robots, self.trainer = output, recipe, built.robots, trainer
        self.policy, self.processors = built.policy, built.processors
        self.summaries = {robot.name: robot.data.summary() for robot in self.robots}
        self.dataset = self.summaries[self.robots[0].name]
        self.fingerprint = "+".join(summary["fingerprint"] for summary in self.summaries.values())
        self._picture, self._drawn_s = b"", 0.0

    def begin(self) -> None:
        self.output.mkdir(parents=True, exist_ok=True)
        for name in (RESUME, METRICS, CURVE):
            (self.output / name).unlink(missing_ok=True)
        tidy(self.output / CHECKPOINT)
        (self.output / RECIPE).write_text(self._recipe_text(), encoding="utf-8")

    def restore(self) -> None:
        path = self.output / RESUME
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, pickle.UnpicklingError) as reason:
            raise ConfigError(
                f"{path}: damaged, the run cannot be resumed: {' '.join(str(reason).split())[:200]}"
            ) from reason
        changed = _changed_fields(state["recipe"], to_plain(self.recipe))
        if state["fingerprint"] != self.fingerprint:
            changed.append("the dataset")
        if changed:
            raise ConfigError(f"{path}: the run cannot be resumed, for these changed since: {', '.join(changed)}.")
        tidy(self.output / CHECKPOINT)
        self.trainer.load_state_dict(state["trainer"])
        self.trainer.history = read_history(self.output / METRICS, self.trainer.step)
        (self.output / RECIPE).write_text(self._recipe_text(), encoding="utf-8")

    def publish(self, report: EpochReport, is_best: bool) -> None:
        """Keep an epoch's numbers and, when they are the ones to keep, its weights."""
        write_history(self.output / METRICS, self.trainer.history)
        if not is_best and self.recipe.keep_best:
            return
        metrics = {"train_loss": report.train_loss}
        if report.validation_loss is not None:
            metrics |= {"validation_loss": report.validation_loss, **report.validation_terms}
        metadata = {
            "dataset": self.dataset,
            "epoch": report.epoch,
            "step": report.step,
            "metrics": metrics,
            "action_error": dict(report.action_error),
        }
        extra = {RECIPE: self._recipe_text().encode(), CURVE: self._curve()}
        if len(self.robots) > 1:
            metadata |= self._of_robots(report.action_error)
            for robot, processors in list(zip(self.robots, self.processors, strict=True))[1:]:
                extra |= robot_files(robot.name, processors, robot.data.contract)
        own, contract = self.processors[0], self.robots[0].data.contract
        save_checkpoint(self.output / CHECKPOINT, self.policy, own, contract, metadata, extra_files=extra)

    def _of_robots(self, errors: Mapping[str, float]) -> dict[str, Any]:
        """Return which robot the checkpoint is for, and what each was; `errors` are named ``<robot>/<number>``."""
        robots = {
            robot.name: {
                "contract_hash": robot.data.contract.hash,
                "weight": robot.weight,
                "dataset": self.summaries[robot.name],
                "action_error": {
                    name.removeprefix(f"{robot.name}/"): error
                    for name, error in errors.items()
                    if name.startswith(f"{robot.name}/")
                },
            }
            for robot in self.robots
        }
        own = self.robots[0].name
        return {"robot": own, "action_error": robots[own]["action_error"], "robots": robots}

    def persist(self) -> None:
        """Write the state to resume from, if it is time to."""
        trainer = self.trainer
        is_epoch_end = trainer.step % trainer.steps_per_epoch == 0
        if is_epoch_end and trainer.epoch % self.recipe.save_every_epochs and trainer.step < trainer.total_steps:
            return
        state = {
            "recipe": to_plain(self.recipe),
            "fingerprint": self.fingerprint,
            "trainer": trainer.state_dict(),
        }
        with replacing(self.output / RESUME) as temporary:
            torch.save(state, temporary)
        if self.trainer.history:
            (self.output / CURVE).write_bytes(self._curve())

    def finish(self) -> None:
        """Give the checkpoint, saved at its best epoch, the picture of the whole run."""
        picture = self._curve(fresh=True)
        with replacing(self.output / CURVE) as temporary:
            temporary.write_bytes(picture)
        replace_extra_file(self.output / CHECKPOINT, CURVE, picture)

    def _curve(self, fresh: bool = False) -> bytes:
        """Return the picture so far; drawing takes as long as many small steps, so not at every epoch."""
        if fresh or not self._picture or time.monotonic() - self._drawn_s > REDRAW_AFTER_S:
            title = f"{self.recipe.policy.name} on {self.dataset['name']}"
            self._picture, self._drawn_s = loss_curve(self.trainer.history, title), time.monotonic()
        return self._picture

    def _recipe_text(self) -> str:
        return yaml.safe_dump(to_plain(self.recipe), sort_keys=False, default_flow_style=None, width=120)


def _check_output(output: Path, resume: bool, overwrite: bool) -> None:
    if resume and not (output / RESUME).is_file():
        raise ConfigError(f"{output / RESUME}: no such file; there is no run to resume here.")
    if not resume and not overwrite and (output / METRICS).is_file():
        raise ConfigError(f"{output}: holds a run already; resume it, overwrite it, or choose another output.")


def _announce(progress: TrainingProgress, recipe: Recipe, built: Assembled) -> None:
    robots, policy, processors = built.robots, built.policy, built.processors
    held_out = sum(len(robot.data.validation) for robot in robots)
    progress.message(
        f"{policy.name}: {policy.parameter_counts()['total']:,} parameters on {processors[0].device}; "
        f"{sum(len(robot.data.training) for robot in robots)} episodes to train on, {held_out} to validate"
    )
    if len(robots) > 1:
        total = sum(robot.weight for robot in robots)
        ratios = ", ".join(f"{robot.name} {robot.weight / total:.0%}" for robot in robots)
        progress.message(f"windows by dataset: {ratios}; the checkpoint is for {robots[0].name}")
    if recipe.keep_best and 0 < held_out < FEW_EPISODES:
        progress.message(
            f"keep_best chooses weights by the loss on {held_out} episode{'s' if held_out > 1 else ''}, which is "
            f"mostly chance: set keep_best to false, or hold out {FEW_EPISODES} or more (dataset.validation_fraction)"
        )
    for robot, own in zip(robots, processors, strict=True):
        place = f"{robot.name}: " if len(robots) > 1 else ""
        for number, step in enumerate(own.steps, 1):
            progress.message(f"{place}processor {number}, {step.name}: {step.summary()}")
        for key, names in own.constant.items():
            becomes = _what_becomes(key == own.action.key)
            progress.message(f"{place}{key}: {', '.join(names)} never varied in the data, so {becomes}")


def _what_becomes(is_action: bool) -> str:
    return "commanded as that constant" if is_action else "only centred, not scaled"


@contextmanager
def _torch_settings(recipe: Recipe) -> Iterator[None]:
    """Leave torch's thread count and random state as they were."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng():
        try:
            torch.set_num_threads(recipe.threads or threads)
            yield
        finally:
            torch.set_num_threads(threads)


def _changed_fields(was: Any, now: dict[str, Any]) -> list[str]:
    """Return the fields that differ; those that an older version did not write have their defaults."""
    before = to_plain(read_dataclass(Section(RESUME, "", was, ConfigError), Recipe))
    for recipe in (before, now):
        recipe["dataset"] = {name: value for name, value in recipe["dataset"].items() if name != "cache_gb"}
    return [name for name in now if name not in FREE_ON_RESUME and before[name] != now[name]]
