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
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
import yaml

from vla_ros.checkpoint import replace_extra_file, save_checkpoint
from vla_ros.contract import GOAL_IMAGE, FeatureSpec, RobotContract, contract_differences, load_contract
from vla_ros.data_types import ConfigError, nearest_name
from vla_ros.datasets import EpisodeDataset, WindowSampler, check_fits, split_episodes
from vla_ros.policies import Policy, build_policy, current_policy, policy_class
from vla_ros.processors import Processors
from vla_ros.schema import to_plain
from vla_ros.training.history import EpochReport, loss_curve, read_history, write_history
from vla_ros.training.progress import TrainingProgress, default_progress
from vla_ros.training.recipe import Recipe
from vla_ros.training.trainer import Trainer

CHECKPOINT, RESUME, METRICS, CURVE, RECIPE = "checkpoint", "resume.pt", "metrics.jsonl", "loss_curve.png", "recipe.yaml"
REDRAW_AFTER_S = 15.0

# what may differ between an interrupted run and its continuation
FREE_ON_RESUME = ("output", "epochs", "steps", "device", "threads", "save_every_epochs", "early_stop_epochs")


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
        data = _open_data(recipe)
        processors = Processors(data.inputs, data.action, recipe.normalisation, data.statistics)
        policy = _build(recipe, processors, data.contract)
        if not resume:
            policy.load_pretrained()
        _check_bounds(policy, processors)
        _announce(progress, data, policy, processors)
        trainer = _trainer(recipe, policy, processors, data, progress)
        run = _Run(output, recipe, data, trainer)
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
            progress.finish()
    return output / CHECKPOINT


@dataclass(frozen=True)
class _Data:
    """An open dataset, as far as this recipe uses it."""

    dataset: EpisodeDataset
    contract: RobotContract
    inputs: dict[str, FeatureSpec]
    action: FeatureSpec
    statistics: Mapping[str, Mapping[str, Any]]
    training: tuple[int, ...]
    validation: tuple[int, ...]

    def summary(self) -> dict[str, Any]:
        return {
            "name": self.dataset.root.name,
            "fingerprint": self.dataset.fingerprint(),
            "training_episodes": len(self.training),
            "validation_episodes": len(self.validation),
            "frames": sum(self.dataset.lengths),
        }


class _Run:
    """The files of one run."""

    def __init__(self, output: Path, recipe: Recipe, data: _Data, trainer: Trainer) -> None:
        self.output, self.recipe, self.data, self.trainer = output, recipe, data, trainer
        self.dataset = data.summary()
        self._picture, self._drawn_s = b"", 0.0

    def begin(self) -> None:
        self.output.mkdir(parents=True, exist_ok=True)
        for name in (RESUME, METRICS, CURVE):
            (self.output / name).unlink(missing_ok=True)
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
        if state["fingerprint"] != self.dataset["fingerprint"]:
            changed.append("the dataset")
        if changed:
            raise ConfigError(f"{path}: the run cannot be resumed, for these changed since: {', '.join(changed)}.")
        self.trainer.load_state_dict(state["trainer"])
        self.trainer.history = read_history(self.output / METRICS, self.trainer.step)
        (self.output / RECIPE).write_text(self._recipe_text(), encoding="utf-8")

    def publish(self, report: EpochReport, is_best: bool) -> None:
        """Keep an epoch's numbers and, when they are the ones to keep, its weights."""
        write_history(self.output / METRICS, self.trainer.history)
        if not is_best and self.recipe.keep_best:
            return
        trainer = self.trainer
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
        folder = self.output / CHECKPOINT
        save_checkpoint(folder, trainer.policy, trainer.processors, self.data.contract, metadata, extra_files=extra)

    def persist(self) -> None:
        """Write the state to resume from, if it is time to."""
        trainer = self.trainer
        if trainer.epoch % self.recipe.save_every_epochs and trainer.step < trainer.total_steps:
            return
        state = {
            "recipe": to_plain(self.recipe),
            "fingerprint": self.dataset["fingerprint"],
            "trainer": trainer.state_dict(),
        }
        temporary = self.output / f".{RESUME}"
        torch.save(state, temporary)
        temporary.replace(self.output / RESUME)
        (self.output / CURVE).write_bytes(self._curve())

    def finish(self) -> None:
        """Give the checkpoint, saved at its best epoch, the picture of the whole run."""
        picture = self._curve(fresh=True)
        temporary = self.output / f".{CURVE}"
        temporary.write_bytes(picture)
        temporary.replace(self.output / CURVE)
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


