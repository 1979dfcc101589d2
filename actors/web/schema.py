"""The OpenAPI document: Litestar's own of the routes, with the bodies that the rules read themselves."""

from __future__ import annotations

from typing import Any

import msgspec

from messages.intent import Intent
from messages.orders import ModifyBracket, OperatorCommand

REFUSAL = {
    "type": "object",
    "required": ["code", "field", "sentence"],
    "properties": {
        "code": {"type": "string", "description": "a stable word"},
        "field": {"type": ["string", "null"]},
        "sentence": {"type": "string", "description": "field, value and rule, for a person"},
    },
}


def changes() -> dict[str, Any]:
    """Return the fields of a `modify`: those of ModifyBracket that are not of its envelope."""
    envelope = OperatorCommand.__struct_fields__
    number = {"type": ["string", "number", "null"], "format": "decimal"}
    own = {name: number for name in ModifyBracket.__struct_fields__ if name not in envelope}
    return {**own, "tranche": {"type": "integer", "minimum": 1}}


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """Add the request bodies, the refusals and the token to a document."""
    template = "#/components/schemas/{name}"
    _, intents = msgspec.json.schema_components((Intent,), ref_template=template)
    components = document.setdefault("components", {})
    change = {"type": "object", "additionalProperties": False, "properties": changes()}
    components["schemas"] = {**components.get("schemas", {}), **intents, "Change": change, "Refusal": REFUSAL}
    components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    refusal = {"application/json": {"schema": {"$ref": template.format(name="Refusal")}}}
    for path, methods in document.get("paths", {}).items():
        for method, operation in methods.items():
            if method not in ("get", "post", "patch"):
                continue
            responses = operation.setdefault("responses", {})
            responses.pop("400", None)
            responses["4XX"] = {"description": "refused, in one sentence", "content": refusal}
            responses["503"] = {"description": "the engine cannot be asked now", "content": refusal}
            if method == "get":
                continue
            operation["security"] = [{"token": []}]
            name = {"/v1/intents": "Intent"}.get(path) or ("Change" if method == "patch" else None)
            if name:
                content = {"application/json": {"schema": {"$ref": template.format(name=name)}}}
                operation["requestBody"] = {"required": True, "content": content}
    return document
