"""Which of several like actors gets the next piece of work: the one with the least to do."""

from collections.abc import Sequence
from heapq import heapify, heappop, heappush, heapreplace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from actors.supervisor import Member

SLACK = 4
"""Outdated entries that are kept for each member before they are swept out."""


class Balance:
    """Keeps count of the members' `outstanding`; a choice takes time that hardly grows with their number."""

    def __init__(self, members: Sequence["Member"]) -> None:
        self._members = members
        self._sweep()

    def give(self, work: int) -> "Member":
        """The member with the least outstanding, the first of equals, which now has `work` more."""
        while (least := self._heap[0])[0] != self._members[least[1]].outstanding:
            heappop(self._heap)
        member = self._members[least[1]]
        member.outstanding += work
        heapreplace(self._heap, (member.outstanding, least[1]))
        return member

    def take_back(self, member: "Member", work: int) -> None:
        """It has `work` less to do (negative: more)."""
        member.outstanding -= work
        heappush(self._heap, (member.outstanding, self._places[member]))
        if len(self._heap) > (1 + SLACK) * len(self._members):
            self._sweep()

    def _sweep(self) -> None:
        """Every member has its entry (outstanding, place); what others there are is outdated."""
        self._places = {member: place for place, member in enumerate(self._members)}
        self._heap = [(member.outstanding, place) for place, member in enumerate(self._members)]
        heapify(self._heap)
