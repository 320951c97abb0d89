"""How many tokens a step gives the learners: prompt lengths, and the share of responses that is trained on."""

from dataclasses import dataclass

from uec.config.schema import Config


@dataclass(frozen=True, slots=True)
class Workload:
    """An assumption about the rollouts of a step."""

    prompt: float  # tokens of one prompt
    kept: float  # share of the regular responses that retention keeps
    explored: float  # share of all possible exploration responses that is trained on

    def responses(self, cfg: Config) -> float:
        """Return the trained responses per prompt."""
        regular = cfg.rollout.n * cfg.rollout.rounds * (1.0 if cfg.retention.min_abs_advantage is None else self.kept)
        return regular + (cfg.exploration.n * self.explored if cfg.exploration.enabled else 0)

    def tokens(self, cfg: Config, packed: bool) -> float:
        """Return the tokens of a rank's share of an optimizer step. `packed`: responses to one prompt share its tokens."""
        responses = self.responses(cfg)
        prompts = self.prompt * (1 if packed else responses)
        step = cfg.train.prompts_per_step * (responses * cfg.rollout.max_tokens + prompts)
        return step / (cfg.learner.ranks * cfg.learner.optimizer_steps)


def worst_case(prompt: float) -> Workload:
    """Assume that every prompt is difficult and every response is of full length and kept. `prompt`: tokens of the longest prompt."""
    return Workload(prompt, 1.0, 1.0)


def typical(prompt: float) -> Workload:
    """Assume what the default runs show: half of the regular responses are kept, a quarter of the prompts is difficult, and one in 16
    of their exploration responses is trained on.

    Responses are still of full length. `prompt`: mean tokens of a prompt.
    """
    return Workload(prompt, 0.5, 1 / 64)
