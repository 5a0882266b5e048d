"""`predictions.jsonl`, as SWE-bench and GSO read it."""

from __future__ import annotations


def prediction(instance_id: str, model_name_or_path: str, model_patch: bytes) -> dict[str, str]:
    """Return one record of `predictions.jsonl`.

    Their readers know a patch by its task and its model, so each of several attempts needs a name of its own there.
    They take text, so a patch that is not UTF-8 loses those bytes here; `model_patch.diff` keeps them.
    """
    return {
        "instance_id": instance_id,
        "model_name_or_path": model_name_or_path,
        "model_patch": model_patch.decode("utf-8", errors="replace"),
    }
