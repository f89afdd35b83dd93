"""What YAML and JSON of the deployment have to do with each other and with the server.

- The chart's README has every value, with the comment above it (`--write` makes it).
- Every metric of the alerts and the dashboard is one that docs/operations.md names.
- The dashboard's panels have ids of their own and do not overlap; its data source is a variable.
- The compose file parses, and what it mounts is there.
"""

import json
import pathlib
import re
import sys

import yaml

CHART = pathlib.Path("helm/fleet-telemetry")
problems = []


def readme():
    lines = ["# fleet-telemetry", "", "Made from `values.yaml` by `scripts/check-chart --write`. How to begin: "
             "[docs/kubernetes.md](../../docs/kubernetes.md).", ""]
    comment, path = [], []
    rows = []
    for line in (CHART / "values.yaml").read_text().splitlines():
        title = re.match(r"## (.*?) #*$", line)
        text = re.match(r"\s*# ?(.*)$", line)
        entry = re.match(r"(\s*)([\w.]+):\s*(.*)$", line)
        if title:
            rows.append(("title", title[1]))
        elif text:
            comment.append(text[1])
        elif entry:
            depth = len(entry[1]) // 2
            path = path[:depth] + [entry[2]]
            words = " ".join(part.strip() for part in comment)
            if entry[3] or words:
                rows.append(("value", ".".join(path), entry[3], words))
            comment = []
        else:
            comment = []
    for row in rows:
        if row[0] == "title":
            lines += ["", f"## {row[1]}", "", "| value | default | |", "|---|---|---|"]
        else:
            default = f"`{row[2]}`" if row[2] else ""
            lines.append(f"| `{row[1]}` | {default} | {row[3].replace('|', chr(92) + '|')} |")
    return "\n".join(lines) + "\n"


def documented():
    text = pathlib.Path("docs/operations.md").read_text()
    names = set(re.findall(r"`([a-z][a-z0-9_]+)(?:\{[^`]*\})?`", text))
    for dispatcher in ("kafka", "mqtt", "http", "redis", "zmq", "postgres", "sqlite", "logger"):
        names |= {name.replace("<d>", dispatcher) for name in re.findall(r"`(<d>[a-z0-9_]+)`", text)}
    return names


def metrics(expression):
    expression = re.sub(r"\{[^}]*\}", "", expression)
    expression = re.sub(r"\b(by|ignoring|on|without)\s*\([^)]*\)", "", expression)
    names = re.findall(r"\b([a-z][a-z0-9_]+)\b(?!\s*\()", expression)
    return {re.sub(r"_bucket$", "", name) for name in names} - {"or", "and", "unless", "rate_interval", "le", "m", "h"}


def check_metrics(where, expression, known):
    for name in metrics(expression.replace("$__rate_interval", "5m")):
        if name not in known:
            problems.append(f"{where}: {name} is no metric of docs/operations.md, in {expression}")


def dashboard(known):
    board = json.loads((CHART / "dashboards/fleet-telemetry.json").read_text())
    panels, taken = board["panels"], {}
    if len({panel["id"] for panel in panels}) != len(panels):
        problems.append("dashboard: two panels have one id")
    for panel in panels:
        at = panel["gridPos"]
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                if taken.setdefault((x, y), panel["id"]) != panel["id"]:
                    problems.append(f"dashboard: {panel['title']} lies over another panel")
                    break
        for target in panel.get("targets", []):
            if target["datasource"]["uid"] != "${datasource}":
                problems.append(f"dashboard: {panel['title']} has a data source of its own")
            check_metrics(f"dashboard, {panel['title']}", target["expr"], known)


def alerts(known):
    for group in yaml.safe_load((CHART / "alerts.yaml").read_text())["groups"]:
        for rule in group["rules"]:
            check_metrics(f"alert {rule['alert']}", rule["expr"], known)
            if not {"summary", "description"} <= rule["annotations"].keys():
                problems.append(f"alert {rule['alert']}: says too little")


def compose():
    folder = pathlib.Path("deploy")
    services = yaml.safe_load((folder / "compose.yaml").read_text())["services"]
    for name, service in services.items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith(".") and "certs" not in source and not (folder / source).exists():
                problems.append(f"compose: {name} mounts {source}, which is not there")


if "--write" in sys.argv:
    (CHART / "README.md").write_text(readme())
if (CHART / "README.md").read_text() != readme():
    problems.append("the chart's README is not that of its values: run scripts/check-chart --write")
known = documented()
alerts(known)
dashboard(known)
compose()
for problem in problems:
    print(problem, file=sys.stderr)
sys.exit(bool(problems))
