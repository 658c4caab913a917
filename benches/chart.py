#!/usr/bin/env python3
"""Draws the figures of benches/all.sh: writes them as JSON, and one chart as SVG.

usage: chart.py FIGURES JSON SVG

FIGURES is the folder with the output of each part (target/figures). The chart shows CPU seconds
per GiB of reads, and seconds of a read of 1 GiB of which one connection is slow, beside peers. A
part that was not measured is an error, so that no old bar stays in the picture.
"""

import html
import json
import pathlib
import re
import sys

# The parts with lines `NAME SECONDS  (…)`, CPU seconds per GiB, by their title in the chart.
CPU = {"recv": "HTTP, in order", "tls": "TLS, no options", "go": "from Go"}
CPU_LINE = re.compile(r"^(\S.*?)\s+(\d+\.\d+)\s+\(")
NAMES = {"Go": "pget from Go", "bare": "bare loop", "--program cat": "pget cat"}
# The servers of `stragglers`, by their title in the chart.
WALL = {"as the others": "all connections fast", "slow": "one connection slow"}
FIGURE = re.compile(r"^figure (\S+) (.*)$", re.MULTILINE)

WIDTH, ROW, LABEL, RIGHT = 760, 22, 190, 120
# The colours of the page follow the reader's scheme, also where the chart is an image.
STYLE = """
.page { fill: #ffffff } text { fill: #0f172a } .quiet { fill: #64748b }
.ours { fill: #2563eb } .theirs { fill: #94a3b8 }
.none { fill: #94a3b8; fill-opacity: 0.25; stroke: #64748b; stroke-dasharray: 4 }
@media (prefers-color-scheme: dark) {
.page { fill: #0d1117 } text { fill: #e6edf3 } .quiet { fill: #9198a1 }
.ours { fill: #4f8ff7 } .theirs { fill: #6e7681 }
}
"""


def cpu(text):
    lines = map(CPU_LINE.match, text.splitlines())
    return {NAMES.get(match[1], match[1]): float(match[2]) for match in lines if match}


def wall(text, server):
    """Returns seconds by reader; a text is why a reader has none."""
    found = {}
    for line in text.splitlines():
        # The columns of benches/src/bin/stragglers.rs.
        name, case, rest = line[:22].strip(), line[23:37].strip(), line[38:].strip()
        if case == server:
            match = re.match(r"(\d+\.\d+)\s", rest)
            reason = "not in 2 minutes" if "given up" in rest else "failed"
            found[NAMES.get(name, name)] = float(match[1]) if match else reason
    return found


def read(folder):
    def part(name):
        try:
            return (folder / name).read_text(encoding="utf-8")
        except OSError as error:
            sys.exit(f"chart: {name} was not measured: {error}")

    groups = []
    for name, title in CPU.items():
        groups.append({"panel": "CPU seconds per GiB", "title": title, "values": cpu(part(name))})
    for server, title in WALL.items():
        values = wall(part("stragglers"), server)
        groups.append({"panel": "seconds for 1 GiB", "title": title, "values": values})
    for group in groups:
        if not any(is_ours(name) for name in group["values"]):
            sys.exit(f"chart: {group['title']}: there is no figure of pget")
    texts = [path.read_text(encoding="utf-8") for path in sorted(folder.iterdir()) if path.is_file()]
    figures = {name: float(value) for text in texts for value, name in FIGURE.findall(text)}
    return {"load": part("load").split("load average:")[-1].split("\n")[0].strip(), "figures": figures, "groups": groups}


def is_ours(name):
    return name.startswith("pget")


def is_measured(value):
    return isinstance(value, float)


def rank(row):
    """Orders bars: the shortest first, readers without a figure last."""
    return (not is_measured(row[1]), row[1])


def draw(data):
    """Returns the chart: a heading for each panel, a bar for each reader, shortest first."""
    parts, y = [], 8

    def text(x, y, words, extra=""):
        parts.append(f'<text x="{x}" y="{y}" {extra}>{html.escape(words)}</text>')

    for panel in dict.fromkeys(group["panel"] for group in data["groups"]):
        groups = [group for group in data["groups"] if group["panel"] == panel]
        values = [value for group in groups for value in group["values"].values()]
        most = max(value for value in values if is_measured(value))
        y += 22
        text(8, y, f"{panel} (shorter is better)", 'font-weight="600" font-size="15"')
        for group in groups:
            y += ROW
            text(8, y, group["title"], 'class="quiet"')
            rows = sorted(group["values"].items(), key=rank)
            for name, value in rows:
                y += ROW
                share = value / most if is_measured(value) else 1
                kind = ("ours" if is_ours(name) else "theirs") if is_measured(value) else "none"
                length = (WIDTH - LABEL - RIGHT) * share
                text(LABEL - 8, y, name, 'text-anchor="end"')
                parts.append(
                    f'<rect x="{LABEL}" y="{y - 13}" width="{length:.1f}" height="16" rx="2" '
                    f'class="{kind}"/>'
                )
                shown = f"{value:.2f}" if is_measured(value) else value
                text(f"{LABEL + length + 6:.1f}", y, shown)
            y += 6
        y += 8
    y += 14
    text(8, y, f"benches/all.sh; load before: {data['load']}", 'class="quiet" font-size="11"')
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + 8}" width="{WIDTH}" '
        f'font-family="system-ui, sans-serif" font-size="13">\n'
        f"<title>CPU and wall time of reads, pget beside others</title>\n"
        f"<style>{STYLE}</style>\n"
        f'<rect width="100%" height="100%" class="page"/>\n{body}\n</svg>\n'
    )


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    folder, figures, chart = map(pathlib.Path, sys.argv[1:])
    data = read(folder)
    figures.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    chart.write_text(draw(data), encoding="utf-8")


if __name__ == "__main__":
    main()
