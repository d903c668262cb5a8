"""A run, or several, as one HTML file that needs no network and no script.

record                                what a run folder holds, as far as it is there
findings                              what the page says about a run: plain values
describing, columns, course           a record → findings: settings and results, columns, the training
tested, predicted, confusion, residuals, intervals, importance, worst
                                      a model and its test rows → findings
reproducing                           settings → the command that repeats a run
page, sections, curves, held_out      findings → HTML; page.css: its style
comparison                            the findings of several runs → HTML
charts, axes                          a chart → SVG
tables, numbers, markup               a table, a number, an element → HTML; all text is escaped in markup
"""

from ffnn_gpu.report.comparison import comparison_page
from ffnn_gpu.report.describing import findings_of
from ffnn_gpu.report.findings import Findings
from ffnn_gpu.report.page import run_page
from ffnn_gpu.report.record import Record

__all__ = ["Findings", "Record", "comparison_page", "findings_of", "run_page"]
