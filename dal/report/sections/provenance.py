"""Section on how the run was made: versions, hardware, seeds, config."""

from dal.report.page_parts import Details, Part, Preformatted, Section, Table, TableColumn
from dal.report.run_reading import Run
from dal.report.wording import flat


def section(run: Run) -> Section:
    """Versions, hardware and seeds as a table, and the text of the config."""
    lines = [*flat(run.environment)]
    lines.append(("seeds", ", ".join(map(str, sorted({cell.seed for cell in run.cells})))))
    columns = (TableColumn("name", "Name", "text"), TableColumn("value", "Value", "text"))
    parts: list[Part] = [Table("versions", "Versions and hardware", columns, lines, "Versions, hardware and seeds")]
    if run.config_text:
        parts.append(Details("Config", (Preformatted(run.config_text, "config.yaml"),), "config.yaml"))
    return Section("made", "How the run was made", "How the run was made", tuple(parts))
