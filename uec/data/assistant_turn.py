"""How a model's chat template opens and ends the assistant's turn. A run relies on both, so it renders a probe and looks."""

from dataclasses import dataclass
from typing import Any

from uec.brief import brief
from uec.config.schema import Config
from uec.data.row_reader import RowReader
from uec.models.vocabulary import stop_tokens

QUESTION, ANSWER = "uecprobequestion", "uecprobeanswer"


@dataclass(frozen=True, slots=True)
class AssistantTurn:
    """What a chat template writes around an answer."""

    opened: str  # what is added to a prompt for the answer (add_generation_prompt)
    header: str  # what precedes an answer that stands in the conversation
    end: str | None  # what follows an answer; None: the template leaves out the answer


def read_turn(reader: RowReader) -> AssistantTurn | None:
    """Render a question and its answer; None if the template takes no such conversation, which its rows will tell."""
    try:
        closed = reader.render(reader.turns(QUESTION), opened=False)
        opened = reader.render(reader.turns(QUESTION), opened=True)
        answered = reader.render(reader.turns(QUESTION, ANSWER), opened=False)
    except Exception:  # a template is the model author's code and may raise any exception
        return None
    before, found, end = answered.partition(ANSWER)
    behind_question = before.rpartition(QUESTION)[2]
    shared = closed.rpartition(QUESTION)[2]
    header = behind_question.removeprefix(shared)
    return AssistantTurn(opened.removeprefix(closed), header, end if found else None)


def end_token(turn: AssistantTurn, tokenizer: Any) -> int | None:
    """Return the token with which the template ends a turn; None if that is no single token."""
    text = (turn.end or "").lstrip()
    ids = tokenizer(text, add_special_tokens=False).input_ids if text else []
    return int(ids[0]) if ids and ids[0] in tokenizer.added_tokens_decoder else None


def resolve_stop_tokens(cfg: Config, tokenizer: Any, processor: Any) -> list[str]:
    """Add the token with which the chat template ends turns to rollout.stop_tokens; return notes about the template."""
    if not cfg.data.chat:
        return []
    turn = read_turn(RowReader(cfg.data, tokenizer, processor))
    if turn is None:
        return []
    notes = []
    if turn.end is None or turn.header.strip() and not turn.opened.strip():
        notes.append(
            f"the chat template of {cfg.model.path} writes nothing for the assistant's turn: the prompt ends with the user's, and the "
            "model may go on with that; correct chat_template.jinja, or set data.chat=false and data.template"
        )
    known = stop_tokens(cfg.model, tokenizer, cfg.rollout.stop_tokens)
    end = end_token(turn, tokenizer)
    if end is not None and end not in known:
        cfg.rollout.stop_tokens = [*cfg.rollout.stop_tokens, end]
        named = tokenizer.convert_ids_to_tokens(end)
        notes.append(f"responses end at {named!r}, too, with which the chat template ends turns; eos_token is {tokenizer.eos_token!r}")
    elif end is None and turn.end is not None and turn.end.strip() and not cfg.rollout.stop:
        notes.append(
            f"the chat template of {cfg.model.path} ends turns with {brief(turn.end.strip(), 40)}, which is no token: responses end at "
            f"{tokenizer.eos_token!r} only; rollout.stop can name such a text"
        )
    return notes
