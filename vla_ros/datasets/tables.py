"""Parquet: the schemas of the format, columns to and from arrays, files that roll at a size.

Row groups are episodes. pandas is not needed: the index that it would store is described in the schema here.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vla_ros.contract import FeatureSpec
from vla_ros.data_types import DatasetError
from vla_ros.datasets.images import decode_image
from vla_ros.datasets.layout import INDEX_FEATURES, FileAddress, flat_size

IMAGE_TYPE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def data_schema(features: Mapping[str, FeatureSpec], images: bool) -> Any:
    """Return the schema of a data file; image columns exist only where images are stored as PNG."""
    fields = []
    for key, spec in features.items():
        if spec.kind == "image":
            if images:
                fields.append(pa.field(key, IMAGE_TYPE))
        else:
            fields.append(pa.field(key, _number_type(spec)))
    return pa.schema(fields + [pa.field(key, pa.from_numpy_dtype(dtype)) for key, dtype in INDEX_FEATURES.items()])


def _number_type(spec: FeatureSpec) -> Any:
    item = pa.from_numpy_dtype(np.dtype(spec.dtype))
    return item if flat_size(spec) == 1 else pa.list_(item, flat_size(spec))


def number_column(values: NDArray[Any], spec: FeatureSpec) -> Any:
    """Return the column of a feature's values [L, ...]: scalars for one number, fixed-size lists for more."""
    flat = pa.array(np.ascontiguousarray(values, np.dtype(spec.dtype)).reshape(-1))
    return flat if flat_size(spec) == 1 else pa.FixedSizeListArray.from_arrays(flat, flat_size(spec))


def image_column(pictures: Sequence[bytes], first: int = 0) -> Any:
    """Return the column of images already encoded as PNG; `first` is the number of the first one's frame."""
    paths = pa.array([f"frame-{first + index:06d}.png" for index in range(len(pictures))], pa.string())
    return pa.StructArray.from_arrays([pa.array(pictures, pa.binary()), paths], fields=list(IMAGE_TYPE))


def values_of(column: Any, spec: FeatureSpec, source: Path) -> NDArray[Any]:
    """Return a column's values as [L, ...] in the feature's true shape.

    Raises:
        DatasetError: The column holds something else than ``info.json`` says.
    """
    column = column.combine_chunks()
    if spec.kind == "image":
        images = [
            decode_image(data or b"", f"{source}: {spec.key}") for data in pc.struct_field(column, "bytes").to_pylist()
        ]
        return np.stack(images)
    if column.null_count:
        raise DatasetError(f"{source}: column '{spec.key}' has {column.null_count} empty rows.")
    flat = _flattened(column, spec, source).to_numpy(zero_copy_only=False)
    if flat.size != len(column) * flat_size(spec) or flat.dtype.kind not in "bfiu":
        raise DatasetError(
            f"{source}: column '{spec.key}' has {flat.size / max(1, len(column)):g} numbers a row, "
            f"info.json says {flat_size(spec)}."
        )
    values: NDArray[Any] = flat.astype(np.dtype(spec.dtype)).reshape(len(column), *spec.shape)
    return values


_IS_LIST = (pa.types.is_fixed_size_list, pa.types.is_list, pa.types.is_large_list)


def _flattened(column: Any, spec: FeatureSpec, source: Path) -> Any:
    """Return the numbers of lists, of lists of lists and so on, one after the other; none may be missing."""
    while any(is_list(column.type) for is_list in _IS_LIST):
        lengths = pc.unique(pc.list_value_length(column))
        if column.null_count or len(lengths) > 1:
            raise DatasetError(f"{source}: column '{spec.key}' has rows of several lengths, {lengths.to_pylist()[:5]}.")
        column = column.flatten()
    if column.null_count:
        raise DatasetError(f"{source}: column '{spec.key}' has {column.null_count} empty values.")
    return column


