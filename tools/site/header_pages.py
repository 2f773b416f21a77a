# SPDX-License-Identifier: Apache-2.0
"""Reference pages of C and C++, made from the public headers: each header as its own words have it.

A header becomes a page: its types and functions one after the other, the comment in front of each as
text, the declaration as code. So the page can never say what the header does not.
"""
import pathlib
import re

NAMED = re.compile(
    r"(?:(?:class|struct|enum class|enum|namespace|concept|using)\s+(?:\[\[\w+\]\]\s+)?(\w+)|(\w+)\s*\(|(\w+)\s*(?:\[\])?\s*[={;])"
)


def unit_ends(text):
    """Whether the braces and brackets of a declaration are all closed and it has come to its end."""
    code = re.sub(r"//[^\n]*|/\*.*?\*/|\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])'", "", text, flags=re.S)
    depth = sum(code.count(c) for c in "({[") - sum(code.count(c) for c in ")}]")
    code = code.rstrip()
    return depth == 0 and (code.endswith(";") or code.endswith("}"))


def name_of(code):
    head = re.sub(r"//[^\n]*|\[\[\w+\]\]|template\s*<[^>]*>|/\*.*?\*/", "", code, flags=re.S).strip()
    typedef = re.match(r"typedef\s+(?:struct|enum)\s+(\w+)", head)
    if typedef:
        return typedef[1]
    if head.startswith("using metro::"):
        return head.rstrip(";").rpartition("::")[2]  # a name that was known before
    match = NAMED.search(head)
    return next(group for group in match.groups() if group) if match else None


def comment_text(lines):
    """The words of a comment, /// or /* */."""
    text = "\n".join(re.sub(r"^\s*///? ?", "", line) for line in lines)
    if text.lstrip().startswith("/*"):
        text = re.sub(r"^\s*/\*+ ?|\s*\*/\s*$", "", text)
        text = "\n".join(re.sub(r"^\s*\* ?", "", line) if line.lstrip().startswith("*") else re.sub(r"^ {3}", "", line)
                         for line in text.split("\n"))
    return text.strip("\n")


def units(text):
    """(comment, code) of each declaration at namespace level, in order."""
    lines = text.split("\n")
    found, comment, code, in_block = [], [], [], False
    for line in lines:
        stripped = line.strip()
        if code:
            code.append(line)
        elif in_block or stripped.startswith("/*"):
            comment = comment + [line] if in_block else [line]
            in_block = "*/" not in line
            continue
        elif stripped.startswith("///"):
            comment.append(line)
            continue
        elif not stripped:
            if comment and not found:
                found.append((comment, ""))  # words on the header as a whole
            comment = []
            continue
        elif re.match(r"#|namespace [\w:]+ \{.*\}$|namespace [\w:]+ \{$|}  // namespace|// SPDX|extern \"C\"|}$|/\* SPDX", stripped):
            if stripped.startswith("namespace") and comment:
                found.append((comment, ""))
            comment = []
            continue
        elif stripped.startswith("//"):
            continue
        else:
            code = [line]
        if unit_ends("\n".join(code)):
            found.append((comment, "\n".join(code)))
            comment, code = [], []
    return found


def page(path, root, language):
    """Markdown of one header."""
    include = path.relative_to(root / "include")
    text = path.read_text(encoding="utf-8")
    lines = [f"# {include}\n", f"```{language}\n#include <{include}>\n```\n"]
    made = []
    for comment, code in units(text):
        words = comment_text(comment)
        name = name_of(code) if code else None
        if words.startswith("SPDX"):
            continue
        if name and (not made or made[-1][0] != name):
            made.append([name, words, [code]])
        elif name and not words:
            made[-1][2].append(code)  # an overload without words of its own
        elif name:
            made.append([None, words, [code]])
        elif not code and words:
            made.append([None, words, []])
    for name, words, codes in made:
        if name:
            lines.append(f"## {name}\n")
        if words:
            lines.append(words + "\n")
        if codes:
            lines.append(f"```{language}\n" + "\n".join(codes) + "\n```\n")
    return "\n".join(lines)


def pages(root):
    """{page: Markdown} of all public headers."""
    folder = pathlib.Path(root) / "include" / "metro"
    made = {}
    for path in sorted(folder.rglob("*.h*")):
        name = str(path.relative_to(folder)).replace("/", "-").replace(".hpp", "").replace(".h", "-abi")
        made[f"reference/{name}.md"] = page(path, pathlib.Path(root), "c" if path.suffix == ".h" else "cpp")
    return made
