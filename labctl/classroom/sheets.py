"""The grades of a class as files for a spreadsheet. No text of a learner's becomes a formula."""

import csv
import io
from collections.abc import Sequence
from datetime import datetime

from labctl.classroom.grades import RESULTS, Grade, Grades
from labctl.i18n import tr

Cell = str | int | float | None
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""How a cell begins that a spreadsheet program may take for a formula (OWASP, CSV injection)."""
_NAMES = ("learner", "result", "lesson", "passed", "checkpoints", "holding", "claims", "failing",
          "reason", "seconds", "checked")  # fmt: skip
_WIDTHS = (16, 16, 24, 8, 12, 8, 8, 60, 40, 9, 20)
"""Characters, of the columns of the workbook."""


def csv_text(grades: Grades) -> bytes:
    """The grades as CSV for Excel: UTF-8 with its mark, and field names that do not change."""
    sink = io.StringIO()
    table = csv.writer(sink)
    table.writerow(_NAMES)
    for row in _rows(grades, translated=False):
        table.writerow([_harmless(cell) for cell in row])
    return sink.getvalue().encode("utf-8-sig")


def _harmless(cell: Cell) -> Cell:
    # The apostrophe is how a spreadsheet marks a text; it shows it in no cell that was typed so.
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell


def workbook(grades: Grades) -> bytes:
    """The grades as a workbook (XLSX), in the user's language."""
    import xlsxwriter  # type: ignore[import-untyped]  # slow to import

    sink = io.BytesIO()
    options = {"in_memory": True, "strings_to_formulas": False, "strings_to_urls": False,
               "strings_to_numbers": False, "nan_inf_to_errors": True}  # fmt: skip
    book = xlsxwriter.Workbook(sink, options)
    sheet = book.add_worksheet(grades["name"][:31])
    bold = book.add_format({"bold": True})
    wrapped = book.add_format({"text_wrap": True, "valign": "top"})
    heads = (tr("learner"), tr("result"), tr("lesson"), tr("passed"), tr("checkpoints"),
             tr("holding"), tr("claims"), tr("failing claims"), tr("reason"), tr("seconds"),
             tr("checked at"))  # fmt: skip
    for column, (head, width) in enumerate(zip(heads, _WIDTHS, strict=True)):
        sheet.set_column(column, column, width)
        sheet.write_string(0, column, head, bold)
    rows = _rows(grades, translated=True)
    for number, row in enumerate(rows, start=1):
        for column, cell in enumerate(row):
            if isinstance(cell, str):
                sheet.write_string(number, column, cell, wrapped)
            elif cell is not None:
                sheet.write_number(number, column, cell, wrapped)
    sheet.freeze_panes(1, 1)
    sheet.autofilter(0, 0, len(rows), len(heads) - 1)
    book.close()
    return sink.getvalue()


def _rows(grades: Grades, *, translated: bool) -> list[Sequence[Cell]]:
    checked = datetime.fromtimestamp(grades["at"]).astimezone().isoformat(" ", "seconds")
    return [_row(grade, checked, translated=translated) for grade in grades["learners"]]


def _row(grade: Grade, checked: str, *, translated: bool) -> Sequence[Cell]:
    failing = "; ".join(
        f"{claim['checkpoint']}/{claim['claim']}: {claim['text']}" for claim in grade["failing"]
    )
    result = tr(RESULTS[grade["result"]]) if translated else grade["result"]
    return (grade["learner"], result, grade["lesson"], grade["passed"], grade["checkpoints"],
            grade["holding"], grade["claims"], failing, grade["reason"], grade["seconds"],
            checked)  # fmt: skip
