"""What a class says of its attributes, in the text below each, for JSON Schemas.

pydantic can do this itself (`use_attribute_docstrings`), but reads the source of every model each
time labctl starts; the schemas are made once, by a developer.
"""

import ast
import inspect
import re
import textwrap
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema


def attribute_docs(of: type) -> dict[str, str]:
    """{attribute: the text below it}, in one line; those of its parents as well."""
    found: dict[str, str] = {}
    # A TypedDict has its parents there; its MRO knows only dict.
    parents = getattr(of, "__orig_bases__", None) or of.__bases__
    for parent in parents:
        if isinstance(parent, type) and parent not in (object, dict, BaseModel):
            found |= attribute_docs(parent)
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(of))).body
    assert isinstance(body, ast.ClassDef)
    for field, comment in zip(body.body, body.body[1:], strict=False):
        match field, comment:
            case (
                ast.AnnAssign(target=ast.Name(name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                found[name] = " ".join(re.sub(r"\bNone\b", "null", text).split())
    return found


class DocumentedModels(GenerateJsonSchema):
    """The schema of models, with what they say of their fields."""

    def model_schema(self, schema: Any) -> dict[str, Any]:
        """With the descriptions of its fields."""
        made: dict[str, Any] = super().model_schema(schema)
        docs = attribute_docs(schema["cls"])
        for name, field in schema["cls"].model_fields.items():
            if name in docs:
                made["properties"][field.alias or name]["description"] = docs[name]
        return made
