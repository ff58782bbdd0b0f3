"""Writes the tables of nycflights13 as lines of KEY, tab, JSON: the real data of the suite.

usage: python tables.py FOLDER
"""

import csv
import io
import json
import pathlib
import sys
import zipfile

KEYS = {
    "airlines": lambda row: row["carrier"],
    "airports": lambda row: row["faa"],
    "planes": lambda row: row["tailnum"],
    "weather": lambda row: row["origin"],
    "flights": lambda row: f"{row['carrier']}{row['flight']}",
}


def typed(text):
    """A CSV field as JSON has it: null, a number, or text."""
    if text in ("", "NA"):
        return None
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def rows(table, folder):
    packed = folder / f"{table}.csv.zip"
    if packed.exists():
        text = io.TextIOWrapper(zipfile.ZipFile(packed).open(f"{table}.csv"), "utf-8")
    else:
        text = (folder / f"{table}.csv").open(encoding="utf-8")
    with text:
        yield from csv.DictReader(text)


def main(out):
    (folder,) = [p for path in sys.path if (p := pathlib.Path(path, "nycflights13", "data")).is_dir()]
    out.mkdir(parents=True, exist_ok=True)
    for table, key in KEYS.items():
        with (out / f"{table}.tsv").open("w") as file:
            for row in rows(table, folder):
                value = json.dumps({name: typed(field) for name, field in row.items()})
                file.write(f"{key(row)}\t{value}\n")


main(pathlib.Path(sys.argv[1]))
