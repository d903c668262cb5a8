"""The page about a run that is under way. It asks its server for news; it needs nothing else.

Its policy allows one script, by the hash of its text, and connections to the server that the page is from.
"""

import base64
import hashlib

from ffnn_gpu.report.findings import Findings
from ffnn_gpu.report.markup import Html, element
from ffnn_gpu.report.page import page_of, whole_page

NEWS = "events"  # address of the server-sent events, beside that of the page
SCRIPT = """
const replaced = (page, name) => document.querySelector(name).replaceWith(page.querySelector(name));
new EventSource("events").onmessage = async () => {
  const answer = await fetch("page");
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const open = [...document.querySelectorAll("details")].map((part) => part.open);
  for (const name of ["header", "nav", "main"]) replaced(page, name);
  document.querySelectorAll("details").forEach((part, k) => { part.open = open[k]; });
};
"""
HASH = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
POLICY = (
    f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{HASH}'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'"
)


def live_page(found: Findings) -> str:
    """Return the page about a run as it is now, with the script that replaces it after each epoch."""
    return whole_page(page_of(found), POLICY, element("script", Html(SCRIPT)))
