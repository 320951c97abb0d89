"""How much a step gives the learners to do: what of its responses is trained on, and how long prompts are."""

from dataclasses import dataclass

from uec.config.schema import Config


@dataclass(frozen=True, slots=True)
class Load:
    """Of what is sampled."""

    prompt: float  # tokens of one
    kept: float  # share of regular responses
    explored: float  # share of all exploration responses that there could be

    def responses(self, cfg: Config) -> float:
        """To a prompt."""
        regular = cfg.rollout.n * cfg.rollout.rounds * (1.0 if cfg.retention.min_abs_advantage is None else self.kept)
        return regular + (cfg.exploration.n * self.explored if cfg.exploration.enabled else 0)

    def tokens(self, cfg: Config, packed: bool) -> float:
        """Of a rank's share of an optimizer step. `packed`: responses to one prompt share it."""
        responses = self.responses(cfg)
        prompts = self.prompt * (1 if packed else responses)
        step = cfg.train.prompts_per_step * (responses * cfg.rollout.max_tokens + prompts)
        return step / (cfg.learner.ranks * cfg.learner.optimizer_steps)


def most(prompt: float) -> Load:
    """Every prompt is difficult, every response is as long as it may be, and all of them are kept. `prompt`: tokens of the longest."""
    return Load(prompt, 1.0, 1.0)


def usual(prompt: float) -> Load:
    """Half of the regular responses are kept, and one in 16 of those to the quarter of prompts that is difficult, as in the default runs.

    Responses still are as long as they may be. `prompt`: tokens of one on average.
    """
    return Load(prompt, 0.5, 1 / 64)
