"""The base of every model that crosses a wire."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import InitErrorDetails, PydanticCustomError, to_json


class ApiModel(BaseModel):
    """camelCase on the wire, snake_case in Python, frozen; unknown fields are refused."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
    )

    def to_wire(self) -> dict[str, Any]:
        """Return the JSON form: camelCase, absent values left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    @classmethod
    def from_wire(cls, data: Any) -> Self:
        """Parse the JSON form, as strictly as an API server with the schema of `crd.py` would: `"2"` is no number.

        Raises:
            pydantic.ValidationError: a field is unknown, missing or of the wrong type, or `data` is no JSON.
        """
        try:
            text = to_json(data)
        except ValueError as error:  # nested without end, or bytes that are no text
            problem = PydanticCustomError("no_json", "cannot be written as JSON: {why}", {"why": str(error)})
            raise ValidationError.from_exception_data(
                cls.__name__, [InitErrorDetails(type=problem, loc=(), input=None)]
            ) from error
        return cls.model_validate_json(text, strict=True)
