"""The positions in a response's text at which its tokens end, so that values of tokens can be shown in the text."""

from collections.abc import Callable, Sequence

from uec.types import Tokens

UNFINISHED = "\N{REPLACEMENT CHARACTER}"
"""The decoder's output for bytes that are no complete character."""


def token_ends(
    responses: Sequence[Tokens], texts: Sequence[str], decode: Callable[[list[Tokens]], list[str]]
) -> list[list[int] | None]:
    """Return for each response [T] the T token ends, in characters of its text; `texts` are the responses decoded by `decode`.

    A token without text (end of text) ends where the previous one does; a character that several tokens share belongs to the last one.
    None for a response whose tokens, decoded one by one, do not give its text.
    """
    alone = _decoded_alone(responses, decode)
    seen: dict[tuple[int, ...], str] = {}
    return [_ends(tokens, text, alone, decode, seen) for tokens, text in zip(responses, texts, strict=True)]


def _decoded_alone(responses: Sequence[Tokens], decode: Callable[[list[Tokens]], list[str]]) -> dict[int, str]:
    """Return the text of every distinct token, decoded alone."""
    found: dict[int, Tokens] = {}
    for tokens in responses:
        for i, token in enumerate(tokens.tolist()):
            if token not in found:
                found[token] = tokens[i : i + 1]
    return dict(zip(found, decode(list(found.values())), strict=True))


def _ends(
    tokens: Tokens, text: str, alone: dict[int, str], decode: Callable[[list[Tokens]], list[str]], seen: dict[tuple[int, ...], str]
) -> list[int] | None:
    pieces = [alone[token] for token in tokens.tolist()]
    if "".join(pieces) != text:  # a decoder that joins tokens with spaces, or characters of several tokens
        pieces = _pieces_in_place(tokens, decode, seen)
        if "".join(pieces) != text:
            return None
    ends, end = [], 0
    for piece in pieces:
        end += len(piece)
        ends.append(end)
    return ends


def _pieces_in_place(tokens: Tokens, decode: Callable[[list[Tokens]], list[str]], seen: dict[tuple[int, ...], str]) -> list[str]:
    """Return the text that each token adds, decoded after the previous token with text; the cost is linear in T."""

    def text_of(window: Tokens) -> str:
        key = tuple(window.tolist())
        if key not in seen:
            seen[key] = decode([window])[0] if key else ""
        return seen[key]

    pieces = []
    before, begin = 0, 0  # the first token of the context, and the first token whose text is pending
    for i in range(len(tokens)):
        context, whole = text_of(tokens[before:begin]), text_of(tokens[before : i + 1])
        piece = whole.removeprefix(context) if not whole.endswith(UNFINISHED) or i == len(tokens) - 1 else ""
        if piece:
            before, begin = begin, i + 1
        pieces.append(piece)
    return pieces
