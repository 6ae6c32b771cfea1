"""Adds up test results: meson's testlog.json, JUnit files, and lines "N passed, N failed, N skipped". Prints the failures it
knows by name, then the sum in that last form. Status 1 if anything failed, if nothing ran, or if a file is missing."""

import argparse
import json
import os
import re
import sys
import xml.etree.ElementTree as ElementTree

MESON_PASSED = {"OK", "EXPECTEDFAIL"}
MESON_SKIPPED = {"SKIP", "IGNORED"}


def from_meson(path):
    passed, failed, skipped = 0, [], 0
    with open(path, encoding="utf-8") as log:
        for line in log:
            test = json.loads(line)
            if test["result"] in MESON_PASSED:
                passed += 1
            elif test["result"] in MESON_SKIPPED:
                skipped += 1
            else:
                failed.append(f"{test['name']}: {test['result']}")
    return passed, failed, skipped


def from_junit(path):
    passed, failed, skipped = 0, [], 0
    for case in ElementTree.parse(path).iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            failed.append(f"{case.get('classname')}.{case.get('name')}")
        elif case.find("skipped") is not None:
            skipped += 1
        else:
            passed += 1
    return passed, failed, skipped


def from_text(path):
    with open(path, encoding="utf-8") as text:
        passed, failed, skipped = map(int, re.match(r"(\d+) passed, (\d+) failed, (\d+) skipped", text.read()).groups())
    return passed, [os.path.basename(path)] * failed, skipped


READERS = {".json": from_meson, ".xml": from_junit, ".txt": from_text}


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--broken", type=int, default=0, help="stages that failed, counted or not")
    arguments.add_argument("files", nargs="*")
    options = arguments.parse_args()
    passed, failed, skipped = 0, [], 0
    for path in options.files:
        try:
            counts = READERS[os.path.splitext(path)[1]](path)
        except (OSError, ValueError, AttributeError, ElementTree.ParseError) as error:
            counts = 0, [f"{path}: no result ({error})"], 0
        passed += counts[0]
        failed += counts[1]
        skipped += counts[2]
    if options.broken and not failed:
        failed = ["a stage failed without a failed test"] * options.broken
    if passed + len(failed) == 0:
        failed = ["no test ran"]
    for name in failed:
        print("FAILED", name)
    print(f"{passed} passed, {len(failed)} failed, {skipped} skipped")
    return 1 if failed else 0


sys.exit(main())
