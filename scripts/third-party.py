#!/usr/bin/env python3
"""Writes the notices and the bill of materials of what pget ships, from Cargo.lock.

usage: third-party.py NOTICES SBOM [PACKAGE...]

NOTICES is a text: each crate with its licence, and the licence texts. SBOM is CycloneDX 1.6 as
JSON. The packages are those whose dependencies are shipped: by default the program, the C library
and the Python module. Both files depend on the lock file and the sources alone, so that two runs
write the same bytes. Needs cargo, and the sources of the dependencies, which cargo fetches.
"""

import hashlib
import json
import pathlib
import re
import subprocess
import sys
import tomllib
import uuid

ROOT = pathlib.Path(__file__).resolve().parent.parent
SHIPPED = ["pget-cli", "pget-ffi", "pget-python"]
TARGET = "x86_64-unknown-linux-gnu"
# A crate that offers several licences is taken under the first of these that it offers.
PREFERRED = ["Apache-2.0", "MIT", "BSD-3-Clause", "ISC", "Zlib", "Unlicense", "BSL-1.0"]
TEXTS = re.compile(r"(LICEN[CS]E|COPYING|COPYRIGHT|NOTICE|UNLICENSE)", re.IGNORECASE)
# Words in the name of a licence file, by the licence that it is the text of.
NAMES = {
    "APACHE": "Apache-2.0", "MIT": "MIT", "BSD": "BSD-3-Clause", "ZLIB": "Zlib",
    "BOOST": "BSL-1.0", "UNLICENSE": "Unlicense", "ISC": "ISC", "CC0": "CC0-1.0",
}  # fmt: skip


def cargo(*arguments):
    command = ["cargo", *arguments, "--locked"]
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def shipped(packages):
    """Returns (name, version) of everything that the packages are linked from, themselves too."""
    selected = [word for package in packages for word in ("-p", package)]
    lines = cargo("tree", "-q", "-e", "normal", "--target", TARGET, "--prefix", "none",
                  "--format", "{p}", *selected)  # fmt: skip
    words = (line.split() for line in lines.splitlines() if line)
    return {(name, version.removeprefix("v")) for name, version, *_ in words}


def options(expression):
    """Returns the ways to meet an SPDX expression, each a tuple of licences."""
    tokens = re.findall(r"\(|\)|[^\s()/]+|/", expression)

    def either():
        ways = both()
        while tokens and tokens[0] in ("OR", "/"):
            tokens.pop(0)
            ways = ways + both()
        return ways

    def both():
        ways = one()
        while tokens and tokens[0] == "AND":
            tokens.pop(0)
            others = one()
            ways = [left + right for left in ways for right in others]
        return ways

    def one():
        token = tokens.pop(0)
        if token == "(":
            ways = either()
            tokens.pop(0)
            return ways
        if tokens and tokens[0] == "WITH":
            token += " WITH " + tokens[1]
            del tokens[:2]
        return [(token,)]

    return either()


def elect(expression):
    """Returns the licences under which a crate is taken: the fewest, and the preferred ones."""

    def rank(way):
        known = [PREFERRED.index(name) if name in PREFERRED else 99 for name in way]
        return len(way), known

    return min(options(expression), key=rank)


def of_another_licence(path, elected):
    """Whether the name of a file says that it is the text of a licence that was not elected."""
    name = path.name.upper()
    named = [licence for word, licence in NAMES.items() if word in name]
    return bool(named) and not any(licence in elected for licence in named)


def texts(package, elected):
    """Returns the texts to ship with a crate. Apache-2.0 is shipped once, for all of them."""
    folder = pathlib.Path(package["manifest_path"]).parent
    files = {path for path in folder.iterdir() if path.is_file() and TEXTS.match(path.name)}
    if package["license_file"]:
        files.add(folder / package["license_file"])
    found = []
    for path in sorted(files):
        text = path.read_text(encoding="utf-8", errors="replace").strip()
        is_apache = "Apache License" in text[:400] and len(text) > 5000
        if not is_apache and not of_another_licence(path, elected):
            found.append(text)
    return found


