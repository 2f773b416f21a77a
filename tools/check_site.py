#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks a built documentation site. usage: check_site.py [SITE]

- Every link and picture leads to a file of the site and an anchor in it; nothing is fetched from other hosts.
- No page of docs/, nor README, has more than 1,500 words.
- In Chromium, where there is one: no page is wider than a screen of 390 px, and the search finds
  something in pages that were opened from a folder.

Prints what is wrong, a line each, and exits 1. Exits 77 when all but the browser's part was checked.
"""
import html.parser
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.parse

ROOT = pathlib.Path(__file__).parents[1]
MOST_WORDS = 1500
WIDTH = 390


class Page(html.parser.HTMLParser):
    """Links, anchors and what a page loads by itself."""

    def __init__(self, text):
        super().__init__()
        self.links, self.loads, self.anchors = [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.anchors |= {found[name] for name in ("id", "name") if found.get(name)}
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])
        if tag in ("img", "script", "iframe") and found.get("src"):
            self.loads.append(found["src"])
        if tag == "link" and found.get("href") and found.get("rel") != "canonical":
            self.loads.append(found["href"])


def read_site(site):
    return {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}


def link_faults(site, pages):
    for path, page in pages.items():
        if path.name == "404.html":  # its links are of the place it is shown at
            continue
        where = path.relative_to(site)
        for link in [*page.links, *page.loads]:
            parts = urllib.parse.urlsplit(link)
            if parts.scheme or parts.netloc:
                if link in page.loads and parts.scheme != "data":
                    yield f"{where}: loads {link} from another host"
                continue
            target = (path.parent / urllib.parse.unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file():
                yield f"{where}: {link} leads nowhere"
            elif parts.fragment and target in pages and urllib.parse.unquote(parts.fragment) not in pages[target].anchors:
                yield f"{where}: {link} has no such anchor"


def pages_of(root):
    """What people wrote; the reference and the appendix are made."""
    return [*(root / "docs").glob("*.md"), root / "README.md"]


def word_faults(pages):
    for path in sorted(pages):
        words = len(path.read_text(encoding="utf-8").split())
        if words > MOST_WORDS:
            yield f"{path.name}: {words} words, must be at most {MOST_WORDS}"


# Opens every page in a frame as wide as a phone (windows have a least width) and tells how wide it is.
HARNESS = """<!doctype html><body style="margin:0"><pre id="said">nothing</pre><script>
const pages = PAGES, seen = [];
async function look(page) {
  const frame = document.createElement("iframe");
  frame.sandbox = "allow-same-origin";
  frame.style = "border:0;width:WIDTHpx;height:900px";
  const loaded = new Promise(resolve => { frame.onload = resolve; });
  frame.src = "SITE/" + page;
  document.body.append(frame);
  await loaded;
  seen.push([page, frame.contentDocument.documentElement.scrollWidth]);
  frame.remove();
}
(async () => {
  for (const page of pages) await look(page);
  document.getElementById("said").textContent = JSON.stringify(seen);
})();
</script>"""


def browser_faults(site, pages, browser):
    names = [str(path.relative_to(site)) for path in pages if path.name != "404.html"]
    with tempfile.TemporaryDirectory() as folder:
        harness = pathlib.Path(folder) / "harness.html"
        text = HARNESS.replace("PAGES", json.dumps(names)).replace("WIDTH", str(WIDTH)).replace("SITE", site.as_uri())
        harness.write_text(text, encoding="utf-8")
        line = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        line += [f"--user-data-dir={folder}/profile", "--window-size=1300,1000", "--proxy-server=127.0.0.1:9"]

        def opened(address, *options):
            command = [*line, *options, "--dump-dom", address]
            return subprocess.run(command, check=False, capture_output=True, text=True, timeout=180)

        done = opened(harness.as_uri(), "--virtual-time-budget=120000", "--allow-file-access-from-files")
        if (site / "search").is_dir():
            found = opened((site / "index.html").as_uri() + "?q=homed", "--virtual-time-budget=15000").stdout
            if not re.search(r"[0-9]+ matching documents", found):
                yield "the search finds nothing for 'homed' in pages opened from a folder"
    said = re.search(r'<pre id="said">(.*?)</pre>', done.stdout, re.S)
    if done.returncode or not said or said[1] == "nothing":
        yield f"{browser} did not get through the pages: {done.stderr.strip().splitlines()[-1:]}"
        return
    seen = json.loads(said[1])
    if len(seen) != len(names):
        yield f"{browser} saw {len(seen)} of {len(names)} pages"
    for page, wide in seen:
        if wide > WIDTH:
            yield f"{page}: {wide} px wide on a screen of {WIDTH}"


def main():
    site = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build" / "site").resolve()
    pages = read_site(site)
    if len(pages) < 2:
        sys.exit(f"check_site: no pages in {site}; build them with tools/build_site.sh")
    faults = [*link_faults(site, pages), *word_faults(pages_of(ROOT))]
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser:
        faults += browser_faults(site, pages, browser)
    for fault in faults:
        print(f"check_site: {fault}", file=sys.stderr)
    if faults:
        sys.exit(1)
    words = [len(path.read_text(encoding="utf-8").split()) for path in pages_of(ROOT)]
    print(f"{len(pages)} pages: links lead somewhere, at most {max(words)} words" + (f", none wider than {WIDTH} px" if browser else ""))
    if not browser:
        print("no chromium: widths were not checked")
        sys.exit(77)


if __name__ == "__main__":
    main()
