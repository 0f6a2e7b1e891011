"""The gate's rules."""

from __future__ import annotations

from codelupe_events import Reason
from codelupe_trainer.jobs import Compared
from codelupe_trainer.settings import GateSettings


def objections(compared: Compared, settings: GateSettings) -> tuple[Reason, ...]:
    """Why the candidate may not replace the model in use; nothing if it may."""
    current, candidate = compared.current, compared.candidate
    if current is None or candidate is None:
        return (Reason(rule="held-out-repositories", detail="no held-out repository to compare on"),)
    reasons = []
    improvement = current.loss - candidate.loss
    if not improvement >= settings.min_improvement:
        reasons.append(
            Reason(
                rule="held-out-loss",
                detail=f"{candidate.loss:.4f} is not at least {settings.min_improvement:g} below {current.loss:.4f}",
            )
        )
    drop = current.edit_similarity - candidate.edit_similarity
    if not drop <= settings.max_similarity_drop:
        reasons.append(
            Reason(
                rule="edit-similarity",
                detail=f"{candidate.edit_similarity:.3f} is more than {settings.max_similarity_drop:g} "
                f"below {current.edit_similarity:.3f}",
            )
        )
    return tuple(reasons)
