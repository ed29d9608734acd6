"""What a rollout's folder holds that does not depend on when and where it ran.

Files whose bytes are determined are compared as they are; in the others the rest has a placeholder.
The order of keys in JSON, and that of the rows of gates, which run side by side, is left open.
"""

import json
import re
from fnmatch import fnmatch
from hashlib import sha256
from itertools import zip_longest
from pathlib import Path
from typing import Any

_OF_ROWS = ("claim_token", "commit", "dirty", "forced", "health_file", "health_sha256",
            "soak", "soaked_seconds")  # fmt: skip

ADDED_SINCE: dict[str, tuple[str, ...]] = {
    "files": ("decision.json", "decision.json.sig", "health-*.jsonl"),
    "rollout.json": (
        "anew", "claim_token", "cohort_key", "commit", "commit_after", "decided_at",
        "declared_cohorts", "declared_soak_seconds", "dirty", "duration_seconds", "folder",
        "gate_groups", "limits", "stop_grace_seconds", "thread_id", "url_digests",
        "variable_stem", "watch_seconds", "withdrawn",
    ),
    "*-results.jsonl": _OF_ROWS,
    "in-flight/*.json": (*_OF_ROWS, "noted_at", "said"),
    "SUMMARY.md": (
        "**Reduced**: ", "- Commit: ", "Gates ran side by side in one checkout.", "## Health",
        "- cohort 5 % passed, but staging was rolled back since",
    ),
}  # fmt: skip
"""What later versions may write beside yesterday's: files; by file its keys, at any depth; the
beginnings of lines of the summary, of a `## Title` with all its section, of a paragraph with the
blank line after it."""

_PLACEHOLDERS = {
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z": "{moment}",
    r"http://127\.0\.0\.1:\d+": "{staging}",
    r'("(?:apply|duration|probe)_seconds": )[\d.]+': r'\1"{measured}"',
    r"(\| (?:passed|failed|skipped) \| )\d[^|]* s \|": r"\1{measured} |",
    r'("(?:canary-pipeline|dagster|python)": )"[^"]+"': r'\1"{version}"',
}


def determined(folder: Path) -> dict[str, Any]:
    """By name, what each file holds, with a placeholder for all that another play changes."""
    masks = _masks(folder)
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): _content(file, masks) for file in files}


def _masks(folder: Path) -> dict[str, str]:
    """The folder's own names, and the seals that are right."""
    header = json.loads((folder / "rollout.json").read_text())
    [own] = re.findall(r"Output directory: (.+)", (folder / "SUMMARY.md").read_text())
    names = {own: "{folder}", header["repo_root"]: "{checkout}", header["commit"]: "{commit}"}
    runs = {attempt["run_id"]: f"{{run {attempt['attempt']}}}" for attempt in header["attempts"]}
    seals = {
        f'"{name}": "{_links(folder / name)[-1]}"': f'"{name}": ""' for name in header["sealed"]
    }
    return {**names, **runs, **seals}


def _links(file: Path) -> list[str]:
    """The hash chain over a file of rows, from its empty beginning."""
    links = [""]
    for line in file.read_text().splitlines() if file.exists() else []:
        row = {key: value for key, value in json.loads(line).items() if key != "chain"}
        text = f"{links[-1]}{json.dumps(row, ensure_ascii=False)}\n"
        links.append(sha256(text.encode()).hexdigest()[:32])
    return links


def _content(file: Path, masks: dict[str, str]) -> Any:
    if file.suffix == ".png":
        return "a picture"
    if file.suffix == ".jsonl":
        return _rows(file, masks)
    if file.name == "SUMMARY.md":
        return _masked(file.read_text(), masks)
    if file.name == "rollout.json" or file.parent.name == "in-flight":
        return json.loads(_masked(file.read_text(), masks))
    return file.read_bytes()


def _masked(text: str, masks: dict[str, str]) -> str:
    for found, placeholder in masks.items():
        text = text.replace(found, placeholder)
    for pattern, placeholder in _PLACEHOLDERS.items():
        text = re.sub(pattern, placeholder, text)
    return text


def _rows(file: Path, masks: dict[str, str]) -> list[Any]:
    """The rows; each with no link where it is the right one."""
    lines = zip(file.read_text().splitlines(), _links(file)[1:], strict=True)
    rows = [
        json.loads(_masked(line, {**masks, f'"chain": "{link}"': '"chain": ""'}))
        for line, link in lines
    ]
    return sorted(rows, key=lambda row: str(row.get("gate")))


def without_added(found: dict[str, Any], expected: dict[str, Any]) -> dict[str, Any]:
    """Leave out of a folder's content what is in `ADDED_SINCE` and not in the golden one's."""
    return {
        name: _without(content, expected.get(name), _added_to(name))
        for name, content in found.items()
        if name in expected or not any(fnmatch(name, known) for known in ADDED_SINCE["files"])
    }


def _added_to(name: str) -> tuple[str, ...]:
    return next((added for known, added in ADDED_SINCE.items() if fnmatch(name, known)), ())


def _without(found: Any, expected: Any, added: tuple[str, ...]) -> Any:
    match found, expected:
        case dict(), dict():
            kept = {
                key: value for key, value in found.items() if key in expected or key not in added
            }
            return {key: _without(value, expected.get(key), added) for key, value in kept.items()}
        case list(), list():
            pairs = zip_longest(found, expected[: len(found)])
            return [_without(each, known, added) for each, known in pairs]
        case str(), str():
            for start in (each for each in added if each not in expected):
                rest = "" if start.startswith("- ") else r"\n?"
                section = r"(?:(?!## |Decision: ).*\n)*" if start.startswith("## ") else rest
                found = re.sub(rf"^{re.escape(start)}.*\n{section}", "", found, flags=re.MULTILINE)
    return found
