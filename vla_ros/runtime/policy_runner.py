"""A predictor over the ticks of one robot: frames in, action chunks out, episode after episode. No clock, no ROS."""

import threading
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_ros.data_types import NANOSECONDS, ActionChunk, Frame, Observation
from vla_ros.runtime.observation_history import ObservationHistory
from vla_ros.runtime.predictor import Predictor


@dataclass(frozen=True)
class Question:
    """What a prediction is asked for.

    Attributes:
        observation: The newest frames.
        is_known: bool [T], frames that the last prediction of this episode has seen.
        begins_episode: Whether the predictor's state is to be forgotten first.
    """

    observation: Observation
    is_known: NDArray[np.bool_]
    begins_episode: bool


class PolicyRunner:
    """The history of an episode and the predictor that decides on it.

    One thread may `observe` and any thread `reset` while another one is inside `answer`.

    Args:
        predictor: The policy.
        fps: Ticks per second.
        first_chunk_id: Number of the first prediction.

    Attributes:
        predictor: As given, or as last exchanged.
        next_chunk_id: Number that the next prediction gets.
    """

    def __init__(self, predictor: Predictor, fps: int, first_chunk_id: int = 1) -> None:
        self._fps = fps
        self._lock = threading.Lock()
        self.next_chunk_id = first_chunk_id
        self.exchange(predictor)

    def exchange(self, predictor: Predictor) -> None:
        """Go on with another policy; its episode begins now. The count of predictions goes on."""
        spec = predictor.spec
        with self._lock:
            self.predictor = predictor
            self._history = ObservationHistory(spec.n_obs_steps, self._fps, spec.needed_keys, spec.optional_keys)
            self._begins, self._n_new = True, 0

    def reset(self) -> None:
        """Begin an episode: forget frames and policy state. The count of predictions goes on."""
        with self._lock:
            self._history.clear()
            self._begins, self._n_new = True, 0

    def observe(self, frame: Frame) -> None:
        """Take in the frame of the next tick; see `ObservationHistory.push` for what a gap does.

        Raises:
            ObservationError: The frame lacks inputs of the policy.
            ValueError: The frame is not later than the last one.
        """
        with self._lock:
            self._history.push(frame)
            self._n_new += 1

    def question(self) -> Question:
        """Return what the next prediction is to decide on: the frames observed so far.

        Raises:
            ObservationError: Nothing was observed yet.
        """
        with self._lock:
            observation = self._history.observation()
            # a tick may pass without a prediction; a memory that did not hear of it would fall behind
            n_steps = len(observation.is_pad)
            is_known = np.arange(n_steps) < n_steps - self._n_new
            question = Question(observation, is_known, self._begins)
            self._begins, self._n_new = False, 0
        return question

    def answer(self, question: Question) -> ActionChunk:
        """Predict.

        Returns:
            Actions in the contract's units; step 0 is due at the newest frame's stamp. ``inference_ns`` is 0: the
            caller has the clock.

        Raises:
            UserError: As `Predictor.predict`.
        """
        predictor = self.predictor
        if question.begins_episode:
            predictor.begin_episode()
        actions_HA = predictor.predict(question.observation, question.is_known)
        with self._lock:
            chunk_id, self.next_chunk_id = self.next_chunk_id, self.next_chunk_id + 1
        return ActionChunk(actions_HA, question.observation.stamp_ns, NANOSECONDS // self._fps, chunk_id)

    def predict(self) -> ActionChunk:
        """Decide on the frames observed so far: `question` and `answer` in one."""
        return self.answer(self.question())
