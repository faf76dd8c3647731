"""Which texts several people answer: decided by a hash of the id, so that a project decides alike after a restart."""

from dataclasses import dataclass
from hashlib import blake2b

from dal.errors import ConfigError, shown

#: Largest number of people who answer one text.
MAX_PEOPLE = 20


@dataclass(frozen=True)
class Overlap:
    """Share of the texts that several people answer.

    Args:
        share: share of the texts, 0 to 1.
        people: number of people who answer such a text, at least 2.

    Raises:
        ConfigError: a value is out of its range.
    """

    share: float
    people: int = 2

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1 or not 2 <= self.people <= MAX_PEOPLE:
            raise ConfigError(
                f"an overlap is a share from 0 to 1 and a number of people from 2 to {MAX_PEOPLE}, such as 0.1:2; "
                f"got {self.share}:{self.people}"
            )

    @classmethod
    def parse(cls, text: str) -> "Overlap":
        """Read an overlap such as `0.1:2`; without a number of people it is two.

        Raises:
            ConfigError: the text is something else.

        Example:
            >>> Overlap.parse("0.1:2")
            Overlap(share=0.1, people=2)
        """
        share, _, people = text.partition(":")
        try:
            return cls(float(share), int(people) if people else 2)
        except ValueError:
            raise ConfigError(
                f"an overlap is a share of the texts and a number of people, such as 0.1:2, not {shown(text)}"
            ) from None

    def wanted(self, row: str) -> int:
        """Number of people who are to answer a row.

        Example:
            >>> sum(Overlap(0.1).wanted(f"row {i}") == 2 for i in range(10_000))
            1031
        """
        # Salted: the fixed random order is a hash of the id, too, and its first rows must not all be wanted twice.
        digest = blake2b(row.encode("utf-8", "surrogatepass"), digest_size=8, person=b"overlap").digest()
        return self.people if int.from_bytes(digest) < self.share * 2**64 else 1