def notices(crates):
    head = (
        "Third-party notices\n\n"
        "pget contains the following works of others, each under the licence named. The texts\n"
        "follow. Of a work that is offered under several licences, the licence named is the one\n"
        "that it is used under.\n"
    )
    lines, groups, missing = [], {}, []
    for package in crates:
        elected = elect(package["license"] or "")
        title = f"{package['name']} {package['version']}"
        lines.append(f"{title}: {' AND '.join(elected)}, {package['repository'] or 'no address'}")
        found = texts(package, elected)
        if not found and elected != ("Apache-2.0",):
            if not package["authors"]:
                missing.append(title)
            found = ["Copyright of " + ", ".join(package["authors"]) + ". Its package has no text."]
        for text in found:
            key = re.sub(r"\s+", " ", text)
            groups.setdefault(key, (text, []))[1].append(title)
    if missing:
        sys.exit(f"third-party: no licence text and no author in {', '.join(missing)}")
    parts = [head, "\n".join(lines)]
    for text, titles in groups.values():
        parts.append(f"{'-' * 80}\n{', '.join(titles)}\n\n{text}")
    apache = (ROOT / "LICENSE").read_text(encoding="utf-8").strip()
    parts.append(f"{'-' * 80}\nApache-2.0, for all works under it\n\n{apache}")
    return "\n\n".join(parts) + "\n"


def bill(crates, own, resolved, checksums):
    version = own[0]["version"]

    def reference(package):
        return f"pkg:cargo/{package['name']}@{package['version']}"

    def component(package):
        entry = {
            "type": "library",
            "bom-ref": reference(package),
            "name": package["name"],
            "version": package["version"],
            "purl": reference(package),
            "licenses": [{"expression": package["license"].replace("/", " OR ")}],
        }
        checksum = checksums.get((package["name"], package["version"]))
        if checksum:
            entry["hashes"] = [{"alg": "SHA-256", "content": checksum}]
        if package["repository"]:
            entry["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
        return entry

    everything = [*own, *crates]
    ids = {package["id"]: reference(package) for package in everything}
    dependencies = [
        {
            "ref": reference(package),
            "dependsOn": sorted(
                ids[other["pkg"]]
                for other in resolved[package["id"]]
                if other["pkg"] in ids and any(kind["kind"] is None for kind in other["dep_kinds"])
            ),
        }
        for package in everything
    ]
    roots = sorted(reference(package) for package in own if package["name"] in SHIPPED)
    components = [component(package) for package in everything]
    content = json.dumps([components, dependencies], sort_keys=True).encode()
    serial = uuid.UUID(bytes=hashlib.sha256(content).digest()[:16], version=4)
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": "pget",
                "name": "pget",
                "version": version,
                "licenses": [{"license": {"id": "Apache-2.0"}}],
            }
        },
        "components": components,
        "dependencies": [{"ref": "pget", "dependsOn": roots}, *dependencies],
    }


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    wanted = shipped(sys.argv[3:] or SHIPPED)
    metadata = json.loads(cargo("metadata", "--format-version", "1", "--filter-platform", TARGET))
    packages = [
        package for package in metadata["packages"] if (package["name"], package["version"]) in wanted
    ]
    packages.sort(key=lambda package: (package["name"], package["version"]))
    if len(packages) != len(wanted):
        sys.exit(f"third-party: {len(wanted)} crates are shipped, {len(packages)} are described")
    crates = [package for package in packages if package["source"]]
    own = [package for package in packages if not package["source"]]
    resolved = {node["id"]: node["deps"] for node in metadata["resolve"]["nodes"]}
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text(encoding="utf-8"))
    checksums = {
        (package["name"], package["version"]): package.get("checksum") for package in lock["package"]
    }
    pathlib.Path(sys.argv[1]).write_text(notices(crates), encoding="utf-8")
    sbom = json.dumps(bill(crates, own, resolved, checksums), indent=1, ensure_ascii=False)
    pathlib.Path(sys.argv[2]).write_text(sbom + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
