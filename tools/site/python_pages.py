# SPDX-License-Identifier: Apache-2.0
"""Reference pages of Python, made from the type stub of the compiled part and the package's sources.

The stub, python/_metro.pyi, is what nanobind wrote; tests/python/test_package.py compares it with that of
the build.
"""
import ast
import pathlib

MODULES = {
    "metro_moe": ["../_metro.pyi", "errors.py", "homes.py", "routing.py"],
    "metro_moe.cuda": ["cuda.py"],
    "metro_moe.sglang": ["sglang/__init__.py"],
    "metro_moe.tensorrt_llm": ["tensorrt_llm.py"],
    "metro_moe.vllm": ["vllm/__init__.py"],
}


PAGE_WORDS = 1100


def is_public(name):
    return not name.startswith("_")


def signature(node):
    result = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    line = f"def {node.name}({ast.unparse(node.args)}){result}"
    if len(line) <= 100:
        return line
    arguments = ast.unparse(node.args).replace(", ", ",\n    ")
    return f"def {node.name}(\n    {arguments},\n){result}"


def words_of(node):
    return (ast.get_docstring(node) or "").strip()


def is_overload(node):
    return any(ast.unparse(d).endswith("overload") for d in node.decorator_list)


def is_property(node):
    return any(ast.unparse(d) == "property" for d in node.decorator_list)


def function(node, level):
    body = [f"{'#' * level} {node.name}\n"] if level else []
    return [*body, f"```python\n{signature(node)}\n```\n", words_of(node) + "\n"]


def of_class(node):
    bases = ", ".join(ast.unparse(base) for base in node.bases)
    lines = [f"## {node.name}\n", f"```python\nclass {node.name}" + (f"({bases})" if bases else "") + "\n```\n"]
    lines.append(words_of(node) + "\n")
    rows = []
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and is_property(item) and is_public(item.name):
            kind = ast.unparse(item.returns) if item.returns else ""
            kind = kind if len(kind) < 40 else kind.split("[")[0]
            rows.append(f"| `{item.name}` | `{kind}` | {' '.join(words_of(item).split())} |")
        elif isinstance(item, ast.AnnAssign) and is_public(item.target.id):
            rows.append(f"| `{item.target.id}` | `{ast.unparse(item.annotation)}` | |")
    if rows:
        lines.append("\n".join(["| field | type | |", "|---|---|---|", *rows]) + "\n")
    for item in node.body:
        if not isinstance(item, ast.FunctionDef) or is_property(item):
            continue
        if is_public(item.name) or (item.name == "__init__" and (words_of(item) or len(item.args.args) > 1)):
            if any(ast.unparse(d).endswith(".setter") for d in item.decorator_list):
                continue
            lines += function(item, 0)
    return lines


def module(files, kinds=(ast.FunctionDef, ast.ClassDef)):
    lines, last = [], None
    for path in files:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        listed = None
        for node in tree.body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                listed = ast.literal_eval(node.value)
        for node in tree.body:
            name = getattr(node, "name", None)
            if name is None or not isinstance(node, kinds) or not is_public(name) or (listed is not None and name not in listed):
                continue
            if isinstance(node, ast.FunctionDef):
                lines += function(node, 0 if name == last else 2)
            elif isinstance(node, ast.ClassDef):
                lines += of_class(node)
            last = name
    return lines


def module_words(path):
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.strip() + "\n"


def in_pages(title, name, lines, opening):
    """The lines on as many pages as it takes, each broken before a heading."""
    chunks = [[f"# {title}\n", opening]]
    for line in lines:
        if line.startswith("## ") and len(" ".join(chunks[-1]).split()) > PAGE_WORDS:
            chunks.append([f"# {title}, part {len(chunks) + 1}\n"])
        chunks[-1].append(line)
    names = [f"reference/{name}{'' if i == 0 else f'-{i + 1}'}.md" for i in range(len(chunks))]
    return {path: "\n".join(chunk) for path, chunk in zip(names, chunks, strict=True)}


def pages(root):
    """{page: Markdown}, a page for each module."""
    folder = pathlib.Path(root) / "python" / "metro_moe"
    made = {}
    for name, files in MODULES.items():
        about = folder / ("__init__.py" if name == "metro_moe" else files[0])
        paths = [folder / file for file in files]
        lines = [f"# {name}\n", module_words(about), *module(paths)]
        made[f"reference/{name.replace('.', '-')}.md"] = "\n".join(lines)
    # Too long for one page.
    whole = [folder / file for file in MODULES["metro_moe"]]
    functions, classes = (module(whole, kind) for kind in (ast.FunctionDef, ast.ClassDef))
    made |= in_pages("metro_moe: functions", "metro_moe", functions, module_words(folder / "__init__.py"))
    made |= in_pages("metro_moe: classes", "metro_moe-classes", classes, "[Functions](metro_moe.md)\n")
    return made
