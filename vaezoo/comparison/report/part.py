"""What a page says of one group of runs."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from vaezoo.comparison import Finding, Group
from vaezoo.comparison.report.pictures import Picture
from vaezoo.comparison.report.tables import Table
from vaezoo.runs.trust import OWN


@dataclass
class Part:
    """All that a page says of one group. ``problems`` are sentences on what is missing, and on unused dimensions."""

    group: Group
    anchor: str
    tables: list[Table]
    findings: list[Finding]
    chapters: list[tuple[str, str, list[Picture]]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    packages: Sequence[str] = OWN
