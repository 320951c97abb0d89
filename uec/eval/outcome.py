"""From what every model answered to the report: the parts of the set, and what has to be said about the figures."""

from collections.abc import Sequence
from pathlib import Path

from uec.eval.figures import by_difficulty, measure_parts, measures
from uec.eval.fingerprint import of_settings
from uec.eval.predictions import Predictions
from uec.eval.report import Report, plural
from uec.eval.settings import Candidate
from uec.rewards.graders import extractor
from uec.rewards.reward_function import list_names
from uec.types import Prompt


def make_report(
    candidates: Sequence[Candidate], prompts: Sequence[list[Prompt]], found: Sequence[Predictions], by: list[tuple[str, list[int]]] | None
) -> Report:
    """`prompts` and `found` are each model's. `by`: parts of the set; none: by difficulty for the first model."""
    cfg, first = candidates[0].cfg, candidates[0].target.label
    votes = extractor(cfg.reward.fn) is not None
    asked = [{prompt.index for prompt in own} for own in prompts]
    groups = [{index: group for index, group in one.groups.items() if index in own} for one, own in zip(found, asked, strict=True)]
    k = sorted(set(cfg.eval.k))
    parts = [("all", sorted(set().union(*asked))), *(by if by is not None else by_difficulty(groups[0]))]
    notes = ["[ , ]: 95 % interval, by bootstrap over prompts"]
    if len(candidates) > 1:
        notes[0] += "; of a difference: over pairs, the same prompts for both models"
    if by is None:
        notes.append(f"difficulty: how many of a prompt's {cfg.eval.n} responses {first} has right")
    if not votes and max(k) > 1:
        names = ", ".join(Path(name).name for name in list_names(cfg.reward.fn))
        notes.append(f"majority@k is not defined for reward.fn={names}: of the graders only boxed and exact compare one extracted answer")
    for candidate, own in zip(candidates[1:], asked[1:], strict=True):
        if own != asked[0]:
            shared = plural(len(own & asked[0]), "prompt")
            notes.append(f"{candidate.target.label} and {first} share {shared}, which their difference is of; others were too long for one")
    data = Path(cfg.data.eval or "").name
    return Report(
        title=f"{plural(len(asked[0]), 'prompt')} of {data}, {cfg.eval.n} responses each at temperature {cfg.eval.temperature:g}",
        models=[candidate.target.label for candidate in candidates],
        parts=measure_parts(groups, parts, measures(groups, k, votes)),
        notes=notes,
        settings={**of_settings(cfg), "data": data, "models": [one.target.given for one in candidates]},
    )
