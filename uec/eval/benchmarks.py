"""Layouts of known benchmarks: hub name, columns, prompt template and grader."""

from dataclasses import dataclass

REASONING_TEMPLATE = "{prompt}\nReason step by step, and put your final answer in \\boxed{}."


@dataclass(frozen=True, slots=True)
class Layout:
    """A benchmark's data set and columns, in the terms of the config's fields."""

    hub: str  # dataset name, with its configuration after a colon
    split: str
    prompt_key: str = "problem"
    answer_key: str = "answer"
    answer_regex: str | None = None
    image_key: str | None = None
    template: str = REASONING_TEMPLATE
    reward: str = "boxed"

    def column_overrides(self) -> list[str]:
        """Return the overrides that say how to read the rows."""
        regex, image = self.answer_regex or "null", self.image_key or "null"
        return [
            f"data.prompt_key={self.prompt_key}",
            f"data.answer_key={self.answer_key}",
            f"data.answer_regex={regex}",
            f"data.image_key={image}",
        ]

    def prompt_overrides(self) -> list[str]:
        """Return the overrides for template and grader, for a model that was not trained by a run of UEC-RL."""
        return [f"data.template={self.template}", f"reward.fn={self.reward}"]


LAYOUTS = {
    "gsm8k": Layout("openai/gsm8k:main", "test", prompt_key="question", answer_regex=r"####\s*(.+)"),
    "math500": Layout("HuggingFaceH4/MATH-500", "test"),
    "aime24": Layout("HuggingFaceH4/aime_2024", "train"),
    "aime25": Layout("math-ai/aime25", "test"),
    "geometry3k": Layout("hiyouga/geometry3k", "test", image_key="images"),
}
"""Layouts by the names that `--data` and `--layout` take."""

NAMES = ", ".join(LAYOUTS)


def instead_of(source: str) -> str:
    """Return advice on what to pass on the command line if the data set `source` does not exist."""
    name = next((name for name, layout in LAYOUTS.items() if layout.hub == source), None)
    if name is not None:
        return f"By file: --data {name}=path/to/file.jsonl, with its columns {_columns(LAYOUTS[name])} (or others: data.prompt_key=...)."
    return f"Benchmarks that are known by name: {NAMES}."


def _columns(layout: Layout) -> str:
    return ", ".join(column for column in (layout.image_key, layout.prompt_key, layout.answer_key) if column is not None)
