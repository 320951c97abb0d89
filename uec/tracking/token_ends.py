"""Where each token of a response ends in its text, so that a reader sees which part of the text a token's figures belong to."""

from collections.abc import Callable, Sequence

from uec.types import Tokens

UNFINISHED = "\N{REPLACEMENT CHARACTER}"
"""What a decoder writes for bytes that are no whole character."""


def token_ends(
    responses: Sequence[Tokens], texts: Sequence[str], decode: Callable[[list[Tokens]], list[str]]
) -> list[list[int] | None]:
    """For each response [T] its T ends, in characters of its text; `texts` is what `decode` made of the responses.

    A token that shows nothing (end of text) ends where the one before it does, and of tokens that share a character the last one has
    it. None for a response whose tokens, decoded one behind the other, do not give its text.
    """
    alone = _decoded_alone(responses, decode)
    seen: dict[tuple[int, ...], str] = {}
    return [_ends(tokens, text, alone, decode, seen) for tokens, text in zip(responses, texts, strict=True)]


def _decoded_alone(responses: Sequence[Tokens], decode: Callable[[list[Tokens]], list[str]]) -> dict[int, str]:
    """The text of every token that occurs, by itself."""
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
    """What each token adds to the text, decoded behind the one before it that showed something: the cost is linear in T."""

    def text_of(window: Tokens) -> str:
        key = tuple(window.tolist())
        if key not in seen:
            seen[key] = decode([window])[0] if key else ""
        return seen[key]

    pieces = []
    before, begin = 0, 0  # the context's first token, and the first token that is not shown yet
    for i in range(len(tokens)):
        context, whole = text_of(tokens[before:begin]), text_of(tokens[before : i + 1])
        piece = whole.removeprefix(context) if not whole.endswith(UNFINISHED) or i == len(tokens) - 1 else ""
        if piece:
            before, begin = begin, i + 1
        pieces.append(piece)
    return pieces
