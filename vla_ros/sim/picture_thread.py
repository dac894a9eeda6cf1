"""A thread that makes pictures: an OpenGL context belongs to the thread that made it. Knows no simulator."""

import threading
from collections.abc import Callable


class PictureThread:
    """Does one job at a time in a thread of its own."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._job: Callable[[], None] | None = None
        self._error: BaseException | None = None
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="rendering", daemon=True)
        self._thread.start()

    def submit(self, job: Callable[[], None]) -> None:
        """Begin a job, once the one before is done; what it reads must not change until `wait_idle` returns."""
        self.wait_idle()
        with self._changed:
            self._job = job
            self._changed.notify_all()

    def wait_idle(self) -> None:
        """Return when no job is left.

        Raises:
            BaseException: What the last job raised.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._job is None)
            error, self._error = self._error, None
        if error is not None:
            raise error

    def do(self, job: Callable[[], None]) -> None:
        """Do a job and return when it is done; raises what it raised."""
        self.submit(job)
        self.wait_idle()

    def close(self) -> None:
        """Finish the job in progress and end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or self._job is not None)
                job = self._job
            if job is None:
                return
            try:
                job()
            except BaseException as error:  # noqa: BLE001 (handed to whoever waits, who raises it)
                self._error = error
            with self._changed:
                self._job = None
                self._changed.notify_all()
