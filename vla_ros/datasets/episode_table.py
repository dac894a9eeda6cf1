"""The table of episodes under ``meta/episodes``: a row each, with the statistics of every column."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from vla_ros.contract import FeatureSpec
from vla_ros.datasets.layout import EPISODES_PATH, INDEX_FEATURES
from vla_ros.datasets.statistics import Statistics, stored_form
from vla_ros.datasets.tables import RollingTable


def column_spec(key: str, features: Mapping[str, FeatureSpec]) -> FeatureSpec:
    """Return a feature, or a column that every dataset has described as one."""
    return features.get(key) or FeatureSpec(key, "vector", (1,), INDEX_FEATURES[key], (key,))


class EpisodeTable:
    """Writes the rows; the columns are those of the first one.

    Args:
        root: Folder of the dataset.
        features: Of the dataset.
        limit_bytes: Size at which files roll.
        first_number: Running number of the first file.
    """

    def __init__(self, root: Path, features: Mapping[str, FeatureSpec], limit_bytes: int, first_number: int) -> None:
        self._root, self._features = root, features
        self._limit, self._first_number = limit_bytes, first_number
        self._table: RollingTable | None = None

    def write(self, row: Mapping[str, Any], statistics: Mapping[str, Statistics]) -> None:
        """Append an episode's row; the columns that say where the row itself lies are added."""
        full = {**row, "meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0}
        for key, values in statistics.items():
            stored = stored_form(values, column_spec(key, self._features))
            full |= {f"stats/{key}/{name}": value for name, value in stored.items()}
        schema = pa.schema([(name, _column_type(name, value)) for name, value in full.items()])
        if self._table is None:
            self._table = RollingTable(self._root, EPISODES_PATH, schema, self._limit, self._first_number)
        address = self._table.address_for(pa.Table.from_pylist([full], schema=schema).nbytes)
        full |= {"meta/episodes/chunk_index": address.chunk_index, "meta/episodes/file_index": address.file_index}
        self._table.write(pa.Table.from_pylist([full], schema=schema))

    def close(self) -> None:
        """Finish the file that is open, if one is."""
        if self._table is not None:
            self._table.close()


def _column_type(name: str, value: object) -> Any:
    if name == "tasks":
        return pa.list_(pa.string())
    if name.startswith("stats/"):
        kind = pa.int64() if name.endswith("/count") else pa.float64()
        while isinstance(value, list):
            kind, value = pa.list_(kind), value[0]
        return kind
    return pa.float64() if isinstance(value, float) else pa.int64()
