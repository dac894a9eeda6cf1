"""One declaration of every configuration file's fields, and what comes out of it. No ROS, no torch.

A configuration is a frozen dataclass whose fields are ``Annotated[type, About(description, …)]``. From that alone come
the checks with their sentences, the tables in docs/ and JSON schemas for editors; pydantic judges each value.
"""

from vla_ros.schema.about import About, Checked, Named, Only, SchemaField, fields_of, file_form, file_form_of
from vla_ros.schema.reading import ABSENT, REQUIRED, Context, Narrow, given, read_dataclass, read_fields, to_plain
from vla_ros.schema.section import Section
from vla_ros.schema.yaml_file import load_yaml, parse_yaml

__all__ = [
    "ABSENT",
    "REQUIRED",
    "About",
    "Checked",
    "Context",
    "Named",
    "Narrow",
    "Only",
    "SchemaField",
    "Section",
    "fields_of",
    "file_form",
    "file_form_of",
    "given",
    "load_yaml",
    "parse_yaml",
    "read_dataclass",
    "read_fields",
    "to_plain",
]
