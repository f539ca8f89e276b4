"""Kubernetes' own JSON schemas, of several versions, each read once."""

from functools import cache
from typing import Any

import kubernetes_validate.utils as schemas
import referencing
from jsonschema import Draft202012Validator


@cache
def _definitions(version: str) -> Any:
    return referencing.Resource.from_contents(
        schemas.schema_contents(f"kubernetes-json-schema/v{version}.0-local-strict/_definitions.json", version)
    )


@cache
def _validator(kind: str, api_version: str, version: str) -> Draft202012Validator:
    group, _, rest = api_version.rpartition("/")
    name = f"{group.partition('.')[0]}-{rest}" if group else rest
    schema = schemas.schema_contents(
        f"kubernetes-json-schema/v{version}.0-local-strict/{kind.lower()}-{name}.json", version
    )
    registry = referencing.Resource.from_contents(schema) @ (_definitions(version) @ referencing.Registry())
    return Draft202012Validator(schema, registry=registry)


def check_schema(value: dict[str, Any], version: str) -> str:
    """Why an object is not valid; empty where it is."""
    errors = _validator(value["kind"], value["apiVersion"], version).iter_errors(value)
    return "; ".join(f"{value['kind']}: {'.'.join(map(str, error.path))}: {error.message[:200]}" for error in errors)