class RollingTable:
    """Writes tables, one row group each, into numbered files that a size limit separates.

    Args:
        root: Folder of the dataset.
        pattern: Path pattern of the files.
        schema: Of every table.
        limit_bytes: A file that a table would take beyond this is closed, and the next begun.
        first_number: Running number of the first file.
    """

    def __init__(self, root: Path, pattern: str, schema: Any, limit_bytes: int, first_number: int = 0) -> None:
        self._root, self._pattern, self._schema, self._limit = root, pattern, schema, limit_bytes
        self._address = FileAddress.of(first_number)
        self._sink: Any = None
        self._writer: Any = None

    def address_for(self, nbytes: int) -> FileAddress:
        """Return the file that a table of this size goes into, rolling on first if it would be too large."""
        if self._writer is not None and self._sink.tell() + nbytes > self._limit:
            self.close()
            self._address = FileAddress.of(self._address.number + 1)
        return self._address

    def write(self, table: Any) -> None:
        """Append one table, as a row group, to the file that `address_for` gave."""
        if self._writer is None:
            path = self._address.path(self._root, self._pattern)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._sink = path.open("wb")
            self._writer = pq.ParquetWriter(self._sink, self._schema, write_page_checksum=True)
        self._writer.write_table(table, row_group_size=max(1, table.num_rows))

    def close(self) -> None:
        """Finish the file that is open, if one is."""
        if self._writer is not None:
            self._writer.close()
            self._sink.close()
            self._writer = self._sink = None


def write_tasks(path: Path, tasks: Sequence[str]) -> None:
    """Write ``tasks.parquet``: task_index, with the task string as the pandas index.

    Readers take the task from the index; without this description of it they read "1", "2", … instead.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    schema = pa.schema([("task_index", pa.int64()), ("task", pa.string())])
    columns = {"task_index": list(range(len(tasks))), "task": list(tasks)}
    table = pa.table(columns, schema=schema.with_metadata({"pandas": json.dumps(_pandas_description())}))
    pq.write_table(table, path, write_page_checksum=True)


def _pandas_description() -> dict[str, Any]:
    """What pandas 2 itself writes for ``DataFrame({"task_index": …}, index=Index(…, name="task"))``."""
    text = {"pandas_type": "unicode", "numpy_type": "object"}
    return {
        "index_columns": ["task"],
        "column_indexes": [{"name": None, "field_name": None, **text, "metadata": {"encoding": "UTF-8"}}],
        "columns": [
            {
                "name": "task_index",
                "field_name": "task_index",
                "pandas_type": "int64",
                "numpy_type": "int64",
                "metadata": None,
            },
            {"name": "task", "field_name": "task", **text, "metadata": None},
        ],
        "attributes": {},
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.2.3",
    }


def read_tasks(path: Path) -> list[str]:
    """Return the task strings in the order of their indices.

    Raises:
        DatasetError: The file is missing, or does not say which column is the index.
    """
    table = read_table(path)
    try:
        description = json.loads((table.schema.metadata or {}).get(b"pandas", b"{}"))
        index = [name for name in description.get("index_columns", []) if isinstance(name, str)]
    except (ValueError, RecursionError, AttributeError, TypeError) as reason:
        raise DatasetError(f"{path}: its description of the pandas index is not readable.") from reason
    if "task_index" not in table.column_names or len(index) != 1 or index[0] not in table.column_names:
        raise DatasetError(
            f"{path}: needs a column task_index and the task as its pandas index, has {', '.join(table.column_names)}."
        )
    numbers, tasks = table["task_index"].to_pylist(), table[index[0]].to_pylist()
    if sorted(number for number in numbers if isinstance(number, int)) != list(range(len(numbers))):
        raise DatasetError(f"{path}: task_index must count from 0 without gaps, got {str(numbers)[:80]}.")
    if not all(isinstance(task, str) for task in tasks):
        raise DatasetError(f"{path}: the tasks must be texts.")
    return [task for _, task in sorted(zip(numbers, tasks, strict=True))]


def column_names(path: Path) -> list[str]:
    """Return the names of a parquet file's columns.

    Raises:
        DatasetError: The file is missing or no parquet.
    """
    try:
        return list(pq.read_schema(path).names)
    except (pa.ArrowException, OSError, ValueError) as reason:
        raise _unreadable(path, reason) from reason


def _unreadable(path: Path, reason: Exception) -> DatasetError:
    return DatasetError(f"{path}: not readable as parquet: {' '.join(str(reason).split())[:200]}")


def read_table(path: Path, columns: Sequence[str] | None = None, **options: Any) -> Any:
    """Read a parquet file.

    Raises:
        DatasetError: The file is missing, no parquet, or lacks a column.
    """
    if not path.is_file():
        raise DatasetError(f"{path}: no such file; the dataset is incomplete or this is no LeRobotDataset.")
    try:
        if options:
            table = pq.read_table(path, columns=columns, page_checksum_verification=True, **options)
        else:
            table = pq.ParquetFile(path, page_checksum_verification=True).read(columns)
    except (pa.ArrowException, OSError, ValueError) as reason:
        raise _unreadable(path, reason) from reason
    missing = [name for name in columns or () if name not in table.column_names]
    if missing:
        raise DatasetError(f"{path}: lacks the column '{missing[0]}'.")
    return table
