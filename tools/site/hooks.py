# SPDX-License-Identifier: Apache-2.0
"""What MkDocs cannot know: the reference and the appendix, made anew at every build, and their places."""
import pathlib
import re
import sys

from mkdocs.structure.files import File

ROOT = pathlib.Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tools" / "site")]

import header_pages  # noqa: E402
import python_pages  # noqa: E402
import page_parts  # noqa: E402

GROUPS = [
    ("C++", lambda name: not name.startswith(("cuda-", "ep-", "metro_moe")) and name != "c-abi"),
    ("C", lambda name: name == "c-abi"),
    ("CUDA", lambda name: name.startswith("cuda-")),
    ("The layer, C++", lambda name: name.startswith("ep-")),
    ("Python, by module", lambda name: name.startswith("metro_moe")),
]


# Files beside docs/ that pages link to, and their places on the site.
BESIDE = {
    "HACKING.md": "hacking.md",
    **{f"data/constants/{name}.json": f"constants/{name}.json" for name in ("gpus", "kernels", "engines")},
}


def linked(text, up):
    """Makes links of the pages that a comment in the sources names, such as docs/formats.md."""
    page = r"(?<![\w/`(\[])docs/([\w-]+)\.md"
    parts = re.split(r"(^```.*?^```$|^    .*$|`[^`\n]*`)", text, flags=re.M | re.S)
    return "".join(part if i % 2 else re.sub(page, rf"[\1]({up}\1.md)", part) for i, part in enumerate(parts))


def moved(text):
    """A page's links out of docs/, or a file's links into it, as links within the site."""
    text = text.replace("](docs/", "](")
    for path, place in BESIDE.items():
        text = text.replace(f"](../{path})", f"]({place})").replace(f"]({path})", f"]({place})")
    return text


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def made_pages():
    reference = header_pages.pages(ROOT) | python_pages.pages(ROOT)
    pages = {path: linked(text, "../") for path, text in reference.items()}
    beside = {place: linked(read(path), "") if path.endswith(".md") else read(path) for path, place in BESIDE.items()}
    return {"index.md": read("README.md")} | beside | pages | page_parts.appendix()


def on_page_markdown(markdown, page, config, files):
    return moved(markdown)


def title_of(text):
    return text.split("\n", 1)[0].removeprefix("# ")


def on_config(config):
    """Gives the made pages their places in the navigation."""
    pages = made_pages()
    config["made_pages"] = pages
    names = {pathlib.PurePosixPath(path).stem: path for path in pages if path.startswith("reference/")}
    for entry in config.nav:
        if "Reference" in entry:
            for title, belongs in GROUPS:
                group = [{title_of(pages[path]): path} for name, path in names.items() if belongs(name)]
                entry["Reference"].append({title: group})
        if "Results" in entry:
            paths = [path for path in pages if path.startswith("appendix/")]
            entry["Results"].append({"Appendix: all tables": [{title_of(pages[path]): path} for path in paths]})
    return config


def on_files(files, config):
    for path, text in config["made_pages"].items():
        files.append(File.generated(config, path, content=text))
    return files


def on_post_page(output, page, config):
    """The search's helper for pages opened from a folder is ours, where the theme would fetch one."""
    up = "../" * page.url.count("/")
    return output.replace("https://unpkg.com/iframe-worker/shim", f"{up}file-worker.js")


def on_post_template(output_content, template_name, config):
    return output_content.replace("https://unpkg.com/iframe-worker/shim", "/file-worker.js")