def _open_data(recipe: Recipe) -> _Data:
    dataset = EpisodeDataset(recipe.dataset.root)
    contract = _contract(recipe, dataset)
    features = contract.policy_features
    action = features.pop("action")
    stored = {key: contract.goal.camera if contract.goal and key == GOAL_IMAGE else key for key in features}
    for index, key in enumerate(recipe.inputs):
        if stored.get(key) not in dataset.features:
            known = [name for name, source in stored.items() if source in dataset.features]
            hint = nearest_name(key, known)
            if key == GOAL_IMAGE and contract.goal is None:
                hint = f" {contract.source} has no 'goal': add one, or name a contract that has in dataset.contract."
            raise ConfigError(
                f"recipe: inputs[{index}] '{key}' is not an observation of {dataset.root}: {', '.join(known)}.{hint}"
            )
    training, validation = split_episodes(dataset.n_episodes, recipe.dataset.validation_fraction, recipe.seed)
    inputs = {key: features[key] for key in recipe.inputs}
    # of the training episodes only: validation must not leak into what the policy sees
    statistics = dict(dataset.statistics(training))
    if GOAL_IMAGE in inputs:
        statistics[GOAL_IMAGE] = statistics[stored[GOAL_IMAGE]]  # a frame of that camera, normalised as its others
    return _Data(dataset, contract, inputs, action, statistics, training, validation)


def _contract(recipe: Recipe, dataset: EpisodeDataset) -> RobotContract:
    if not dataset.contract_path.is_file() and recipe.dataset.contract is not None:
        contract = load_contract(recipe.dataset.contract)
        stored = [key for key in recipe.inputs if key in contract.features]
        check_fits(dataset, contract, stored)
        return contract
    own = dataset.contract()
    if recipe.dataset.contract is None:
        return own
    contract = load_contract(recipe.dataset.contract)
    if contract.hash != own.hash:
        differences = "; ".join(contract_differences(own, contract))
        raise ConfigError(
            f"recipe: dataset.contract {recipe.dataset.contract} gives numbers another meaning than those of "
            f"{dataset.root} have: {differences}."
        )
    return contract


def _build(recipe: Recipe, processors: Processors, contract: RobotContract) -> Policy:
    reserved = [name for name in ("inputs", "action") if name in recipe.policy.overrides]
    if reserved:
        raise ConfigError(
            f"recipe: policy option '{reserved[0]}' comes from the recipe's inputs and the data; remove it."
        )
    device = _device(recipe.device)
    torch.manual_seed(recipe.seed)
    config = {**recipe.policy.overrides, "inputs": processors.policy_inputs, "action": processors.action}
    name, config = current_policy(recipe.policy.name, config, "recipe")
    has_goal_camera = any(entry.name == "goal_camera" for entry in fields(policy_class(name).config_class))
    if GOAL_IMAGE in recipe.inputs and contract.goal and contract.goal.camera in recipe.inputs and has_goal_camera:
        config.setdefault("goal_camera", contract.goal.camera)
    policy = build_policy(name, config, f"options of policy {name}")
    processors.use_text(policy.config.text)
    processors.to(device)
    return policy.to(device)


def _check_bounds(policy: Policy, processors: Processors) -> None:
    mode = processors.options.mode(processors.action)
    if policy.config.bounded_actions and mode not in ("min_max", "quantile"):
        raise ConfigError(
            f"normalisation.action '{mode}' leaves actions outside [-1, 1], to which policy {policy.name} is bound; "
            "use min_max, or unbind the policy."
        )


def _trainer(
    recipe: Recipe, policy: Policy, processors: Processors, data: _Data, progress: TrainingProgress
) -> Trainer:
    def windows(episodes: tuple[int, ...]) -> WindowSampler:
        config = policy.config
        steps, horizon = config.n_obs_steps, config.action_horizon
        keys = [key for key in recipe.inputs if key != GOAL_IMAGE]
        goal = data.contract.goal if GOAL_IMAGE in recipe.inputs else None
        return WindowSampler(
            data.dataset,
            episodes,
            keys,
            steps,
            horizon,
            past_action=config.needs_past_action,
            goal_camera=None if goal is None else goal.camera,
            shapes={key: data.contract.features[key].shape for key in (*keys, "action")},
        )

    validation = windows(data.validation) if data.validation else None
    return Trainer(
        recipe, policy, processors, training=windows(data.training), validation=validation, progress=progress
    )


def _announce(progress: TrainingProgress, data: _Data, policy: Policy, processors: Processors) -> None:
    progress.message(
        f"{policy.name}: {policy.parameter_counts()['total']:,} parameters on {processors.device}; "
        f"{len(data.training)} episodes to train on, {len(data.validation)} to validate"
    )
    for key, names in processors.constant.items():
        progress.message(
            f"{key}: {', '.join(names)} never varied in the data, so {_what_becomes(key == processors.action.key)}"
        )


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


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as reason:
        raise ConfigError(f"recipe: device '{name}' cannot be used: {str(reason).splitlines()[0]}") from reason
    return device


def _changed_fields(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [name for name in now if name not in FREE_ON_RESUME and was.get(name) != now[name]]
