"""Work for the workers of a Dask scheduler that runs already."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from fvv.config import ClusterConfig
from fvv.errors import ConfigError, FvvError

if TYPE_CHECKING:
    from distributed import Future

Item = TypeVar("Item")
Result = TypeVar("Result")
_one_at_a_time = threading.Lock()


def on_dask(
    work: Callable[[Item], Result], items: Sequence[Item], settings: ClusterConfig
) -> Iterator[tuple[Item, Result | FvvError]]:
    """Yield each item with its result as they come; Dask itself gives an item to another worker where one dies.

    Dask blames a death on every item that this worker had, those that only waited there included. So an item that it
    gives up is done again after all others, with nothing beside it: then the blame is its own.

    Args:
        work: picklable; raises nothing but what ends the work.
        items: picklable.
        settings: `engine` is the address of the scheduler.

    Raises:
        ConfigError: no scheduler answers there, or its workers do not run one task at a time.
        FvvError: the scheduler went away.
    """
    from distributed import Client, KilledWorker, as_completed  # noqa: PLC0415

    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # What matters comes as an error, without a traceback.
    address = settings.engine.removeprefix("dask://")
    try:
        client = Client(f"tcp://{address}", set_as_default=False)
    except OSError as error:
        raise ConfigError(f"no Dask scheduler answers at {address}", hint="start one with `dask scheduler`") from error
    with client:
        threads = client.nthreads().values()
        if any(number > 1 for number in threads):
            raise ConfigError("Dask workers have several threads", hint="start them with `dask worker --nthreads 1`")
        submit = partial(client.submit, partial(_in_folder, Path.cwd(), work), pure=False)
        waiting = iter(items)
        # One more for each worker than it works on, whatever their number: results never pile up in memory.
        busy = {submit(item): item for item in islice(waiting, 2 * max(1, len(threads)))}
        done = as_completed(list(busy), loop=client.loop)
        given_up = []
        try:
            for future in done:
                item = busy.pop(future)
                if isinstance(future.exception(), KilledWorker):
                    given_up.append(item)
                else:
                    yield item, _outcome(future)
                for following in islice(waiting, 1):
                    busy[future := submit(following)] = following
                    done.add(future)
            for item in given_up:
                alone = submit(item)
                busy = {alone: item}
                yield item, _outcome(alone)
        except CancelledError as error:
            hint = "what is finished is kept: the same command continues"
            raise FvvError(f"the Dask scheduler at {address} has gone", hint=hint) from error
        finally:
            client.cancel(list(busy), force=True)


def _outcome(future: Future[Any]) -> Any | FvvError:
    lost = future.exception()
    return future.result() if lost is None else FvvError(f"Dask gave it up: {lost}")


def _in_folder(folder: Path, work: Callable[[Item], Result], item: Item) -> Result:
    with _one_at_a_time:  # A worker that came later may have several threads.
        os.chdir(folder)  # Relative paths are those of the driver.
        return work(item)
