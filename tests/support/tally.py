"""Adds up the test results of stages, each told as NAME:STATE:FILE. STATE is "done" or "failed"; FILE, which a stage that counts nothing
has not, is meson's testlog.json, a JUnit file, or a line "N passed, N failed, N skipped". A stage that failed is a failure even if its
file knows of none. Prints the failures by name, then the sum in that last form. Status 1 if anything failed or if nothing ran."""

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
    return passed, ["one of them"] * failed, skipped


READERS = {".json": from_meson, ".xml": from_junit, ".txt": from_text}


def of_stage(state, path):
    counts = 0, [], 0
    if path:
        try:
            counts = READERS[os.path.splitext(path)[1]](path)
        except FileNotFoundError:
            return 0, ["no result"], 0
        except (OSError, ValueError, AttributeError, ElementTree.ParseError) as error:
            return 0, [f"no result ({error})"], 0
    if state != "done" and not counts[1]:
        counts[1].append("the stage itself")
    return counts


def main():
    passed, failed, skipped = 0, [], 0
    for stage in sys.argv[1:]:
        name, state, path = stage.split(":", 2)
        counts = of_stage(state, path)
        passed += counts[0]
        failed += [f"{name}: {what}" for what in counts[1]]
        skipped += counts[2]
    if passed + len(failed) == 0:
        failed = ["no test ran"]
    for what in failed:
        print("FAILED", what)
    print(f"{passed} passed, {len(failed)} failed, {skipped} skipped")
    return 1 if failed else 0


sys.exit(main())
