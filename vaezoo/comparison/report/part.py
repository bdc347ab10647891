"""One section of the report."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from vaezoo.comparison import Finding, Group
from vaezoo.comparison.report.drawing import Panel
from vaezoo.comparison.report.pictures import Picture
from vaezoo.comparison.report.summary import families
from vaezoo.comparison.report.tables import Table
from vaezoo.runs.trust import OWN

MANY = 12
"""Models beyond which they are folded by family."""


@dataclass
class Part:
    """Everything the page shows of one group.

    ``chapters`` are (title, anchor, pictures). ``problems`` are sentences on missing pictures and unused dimensions.
    ``explorer`` is the file beside the report on which the models run in the browser, empty if there is none.
    """

    group: Group
    anchor: str
    tables: list[Table]
    findings: list[Finding]
    chapters: list[tuple[str, str, list[Picture]]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    packages: Sequence[str] = OWN
    explorer: str = ""
    summary: list[str] = field(default_factory=list)
    """What was compared, what came out, and what one can conclude, in three sentences."""
    overview: Panel | None = None
    """The chart beside the summary."""

    @property
    def is_large(self) -> bool:
        """Whether there are so many models that their names, and rows of images, are folded by family."""
        return len(self.group.seed_groups) > MANY

    @property
    def families(self) -> dict[str, list[int]]:
        """Indices of the models of each family."""
        return families(self.group)
