"""One page that needs nothing else: styles and pictures inside, no script, no address of anything to fetch."""

from jinja2 import Environment, PackageLoader, StrictUndefined

from proxy.lab.drawing import HUES, Width
from proxy.lab.plots import inline
from proxy.lab.report import Report

# The same hues, light enough for a dark page.
_DARK_HUES = ("#58a6ff", "#ff8c4b", "#3fc99a", "#e29ac6", "#f2b84b", "#9bd3f7", "#cfc257", "#9aa4af")


def html(report: Report) -> str:
    """
    Render the page.

    Every text is escaped; the template lets only our own pictures through, whose labels matplotlib has escaped.
    """
    environment = Environment(
        loader=PackageLoader("proxy.lab"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pictures = [(figure, inline(figure, Width.WIDE), inline(figure, Width.NARROW)) for figure in report.figures]
    template = environment.get_template("report.html.j2")
    return template.render(report=report, figures=pictures, hues=HUES, dark_hues=_DARK_HUES)
