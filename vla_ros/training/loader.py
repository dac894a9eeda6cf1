"""Prepares the batches of coming steps in threads, in the order of the steps.

Threads and not processes: decoding leaves Python's lock alone, so two threads decode as fast as two processes, and they
share open files and the cache. What a batch is depends on its step alone, so the number of threads changes no result.
"""

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

AHEAD = 2
"""Batches prepared ahead by each thread."""


def prepared(make: Callable[[int], T], first: int, last: int, workers: int) -> Generator[T, None, None]:
    """Yield ``make(step)`` for the steps from `first` to below `last`, in order.

    Args:
        make: Makes the batch of a step; called by several threads at once, its errors are raised here.
        first: First step.
        last: The step after the last one.
        workers: Threads; 0 makes each batch when it is asked for.
    """
    if workers == 0:
        yield from map(make, range(first, last))
        return
    executor = ThreadPoolExecutor(workers, thread_name_prefix="windows")
    waiting: deque[Future[T]] = deque()
    try:
        coming = iter(range(first, last))
        for step in coming:
            waiting.append(executor.submit(make, step))
            if len(waiting) >= workers * AHEAD:
                break
        while waiting:
            batch = waiting.popleft().result()
            step_after = next(coming, None)
            if step_after is not None:
                waiting.append(executor.submit(make, step_after))
            yield batch
    finally:
        for future in waiting:
            future.cancel()
        executor.shutdown(wait=True)
