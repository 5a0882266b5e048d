"""Write the published JSON Schemas anew: `python docs/schema/generate.py`. A test fails while they are stale."""

from __future__ import annotations

import json
from pathlib import Path

from omniperf.results import certificate
from omniperf.results.schema import SCHEMA, Result
from omniperf.sweep import spec as sweep
from omniperf.tasks.load import published_schema


def schemas() -> dict[str, str]:
    """Return the text of each published file by its name."""
    dialect = "https://json-schema.org/draft/2020-12/schema"
    result = {"$schema": dialect, "$id": SCHEMA, **Result.model_json_schema(by_alias=True, mode="serialization")}
    certified = certificate.Certificate.model_json_schema(by_alias=True, mode="serialization")
    published = {
        "task.v1.json": published_schema(),
        "result.v1.json": result,
        "sweep.v1.json": {"$schema": dialect, "$id": sweep.SCHEMA, **sweep.Sweep.model_json_schema(by_alias=True)},
        "certificate.v1.json": {"$schema": dialect, "$id": certificate.SCHEMA, **certified},
    }
    return {name: json.dumps(schema, indent=2, ensure_ascii=False) + "\n" for name, schema in published.items()}


if __name__ == "__main__":
    for name, text in schemas().items():
        (Path(__file__).parent / name).write_text(text, encoding="utf-8")
