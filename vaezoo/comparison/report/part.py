"""One section of the report."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from vaezoo.comparison import Finding, Group
from vaezoo.comparison.report.pictures import Picture
from vaezoo.comparison.report.tables import Table
from vaezoo.runs.trust import OWN


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
