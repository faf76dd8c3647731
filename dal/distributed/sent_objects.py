"""Networks and prepared rows that rank 0 sends to the others once, and again after they have changed."""

import itertools
import weakref
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from dal.distributed.wire import Packet, packed, stamp_of
from dal.errors import one_line
from dal.learner import Prepared
from dal.learners.ranks import Job, NotShareableError


@dataclass
class _Sent:
    """An object that jobs refer to by number."""

    number: int
    stamp: str
    alive: "weakref.ref[Any]"
    packets: dict[bool, Packet]  # by whether the receiver runs on this computer; empty once all have it


class SentObjects:
    """The objects that jobs of a run refer to by number, in place of sending them again.

    Args:
        own_main: whether the other ranks run another program, which lacks the classes of `__main__`.
    """

    def __init__(self, *, own_main: bool) -> None:
        self._own_main = own_main
        self._numbers = itertools.count(1)
        self._sent: dict[int, _Sent] = {}  # by id
        self._unused: list[int] = []
        self._unreadable = set[type]()  # of networks that another rank cannot read

    @property
    def unused(self) -> set[int]:
        """Numbers of objects that are gone, or were sent again after a change."""
        return set(self._unused)

    def message(
        self, job: Job, facts: tuple[Any, ...], *, held: Collection[int], same_host: bool
    ) -> tuple[list[tuple[int, Packet]], Packet]:
        """The numbered packets of objects that a rank lacks, and that of its job.

        Args:
            job: the job.
            facts: what is sent with the job.
            held: numbers of the objects that the rank has.
            same_host: whether it runs on this computer.

        Raises:
            NotShareableError: an object cannot be pickled, or read by another rank.
        """
        references: dict[int, int] = {}
        needed: list[tuple[int, Packet]] = []
        try:
            for value in _objects_of(job):
                if type(value) in self._unreadable:
                    raise TypeError(f"another rank cannot read a {type(value).__name__}")
                sent = self._object(value)
                if sent.number not in held:
                    if same_host not in sent.packets:
                        sent.packets[same_host] = self._packed(value, references, same_host)
                    needed.append((sent.number, sent.packets[same_host]))
                references[id(value)] = sent.number
            return needed, self._packed((job, *facts), references, same_host)
        except Exception as error:
            raise NotShareableError(one_line(error)) from error

    def forget_packets(self) -> None:
        """Drop the packets of objects, which all ranks of a command have now, and objects that are gone."""
        self._sent = {key: sent for key, sent in self._sent.items() if sent.alive() is not None}
        for sent in self._sent.values():
            sent.packets.clear()

    def refuse_networks_of(self, jobs: Sequence[Job]) -> None:
        """Refuse networks of the kinds in these jobs from now on, since another rank could not read one."""
        networks = [[each for each in _objects_of(job) if isinstance(each, nn.Module)] for job in jobs]
        self._unreadable |= {type(each[0]) for each in networks if each}

    def _packed(self, value: Any, references: dict[int, int], same_host: bool) -> Packet:
        return packed(value, references, same_host=same_host, own_main=self._own_main)

    def _object(self, value: Any) -> _Sent:
        """The number of an object, a new one after it has changed."""
        stamp = stamp_of(value) if isinstance(value, nn.Module) else ""
        known = self._sent.get(id(value))
        if known is None or known.alive() is not value or known.stamp != stamp:
            if known is not None:
                self._unused.append(known.number)
            number = next(self._numbers)
            weakref.finalize(value, self._unused.append, number).atexit = False
            known = self._sent[id(value)] = _Sent(number, stamp, weakref.ref(value), {})
        return known


def _objects_of(job: Job) -> list[Any]:
    """The networks and prepared rows of a job; a network within another one, whose samples it draws, comes first."""
    found: list[Any] = []
    for each in job.arguments:
        if isinstance(each, nn.Module):
            found += [inner for inner in each.children() if hasattr(inner, "compute")]
        if isinstance(each, nn.Module | Prepared):
            found.append(each)
    return found
